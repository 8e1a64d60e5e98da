//! The workflow task of a run: scheduled, started, failed, timed out. At most one is pending.
//!
//! Attempt 1 is *normal*: its Scheduled and Started events are in history before a worker sees it. Later attempts are
//! *transient*: nothing is written until they complete, only their ids are foreseen; if another event arrives before they start,
//! they become normal again. (Reference §2.3.)

use mainstay_api::log::{self, Reply, TaskToken, WorkflowTaskStarted, reply, task_token};
use mainstay_api::record::{RunRecord, TaskRow, TimerRow, WorkflowTaskRecord, task_row, timer_row};
use mainstay_api::temporal::common::v1::{WorkerVersionStamp, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{TaskQueueKind, TimeoutType, WorkflowTaskFailedCause as Cause};
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::history::v1::{
    WorkflowTaskFailedEventAttributes, WorkflowTaskScheduledEventAttributes, WorkflowTaskStartedEventAttributes,
    WorkflowTaskTimedOutEventAttributes,
};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1::PollWorkflowTaskQueueResponse;
use prost::Message;

use crate::convert::{duration, given, time};
use crate::event::{Attributes, NewEvent};
use crate::pause::is_paused;
use crate::run::Run;
use crate::store::EntityKey;
use crate::suggest::SuggestFrom;
use crate::transaction::Transaction;
use crate::{Answer, Error, Note, empty, reply_of};
use crate::{commands, lifecycle, search_attributes, speculative, updates, worker_build};

const SECOND: i64 = 1_000_000_000;
/// From this attempt on the time-out handed out grows: the only back-off of failing tasks.
const GROWING_FROM_ATTEMPT: i32 = 4;
/// From so many failures without a success in between on they are shown in the list of runs.
const REPORTED_FROM: i32 = 5;
const GROWTH_FIRST: i64 = 5 * SECOND;
const GROWTH_MAX: i64 = 600 * SECOND;

/// A normal task queue as events show it.
pub(crate) fn normal_queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue { name: name.to_string(), kind: TaskQueueKind::Normal as i32, normal_name: String::new() })
}

/// Schedules a workflow task after an event from outside, unless one is pending or the run still waits for its first.
pub(crate) fn wake(tx: &mut Transaction<'_>, run: &mut Run) -> Answer<()> {
    let held = run.record.first_task_backoff || run.record.awaits_parent;
    if run.record.workflow_task.is_some() || held || !run.is_open() {
        return Ok(());
    }
    if is_paused(run) {
        // What waited for the task that just closed waits no longer; the next task comes when the run goes on.
        run.flush_buffer(tx)?;
        return Ok(());
    }
    schedule(tx, run, 0)
}

/// Ends a task that nobody has started, because the run is being paused: another one is scheduled when it goes on. (Recorded.)
pub(crate) fn end_unstarted(tx: &mut Transaction<'_>, run: &mut Run) {
    if run.record.workflow_task.as_ref().is_none_or(|task| task.started_event_id != 0) {
        return;
    }
    let Some(task) = take(tx, run) else { return };
    // A later attempt has no event of its own, nor has one that was only made for an update.
    if task.attempt == 1 && task.speculative_id == 0 {
        let attributes = WorkflowTaskFailedEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            cause: Cause::WorkflowPauseRequestedBeforeTaskStarted as i32,
            identity: "history-service".into(),
            ..WorkflowTaskFailedEventAttributes::default()
        };
        run.write(tx, Attributes::WorkflowTaskFailedEventAttributes(attributes));
    }
    clear_sticky(run);
    run.record.next_task_attempt = 1;
}

/// Schedules a workflow task and makes it dispatchable. `streak_start` is the first scheduled time of a heartbeat streak, or 0.
pub(crate) fn schedule(tx: &mut Transaction<'_>, run: &mut Run, streak_start: i64) -> Answer<()> {
    schedule_undispatched(tx, run, streak_start)?;
    dispatch(tx, run);
    Ok(())
}

/// Schedules a workflow task without a task row: the caller starts it in the same transition.
pub(crate) fn schedule_undispatched(tx: &mut Transaction<'_>, run: &mut Run, streak_start: i64) -> Answer<()> {
    if run.flush_buffer(tx)? && run.record.next_task_attempt > 1 {
        run.record.next_task_attempt = 1;
    }
    let attempt = run.record.next_task_attempt.max(1);
    let mut task = new_task(&run.record, tx.now(), attempt);
    if streak_start != 0 {
        task.original_scheduled_ns = streak_start;
    }
    task.scheduled_event_id = if attempt == 1 {
        let event = scheduled_event(&run.record, &task);
        run.write(tx, event)
    } else {
        run.record.next_event_id
    };
    run.record.workflow_task = Some(task);
    Ok(())
}

/// A task that is scheduled now, without an event id.
pub(crate) fn new_task(record: &RunRecord, now: i64, attempt: i32) -> WorkflowTaskRecord {
    let sticky = !record.sticky_queue.is_empty();
    WorkflowTaskRecord {
        attempt,
        scheduled_ns: now,
        original_scheduled_ns: now,
        timeout_ns: task_timeout(record, attempt),
        task_queue: queue_of_next(record).to_string(),
        sticky,
        ..WorkflowTaskRecord::default()
    }
}

/// The queue that a workflow task goes to if it is scheduled now.
pub(crate) fn queue_of_next(record: &RunRecord) -> &str {
    if record.sticky_queue.is_empty() { &record.task_queue } else { &record.sticky_queue }
}

fn task_timeout(record: &RunRecord, attempt: i32) -> i64 {
    let base = record.task_timeout_ns;
    if attempt < GROWING_FROM_ATTEMPT {
        return base;
    }
    let doublings = u32::try_from(attempt - GROWING_FROM_ATTEMPT).unwrap_or(0).min(10);
    base.saturating_add((GROWTH_FIRST << doublings).min(GROWTH_MAX))
}

pub(crate) fn scheduled_event(record: &RunRecord, task: &WorkflowTaskRecord) -> NewEvent {
    let queue = if task.sticky {
        Some(TaskQueue {
            name: task.task_queue.clone(),
            kind: TaskQueueKind::Sticky as i32,
            normal_name: record.task_queue.clone(),
        })
    } else {
        normal_queue(&record.task_queue)
    };
    NewEvent::from(Attributes::WorkflowTaskScheduledEventAttributes(WorkflowTaskScheduledEventAttributes {
        task_queue: queue,
        start_to_close_timeout: duration(record.task_timeout_ns),
        attempt: task.attempt,
    }))
}

/// `worker` is the code that takes the task, if that is known already.
pub(crate) fn started_event(task: &WorkflowTaskRecord, worker: Option<WorkerVersionStamp>) -> NewEvent {
    #[allow(deprecated)]
    let attributes = WorkflowTaskStartedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        identity: task.identity.clone(),
        request_id: task.poll_request_id.clone(),
        suggest_continue_as_new: !task.suggest_reasons.is_empty(),
        suggest_continue_as_new_reasons: task.suggest_reasons.clone(),
        history_size_bytes: task.history_size_bytes,
        worker_version: worker,
        ..WorkflowTaskStartedEventAttributes::default()
    };
    NewEvent::from(Attributes::WorkflowTaskStartedEventAttributes(attributes))
}

/// Gives the pending task a row that matching offers, and a sticky one its schedule-to-start timer.
pub(crate) fn dispatch(tx: &mut Transaction<'_>, run: &mut Run) {
    let sequence = tx.next_task_sequence();
    let due = tx.now().saturating_add(run.record.sticky_timeout_ns);
    let Some(task) = run.record.workflow_task.as_mut() else { return };
    task.task_sequence = sequence;
    let sticky_timer = task.sticky && run.record.sticky_timeout_ns > 0;
    if sticky_timer {
        task.timer_ns = due;
    }
    let task = task.clone();
    tx.add_task(task_row(tx, run, &task));
    if sticky_timer {
        tx.add_timer(timer_row(tx, run, &task));
    }
}

fn task_row(tx: &Transaction<'_>, run: &Run, task: &WorkflowTaskRecord) -> TaskRow {
    let priority = given(&run.record.priority);
    TaskRow {
        kind: task_row::Kind::Workflow as i32,
        namespace_id: tx.entity.namespace_id.clone(),
        task_queue: task.task_queue.clone(),
        sequence: task.task_sequence,
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        scheduled_event_id: task.scheduled_event_id,
        attempt: task.attempt,
        created_ns: tx.now(),
        sticky: task.sticky,
        normal_queue: if task.sticky { run.record.task_queue.clone() } else { String::new() },
        priority: priority.priority_key,
        fairness_key: priority.fairness_key.clone(),
        fairness_weight: priority.fairness_weight,
    }
}

fn timer_row(tx: &Transaction<'_>, run: &Run, task: &WorkflowTaskRecord) -> TimerRow {
    TimerRow {
        due_ns: task.timer_ns,
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        kind: timer_row::Kind::WorkflowTask as i32,
        id: task.scheduled_event_id,
    }
}

/// Removes the pending task's index rows, when the run closes; the record keeps what was pending.
pub(crate) fn withdraw(tx: &mut Transaction<'_>, run: &mut Run) {
    if let Some(task) = run.record.workflow_task.take() {
        remove_rows(tx, run, &task);
        run.record.workflow_task = Some(task);
    }
}

/// Takes the pending task out of the run, with its task and timer rows.
pub(crate) fn take(tx: &mut Transaction<'_>, run: &mut Run) -> Option<WorkflowTaskRecord> {
    let task = run.record.workflow_task.take()?;
    remove_rows(tx, run, &task);
    run.record.close_attempted = false;
    Some(task)
}

fn remove_rows(tx: &mut Transaction<'_>, run: &Run, task: &WorkflowTaskRecord) {
    if task.task_sequence != 0 && task.started_event_id == 0 {
        tx.remove_task(task_row(tx, run, task));
    }
    if task.timer_ns != 0 {
        tx.remove_timer(timer_row(tx, run, task));
    }
}

/// Who starts a task, and how.
pub(crate) struct Starter<'a> {
    pub(crate) identity: &'a str,
    pub(crate) request_id: &'a str,
    /// The worker has the workflow cached: it is sent only what is new.
    pub(crate) sticky: bool,
    /// The worker's code.
    pub(crate) worker: Option<WorkerVersionStamp>,
}

/// The answer about a task that is over, or never was.
fn gone() -> Error {
    Error::not_found("Workflow task not found.")
}

/// Whether a worker's answer was refused for the task's being over: it says nothing of the run then.
#[must_use]
pub fn is_gone(refusal: &Error) -> bool {
    *refusal == gone()
}

/// A poller takes the task that its row offered.
pub(crate) fn start_polled(tx: &mut Transaction<'_>, command: &log::StartWorkflowTask) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &command.run_id)?;
    let task = run.record.workflow_task.as_ref().ok_or_else(gone)?;
    let poll = given(&command.poll);
    let queue = given(&poll.task_queue);
    let sticky_poll = queue.kind() == TaskQueueKind::Sticky;
    if task.started_event_id != 0 {
        let same = !command.poll_request_id.is_empty() && task.poll_request_id == command.poll_request_id;
        if !same {
            return Err(gone().into());
        }
        let started = describe_started(tx, &run, sticky_poll);
        return Ok(reply_of(reply::Reply::WorkflowTaskStarted(started)));
    }
    if task.task_sequence != command.task_sequence || (sticky_poll && run.record.sticky_queue != queue.name) {
        return Err(gone().into());
    }
    if !sticky_poll {
        clear_sticky(&mut run);
    }
    let (identity, request_id) = (poll.identity.as_str(), command.poll_request_id.as_str());
    let starter = Starter { identity, request_id, sticky: sticky_poll, worker: worker_build::of_poll(&poll) };
    let started = start(tx, &mut run, &starter)?;
    run.save(tx);
    Ok(reply_of(reply::Reply::WorkflowTaskStarted(started)))
}

/// Starts the pending task: its rows go, its Started event is written (normal) or foreseen (transient), its time-out is armed.
pub(crate) fn start(tx: &mut Transaction<'_>, run: &mut Run, starter: &Starter<'_>) -> Answer<WorkflowTaskStarted> {
    let Some(mut task) = run.record.workflow_task.take() else {
        return Err(gone().into());
    };
    remove_rows(tx, run, &task);
    if task.attempt > 1 && task.scheduled_event_id != run.record.next_event_id {
        task.attempt = 1;
        task.scheduled_event_id = run.write(tx, scheduled_event(&run.record, &task));
        run.record.next_task_attempt = 1;
    }
    note_start(&run.record, &mut task, starter, tx.now(), &tx.context.suggest_from);
    updates::seen(run);
    if task.attempt == 1 {
        task.started_event_id = run.write(tx, started_event(&task, starter.worker.clone()));
        run.end_batch();
    } else {
        task.started_event_id = task.scheduled_event_id + 1;
    }
    run.record.workflow_task = Some(task);
    arm_started(tx, run);
    Ok(describe_started(tx, run, starter.sticky))
}

/// Notes in a task's record who started it, when, and how large the history is that it begins with.
pub(crate) fn note_start(
    record: &RunRecord,
    task: &mut WorkflowTaskRecord,
    starter: &Starter<'_>,
    now: i64,
    suggest_from: &SuggestFrom,
) {
    task.task_sequence = 0;
    task.started_ns = now;
    task.identity = starter.identity.to_string();
    task.poll_request_id = starter.request_id.to_string();
    task.history_size_bytes = record.history_size_bytes;
    task.suggest_reasons = suggest_from.reasons(record);
}

/// Arms the time-out of the started task.
pub(crate) fn arm_started(tx: &mut Transaction<'_>, run: &mut Run) {
    let Some(task) = run.record.workflow_task.as_mut() else { return };
    task.timer_ns = task.started_ns.saturating_add(task.timeout_ns);
    let task = task.clone();
    tx.add_timer(timer_row(tx, run, &task));
}

/// What a worker is told of the started task.
pub(crate) fn describe_started(tx: &Transaction<'_>, run: &Run, sticky: bool) -> WorkflowTaskStarted {
    describe_task(&tx.entity, &run.record, &given(&run.record.workflow_task), sticky)
}

/// What a worker is told of a started task of this run.
pub(crate) fn describe_task(
    entity: &EntityKey,
    r: &RunRecord,
    task: &WorkflowTaskRecord,
    sticky: bool,
) -> WorkflowTaskStarted {
    let previous = r.last_completed_started_event_id;
    WorkflowTaskStarted {
        token: Some(token(entity, r, task)),
        response: Some(Box::new(PollWorkflowTaskQueueResponse {
            workflow_execution: Some(WorkflowExecution {
                workflow_id: entity.workflow_id.clone(),
                run_id: r.run_id.clone(),
            }),
            workflow_type: Some(WorkflowType { name: r.workflow_type.clone() }),
            previous_started_event_id: previous,
            started_event_id: task.started_event_id,
            attempt: task.attempt,
            workflow_execution_task_queue: normal_queue(&r.task_queue),
            scheduled_time: time(task.scheduled_ns),
            started_time: time(task.started_ns),
            ..PollWorkflowTaskQueueResponse::default()
        })),
        first_event_id: if sticky { previous + 1 } else { 1 },
        next_event_id: if is_written(task) { task.started_event_id + 1 } else { r.next_event_id },
        unwritten_events: unwritten_events(r, task),
    }
}

/// Whether a task's events are in history: those of a transient or speculative one are not.
fn is_written(task: &WorkflowTaskRecord) -> bool {
    task.attempt <= 1 && task.speculative_id == 0
}

/// The encoded Scheduled and Started events of a pending transient or speculative task, as a reader of history is shown them: without the
/// worker's identity. A task that is only scheduled gives one. Empty for a normal task and for a closed run.
pub fn unwritten(record: &mainstay_api::record::RunRecord) -> Vec<bytes::Bytes> {
    if record.close_ns != 0 {
        return Vec::new();
    }
    // An event that arrived before the task started makes it normal again; until then there is nothing to show.
    let foreseen = |task: &&WorkflowTaskRecord| task.scheduled_event_id == record.next_event_id;
    let Some(task) = record.workflow_task.as_ref().filter(foreseen) else { return Vec::new() };
    let task = WorkflowTaskRecord { identity: String::new(), ..task.clone() };
    unwritten_events(record, &task)
}

fn unwritten_events(record: &RunRecord, task: &WorkflowTaskRecord) -> Vec<bytes::Bytes> {
    if is_written(task) {
        return Vec::new();
    }
    let scheduled = scheduled_event(record, task).into_event(task.scheduled_event_id, task.scheduled_ns, 0);
    let mut events = vec![scheduled.encode_to_vec().into()];
    if task.started_event_id != 0 {
        let started = started_event(task, None).into_event(task.started_event_id, task.started_ns, 0);
        events.push(started.encode_to_vec().into());
    }
    events
}

fn token(entity: &EntityKey, record: &RunRecord, task: &WorkflowTaskRecord) -> TaskToken {
    TaskToken {
        kind: task_token::Kind::WorkflowTask as i32,
        namespace_id: entity.namespace_id.clone(),
        workflow_id: entity.workflow_id.clone(),
        run_id: record.run_id.clone(),
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        attempt: task.attempt,
        started_ns: task.started_ns,
        ..TaskToken::default()
    }
}

/// Whether a token names the task that is started now.
pub(crate) fn check_token(run: &Run, token: &TaskToken) -> Answer<()> {
    let matches = run.record.workflow_task.as_ref().is_some_and(|task| {
        task.started_event_id != 0
            && task.scheduled_event_id == token.scheduled_event_id
            && task.started_event_id == token.started_event_id
            && task.attempt == token.attempt
            && task.started_ns == token.started_ns
    });
    if matches { Ok(()) } else { Err(gone().into()) }
}

/// Writes the events of a started task that has none yet, as its worker was shown them: a replay must see the same times.
pub(crate) fn write_start(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    task: &mut WorkflowTaskRecord,
    identity: &str,
    worker: Option<WorkerVersionStamp>,
) {
    if is_written(task) {
        return;
    }
    task.identity = identity.to_string();
    task.scheduled_event_id = run.write_at(tx, scheduled_event(&run.record, task), task.scheduled_ns);
    task.started_event_id = run.write_at(tx, started_event(task, worker), task.started_ns);
    run.end_batch();
    speculative::end(run, task);
    // An update does not wait for a delayed start.
    lifecycle::end_backoff(tx, run);
}

pub(crate) fn clear_sticky(run: &mut Run) {
    run.record.sticky_queue.clear();
    run.record.sticky_timeout_ns = 0;
}

/// Why and how a started task failed.
pub(crate) struct TaskFailure {
    pub(crate) cause: Cause,
    pub(crate) failure: Option<Failure>,
    pub(crate) identity: String,
}

/// Fails the started task: the first failure of a streak is an event, the others only count.
pub(crate) fn fail(tx: &mut Transaction<'_>, run: &mut Run, failure: TaskFailure) {
    let Some(mut task) = take(tx, run) else { return };
    if task.attempt == 1 {
        write_start(tx, run, &mut task, &failure.identity, None);
        let attributes = WorkflowTaskFailedEventAttributes {
            scheduled_event_id: task.scheduled_event_id,
            started_event_id: task.started_event_id,
            cause: failure.cause as i32,
            failure: failure.failure,
            identity: failure.identity,
            ..WorkflowTaskFailedEventAttributes::default()
        };
        run.write(tx, Attributes::WorkflowTaskFailedEventAttributes(attributes));
        run.record.set_last_task_failure(failure.cause);
    }
    count_failure(tx, run, &task);
}

/// With a sticky worker the next attempt is a normal one on the normal queue; without, the attempt counts up.
fn count_failure(tx: &Transaction<'_>, run: &mut Run, task: &WorkflowTaskRecord) {
    if run.record.sticky_queue.is_empty() {
        run.record.failed_tasks = run.record.failed_tasks.saturating_add(1);
        run.record.next_task_attempt = task.attempt.saturating_add(1);
    } else {
        clear_sticky(run);
        run.record.next_task_attempt = 1;
    }
    report(tx, run);
}

/// Shows in the run's search attributes that its tasks fail again and again, and the last failure that history tells of.
pub(crate) fn report(tx: &Transaction<'_>, run: &mut Run) {
    if run.record.failed_tasks >= REPORTED_FROM {
        let problem = match run.record.last_task_failure() {
            Cause::Unspecified => ("WorkflowTaskTimedOut", "WorkflowTaskTimedOutCauseStartToClose".to_string()),
            cause => ("WorkflowTaskFailed", format!("WorkflowTaskFailedCause{}", commands::camel(cause))),
        };
        search_attributes::set_problems(tx, run, Some(problem));
    }
}

/// A worker reports that it cannot complete its task.
pub(crate) fn fail_by_worker(tx: &mut Transaction<'_>, command: &log::FailWorkflowTask) -> Answer<Reply> {
    let (token, request) = (given(&command.token), given(&command.request));
    let mut run = Run::load_open(tx, &token.run_id)?;
    check_token(&run, &token)?;
    let too_large = request.cause() == Cause::GrpcMessageTooLarge;
    if too_large {
        lifecycle::terminate(tx, &mut run, lifecycle::Termination::by_history("GrpcMessageTooLarge"))?;
    } else {
        let failure = TaskFailure {
            cause: request.cause(),
            failure: request.failure.clone(),
            identity: request.identity.clone(),
        };
        fail(tx, &mut run, failure);
        updates::seen(&mut run);
        wake(tx, &mut run)?;
    }
    run.save(tx);
    Ok(empty())
}

/// The task's timer fired: the sticky worker did not come, or the worker did not answer. Answers whether a new task is due.
pub(crate) fn time_out(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerRow) -> Answer<bool> {
    let armed = run
        .record
        .workflow_task
        .as_ref()
        .is_some_and(|task| task.timer_ns == row.due_ns && task.scheduled_event_id == row.id);
    if !armed {
        return Ok(false);
    }
    let Some(task) = take(tx, run) else { return Ok(false) };
    let started = task.started_event_id != 0;
    let kind = if started { TimeoutType::StartToClose } else { TimeoutType::ScheduleToStart };
    tx.notes.push(Note::WorkflowTaskTimedOut { namespace_id: tx.entity.namespace_id.clone(), kind });
    end_timed_out(tx, run, &task, kind);
    Ok(true)
}

/// Records a time-out, and what follows from it for the next task.
pub(crate) fn end_timed_out(tx: &Transaction<'_>, run: &mut Run, task: &WorkflowTaskRecord, kind: TimeoutType) {
    write_time_out(tx, run, task, kind);
    if kind == TimeoutType::StartToClose {
        count_failure(tx, run, task);
    } else {
        clear_sticky(run);
    }
}

/// Records that a task timed out; later attempts of a streak write nothing.
pub(crate) fn write_time_out(tx: &Transaction<'_>, run: &mut Run, task: &WorkflowTaskRecord, kind: TimeoutType) {
    if task.attempt > 1 {
        return;
    }
    let attributes = WorkflowTaskTimedOutEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        timeout_type: kind as i32,
    };
    run.write(tx, Attributes::WorkflowTaskTimedOutEventAttributes(attributes));
    if kind == TimeoutType::StartToClose {
        run.record.set_last_task_failure(Cause::Unspecified);
    }
}

/// The worker has lost its cache: the next task goes to the normal queue.
pub(crate) fn reset_sticky(tx: &mut Transaction<'_>, command: &log::ResetStickyTaskQueue) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &command.run_id)?;
    clear_sticky(&mut run);
    run.save(tx);
    Ok(empty())
}
