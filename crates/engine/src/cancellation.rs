//! How clients stop a workflow: cancel asks, terminate ends, delete forgets. (Reference §2.17.)

use mainstay_api::log::{self, Reply};
use mainstay_api::record::EntityMessage;
use mainstay_api::temporal::common::v1::{Link, WorkflowExecution};
use mainstay_api::temporal::history::v1::WorkflowExecutionCancelRequestedEventAttributes;
use mainstay_api::temporal::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};

use crate::convert::given;
use crate::event::{Attributes, NewEvent};
use crate::lifecycle::{self, Termination};
use crate::run::{Run, already_completed};
use crate::store::EntityKey;
use crate::transaction::Transaction;
use crate::{Answer, empty, external, workflow_task};

const TERMINATE_REASON: &str = "terminated by user via frontend";
const TERMINATE_IDENTITY: &str = "frontend-service";

/// The run that a request means. One that names the first run of a chain means the chain's current run, whatever run it names; that
/// it is of this chain matters only while it is open.
fn meant(tx: &Transaction<'_>, execution: Option<&WorkflowExecution>, first_execution_run_id: &str) -> Answer<Run> {
    let run_id = execution.map_or("", |execution| execution.run_id.as_str());
    let run = Run::load(tx, if first_execution_run_id.is_empty() { run_id } else { "" })?;
    if run.is_open() {
        lifecycle::check_first_run(tx, &run, first_execution_run_id)?;
    }
    Ok(run)
}

/// Cancelling a closed run, or one that was asked before, is a success without effect.
pub(crate) fn request_cancel(
    tx: &mut Transaction<'_>,
    request: &RequestCancelWorkflowExecutionRequest,
) -> Answer<Reply> {
    let mut run = meant(tx, request.workflow_execution.as_ref(), &request.first_execution_run_id)?;
    let attributes = WorkflowExecutionCancelRequestedEventAttributes {
        cause: request.reason.clone(),
        identity: request.identity.clone(),
        ..WorkflowExecutionCancelRequestedEventAttributes::default()
    };
    let request = CancelRequest { attributes, request_id: request.request_id.clone(), links: request.links.clone() };
    if run.is_open() && add_request(tx, &mut run, request)? {
        run.save(tx);
    }
    Ok(empty())
}

/// Who asks a run to cancel itself, and why.
pub(crate) struct CancelRequest {
    attributes: WorkflowExecutionCancelRequestedEventAttributes,
    request_id: String,
    links: Vec<Link>,
}

impl CancelRequest {
    /// From the workflow that sent a message.
    pub(crate) fn of_workflow(message: &EntityMessage, reason: String, request_id: String) -> Self {
        // The policy of a parent that closed has no request id, and no event caused it.
        let by_command = !request_id.is_empty();
        let attributes = WorkflowExecutionCancelRequestedEventAttributes {
            cause: reason,
            external_initiated_event_id: if by_command { message.initiated_event_id } else { 0 },
            external_workflow_execution: Some(external::sender(message)),
            identity: lifecycle::HISTORY_SERVICE.into(),
        };
        Self { attributes, request_id, links: Vec::new() }
    }
}

/// Adds a cancel request to an open run; answers false if there was one before. The caller saves.
pub(crate) fn add_request(tx: &mut Transaction<'_>, run: &mut Run, request: CancelRequest) -> Answer<bool> {
    if run.record.cancel_requested {
        return Ok(false);
    }
    run.record.cancel_requested = true;
    run.details_mut(tx).cancel_request_id = request.request_id;
    let event = NewEvent::from(Attributes::WorkflowExecutionCancelRequestedEventAttributes(request.attributes));
    run.add(tx, event.with_links(request.links));
    lifecycle::end_backoff(tx, run);
    workflow_task::wake(tx, run)?;
    Ok(true)
}

pub(crate) fn terminate(tx: &mut Transaction<'_>, request: &TerminateWorkflowExecutionRequest) -> Answer<Reply> {
    let mut run = meant(tx, request.workflow_execution.as_ref(), &request.first_execution_run_id)?;
    if !run.is_open() {
        return Err(already_completed().into());
    }
    let or = |text: &str, default: &str| if text.is_empty() { default.to_string() } else { text.to_string() };
    let how = Termination {
        reason: or(&request.reason, TERMINATE_REASON),
        details: request.details.clone(),
        identity: or(&request.identity, TERMINATE_IDENTITY),
        links: request.links.clone(),
        by_reset: false,
    };
    lifecycle::terminate(tx, &mut run, how)?;
    run.save(tx);
    Ok(empty())
}

/// A closed run is erased; an open one is terminated and then erased.
pub(crate) fn delete(tx: &mut Transaction<'_>, request: &DeleteWorkflowExecutionRequest) -> Answer<Reply> {
    let execution = given(&request.workflow_execution);
    let run = Run::load(tx, &execution.run_id)?;
    end_and_erase(tx, run)?;
    Ok(empty())
}

/// Removes runs of a namespace that is being deleted. Those that are gone are skipped.
pub(crate) fn erase_runs(tx: &mut Transaction<'_>, command: &log::EraseRuns) -> Answer<Reply> {
    let namespace_id = tx.entity.namespace_id.clone();
    for execution in &command.executions {
        tx.switch(EntityKey { namespace_id: namespace_id.clone(), workflow_id: execution.workflow_id.clone() });
        let id = execution.run_id.parse().ok();
        if let Some(record) = id.map(|id| tx.run_record(id)).transpose()?.flatten() {
            let run = Run::load(tx, &record.run_id)?;
            end_and_erase(tx, run)?;
        }
    }
    Ok(empty())
}

fn end_and_erase(tx: &mut Transaction<'_>, mut run: Run) -> Answer<()> {
    if run.is_open() {
        lifecycle::terminate(tx, &mut run, Termination::by_history("Delete workflow execution"))?;
        run.clone().save(tx);
    }
    lifecycle::erase(tx, &run)?;
    // A history that became too long by this is gone.
    tx.oversized.clear();
    Ok(())
}
