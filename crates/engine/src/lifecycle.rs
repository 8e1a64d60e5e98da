//! How runs begin, end, and follow each other: creation, closing, termination, continue-as-new, retry and cron.
//!
//! A chain of runs shares its workflow id, first run id and execution deadline. A follow-up run is created in the transition that
//! closes its predecessor, whose close event names it.

use mainstay_api::RawHistory;
use mainstay_api::record::{ActivityRecord, UserTimerRecord};
use mainstay_api::record::{RunDetails, RunRecord, TaskRow, TimerRow, child_closed, task_row, timer_row};
use mainstay_api::temporal::common::v1::{Callback, Link};
use mainstay_api::temporal::common::v1::{Payloads, WorkflowExecution};
use mainstay_api::temporal::enums::v1::{
    ContinueAsNewInitiator as Initiator, EventType, RetryState, TimeoutType, WorkflowExecutionStatus as Status,
    WorkflowTaskFailedCause,
};
use mainstay_api::temporal::failure::v1::{Failure, TimeoutFailureInfo, failure::FailureInfo};
use mainstay_api::temporal::history::v1::{
    ChildWorkflowExecutionTimedOutEventAttributes, HistoryEvent,
    WorkflowExecutionStartedEventAttributes as StartedAttributes, WorkflowExecutionTerminatedEventAttributes,
    WorkflowExecutionTimedOutEventAttributes,
};
use mainstay_api::temporal::sdk::v1::UserMetadata;
use mainstay_base::RunId;

use crate::convert::{deadline, duration, given, least, nanos, time, time_ns};
use crate::event::{Attributes, NewEvent};
use crate::retry::{self, Decision};
use crate::run::Run;
use crate::store::{Fault, Row, Table};
use crate::transaction::{Transaction, decode, numbered};
use crate::workflow_task::{self, TaskFailure};
use crate::{Answer, Error, children, external, schedule, search_attributes, speculative};

const SECOND: i64 = 1_000_000_000;
/// Who acts where nobody asked.
pub(crate) const HISTORY_SERVICE: &str = "history-service";
/// Runs of one chain start at least this far apart.
const RUN_INTERVAL_MIN: i64 = SECOND;

/// A run to create. The attributes become its first event; what they leave out is filled in.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) attributes: StartedAttributes,
    pub(crate) request_id: String,
    pub(crate) user_metadata: Option<UserMetadata>,
    pub(crate) links: Vec<Link>,
    pub(crate) callbacks: Vec<Callback>,
}

/// Creates a run: its record, first event, deadlines. It has no workflow task yet.
pub(crate) fn create(tx: &mut Transaction<'_>, new: NewRun) -> Run {
    let NewRun { id, mut attributes, request_id, user_metadata, links, callbacks } = new;
    let now = tx.now();
    attributes.workflow_id = tx.entity.workflow_id.clone();
    attributes.original_execution_run_id = id.to_string();
    if attributes.first_execution_run_id.is_empty() {
        attributes.first_execution_run_id.clone_from(&attributes.original_execution_run_id);
    }
    attributes.attempt = attributes.attempt.max(1);
    let backoff = nanos(attributes.first_workflow_task_backoff.as_ref());
    // A run that continues another shows only a wait that there is. (Recorded.)
    let shown = backoff > 0 || attributes.initiator != Initiator::Workflow as i32;
    attributes.first_workflow_task_backoff = if shown { duration(backoff) } else { None };
    let record = record_of(id, &attributes, now, backoff);
    let mut details = details_of(tx, id, &attributes);
    details.start_request_id = request_id.clone();
    details.user_metadata = user_metadata.clone();
    details.completion_callbacks = callbacks;
    attributes.workflow_execution_expiration_time = time(record.execution_deadline_ns);
    let mut run = Run::new(id, record, details);
    let event = NewEvent::from(Attributes::WorkflowExecutionStartedEventAttributes(attributes));
    run.write(tx, event.with_metadata(user_metadata).with_links(links));
    run.remember(tx, &request_id, EventType::WorkflowExecutionStarted, 1);
    arm_run_timer(tx, &mut run);
    if backoff > 0 {
        run.record.first_task_backoff = true;
        run.record.backoff_timer_ns = now.saturating_add(backoff);
        let due = run.record.backoff_timer_ns;
        tx.add_timer(timer(tx, &run, timer_row::Kind::FirstTaskBackoff, due));
    }
    run
}

pub(crate) fn record_of(id: RunId, a: &StartedAttributes, now: i64, backoff: i64) -> RunRecord {
    let execution_timeout = nanos(a.workflow_execution_timeout.as_ref());
    let run_timeout = nanos(a.workflow_run_timeout.as_ref());
    let carried = time_ns(a.workflow_execution_expiration_time.as_ref());
    let start = now.saturating_add(backoff);
    let execution_deadline = if carried == 0 { deadline(start, execution_timeout) } else { carried };
    RunRecord {
        run_id: id.to_string(),
        status: Status::Running as i32,
        next_event_id: 1,
        workflow_type: given(&a.workflow_type).name.clone(),
        task_queue: given(&a.task_queue).name.clone(),
        start_ns: now,
        execution_ns: start,
        execution_timeout_ns: execution_timeout,
        run_timeout_ns: run_timeout,
        task_timeout_ns: nanos(a.workflow_task_timeout.as_ref()),
        is_child: a.parent_workflow_execution.is_some(),
        execution_deadline_ns: execution_deadline,
        run_deadline_ns: least(deadline(start, run_timeout), execution_deadline),
        attempt: a.attempt,
        priority: a.priority.clone(),
        problems_reported: search_attributes::has_problems(a.search_attributes.as_ref()),
        ..RunRecord::default()
    }
}

pub(crate) fn details_of(tx: &Transaction<'_>, id: RunId, a: &StartedAttributes) -> RunDetails {
    let text = id.to_string();
    let root = a
        .root_workflow_execution
        .clone()
        .unwrap_or_else(|| WorkflowExecution { workflow_id: tx.entity.workflow_id.clone(), run_id: text.clone() });
    let parent = a.parent_workflow_execution.clone().unwrap_or_default();
    RunDetails {
        first_execution_run_id: a.first_execution_run_id.clone(),
        original_execution_run_id: text,
        continued_from_run_id: a.continued_execution_run_id.clone(),
        cron_schedule: a.cron_schedule.clone(),
        retry_policy: a.retry_policy.clone(),
        memo: a.memo.clone(),
        search_attributes: a.search_attributes.clone(),
        versioning_override: a.versioning_override.clone(),
        parent_namespace: a.parent_workflow_namespace.clone(),
        parent_namespace_id: a.parent_workflow_namespace_id.clone(),
        parent_workflow_id: parent.workflow_id,
        parent_run_id: parent.run_id,
        parent_initiated_event_id: a.parent_initiated_event_id,
        root_workflow_id: root.workflow_id,
        root_run_id: root.run_id,
        reset_points: a.prev_auto_reset_points.clone(),
        ..RunDetails::default()
    }
}

pub(crate) fn arm_run_timer(tx: &mut Transaction<'_>, run: &mut Run) {
    let due = run.record.run_deadline_ns;
    if due != 0 {
        run.record.run_timer_ns = due;
        tx.add_timer(timer(tx, run, timer_row::Kind::RunTimeout, due));
    }
}

/// A row of the timer index that belongs to the run as a whole.
pub(crate) fn timer(tx: &Transaction<'_>, run: &Run, kind: timer_row::Kind, due_ns: i64) -> TimerRow {
    TimerRow {
        due_ns,
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        kind: kind as i32,
        id: 0,
    }
}

/// Ends the wait before the first workflow task.
pub(crate) fn end_backoff(tx: &mut Transaction<'_>, run: &mut Run) {
    if run.record.first_task_backoff {
        run.record.first_task_backoff = false;
        let due = run.record.backoff_timer_ns;
        tx.remove_timer(timer(tx, run, timer_row::Kind::FirstTaskBackoff, due));
        run.record.backoff_timer_ns = 0;
    }
}

/// How a run closes, and what that means for its relatives.
pub(crate) struct Closing {
    pub(crate) status: Status,
    /// What the parent is told; nothing if another run follows.
    pub(crate) report: Option<child_closed::Close>,
    /// A reset goes on with the children that are known to have started.
    pub(crate) spares_children: bool,
}

impl Closing {
    /// The last run of its chain closes.
    pub(crate) fn last(status: Status, report: child_closed::Close) -> Self {
        Self { status, report: Some(report), spares_children: false }
    }

    /// Another run follows.
    pub(crate) fn followed(status: Status) -> Self {
        Self { status, report: None, spares_children: false }
    }
}

/// Closes the run after its close event was written: pending items go, relatives are told, retention begins.
pub(crate) fn close(tx: &mut Transaction<'_>, run: &mut Run, closing: Closing) -> Answer<()> {
    run.record.status = closing.status as i32;
    run.record.close_ns = tx.now();
    run.mark_listed();
    run.drop_buffer(tx)?;
    workflow_task::withdraw(tx, run);
    end_backoff(tx, run);
    if run.record.run_timer_ns != 0 {
        let due = run.record.run_timer_ns;
        tx.remove_timer(timer(tx, run, timer_row::Kind::RunTimeout, due));
        run.record.run_timer_ns = 0;
    }
    drop_pending(tx, run)?;
    external::drop_pending(tx, run)?;
    if closing.spares_children {
        children::withdraw_starts(tx, run)?;
    } else {
        children::leave(tx, run)?;
    }
    if let Some(report) = closing.report {
        if let Some(by) = run.record.scheduled_by.clone() {
            schedule::report(tx, run, by, closing.status, &report);
        }
        children::report(tx, run, report);
    }
    let retention = tx.namespace()?.retention_ns;
    if retention > 0 {
        let due = tx.now().saturating_add(retention);
        run.record.retention_timer_ns = due;
        tx.add_timer(timer(tx, run, timer_row::Kind::Retention, due));
    }
    let current = tx.execution()?.is_some_and(|e| e.current_run_id == run.record.run_id);
    if current {
        run.make_current(tx);
    }
    Ok(())
}

/// Removes what pending activities and timers have in the indexes. The activities' own rows stay as they were until the run is
/// erased: a closed run still shows what it left behind.
fn drop_pending(tx: &mut Transaction<'_>, run: &mut Run) -> Result<(), Fault> {
    // Most runs leave nothing behind, and a scan costs more than a read.
    if run.record.activity_count > 0 {
        for mut activity in tx.scan_records::<ActivityRecord>(Table::Activity, run.id)? {
            crate::activities::remove_rows(tx, run, &mut activity);
        }
    }
    if run.record.timer_count > 0 {
        for pending in tx.scan_records::<UserTimerRecord>(Table::UserTimer, run.id)? {
            crate::timers::remove_rows(tx, run, &pending);
        }
    }
    run.record.timer_count = 0;
    Ok(())
}

/// Why and by whom a run is terminated.
pub(crate) struct Termination {
    pub(crate) reason: String,
    pub(crate) details: Option<Payloads>,
    pub(crate) identity: String,
    pub(crate) links: Vec<Link>,
    /// A reset takes the run's place: its parent hears nothing, and its children live on.
    pub(crate) by_reset: bool,
}

impl Termination {
    /// By the server itself.
    pub(crate) fn by_history(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            details: None,
            identity: HISTORY_SERVICE.into(),
            links: Vec::new(),
            by_reset: false,
        }
    }
}

/// Terminates an open run. A started workflow task fails first, so that what it held back becomes part of history.
pub(crate) fn terminate(tx: &mut Transaction<'_>, run: &mut Run, how: Termination) -> Answer<()> {
    force_task_closed(tx, run)?;
    let attributes =
        WorkflowExecutionTerminatedEventAttributes { reason: how.reason, details: how.details, identity: how.identity };
    let event = NewEvent::from(Attributes::WorkflowExecutionTerminatedEventAttributes(attributes));
    run.write(tx, event.with_links(how.links));
    let mut closing = Closing::last(Status::Terminated, child_closed::Close::Terminated(Default::default()));
    if how.by_reset {
        closing = Closing { report: None, spares_children: true, ..closing };
    }
    close(tx, run, closing)
}

/// Fails a started workflow task because the run closes under it, and writes the events it held back.
fn force_task_closed(tx: &mut Transaction<'_>, run: &mut Run) -> Answer<()> {
    if run.task_started() {
        let cause = WorkflowTaskFailedCause::ForceCloseCommand;
        workflow_task::fail(tx, run, TaskFailure { cause, failure: None, identity: HISTORY_SERVICE.into() });
    }
    speculative::discard(run);
    run.flush_buffer(tx)?;
    Ok(())
}

/// The attributes of the run's first event.
pub(crate) fn started_attributes(tx: &Transaction<'_>, run: &Run) -> Answer<StartedAttributes> {
    let fault = |what: &str| Fault(format!("run {}: {what}", run.id));
    let row = numbered(Table::History, run.id, 1);
    let bytes = tx.get_bytes(&row)?.ok_or_else(|| fault("its first history batch is missing"))?;
    let batch: RawHistory = decode(Table::History, bytes)?;
    let first = batch.events.into_iter().next().ok_or_else(|| fault("its first history batch is empty"))?;
    let event: HistoryEvent = decode(Table::History, first)?;
    match event.attributes {
        Some(Attributes::WorkflowExecutionStartedEventAttributes(attributes)) => Ok(attributes),
        _ => Err(fault("its history does not begin with a Started event").into()),
    }
}

/// A run that follows this one.
pub(crate) struct Successor {
    pub(crate) run_id: RunId,
    pub(crate) attributes: StartedAttributes,
}

/// Carries over what every follow-up run inherits.
pub(crate) fn successor(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    mut attributes: StartedAttributes,
    initiator: Initiator,
    backoff: i64,
) -> Answer<Successor> {
    let run_id = tx.new_run_id();
    let lived = tx.now().saturating_sub(run.record.start_ns);
    let backoff = backoff.max(RUN_INTERVAL_MIN - lived).max(0);
    attributes.continued_execution_run_id = run.record.run_id.clone();
    if initiator == Initiator::Workflow {
        // A retried or cron run has the priority that its chain was started with. (Recorded.)
        attributes.priority.clone_from(&run.record.priority);
    }
    attributes.versioning_override.clone_from(&run.details(tx).versioning_override);
    attributes.initiator = initiator as i32;
    attributes.first_execution_run_id = run.details(tx).first_execution_run_id.clone();
    attributes.workflow_execution_expiration_time = time(run.record.execution_deadline_ns);
    attributes.first_workflow_task_backoff = duration(backoff);
    let expire_ns = tx.now().saturating_add(tx.namespace()?.retention_ns);
    expire_reset_points(tx, run, expire_ns);
    attributes.prev_auto_reset_points = run.details(tx).reset_points.clone();
    if initiator == Initiator::Workflow {
        attributes.workflow_run_timeout = attributes.workflow_run_timeout.or_else(|| duration(0));
    } else {
        attributes.identity.clear();
    }
    attributes.eager_execution_accepted = false;
    Ok(Successor { run_id, attributes })
}

/// The run's points to reset to last as long as the run: it has a successor, so its end is known.
fn expire_reset_points(tx: &Transaction<'_>, run: &mut Run, expire_ns: i64) {
    let run_id = run.record.run_id.clone();
    let points = run.details_mut(tx).reset_points.iter_mut().flat_map(|points| &mut points.points);
    for point in points.filter(|point| point.run_id == run_id) {
        point.expire_time = time(expire_ns);
    }
}

/// Creates the follow-up run, makes it current, and schedules its first task unless that is delayed.
pub(crate) fn begin_successor(tx: &mut Transaction<'_>, run: &mut Run, successor: Successor) -> Answer<()> {
    let request_id = tx.prng.request_id().to_string();
    let new = NewRun {
        id: successor.run_id,
        attributes: successor.attributes,
        request_id,
        user_metadata: None,
        links: Vec::new(),
        callbacks: run.details(tx).completion_callbacks.clone(),
    };
    run.details_mut(tx).successor_run_id = successor.run_id.to_string();
    let mut next = create(tx, new);
    next.record.scheduled_by = run.record.scheduled_by.clone();
    next.make_current(tx);
    workflow_task::wake(tx, &mut next)?;
    next.save(tx);
    Ok(())
}

/// What follows a run that failed or timed out: a retry, then the cron schedule, or nothing.
pub(crate) fn after_failure(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    failure: &Failure,
) -> Answer<(RetryState, Option<Successor>)> {
    let state = match run.details(tx).retry_policy.clone() {
        None => RetryState::RetryPolicyNotSet,
        Some(policy) => {
            let attempt = retry::Attempt {
                policy: &policy,
                attempt: run.record.attempt,
                now: tx.now(),
                expiration: run.record.execution_deadline_ns,
                failure,
            };
            match retry::decide(&attempt) {
                Decision::Retry(backoff) => {
                    let mut attributes = started_attributes(tx, run)?;
                    attributes.attempt = run.record.attempt.saturating_add(1);
                    attributes.continued_failure = Some(failure.clone());
                    let next = successor(tx, run, attributes, Initiator::Retry, backoff)?;
                    return Ok((RetryState::InProgress, Some(next)));
                }
                Decision::Stop(state) => state,
            }
        }
    };
    let next = after_cron(tx, run, None, Some(failure.clone()))?;
    Ok((state, next))
}

/// The next run of a cron schedule: a result replaces the last one, a failure is carried along.
pub(crate) fn after_cron(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    result: Option<Payloads>,
    failure: Option<Failure>,
) -> Answer<Option<Successor>> {
    if run.details(tx).cron_schedule.is_empty() {
        return Ok(None);
    }
    let Some(backoff) = cron_backoff(&run.details(tx).cron_schedule, run.record.execution_ns, tx.now()) else {
        return Ok(None);
    };
    let deadline = run.record.execution_deadline_ns;
    if deadline != 0 && tx.now().saturating_add(backoff) > deadline {
        return Ok(None);
    }
    let mut attributes = started_attributes(tx, run)?;
    attributes.attempt = 1;
    if failure.is_none() {
        attributes.last_completion_result = result;
    }
    attributes.continued_failure = failure;
    Ok(Some(successor(tx, run, attributes, Initiator::CronSchedule, backoff)?))
}

/// Nanoseconds from `now` to the next time of a cron schedule after the previous execution.
pub(crate) fn cron_backoff(schedule: &str, previous_ns: i64, now: i64) -> Option<i64> {
    let parsed = mainstay_calendar::CronSchedule::parse(schedule).ok()?;
    let mut fire = parsed.next_after(previous_ns.div_euclid(SECOND))?;
    if fire.saturating_mul(SECOND) <= now {
        fire = parsed.next_after(now.div_euclid(SECOND))?;
    }
    let wait = fire.saturating_mul(SECOND).saturating_sub(now);
    Some(wait.saturating_add(SECOND - 1) / SECOND * SECOND)
}

/// The run's deadline passed.
pub(crate) fn time_out(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerRow) -> Answer<()> {
    if run.record.run_timer_ns != row.due_ns {
        return Ok(());
    }
    run.record.run_timer_ns = 0;
    force_task_closed(tx, run)?;
    let by_execution = run.record.execution_deadline_ns != 0 && tx.now() >= run.record.execution_deadline_ns;
    let (state, next) =
        if by_execution { (RetryState::Timeout, None) } else { after_failure(tx, run, &run_timeout_failure())? };
    let attributes = WorkflowExecutionTimedOutEventAttributes {
        retry_state: state as i32,
        new_execution_run_id: next.as_ref().map(|n| n.run_id.to_string()).unwrap_or_default(),
    };
    run.write(tx, Attributes::WorkflowExecutionTimedOutEventAttributes(attributes));
    let Some(next) = next else {
        let told = ChildWorkflowExecutionTimedOutEventAttributes { retry_state: state as i32, ..Default::default() };
        return close(tx, run, Closing::last(Status::TimedOut, child_closed::Close::TimedOut(told)));
    };
    close(tx, run, Closing::followed(Status::TimedOut))?;
    begin_successor(tx, run, next)
}

fn run_timeout_failure() -> Failure {
    let info = TimeoutFailureInfo { timeout_type: TimeoutType::StartToClose as i32, last_heartbeat_details: None };
    Failure {
        message: "workflow timeout".into(),
        source: "Server".into(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(info)),
        ..Failure::default()
    }
}

/// Removes every trace of a closed run.
pub(crate) fn erase(tx: &mut Transaction<'_>, run: &Run) -> Answer<()> {
    let listed = run.clone().into_visibility(tx);
    for table in [
        Table::RunDetails,
        Table::History,
        Table::RequestId,
        Table::SignalRequest,
        Table::Buffered,
        Table::Activity,
        Table::ActivityId,
        Table::Child,
        Table::Update,
    ] {
        for (id, _) in tx.scan(table, run.id)? {
            tx.delete(Row { table, run: Some(run.id), id });
        }
    }
    if run.record.retention_timer_ns != 0 {
        tx.remove_timer(timer(tx, run, timer_row::Kind::Retention, run.record.retention_timer_ns));
    }
    tx.remove_visibility(listed);
    tx.delete(crate::transaction::run_row(run.id));
    let current = tx.execution()?.is_some_and(|e| e.current_run_id == run.record.run_id);
    if current {
        tx.delete(Row { table: Table::Execution, run: None, id: Vec::new() });
    }
    Ok(())
}

/// Whether a conditional request means this run's chain.
pub(crate) fn check_first_run(tx: &Transaction<'_>, run: &Run, first_execution_run_id: &str) -> Answer<()> {
    if first_execution_run_id.is_empty() || run.details(tx).first_execution_run_id == first_execution_run_id {
        return Ok(());
    }
    Err(Error::not_found("workflow execution not found").into())
}

/// A dispatchable activity's row.
pub(crate) fn activity_task_row(tx: &Transaction<'_>, run: &Run, activity: &ActivityRecord) -> TaskRow {
    let priority = crate::activities::priority(run, activity).unwrap_or_default();
    TaskRow {
        kind: task_row::Kind::Activity as i32,
        namespace_id: tx.entity.namespace_id.clone(),
        task_queue: activity.task_queue.clone(),
        sequence: activity.task_sequence,
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        scheduled_event_id: activity.scheduled_event_id,
        attempt: activity.attempt,
        created_ns: tx.now(),
        sticky: false,
        normal_queue: String::new(),
        priority: priority.priority_key,
        fairness_key: priority.fairness_key,
        fairness_weight: priority.fairness_weight,
    }
}
