//! StartChildWorkflowExecution.

use mainstay_api::temporal::command::v1::{Command, StartChildWorkflowExecutionCommandAttributes as ChildAttributes};
use mainstay_api::temporal::enums::v1::{
    ParentClosePolicy as Policy, WorkflowIdReusePolicy as Reuse, WorkflowTaskFailedCause as Cause,
};
use mainstay_api::temporal::history::v1::StartChildWorkflowExecutionInitiatedEventAttributes as InitiatedAttributes;
use mainstay_base::limits;

use super::external::own_namespace;
use super::{Checked, Completion, Rejection, check_pending, size_of};
use crate::convert::{duration, least, nanos};
use crate::event::Attributes;
use crate::workflow_task::normal_queue;
use crate::{children, retry, search_attributes, start};

const CHILD: &str = "StartChildWorkflowExecutionCommand";

fn bad(text: String) -> Rejection {
    Rejection::Bad(Cause::BadStartChildExecutionAttributes, text)
}

#[allow(deprecated)]
pub(super) fn start(c: &mut Completion<'_, '_>, command: &Command, a: &ChildAttributes) -> Checked<()> {
    let namespace = own_namespace(c, &a.namespace)?;
    validate(a, &namespace)?;
    let cause = Cause::BadStartChildExecutionAttributes;
    c.check_size(cause, size_of(a.input.as_ref()), "StartChildWorkflowExecutionCommandAttributes. Input")?;
    check_memo(a)?;
    check_pending(c.run.record.child_count, "child workflow executions", Cause::PendingChildWorkflowsLimitExceeded)?;
    let attributes = initiated(c, a, namespace)?;
    let event = Attributes::StartChildWorkflowExecutionInitiatedEventAttributes(attributes.clone());
    let initiated_event_id = c.write(command, event);
    c.started_children.insert(a.workflow_id.clone());
    children::initiate(c.tx, c.run, initiated_event_id, &attributes, command.user_metadata.clone());
    Ok(())
}

/// The event of a child: what the command leaves out is filled in, from the defaults or from the parent.
#[allow(deprecated)]
fn initiated(c: &Completion<'_, '_>, a: &ChildAttributes, namespace: String) -> Checked<InitiatedAttributes> {
    let search_attributes = match &a.search_attributes {
        Some(fields) => {
            let typed = search_attributes::typed(fields, &*c.tx.namespace()?);
            Some(typed.map_err(|text| Rejection::Bad(Cause::BadSearchAttributes, text))?)
        }
        None => None,
    };
    let queue = a.task_queue.as_ref().map(|q| q.name.as_str()).filter(|name| !name.is_empty());
    let execution_timeout = nanos(a.workflow_execution_timeout.as_ref());
    let run_timeout = least(nanos(a.workflow_run_timeout.as_ref()), execution_timeout);
    let task_timeout = start::task_timeout(nanos(a.workflow_task_timeout.as_ref()), run_timeout);
    let policy = match a.parent_close_policy() {
        Policy::Unspecified => Policy::Terminate,
        given => given,
    };
    let reuse = match a.workflow_id_reuse_policy() {
        Reuse::Unspecified => Reuse::AllowDuplicate,
        given => given,
    };
    Ok(InitiatedAttributes {
        namespace,
        namespace_id: c.tx.entity.namespace_id.clone(),
        workflow_id: a.workflow_id.clone(),
        workflow_type: a.workflow_type.clone(),
        task_queue: normal_queue(queue.unwrap_or(&c.run.record.task_queue)),
        input: a.input.clone(),
        workflow_execution_timeout: a.workflow_execution_timeout,
        workflow_run_timeout: duration(run_timeout),
        workflow_task_timeout: duration(task_timeout),
        parent_close_policy: policy as i32,
        control: a.control.clone(),
        workflow_task_completed_event_id: c.completed_event_id,
        workflow_id_reuse_policy: reuse as i32,
        retry_policy: a.retry_policy.as_ref().map(|policy| retry::with_defaults(Some(policy))),
        cron_schedule: a.cron_schedule.clone(),
        header: a.header.clone(),
        memo: a.memo.clone(),
        search_attributes,
        inherit_build_id: a.inherit_build_id,
        priority: a.priority.clone(),
        versioning_override: a.versioning_override.clone(),
        ..InitiatedAttributes::default()
    })
}

fn check_memo(a: &ChildAttributes) -> Checked<()> {
    if size_of(a.memo.as_ref()) > limits::MEMO_SIZE_MAX {
        let text = "StartChildWorkflowExecutionCommandAttributes.Memo exceeds size limit.";
        return Err(Rejection::Fatal(Cause::BadStartChildExecutionAttributes, text.into()));
    }
    Ok(())
}

fn validate(a: &ChildAttributes, namespace: &str) -> Checked<()> {
    let kind = a.workflow_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default();
    let id = a.workflow_id.as_str();
    for (unset, what, other) in
        [(id, "WorkflowId", format!("WorkflowType={kind}")), (kind, "WorkflowType", format!("WorkflowId={id}"))]
    {
        if unset.is_empty() {
            return Err(bad(format!("Required field {what} is not set on {CHILD}. {other} Namespace={namespace}")));
        }
    }
    let place = format!("WorkflowId={id} WorkflowType={kind} Namespace={namespace}");
    for (name, text) in [("WorkflowId", id), ("WorkflowType", kind)] {
        let length = text.chars().count();
        if length > limits::ID_LENGTH_MAX {
            let limit = limits::ID_LENGTH_MAX;
            let text = format!("{name} on {CHILD} exceeds length limit. WorkflowId={id} Length={length} Limit={limit}");
            return Err(bad(format!("{text} WorkflowType={kind} Namespace={namespace}")));
        }
    }
    for (name, span) in [
        ("WorkflowExecutionTimeout", &a.workflow_execution_timeout),
        ("WorkflowRunTimeout", &a.workflow_run_timeout),
        ("WorkflowTaskTimeout", &a.workflow_task_timeout),
    ] {
        if nanos(span.as_ref()) < 0 {
            return Err(bad(format!("Invalid {name} on {CHILD}: negative duration. {place}")));
        }
    }
    if let Some(Err(text)) = a.retry_policy.as_ref().map(retry::validate) {
        return Err(bad(format!("invalid WorkflowRetryPolicy on {CHILD}: {text}. {place}")));
    }
    if !a.cron_schedule.is_empty() && mainstay_calendar::CronSchedule::parse(&a.cron_schedule).is_err() {
        return Err(bad(format!("invalid CronSchedule on {CHILD}: invalid CronSchedule.. {place}")));
    }
    Ok(())
}
