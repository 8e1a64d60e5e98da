//! Signals and cancel requests from one workflow to another: there once if the sender is told that they arrived, else never.
//!
//! Each signal has a name of its own. A run that was reset may have copied the wish of another, and a target that was reset the
//! signal; so a name may be there as often as it was wished for.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

use super::Run;
use crate::violation::{Invariant, hold};

/// What senders are told of a signal.
#[derive(Default)]
struct Wish {
    initiated: usize,
    arrived: usize,
    failed: usize,
}

/// Holds what senders are told against the histories of the others.
///
/// # Panics
/// If they differ.
pub fn check(runs: &[Run]) {
    let wishes = wishes(runs);
    let mut found: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        for event in &run.events {
            if let Some(Event::WorkflowExecutionSignaledEventAttributes(it)) = event.attributes.as_ref()
                && it.signal_name.starts_with("external-")
            {
                found.entry(&it.signal_name).or_default().push(run);
            }
        }
    }
    for (name, wish) in &wishes {
        let holders = found.remove(name.as_str()).unwrap_or_default();
        let own = holders.iter().filter(|run| run.reset.is_none()).count();
        let distinct: BTreeSet<&str> = holders.iter().map(|run| run.execution.run_id.as_str()).collect();
        must(wish.arrived == 0 || !holders.is_empty(), || format!("{name} is told to have arrived, and is nowhere"));
        must(own <= wish.initiated && distinct.len() == holders.len(), || {
            format!("{name} was wished for {} times and is there {} times", wish.initiated, holders.len())
        });
        must(wish.failed < wish.initiated || own == 0, || format!("{name} is told to have failed, and arrived"));
    }
    must(found.is_empty(), || format!("nobody sent {:?}", found.keys()));
    cancels(runs);
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::ExternalRequestsArriveOnce, detail);
}

fn wishes(runs: &[Run]) -> BTreeMap<String, Wish> {
    let mut wishes: BTreeMap<String, Wish> = BTreeMap::new();
    for run in runs {
        let mut names: BTreeMap<i64, &str> = BTreeMap::new();
        for event in &run.events {
            match event.attributes.as_ref() {
                Some(Event::SignalExternalWorkflowExecutionInitiatedEventAttributes(it)) => {
                    names.insert(event.event_id, &it.signal_name);
                    wishes.entry(it.signal_name.clone()).or_default().initiated += 1;
                }
                Some(Event::ExternalWorkflowExecutionSignaledEventAttributes(it)) => {
                    let name = names.get(&it.initiated_event_id).copied().unwrap_or_default();
                    wishes.entry(name.into()).or_default().arrived += 1;
                }
                Some(Event::SignalExternalWorkflowExecutionFailedEventAttributes(it)) => {
                    let name = names.get(&it.initiated_event_id).copied().unwrap_or_default();
                    wishes.entry(name.into()).or_default().failed += 1;
                }
                _ => {}
            }
        }
    }
    wishes
}

/// A cancel request names the run and the event that it comes from, and no run has one twice.
fn cancels(runs: &[Run]) {
    let wished: BTreeSet<(&str, i64)> = runs
        .iter()
        .flat_map(|run| run.events.iter().map(move |event| (run, event)))
        .filter(|(_, event)| {
            matches!(event.attributes, Some(Event::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_)))
        })
        .map(|(run, event)| (run.execution.run_id.as_str(), event.event_id))
        .collect();
    for run in runs {
        let mut sources = BTreeSet::new();
        for event in &run.events {
            let Some(Event::WorkflowExecutionCancelRequestedEventAttributes(it)) = event.attributes.as_ref() else {
                continue;
            };
            let Some(source) = it.external_workflow_execution.as_ref().filter(|_| it.external_initiated_event_id > 0)
            else {
                continue;
            };
            let source = (source.run_id.as_str(), it.external_initiated_event_id);
            // A parent's end asks too, and no event of the parent says so.
            must(wished.contains(&source), || format!("{:?} is cancelled by {source:?}, unasked", run.execution));
            must(sources.insert(source), || format!("{:?} is cancelled twice by {source:?}", run.execution));
        }
    }
}
