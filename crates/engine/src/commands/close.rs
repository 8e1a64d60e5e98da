//! The commands that close a run: complete, fail, cancel, continue as new.

use mainstay_api::record::child_closed::Close;
use mainstay_api::temporal::command::v1::{
    CancelWorkflowExecutionCommandAttributes, Command, CompleteWorkflowExecutionCommandAttributes,
    ContinueAsNewWorkflowExecutionCommandAttributes, FailWorkflowExecutionCommandAttributes,
};
use mainstay_api::temporal::enums::v1::{
    ContinueAsNewInitiator as Initiator, WorkflowExecutionStatus as Status, WorkflowTaskFailedCause as Cause,
};
use mainstay_api::temporal::history::v1::{
    ChildWorkflowExecutionCanceledEventAttributes, ChildWorkflowExecutionCompletedEventAttributes,
    ChildWorkflowExecutionFailedEventAttributes, WorkflowExecutionCanceledEventAttributes,
    WorkflowExecutionCompletedEventAttributes, WorkflowExecutionContinuedAsNewEventAttributes,
    WorkflowExecutionFailedEventAttributes, WorkflowExecutionStartedEventAttributes as StartedAttributes,
};

use super::{Checked, Completion, Rejection, size_of};
use crate::convert::{duration, nanos};
use crate::event::Attributes;
use crate::lifecycle::{self, Closing, Successor};
use crate::workflow_task::normal_queue;
use crate::{retry, search_attributes, start};

fn next_id(next: Option<&Successor>) -> String {
    next.map(|n| n.run_id.to_string()).unwrap_or_default()
}

/// Closes the run: the next one begins, or the parent is told.
fn close(c: &mut Completion<'_, '_>, status: Status, next: Option<Successor>, report: Close) -> Checked<()> {
    let Some(next) = next else {
        return Ok(lifecycle::close(c.tx, c.run, Closing::last(status, report))?);
    };
    lifecycle::close(c.tx, c.run, Closing::followed(status))?;
    Ok(lifecycle::begin_successor(c.tx, c.run, next)?)
}

pub(super) fn complete(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &CompleteWorkflowExecutionCommandAttributes,
) -> Checked<()> {
    c.check_all_seen()?;
    // The cause is that of an activity, as with the reference server.
    let cause = Cause::BadScheduleActivityAttributes;
    c.check_size(cause, size_of(a.result.as_ref()), "CompleteWorkflowExecutionCommandAttributes.Result")?;
    let next = lifecycle::after_cron(c.tx, c.run, a.result.clone(), None)?;
    let attributes = WorkflowExecutionCompletedEventAttributes {
        result: a.result.clone(),
        workflow_task_completed_event_id: c.completed_event_id,
        new_execution_run_id: next_id(next.as_ref()),
    };
    c.write(command, Attributes::WorkflowExecutionCompletedEventAttributes(attributes));
    let told = ChildWorkflowExecutionCompletedEventAttributes { result: a.result.clone(), ..Default::default() };
    close(c, Status::Completed, next, Close::Completed(told))
}

pub(super) fn fail(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &FailWorkflowExecutionCommandAttributes,
) -> Checked<()> {
    c.check_all_seen()?;
    let cause = Cause::BadFailWorkflowExecutionAttributes;
    let Some(failure) = &a.failure else {
        return Err(Rejection::Bad(cause, "Failure is not set on FailWorkflowExecutionCommand.".into()));
    };
    c.check_size(cause, size_of(Some(failure)), "FailWorkflowExecutionCommandAttributes.Failure")?;
    let (state, next) = lifecycle::after_failure(c.tx, c.run, failure)?;
    let attributes = WorkflowExecutionFailedEventAttributes {
        failure: Some(failure.clone()),
        retry_state: state as i32,
        workflow_task_completed_event_id: c.completed_event_id,
        new_execution_run_id: next_id(next.as_ref()),
    };
    c.write(command, Attributes::WorkflowExecutionFailedEventAttributes(attributes));
    let told = ChildWorkflowExecutionFailedEventAttributes {
        failure: Some(failure.clone()),
        retry_state: state as i32,
        ..Default::default()
    };
    close(c, Status::Failed, next, Close::Failed(told))
}

pub(super) fn cancel(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &CancelWorkflowExecutionCommandAttributes,
) -> Checked<()> {
    c.check_all_seen()?;
    let attributes = WorkflowExecutionCanceledEventAttributes {
        workflow_task_completed_event_id: c.completed_event_id,
        details: a.details.clone(),
    };
    c.write(command, Attributes::WorkflowExecutionCanceledEventAttributes(attributes));
    let told = ChildWorkflowExecutionCanceledEventAttributes { details: a.details.clone(), ..Default::default() };
    close(c, Status::Canceled, None, Close::Canceled(told))
}

pub(super) fn continue_as_new(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &ContinueAsNewWorkflowExecutionCommandAttributes,
) -> Checked<()> {
    c.check_all_seen()?;
    let (kind, queue) = names(c, a);
    let search_attributes = match &a.search_attributes {
        Some(fields) => {
            let namespace = c.tx.namespace()?;
            let typed = search_attributes::typed(fields, &namespace);
            Some(typed.map_err(|text| Rejection::Bad(Cause::BadSearchAttributes, text))?)
        }
        None => None,
    };
    validate(a, &kind, &queue)?;
    let cause = Cause::BadContinueAsNewAttributes;
    c.check_size(cause, size_of(a.input.as_ref()), "ContinueAsNewWorkflowExecutionCommandAttributes. Input")?;
    c.check_size(cause, size_of(a.memo.as_ref()), "ContinueAsNewWorkflowExecutionCommandAttributes. Memo")?;
    let mut next = new_attributes(c, a, &kind, &queue)?;
    next.search_attributes = search_attributes.clone();
    let initiator = match a.initiator() {
        Initiator::Unspecified => Initiator::Workflow,
        given => given,
    };
    let backoff = nanos(a.backoff_start_interval.as_ref());
    let next = lifecycle::successor(c.tx, c.run, next, initiator, backoff)?;
    #[allow(deprecated)]
    let attributes = WorkflowExecutionContinuedAsNewEventAttributes {
        new_execution_run_id: next.run_id.to_string(),
        workflow_type: next.attributes.workflow_type.clone(),
        task_queue: next.attributes.task_queue.clone(),
        input: a.input.clone(),
        workflow_run_timeout: next.attributes.workflow_run_timeout,
        workflow_task_timeout: next.attributes.workflow_task_timeout,
        workflow_task_completed_event_id: c.completed_event_id,
        backoff_start_interval: a.backoff_start_interval,
        initiator: a.initiator,
        failure: a.failure.clone(),
        last_completion_result: a.last_completion_result.clone(),
        header: a.header.clone(),
        memo: a.memo.clone(),
        search_attributes,
        ..WorkflowExecutionContinuedAsNewEventAttributes::default()
    };
    c.write(command, Attributes::WorkflowExecutionContinuedAsNewEventAttributes(attributes));
    lifecycle::close(c.tx, c.run, Closing::followed(Status::ContinuedAsNew))?;
    Ok(lifecycle::begin_successor(c.tx, c.run, next)?)
}

/// Type and queue of the next run: as given, or as they are.
fn names(c: &Completion<'_, '_>, a: &ContinueAsNewWorkflowExecutionCommandAttributes) -> (String, String) {
    let or = |given: Option<&String>, own: &String| match given {
        Some(name) if !name.is_empty() => name.clone(),
        _ => own.clone(),
    };
    let kind = or(a.workflow_type.as_ref().map(|t| &t.name), &c.run.record.workflow_type);
    let queue = or(a.task_queue.as_ref().map(|q| &q.name), &c.run.record.task_queue);
    (kind, queue)
}

fn validate(a: &ContinueAsNewWorkflowExecutionCommandAttributes, kind: &str, queue: &str) -> Checked<()> {
    let bad = |text: String| {
        let place = format!("WorkflowType={kind} TaskQueue=name:\"{queue}\"  kind:TASK_QUEUE_KIND_NORMAL");
        Rejection::Bad(Cause::BadContinueAsNewAttributes, format!("{text}. {place}"))
    };
    let on = "ContinueAsNewWorkflowExecutionCommand";
    for (name, span) in [
        ("WorkflowRunTimeout", &a.workflow_run_timeout),
        ("WorkflowTaskTimeout", &a.workflow_task_timeout),
        ("BackoffStartInterval", &a.backoff_start_interval),
    ] {
        if nanos(span.as_ref()) < 0 {
            return Err(bad(format!("Invalid {name} on {on}: negative duration")));
        }
    }
    if let Some(policy) = &a.retry_policy {
        retry::validate(policy).map_err(|text| bad(format!("invalid WorkflowRetryPolicy on {on}: {text}")))?;
    }
    Ok(())
}

fn new_attributes(
    c: &Completion<'_, '_>,
    a: &ContinueAsNewWorkflowExecutionCommandAttributes,
    kind: &str,
    queue: &str,
) -> Checked<StartedAttributes> {
    let own = lifecycle::started_attributes(c.tx, c.run)?;
    let run_timeout = match nanos(a.workflow_run_timeout.as_ref()) {
        0 => c.run.record.run_timeout_ns,
        given => crate::convert::least(given, c.run.record.execution_timeout_ns),
    };
    let task_timeout = match nanos(a.workflow_task_timeout.as_ref()) {
        0 => c.run.record.task_timeout_ns,
        given => start::task_timeout(given, run_timeout),
    };
    Ok(StartedAttributes {
        workflow_type: Some(mainstay_api::temporal::common::v1::WorkflowType { name: kind.to_string() }),
        task_queue: normal_queue(queue),
        input: a.input.clone(),
        workflow_execution_timeout: own.workflow_execution_timeout,
        workflow_run_timeout: duration(run_timeout),
        workflow_task_timeout: duration(task_timeout),
        retry_policy: a.retry_policy.as_ref().map(|policy| retry::with_defaults(Some(policy))),
        cron_schedule: a.cron_schedule.clone(),
        continued_failure: a.failure.clone(),
        last_completion_result: a.last_completion_result.clone(),
        header: a.header.clone(),
        memo: a.memo.clone(),
        parent_workflow_namespace: own.parent_workflow_namespace,
        parent_workflow_namespace_id: own.parent_workflow_namespace_id,
        parent_workflow_execution: own.parent_workflow_execution,
        parent_initiated_event_id: own.parent_initiated_event_id,
        root_workflow_execution: own.root_workflow_execution,
        completion_callbacks: own.completion_callbacks,
        priority: own.priority,
        ..StartedAttributes::default()
    })
}
