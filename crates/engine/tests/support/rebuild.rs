//! Mutable state made anew from history alone, compared with the stored one; and the indexes compared with the rows.
//!
//! This knows the grammar of histories, and nothing of how the engine works. It answers problems as text.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::RawHistory;
use mainstay_api::record::{
    ActivityRecord, BatchRecord, ChildRecord, EntityMessage, ExecutionRecord, ExternalRecord, RunDetails, RunRecord,
    ScheduleRecord, TimerRow, UpdateRecord, UserTimerRecord, entity_message::Body, task_row, timer_row,
};
use mainstay_api::temporal::common::v1::{Payload, Priority};
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_api::temporal::history::v1::{HistoryEvent, history_event::Attributes as A};
use mainstay_base::{RunId, Slot};
use mainstay_engine::{EntityKey, MessageId, Table};
use prost::Message;

use super::store::{MemStore, TimerKey, timer_key};

/// What a history says of its run.
#[derive(Default)]
struct Rebuilt {
    next_event_id: i64,
    size: i64,
    status: Option<Status>,
    paused: bool,
    /// Scheduled event id → (activity id, started event id, cancel requested).
    activities: BTreeMap<i64, (String, i64, bool)>,
    /// Started event id → timer id. An id may be used again while its last fire is still held back.
    timers: BTreeMap<i64, String>,
    /// Initiated event id → (workflow id, first run, started event id).
    children: BTreeMap<i64, (String, String, i64)>,
    /// Initiated event ids of signals and cancel requests to other workflows; whether they are signals.
    externals: BTreeMap<i64, bool>,
    /// Scheduled and started event id of the open workflow task.
    task: Option<(i64, i64)>,
    last_completed_started: i64,
    signals: i64,
    cancel_requested: bool,
    /// By update id.
    updates: BTreeMap<String, UpdateRecord>,
    batch_event_id: i64,
    memo: BTreeMap<String, Payload>,
    priority: Option<Priority>,
    problems: Vec<String>,
}

/// Every problem of every run of the store.
pub fn check_all(store: &MemStore) -> Vec<String> {
    let mut problems = Vec::new();
    let (mut tasks, mut timers) = (BTreeSet::new(), BTreeSet::new());
    for entity in store.rows.keys() {
        problems.extend(check_entity(store, entity, &mut tasks, &mut timers));
    }
    for (key, row) in &store.tasks {
        if !tasks.contains(key) {
            problems.push(format!("a task row without an owner: {row:?}"));
        }
    }
    for (key, row) in &store.timers {
        if !timers.contains(key) {
            problems.push(format!("a timer row without an owner: {row:?}"));
        }
    }
    problems
}

type TaskKeys = BTreeSet<super::store::TaskKey>;
type TimerKeys = BTreeSet<TimerKey>;

fn check_entity(store: &MemStore, entity: &EntityKey, tasks: &mut TaskKeys, timers: &mut TimerKeys) -> Vec<String> {
    let mut problems = Vec::new();
    let current: Option<ExecutionRecord> = store.record(entity, Table::Execution, None, &[]);
    let runs = store.runs(entity);
    for run in &runs {
        let Some(record) = store.record::<RunRecord>(entity, Table::Run, Some(*run), &[]) else { continue };
        let is_current = current.as_ref().is_some_and(|c| c.current_run_id == record.run_id);
        if record.close_ns == 0 && !is_current {
            problems.push(format!("run {run} is open and not the current one"));
        }
        if is_current && current.as_ref().is_some_and(|c| c.status != record.status) {
            problems.push(format!("run {run}: the execution record has another status"));
        }
        let owned = Owned { store, entity, run: *run, record: &record };
        problems.extend(owned.check(tasks, timers).into_iter().map(|p| format!("run {run}: {p}")));
    }
    problems.extend(check_schedule(store, entity, timers));
    problems.extend(check_batch(store, entity, timers));
    for row in store.rows.get(entity).into_iter().flat_map(|rows| rows.keys()) {
        if row.run.is_some_and(|run| !runs.contains(&run)) {
            problems.push(format!("a row of a run that is gone: {row:?}"));
        }
    }
    problems
}

/// A schedule's rows against each other: its timer, its place in lists, the starts that it waits for.
fn check_schedule(store: &MemStore, entity: &EntityKey, timers: &mut TimerKeys) -> Vec<String> {
    let Some(record) = store.record::<ScheduleRecord>(entity, Table::Schedule, None, &[]) else { return Vec::new() };
    let mut problems = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            problems.push(format!("schedule {}: {what}", record.schedule_id));
        }
    };
    let closed = record.close_ns != 0;
    let listed = store.visibility.contains_key(&(entity.namespace_id.clone(), record.run_id.clone()));
    must(listed != closed, "it is listed exactly while it lives");
    if record.timer_ns != 0 {
        let key = timer_key(&entity_timer(entity, &record.run_id, timer_row::Kind::Schedule, record.timer_ns));
        must(store.timers.contains_key(&key), "its timer row is missing");
        timers.insert(key);
    }
    for starting in record.starting.iter().filter(|_| !closed) {
        let sent = store.messages.values().any(|message| {
            let start = match &message.body {
                Some(Body::StartScheduled(start)) => start,
                _ => return false,
            };
            message.source_run_id == record.run_id && start.number == starting.number
        });
        must(sent, "an action waits for an answer that nobody will give");
    }
    must(record.running.len() + record.starting.iter().filter(|s| s.tracked).count() <= 1, "tracked actions overlap");
    problems
}

fn check_batch(store: &MemStore, entity: &EntityKey, timers: &mut TimerKeys) -> Vec<String> {
    let Some(record) = store.record::<BatchRecord>(entity, Table::Batch, None, &[]) else { return Vec::new() };
    if record.close_ns == 0 {
        return Vec::new();
    }
    let due_ns = record.close_ns + store.namespaces[&entity.namespace_id].retention_ns;
    let key = timer_key(&entity_timer(entity, &record.run_id, timer_row::Kind::Batch, due_ns));
    let missing = (!store.timers.contains_key(&key)).then(|| format!("batch {}: no end of retention", record.job_id));
    timers.insert(key);
    missing.into_iter().collect()
}

fn entity_timer(entity: &EntityKey, run_id: &str, kind: timer_row::Kind, due_ns: i64) -> TimerRow {
    TimerRow {
        due_ns,
        namespace_id: entity.namespace_id.clone(),
        workflow_id: entity.workflow_id.clone(),
        run_id: run_id.to_string(),
        kind: kind as i32,
        id: 0,
    }
}

/// One run and all that belongs to it.
struct Owned<'a> {
    store: &'a MemStore,
    entity: &'a EntityKey,
    run: RunId,
    record: &'a RunRecord,
}

impl Owned<'_> {
    fn check(&self, tasks: &mut TaskKeys, timers: &mut TimerKeys) -> Vec<String> {
        let rebuilt = rebuild(&self.store.records(self.entity, Table::History, self.run));
        let mut problems = self.compare(&rebuilt);
        self.check_activities(&rebuilt, tasks, timers, &mut problems);
        self.check_timers(&rebuilt, timers, &mut problems);
        self.check_children(&rebuilt, &mut problems);
        self.check_externals(&rebuilt, &mut problems);
        self.check_task(&rebuilt, tasks, timers, &mut problems);
        self.check_run_timers(timers, &mut problems);
        problems.extend(rebuilt.problems);
        problems
    }

    fn buffered(&self) -> Vec<HistoryEvent> {
        self.store.records(self.entity, Table::Buffered, self.run).into_iter().map(|(_, event)| event).collect()
    }

    fn compare(&self, rebuilt: &Rebuilt) -> Vec<String> {
        let mut problems = Vec::new();
        let mut same = |what: &str, stored: String, made: String| {
            if stored != made {
                problems.push(format!("{what} is {stored}, by history {made}"));
            }
        };
        let r = self.record;
        let buffered = self.buffered();
        let signals =
            buffered.iter().filter(|e| matches!(e.attributes, Some(A::WorkflowExecutionSignaledEventAttributes(_))));
        let canceled = buffered
            .iter()
            .any(|e| matches!(e.attributes, Some(A::WorkflowExecutionCancelRequestedEventAttributes(_))));
        same("next event id", r.next_event_id.to_string(), rebuilt.next_event_id.to_string());
        same("history size", r.history_size_bytes.to_string(), rebuilt.size.to_string());
        let mut paused = rebuilt.paused;
        for event in &buffered {
            match &event.attributes {
                Some(A::WorkflowExecutionPausedEventAttributes(_)) => paused = true,
                Some(A::WorkflowExecutionUnpausedEventAttributes(_)) => paused = false,
                _ => {}
            }
        }
        let open = if paused { Status::Paused } else { Status::Running };
        let status = rebuilt.status.unwrap_or(open);
        same("status", format!("{:?}", r.status()), format!("{status:?}"));
        same("closed", (r.close_ns != 0).to_string(), rebuilt.status.is_some().to_string());
        if rebuilt.status.is_none() {
            let count = rebuilt.signals + signals.count() as i64;
            same("signal count", r.signal_count.to_string(), count.to_string());
        }
        same("cancel requested", r.cancel_requested.to_string(), (rebuilt.cancel_requested || canceled).to_string());
        same("buffered count", r.buffered_count.to_string(), buffered.len().to_string());
        let bytes: usize = buffered.iter().map(Message::encoded_len).sum();
        same("buffered bytes", r.buffered_bytes.to_string(), bytes.to_string());
        let rows: Vec<(Vec<u8>, UpdateRecord)> = self.store.records(self.entity, Table::Update, self.run);
        let rows: BTreeMap<String, UpdateRecord> =
            rows.into_iter().map(|(id, row)| (String::from_utf8_lossy(&id).into_owned(), row)).collect();
        same("updates", format!("{rows:?}"), format!("{:?}", rebuilt.updates));
        same("update count", r.update_count.to_string(), rebuilt.updates.len().to_string());
        let open = |update: &&UpdateRecord| update.accepted_event_id != 0 && update.completed_event_id == 0;
        let open = rebuilt.updates.values().filter(open).count();
        same("open updates", r.open_update_count.to_string(), open.to_string());
        let mut priority = rebuilt.priority.clone();
        let last = rebuilt.last_completed_started;
        same("last completed start", r.last_completed_started_event_id.to_string(), last.to_string());
        let details: Option<RunDetails> = self.store.record(self.entity, Table::RunDetails, Some(self.run), &[]);
        let memo = details.unwrap_or_default().memo.unwrap_or_default().fields;
        for event in &buffered {
            if let Some(A::WorkflowExecutionOptionsUpdatedEventAttributes(a)) = &event.attributes {
                priority = a.priority.clone().or(priority);
            }
        }
        same("priority", format!("{:?}", r.priority), format!("{priority:?}"));
        same("memo", format!("{memo:?}"), format!("{:?}", rebuilt.memo));
        problems
    }

    fn timer(&self, kind: timer_row::Kind, id: i64, due_ns: i64) -> TimerKey {
        super::store::timer_key(&TimerRow {
            due_ns,
            namespace_id: self.entity.namespace_id.clone(),
            workflow_id: self.entity.workflow_id.clone(),
            run_id: self.record.run_id.clone(),
            kind: kind as i32,
            id,
        })
    }

    fn own_timer(&self, key: TimerKey, what: &str, timers: &mut TimerKeys, problems: &mut Vec<String>) {
        if !self.store.timers.contains_key(&key) {
            problems.push(format!("{what} has no timer row"));
        }
        timers.insert(key);
    }

    fn own_task(
        &self,
        kind: task_row::Kind,
        queue: &str,
        sequence: u64,
        what: &str,
        tasks: &mut TaskKeys,
        problems: &mut Vec<String>,
    ) {
        let key = (kind as i32, self.entity.namespace_id.clone(), queue.to_string(), sequence);
        if !self.store.tasks.contains_key(&key) {
            problems.push(format!("{what} has no task row"));
        }
        tasks.insert(key);
    }

    fn check_activities(
        &self,
        rebuilt: &Rebuilt,
        tasks: &mut TaskKeys,
        timers: &mut TimerKeys,
        problems: &mut Vec<String>,
    ) {
        let mut expected: BTreeMap<i64, &(String, i64, bool)> =
            rebuilt.activities.iter().map(|(k, v)| (*k, v)).collect();
        for event in self.buffered() {
            if let Some((scheduled, _)) = closes(&event) {
                expected.remove(&scheduled);
            }
        }
        let stored: Vec<(Vec<u8>, ActivityRecord)> = self.store.records(self.entity, Table::Activity, self.run);
        if self.record.activity_count != stored.len() as i64 {
            problems.push(format!("activity count is {}, rows {}", self.record.activity_count, stored.len()));
        }
        for (_, a) in &stored {
            let what = format!("activity {}", a.activity_id);
            match expected.remove(&a.scheduled_event_id) {
                Some((id, _, cancel)) if *id == a.activity_id && *cancel == a.cancel_requested => {}
                other => problems.push(format!("{what} is stored; by history {other:?}")),
            }
            if rebuilt.status.is_some() {
                continue;
            }
            if a.task_sequence != 0 {
                let kind = task_row::Kind::Activity;
                self.own_task(kind, &a.task_queue, a.task_sequence, &what, tasks, problems);
            }
            let held = a.pause.is_some() || self.record.pause.is_some();
            let limited = a.schedule_to_close_ns != 0
                || (a.started_ns == 0 && !held && a.schedule_to_start_ns != 0)
                || (a.started_ns != 0 && (a.start_to_close_ns != 0 || a.heartbeat_ns != 0));
            let waits = a.started_ns == 0 && a.task_sequence == 0 && !held;
            if held && a.task_sequence != 0 {
                problems.push(format!("{what} is paused and dispatchable"));
            }
            if a.timer_ns != 0 {
                self.own_timer(
                    self.timer(timer_row::Kind::Activity, a.scheduled_event_id, a.timer_ns),
                    &what,
                    timers,
                    problems,
                );
            } else if limited || waits {
                problems.push(format!("{what} has a deadline and no timer"));
            }
            if self.store.rows[self.entity]
                .keys()
                .filter(|row| row.table == Table::ActivityId && row.run == Some(self.run))
                .all(|row| row.id != a.activity_id.as_bytes())
            {
                problems.push(format!("{what} cannot be found by its id"));
            }
        }
        // One that a close cancelled at once has no event of its end.
        let may_be_gone = |cancel: bool| cancel && rebuilt.status.is_some();
        let missing = expected.values().filter(|(.., cancel)| !may_be_gone(*cancel));
        missing.for_each(|(id, ..)| problems.push(format!("activity {id} is open by history and not stored")));
    }

    fn check_timers(&self, rebuilt: &Rebuilt, timers: &mut TimerKeys, problems: &mut Vec<String>) {
        let mut expected = if rebuilt.status.is_some() { BTreeMap::new() } else { rebuilt.timers.clone() };
        for event in self.buffered() {
            if let Some(A::TimerFiredEventAttributes(a)) = &event.attributes {
                expected.remove(&a.started_event_id);
            }
        }
        let stored: Vec<(Vec<u8>, UserTimerRecord)> = self.store.records(self.entity, Table::UserTimer, self.run);
        if self.record.timer_count != stored.len() as i64 {
            problems.push(format!("timer count is {}, rows {}", self.record.timer_count, stored.len()));
        }
        for (_, t) in &stored {
            let what = format!("timer {}", t.timer_id);
            if expected.remove(&t.started_event_id).as_ref() != Some(&t.timer_id) {
                problems.push(format!("{what} is stored and not open by history"));
            }
            self.own_timer(
                self.timer(timer_row::Kind::UserTimer, t.started_event_id, t.due_ns),
                &what,
                timers,
                problems,
            );
        }
        expected.values().for_each(|id| problems.push(format!("timer {id} is open by history and not stored")));
    }

    fn check_children(&self, rebuilt: &Rebuilt, problems: &mut Vec<String>) {
        let mut expected = rebuilt.children.clone();
        for event in self.buffered() {
            match &event.attributes {
                Some(A::ChildWorkflowExecutionStartedEventAttributes(a)) => {
                    if let Some(child) = expected.get_mut(&a.initiated_event_id) {
                        child.1 = a.workflow_execution.clone().unwrap_or_default().run_id;
                    }
                }
                Some(A::StartChildWorkflowExecutionFailedEventAttributes(a)) => {
                    expected.remove(&a.initiated_event_id);
                }
                _ => {}
            }
            if let Some((initiated, _)) = closes(&event) {
                expected.remove(&initiated);
            }
        }
        let stored: Vec<(Vec<u8>, ChildRecord)> = self.store.records(self.entity, Table::Child, self.run);
        if self.record.child_count != stored.len() as i64 {
            problems.push(format!("child count is {}, rows {}", self.record.child_count, stored.len()));
        }
        for (_, child) in &stored {
            let made = expected.remove(&child.initiated_event_id);
            let kept = (child.workflow_id.clone(), child.run_id.clone(), child.started_event_id);
            if made.as_ref() != Some(&kept) {
                problems.push(format!("child {kept:?} is stored; by history {made:?}"));
            }
            let starts = |m: &EntityMessage| matches!(m.body, Some(Body::StartChild(_)));
            let waits = rebuilt.status.is_none() && child.run_id.is_empty();
            if waits && !self.message(child.sequence).is_some_and(|m| starts(&m)) {
                problems.push(format!("child {} waits for its start, and no message asks for it", child.workflow_id));
            }
        }
        expected.values().for_each(|child| problems.push(format!("child {child:?} is open by history and not stored")));
    }

    fn check_externals(&self, rebuilt: &Rebuilt, problems: &mut Vec<String>) {
        let mut expected = if rebuilt.status.is_some() { BTreeMap::new() } else { rebuilt.externals.clone() };
        for event in self.buffered() {
            if let Some(initiated) = event.attributes.as_ref().and_then(answers_external) {
                expected.remove(&initiated);
            }
        }
        let signals = expected.values().filter(|signal| **signal).count() as i64;
        let counts = (self.record.external_signal_count, self.record.external_cancel_count);
        if counts != (signals, expected.len() as i64 - signals) {
            problems.push(format!("signals and cancel requests are {counts:?}; by history {expected:?}"));
        }
        let stored: Vec<(Vec<u8>, ExternalRecord)> = self.store.records(self.entity, Table::External, self.run);
        for (_, pending) in &stored {
            if expected.remove(&pending.initiated_event_id) != Some(!pending.cancel) {
                problems.push(format!("{pending:?} is stored and not open by history"));
            }
            if self.message(pending.sequence).is_none() {
                problems.push(format!("{pending:?} has no message"));
            }
        }
        expected.keys().for_each(|id| problems.push(format!("request {id} is open by history and not stored")));
    }

    /// Whether a message is under way, or its answer, that lets this child go on or ends it.
    fn is_to_hear_of_parent(&self) -> bool {
        self.store.messages.values().any(|m| {
            let to_it = m.namespace_id == self.entity.namespace_id && m.workflow_id == self.entity.workflow_id;
            to_it
                && matches!(
                    m.body,
                    Some(Body::StartChild(_) | Body::WithdrawStart(_) | Body::ReleaseChild(_) | Body::CloseChild(_))
                )
        })
    }

    fn message(&self, sequence: u64) -> Option<EntityMessage> {
        let source_slot = Slot::of(&self.entity.namespace_id, &self.entity.workflow_id).get();
        self.store.messages.get(&MessageId { source_slot, sequence }).cloned()
    }

    fn check_task(&self, rebuilt: &Rebuilt, tasks: &mut TaskKeys, timers: &mut TimerKeys, problems: &mut Vec<String>) {
        if rebuilt.status.is_some() {
            return;
        }
        let Some(task) = &self.record.workflow_task else {
            if rebuilt.task.is_some() && rebuilt.status.is_none() {
                problems.push("a workflow task is open by history and not stored".into());
            }
            return;
        };
        let stored = (task.scheduled_event_id, task.started_event_id);
        if task.speculative_id != 0 {
            problems.push("a speculative workflow task is stored".into());
        }
        if task.attempt == 1 && rebuilt.task != Some(stored) {
            problems.push(format!("the workflow task is {stored:?}, by history {:?}", rebuilt.task));
        }
        if task.attempt > 1 && rebuilt.task.is_some() {
            problems.push("a transient workflow task is in history".into());
        }
        if task.started_event_id == 0 && self.record.pause.is_some() {
            if task.task_sequence != 0 {
                problems.push("the workflow task of a paused run is dispatchable".into());
            }
        } else if task.started_event_id == 0 {
            let kind = task_row::Kind::Workflow;
            self.own_task(kind, &task.task_queue, task.task_sequence, "the workflow task", tasks, problems);
        } else if task.timer_ns == 0 {
            problems.push("a started workflow task has no time-out".into());
        }
        if task.timer_ns != 0 {
            let key = self.timer(timer_row::Kind::WorkflowTask, task.scheduled_event_id, task.timer_ns);
            self.own_timer(key, "the workflow task", timers, problems);
        }
    }

    fn check_run_timers(&self, timers: &mut TimerKeys, problems: &mut Vec<String>) {
        use timer_row::Kind;
        let r = self.record;
        for (kind, due) in [
            (Kind::RunTimeout, r.run_timer_ns),
            (Kind::FirstTaskBackoff, r.backoff_timer_ns),
            (Kind::Retention, r.retention_timer_ns),
        ] {
            if due != 0 {
                self.own_timer(self.timer(kind, 0, due), kind.as_str_name(), timers, problems);
            }
        }
        if r.close_ns == 0 && r.run_deadline_ns != 0 && r.run_timer_ns == 0 {
            problems.push("an open run with a deadline has no timer".into());
        }
        if r.first_task_backoff && r.backoff_timer_ns == 0 {
            problems.push("a delayed run has no timer".into());
        }
        if r.awaits_parent && (r.workflow_task.is_some() || !r.is_child) {
            problems.push("a run that waits for its parent has a workflow task, or no parent".into());
        }
        if r.close_ns == 0 && r.awaits_parent && !self.is_to_hear_of_parent() {
            problems.push("a child waits for its parent, and no message will tell it anything".into());
        }
        if r.close_ns == 0 && !r.first_task_backoff && r.workflow_task.is_none() && r.buffered_count > 0 {
            problems.push("events are buffered behind no workflow task".into());
        }
    }
}

/// What an event that closes an activity or a child says of where that began and started.
fn closes(event: &HistoryEvent) -> Option<(i64, i64)> {
    match event.attributes.as_ref()? {
        A::ActivityTaskCompletedEventAttributes(a) => Some((a.scheduled_event_id, a.started_event_id)),
        A::ActivityTaskFailedEventAttributes(a) => Some((a.scheduled_event_id, a.started_event_id)),
        A::ActivityTaskTimedOutEventAttributes(a) => Some((a.scheduled_event_id, a.started_event_id)),
        A::ActivityTaskCanceledEventAttributes(a) => Some((a.scheduled_event_id, a.started_event_id)),
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => Some((a.initiated_event_id, a.started_event_id)),
        A::ChildWorkflowExecutionFailedEventAttributes(a) => Some((a.initiated_event_id, a.started_event_id)),
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => Some((a.initiated_event_id, a.started_event_id)),
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => Some((a.initiated_event_id, a.started_event_id)),
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => Some((a.initiated_event_id, a.started_event_id)),
        _ => None,
    }
}

/// The Initiated event that an event answers, of a signal or a cancel request to another workflow.
fn answers_external(attributes: &A) -> Option<i64> {
    match attributes {
        A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => Some(a.initiated_event_id),
        A::ExternalWorkflowExecutionSignaledEventAttributes(a) => Some(a.initiated_event_id),
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => Some(a.initiated_event_id),
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => Some(a.initiated_event_id),
        _ => None,
    }
}

fn rebuild(batches: &[(Vec<u8>, RawHistory)]) -> Rebuilt {
    let mut made = Rebuilt { next_event_id: 1, ..Rebuilt::default() };
    for (id, batch) in batches {
        let first = <[u8; 8]>::try_from(id.as_slice()).map(i64::from_be_bytes).unwrap_or_default();
        if first != made.next_event_id || batch.events.is_empty() {
            made.problems.push(format!("a batch of {} events is at {first}", batch.events.len()));
        }
        made.batch_event_id = first;
        for encoded in &batch.events {
            let event = HistoryEvent::decode(encoded.clone()).expect("events decode");
            made.size += encoded.len() as i64;
            made.take(&event);
        }
    }
    made
}

impl Rebuilt {
    fn wrong(&mut self, event: &HistoryEvent, what: &str) {
        self.problems.push(format!("event {}: {what}", event.event_id));
    }

    fn take(&mut self, event: &HistoryEvent) {
        if event.event_id != self.next_event_id {
            self.wrong(event, &format!("its id should be {}", self.next_event_id));
        }
        self.next_event_id = event.event_id + 1;
        if self.status.is_some() {
            self.wrong(event, "follows the close event");
        }
        let Some(attributes) = &event.attributes else { return self.wrong(event, "has no attributes") };
        let began = matches!(attributes, A::WorkflowExecutionStartedEventAttributes(_));
        if began != (event.event_id == 1) {
            self.wrong(event, "a history begins with its only Started event");
        }
        if let Some((began, started)) = closes(event) {
            return self.close_item(event, began, started);
        }
        if let Some(initiated) = answers_external(attributes) {
            if self.externals.remove(&initiated).is_none() {
                self.wrong(event, "answers no signal or cancel request");
            }
            return;
        }
        self.take_task(event, attributes);
        self.take_item(event, attributes);
        self.take_relative(event, attributes);
        self.take_close(event, attributes);
    }

    fn close_item(&mut self, event: &HistoryEvent, began: i64, started: i64) {
        let activity = self.activities.remove(&began).map(|(_, known, _)| known);
        match activity.or_else(|| self.children.remove(&began).map(|(_, _, known)| known)) {
            Some(known) if known == started => {}
            Some(known) => self.wrong(event, &format!("names Started {started}, which is {known}")),
            None => self.wrong(event, "closes nothing that is open"),
        }
    }

    fn take_relative(&mut self, event: &HistoryEvent, attributes: &A) {
        let id = event.event_id;
        match attributes {
            A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                self.children.insert(id, (a.workflow_id.clone(), String::new(), 0));
            }
            A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
                if self.children.remove(&a.initiated_event_id).is_none_or(|child| child.2 != 0) {
                    self.wrong(event, "fails no start of a child");
                }
            }
            A::ChildWorkflowExecutionStartedEventAttributes(a) => match self.children.get_mut(&a.initiated_event_id) {
                Some(child) if child.2 == 0 => {
                    child.1 = a.workflow_execution.clone().unwrap_or_default().run_id;
                    child.2 = id;
                }
                _ => self.wrong(event, "starts no initiated child"),
            },
            A::SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => {
                self.externals.insert(id, true);
            }
            A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => {
                self.externals.insert(id, false);
            }
            _ => {}
        }
    }

    fn take_task(&mut self, event: &HistoryEvent, attributes: &A) {
        let id = event.event_id;
        match attributes {
            A::WorkflowTaskScheduledEventAttributes(_) => {
                if self.task.replace((id, 0)).is_some() {
                    self.wrong(event, "a second workflow task");
                }
            }
            A::WorkflowTaskStartedEventAttributes(a) => {
                if self.task != Some((a.scheduled_event_id, 0)) {
                    self.wrong(event, "starts no scheduled workflow task");
                }
                self.task = Some((a.scheduled_event_id, id));
            }
            A::WorkflowTaskCompletedEventAttributes(a) => {
                self.last_completed_started = a.started_event_id;
                self.close_task(event, a.scheduled_event_id, a.started_event_id);
            }
            A::WorkflowTaskFailedEventAttributes(a) => {
                self.close_task(event, a.scheduled_event_id, a.started_event_id);
            }
            A::WorkflowTaskTimedOutEventAttributes(a) => {
                self.close_task(event, a.scheduled_event_id, a.started_event_id);
            }
            _ => {}
        }
    }

    fn close_task(&mut self, event: &HistoryEvent, scheduled: i64, started: i64) {
        if self.task.take() != Some((scheduled, started)) {
            self.wrong(event, "closes no such workflow task");
        }
    }

    fn take_item(&mut self, event: &HistoryEvent, attributes: &A) {
        let id = event.event_id;
        match attributes {
            A::WorkflowExecutionStartedEventAttributes(a) => {
                self.memo = a.memo.clone().unwrap_or_default().fields;
                self.priority.clone_from(&a.priority);
            }
            A::WorkflowExecutionOptionsUpdatedEventAttributes(a) => {
                self.priority = a.priority.clone().or(self.priority.take());
            }
            A::ActivityTaskScheduledEventAttributes(a) => {
                self.activities.insert(id, (a.activity_id.clone(), 0, false));
            }
            A::ActivityTaskStartedEventAttributes(a) => match self.activities.get_mut(&a.scheduled_event_id) {
                Some(open) if open.1 == 0 => open.1 = id,
                _ => self.wrong(event, "starts no open activity"),
            },
            A::ActivityTaskCancelRequestedEventAttributes(a) => {
                if let Some(open) = self.activities.get_mut(&a.scheduled_event_id) {
                    open.2 = true;
                }
            }
            A::TimerStartedEventAttributes(a) => {
                self.timers.insert(id, a.timer_id.clone());
            }
            A::TimerFiredEventAttributes(a) => {
                if self.timers.remove(&a.started_event_id).as_ref() != Some(&a.timer_id) {
                    self.wrong(event, "no such timer fires");
                }
            }
            A::TimerCanceledEventAttributes(a) => {
                if self.timers.remove(&a.started_event_id).as_ref() != Some(&a.timer_id) {
                    self.wrong(event, "no such timer is cancelled");
                }
            }
            A::WorkflowExecutionUpdateAdmittedEventAttributes(a) => {
                let meta = a.request.as_ref().and_then(|request| request.meta.clone()).unwrap_or_default();
                self.updates.entry(meta.update_id).or_default().admitted_event_id = id;
            }
            A::WorkflowExecutionUpdateAcceptedEventAttributes(a) => {
                self.updates.entry(a.protocol_instance_id.clone()).or_default().accepted_event_id = id;
            }
            A::WorkflowExecutionUpdateCompletedEventAttributes(a) => {
                let meta = a.meta.clone().unwrap_or_default();
                let batch = self.batch_event_id;
                match self.updates.get_mut(&meta.update_id) {
                    Some(update) if update.accepted_event_id == a.accepted_event_id => {
                        update.completed_event_id = id;
                        update.completed_batch_event_id = batch;
                    }
                    _ => self.wrong(event, "completes no such update"),
                }
            }
            A::WorkflowExecutionSignaledEventAttributes(_) => self.signals += 1,
            A::WorkflowExecutionCancelRequestedEventAttributes(_) => self.cancel_requested = true,
            A::WorkflowExecutionPausedEventAttributes(_) => self.paused = true,
            A::WorkflowExecutionUnpausedEventAttributes(_) => self.paused = false,
            A::WorkflowPropertiesModifiedEventAttributes(a) => {
                for (name, value) in a.upserted_memo.clone().unwrap_or_default().fields {
                    let null = value.metadata.get("encoding").is_some_and(|e| e.as_ref() == b"binary/null");
                    if null {
                        self.memo.remove(&name)
                    } else {
                        self.memo.insert(name, value)
                    };
                }
            }
            _ => {}
        }
    }

    fn take_close(&mut self, event: &HistoryEvent, attributes: &A) {
        let status = match attributes {
            A::WorkflowExecutionCompletedEventAttributes(_) => Status::Completed,
            A::WorkflowExecutionFailedEventAttributes(_) => Status::Failed,
            A::WorkflowExecutionCanceledEventAttributes(_) => Status::Canceled,
            A::WorkflowExecutionTerminatedEventAttributes(_) => Status::Terminated,
            A::WorkflowExecutionTimedOutEventAttributes(_) => Status::TimedOut,
            A::WorkflowExecutionContinuedAsNewEventAttributes(_) => Status::ContinuedAsNew,
            _ => return,
        };
        if self.status.replace(status).is_some() {
            self.wrong(event, "a second close event");
        }
    }
}
