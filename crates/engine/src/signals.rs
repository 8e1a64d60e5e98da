//! Signals from clients: dedup by request id before anything else, then the run must be open. (Reference §2.8.)

use mainstay_api::log::{Reply, reply};
use mainstay_api::temporal::common::v1::{Header, Link, Payloads, WorkflowExecution};
use mainstay_api::temporal::enums::v1::{
    EventType, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use mainstay_api::temporal::history::v1::WorkflowExecutionSignaledEventAttributes;
use mainstay_api::temporal::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWithStartWorkflowExecutionResponse, SignalWorkflowExecutionRequest,
    SignalWorkflowExecutionResponse, StartWorkflowExecutionRequest,
};
use mainstay_base::{RunId, limits};

use crate::closing;
use crate::convert::given;
use crate::event::{Attributes, NewEvent};
use crate::lifecycle;
use crate::run::{Run, already_completed};
use crate::start::{self, Existing, Policies, event_link, request_reference};
use crate::transaction::Transaction;
use crate::workflow_task::{self, TaskFailure};
use crate::{Answer, Error, reply_of};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause;

/// The signal of a run that begins with one.
const SIGNAL_OF_START_EVENT_ID: i64 = 2;

/// A signal, whoever sends it.
pub(crate) struct Signal {
    pub(crate) name: String,
    pub(crate) input: Option<Payloads>,
    pub(crate) identity: String,
    pub(crate) header: Option<Header>,
    pub(crate) request_id: String,
    pub(crate) links: Vec<Link>,
    /// The workflow that sends it, if it is one.
    pub(crate) sender: Option<WorkflowExecution>,
}

pub(crate) fn signal(tx: &mut Transaction<'_>, request: &SignalWorkflowExecutionRequest) -> Answer<Reply> {
    let execution = given(&request.workflow_execution);
    let mut run = Run::load(tx, &execution.run_id)?;
    let reference = request_reference(&request.request_id, EventType::WorkflowExecutionSignaled);
    let link = event_link(tx, &run, &request.namespace, reference);
    let response = SignalWorkflowExecutionResponse { link: Some(link) };
    let reply = reply_of(reply::Reply::SignalWorkflow(response));
    if run.seen_signal(tx, &request.request_id)? {
        return Ok(reply);
    }
    if !run.is_open() {
        return Err(already_completed().into());
    }
    let signal = Signal {
        name: request.signal_name.clone(),
        input: request.input.clone(),
        identity: request.identity.clone(),
        header: request.header.clone(),
        request_id: request.request_id.clone(),
        links: request.links.clone(),
        sender: None,
    };
    deliver(tx, &mut run, signal)?;
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(reply)
}

/// Adds a signal of a client to an open run.
fn deliver(tx: &mut Transaction<'_>, run: &mut Run, signal: Signal) -> Answer<()> {
    closing::refuse_signal(run)?;
    add(tx, run, signal)
}

/// Adds a signal to an open run.
pub(crate) fn add(tx: &mut Transaction<'_>, run: &mut Run, signal: Signal) -> Answer<()> {
    if run.record.signal_count >= limits::SIGNALS_MAX {
        return Err(Error::invalid("exceeded workflow execution limit for signal events").into());
    }
    run.record.signal_count += 1;
    let request_id = signal.request_id.clone();
    let attributes = WorkflowExecutionSignaledEventAttributes {
        signal_name: signal.name,
        input: signal.input,
        identity: signal.identity,
        header: signal.header,
        request_id: signal.request_id,
        external_workflow_execution: signal.sender,
        ..WorkflowExecutionSignaledEventAttributes::default()
    };
    let event = NewEvent::from(Attributes::WorkflowExecutionSignaledEventAttributes(attributes));
    let event_id = run.add(tx, event.with_links(signal.links)).id();
    run.remember_signal(tx, &request_id, event_id)?;
    relieve_buffer(tx, run)
}

/// A buffer over its limits fails the started task, so that a storm of events cannot keep a run from progressing.
fn relieve_buffer(tx: &mut Transaction<'_>, run: &mut Run) -> Answer<()> {
    let over = run.record.buffered_count > limits::BUFFERED_EVENTS_MAX as i64
        || run.record.buffered_bytes > limits::BUFFERED_BYTES_MAX as i64;
    if !over || !run.task_started() {
        return Ok(());
    }
    let cause = WorkflowTaskFailedCause::ForceCloseCommand;
    workflow_task::fail(tx, run, TaskFailure { cause, failure: None, identity: "history-service".into() });
    run.flush_buffer(tx)?;
    workflow_task::wake(tx, run)
}

#[allow(deprecated)]
pub(crate) fn signal_with_start(
    tx: &mut Transaction<'_>,
    request: &SignalWithStartWorkflowExecutionRequest,
) -> Answer<Reply> {
    let mut policies = Policies {
        reuse: request.workflow_id_reuse_policy(),
        conflict: match request.workflow_id_conflict_policy() {
            Conflict::TerminateExisting => Conflict::TerminateExisting,
            _ => Conflict::UseExisting,
        },
    };
    if policies.reuse == Reuse::TerminateIfRunning {
        policies = Policies { reuse: Reuse::AllowDuplicate, conflict: Conflict::TerminateExisting };
    }
    let mut started = true;
    let id = tx.new_run_id();
    // No look at the request id of the start: a repeat is told by the signal's own.
    let mut run = match start::resolve(tx, "", &policies)? {
        Existing::Use(run) if run.seen_signal(tx, &request.request_id)? => {
            return Ok(answer(tx, &run, request, false));
        }
        Existing::Use(run) => {
            started = false;
            *run
        }
        // Also what this very request started before. (Recorded.)
        Existing::Terminate(mut run) => {
            start::terminate_existing(tx, &mut run, id)?;
            begin(tx, request, id)
        }
        Existing::Start | Existing::Repeated(..) => begin(tx, request, id),
    };
    let signal = Signal {
        name: request.signal_name.clone(),
        input: request.signal_input.clone(),
        identity: request.identity.clone(),
        header: request.header.clone(),
        request_id: request.request_id.clone(),
        links: request.links.clone(),
        sender: None,
    };
    if !started {
        // Unlike a plain signal, this one does not let a delayed start wait.
        lifecycle::end_backoff(tx, &mut run);
    }
    deliver(tx, &mut run, signal)?;
    if started {
        // One request id means both events; it is known as that of the start.
        run.remember(tx, &request.request_id, EventType::WorkflowExecutionStarted, SIGNAL_OF_START_EVENT_ID);
    }
    workflow_task::wake(tx, &mut run)?;
    let reply = answer(tx, &run, request, started);
    run.save(tx);
    Ok(reply)
}

fn begin(tx: &mut Transaction<'_>, request: &SignalWithStartWorkflowExecutionRequest, id: RunId) -> Run {
    let start = StartWorkflowExecutionRequest {
        namespace: request.namespace.clone(),
        workflow_id: request.workflow_id.clone(),
        workflow_type: request.workflow_type.clone(),
        task_queue: request.task_queue.clone(),
        input: request.input.clone(),
        workflow_execution_timeout: request.workflow_execution_timeout,
        workflow_run_timeout: request.workflow_run_timeout,
        workflow_task_timeout: request.workflow_task_timeout,
        identity: request.identity.clone(),
        request_id: request.request_id.clone(),
        retry_policy: request.retry_policy.clone(),
        cron_schedule: request.cron_schedule.clone(),
        memo: request.memo.clone(),
        search_attributes: request.search_attributes.clone(),
        header: request.header.clone(),
        workflow_start_delay: request.workflow_start_delay,
        user_metadata: request.user_metadata.clone(),
        links: request.links.clone(),
        versioning_override: request.versioning_override.clone(),
        priority: request.priority.clone(),
        ..StartWorkflowExecutionRequest::default()
    };
    let run = start::new_run(tx, &start, id, false);
    run.make_current(tx);
    run
}

fn answer(tx: &Transaction<'_>, run: &Run, request: &SignalWithStartWorkflowExecutionRequest, started: bool) -> Reply {
    let reference = request_reference(&request.request_id, EventType::WorkflowExecutionSignaled);
    reply_of(reply::Reply::SignalWithStart(SignalWithStartWorkflowExecutionResponse {
        run_id: run.record.run_id.clone(),
        first_execution_run_id: run.details(tx).first_execution_run_id.clone(),
        started,
        signal_link: Some(event_link(tx, run, &request.namespace, reference)),
    }))
}
