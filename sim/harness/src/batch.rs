//! Many seeds, some at a time: a line for each failure, and the sum.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use mainstay_sim::play;
use mainstay_sim::report::{self, Line};
use mainstay_sim::{Report, coverage};

use crate::{Seeds, What, name, over, shape};

/// What the process tells its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    Clean = 0,
    Violation = 1,
    Usage = 2,
    NotDeterministic = 3,
    OverTime = 4,
}

impl Code {
    pub(crate) fn of(line: &Line) -> Self {
        match &line.failure {
            None => Self::Clean,
            Some((invariant, _)) if invariant == "over-time" => Self::OverTime,
            Some((invariant, _)) if invariant == NOT_DETERMINISTIC => Self::NotDeterministic,
            Some(_) => Self::Violation,
        }
    }
}

const NOT_DETERMINISTIC: &str = "not-deterministic";

/// What came of many seeds.
pub(crate) struct Batch {
    pub(crate) lines: Vec<Line>,
    pub(crate) coverage: coverage::Table,
}

impl Batch {
    /// Plays all seeds.
    pub(crate) fn play(what: What, seeds: Seeds) -> Self {
        let (began, spent) = (Instant::now(), processor_seconds());
        let lines = Mutex::new(Vec::new());
        let next = AtomicU64::new(seeds.seed);
        let end = seeds.seed.saturating_add(seeds.seeds);
        let bar = std::io::stdout().is_terminal();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..seeds.jobs.max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) && !over(began, seeds.minutes) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end {
                            return;
                        }
                        let line = one(what, seed, seeds.twice);
                        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                        if line.failure.is_some() {
                            show(what, &line);
                        }
                        lines.push(line);
                        if bar {
                            print!("\r{}/{} ", lines.len(), seeds.seeds);
                            let _ = std::io::stdout().flush();
                        }
                    }
                });
            }
        });
        let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
        lines.sort_by_key(|line| line.seed);
        let mut table = coverage::Table::new();
        lines.iter().for_each(|line| coverage::add(&mut table, &line.report.coverage));
        let batch = Self { lines, coverage: table };
        batch.sum(what, began.elapsed().as_secs_f64(), processor_seconds() - spent);
        batch
    }

    fn sum(&self, what: What, real: f64, processor: f64) {
        let failed = self.lines.iter().filter(|line| line.failure.is_some()).count();
        let simulated: f64 = self.lines.iter().map(|line| line.simulated.as_secs_f64()).sum();
        let count = |of: fn(&Report) -> usize| self.lines.iter().map(|line| of(&line.report)).sum::<usize>();
        println!(
            "{}: {} seeds, {failed} failed; {} tries, {} runs, {} events, {} faults, {} stopped by damage",
            name(&what.scenario),
            self.lines.len(),
            count(|report| report.tries),
            count(|report| report.runs),
            count(|report| report.events),
            count(|report| report.faults),
            count(|report| usize::from(report.stopped)),
        );
        println!(
            "{simulated:.0} s simulated in {real:.1} s, {processor:.1} s of processors: {:.0} runs a minute and core, {:.0} times \
             real time",
            self.lines.len() as f64 * 60.0 / processor.max(0.001),
            simulated / processor.max(0.001)
        );
    }

    /// The worst of all lines.
    pub(crate) fn code(&self) -> Code {
        self.lines.iter().map(Code::of).max().unwrap_or(Code::Clean)
    }
}

fn one(what: What, seed: u64, twice: bool) -> Line {
    let began = Instant::now();
    let shape = shape(what, seed);
    let outcome = play(&shape, false);
    let mut line = Line::of(seed, &outcome, began.elapsed());
    if twice && play(&shape, false).trace.hash != outcome.trace.hash {
        line.failure = Some((NOT_DETERMINISTIC.into(), "a second run has another trace".into()));
    }
    line
}

/// One line, and how to see more if it failed.
pub(crate) fn show(what: What, line: &Line) {
    let (seed, seconds) = (line.seed, line.simulated.as_secs_f64());
    match &line.failure {
        None => {
            let Report { runs, events, tries, faults, .. } = &line.report;
            println!(
                "seed {seed} ok {:016x}: {tries} tries, {runs} runs, {events} events, {faults} faults, {seconds:.1} s",
                line.hash as u64
            );
        }
        Some((_, reason)) => {
            let mutant = what.mutant.map(|mutant| format!(" --mutant {}", name(&mutant))).unwrap_or_default();
            println!("seed {seed} FAILED at {seconds:.3} s: {reason}");
            println!("  {}{mutant}", report::replay(&name(&what.scenario), seed));
        }
    }
}

/// Processor time that this process has taken.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // Behind the name: state is the first field, user and system time the 12th and 13th, in hundredths.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
