//! The simulator is a workspace of its own below `sim/`, built under its own flags into its own directory.

use std::path::Path;
use std::process::Command;

use crate::{Failure, run, setup};

/// Builds and runs `mainstay-sim` with the arguments given after `cargo xtask sim`.
pub fn command() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let mut cargo = cargo(&["run", "--quiet", "--package", "mainstay-sim", "--"]);
    run(cargo.args(arguments))
}

/// The meta-test (a seed decides every byte) and a fixed set of seeds.
pub fn test() -> Result<(), Failure> {
    run(&mut cargo(&["test"]))
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
