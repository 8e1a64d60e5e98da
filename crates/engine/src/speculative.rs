//! Speculative workflow tasks: tasks for updates alone, which leave no trace if the worker rejects all of them.
//!
//! Such a task lives in the leader's memory. Its Scheduled and Started events are foreseen from its record, and written with the
//! times and sizes that the worker was shown: when it completes with more than rejections, when it fails, or just before an event
//! from outside, which makes a normal task of it. A command carries the record of the task that its leader holds; apply believes
//! it only if it fits the run: nothing was written since, and no later task is over. (Reference §2.4.)

use mainstay_api::log::{self, Reply, WorkflowTaskStarted};
use mainstay_api::record::{RunRecord, WorkflowTaskRecord};
use mainstay_api::temporal::enums::v1::{TimeoutType, WorkflowExecutionStatus as Status};
use mainstay_base::Timestamp;

use crate::run::Run;
use crate::store::EntityKey;
use crate::suggest::SuggestFrom;
use crate::transaction::Transaction;
use crate::workflow_task::{self, Starter};
use crate::{Answer, Note, empty, lifecycle};

/// Schedules a speculative task, or answers none: the run is not open, or has a task already. A run that still waits for its first
/// task has none.
#[must_use]
pub fn schedule(record: &RunRecord, id: u64, now: Timestamp) -> Option<WorkflowTaskRecord> {
    let ready = record.status() == Status::Running && record.workflow_task.is_none();
    let task = || workflow_task::new_task(record, now.as_nanos(), 1);
    ready.then(|| WorkflowTaskRecord { speculative_id: id, scheduled_event_id: record.next_event_id, ..task() })
}

/// Who takes a speculative task.
#[derive(Clone, Copy, Debug)]
pub struct Taker<'a> {
    /// The worker.
    pub identity: &'a str,
    /// Of its poll.
    pub request_id: &'a str,
    /// It has the workflow cached, and is sent only what is new.
    pub sticky: bool,
}

/// Starts a scheduled speculative task, and answers what its worker is told.
pub fn start(
    entity: &EntityKey,
    record: &RunRecord,
    task: &mut WorkflowTaskRecord,
    taker: &Taker<'_>,
    now: Timestamp,
    suggest_from: &SuggestFrom,
) -> WorkflowTaskStarted {
    task.left_sticky = task.sticky && !taker.sticky;
    task.started_event_id = task.scheduled_event_id + 1;
    let starter =
        Starter { identity: taker.identity, request_id: taker.request_id, sticky: taker.sticky, worker: None };
    workflow_task::note_start(record, task, &starter, now.as_nanos(), suggest_from);
    workflow_task::describe_task(entity, record, task, taker.sticky)
}

/// Whether a task fits the run as it is now.
#[must_use]
pub fn fits(record: &RunRecord, task: &WorkflowTaskRecord) -> bool {
    record.close_ns == 0
        && record.workflow_task.is_none()
        && task.speculative_id > record.ended_speculative_id
        && task.scheduled_event_id == record.next_event_id
}

/// Puts the speculative task of a run into its record, if it fits: from then on it is the pending one.
pub(crate) fn adopt(tx: &Transaction<'_>, record: &mut RunRecord) {
    let held = tx.speculative.iter().find(|held| held.run_id == record.run_id);
    if let Some(task) = held.and_then(|held| held.task.as_ref()).filter(|task| fits(record, task)) {
        record.workflow_task = Some(task.clone());
    }
}

/// The pending task, if it is speculative.
pub(crate) fn pending(run: &Run) -> Option<&WorkflowTaskRecord> {
    run.record.workflow_task.as_ref().filter(|task| task.speculative_id != 0)
}

/// The task is over, or normal from now on: no command brings it back.
pub(crate) fn end(run: &mut Run, task: &mut WorkflowTaskRecord) {
    if task.speculative_id != 0 {
        run.record.ended_speculative_id = task.speculative_id;
        task.speculative_id = 0;
        if task.left_sticky {
            workflow_task::clear_sticky(run);
        }
    }
}

/// Writes what is foreseen of a speculative task, which is a normal one from then on. A run that waited for its first task waits no
/// longer.
pub(crate) fn make_normal(tx: &mut Transaction<'_>, run: &mut Run) {
    let Some(task) = write(tx, run) else { return };
    let started = task.started_event_id != 0;
    run.record.workflow_task = Some(task);
    if started { workflow_task::arm_started(tx, run) } else { workflow_task::dispatch(tx, run) }
}

/// Writes what is foreseen of a speculative task, and takes it out of the run.
fn write(tx: &mut Transaction<'_>, run: &mut Run) -> Option<WorkflowTaskRecord> {
    pending(run)?;
    let mut task = run.record.workflow_task.take()?;
    if task.started_event_id == 0 {
        end(run, &mut task);
        let scheduled = workflow_task::scheduled_event(&run.record, &task);
        task.scheduled_event_id = run.write_at(tx, scheduled, task.scheduled_ns);
        lifecycle::end_backoff(tx, run);
    } else {
        workflow_task::write_start(tx, run, &mut task, "", None);
    }
    Some(task)
}

/// Forgets a task that no worker has.
pub(crate) fn discard(run: &mut Run) {
    if pending(run).is_some_and(|task| task.started_event_id == 0)
        && let Some(mut task) = run.record.workflow_task.take()
    {
        end(run, &mut task);
    }
}

/// Ends a speculative task that drops without a trace. Answers the event that the worker goes back to.
pub(crate) fn drop_completed(run: &mut Run, mut task: WorkflowTaskRecord) -> i64 {
    end(run, &mut task);
    run.record.last_completed_started_event_id
}

/// The task was not started, or not completed, in time: that is written, and a normal task follows.
pub(crate) fn time_out(tx: &mut Transaction<'_>, command: &log::TimeOutSpeculativeTask) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &command.run_id)?;
    let due = |task: &WorkflowTaskRecord| {
        task.speculative_id == command.speculative_id && (task.started_event_id != 0) == command.started
    };
    if !pending(&run).is_some_and(due) {
        return Ok(empty());
    }
    let Some(task) = write(tx, &mut run) else { return Ok(empty()) };
    let started = task.started_event_id != 0;
    let kind = if started { TimeoutType::StartToClose } else { TimeoutType::ScheduleToStart };
    tx.notes.push(Note::WorkflowTaskTimedOut { namespace_id: tx.entity.namespace_id.clone(), kind });
    workflow_task::end_timed_out(tx, &mut run, &task, kind);
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(empty())
}
