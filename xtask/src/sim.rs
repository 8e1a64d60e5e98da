//! The simulator is a workspace of its own below `sim/`, built under its own flags into its own directory.

use std::path::Path;
use std::process::Command;

use crate::{Failure, run, setup};

/// Seeds of clusters of three and five nodes that every change must pass.
const GATE_SEEDS: &str = "300";

/// Builds and runs `mainstay-sim` with the arguments given after `cargo xtask sim`, and ends with its exit code, which says what it met.
pub fn command() -> Result<(), Failure> {
    let mut simulator = simulator();
    simulator.args(std::env::args().skip(2));
    let status = simulator.status().map_err(|error| format!("cargo did not start: {error}"))?;
    std::process::exit(status.code().unwrap_or(1))
}

/// The meta-test (a seed decides every byte) and a few fixed seeds of each scenario.
pub fn test() -> Result<(), Failure> {
    run(&mut cargo(&["test"]))
}

/// Clusters under faults, on all cores; how long it took is printed.
pub fn gate() -> Result<(), Failure> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    run(simulator().args(["run", "--scenario", "cluster", "--seeds", GATE_SEEDS, "--jobs", &jobs]))
}

fn simulator() -> Command {
    cargo(&["run", "--quiet", "--package", "mainstay-sim", "--"])
}

/// Format and clippy, read-only.
pub fn check() -> Result<(), Failure> {
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn cargo(arguments: &[&str]) -> Command {
    eprintln!("xtask: in sim: cargo {}", arguments.join(" "));
    let mut command = Command::new("cargo");
    // Its flags are in sim/.cargo/config.toml, which cargo reads only from there.
    command.args(arguments).current_dir(Path::new("sim"));
    if let Some(directory) = setup::target_directory() {
        command.env("CARGO_TARGET_DIR", directory.with_file_name("sim-target"));
    }
    command
}
