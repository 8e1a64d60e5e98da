//! The proof that the simulator finds bugs: each deliberate one is played until an invariant is violated.

use std::time::Instant;

use clap::ValueEnum;
use mainstay_sim::{Mutant, Scenario, Shape, play};

use crate::batch::Code;
use crate::name;
use mainstay_sim::violation::kind;

/// What is played for a bug: those of purges need time, those of replicas other nodes.
fn scenario(mutant: Mutant, seed: u64) -> Scenario {
    match mutant {
        Mutant::SkipStateFlush | Mutant::PurgeTooFar => Scenario::Long,
        Mutant::ExportWithoutOutcomes | Mutant::ExportTorn => Scenario::LongCluster,
        Mutant::ForgetVote | Mutant::ForgetCommandOutcomes | Mutant::RestartSequences => Scenario::Cluster,
        Mutant::ForgetMessageOutcomes => Scenario::Crashes,
        _ if seed.is_multiple_of(2) => Scenario::Faults,
        _ => Scenario::Crashes,
    }
}

/// Plays every bug; fails if one is not found.
pub(crate) fn hunt(seeds: u64, only: Option<Mutant>) -> Code {
    let (mut found, mut all) = (Vec::new(), 0);
    println!("{:<26}{:>8}{:>10}  violated", "mutant", "seeds", "seconds");
    for mutant in Mutant::value_variants().iter().filter(|mutant| only.is_none_or(|only| only == **mutant)) {
        all += 1;
        let began = Instant::now();
        let caught = (1..=seeds).find_map(|seed| {
            let shape = Shape { mutant: Some(*mutant), ..Shape::draw(scenario(*mutant, seed), seed) };
            let reason = play(&shape, false).result.err()?;
            // Nor is a seed that fails without the bug.
            let fails_anyway = || play(&Shape { mutant: None, ..shape.clone() }, false).result.is_err();
            // A machine with other work is no proof either.
            Some((seed, kind(&reason).to_string())).filter(|(_, kind)| kind != "over-time" && !fails_anyway())
        });
        let seconds = began.elapsed().as_secs_f64();
        match caught {
            Some((seed, invariant)) => {
                println!("{:<26}{seed:>8}{seconds:>10.1}  {invariant}", name(mutant));
                found.push(seed);
            }
            None => println!("{:<26}{:>8}{seconds:>10.1}  NOT FOUND", name(mutant), format!(">{seeds}")),
        }
    }
    found.sort_unstable();
    let median = found.get(found.len() / 2).copied().unwrap_or_default();
    println!("{} of {all} found; median {median} seeds", found.len());
    if found.len() == all { Code::Clean } else { Code::Violation }
}
