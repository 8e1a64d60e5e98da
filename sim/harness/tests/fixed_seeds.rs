//! The seeds that every change must pass, and the property that makes a failing one worth anything.

use mainstay_sim::{Scenario, play};

fn passes(scenario: Scenario, seed: u64) -> u128 {
    let outcome = play(scenario, seed, false);
    assert!(outcome.result.is_ok(), "{scenario:?} seed {seed}: {:?}", outcome.result);
    assert!(outcome.fatals.is_empty(), "{scenario:?} seed {seed}: {:?}", outcome.fatals);
    outcome.trace.hash
}

#[test]
fn the_smallest_scenario_passes_and_repeats_itself() {
    let hashes: Vec<u128> = (1..=5).map(|seed| passes(Scenario::Smallest, seed)).collect();
    let again: Vec<u128> = (1..=5).map(|seed| passes(Scenario::Smallest, seed)).collect();
    assert_eq!(hashes, again);
    let different: std::collections::BTreeSet<_> = hashes.iter().collect();
    assert_eq!(different.len(), hashes.len());
}

#[test]
fn twenty_seeds_with_crashes_pass() {
    for seed in 1..=20 {
        passes(Scenario::Crashes, seed);
    }
}

#[test]
fn another_process_gives_the_same_trace() {
    let hash = passes(Scenario::Crashes, 3);
    let replay = std::process::Command::new(env!("CARGO_BIN_EXE_mainstay-sim"))
        .args(["replay", "3", "--scenario", "crashes", "--quiet"])
        .output()
        .expect("the simulator runs");
    let said = String::from_utf8_lossy(&replay.stdout);
    assert!(said.contains(&format!("trace {hash:032x}")), "{said}");
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    let found = (1..=20).filter(|seed| {
        let outcome = play(Scenario::LyingDisk, *seed, false);
        outcome.result.is_err() || !outcome.fatals.is_empty()
    });
    assert!(found.count() >= 5);
}
