//! The `mainstay` binary: flags in, a running server out. It wires the crates below it and holds no logic of theirs.
//!
//! Exit codes: 0 after a clean stop, 1 when something is wrong that one line on stderr explains, 2 for wrong usage.

mod cli;
mod cluster;
mod cluster_dev;
mod cluster_status;
mod data_directory;
mod http;
mod serve;
mod settings;
mod stores;
mod telemetry;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, ClusterCommand, Command, ServerCommand};
use settings::Settings;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What stops a command, as the sentence to print: what is wrong, and how to fix it.
type Failure = String;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("mainstay: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Server { command: ServerCommand::StartDev(flags) } => serve::run(Settings::dev(&cli.global, *flags)?),
        Command::Server { command: ServerCommand::Start(flags) } => serve::run(Settings::start(&cli.global, flags)?),
        Command::Cluster { command: ClusterCommand::Dev(flags) } => cluster_dev::run(&cli.global, &flags),
        Command::Cluster { command: ClusterCommand::Status(flags) } => cluster_status::run(&cli.global, &flags),
        Command::Bench(options) => bench(options),
    }
}

fn bench(options: mainstay_bench::Options) -> Result<(), Failure> {
    let report = mainstay_bench::run(options)?;
    // Whoever reads only the beginning has seen enough.
    let _ = writeln!(std::io::stdout(), "{report}{}", report.json());
    if report.is_good() { Ok(()) } else { Err("the run is not clean, see above".into()) }
}
