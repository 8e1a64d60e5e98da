//! Automation: `cargo xtask demo | test | ci | fix | tidy | bench | sim | fuzz`. Without dependencies, so that it starts within seconds.

mod bounded;
mod demo;
mod restart;
mod server;
mod setup;
mod sim;
mod suites;
mod tidy;

use std::process::{Command, ExitCode};
use std::time::Instant;

/// Anything that stops a task, as the sentence to print.
type Failure = String;

const USAGE: &str = "usage: cargo xtask demo | test | ci | fix | tidy | bench | sim | fuzz
  demo   build a server, run one workflow on it, show its history
  test   install what is missing, then run every test; --sdk runs instead the programs of all SDKs: Python, Go, TypeScript, Java;
         --long what takes an hour: a cluster under every fault, 100 failovers
  ci     the read-only gate: format, clippy, documentation, tidy, tests, 300 simulated clusters; --long fuzzes a minute for each target
  fix    format the code and apply clippy's suggestions
  tidy   check the layer rules
  bench  the layers alone, then load on a fresh server; --smoke is short, --restart measures a start on much data; the rest goes to `mainstay bench`
  sim    build and run the simulator: cargo xtask sim run --seeds 20
  fuzz   garbage for every parser of bytes from outside: cargo xtask fuzz [TARGET…] [--seconds N]";

/// For each target of the fuzzer, as one of all tests; and of a gate that may take long.
const FUZZ_SECONDS: [&str; 2] = ["3", "60"];

fn main() -> ExitCode {
    let task = std::env::args().nth(1).unwrap_or_default();
    let done = match task.as_str() {
        "demo" => setup::prepare().and_then(|()| demo::demo()),
        "bench" => setup::prepare().and_then(|()| demo::bench()),
        "test" if std::env::args().any(|word| word == "--long") => setup::prepare().and_then(|()| suites::long()),
        "test" => setup::prepare().and_then(|()| test()),
        "ci" => setup::prepare().and_then(|()| ci()),
        "fix" => fix(),
        "sim" => sim::command(),
        "fuzz" => fuzz(&std::env::args().skip(2).collect::<Vec<_>>()),
        "tidy" => tidy::check(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("xtask: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<(), Failure> {
    if std::env::args().any(|argument| argument == "--sdk") {
        return suites::sdk();
    }
    tidy::check()?;
    cargo(&["test", "--workspace"])?;
    let long = std::env::args().any(|argument| argument == "--long");
    fuzz(&["--seconds".into(), FUZZ_SECONDS[usize::from(long)].into()])?;
    demo::bench_smoke()?;
    suites::test()?;
    sim::test()
}

/// Built with the workspace, so that features are resolved as everywhere else.
fn fuzz(arguments: &[String]) -> Result<(), Failure> {
    cargo(&["build", "--workspace", "--bin", "mainstay-fuzz", "--example", "transitions"])?;
    run(Command::new(server::binary(false).with_file_name("mainstay-fuzz")).args(arguments))
}

fn ci() -> Result<(), Failure> {
    cargo(&["fmt", "--all", "--check"])?;
    // All targets, so that every task resolves features alike and RocksDB is built once.
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    sim::check()?;
    docs()?;
    test()?;
    sim::gate()
}

/// The documentation of our own crates, private items included; what is generated has Temporal's comments and is left out.
fn docs() -> Result<(), Failure> {
    let arguments = ["doc", "--workspace", "--exclude", "mainstay-api", "--no-deps", "--document-private-items"];
    run(cargo_command(&arguments).env("RUSTDOCFLAGS", "-D warnings"))
}

fn fix() -> Result<(), Failure> {
    cargo(&["fmt", "--all"])?;
    cargo(&["clippy", "--workspace", "--fix", "--allow-dirty", "--allow-staged"])
}

/// Runs cargo with the shared build cache, so that RocksDB's C++ is compiled once for all checkouts.
fn cargo(arguments: &[&str]) -> Result<(), Failure> {
    run(&mut cargo_command(arguments))
}

fn cargo_command(arguments: &[&str]) -> Command {
    eprintln!("xtask: cargo {}", arguments.join(" "));
    let mut command = Command::new("cargo");
    command.args(arguments);
    if let Some(directory) = setup::target_directory() {
        command.env("CARGO_TARGET_DIR", directory);
    }
    command
}

/// Runs a command to its end; anything but success is a failure that names it.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let began = Instant::now();
    let status = command.status().map_err(|e| format!("{name} did not start: {e}"))?;
    if !status.success() {
        return Err(format!("{name} failed ({status})"));
    }
    eprintln!("xtask: that took {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
