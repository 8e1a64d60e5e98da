//! What the server acknowledged is in the final histories, once: what workers saw, what they completed, and every signal.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

use super::Run;
use crate::journal::{Call, Entry};
use crate::ledger::{Ledger, as_shown, difference};
use crate::violation::{Invariant, hold, violated};

/// Holds every promise against the final histories.
///
/// # Panics
/// At the first promise that was not kept.
pub fn check(ledger: &Ledger, entries: &[Entry], runs: &[Run]) {
    let promises = ledger.promises();
    let by_id: BTreeMap<&str, &Run> = runs.iter().map(|run| (run.execution.run_id.as_str(), run)).collect();
    let named = promises.seen.keys().chain(&promises.closed).chain(promises.workflow_tasks.iter().map(|(run, _)| run));
    for (run, deleted) in &promises.doomed {
        hold(!deleted || !by_id.contains_key(run.as_str()), Invariant::AcknowledgedEffects, || {
            format!("run {run} was deleted, and is there")
        });
    }
    for run in named.filter(|run| !promises.doomed.contains_key(*run)) {
        hold(by_id.contains_key(run.as_str()), Invariant::AcknowledgedEffects, || format!("run {run} is gone"));
    }
    for run in runs {
        let run_id = &run.execution.run_id;
        let seen = promises.seen.get(run_id).map(Vec::as_slice).unwrap_or_default();
        let raw = as_shown(&run.raw);
        hold(raw.get(..seen.len()) == Some(seen), Invariant::HistoryIsStable, || {
            let differs = difference(seen, &raw);
            format!("a worker saw {} events of {:?}, which are others now: {differs}", seen.len(), run.execution)
        });
        let facts = Facts::of(&run.events);
        for (_, activity) in promises.activities.iter().filter(|(of, _)| of == run_id) {
            let times = facts.activities.get(activity).copied().unwrap_or_default();
            hold(times == 1, Invariant::AcknowledgedEffects, || {
                format!("activity {activity} of {:?} was acknowledged and completed {times} times", run.execution)
            });
        }
        for (_, started) in promises.workflow_tasks.iter().filter(|(of, _)| of == run_id) {
            hold(facts.workflow_tasks.contains(started), Invariant::AcknowledgedEffects, || {
                format!("the completion of task {started} of {:?} was acknowledged and is lost", run.execution)
            });
        }
    }
    signals(&promises.signals, entries, runs);
}

/// An acknowledged signal is in some run, and in none twice. It is in no more runs than it was sent times: a later try may find a
/// later run. A reset takes signals along but not their request ids, as in Temporal, so a try that finds the reset run is accepted
/// there again: such a run holds it at most as often as it was sent.
fn signals(acknowledged: &BTreeSet<(String, String)>, entries: &[Entry], runs: &[Run]) {
    let mut tries: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in entries {
        if let Call::Signal { name } | Call::Start { signal: Some(name), .. } = &entry.call {
            *tries.entry(name).or_default() += 1;
        }
    }
    let mut places: BTreeMap<(&str, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        for event in &run.events {
            // Signals of other workflows and of batch jobs have oracles of their own.
            if let Some(Event::WorkflowExecutionSignaledEventAttributes(it)) = event.attributes.as_ref()
                && tries.contains_key(it.signal_name.as_str())
            {
                places.entry((&run.execution.workflow_id, &it.signal_name)).or_default().push(run);
            }
        }
    }
    for (workflow, signal) in acknowledged {
        if !places.contains_key(&(workflow.as_str(), signal.as_str())) {
            violated(Invariant::AcknowledgedEffects, format!("{signal} to {workflow} was acknowledged and is lost"));
        }
    }
    for ((workflow, signal), runs) in places {
        let own = runs.iter().filter(|run| run.reset.is_none()).count();
        let sent = tries.get(signal).copied().unwrap_or_default();
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        let fits = runs.iter().all(|run| {
            let times = times.entry(&run.execution.run_id).or_default();
            *times += 1;
            *times <= if run.reset.is_some() { sent } else { 1 }
        });
        hold(own <= sent && fits, Invariant::AcknowledgedEffects, || {
            let places: Vec<_> = runs.iter().map(|run| (&run.execution.run_id, &run.starter, &run.reset)).collect();
            format!("{signal} to {workflow} is there {} times: {places:?}", runs.len())
        });
    }
}

/// What a history says happened.
#[derive(Default)]
struct Facts {
    activities: BTreeMap<String, u32>,
    workflow_tasks: BTreeSet<i64>,
}

impl Facts {
    fn of(events: &[HistoryEvent]) -> Self {
        let mut facts = Self::default();
        let mut scheduled = BTreeMap::new();
        for event in events {
            match event.attributes.as_ref() {
                Some(Event::ActivityTaskScheduledEventAttributes(it)) => {
                    scheduled.insert(event.event_id, it.activity_id.clone());
                }
                Some(Event::ActivityTaskCompletedEventAttributes(it)) => {
                    let id = scheduled.get(&it.scheduled_event_id).cloned().unwrap_or_default();
                    *facts.activities.entry(id).or_default() += 1;
                }
                Some(Event::WorkflowTaskCompletedEventAttributes(it)) => {
                    facts.workflow_tasks.insert(it.started_event_id);
                }
                _ => {}
            }
        }
        facts
    }
}
