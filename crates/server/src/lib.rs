//! The `mainstay` command: flags in, a running server out. It wires the crates below it and holds no logic of theirs.
//!
//! Exit codes: 0 after a clean stop, 1 when something is wrong that one line on stderr explains, 2 for wrong usage.

mod admin_client;
mod cli;
mod cluster;
mod cluster_check;
mod cluster_dev;
mod cluster_members;
mod cluster_move;
mod cluster_split;
mod cluster_status;
mod data_directory;
mod dynamic_config;
mod http;
mod ops;
mod query;
mod serve;
mod settings;
mod stores;
mod telemetry;
mod ui;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mainstay_api::admin::MemberChange;

use cli::{BenchArguments, BenchCommand, Cli, ClusterCommand, Command, LogLevel, ServerCommand};
use settings::Settings;
use telemetry::LogFlags;

/// What stops a command, as the sentence to print: what is wrong, and how to fix it.
type Failure = String;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::Query(flags) = &cli.command {
        return query::run(&cli.global, flags);
    }
    match run(cli) {
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
        Command::Server { command: ServerCommand::Start(flags) } => serve::run(Settings::start(&cli.global, *flags)?),
        Command::Cluster { command } => cluster_command(&cli.global, command),
        Command::Bench(arguments) => bench(arguments),
        // It has exit codes of its own, see `main`.
        Command::Query(_) => Ok(()),
    }
}

/// Reads a command line as [`main`] does, and starts nothing: for whoever tries what can be typed. Host names are looked up.
///
/// # Errors
/// What would be printed.
pub fn check<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<(), String> {
    let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
    match cli.command {
        Command::Server { command: ServerCommand::StartDev(flags) } => Settings::dev(&cli.global, *flags).map(drop),
        Command::Server { command: ServerCommand::Start(flags) } => Settings::start(&cli.global, *flags).map(drop),
        _ => Ok(()),
    }
}

/// Reads the environment's settings as [`main`] does; `value` tells what a variable holds.
///
/// # Errors
/// What would be printed.
pub fn check_environment(value: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    LogFlags::default().settings_in(LogLevel::Warn, value).map(drop)
}

fn cluster_command(global: &cli::Global, command: ClusterCommand) -> Result<(), Failure> {
    match command {
        ClusterCommand::Dev(flags) => cluster_dev::run(global, &flags),
        ClusterCommand::Status(flags) => cluster_status::run(global, &flags, false, cluster_status::nodes),
        ClusterCommand::Nodes(flags) => cluster_status::run(global, &flags.asked, flags.watch, cluster_status::nodes),
        ClusterCommand::Shards(flags) => cluster_status::run(global, &flags.asked, flags.watch, cluster_status::shards),
        ClusterCommand::Check(flags) => cluster_check::run(global, &flags),
        ClusterCommand::Add(flags) => cluster_members::run(MemberChange::Add, &flags, None, None),
        ClusterCommand::Promote(flags) => cluster_members::run(MemberChange::Promote, &flags, None, None),
        ClusterCommand::Remove(flags) => {
            let force = flags.cluster.as_deref().filter(|_| flags.force_quorum_loss);
            cluster_members::run(MemberChange::Remove, &flags.member, None, force)
        }
        ClusterCommand::Replace(flags) => {
            cluster_members::run(MemberChange::Replace, &flags.member, Some(&flags.by), None)
        }
        ClusterCommand::Drain(flags) => cluster_members::run(MemberChange::Drain, &flags, None, None),
        ClusterCommand::Resume(flags) => cluster_members::run(MemberChange::Resume, &flags, None, None),
        ClusterCommand::SplitShard(flags) => cluster_split::run(&flags),
        ClusterCommand::MoveShard(flags) => cluster_move::run(&flags),
    }
}

fn bench(arguments: BenchArguments) -> Result<(), Failure> {
    // Whoever reads only the beginning has seen enough.
    let print = |text: String| drop(write!(std::io::stdout(), "{text}"));
    let is_good = match arguments.what {
        Some(BenchCommand::Schedules(options)) => {
            let measured = mainstay_bench::schedules::run(options)?;
            print(measured.to_string());
            measured.is_good()
        }
        None => {
            let report = mainstay_bench::run(arguments.options)?;
            print(format!("{report}{}\n", report.json()));
            report.is_good()
        }
    };
    if is_good { Ok(()) } else { Err("the run is not clean, see above".into()) }
}
