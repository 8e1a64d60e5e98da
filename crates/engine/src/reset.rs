//! ResetWorkflowExecution: a new run that shares the beginning of an old one's history and goes on differently.
//!
//! The history up to the reset point is copied, its open workflow task fails, what came from outside afterwards is applied
//! again, and a new workflow task follows. The current run ends if it is open. (Reference §2.15.) Children that were started after the
//! reset point live on, as recorded: the new run cannot start one of the same id while it does.
//!
//! As recorded, a reset that a client repeats is another one. Batch jobs repeat theirs after a crash: they name the run that is made.

use mainstay_api::RawHistory;
use mainstay_api::log::{Reply, reply};
use mainstay_api::record::{BroughtBack, WorkflowTaskRecord};
use mainstay_api::temporal::enums::v1::{
    EventType, ResetReapplyExcludeType as Exclude, ResetReapplyType, WorkflowTaskFailedCause as Cause,
};
use mainstay_api::temporal::failure::v1::{Failure, ResetWorkflowFailureInfo, failure::FailureInfo};
use mainstay_api::temporal::history::v1::{HistoryEvent, WorkflowTaskFailedEventAttributes};
use mainstay_api::temporal::workflow::v1::post_reset_operation::Variant;
use mainstay_api::temporal::workflowservice::v1::{ResetWorkflowExecutionRequest, ResetWorkflowExecutionResponse};
use mainstay_base::RunId;

use crate::convert::given;
use crate::event::{Attributes, NewEvent};
use crate::lifecycle::{self, Termination};
use crate::replay::{Initiated, Replayed};
use crate::run::Run;
use crate::store::{Fault, Table};
use crate::transaction::{Transaction, decode, numbered};
use crate::{Answer, Error, activities, batch, children, external, options, reply_of, timers, updates, workflow_task};

const RESETTER: &str = "history-resetter";
const HISTORY_SERVICE: &str = "history-service";
/// Request id of a workflow task that nobody polled.
const NO_POLL: &str = "emptyUuid";

/// The part of a history that a new run keeps.
struct Prefix {
    /// First event id and events of each batch.
    batches: Vec<(i64, RawHistory)>,
}

pub(crate) fn reset(tx: &mut Transaction<'_>, request: &ResetWorkflowExecutionRequest) -> Answer<Reply> {
    let execution = given(&request.workflow_execution);
    let named = batch::run_of_reset(&request.request_id);
    if let Some(id) = named
        && tx.run_record(id)?.is_some()
    {
        return Ok(reply_of(reply::Reply::Reset(ResetWorkflowExecutionResponse { run_id: id.to_string() })));
    }
    let base = Run::load(tx, &execution.run_id)?;
    let finish = request.workflow_task_finish_event_id;
    let id = named.unwrap_or_else(|| tx.new_run_id());
    let prefix = prefix(tx, &base, finish)?;
    let mut replayed = Replayed::new(tx, id, &prefix.batches)?;
    let Some(task) = replayed.run.record.workflow_task.take() else {
        let text = "Can only reset workflow to event ID in range [WorkflowTaskScheduled +1, WorkflowTaskStarted + 1]";
        return Err(Error::invalid(format!("{text}: {finish}")).into());
    };
    let base_id = base.id;
    inherit(tx, &base, &mut replayed.run, finish);
    end_current(tx, &request.reason)?;
    mark_reset(tx, base_id, id)?;
    for (first, batch) in &prefix.batches {
        tx.put(numbered(Table::History, id, *first), batch);
    }
    let mut run = store(tx, replayed);
    fail_task(tx, &mut run, task, base_id, &request.reason);
    reapply(tx, &mut run, base_id, request)?;
    operate(tx, &mut run, request)?;
    run.make_current(tx);
    workflow_task::wake(tx, &mut run)?;
    let response = ResetWorkflowExecutionResponse { run_id: id.to_string() };
    run.save(tx);
    Ok(reply_of(reply::Reply::Reset(response)))
}

/// The batches before the finish event, which must begin a batch.
fn prefix(tx: &Transaction<'_>, base: &Run, finish: i64) -> Answer<Prefix> {
    if finish <= 1 || finish >= base.record.next_event_id {
        return Err(Error::invalid("Workflow task finish ID must be > 1 && <= workflow last event ID.").into());
    }
    let mut batches = Vec::new();
    for (first, batch) in histories(tx, base.id)? {
        if first >= finish {
            break;
        }
        if first + batch.events.len() as i64 > finish {
            let text = "StateRebuilder unable to Rebuild mutable state to event ID";
            let last = finish - 1;
            return Err(
                Error::invalid(format!("{text}: {last}, version: 0, this event must be at the boundary")).into()
            );
        }
        batches.push((first, batch));
    }
    Ok(Prefix { batches })
}

/// All batches of a run with their first event ids.
fn histories(tx: &Transaction<'_>, run: RunId) -> Result<Vec<(i64, RawHistory)>, Fault> {
    let mut batches = Vec::new();
    for (id, value) in tx.scan(Table::History, run)? {
        let first = <[u8; 8]>::try_from(id.as_slice()).map(i64::from_be_bytes).unwrap_or_default();
        batches.push((first, decode(Table::History, value)?));
    }
    Ok(batches)
}

/// What a history does not say. It is shared up to the finish event.
fn inherit(tx: &Transaction<'_>, base: &Run, run: &mut Run, finish: i64) {
    let (from, details) = (base.details(tx), run.details_mut(tx));
    details.start_request_id.clone_from(&from.start_request_id);
    details.user_metadata.clone_from(&from.user_metadata);
    details.completion_callbacks.clone_from(&from.completion_callbacks);
    details.forks = from.forks.iter().copied().filter(|fork| *fork < finish).chain([finish]).collect();
    run.record.last_reset_ns = run.record.start_ns;
    run.record.scheduled_by.clone_from(&base.record.scheduled_by);
}

/// The current run makes way.
fn end_current(tx: &mut Transaction<'_>, reason: &str) -> Answer<()> {
    let mut current = Run::load(tx, "")?;
    if !current.is_open() {
        return Ok(());
    }
    let how = Termination {
        reason: reason.to_string(),
        details: None,
        identity: RESETTER.into(),
        links: Vec::new(),
        by_reset: true,
    };
    lifecycle::terminate(tx, &mut current, how)?;
    current.save(tx);
    Ok(())
}

fn mark_reset(tx: &mut Transaction<'_>, base: RunId, id: RunId) -> Answer<()> {
    let mut base = Run::load(tx, &base.to_string())?;
    base.details_mut(tx).reset_run_id = id.to_string();
    base.save(tx);
    Ok(())
}

/// Stores what was pending: activities are handed out anew, timers keep their time, unanswered messages are sent again.
fn store(tx: &mut Transaction<'_>, replayed: Replayed) -> Run {
    let Replayed { mut run, activities, timers, children, initiated, request_ids, .. } = replayed;
    for (id, update) in replayed.updates {
        if update.admitted_event_id != 0 && update.accepted_event_id == 0 {
            run.record.set_brought_back(BroughtBack::Waiting);
        }
        updates::put(tx, &run, &id, &update);
    }
    let start_request_id = run.details(tx).start_request_id.clone();
    run.remember(tx, &start_request_id, EventType::WorkflowExecutionStarted, 1);
    for (request_id, kind, event_id) in request_ids {
        run.remember(tx, &request_id, kind, event_id);
    }
    for mut activity in activities.into_values() {
        activity.scheduled_ns = tx.now();
        activity.attempt_scheduled_ns = tx.now();
        activities::dispatch(tx, &run, &mut activity);
        activities::arm(tx, &run, &mut activity);
        activities::add(tx, &mut run, &activity);
    }
    for timer in timers.into_values() {
        timers::add(tx, &mut run, &timer);
    }
    for child in children.values().filter(|child| !child.run_id.is_empty()) {
        children::add(tx, &mut run, child);
    }
    for (event_id, event) in initiated {
        match event {
            Initiated::Child(a, metadata) => children::initiate(tx, &mut run, event_id, &a, metadata),
            Initiated::Signal(a) => external::send_signal(tx, &mut run, event_id, &a),
            Initiated::Cancel(a) => external::send_cancel(tx, &mut run, event_id, &a),
        }
    }
    lifecycle::arm_run_timer(tx, &mut run);
    run
}

/// Fails the workflow task that is open at the reset point; one that was not started is started first.
fn fail_task(tx: &Transaction<'_>, run: &mut Run, mut task: WorkflowTaskRecord, base: RunId, reason: &str) {
    if task.scheduled_event_id == 0 {
        let scheduled = workflow_task::scheduled_event(&run.record, &task);
        task.scheduled_event_id = run.write(tx, scheduled);
    }
    if task.started_event_id == 0 {
        task.identity = HISTORY_SERVICE.into();
        task.poll_request_id = NO_POLL.into();
        task.history_size_bytes = run.record.history_size_bytes;
        task.started_event_id = run.write(tx, workflow_task::started_event(&task, None));
        run.end_batch();
    }
    let failure = Failure {
        message: reason.to_string(),
        failure_info: Some(FailureInfo::ResetWorkflowFailureInfo(ResetWorkflowFailureInfo::default())),
        ..Failure::default()
    };
    let attributes = WorkflowTaskFailedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        cause: Cause::ResetWorkflow as i32,
        failure: Some(failure),
        identity: HISTORY_SERVICE.into(),
        base_run_id: base.to_string(),
        new_run_id: run.record.run_id.clone(),
        ..WorkflowTaskFailedEventAttributes::default()
    };
    run.write(tx, Attributes::WorkflowTaskFailedEventAttributes(attributes));
    run.record.failed_tasks = run.record.failed_tasks.saturating_add(1);
    run.record.set_last_task_failure(Cause::ResetWorkflow);
    workflow_task::report(tx, run);
}

/// Does to the new run what the request asks for besides.
fn operate(tx: &mut Transaction<'_>, run: &mut Run, request: &ResetWorkflowExecutionRequest) -> Answer<()> {
    for operation in &request.post_reset_operations {
        let Some(Variant::UpdateWorkflowOptions(update)) = &operation.variant else { continue };
        let wanted = given(&update.workflow_execution_options);
        options::apply(tx, run, &wanted, update.update_mask.as_ref(), &request.identity)?;
    }
    Ok(())
}

/// Applies again what came from outside after the reset point, also to runs that continued the base.
#[allow(deprecated)]
fn reapply(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    base: RunId,
    request: &ResetWorkflowExecutionRequest,
) -> Answer<()> {
    if request.reset_reapply_type() == ResetReapplyType::None {
        return Ok(());
    }
    let mut excludes: Vec<Exclude> = request.reset_reapply_exclude_types().collect();
    if request.reset_reapply_type() == ResetReapplyType::Signal {
        excludes.push(Exclude::Update);
    }
    let (mut from, mut source) = (request.workflow_task_finish_event_id, Some(base));
    while let Some(id) = source.take() {
        for (first, batch) in histories(tx, id)? {
            for (encoded, event_id) in batch.events.into_iter().zip(first..) {
                if event_id < from {
                    continue;
                }
                let event: HistoryEvent = decode(Table::History, encoded)?;
                if let Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(a)) = &event.attributes {
                    source = a.new_execution_run_id.parse().ok();
                }
                reapply_event(tx, run, event, &excludes)?;
            }
        }
        from = 1;
        if source.is_some_and(|next| matches!(tx.run_record(next), Ok(None))) {
            break;
        }
    }
    Ok(())
}

fn reapply_event(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    event: HistoryEvent,
    excludes: &[Exclude],
) -> Result<(), Fault> {
    let HistoryEvent { attributes: Some(mut attributes), links, user_metadata, .. } = event else { return Ok(()) };
    let attached = match &mut attributes {
        Attributes::WorkflowExecutionUpdateAdmittedEventAttributes(a) if !excludes.contains(&Exclude::Update) => {
            return updates::admit_again(tx, run, a.request.as_ref(), links);
        }
        Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(a) if !excludes.contains(&Exclude::Update) => {
            return updates::admit_again(tx, run, a.accepted_request.as_ref(), links);
        }
        Attributes::WorkflowExecutionSignaledEventAttributes(a) if !excludes.contains(&Exclude::Signal) => {
            run.record.signal_count += 1;
            // As recorded: who sent it is not said again.
            a.external_workflow_execution = None;
            String::new()
        }
        Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(a) => {
            options::take(tx, run, a);
            a.attached_request_id.clone()
        }
        _ => return Ok(()),
    };
    let new = NewEvent::from(attributes).with_links(links).with_metadata(user_metadata);
    let event_id = run.write(tx, new);
    run.remember(tx, &attached, EventType::WorkflowExecutionOptionsUpdated, event_id);
    Ok(())
}
