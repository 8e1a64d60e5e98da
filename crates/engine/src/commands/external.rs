//! Commands that reach other workflows: children, signals, cancel requests. Their attributes are checked here; what they cause
//! travels by message, which is yet to be built.

use mainstay_api::temporal::command::v1::{
    RequestCancelExternalWorkflowExecutionCommandAttributes as CancelAttributes,
    SignalExternalWorkflowExecutionCommandAttributes as SignalAttributes,
    StartChildWorkflowExecutionCommandAttributes as ChildAttributes,
};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_base::{RunId, limits};

use super::{Checked, Completion, Rejection};
use crate::convert::nanos;
use crate::{Error, retry};

const CHILD: &str = "StartChildWorkflowExecutionCommand";
const SIGNAL: &str = "SignalExternalWorkflowExecutionCommand";
const CANCEL: &str = "RequestCancelExternalWorkflowExecutionCommand";

fn later<T>(command: &str) -> Checked<T> {
    Err(Rejection::Refused(Error::Unimplemented(format!("{command} is not implemented yet"))))
}

/// The namespace that a command means; empty is the workflow's own. Others are not reached.
fn namespace(c: &Completion<'_, '_>, name: &str) -> Checked<String> {
    let own = c.tx.namespace()?.name.clone();
    if name.is_empty() || name == own {
        Ok(own)
    } else {
        Err(Rejection::Refused(Error::NamespaceNotFound(name.into())))
    }
}

#[allow(deprecated)]
pub(super) fn start_child(c: &mut Completion<'_, '_>, a: &ChildAttributes) -> Checked<()> {
    let namespace = namespace(c, &a.namespace)?;
    let kind = a.workflow_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
    let id = a.workflow_id.as_str();
    let bad = |text: String| Err(Rejection::Bad(Cause::BadStartChildExecutionAttributes, text));
    if id.is_empty() {
        return bad(format!(
            "Required field WorkflowId is not set on {CHILD}. WorkflowType={kind} Namespace={namespace}"
        ));
    }
    if kind.is_empty() {
        return bad(format!(
            "Required field WorkflowType is not set on {CHILD}. WorkflowId={id} Namespace={namespace}"
        ));
    }
    let place = format!("WorkflowId={id} WorkflowType={kind} Namespace={namespace}");
    for (name, text) in [("WorkflowId", id), ("WorkflowType", kind)] {
        let length = text.chars().count();
        if length > limits::ID_LENGTH_MAX {
            let limit = limits::ID_LENGTH_MAX;
            let text = format!("{name} on {CHILD} exceeds length limit. WorkflowId={id} Length={length} Limit={limit}");
            return bad(format!("{text} WorkflowType={kind} Namespace={namespace}"));
        }
    }
    for (name, span) in [
        ("WorkflowExecutionTimeout", &a.workflow_execution_timeout),
        ("WorkflowRunTimeout", &a.workflow_run_timeout),
        ("WorkflowTaskTimeout", &a.workflow_task_timeout),
    ] {
        if nanos(span.as_ref()) < 0 {
            return bad(format!("Invalid {name} on {CHILD}: negative duration. {place}"));
        }
    }
    if let Some(Err(text)) = a.retry_policy.as_ref().map(retry::validate) {
        return bad(format!("invalid WorkflowRetryPolicy on {CHILD}: {text}. {place}"));
    }
    if !a.cron_schedule.is_empty() && mainstay_calendar::CronSchedule::parse(&a.cron_schedule).is_err() {
        return bad(format!("invalid CronSchedule on {CHILD}: invalid CronSchedule.. {place}"));
    }
    later(CHILD)
}

#[allow(deprecated)]
pub(super) fn signal(c: &mut Completion<'_, '_>, a: &SignalAttributes) -> Checked<()> {
    namespace(c, &a.namespace)?;
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
    later(SIGNAL)
}

#[allow(deprecated)]
pub(super) fn request_cancel(c: &mut Completion<'_, '_>, a: &CancelAttributes) -> Checked<()> {
    namespace(c, &a.namespace)?;
    let bad = |text: String| Err(Rejection::Bad(Cause::BadRequestCancelExternalWorkflowExecutionAttributes, text));
    let (id, run, space) = (&a.workflow_id, &a.run_id, &a.namespace);
    if id.is_empty() {
        return bad(format!("WorkflowId is not set on {CANCEL}. Namespace={space} RunId={run}"));
    }
    if !run.is_empty() && run.parse::<RunId>().is_err() {
        return bad(format!("Invalid RunId set on {CANCEL}. WorkflowId={id} RunId={run} Namespace={space}"));
    }
    later(CANCEL)
}
