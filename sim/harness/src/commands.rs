//! Commands of a workflow task, as a worker's library makes them.

use std::time::Duration;

use mainstay_api::temporal::command::v1::command::Attributes;
use mainstay_api::temporal::command::v1::{
    CancelTimerCommandAttributes, CancelWorkflowExecutionCommandAttributes, Command,
    CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes,
    ProtocolMessageCommandAttributes, RecordMarkerCommandAttributes, RequestCancelActivityTaskCommandAttributes,
    RequestCancelExternalWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
    SignalExternalWorkflowExecutionCommandAttributes, StartChildWorkflowExecutionCommandAttributes,
    StartTimerCommandAttributes,
};
use mainstay_api::temporal::common::v1::{ActivityType, Memo, RetryPolicy, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::failure::v1::Failure;

use crate::client::{WORKFLOW_TYPE, payloads, task_queue};
use crate::operation::workflow_id;
use crate::plan::{Habit, Plan, Step};

/// The type of all activities.
pub const ACTIVITY_TYPE: &str = "step";
/// How long an attempt of an activity may take.
pub const START_TO_CLOSE: Duration = Duration::from_secs(10);
/// The same of an activity that comes too late.
pub const SHORT: Duration = Duration::from_secs(2);
/// How long an activity may be silent, if it sends heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(3);

fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command { command_type: kind as i32, attributes: Some(attributes), ..Command::default() }
}

fn span(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok()
}

pub(crate) fn start_timer(id: &str, millis: u64) -> Command {
    let attributes =
        StartTimerCommandAttributes { timer_id: id.into(), start_to_fire_timeout: span(Duration::from_millis(millis)) };
    command(CommandType::StartTimer, Attributes::StartTimerCommandAttributes(attributes))
}

pub(crate) fn cancel_activity(scheduled_event_id: i64) -> Command {
    let attributes = RequestCancelActivityTaskCommandAttributes { scheduled_event_id };
    command(CommandType::RequestCancelActivityTask, Attributes::RequestCancelActivityTaskCommandAttributes(attributes))
}

pub(crate) fn marker(id: &str) -> Command {
    let attributes = RecordMarkerCommandAttributes { marker_name: id.into(), ..Default::default() };
    command(CommandType::RecordMarker, Attributes::RecordMarkerCommandAttributes(attributes))
}

pub(crate) fn memo(id: &str) -> Command {
    let value = payloads(id).and_then(|mut all| all.payloads.pop()).unwrap_or_default();
    let upserted_memo = Some(Memo { fields: [("note".to_string(), value)].into() });
    let attributes = ModifyWorkflowPropertiesCommandAttributes { upserted_memo };
    command(CommandType::ModifyWorkflowProperties, Attributes::ModifyWorkflowPropertiesCommandAttributes(attributes))
}

pub(crate) fn schedule(id: &str, step: Step) -> Command {
    let habit = if let Step::Activity { habit, .. } = step { habit } else { Habit::Heartbeats };
    let short = matches!(habit, Habit::Silent | Habit::Late);
    let retry = RetryPolicy {
        initial_interval: span(Duration::from_millis(500)),
        backoff_coefficient: 1.5,
        maximum_interval: span(Duration::from_secs(3)),
        ..RetryPolicy::default()
    };
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: ACTIVITY_TYPE.into() }),
        task_queue: task_queue(),
        input: payloads(&step.to_string()),
        start_to_close_timeout: span(if short { SHORT } else { START_TO_CLOSE }),
        heartbeat_timeout: if habit == Habit::Heartbeats { span(HEARTBEAT) } else { None },
        retry_policy: Some(retry),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}

pub(crate) fn cancel_timer(id: &str) -> Command {
    let attributes = CancelTimerCommandAttributes { timer_id: id.into() };
    command(CommandType::CancelTimer, Attributes::CancelTimerCommandAttributes(attributes))
}

pub(crate) fn complete(result: &str) -> Command {
    let attributes = CompleteWorkflowExecutionCommandAttributes { result: payloads(result) };
    command(CommandType::CompleteWorkflowExecution, Attributes::CompleteWorkflowExecutionCommandAttributes(attributes))
}

pub(crate) fn fail(message: &str) -> Command {
    let failure = Failure { message: message.into(), ..Failure::default() };
    let attributes = FailWorkflowExecutionCommandAttributes { failure: Some(failure) };
    command(CommandType::FailWorkflowExecution, Attributes::FailWorkflowExecutionCommandAttributes(attributes))
}

pub(crate) fn cancel() -> Command {
    let attributes = CancelWorkflowExecutionCommandAttributes { details: payloads("as asked") };
    command(CommandType::CancelWorkflowExecution, Attributes::CancelWorkflowExecutionCommandAttributes(attributes))
}

/// Goes on as a new run.
pub(crate) fn again(plan: &Plan) -> Command {
    let attributes = ContinueAsNewWorkflowExecutionCommandAttributes {
        workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
        task_queue: task_queue(),
        input: payloads(&plan.to_string()),
        ..Default::default()
    };
    command(
        CommandType::ContinueAsNewWorkflowExecution,
        Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(attributes),
    )
}

/// The id of a run's child, which ends with its step.
pub(crate) fn child_id(run_id: &str, step: &str) -> String {
    format!("child-{run_id}-{step}")
}

pub(crate) fn start_child(run_id: &str, id: &str, step: Step) -> Command {
    let Step::Child { millis, policy, awaited } = step else { panic!("{step} is no child") };
    let attributes = StartChildWorkflowExecutionCommandAttributes {
        workflow_id: child_id(run_id, id),
        workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
        task_queue: task_queue(),
        input: payloads(&Step::child_plan(millis, policy, awaited).to_string()),
        parent_close_policy: policy as i32,
        ..Default::default()
    };
    command(
        CommandType::StartChildWorkflowExecution,
        Attributes::StartChildWorkflowExecutionCommandAttributes(attributes),
    )
}

/// The name of a signal that a run sends, which ends with its step.
pub(crate) fn external_signal(run_id: &str, step: &str) -> String {
    format!("external-{run_id}-{step}")
}

pub(crate) fn signal_other(run_id: &str, step: &str, workflow: u64) -> Command {
    let attributes = SignalExternalWorkflowExecutionCommandAttributes {
        execution: Some(WorkflowExecution { workflow_id: workflow_id(workflow), run_id: String::new() }),
        signal_name: external_signal(run_id, step),
        ..Default::default()
    };
    command(
        CommandType::SignalExternalWorkflowExecution,
        Attributes::SignalExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

pub(crate) fn cancel_other(run_id: &str, step: &str, workflow: u64) -> Command {
    let attributes = RequestCancelExternalWorkflowExecutionCommandAttributes {
        workflow_id: workflow_id(workflow),
        reason: external_signal(run_id, step),
        ..Default::default()
    };
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        Attributes::RequestCancelExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

/// Gives a message its place among the commands.
pub(crate) fn message(id: &str) -> Command {
    let attributes = ProtocolMessageCommandAttributes { message_id: id.into() };
    command(CommandType::ProtocolMessage, Attributes::ProtocolMessageCommandAttributes(attributes))
}
