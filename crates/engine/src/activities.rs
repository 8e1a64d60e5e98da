//! Activities: started by a poll, closed by their worker, by a client, or by one of four time-outs; retried by policy.
//!
//! The Started event is written only when the activity closes for good, beside the close event: attempts that are retried leave no
//! trace in history. Each activity has at most one row in the timer index, at its earliest deadline; a heartbeat moves nothing,
//! the row is armed again when it fires early. (Reference §2.6.)
//!
//! An attempt has at least [`ATTEMPT_TIME_MIN_NS`] before its start-to-close or heartbeat time-out is looked at, as with Temporal,
//! whose timers below a second come up to a second late: a worker that is told of a time-out has then had the time to do
//! something.

use mainstay_api::log::{
    self, ActivityTarget, ActivityTaskStarted, Reply, TaskToken, activity_target::Target, reply, task_token,
};
use mainstay_api::record::{ActivityRecord, TimerRow, timer_row};
use mainstay_api::temporal::common::v1::{
    ActivityType, Payloads, Priority, RetryPolicy, WorkerVersionStamp, WorkflowExecution, WorkflowType,
};
use mainstay_api::temporal::enums::v1::{RetryState, TimeoutType};
use mainstay_api::temporal::failure::v1::{Failure, TimeoutFailureInfo, failure::FailureInfo};
use mainstay_api::temporal::history::v1::{
    ActivityTaskCanceledEventAttributes, ActivityTaskCompletedEventAttributes, ActivityTaskFailedEventAttributes,
    ActivityTaskScheduledEventAttributes, ActivityTaskStartedEventAttributes, ActivityTaskTimedOutEventAttributes,
};
use mainstay_api::temporal::workflowservice::v1::{PollActivityTaskQueueResponse, RecordActivityTaskHeartbeatResponse};
use mainstay_base::limits;
use prost::Message;

use crate::activity_operations::forget_heartbeat;
use crate::convert::{deadline, decoded, duration, encoded, given, least, nanos, time};
use crate::event::Attributes;
use crate::lifecycle::activity_task_row;
use crate::pause::is_paused;
use crate::retry::{self, Decision};
use crate::run::Run;
use crate::store::Table;
use crate::transaction::{Transaction, named, numbered};
use crate::{Answer, Error, Note, empty, reply_of, workflow_task};

/// A failure kept between attempts is cut to about this many bytes.
const KEPT_FAILURE_SIZE_MAX: usize = 4 << 10;
/// Heartbeat details from this size on count into the size of the run's state, in bytes.
const COUNTED_DETAILS_SIZE_MIN: usize = 64 << 10;
/// A started attempt is not timed out sooner, however short its start-to-close or heartbeat time-out, in nanoseconds. Its
/// schedule-to-close time-out comes at its time.
const ATTEMPT_TIME_MIN_NS: i64 = 1_000_000_000;
const NO_TIME_FOR_RETRY: &str =
    "Not enough time to schedule next retry before activity ScheduleToClose timeout, giving up retrying";

fn gone() -> Error {
    Error::not_found("invalid activityID or activity already timed out or invoking workflow is completed")
}

/// Stores an activity.
pub(crate) fn put(tx: &mut Transaction<'_>, run: &Run, activity: &ActivityRecord) {
    tx.put(numbered(Table::Activity, run.id, activity.scheduled_event_id), activity);
}

/// The activity that a Scheduled event describes; its event id is yet to be set.
pub(crate) fn scheduled(now: i64, a: &ActivityTaskScheduledEventAttributes) -> ActivityRecord {
    ActivityRecord {
        activity_id: a.activity_id.clone(),
        activity_type: given(&a.activity_type).name.clone(),
        task_queue: given(&a.task_queue).name.clone(),
        scheduled_ns: now,
        attempt_scheduled_ns: now,
        attempt: 1,
        schedule_to_close_ns: nanos(a.schedule_to_close_timeout.as_ref()),
        schedule_to_start_ns: nanos(a.schedule_to_start_timeout.as_ref()),
        start_to_close_ns: nanos(a.start_to_close_timeout.as_ref()),
        heartbeat_ns: nanos(a.heartbeat_timeout.as_ref()),
        retry_policy: a.retry_policy.clone(),
        input: encoded(a.input.as_ref()),
        header: encoded(a.header.as_ref()),
        priority: a.priority.clone(),
        ..ActivityRecord::default()
    }
}

/// The activity's own priority, filled field by field from the workflow's.
pub(crate) fn priority(run: &Run, activity: &ActivityRecord) -> Option<Priority> {
    merged_priority(run.record.priority.as_ref(), activity.priority.as_ref())
}

/// An activity's or child's own priority, filled field by field from the workflow's.
pub(crate) fn merged_priority(workflow: Option<&Priority>, own: Option<&Priority>) -> Option<Priority> {
    let (Some(base), Some(own)) = (workflow, own) else { return own.or(workflow).cloned() };
    let mut priority = own.clone();
    if priority.priority_key == 0 {
        priority.priority_key = base.priority_key;
    }
    if priority.fairness_key.is_empty() {
        priority.fairness_key = base.fairness_key.clone();
    }
    if priority.fairness_weight == 0.0 {
        priority.fairness_weight = base.fairness_weight;
    }
    Some(priority)
}

/// Adds a pending activity.
pub(crate) fn add(tx: &mut Transaction<'_>, run: &mut Run, activity: &ActivityRecord) {
    let id_row = named(Table::ActivityId, run.id, &activity.activity_id);
    tx.put_bytes(id_row, activity.scheduled_event_id.to_be_bytes().to_vec().into());
    put(tx, run, activity);
    run.record.activity_count += 1;
}

/// The pending activity with this id.
pub(crate) fn by_id(tx: &Transaction<'_>, run: &Run, activity_id: &str) -> Answer<Option<ActivityRecord>> {
    let Some(id) = tx.get_bytes(&named(Table::ActivityId, run.id, activity_id))? else { return Ok(None) };
    let id = <[u8; 8]>::try_from(id.as_ref()).map(i64::from_be_bytes).unwrap_or_default();
    by_event(tx, run, id)
}

/// The pending activity scheduled by this event.
pub(crate) fn by_event(tx: &Transaction<'_>, run: &Run, scheduled_event_id: i64) -> Answer<Option<ActivityRecord>> {
    Ok(tx.get(&numbered(Table::Activity, run.id, scheduled_event_id))?)
}

/// Makes the activity dispatchable now, or as soon as its workflow is no longer paused.
pub(crate) fn dispatch(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord) {
    if is_held(run, activity) {
        return;
    }
    activity.task_sequence = tx.next_task_sequence();
    let row = activity_task_row(tx, run, activity);
    tx.add_task(row);
}

/// Makes the activity no longer dispatchable.
pub(crate) fn withdraw(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord) {
    if activity.task_sequence != 0 {
        let row = activity_task_row(tx, run, activity);
        tx.remove_task(row);
        activity.task_sequence = 0;
    }
}

/// Removes the rows that other parts of the shard see: its task and its timer.
pub(crate) fn remove_rows(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord) {
    withdraw(tx, run, activity);
    if activity.timer_ns != 0 {
        tx.remove_timer(timer(tx, run, activity));
        activity.timer_ns = 0;
    }
}

fn timer(tx: &Transaction<'_>, run: &Run, activity: &ActivityRecord) -> TimerRow {
    TimerRow {
        due_ns: activity.timer_ns,
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        kind: timer_row::Kind::Activity as i32,
        id: activity.scheduled_event_id,
    }
}

/// Whether the activity waits for its next attempt.
pub(crate) fn is_backing_off(run: &Run, activity: &ActivityRecord) -> bool {
    activity.started_ns == 0 && activity.task_sequence == 0 && !is_held(run, activity)
}

/// Whether the activity may not be dispatched: it is paused, or its workflow is.
pub(crate) fn is_held(run: &Run, activity: &ActivityRecord) -> bool {
    activity.pause.is_some() || is_paused(run)
}

/// When the earliest deadline is acted on, and what it means; 0 if there is none.
fn next_deadline(run: &Run, activity: &ActivityRecord) -> (i64, TimeoutType) {
    let close = deadline(activity.scheduled_ns, activity.schedule_to_close_ns);
    let candidates = if activity.started_ns == 0 {
        // A paused activity does not wait for a worker.
        let waits = if is_held(run, activity) { 0 } else { activity.schedule_to_start_ns };
        let start = deadline(activity.attempt_scheduled_ns, waits);
        [(start, TimeoutType::ScheduleToStart), (close, TimeoutType::ScheduleToClose), (0, TimeoutType::Unspecified)]
    } else {
        let alive = activity.started_ns.max(activity.last_heartbeat_ns);
        [
            (deadline(activity.started_ns, activity.start_to_close_ns), TimeoutType::StartToClose),
            (deadline(alive, activity.heartbeat_ns), TimeoutType::Heartbeat),
            (close, TimeoutType::ScheduleToClose),
        ]
    };
    let found = candidates.into_iter().filter(|(due, _)| *due != 0).min_by_key(|(due, _)| *due);
    let Some((due, kind)) = found else { return (0, TimeoutType::Unspecified) };
    if activity.started_ns == 0 {
        return (due, kind);
    }
    let late = due.max(activity.started_ns.saturating_add(ATTEMPT_TIME_MIN_NS));
    (if close == 0 { late } else { late.min(close) }, kind)
}

/// Puts the activity's timer row where it belongs.
pub(crate) fn arm(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord) {
    let due =
        if is_backing_off(run, activity) { activity.attempt_scheduled_ns } else { next_deadline(run, activity).0 };
    if due == activity.timer_ns {
        return;
    }
    if activity.timer_ns != 0 {
        tx.remove_timer(timer(tx, run, activity));
    }
    activity.timer_ns = due;
    if due != 0 {
        tx.add_timer(timer(tx, run, activity));
    }
}

/// A poller takes the activity that its row offered.
pub(crate) fn start_polled(tx: &mut Transaction<'_>, command: &log::StartActivityTask) -> Answer<Reply> {
    let run = Run::load_open(tx, &command.run_id)?;
    let mut activity = by_event(tx, &run, command.scheduled_event_id)?.ok_or_else(gone)?;
    let same_poll = !command.poll_request_id.is_empty() && activity.poll_request_id == command.poll_request_id;
    if activity.started_ns != 0 && same_poll {
        return Ok(reply_of(reply::Reply::ActivityTaskStarted(describe_started(tx, &run, &activity)?)));
    }
    if activity.started_ns != 0 || activity.task_sequence != command.task_sequence {
        return Err(gone().into());
    }
    let poll = given(&command.poll);
    start(tx, &run, &mut activity, &poll.identity, &command.poll_request_id);
    let started = describe_started(tx, &run, &activity)?;
    put(tx, &run, &activity);
    run.save(tx);
    Ok(reply_of(reply::Reply::ActivityTaskStarted(started)))
}

/// Starts an attempt.
pub(crate) fn start(
    tx: &mut Transaction<'_>,
    run: &Run,
    activity: &mut ActivityRecord,
    identity: &str,
    request_id: &str,
) {
    withdraw(tx, run, activity);
    activity.started_ns = tx.now();
    activity.identity = identity.to_string();
    activity.last_worker_identity = identity.to_string();
    activity.poll_request_id = request_id.to_string();
    arm(tx, run, activity);
}

/// What a worker is told of the started attempt.
pub(crate) fn describe_started(
    tx: &Transaction<'_>,
    run: &Run,
    activity: &ActivityRecord,
) -> Answer<ActivityTaskStarted> {
    let token = TaskToken {
        kind: task_token::Kind::ActivityTask as i32,
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        scheduled_event_id: activity.scheduled_event_id,
        attempt: activity.attempt,
        started_ns: activity.started_ns,
        activity_id: activity.activity_id.clone(),
        workflow_task_queue: workflow_task::queue_of_next(&run.record).to_string(),
        workflow_task_sticky: !run.record.sticky_queue.is_empty(),
        ..TaskToken::default()
    };
    // Changed time-outs hold inside the server; a worker is told those of the Scheduled event.
    let timeouts = match &activity.original_options {
        Some(original) => {
            [original.schedule_to_close_timeout, original.start_to_close_timeout, original.heartbeat_timeout]
        }
        None => [activity.schedule_to_close_ns, activity.start_to_close_ns, activity.heartbeat_ns].map(duration),
    };
    let response = PollActivityTaskQueueResponse {
        workflow_namespace: tx.namespace()?.name.clone(),
        workflow_type: Some(WorkflowType { name: run.record.workflow_type.clone() }),
        workflow_execution: Some(WorkflowExecution {
            workflow_id: tx.entity.workflow_id.clone(),
            run_id: run.record.run_id.clone(),
        }),
        activity_type: Some(ActivityType { name: activity.activity_type.clone() }),
        activity_id: activity.activity_id.clone(),
        header: decoded(activity.header.as_ref())?,
        input: decoded(activity.input.as_ref())?,
        heartbeat_details: activity.heartbeat_details.clone(),
        scheduled_time: time(activity.scheduled_ns),
        current_attempt_scheduled_time: time(activity.attempt_scheduled_ns),
        started_time: time(activity.started_ns),
        attempt: activity.attempt,
        schedule_to_close_timeout: timeouts[0],
        start_to_close_timeout: timeouts[1],
        heartbeat_timeout: timeouts[2],
        retry_policy: activity.retry_policy.clone(),
        priority: priority(run, activity),
        ..PollActivityTaskQueueResponse::default()
    };
    Ok(ActivityTaskStarted { token: Some(token), response: Some(Box::new(response)) })
}

/// Finds the attempt that a worker or client means.
fn find(tx: &Transaction<'_>, target: Option<&ActivityTarget>) -> Answer<(Run, ActivityRecord)> {
    match target.and_then(|t| t.target.as_ref()) {
        Some(Target::Token(token)) => {
            let run = Run::load_open(tx, &token.run_id)?;
            let activity = by_event(tx, &run, token.scheduled_event_id)?.ok_or_else(gone)?;
            let current = activity.started_ns != 0
                && activity.started_ns == token.started_ns
                && activity.attempt == token.attempt;
            if current { Ok((run, activity)) } else { Err(gone().into()) }
        }
        Some(Target::ById(by)) => {
            let run = Run::load_open(tx, &by.run_id)?;
            let missing = || {
                Error::not_found(format!(
                    "cannot find pending activity with ActivityID {}, check workflow execution history for more details",
                    by.activity_id
                ))
            };
            let activity = by_id(tx, &run, &by.activity_id)?.ok_or_else(missing)?;
            Ok((run, activity))
        }
        None => Err(Error::invalid("Task token not set on request.").into()),
    }
}

/// Who closes an activity: nobody if its time is up.
#[derive(Clone, Copy, Default)]
struct Closer<'a> {
    identity: &'a str,
    /// The worker's code, if it says so.
    worker: Option<&'a WorkerVersionStamp>,
}

/// Writes the Started event of an activity that closes, with the time at which a worker took the attempt. One that nobody took was
/// started by whoever closes it.
fn write_started(tx: &mut Transaction<'_>, run: &mut Run, activity: &ActivityRecord, closer: Closer<'_>) -> i64 {
    let identity = if activity.started_ns == 0 { closer.identity } else { &activity.identity };
    #[allow(deprecated)]
    let attributes = ActivityTaskStartedEventAttributes {
        scheduled_event_id: activity.scheduled_event_id,
        identity: identity.to_string(),
        request_id: if activity.started_ns == 0 { String::new() } else { activity.poll_request_id.clone() },
        attempt: activity.attempt,
        last_failure: activity.last_failure.clone().filter(|_| activity.attempt > 1),
        worker_version: closer.worker.cloned(),
        ..ActivityTaskStartedEventAttributes::default()
    };
    let at_ns = if activity.started_ns == 0 { tx.now() } else { activity.started_ns };
    run.add_at(tx, Attributes::ActivityTaskStartedEventAttributes(attributes), at_ns).id()
}

/// Forgets a closed activity.
pub(crate) fn forget(tx: &mut Transaction<'_>, run: &mut Run, mut activity: ActivityRecord) {
    remove_rows(tx, run, &mut activity);
    tx.delete(numbered(Table::Activity, run.id, activity.scheduled_event_id));
    tx.delete(named(Table::ActivityId, run.id, &activity.activity_id));
    run.record.activity_count -= 1;
    run.record.large_details_bytes -= activity.counted_bytes;
}

pub(crate) fn complete(tx: &mut Transaction<'_>, command: &log::CompleteActivity) -> Answer<Reply> {
    let (mut run, activity) = find(tx, command.target.as_ref())?;
    let started_event_id =
        write_started(tx, &mut run, &activity, Closer { identity: &command.identity, worker: command.worker.as_ref() });
    let attributes = ActivityTaskCompletedEventAttributes {
        result: command.result.clone(),
        scheduled_event_id: activity.scheduled_event_id,
        started_event_id,
        identity: command.identity.clone(),
        ..ActivityTaskCompletedEventAttributes::default()
    };
    run.add(tx, Attributes::ActivityTaskCompletedEventAttributes(attributes));
    closed(tx, run, activity)
}

fn closed(tx: &mut Transaction<'_>, mut run: Run, activity: ActivityRecord) -> Answer<Reply> {
    forget(tx, &mut run, activity);
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(empty())
}

pub(crate) fn cancel(tx: &mut Transaction<'_>, command: &log::CancelActivity) -> Answer<Reply> {
    let (mut run, activity) = find(tx, command.target.as_ref())?;
    if activity.started_ns == 0 {
        return Err(gone().into());
    }
    if !activity.cancel_requested {
        let text = "unable to mark activity as canceled without activity being request canceled first";
        return Err(Error::invalid(text).into());
    }
    let started_event_id = write_started(tx, &mut run, &activity, Closer { identity: &command.identity, worker: None });
    write_canceled(tx, &mut run, &activity, started_event_id, command.details.clone(), &command.identity);
    closed(tx, run, activity)
}

/// Writes the Canceled event.
pub(crate) fn write_canceled(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    activity: &ActivityRecord,
    started_event_id: i64,
    details: Option<Payloads>,
    identity: &str,
) {
    let attributes = canceled_attributes(activity, started_event_id, details, identity);
    run.add(tx, Attributes::ActivityTaskCanceledEventAttributes(attributes));
}

pub(crate) fn canceled_attributes(
    activity: &ActivityRecord,
    started_event_id: i64,
    details: Option<Payloads>,
    identity: &str,
) -> ActivityTaskCanceledEventAttributes {
    ActivityTaskCanceledEventAttributes {
        details,
        latest_cancel_requested_event_id: activity.cancel_requested_event_id,
        scheduled_event_id: activity.scheduled_event_id,
        started_event_id,
        identity: identity.to_string(),
        ..ActivityTaskCanceledEventAttributes::default()
    }
}

/// Counts heartbeat details into the size of the run's state. Small ones are not counted, so that an ordinary heartbeat need not
/// write the run. Answers whether the run changed.
fn count_details(run: &mut Run, activity: &mut ActivityRecord) -> bool {
    let size = activity.heartbeat_details.as_ref().map_or(0, |details| details.encoded_len());
    let counted = if size < COUNTED_DETAILS_SIZE_MIN { 0 } else { size as i64 };
    let more = counted - activity.counted_bytes;
    activity.counted_bytes = counted;
    run.record.large_details_bytes += more;
    more != 0
}

pub(crate) fn heartbeat(tx: &mut Transaction<'_>, command: &log::HeartbeatActivity) -> Answer<Reply> {
    let (mut run, mut activity) = find(tx, command.target.as_ref())?;
    if activity.started_ns == 0 {
        return Err(gone().into());
    }
    activity.last_heartbeat_ns = tx.now();
    activity.heartbeat_details = command.details.clone();
    let counted = count_details(&mut run, &mut activity);
    put(tx, &run, &activity);
    let response = RecordActivityTaskHeartbeatResponse {
        cancel_requested: activity.cancel_requested,
        activity_paused: activity.pause.is_some(),
        activity_reset: activity.was_reset,
    };
    if counted {
        run.save(tx);
    }
    Ok(reply_of(reply::Reply::Heartbeat(response)))
}

pub(crate) fn fail(tx: &mut Transaction<'_>, command: &log::FailActivity) -> Answer<Reply> {
    let (mut run, mut activity) = find(tx, command.target.as_ref())?;
    if activity.started_ns == 0 {
        return Err(gone().into());
    }
    if command.last_heartbeat_details.is_some() {
        activity.heartbeat_details = command.last_heartbeat_details.clone();
        activity.last_heartbeat_ns = tx.now();
        count_details(&mut run, &mut activity);
    }
    let failure = command.failure.clone().unwrap_or_default();
    let state = match after_attempt(tx, &activity, &failure) {
        Decision::Retry(interval) => {
            activity.last_attempt_complete_ns = tx.now();
            retry(tx, &run, activity, failure, interval);
            run.save(tx);
            return Ok(empty());
        }
        Decision::Stop(state) => state,
    };
    let started_event_id =
        write_started(tx, &mut run, &activity, Closer { identity: &command.identity, worker: command.worker.as_ref() });
    let attributes = ActivityTaskFailedEventAttributes {
        failure: Some(failure),
        scheduled_event_id: activity.scheduled_event_id,
        started_event_id,
        identity: command.identity.clone(),
        retry_state: state as i32,
        ..ActivityTaskFailedEventAttributes::default()
    };
    run.add(tx, Attributes::ActivityTaskFailedEventAttributes(attributes));
    closed(tx, run, activity)
}

fn after_attempt(tx: &Transaction<'_>, activity: &ActivityRecord, failure: &Failure) -> Decision {
    let Some(policy) = &activity.retry_policy else { return Decision::Stop(RetryState::RetryPolicyNotSet) };
    if activity.cancel_requested {
        return Decision::Stop(RetryState::CancelRequested);
    }
    let expiration = deadline(activity.scheduled_ns, activity.schedule_to_close_ns);
    let over = expiration != 0 && expiration <= tx.now();
    if activity.pause.is_some() && !over && retry::is_retryable(failure, &policy.non_retryable_error_types) {
        // It is not dispatched before it is unpaused, however many attempts there were.
        return Decision::Retry(0);
    }
    retry::decide(&retry::Attempt { policy, attempt: activity.attempt, now: tx.now(), expiration, failure })
}

/// Sets the activity back for its next attempt.
fn retry(tx: &mut Transaction<'_>, run: &Run, mut activity: ActivityRecord, failure: Failure, interval: i64) {
    activity.attempt = activity.attempt.saturating_add(1);
    activity.was_reset = false;
    if std::mem::take(&mut activity.reset_heartbeat) {
        forget_heartbeat(&mut activity);
    }
    activity.started_ns = 0;
    activity.poll_request_id.clear();
    activity.identity.clear();
    activity.attempt_scheduled_ns = tx.now().saturating_add(interval);
    activity.last_failure = Some(cut(failure));
    arm(tx, run, &mut activity);
    put(tx, run, &activity);
}

/// Keeps of a large failure what people need to see it.
fn cut(mut failure: Failure) -> Failure {
    if failure.encoded_len() <= KEPT_FAILURE_SIZE_MAX {
        return failure;
    }
    failure.stack_trace.clear();
    failure.cause = None;
    failure.encoded_attributes = None;
    if let Some(FailureInfo::ApplicationFailureInfo(info)) = &mut failure.failure_info {
        info.details = None;
    }
    let mut end = failure.message.len().min(KEPT_FAILURE_SIZE_MAX / 2);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    failure.message.truncate(end);
    failure
}

/// The activity's timer fired: its next attempt is due, or a deadline passed, or it only needs arming again. Answers whether
/// the workflow must be told.
pub(crate) fn timer_fired(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerRow) -> Answer<bool> {
    let Some(mut activity) = by_event(tx, run, row.id)?.filter(|a| a.timer_ns == row.due_ns) else {
        return Ok(false);
    };
    activity.timer_ns = 0;
    let close = deadline(activity.scheduled_ns, activity.schedule_to_close_ns);
    let over = close != 0 && close <= tx.now();
    if is_backing_off(run, &activity) && !over {
        dispatch(tx, run, &mut activity);
        arm(tx, run, &mut activity);
        put(tx, run, &activity);
        return Ok(false);
    }
    let (due, kind) = next_deadline(run, &activity);
    if due == 0 || due > tx.now() {
        arm(tx, run, &mut activity);
        put(tx, run, &activity);
        return Ok(false);
    }
    Ok(time_out(tx, run, activity, kind))
}

/// An attempt timed out: retried, or the activity closes. Answers whether it closed.
fn time_out(tx: &mut Transaction<'_>, run: &mut Run, activity: ActivityRecord, kind: TimeoutType) -> bool {
    let namespace_id = tx.entity.namespace_id.clone();
    tx.notes.push(Note::ActivityTimedOut { namespace_id, kind });
    let mut failure = timeout_failure(kind, &activity);
    let state = match kind {
        TimeoutType::ScheduleToStart | TimeoutType::ScheduleToClose => RetryState::Timeout,
        _ => match after_attempt(tx, &activity, &failure) {
            Decision::Retry(interval) => {
                let mut kept = activity;
                remove_rows(tx, run, &mut kept);
                if let Some(FailureInfo::TimeoutFailureInfo(info)) = &mut failure.failure_info {
                    info.last_heartbeat_details = None;
                }
                retry(tx, run, kept, failure, interval);
                return false;
            }
            Decision::Stop(state) => state,
        },
    };
    if state == RetryState::Timeout && kind != TimeoutType::ScheduleToStart {
        failure = timeout_failure(TimeoutType::ScheduleToClose, &activity);
        failure.message = NO_TIME_FOR_RETRY.into();
    }
    failure.cause = activity.last_failure.clone().map(Box::new);
    let started_event_id =
        if activity.started_ns == 0 { 0 } else { write_started(tx, run, &activity, Closer::default()) };
    let attributes = ActivityTaskTimedOutEventAttributes {
        failure: Some(failure),
        scheduled_event_id: activity.scheduled_event_id,
        started_event_id,
        retry_state: state as i32,
    };
    run.add(tx, Attributes::ActivityTaskTimedOutEventAttributes(attributes));
    forget(tx, run, activity);
    true
}

fn timeout_failure(kind: TimeoutType, activity: &ActivityRecord) -> Failure {
    let name = match kind {
        TimeoutType::ScheduleToStart => "ScheduleToStart",
        TimeoutType::ScheduleToClose => "ScheduleToClose",
        TimeoutType::Heartbeat => "Heartbeat",
        _ => "StartToClose",
    };
    let info =
        TimeoutFailureInfo { timeout_type: kind as i32, last_heartbeat_details: activity.heartbeat_details.clone() };
    Failure {
        message: format!("activity {name} timeout"),
        source: "Server".into(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(info)),
        ..Failure::default()
    }
}

/// The time-outs of an activity as its Scheduled event shows them, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeouts {
    pub(crate) schedule_to_close: i64,
    pub(crate) schedule_to_start: i64,
    pub(crate) start_to_close: i64,
    pub(crate) heartbeat: i64,
}

impl Timeouts {
    /// Fills and caps what a command gave; one of the first and third must be set.
    pub(crate) fn normalised(self, run_timeout: i64) -> Self {
        let mut t = self;
        if t.schedule_to_close > 0 {
            t.schedule_to_start = least(t.schedule_to_start, t.schedule_to_close);
            t.start_to_close = least(t.start_to_close, t.schedule_to_close);
        } else {
            t.schedule_to_close = run_timeout;
            if t.schedule_to_start == 0 {
                t.schedule_to_start = run_timeout;
            }
        }
        if run_timeout > 0 {
            t.schedule_to_close = least(t.schedule_to_close, run_timeout);
            t.schedule_to_start = least(t.schedule_to_start, run_timeout);
            t.start_to_close = least(t.start_to_close, run_timeout);
        }
        t.heartbeat = if t.heartbeat == 0 { 0 } else { least(t.heartbeat, t.start_to_close) };
        t
    }
}

/// What an activity is to be, before it is accepted: by a command, or by a change of options.
pub(crate) struct Described<'a> {
    pub(crate) id: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) task_queue: &'a str,
    pub(crate) retry_policy: Option<&'a RetryPolicy>,
    pub(crate) timeouts: Timeouts,
}

impl Described<'_> {
    /// Refuses what cannot be, with Temporal's text.
    pub(crate) fn check(&self) -> Result<(), String> {
        let named = [("activityId", self.id), ("activityType", self.kind), ("taskQueue", self.task_queue)];
        if let Some((what, _)) = named.iter().find(|(_, text)| text.is_empty()) {
            return Err(format!("{what} is not set"));
        }
        if let Some(policy) = self.retry_policy {
            retry::validate(policy)?;
        }
        for (what, text) in named {
            let length = text.chars().count();
            if length > limits::ID_LENGTH_MAX {
                return Err(format!("{what} exceeds length limit. Length={length} Limit={}", limits::ID_LENGTH_MAX));
            }
        }
        let t = &self.timeouts;
        for (what, value) in [
            ("ScheduleToCloseTimeout", t.schedule_to_close),
            ("ScheduleToStartTimeout", t.schedule_to_start),
            ("StartToCloseTimeout", t.start_to_close),
            ("HeartbeatTimeout", t.heartbeat),
        ] {
            if value < 0 {
                return Err(format!("invalid {what}: negative duration"));
            }
        }
        if t.schedule_to_close == 0 && t.start_to_close == 0 {
            let text = "a valid StartToCloseTimeout or ScheduleToCloseTimeout must be set on the activity.";
            return Err(format!("{text} ActivityId={} ActivityType={}", self.id, self.kind));
        }
        Ok(())
    }
}
