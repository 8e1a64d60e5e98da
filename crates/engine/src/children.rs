//! Child workflows, as their parent and as they themselves see it. (Reference §2.16.)
//!
//! A parent has a row for each child from its Initiated event to its close event. The start travels as a message, and so does
//! all that follows: the child may begin when the parent has recorded the start, the last run of the child's chain reports its
//! close, a parent's close ends or cancels the children as each one's policy says. A close may overtake the answer to the start; then
//! the parent records both.

use mainstay_api::record::{
    ChildClosed, ChildRecord, ChildStarted, CloseChild, EntityMessage, MessageOutcome, ReleaseChild, RunDetails,
    RunRecord, StartChild, WithdrawStart, child_closed::Close, entity_message::Body, message_outcome::Outcome,
};
use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{
    ParentClosePolicy as Policy, StartChildWorkflowExecutionFailedCause as Cause, WorkflowIdConflictPolicy as Conflict,
    WorkflowIdReusePolicy as Reuse,
};
use mainstay_api::temporal::history::v1::{
    ChildWorkflowExecutionStartedEventAttributes, StartChildWorkflowExecutionFailedEventAttributes,
    StartChildWorkflowExecutionInitiatedEventAttributes as InitiatedAttributes,
};
use mainstay_api::temporal::sdk::v1::UserMetadata;
use mainstay_api::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use mainstay_base::RunId;

use crate::activities::merged_priority;
use crate::cancellation::{self, CancelRequest};
use crate::convert::given;
use crate::event::Attributes;
use crate::lifecycle::{self, Termination};
use crate::messages::{self, Address, done, is_child_of, open_run};
use crate::run::Run;
use crate::start::{self, Existing, Policies};
use crate::store::{MessageId, Table};
use crate::transaction::{Transaction, numbered};
use crate::workflow_task;
use crate::{Answer, Error, Stop};

const PARENT_CLOSED: &str = "by parent close policy";
/// Resets of resets that the report of a child follows.
const RESETS_MAX: usize = 100;

fn get(tx: &Transaction<'_>, run: &Run, initiated_event_id: i64) -> Answer<Option<ChildRecord>> {
    Ok(tx.get(&numbered(Table::Child, run.id, initiated_event_id))?)
}

fn put(tx: &mut Transaction<'_>, run: &Run, child: &ChildRecord) {
    tx.put(numbered(Table::Child, run.id, child.initiated_event_id), child);
}

fn forget(tx: &mut Transaction<'_>, run: &mut Run, child: &ChildRecord) {
    tx.delete(numbered(Table::Child, run.id, child.initiated_event_id));
    run.record.child_count -= 1;
}

// What a parent does.

/// The child that an Initiated event describes.
pub(crate) fn initiated(initiated_event_id: i64, a: &InitiatedAttributes) -> ChildRecord {
    ChildRecord {
        initiated_event_id,
        workflow_id: a.workflow_id.clone(),
        workflow_type: given(&a.workflow_type).name.clone(),
        policy: a.parent_close_policy,
        ..ChildRecord::default()
    }
}

/// Adds a child that is known to run.
pub(crate) fn add(tx: &mut Transaction<'_>, run: &mut Run, child: &ChildRecord) {
    put(tx, run, child);
    run.record.child_count += 1;
}

/// Adds a child and asks for its start.
#[allow(deprecated)]
pub(crate) fn initiate(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    initiated_event_id: i64,
    a: &InitiatedAttributes,
    user_metadata: Option<UserMetadata>,
) {
    let request = StartWorkflowExecutionRequest {
        namespace: a.namespace.clone(),
        workflow_id: a.workflow_id.clone(),
        workflow_type: a.workflow_type.clone(),
        task_queue: a.task_queue.clone(),
        input: a.input.clone(),
        workflow_execution_timeout: a.workflow_execution_timeout,
        workflow_run_timeout: a.workflow_run_timeout,
        workflow_task_timeout: a.workflow_task_timeout,
        // The version of failover, which the reference server shows last, is always 0 here.
        request_id: format!("{}:{initiated_event_id}:0", run.id),
        workflow_id_reuse_policy: a.workflow_id_reuse_policy,
        retry_policy: a.retry_policy.clone(),
        cron_schedule: a.cron_schedule.clone(),
        memo: a.memo.clone(),
        search_attributes: a.search_attributes.clone(),
        header: a.header.clone(),
        user_metadata,
        versioning_override: a.versioning_override.clone(),
        priority: merged_priority(run.record.priority.as_ref(), a.priority.as_ref()),
        ..StartWorkflowExecutionRequest::default()
    };
    let start = StartChild {
        request: Some(request),
        parent_namespace: a.namespace.clone(),
        root: Some(WorkflowExecution {
            workflow_id: run.details(tx).root_workflow_id.clone(),
            run_id: run.details(tx).root_run_id.clone(),
        }),
        control: a.control.clone(),
    };
    let namespace_id = tx.entity.namespace_id.clone();
    let to = Address { namespace_id: &namespace_id, workflow_id: &a.workflow_id, initiated_event_id };
    let sequence = messages::send(tx, run, &to, Body::StartChild(start));
    add(tx, run, &ChildRecord { sequence, ..initiated(initiated_event_id, a) });
}

/// The answer to a start. A child that has reported its close already is not in the rows any more.
pub(crate) fn start_answered(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    start: &StartChild,
    outcome: &Outcome,
) -> Answer<()> {
    let Some(mut run) = open_run(tx, &message.source_run_id)? else { return Ok(()) };
    let Some(mut child) = get(tx, &run, message.initiated_event_id)? else { return Ok(()) };
    if !child.run_id.is_empty() {
        return Ok(());
    }
    match outcome {
        Outcome::ChildStarted(started) => {
            record_start(tx, &mut run, &mut child, start, &started.run_id);
            let to = Address {
                namespace_id: &message.namespace_id,
                workflow_id: &child.workflow_id,
                initiated_event_id: child.initiated_event_id,
            };
            let release = ReleaseChild { run_id: started.run_id.clone() };
            messages::send(tx, &run, &to, Body::ReleaseChild(release));
        }
        Outcome::StartFailed(cause) => record_failed_start(tx, &mut run, &child, start, *cause),
        _ => return Ok(()),
    }
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(())
}

fn record_start(tx: &mut Transaction<'_>, run: &mut Run, child: &mut ChildRecord, start: &StartChild, run_id: &str) {
    let request = given(&start.request);
    let attributes = ChildWorkflowExecutionStartedEventAttributes {
        namespace: request.namespace.clone(),
        namespace_id: tx.entity.namespace_id.clone(),
        initiated_event_id: child.initiated_event_id,
        workflow_execution: Some(WorkflowExecution {
            workflow_id: child.workflow_id.clone(),
            run_id: run_id.to_string(),
        }),
        workflow_type: request.workflow_type.clone(),
        header: request.header.clone(),
    };
    child.run_id = run_id.to_string();
    child.sequence = 0;
    child.started_event_id = run.add(tx, Attributes::ChildWorkflowExecutionStartedEventAttributes(attributes)).id();
    put(tx, run, child);
}

#[allow(deprecated)]
fn record_failed_start(tx: &mut Transaction<'_>, run: &mut Run, child: &ChildRecord, start: &StartChild, cause: i32) {
    let attributes = StartChildWorkflowExecutionFailedEventAttributes {
        namespace: given(&start.request).namespace.clone(),
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: child.workflow_id.clone(),
        workflow_type: Some(WorkflowType { name: child.workflow_type.clone() }),
        cause,
        control: start.control.clone(),
        initiated_event_id: child.initiated_event_id,
        workflow_task_completed_event_id: 0,
    };
    run.add(tx, Attributes::StartChildWorkflowExecutionFailedEventAttributes(attributes));
    forget(tx, run, child);
}

/// A child's last run closed. What no longer matters to an open run is dropped.
pub(crate) fn closed(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    closed: &ChildClosed,
) -> Answer<MessageOutcome> {
    let Some(mut run) = reported_to(tx, &closed.parent_run_id)? else { return Ok(done()) };
    let Some(mut child) = get(tx, &run, message.initiated_event_id)? else { return Ok(done()) };
    let started_here = run.record.run_id == closed.parent_run_id;
    let same = if child.run_id.is_empty() { started_here } else { child.run_id == closed.first_run_id };
    if child.workflow_id != message.source_workflow_id || !same {
        return Ok(done());
    }
    if child.run_id.is_empty() {
        let id = MessageId { source_slot: tx.slot(), sequence: child.sequence };
        if let Some(EntityMessage { body: Some(Body::StartChild(start)), .. }) = tx.message(id)? {
            record_start(tx, &mut run, &mut child, &start, &closed.first_run_id);
        }
    }
    let namespace = tx.namespace()?.name.clone();
    if let Some(attributes) = close_event(&namespace, message, &child, closed) {
        run.add(tx, attributes);
    }
    forget(tx, &mut run, &child);
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(done())
}

/// The open run that a report to this run is for: itself, or what it was reset to.
fn reported_to(tx: &Transaction<'_>, run_id: &str) -> Answer<Option<Run>> {
    let mut run_id = run_id.to_string();
    for _ in 0..RESETS_MAX {
        let run = match Run::load(tx, &run_id) {
            Ok(run) => run,
            Err(Stop::Refused(_)) => return Ok(None),
            Err(broken) => return Err(broken),
        };
        if run.is_open() {
            return Ok(Some(run));
        }
        run_id.clone_from(&run.details(tx).reset_run_id);
        if run_id.is_empty() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// The parent's event: what the child told, and what only the parent knows.
fn close_event(
    namespace: &str,
    message: &EntityMessage,
    child: &ChildRecord,
    closed: &ChildClosed,
) -> Option<Attributes> {
    let execution =
        WorkflowExecution { workflow_id: message.source_workflow_id.clone(), run_id: closed.run_id.clone() };
    let kind = WorkflowType { name: child.workflow_type.clone() };
    macro_rules! filled {
        ($told:expr, $variant:ident) => {{
            let mut a = $told.clone();
            a.namespace = namespace.to_string();
            a.namespace_id = message.source_namespace_id.clone();
            a.workflow_execution = Some(execution);
            a.workflow_type = Some(kind);
            a.initiated_event_id = child.initiated_event_id;
            a.started_event_id = child.started_event_id;
            Attributes::$variant(a)
        }};
    }
    Some(match closed.close.as_ref()? {
        Close::Completed(told) => filled!(told, ChildWorkflowExecutionCompletedEventAttributes),
        Close::Failed(told) => filled!(told, ChildWorkflowExecutionFailedEventAttributes),
        Close::Canceled(told) => filled!(told, ChildWorkflowExecutionCanceledEventAttributes),
        Close::TimedOut(told) => filled!(told, ChildWorkflowExecutionTimedOutEventAttributes),
        Close::Terminated(told) => filled!(told, ChildWorkflowExecutionTerminatedEventAttributes),
    })
}

/// Applies the parent close policies of a run that closes. A child whose start is not recorded is not started; if it was already, it
/// ends as its policy says.
pub(crate) fn leave(tx: &mut Transaction<'_>, run: &Run) -> Answer<()> {
    let namespace_id = tx.entity.namespace_id.clone();
    for child in tx.scan_records::<ChildRecord>(Table::Child, run.id)? {
        let to = Address {
            namespace_id: &namespace_id,
            workflow_id: &child.workflow_id,
            initiated_event_id: child.initiated_event_id,
        };
        if child.run_id.is_empty() {
            withdraw(tx, run, &child, &to);
        }
        // As recorded, what this run has started under the same id before ends by the policy of a start that is not recorded.
        if child.policy() != Policy::Abandon {
            let close = CloseChild { first_run_id: child.run_id.clone(), policy: child.policy };
            messages::send(tx, run, &to, Body::CloseChild(close));
        }
    }
    Ok(())
}

/// Takes back the starts that are not recorded, of a run that makes way for a reset: its other children live on.
pub(crate) fn withdraw_starts(tx: &mut Transaction<'_>, run: &Run) -> Answer<()> {
    let namespace_id = tx.entity.namespace_id.clone();
    for child in tx.scan_records::<ChildRecord>(Table::Child, run.id)? {
        if child.run_id.is_empty() {
            let to = Address {
                namespace_id: &namespace_id,
                workflow_id: &child.workflow_id,
                initiated_event_id: child.initiated_event_id,
            };
            withdraw(tx, run, &child, &to);
        }
    }
    Ok(())
}

fn withdraw(tx: &mut Transaction<'_>, run: &Run, child: &ChildRecord, to: &Address<'_>) {
    let withdrawn = WithdrawStart { policy: child.policy };
    messages::replace(tx, run, child.sequence, to, Body::WithdrawStart(withdrawn));
}

/// The answer to a withdrawal: a child that had started first is left as its policy says.
pub(crate) fn withdrawal_answered(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    withdrawn: &WithdrawStart,
    outcome: &Outcome,
) -> Answer<()> {
    let Outcome::ChildStarted(started) = outcome else { return Ok(()) };
    // The parent may be erased by now: the message says all that is needed.
    let record = RunRecord { run_id: message.source_run_id.clone(), ..RunRecord::default() };
    let run_id: RunId = record.run_id.parse().map_err(|_| Error::invalid("Invalid RunId."))?;
    let run = Run::new(run_id, record, RunDetails::default());
    let to = Address {
        namespace_id: &message.namespace_id,
        workflow_id: &message.workflow_id,
        initiated_event_id: message.initiated_event_id,
    };
    let body = match withdrawn.policy() {
        Policy::Abandon => Body::ReleaseChild(ReleaseChild { run_id: started.run_id.clone() }),
        _ => Body::CloseChild(CloseChild { first_run_id: started.run_id.clone(), policy: withdrawn.policy }),
    };
    messages::send(tx, &run, &to, body);
    Ok(())
}

// What a child does.

/// Starts a child; it has no workflow task before its parent has recorded that.
pub(crate) fn start(tx: &mut Transaction<'_>, message: &EntityMessage, start: &StartChild) -> Answer<MessageOutcome> {
    match started(tx, message, start) {
        Ok(run_id) => Ok(MessageOutcome { outcome: Some(Outcome::ChildStarted(ChildStarted { run_id })) }),
        Err(Stop::Refused(Error::NamespaceNotFound(_))) => Ok(failed(Cause::NamespaceNotFound)),
        Err(Stop::Refused(_)) => Ok(failed(Cause::WorkflowAlreadyExists)),
        Err(broken) => Err(broken),
    }
}

fn failed(cause: Cause) -> MessageOutcome {
    MessageOutcome { outcome: Some(Outcome::StartFailed(cause as i32)) }
}

#[allow(deprecated)]
fn started(tx: &mut Transaction<'_>, message: &EntityMessage, start: &StartChild) -> Answer<String> {
    tx.namespace()?;
    let request = given(&start.request);
    let (mut reuse, mut conflict) = (request.workflow_id_reuse_policy(), Conflict::Fail);
    if reuse == Reuse::TerminateIfRunning {
        (reuse, conflict) = (Reuse::AllowDuplicate, Conflict::TerminateExisting);
    }
    let id = tx.new_run_id();
    match start::resolve(tx, &request.request_id, &Policies { reuse, conflict })? {
        Existing::Start => {}
        Existing::Repeated(run, _) | Existing::Use(run) => return Ok(run.record.run_id.clone()),
        Existing::Terminate(mut run) => start::terminate_existing(tx, &mut run, id)?,
    }
    let mut attributes = start::attributes(&request, tx.now(), false);
    attributes.parent_workflow_namespace = start.parent_namespace.clone();
    attributes.parent_workflow_namespace_id = message.source_namespace_id.clone();
    attributes.parent_workflow_execution = Some(WorkflowExecution {
        workflow_id: message.source_workflow_id.clone(),
        run_id: message.source_run_id.clone(),
    });
    attributes.parent_initiated_event_id = message.initiated_event_id;
    attributes.root_workflow_execution = start.root.clone();
    let mut run = start::create(tx, &request, id, attributes);
    run.record.awaits_parent = true;
    run.make_current(tx);
    run.save(tx);
    Ok(id.to_string())
}

/// The parent has recorded the start.
pub(crate) fn release(tx: &mut Transaction<'_>, release: &ReleaseChild) -> Answer<MessageOutcome> {
    let Some(mut run) = open_run(tx, &release.run_id)? else { return Ok(done()) };
    if run.record.awaits_parent {
        run.record.awaits_parent = false;
        workflow_task::wake(tx, &mut run)?;
        run.save(tx);
    }
    Ok(done())
}

/// The parent closed: the chain's current run ends or is asked to.
pub(crate) fn parent_closed(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    close: &CloseChild,
) -> Answer<MessageOutcome> {
    let Some(mut run) = open_run(tx, "")? else { return Ok(done()) };
    let is_meant = close.first_run_id.is_empty() || run.details(tx).first_execution_run_id == close.first_run_id;
    if !is_meant || !is_child_of(tx, &run, message) {
        return Ok(done());
    }
    run.record.awaits_parent = false;
    if close.policy() == Policy::RequestCancel {
        let request = CancelRequest::of_workflow(message, String::new(), String::new());
        cancellation::add_request(tx, &mut run, request)?;
    } else {
        lifecycle::terminate(tx, &mut run, Termination::by_history(PARENT_CLOSED))?;
    }
    run.save(tx);
    Ok(done())
}

/// Tells the parent, if there is one, that the chain has ended.
pub(crate) fn report(tx: &mut Transaction<'_>, run: &Run, close: Close) {
    if !run.record.is_child {
        return;
    }
    let details = run.details(tx);
    let closed = ChildClosed {
        parent_run_id: details.parent_run_id.clone(),
        first_run_id: details.first_execution_run_id.clone(),
        run_id: run.record.run_id.clone(),
        close: Some(close),
    };
    let to = Address {
        namespace_id: &details.parent_namespace_id,
        workflow_id: &details.parent_workflow_id,
        initiated_event_id: details.parent_initiated_event_id,
    };
    messages::send(tx, run, &to, Body::ChildClosed(closed));
}
