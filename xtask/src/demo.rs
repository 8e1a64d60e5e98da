//! `cargo xtask demo` and `cargo xtask bench`: a fresh server, something to see on it, and its end.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::bounded::run;
use crate::server::{self, Server};
use crate::{Failure, restart};

const DEMO_WITHIN: Duration = Duration::from_secs(300);
const BENCH_WITHIN: Duration = Duration::from_secs(1800);

/// One workflow by the public Python SDK, and its history.
pub fn demo() -> Result<(), Failure> {
    let server = Server::start(&server::build(false)?)?;
    println!("the server listens on {} and keeps its data in {}\n", server.address, server.data.display());
    run(Command::new("tests/venv").args(["python", "tests/demo/demo.py", "--address", &server.address]), DEMO_WITHIN)?;
    server.stop()?;
    println!("\nThe server has stopped. To start one yourself: {} server start-dev", server::binary(false).display());
    Ok(())
}

/// What the engine and a shard do alone, on one core.
fn layers(server: &Path, smoke: bool) -> Result<(), Failure> {
    for example in ["transitions", "apply", "lists"] {
        let mut command = Command::new(server.with_file_name("examples").join(example));
        run(command.args(smoke.then_some("--smoke")), BENCH_WITHIN)?;
    }
    Ok(())
}

/// The layers alone, and then the load generator on a fresh server. `--smoke` is short and takes the development build;
/// `--restart` measures a start on much data instead; whatever follows goes to `mainstay bench`.
pub fn bench() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(2).collect();
    if arguments.first().is_some_and(|argument| argument == "--restart") {
        return restart::bench(&arguments[1..]);
    }
    let smoke = arguments.iter().any(|argument| argument == "--smoke");
    arguments.retain(|argument| argument != "--smoke");
    run_all(smoke, arguments)
}

/// What `cargo xtask test` runs of it.
pub fn bench_smoke() -> Result<(), Failure> {
    run_all(true, Vec::new())
}

fn run_all(smoke: bool, mut arguments: Vec<String>) -> Result<(), Failure> {
    let binary = server::build(!smoke)?;
    layers(&binary, smoke)?;
    if smoke {
        arguments.splice(0..0, ["--duration", "3", "--warmup", "1"].map(str::to_owned));
    }
    let server = Server::start(&binary)?;
    let mut command = Command::new(binary);
    command.args(["bench", "--address", &server.address, "--pid", &server.pid().to_string()]).args(arguments);
    run(&mut command, BENCH_WITHIN)?;
    server.stop()
}
