//! SignalExternalWorkflowExecution and RequestCancelExternalWorkflowExecution. What they cause travels by message.

use mainstay_api::temporal::command::v1::{
    Command, RequestCancelExternalWorkflowExecutionCommandAttributes as CancelAttributes,
    SignalExternalWorkflowExecutionCommandAttributes as SignalAttributes,
};
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_api::temporal::history::v1::{
    RequestCancelExternalWorkflowExecutionInitiatedEventAttributes as CancelInitiated,
    SignalExternalWorkflowExecutionInitiatedEventAttributes as SignalInitiated,
};
use mainstay_base::RunId;

use super::{Checked, Completion, Rejection, check_pending, size_of};
use crate::event::Attributes;
use crate::{Error, external};

const SIGNAL: &str = "SignalExternalWorkflowExecutionCommand";
const CANCEL: &str = "RequestCancelExternalWorkflowExecutionCommand";

/// The namespace that a command means; empty is the workflow's own. Others are not reached.
pub(super) fn own_namespace(c: &Completion<'_, '_>, name: &str) -> Checked<String> {
    let own = c.tx.namespace()?.name.clone();
    if name.is_empty() || name == own {
        Ok(own)
    } else {
        Err(Rejection::Refused(Error::NamespaceNotFound(name.into())))
    }
}

#[allow(deprecated)]
pub(super) fn signal(c: &mut Completion<'_, '_>, command: &Command, a: &SignalAttributes) -> Checked<()> {
    own_namespace(c, &a.namespace)?;
    let bad = |text: String| Err(Rejection::Bad(Cause::BadSignalWorkflowExecutionAttributes, text));
    let execution = a.execution.clone().unwrap_or_default();
    let (id, run, space, name) = (&execution.workflow_id, &execution.run_id, &a.namespace, &a.signal_name);
    if id.is_empty() {
        return bad(format!("WorkflowId is not set on {SIGNAL}. Namespace={space} RunId={run} SignalName={name}"));
    }
    if !run.is_empty() && run.parse::<RunId>().is_err() {
        let place = format!("WorkflowId={id} Namespace={space} RunId={run} SignalName={name}");
        return bad(format!("Invalid RunId set on {SIGNAL}. {place}"));
    }
    if name.is_empty() {
        return bad(format!("SignalName is not set on {SIGNAL}. WorkflowId={id} Namespace={space} RunId={run}"));
    }
    let pending = c.run.record.external_signal_count;
    check_pending(pending, "signals to external workflows", Cause::PendingSignalsLimitExceeded)?;
    let cause = Cause::BadSignalWorkflowExecutionAttributes;
    c.check_size(cause, size_of(a.input.as_ref()), "SignalExternalWorkflowExecutionCommandAttributes.Input")?;
    let attributes = SignalInitiated {
        workflow_task_completed_event_id: c.completed_event_id,
        namespace: a.namespace.clone(),
        namespace_id: c.tx.entity.namespace_id.clone(),
        workflow_execution: Some(execution),
        signal_name: a.signal_name.clone(),
        input: a.input.clone(),
        control: a.control.clone(),
        child_workflow_only: a.child_workflow_only,
        header: a.header.clone(),
    };
    let event = Attributes::SignalExternalWorkflowExecutionInitiatedEventAttributes(attributes.clone());
    let initiated_event_id = c.write(command, event);
    external::send_signal(c.tx, c.run, initiated_event_id, &attributes);
    Ok(())
}

#[allow(deprecated)]
pub(super) fn request_cancel(c: &mut Completion<'_, '_>, command: &Command, a: &CancelAttributes) -> Checked<()> {
    own_namespace(c, &a.namespace)?;
    let bad = |text: String| Err(Rejection::Bad(Cause::BadRequestCancelExternalWorkflowExecutionAttributes, text));
    let (id, run, space) = (&a.workflow_id, &a.run_id, &a.namespace);
    if id.is_empty() {
        return bad(format!("WorkflowId is not set on {CANCEL}. Namespace={space} RunId={run}"));
    }
    if !run.is_empty() && run.parse::<RunId>().is_err() {
        return bad(format!("Invalid RunId set on {CANCEL}. WorkflowId={id} RunId={run} Namespace={space}"));
    }
    if c.started_children.contains(id) {
        let text = "Start and RequestCancel for child workflow is not allowed in same workflow task.";
        return bad(format!("{text} WorkflowId={id} RunId={run} Namespace={space}"));
    }
    let pending = c.run.record.external_cancel_count;
    check_pending(pending, "requests to cancel external workflows", Cause::PendingRequestCancelLimitExceeded)?;
    let attributes = CancelInitiated {
        workflow_task_completed_event_id: c.completed_event_id,
        namespace: a.namespace.clone(),
        namespace_id: c.tx.entity.namespace_id.clone(),
        workflow_execution: Some(WorkflowExecution { workflow_id: id.clone(), run_id: run.clone() }),
        control: a.control.clone(),
        child_workflow_only: a.child_workflow_only,
        reason: a.reason.clone(),
    };
    let event = Attributes::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(attributes.clone());
    let initiated_event_id = c.write(command, event);
    external::send_cancel(c.tx, c.run, initiated_event_id, &attributes);
    Ok(())
}
