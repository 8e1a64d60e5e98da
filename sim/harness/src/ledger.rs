//! What the server acknowledged or showed, kept outside of it, to be held against the final histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

#[derive(Debug, Default)]
struct Promises {
    /// By run: the longest history that a worker acted on.
    seen: BTreeMap<String, Vec<Bytes>>,
    /// By run: activity and attempt that a worker was given.
    starts: BTreeSet<(String, String, i32)>,
    /// By run: activities whose completion was acknowledged.
    activities: BTreeSet<(String, String)>,
    /// By run: started events of workflow tasks whose completion was acknowledged.
    workflow_tasks: BTreeSet<(String, i64)>,
    /// By workflow: signals that were acknowledged.
    signals: BTreeSet<(String, String)>,
}

/// The promises of one run of the simulator.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Promises>);

impl Ledger {
    fn promises(&self) -> MutexGuard<'_, Promises> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker was given this history.
    ///
    /// # Panics
    /// If a worker was given another history before.
    pub fn saw(&self, execution: &WorkflowExecution, events: &[Bytes], attempt: i32) {
        // The scheduled and started events of a repeated attempt are written only when it completes.
        let sure = if attempt > 1 { events.len().saturating_sub(2) } else { events.len() };
        let events = &events[..sure];
        let mut promises = self.promises();
        let seen = promises.seen.entry(execution.run_id.clone()).or_default();
        let common = seen.len().min(events.len());
        assert!(seen[..common] == events[..common], "history of {execution:?} changed under a worker");
        if events.len() > seen.len() {
            *seen = events.to_vec();
        }
    }

    /// A worker was given this attempt.
    ///
    /// # Panics
    /// If one was given it before.
    pub fn activity_started(&self, execution: &WorkflowExecution, activity: &str, attempt: i32) {
        let new = self.promises().starts.insert((execution.run_id.clone(), activity.into(), attempt));
        assert!(new, "activity {activity} of {execution:?}: attempt {attempt} started twice");
    }

    /// The completion of an activity was acknowledged.
    pub fn activity_completed(&self, execution: &WorkflowExecution, activity: &str) {
        self.promises().activities.insert((execution.run_id.clone(), activity.into()));
    }

    /// The completion of a workflow task was acknowledged.
    pub fn workflow_task_completed(&self, execution: &WorkflowExecution, started_event_id: i64) {
        self.promises().workflow_tasks.insert((execution.run_id.clone(), started_event_id));
    }

    /// A signal was acknowledged.
    pub fn signaled(&self, workflow_id: &str, name: &str) {
        self.promises().signals.insert((workflow_id.into(), name.into()));
    }

    /// Holds all promises of a run against its history.
    ///
    /// # Errors
    /// The first promise that was not kept.
    pub fn check(&self, execution: &WorkflowExecution, raw: &[Bytes], events: &[HistoryEvent]) -> Result<(), String> {
        let promises = self.promises();
        let run_id = &execution.run_id;
        let seen = promises.seen.get(run_id).map(Vec::as_slice).unwrap_or_default();
        if raw.get(..seen.len()) != Some(seen) {
            return Err(format!("a worker saw {} events that are not the beginning of the history", seen.len()));
        }
        let facts = Facts::of(events);
        for (_, activity) in promises.activities.iter().filter(|(run, _)| run == run_id) {
            if facts.activities.get(activity) != Some(&1) {
                return Err(format!("activity {activity} was acknowledged and is not completed once"));
            }
        }
        for (_, started) in promises.workflow_tasks.iter().filter(|(run, _)| run == run_id) {
            if !facts.workflow_tasks.contains(started) {
                return Err(format!("the completion of the task started by event {started} was acknowledged and lost"));
            }
        }
        for (_, signal) in promises.signals.iter().filter(|(id, _)| *id == execution.workflow_id) {
            if facts.signals.get(signal) != Some(&1) {
                return Err(format!("signal {signal} was acknowledged and is not there once"));
            }
        }
        Ok(())
    }
}

/// What a history says happened.
#[derive(Default)]
struct Facts {
    activities: BTreeMap<String, u32>,
    workflow_tasks: BTreeSet<i64>,
    signals: BTreeMap<String, u32>,
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
                Some(Event::WorkflowExecutionSignaledEventAttributes(it)) => {
                    *facts.signals.entry(it.signal_name.clone()).or_default() += 1;
                }
                _ => {}
            }
        }
        facts
    }
}
