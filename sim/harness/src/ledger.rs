//! What the server acknowledged or showed, kept outside of it, to be held against the final histories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes;
use mainstay_base::Timestamp;
use mainstay_sim_runtime::{draw, trace};
use prost::Message;

use crate::violation::{Invariant, hold};

/// What was promised in a run of the simulator. Runs are named by run id.
#[derive(Debug, Default)]
pub struct Promises {
    /// By run: the longest history that a worker acted on.
    pub seen: BTreeMap<String, Vec<Bytes>>,
    /// Run, activity and attempt that a worker was given.
    pub starts: BTreeSet<(String, String, i32)>,
    /// Run and activity whose completion was acknowledged.
    pub activities: BTreeSet<(String, String)>,
    /// Run and started event of workflow tasks whose completion was acknowledged.
    pub workflow_tasks: BTreeSet<(String, i64)>,
    /// Workflow and name of signals that were acknowledged.
    pub signals: BTreeSet<(String, String)>,
    /// Run and timer, with the true time before which it must not fire.
    pub timers: BTreeMap<(String, String), Duration>,
    /// Tokens of workflow tasks and activities whose completion was acknowledged.
    pub spent_tasks: Vec<Bytes>,
    /// The same of activities.
    pub spent_activities: Vec<Bytes>,
    /// What was said of updates.
    pub updates: Vec<ToldUpdate>,
    /// Workflow and id of updates that were refused because a workflow task failed.
    pub aborted: BTreeSet<(String, String)>,
    /// Workflows that updates were sent to, whatever came of them.
    pub updated: BTreeSet<String>,
    /// Schedules that were made, by id.
    pub schedules: BTreeMap<String, MadeSchedule>,
    /// Batch jobs that were begun.
    pub jobs: BTreeMap<String, BegunJob>,
    /// Runs that a client asked to delete, and whether that was acknowledged.
    pub doomed: BTreeMap<String, bool>,
    /// Shards that clients were told would be split off.
    pub splits: BTreeSet<u32>,
    /// Runs that clients were told they began.
    pub begun: BTreeSet<String>,
    /// Runs whose close was shown.
    pub closed: BTreeSet<String>,
    /// What timers may be early.
    pub tolerance: Duration,
    /// When the last fault was over.
    pub quiet_since: Timestamp,
}

/// What a client was told of an update.
#[derive(Clone, Debug)]
pub struct ToldUpdate {
    /// The run that took it.
    pub execution: WorkflowExecution,
    /// Its id.
    pub id: String,
    /// What was told.
    pub told: Told,
}

/// How far an update is said to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A worker accepted it.
    Accepted,
    /// It was completed, with this answer.
    Completed(String),
    /// It was accepted and failed, or its workflow closed before.
    Failed(String),
    /// It was rejected.
    Rejected,
    /// A reset brought it back, and a worker completed a task without a word of it.
    PassedOver,
}

/// A batch job that a client began.
#[derive(Clone, Debug)]
pub struct BegunJob {
    /// It cancels; else it signals.
    pub cancels: bool,
    /// The workflow that it concerns, or all.
    pub workflow_id: Option<String>,
}

/// A schedule that a client made.
#[derive(Clone, Copy, Debug)]
pub struct MadeSchedule {
    /// Seconds between its times.
    pub interval: u64,
    /// How often it acts.
    pub count: u64,
    /// Whether the client was told that it exists.
    pub acknowledged: bool,
    /// Whether it was paused on the way.
    pub paused: bool,
}

/// Events without what may differ while they are not written: the server's own number of an event, and the name of who took a task,
/// which readers of history are not told before (as in Temporal). No replay looks at either.
#[must_use]
pub fn as_shown(events: &[Bytes]) -> Vec<Bytes> {
    events.iter().map(|event| HistoryEvent::decode(event.clone()).map_or(event.clone(), shown)).collect()
}

fn shown(mut event: HistoryEvent) -> Bytes {
    event.task_id = 0;
    if let Some(Attributes::WorkflowTaskStartedEventAttributes(started)) = event.attributes.as_mut() {
        started.identity.clear();
    }
    event.encode_to_vec().into()
}

/// The first event in which two histories differ.
#[must_use]
pub fn difference(one: &[Bytes], other: &[Bytes]) -> String {
    let shown =
        |event: &Bytes| HistoryEvent::decode(event.clone()).map(|event| format!("{event:?}")).unwrap_or_default();
    let mut pairs = one.iter().zip(other).enumerate();
    let differs = pairs.find(|(_, (one, other))| one != other);
    differs.map_or("one is shorter".into(), |(place, (one, other))| {
        format!("event {} was {} and is {}", place + 1, shown(one), shown(other))
    })
}

/// The promises of one run of the simulator.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Promises>);

impl Ledger {
    /// What was promised so far.
    pub fn promises(&self) -> MutexGuard<'_, Promises> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker was given this history.
    ///
    /// # Panics
    /// If a worker was given another history before.
    pub fn saw(&self, execution: &WorkflowExecution, events: &[Bytes]) {
        let events = &as_shown(events)[..];
        let mut promises = self.promises();
        let seen = promises.seen.entry(execution.run_id.clone()).or_default();
        let common = seen.len().min(events.len());
        let stable = seen[..common] == events[..common];
        hold(stable, Invariant::HistoryIsStable, || {
            format!("the history of {execution:?} changed under a worker: {}", difference(seen, events))
        });
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
        hold(new, Invariant::SingleStart, || format!("activity {activity} of {execution:?}: attempt {attempt} again"));
    }

    /// The completion of an activity was acknowledged.
    pub fn activity_completed(&self, execution: &WorkflowExecution, activity: &str, token: Bytes) {
        let mut promises = self.promises();
        promises.activities.insert((execution.run_id.clone(), activity.into()));
        promises.spent_activities.push(token);
    }

    /// The completion of a workflow task was acknowledged.
    pub fn workflow_task_completed(&self, execution: &WorkflowExecution, started_event_id: i64, token: Bytes) {
        let mut promises = self.promises();
        promises.workflow_tasks.insert((execution.run_id.clone(), started_event_id));
        promises.spent_tasks.push(token);
    }

    /// A worker is about to ask for this timer: it cannot fire sooner than its span from now.
    pub fn timer_wanted(&self, execution: &WorkflowExecution, timer: &str, span: Duration) {
        let due = trace::now() + span;
        // A first request may have been done although nobody heard of it.
        self.promises().timers.entry((execution.run_id.clone(), timer.into())).or_insert(due);
    }

    /// A drawn token of a workflow task, or of an activity, that was spent.
    #[must_use]
    pub fn spent(&self, activity: bool) -> Option<Bytes> {
        let promises = self.promises();
        let tokens = if activity { &promises.spent_activities } else { &promises.spent_tasks };
        (!tokens.is_empty()).then(|| tokens[draw(0..tokens.len() as u64) as usize].clone())
    }

    /// A signal was acknowledged.
    pub fn signaled(&self, workflow_id: &str, name: &str) {
        self.promises().signals.insert((workflow_id.into(), name.into()));
    }
}
