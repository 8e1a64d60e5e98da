//! A run's state made from the beginning of a history: what a reset continues from. (Reference §2.15.)
//!
//! It reads events and writes nothing; whoever uses it stores what it found.

use std::collections::BTreeMap;

use mainstay_api::RawHistory;
use mainstay_api::record::{
    ActivityRecord, ChildRecord, UpdateRecord, UserTimerRecord, WorkerBuild, WorkflowTaskRecord,
};
use mainstay_api::temporal::enums::v1::{EventType, TimeoutType, WorkflowTaskFailedCause as Cause};
use mainstay_api::temporal::history::v1::{
    HistoryEvent, RequestCancelExternalWorkflowExecutionInitiatedEventAttributes as CancelInitiated,
    SignalExternalWorkflowExecutionInitiatedEventAttributes as SignalInitiated,
    StartChildWorkflowExecutionInitiatedEventAttributes as ChildInitiated,
    WorkflowExecutionStartedEventAttributes as StartedAttributes,
};
use mainstay_api::temporal::sdk::v1::UserMetadata;
use mainstay_base::RunId;

use crate::convert::{nanos, time_ns};
use crate::event::{self, Attributes as A};
use crate::run::Run;
use crate::store::{Fault, Table};
use crate::transaction::{Transaction, decode};
use crate::{activities, children, lifecycle, pause, search_attributes, updates, worker_build};

/// What the events say, beside the run's own record.
pub(crate) struct Replayed {
    pub(crate) run: Run,
    /// By scheduled event id.
    pub(crate) activities: BTreeMap<i64, ActivityRecord>,
    /// By started event id: a timer id may be used again while its last fire is still held back.
    pub(crate) timers: BTreeMap<i64, UserTimerRecord>,
    /// By initiated event id: the children, and the events of those whose start is not recorded.
    pub(crate) children: BTreeMap<i64, ChildRecord>,
    pub(crate) initiated: BTreeMap<i64, Initiated>,
    /// Request ids with the type and id of the event that each caused.
    pub(crate) request_ids: Vec<(String, EventType, i64)>,
    /// By update id.
    pub(crate) updates: BTreeMap<String, UpdateRecord>,
    batch_event_id: i64,
}

/// An event whose message has no recorded answer.
pub(crate) enum Initiated {
    Child(Box<ChildInitiated>, Option<UserMetadata>),
    Signal(Box<SignalInitiated>),
    Cancel(CancelInitiated),
}

impl Replayed {
    /// The state of run `id` after these batches of events, each with the id of its first; the first of all begins a run.
    pub(crate) fn new(tx: &Transaction<'_>, id: RunId, batches: &[(i64, RawHistory)]) -> Result<Self, Fault> {
        let first: HistoryEvent = match batches.first().and_then(|(_, batch)| batch.events.first()) {
            Some(encoded) => decode(Table::History, encoded.clone())?,
            None => HistoryEvent::default(),
        };
        let Some(A::WorkflowExecutionStartedEventAttributes(started)) = first.attributes else {
            return Err(Fault("a history does not begin with a Started event".into()));
        };
        let mut made = Self {
            run: begun(tx, id, &started),
            activities: BTreeMap::new(),
            timers: BTreeMap::new(),
            children: BTreeMap::new(),
            initiated: BTreeMap::new(),
            request_ids: Vec::new(),
            updates: BTreeMap::new(),
            batch_event_id: 1,
        };
        for (first, batch) in batches {
            made.batch_event_id = *first;
            for encoded in &batch.events {
                let event: HistoryEvent = decode(Table::History, encoded.clone())?;
                made.run.record.next_event_id = event.event_id + 1;
                made.run.record.history_size_bytes += encoded.len() as i64;
                made.take(tx, event);
            }
        }
        Ok(made)
    }

    fn take(&mut self, tx: &Transaction<'_>, event: HistoryEvent) {
        let (id, at) = (event.event_id, time_ns(event.event_time.as_ref()));
        let Some(mut attributes) = event.attributes else { return };
        if let Some((began, _)) = event::item_close(&mut attributes) {
            self.activities.remove(&began);
            self.children.remove(&began);
            return;
        }
        let record = &mut self.run.record;
        match attributes {
            A::WorkflowTaskScheduledEventAttributes(a) => {
                let task = WorkflowTaskRecord {
                    scheduled_event_id: id,
                    attempt: a.attempt,
                    scheduled_ns: at,
                    ..Default::default()
                };
                record.workflow_task = Some(task);
            }
            A::WorkflowTaskStartedEventAttributes(_) => {
                if let Some(task) = &mut record.workflow_task {
                    task.started_event_id = id;
                }
            }
            A::WorkflowTaskCompletedEventAttributes(a) => {
                record.workflow_task = None;
                record.failed_tasks = 0;
                record.last_completed_started_event_id = a.started_event_id;
                #[allow(deprecated)]
                let build = WorkerBuild {
                    checksum: a.binary_checksum,
                    build_id: a.worker_version.map(|v| v.build_id).unwrap_or_default(),
                };
                worker_build::record(tx, &mut self.run, build, at, id);
            }
            A::WorkflowTaskFailedEventAttributes(a) if a.cause() == Cause::ResetWorkflow => {
                record.workflow_task = None;
                record.failed_tasks += 1;
                record.set_last_task_failure(Cause::ResetWorkflow);
            }
            A::WorkflowTaskFailedEventAttributes(a) if a.cause() == Cause::WorkflowPauseRequestedBeforeTaskStarted => {
                record.workflow_task = None;
            }
            A::WorkflowTaskTimedOutEventAttributes(a) if a.timeout_type() == TimeoutType::ScheduleToStart => {
                record.workflow_task = None;
            }
            failed @ (A::WorkflowTaskFailedEventAttributes(_) | A::WorkflowTaskTimedOutEventAttributes(_)) => {
                record.set_last_task_failure(match failed {
                    A::WorkflowTaskFailedEventAttributes(a) => a.cause(),
                    _ => Cause::Unspecified,
                });
                // The next attempt is pending, though no event tells of it.
                record.workflow_task = Some(WorkflowTaskRecord { attempt: 1, scheduled_ns: at, ..Default::default() });
                record.failed_tasks += 1;
            }
            A::StartChildWorkflowExecutionInitiatedEventAttributes(a) => {
                self.children.insert(id, children::initiated(id, &a));
                self.initiated.insert(id, Initiated::Child(Box::new(a), event.user_metadata));
            }
            other => self.take_item(tx, id, at, other),
        }
    }

    /// What became of messages to other workflows.
    fn take_relative(&mut self, id: i64, attributes: A) {
        match attributes {
            A::StartChildWorkflowExecutionFailedEventAttributes(a) => {
                self.children.remove(&a.initiated_event_id);
                self.initiated.remove(&a.initiated_event_id);
            }
            A::ChildWorkflowExecutionStartedEventAttributes(a) => {
                self.initiated.remove(&a.initiated_event_id);
                if let Some(child) = self.children.get_mut(&a.initiated_event_id) {
                    child.run_id = a.workflow_execution.unwrap_or_default().run_id;
                    child.started_event_id = id;
                }
            }
            A::SignalExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.initiated.insert(id, Initiated::Signal(Box::new(a)));
            }
            A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(a) => {
                self.initiated.insert(id, Initiated::Cancel(a));
            }
            A::SignalExternalWorkflowExecutionFailedEventAttributes(a) => {
                self.initiated.remove(&a.initiated_event_id);
            }
            A::ExternalWorkflowExecutionSignaledEventAttributes(a) => {
                self.initiated.remove(&a.initiated_event_id);
            }
            A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(a) => {
                self.initiated.remove(&a.initiated_event_id);
            }
            A::ExternalWorkflowExecutionCancelRequestedEventAttributes(a) => {
                self.initiated.remove(&a.initiated_event_id);
            }
            _ => {}
        }
    }

    fn take_item(&mut self, tx: &Transaction<'_>, id: i64, at: i64, attributes: A) {
        let record = &mut self.run.record;
        match attributes {
            A::ActivityTaskScheduledEventAttributes(a) => {
                let mut activity = activities::scheduled(at, &a);
                activity.scheduled_event_id = id;
                self.activities.insert(id, activity);
            }
            A::ActivityTaskCancelRequestedEventAttributes(a) => {
                if let Some(activity) = self.activities.get_mut(&a.scheduled_event_id) {
                    activity.cancel_requested = true;
                    activity.cancel_requested_event_id = id;
                }
            }
            A::TimerStartedEventAttributes(a) => {
                let due_ns = at.saturating_add(nanos(a.start_to_fire_timeout.as_ref()));
                let timer = UserTimerRecord { timer_id: a.timer_id, started_event_id: id, due_ns };
                self.timers.insert(id, timer);
            }
            A::TimerFiredEventAttributes(a) => {
                self.timers.remove(&a.started_event_id);
            }
            A::TimerCanceledEventAttributes(a) => {
                self.timers.remove(&a.started_event_id);
            }
            A::WorkflowExecutionSignaledEventAttributes(_) => {
                // The new run does not know the request ids of signals. (Recorded.)
                record.signal_count += 1;
            }
            A::WorkflowExecutionCancelRequestedEventAttributes(_) => record.cancel_requested = true,
            A::WorkflowExecutionOptionsUpdatedEventAttributes(a) => {
                crate::options::take(tx, &mut self.run, &a);
                self.request_ids.push((a.attached_request_id, EventType::WorkflowExecutionOptionsUpdated, id));
            }
            A::WorkflowExecutionPausedEventAttributes(a) => pause::take_paused(&mut self.run, at, &a),
            A::WorkflowExecutionUnpausedEventAttributes(_) => pause::take_unpaused(&mut self.run),
            A::UpsertWorkflowSearchAttributesEventAttributes(a) => {
                let fields = a.search_attributes.unwrap_or_default();
                search_attributes::merge(tx, &mut self.run, &fields);
            }
            A::WorkflowPropertiesModifiedEventAttributes(a) => {
                let memo = &mut self.run.details_mut(tx).memo;
                search_attributes::merge_memo(memo, &a.upserted_memo.unwrap_or_default());
            }
            A::WorkflowExecutionUpdateAdmittedEventAttributes(_)
            | A::WorkflowExecutionUpdateAcceptedEventAttributes(_)
            | A::WorkflowExecutionUpdateCompletedEventAttributes(_) => self.take_update(id, attributes),
            other => self.take_relative(id, other),
        }
    }

    fn take_update(&mut self, id: i64, attributes: A) {
        let record = &mut self.run.record;
        match attributes {
            A::WorkflowExecutionUpdateAdmittedEventAttributes(a) => {
                let update_id = updates::id_of(a.request.as_ref()).to_string();
                self.updates.entry(update_id).or_default().admitted_event_id = id;
            }
            A::WorkflowExecutionUpdateAcceptedEventAttributes(a) => {
                self.updates.entry(a.protocol_instance_id).or_default().accepted_event_id = id;
                record.open_update_count += 1;
            }
            A::WorkflowExecutionUpdateCompletedEventAttributes(a) => {
                let known = self.updates.values_mut().find(|update| update.accepted_event_id == a.accepted_event_id);
                if let Some(update) = known {
                    update.completed_event_id = id;
                    update.completed_batch_event_id = self.batch_event_id;
                }
                record.open_update_count -= 1;
            }
            _ => {}
        }
        record.update_count = self.updates.len() as i64;
    }
}

/// The run as its first event describes it, begun now: its time-out counts anew, that of the chain does not.
fn begun(tx: &Transaction<'_>, id: RunId, started: &StartedAttributes) -> Run {
    let record = lifecycle::record_of(id, started, tx.now(), 0);
    let mut details = lifecycle::details_of(tx, id, started);
    details.original_execution_run_id.clone_from(&started.original_execution_run_id);
    Run::new(id, record, details)
}
