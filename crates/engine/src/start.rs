//! StartWorkflowExecution: request-id dedup first, then the conflict policy if a run is open, then the reuse policy if it is
//! closed. (Reference §2.12.)

use mainstay_api::log::{self, Reply, reply};
use mainstay_api::record::{ExecutionRecord, RequestIdRecord, WorkflowTaskRecord};
use mainstay_api::temporal::common::v1::{Link, link};
use mainstay_api::temporal::enums::v1::{ContinueAsNewInitiator as Initiator, TaskQueueKind};
use mainstay_api::temporal::enums::v1::{
    EventType, WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use mainstay_api::temporal::history::v1::{
    WorkflowExecutionOptionsUpdatedEventAttributes, WorkflowExecutionStartedEventAttributes as StartedAttributes,
};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1::{StartWorkflowExecutionRequest, StartWorkflowExecutionResponse};

use mainstay_base::RunId;

use crate::convert::{duration, given, json_payloads, nanos};
use crate::event::{Attributes, NewEvent};
use crate::lifecycle::{self, NewRun, Termination};
use crate::retry;
use crate::run::Run;
use crate::transaction::Transaction;
use crate::versioning;
use crate::workflow_task::{self, Starter};
use crate::{Answer, Error, reply_of};

/// Default and largest time-out of a workflow task.
const TASK_TIMEOUT_DEFAULT: i64 = 10_000_000_000;
const TASK_TIMEOUT_MAX: i64 = 120_000_000_000;
/// The Started event of a task that begins with its run.
const EAGER_STARTED_EVENT_ID: i64 = 3;

/// What an existing run means for a start.
pub(crate) enum Existing {
    /// Nothing stands in the way.
    Start,
    /// This request was seen before, by this run.
    Repeated(Box<Run>, RequestIdRecord),
    /// The open run is to be used.
    Use(Box<Run>),
    /// The open run is to be terminated first.
    Terminate(Box<Run>),
}

/// The policies of a start.
pub(crate) struct Policies {
    pub(crate) reuse: Reuse,
    pub(crate) conflict: Conflict,
}

#[allow(deprecated)]
pub(crate) fn start_workflow(tx: &mut Transaction<'_>, command: &log::StartWorkflow) -> Answer<Reply> {
    let request = given(&command.request);
    let request: &StartWorkflowExecutionRequest = &request;
    let mut policies =
        Policies { reuse: request.workflow_id_reuse_policy(), conflict: request.workflow_id_conflict_policy() };
    if policies.reuse == Reuse::TerminateIfRunning {
        policies = Policies { reuse: Reuse::AllowDuplicate, conflict: Conflict::TerminateExisting };
    }
    let id = tx.new_run_id();
    match resolve(tx, &request.request_id, &policies)? {
        Existing::Start => {}
        Existing::Repeated(run, seen) => return Ok(repeated(tx, *run, request, seen)),
        Existing::Use(run) => return use_existing(tx, *run, request),
        Existing::Terminate(mut run) => terminate_existing(tx, &mut run, id)?,
    }
    let eager = request.request_eager_execution && backoff_of(request, tx.now()) == 0;
    let mut run = new_run(tx, request, id, eager);
    run.make_current(tx);
    let mut eager_task = None;
    if eager {
        workflow_task::schedule_undispatched(tx, &mut run, 0)?;
        let starter =
            Starter { identity: &request.identity, request_id: &request.request_id, sticky: false, worker: None };
        eager_task = Some(workflow_task::start(tx, &mut run, &starter)?);
    } else {
        workflow_task::wake(tx, &mut run)?;
    }
    let mut reply = reply_of(reply::Reply::StartWorkflow(response(tx, &run, request, true, None)));
    reply.eager_workflow_task = eager_task.map(Box::new);
    run.save(tx);
    Ok(reply)
}

/// Decides what an existing run means for a start.
pub(crate) fn resolve(tx: &Transaction<'_>, request_id: &str, policies: &Policies) -> Answer<Existing> {
    let Some(execution) = tx.execution()? else { return Ok(Existing::Start) };
    let run = Run::load(tx, &execution.current_run_id)?;
    if let Some(seen) = run.seen(tx, request_id)? {
        return Ok(Existing::Repeated(Box::new(run), seen));
    }
    if run.is_open() {
        return match policies.conflict {
            Conflict::UseExisting => Ok(Existing::Use(Box::new(run))),
            Conflict::TerminateExisting => Ok(Existing::Terminate(Box::new(run))),
            _ => {
                let text = format!(
                    "Workflow execution is already running. WorkflowId: {}, RunId: {}.",
                    tx.entity.workflow_id, execution.current_run_id
                );
                Err(already_started(&execution, text).into())
            }
        };
    }
    check_reuse(tx, &execution, run.record.status(), policies.reuse)?;
    Ok(Existing::Start)
}

fn check_reuse(tx: &Transaction<'_>, execution: &ExecutionRecord, status: Status, reuse: Reuse) -> Answer<()> {
    let failed = matches!(status, Status::Failed | Status::Canceled | Status::Terminated | Status::TimedOut);
    let (how, rule) = match reuse {
        Reuse::AllowDuplicateFailedOnly if !failed => {
            ("finished successfully", "allow duplicate workflow Id if last run failed")
        }
        Reuse::RejectDuplicate => ("finished", "reject duplicate workflow Id"),
        _ => return Ok(()),
    };
    let text = format!(
        "Workflow execution already {how}. WorkflowId: {}, RunId: {}. Workflow Id reuse policy: {rule}.",
        tx.entity.workflow_id, execution.current_run_id
    );
    Err(already_started(execution, text).into())
}

fn already_started(execution: &ExecutionRecord, message: String) -> Error {
    Error::AlreadyStarted {
        message,
        start_request_id: execution.start_request_id.clone(),
        run_id: execution.current_run_id.clone(),
        first_execution_run_id: execution.first_execution_run_id.clone(),
    }
}

/// Terminates the run that `successor` takes the place of.
pub(crate) fn terminate_existing(tx: &mut Transaction<'_>, run: &mut Run, successor: RunId) -> Answer<()> {
    let mut how = Termination::by_history("TerminateIfRunning WorkflowIdReusePolicy");
    how.details = Some(json_payloads(&format!("\"terminated by new runID: {successor}\"")));
    lifecycle::terminate(tx, run, how)?;
    run.clone().save(tx);
    Ok(())
}

/// Creates the run that a request asks for; it has no task yet.
pub(crate) fn new_run(
    tx: &mut Transaction<'_>,
    request: &StartWorkflowExecutionRequest,
    id: RunId,
    eager: bool,
) -> Run {
    let attributes = attributes(request, tx.now(), eager);
    create(tx, request, id, attributes)
}

/// The first event of the run that a request asks for.
pub(crate) fn attributes(request: &StartWorkflowExecutionRequest, now: i64, eager: bool) -> StartedAttributes {
    let backoff = backoff_of(request, now);
    let execution = nanos(request.workflow_execution_timeout.as_ref());
    let run_timeout = crate::convert::least(nanos(request.workflow_run_timeout.as_ref()), execution);
    let queue = request.task_queue.clone().unwrap_or_default();
    StartedAttributes {
        workflow_type: request.workflow_type.clone(),
        task_queue: Some(TaskQueue { name: queue.name, kind: TaskQueueKind::Normal as i32, ..TaskQueue::default() }),
        input: request.input.clone(),
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: if run_timeout == 0 { request.workflow_run_timeout } else { duration(run_timeout) },
        workflow_task_timeout: duration(task_timeout(nanos(request.workflow_task_timeout.as_ref()), run_timeout)),
        identity: request.identity.clone(),
        retry_policy: request.retry_policy.as_ref().map(|policy| retry::with_defaults(Some(policy))),
        cron_schedule: request.cron_schedule.clone(),
        initiator: if request.cron_schedule.is_empty() { 0 } else { Initiator::CronSchedule as i32 },
        first_workflow_task_backoff: duration(backoff),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        header: request.header.clone(),
        continued_failure: request.continued_failure.clone(),
        last_completion_result: request.last_completion_result.clone(),
        completion_callbacks: request.completion_callbacks.clone(),
        versioning_override: request.versioning_override.as_ref().map(versioning::newest),
        priority: request.priority.clone(),
        eager_execution_accepted: eager,
        ..StartedAttributes::default()
    }
}

/// Creates a run that begins with this event; it has no task yet.
pub(crate) fn create(
    tx: &mut Transaction<'_>,
    request: &StartWorkflowExecutionRequest,
    id: RunId,
    attributes: StartedAttributes,
) -> Run {
    let new = NewRun {
        id,
        attributes,
        request_id: request.request_id.clone(),
        user_metadata: request.user_metadata.clone(),
        links: request.links.clone(),
        callbacks: request.completion_callbacks.clone(),
    };
    lifecycle::create(tx, new)
}

/// The time-out of workflow tasks: 10 s by default, at most 120 s, never longer than the run.
pub(crate) fn task_timeout(asked: i64, run_timeout: i64) -> i64 {
    let timeout = if asked == 0 { TASK_TIMEOUT_DEFAULT } else { asked.min(TASK_TIMEOUT_MAX) };
    crate::convert::least(timeout, run_timeout)
}

fn backoff_of(request: &StartWorkflowExecutionRequest, now: i64) -> i64 {
    if request.cron_schedule.is_empty() {
        nanos(request.workflow_start_delay.as_ref()).max(0)
    } else {
        lifecycle::cron_backoff(&request.cron_schedule, now, now).unwrap_or(0)
    }
}

/// The answer to a request id that the run knows: the start itself, or one that was attached.
fn repeated(tx: &Transaction<'_>, run: Run, request: &StartWorkflowExecutionRequest, seen: RequestIdRecord) -> Reply {
    let by_start = seen.event_type() == EventType::WorkflowExecutionStarted;
    let reference = if by_start { None } else { Some(seen.event_type()) };
    let mut reply = reply_of(reply::Reply::StartWorkflow(response(tx, &run, request, by_start, reference)));
    // An eager start whose answer was lost gets its task again while that is still the first.
    let first = |task: &WorkflowTaskRecord| task.started_event_id == EAGER_STARTED_EVENT_ID && task.attempt == 1;
    if by_start
        && request.request_eager_execution
        && run.is_open()
        && run.record.workflow_task.as_ref().is_some_and(first)
    {
        reply.eager_workflow_task = Some(Box::new(workflow_task::describe_started(tx, &run, false)));
    }
    reply
}

fn use_existing(tx: &mut Transaction<'_>, mut run: Run, request: &StartWorkflowExecutionRequest) -> Answer<Reply> {
    let Some(options) = request.on_conflict_options.as_ref() else {
        return Ok(reply_of(reply::Reply::StartWorkflow(response(tx, &run, request, false, None))));
    };
    let attributes = WorkflowExecutionOptionsUpdatedEventAttributes {
        attached_request_id: if options.attach_request_id { request.request_id.clone() } else { String::new() },
        attached_completion_callbacks: if options.attach_completion_callbacks {
            request.completion_callbacks.clone()
        } else {
            Vec::new()
        },
        ..WorkflowExecutionOptionsUpdatedEventAttributes::default()
    };
    let links = if options.attach_links { request.links.clone() } else { Vec::new() };
    let event = NewEvent::from(Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(attributes));
    let event_id = run.add(tx, event.with_links(links)).id();
    if options.attach_request_id {
        run.remember(tx, &request.request_id, EventType::WorkflowExecutionOptionsUpdated, event_id);
    }
    let kind = Some(EventType::WorkflowExecutionOptionsUpdated);
    let reply = reply_of(reply::Reply::StartWorkflow(response(tx, &run, request, false, kind)));
    run.save(tx);
    Ok(reply)
}

fn response(
    tx: &Transaction<'_>,
    run: &Run,
    request: &StartWorkflowExecutionRequest,
    started: bool,
    by_request_id: Option<EventType>,
) -> StartWorkflowExecutionResponse {
    let reference = match by_request_id {
        Some(kind) => request_reference(&request.request_id, kind),
        None => event_reference(1, EventType::WorkflowExecutionStarted),
    };
    StartWorkflowExecutionResponse {
        run_id: run.record.run_id.clone(),
        first_execution_run_id: run.details(tx).first_execution_run_id.clone(),
        started,
        status: run.record.status,
        eager_workflow_task: None,
        link: Some(event_link(tx, run, &request.namespace, reference)),
    }
}

/// A link to an event by its id.
pub(crate) fn event_reference(event_id: i64, kind: EventType) -> link::workflow_event::Reference {
    let reference = link::workflow_event::EventReference { event_id, event_type: kind as i32 };
    link::workflow_event::Reference::EventRef(reference)
}

/// A link to an event by the request that caused it.
pub(crate) fn request_reference(request_id: &str, kind: EventType) -> link::workflow_event::Reference {
    let reference =
        link::workflow_event::RequestIdReference { request_id: request_id.to_string(), event_type: kind as i32 };
    link::workflow_event::Reference::RequestIdRef(reference)
}

/// A link to an event of this run.
pub(crate) fn event_link(
    tx: &Transaction<'_>,
    run: &Run,
    namespace: &str,
    reference: link::workflow_event::Reference,
) -> Link {
    let event = link::WorkflowEvent {
        namespace: namespace.to_string(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        reference: Some(reference),
    };
    Link { variant: Some(link::Variant::WorkflowEvent(event)) }
}
