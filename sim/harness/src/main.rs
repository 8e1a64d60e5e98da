//! `mainstay-sim`: plays scenarios for many seeds, and one seed again.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use clap::{Parser, Subcommand};
use mainstay_sim::{Report, Scenario, play};
use mainstay_sim_runtime::Outcome;

/// A Mainstay cluster in a simulated world, where one seed decides everything.
#[derive(Parser)]
#[command(name = "mainstay-sim", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Play a scenario for many seeds.
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
        /// The first one.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// What happens.
        #[arg(long, value_enum, default_value = "crashes")]
        scenario: Scenario,
        /// Runs at a time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Play each seed twice and compare the traces.
        #[arg(long)]
        twice: bool,
    },
    /// Play one seed again and show what happens.
    Replay {
        /// The seed.
        seed: u64,
        /// What happens.
        #[arg(long, value_enum, default_value = "crashes")]
        scenario: Scenario,
        /// Only the result and the hash.
        #[arg(long)]
        quiet: bool,
    },
}

fn main() -> ExitCode {
    let failures = match Arguments::parse().task {
        Task::Run { seeds, seed, scenario, jobs, twice } => {
            run(seed..seed.saturating_add(seeds), scenario, jobs, twice)
        }
        Task::Replay { seed, scenario, quiet } => {
            let outcome = play(scenario, seed, !quiet);
            println!("trace {:032x}, {} bytes on wires", outcome.trace.hash, outcome.trace.bytes);
            u64::from(!show(scenario, seed, &outcome, verdict(&outcome)))
        }
    };
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays every seed of a range; answers how many failed.
fn run(seeds: std::ops::Range<u64>, scenario: Scenario, jobs: usize, twice: bool) -> u64 {
    let began = Instant::now();
    let (next, failures) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let simulated = Mutex::new(0.0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = play(scenario, seed, false);
                    let mut judged = verdict(&outcome);
                    if judged.is_ok() && twice && play(scenario, seed, false).trace.hash != outcome.trace.hash {
                        judged = Err("a second run has another trace".into());
                    }
                    *simulated.lock().unwrap_or_else(PoisonError::into_inner) += outcome.simulated.as_secs_f64();
                    if !show(scenario, seed, &outcome, judged) {
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (failures, real) = (failures.into_inner(), began.elapsed().as_secs_f64());
    let simulated = simulated.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{} seeds, {failures} failed; {simulated:.0} s simulated in {real:.1} s", seeds.end - seeds.start);
    failures
}

/// A run is good if it ended well and no node had to stop itself.
fn verdict(outcome: &Outcome<Report>) -> Result<Report, String> {
    match (&outcome.result, outcome.fatals.first()) {
        (Err(reason), _) => Err(reason.clone()),
        (Ok(_), Some(fatal)) => Err(format!("node {} stopped itself: {}", fatal.node, fatal.reason)),
        (Ok(report), None) => Ok(*report),
    }
}

/// One line, and how to see more if it failed; answers whether it is good.
fn show(scenario: Scenario, seed: u64, outcome: &Outcome<Report>, judged: Result<Report, String>) -> bool {
    let name = clap::ValueEnum::to_possible_value(&scenario).map(|value| value.get_name().to_string());
    let name = name.unwrap_or_default();
    let seconds = outcome.simulated.as_secs_f64();
    match judged {
        Ok(report) => {
            let Report { workflows, events, crashes } = report;
            println!(
                "seed {seed} ok {:016x}: {workflows} workflows, {events} events, {crashes} crashes, {seconds:.1} s",
                outcome.trace.hash as u64
            );
            true
        }
        Err(reason) => {
            println!("seed {seed} FAILED at {seconds:.3} s: {reason}");
            println!("  cargo xtask sim replay {seed} --scenario {name}");
            false
        }
    }
}
