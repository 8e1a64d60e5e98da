//! `mainstay-sim`: plays scenarios for many seeds, one seed again, a failing one smaller, and deliberate bugs until they are found.

mod batch;
mod mutants;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use batch::{Batch, Code};
use clap::{Args, Parser, Subcommand, ValueEnum};
use mainstay_sim::report::{self, Line};
use mainstay_sim::{Mutant, Scenario, Shape, coverage, fault, minimize, page, play, play_with};
use tracing_subscriber::EnvFilter;

/// A Mainstay cluster in a simulated world, where one seed decides everything.
///
/// Exit codes: 0 clean, 1 an invariant was violated, 2 wrong usage, 3 not deterministic, 4 a run did not end in time.
#[derive(Parser)]
#[command(name = "mainstay-sim", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

/// What is played.
#[derive(Args, Clone, Copy)]
struct What {
    /// What happens.
    #[arg(long, value_enum, default_value = "faults")]
    scenario: Scenario,
    /// With this deliberate bug.
    #[arg(long, value_enum)]
    mutant: Option<Mutant>,
}

/// Which seeds.
#[derive(Args, Clone, Copy)]
struct Seeds {
    /// How many seeds.
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many minutes.
    #[arg(long)]
    minutes: Option<f64>,
    /// Runs at a time.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Play each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
}

#[derive(Subcommand)]
enum Task {
    /// Play a scenario for many seeds.
    Run {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        seeds: Seeds,
        /// Show which faults met which capabilities.
        #[arg(long)]
        coverage: bool,
    },
    /// Play one seed again and show what happens.
    Replay {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        what: What,
        /// Only the result and the hash.
        #[arg(long)]
        quiet: bool,
        /// Write the run as a page to this file.
        #[arg(long)]
        page: Option<PathBuf>,
        /// Show what the nodes log, as `warn` or `openraft=info,mainstay_node=debug` say it.
        #[arg(long)]
        log: Option<String>,
    },
    /// Make a failing seed smaller: fewer faults and operations, the same violation.
    Minimize {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        what: What,
    },
    /// Play many seeds and write `report.json`, `junit.xml`, and `page.html` of the first that failed.
    Report {
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        seeds: Seeds,
        /// Where.
        #[arg(long, default_value = ".")]
        to: PathBuf,
    },
    /// Play each deliberate bug until it is found.
    Mutants {
        /// Most seeds for each.
        #[arg(long, default_value_t = 200)]
        seeds: u64,
        /// Only this one.
        #[arg(long, value_enum)]
        only: Option<Mutant>,
    },
}

fn main() -> ExitCode {
    let code = match Arguments::parse().task {
        Task::Run { what, seeds, coverage } => run(what, seeds, coverage),
        Task::Replay { seed, what, quiet, page, log } => {
            if let Some(filter) = log {
                tracing_subscriber::fmt()
                    .with_env_filter(EnvFilter::new(filter))
                    .without_time()
                    .with_ansi(false)
                    .init();
            }
            replay(what, seed, quiet, page.as_deref())
        }
        Task::Minimize { seed, what } => smaller(what, seed),
        Task::Report { what, seeds, to } => written(what, seeds, &to),
        Task::Mutants { seeds, only } => mutants::hunt(seeds, only),
    };
    ExitCode::from(code as u8)
}

/// A value's name on the command line.
pub(crate) fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
}

/// The shape of a seed.
pub(crate) fn shape(what: What, seed: u64) -> Shape {
    Shape { mutant: what.mutant, ..Shape::draw(what.scenario, seed) }
}

fn run(what: What, seeds: Seeds, coverage: bool) -> Code {
    let batch = Batch::play(what, seeds);
    if coverage {
        println!("{}", coverage::show(&batch.coverage, fault::NAMES));
    }
    batch.code()
}

fn written(what: What, seeds: Seeds, to: &Path) -> Code {
    // Said before an hour of work, not after it.
    if let Err(error) = std::fs::create_dir_all(to).and_then(|()| std::fs::write(to.join("report.json"), "")) {
        eprintln!("{} cannot be written: {error}", to.display());
        return Code::Usage;
    }
    let batch = Batch::play(what, seeds);
    let scenario = name(&what.scenario);
    let files = [
        ("report.json", report::json(&scenario, &batch.lines, &batch.coverage)),
        ("junit.xml", report::junit(&scenario, &batch.lines)),
        ("page.html", worst_page(what, &batch)),
    ];
    for (file, text) in files {
        if let Err(error) = std::fs::write(to.join(file), text) {
            eprintln!("{} cannot be written: {error}", to.join(file).display());
            return Code::Usage;
        }
    }
    batch.code()
}

/// The first run that failed, or else the first one, as a page.
fn worst_page(what: What, batch: &Batch) -> String {
    let failed = batch.lines.iter().find(|line| line.failure.is_some()).or(batch.lines.first());
    let Some(line) = failed else { return String::new() };
    let outcome = play_with(&shape(what, line.seed), false, true);
    let failure = outcome.result.as_ref().err().map(String::as_str);
    page::page(&format!("{} seed {}", name(&what.scenario), line.seed), &outcome.trace, failure)
}

fn replay(what: What, seed: u64, quiet: bool, file: Option<&Path>) -> Code {
    let began = Instant::now();
    let outcome = play_with(&shape(what, seed), !quiet, file.is_some());
    println!("trace {:032x}, {} bytes on wires", outcome.trace.hash, outcome.trace.bytes);
    let line = Line::of(seed, &outcome, began.elapsed());
    batch::show(what, &line);
    if let Some(file) = file {
        let failure = line.failure.as_ref().map(|(_, reason)| reason.as_str());
        let title = format!("{} seed {seed}", name(&what.scenario));
        if let Err(error) = std::fs::write(file, page::page(&title, &outcome.trace, failure)) {
            eprintln!("{} cannot be written: {error}", file.display());
            return Code::Usage;
        }
    }
    Code::of(&line)
}

fn smaller(what: What, seed: u64) -> Code {
    let shape = shape(what, seed);
    let mut told = |shape: &Shape| println!("{} faults, {} operations", shape.faults.len(), shape.operations.len());
    told(&shape);
    let Some(least) = minimize::minimize(&shape, &mut told) else {
        println!("seed {seed} does not fail");
        return Code::Clean;
    };
    let began = Instant::now();
    let outcome = play(&least, true);
    println!("what is left of seed {seed}:");
    for fault in &least.faults {
        println!("  {fault:?}");
    }
    for operation in &least.operations {
        println!("  {operation:?}");
    }
    let line = Line::of(seed, &outcome, began.elapsed());
    batch::show(what, &line);
    Code::of(&line)
}

/// Whether a time is over.
pub(crate) fn over(began: Instant, minutes: Option<f64>) -> bool {
    minutes.is_some_and(|minutes| began.elapsed() >= Duration::from_secs_f64(minutes.max(0.0) * 60.0))
}
