//! Garbage for every parser of bytes from outside: known inputs changed at random, for a time, and what came of them watched.
//!
//! It needs nothing but the stable toolchain: instead of the compiler's coverage it follows the answers. An input that is answered
//! in a new way is kept and changed further. A panic, an answer that no input may have, or a long silence is a finding: the input is
//! made smaller and written to the target's corpus, whose every file is played first, each time.

mod generate;
mod mutate;
mod targets;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use mainstay_base::Prng;
use targets::Target;
use xxhash_rust::xxh3::xxh3_64;

/// Feeds garbage to every parser of bytes from outside.
///
/// Exit codes: 0 nothing found, 1 something found, 2 wrong usage.
#[derive(Parser)]
#[command(name = "mainstay-fuzz", version)]
struct Arguments {
    /// Only these targets.
    targets: Vec<String>,
    /// For how long, each.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Of the changes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where inputs are kept, by target.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus"))]
    corpus: PathBuf,
}

/// An input must be answered within this time.
const SLOW: Duration = Duration::from_secs(5);
/// Inputs that are kept in memory.
const POOL: usize = 4096;

/// The last panic of any thread or task.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let known = targets::all();
    if let Some(wrong) = arguments.targets.iter().find(|name| known.iter().all(|target| target.name() != **name)) {
        let names: Vec<&str> = known.iter().map(|target| target.name()).collect();
        eprintln!("there is no target {wrong}; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let text = info.payload_as_str().unwrap_or("no message");
        PANIC.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(format!("panic at {place}: {text}"));
    }));
    let chosen = |target: &dyn Target| {
        arguments.targets.is_empty() || arguments.targets.iter().any(|name| name == target.name())
    };
    let mut found = false;
    for target in targets::all().iter_mut().filter(|target| chosen(target.as_ref())) {
        found |= hunt(target.as_mut(), &arguments);
    }
    ExitCode::from(u8::from(found))
}

/// Works on one target for its time; answers whether something was found.
fn hunt(target: &mut dyn Target, arguments: &Arguments) -> bool {
    let began = Instant::now();
    let mut prng = Prng::new(u128::from(arguments.seed));
    let directory = arguments.corpus.join(target.name());
    let (mut pool, mut answers, mut inputs) = (Vec::new(), BTreeSet::new(), 0_u64);
    for input in kept(&directory).into_iter().chain(target.seeds()) {
        inputs += 1;
        match judge(target, &input) {
            Ok(answer) => drop(answers.insert(answer)),
            Err(problem) => return report(target, &directory, &input, &problem),
        }
        pool.push(input);
    }
    while began.elapsed().as_secs_f64() < arguments.seconds {
        let fresh = if prng.below(3) == 0 { target.generate(&mut prng) } else { None };
        let input = fresh.unwrap_or_else(|| mutate::mutate(&mut prng, &pool, target.words()));
        inputs += 1;
        match judge(target, &input) {
            Ok(answer) => {
                if answers.len() < POOL && answers.insert(answer) {
                    pool.push(input);
                }
            }
            Err(problem) => return report(target, &directory, &input, &problem),
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{:<14} {inputs} inputs, {} answers, nothing found in {seconds:.1} s", target.name(), answers.len());
    false
}

/// The files of a corpus, in order of their names.
fn kept(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let files: BTreeSet<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

/// One input, with what a target cannot see of itself: panics and time.
fn judge(target: &mut dyn Target, input: &[u8]) -> Result<String, String> {
    let began = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(|| target.run(input)));
    let panic = PANIC.lock().unwrap_or_else(PoisonError::into_inner).take();
    let took = began.elapsed();
    match (ended, panic) {
        (_, Some(panic)) => Err(panic),
        (Err(_), None) => Err("a panic without words".into()),
        (Ok(Ok(_)), None) if took > SLOW => Err(format!("it took {took:?}")),
        (Ok(answer), None) => answer,
    }
}

/// Makes a finding smaller, if a fresh target finds it, too, and keeps it.
fn report(target: &mut dyn Target, directory: &Path, input: &[u8], problem: &str) -> bool {
    let kind = |problem: &str| problem.chars().filter(|letter| !letter.is_ascii_digit()).take(60).collect::<String>();
    let mut bad = |input: &[u8]| {
        target.reset();
        judge(target, input).is_err_and(|found| kind(&found) == kind(problem))
    };
    let (least, alone) = if bad(input) { (mutate::shrink(input, bad), true) } else { (input.to_vec(), false) };
    let file = directory.join(format!("{:016x}", xxh3_64(&least)));
    let written = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&file, &least));
    println!("{:<14} FOUND {problem}", target.name());
    match written {
        Ok(()) => println!("  {} bytes in {}", least.len(), file.display()),
        Err(error) => println!("  and {} cannot be written: {error}", file.display()),
    }
    if !alone {
        println!("  only after other inputs: the state that they left matters");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found once is not found again.
    #[test]
    fn every_kept_input_is_harmless() {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
        let corpus = Path::new(&folder).join("corpus");
        for mut target in targets::all() {
            for input in kept(&corpus.join(target.name())) {
                target.reset();
                let answer = judge(target.as_mut(), &input);
                assert!(answer.is_ok(), "{}: {answer:?}", target.name());
            }
        }
    }
}
