//! How clients stop a workflow: cancel asks, terminate ends, delete forgets. (Reference §2.17.)

use mainstay_api::log::Reply;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::history::v1::WorkflowExecutionCancelRequestedEventAttributes;
use mainstay_api::temporal::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};

use crate::convert::given;
use crate::event::{Attributes, NewEvent};
use crate::lifecycle::{self, Termination};
use crate::run::{Run, already_completed};
use crate::transaction::Transaction;
use crate::{Answer, empty, workflow_task};

const TERMINATE_REASON: &str = "terminated by user via frontend";
const TERMINATE_IDENTITY: &str = "frontend-service";

/// The run that a request means. One that names the first run of a chain means the chain's current run, whatever run it names.
fn meant(tx: &Transaction<'_>, execution: Option<&WorkflowExecution>, first_execution_run_id: &str) -> Answer<Run> {
    let run_id = execution.map_or("", |execution| execution.run_id.as_str());
    let run = Run::load(tx, if first_execution_run_id.is_empty() { run_id } else { "" })?;
    lifecycle::check_first_run(tx, &run, first_execution_run_id)?;
    Ok(run)
}

/// Cancelling a closed run, or one that was asked before, is a success without effect.
pub(crate) fn request_cancel(
    tx: &mut Transaction<'_>,
    request: &RequestCancelWorkflowExecutionRequest,
) -> Answer<Reply> {
    let mut run = meant(tx, request.workflow_execution.as_ref(), &request.first_execution_run_id)?;
    if !run.is_open() || run.record.cancel_requested {
        return Ok(empty());
    }
    run.record.cancel_requested = true;
    run.details_mut(tx).cancel_request_id.clone_from(&request.request_id);
    let attributes = WorkflowExecutionCancelRequestedEventAttributes {
        cause: request.reason.clone(),
        identity: request.identity.clone(),
        ..WorkflowExecutionCancelRequestedEventAttributes::default()
    };
    let event = NewEvent::from(Attributes::WorkflowExecutionCancelRequestedEventAttributes(attributes));
    run.add(tx, event.with_links(request.links.clone()));
    lifecycle::end_backoff(tx, &mut run);
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(empty())
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
    };
    lifecycle::terminate(tx, &mut run, how)?;
    run.save(tx);
    Ok(empty())
}

/// A closed run is erased; an open one is terminated and then erased.
pub(crate) fn delete(tx: &mut Transaction<'_>, request: &DeleteWorkflowExecutionRequest) -> Answer<Reply> {
    let execution = given(&request.workflow_execution);
    let mut run = Run::load(tx, &execution.run_id)?;
    if run.is_open() {
        lifecycle::terminate(tx, &mut run, Termination::by_history("Delete workflow execution"))?;
        run.clone().save(tx);
    }
    lifecycle::erase(tx, &run)?;
    Ok(empty())
}
