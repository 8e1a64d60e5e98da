//! Limits that only a long conversation meets.

use crate::support;

use mainstay_api::log::{self, activity_target::Target, command::Op, reply};
use mainstay_api::record::RunRecord;
use mainstay_api::temporal::command::v1::{
    Command, RecordMarkerCommandAttributes, RequestCancelExternalWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes, command::Attributes,
};
use mainstay_api::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, WorkflowExecutionStatus};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::limits;
use mainstay_engine::Table;

use support::machine::Machine;
use support::rebuild;

fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command { command_type: kind as i32, attributes: Some(attributes), ..Command::default() }
}

fn marker() -> Command {
    let attributes = RecordMarkerCommandAttributes { marker_name: "m".into(), ..Default::default() };
    command(CommandType::RecordMarker, Attributes::RecordMarkerCommandAttributes(attributes))
}

/// A run whose first task is with a worker.
fn begin(machine: &mut Machine) -> Option<log::TaskToken> {
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() }),
        request_eager_execution: true,
        ..Default::default()
    };
    let (reply, _) = machine.apply("wf", Op::StartWorkflow(log::StartWorkflow { request: Some(request) }));
    reply.unwrap().eager_workflow_task.unwrap().token
}

fn activity(id: usize) -> Command {
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: id.to_string(),
        activity_type: Some(ActivityType { name: "A".into() }),
        task_queue: Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() }),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}

fn child(id: usize) -> Command {
    let attributes = StartChildWorkflowExecutionCommandAttributes {
        workflow_id: format!("child-{id}"),
        workflow_type: Some(WorkflowType { name: "C".into() }),
        ..Default::default()
    };
    command(
        CommandType::StartChildWorkflowExecution,
        Attributes::StartChildWorkflowExecutionCommandAttributes(attributes),
    )
}

fn signal(_: usize) -> Command {
    let attributes = SignalExternalWorkflowExecutionCommandAttributes {
        execution: Some(WorkflowExecution { workflow_id: "other".into(), run_id: String::new() }),
        signal_name: "s".into(),
        ..Default::default()
    };
    command(
        CommandType::SignalExternalWorkflowExecution,
        Attributes::SignalExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

fn cancel(_: usize) -> Command {
    let attributes =
        RequestCancelExternalWorkflowExecutionCommandAttributes { workflow_id: "other".into(), ..Default::default() };
    command(
        CommandType::RequestCancelExternalWorkflowExecution,
        Attributes::RequestCancelExternalWorkflowExecutionCommandAttributes(attributes),
    )
}

#[test]
fn pending_items_are_bounded() {
    type Build = fn(usize) -> Command;
    let kinds: [(Build, &str, &str); 4] = [
        (activity, "PendingActivitiesLimitExceeded", "activities"),
        (child, "PendingChildWorkflowsLimitExceeded", "child workflow executions"),
        (signal, "PendingSignalsLimitExceeded", "signals to external workflows"),
        (cancel, "PendingRequestCancelLimitExceeded", "requests to cancel external workflows"),
    ];
    for (command, cause, items) in kinds {
        let mut machine = Machine::new();
        let token = begin(&mut machine);
        let commands: Vec<Command> = (0..=limits::PENDING_MAX).map(command).collect();
        let request = api::RespondWorkflowTaskCompletedRequest { commands, ..Default::default() };
        let complete = log::CompleteWorkflowTask { token, request: Some(request), ..Default::default() };
        let (reply, _) = machine.apply("wf", Op::CompleteWorkflowTask(complete));
        let text = format!("{cause}: the number of pending {items}, 2000, has reached the per-workflow limit of 2000");
        assert_eq!(reply.unwrap_err().to_string(), text);
        assert_eq!(rebuild::check_all(&machine.store), Vec::<String>::new());
    }
}

#[test]
fn a_history_over_its_limit_ends_the_run() {
    let mut machine = Machine::new();
    let mut token = begin(&mut machine);
    for _ in 0..limits::HISTORY_COUNT_MAX {
        let request = api::RespondWorkflowTaskCompletedRequest {
            commands: vec![marker(); 100],
            force_create_new_workflow_task: true,
            return_new_workflow_task: true,
            ..Default::default()
        };
        let complete = log::CompleteWorkflowTask { token: token.take(), request: Some(request), ..Default::default() };
        let (reply, _) = machine.apply("wf", Op::CompleteWorkflowTask(complete));
        let Ok(log::Reply { reply: Some(reply::Reply::WorkflowTaskCompleted(done)), .. }) = reply else { break };
        token = done.workflow_task.unwrap().token;
    }
    let entity = Machine::entity("wf");
    let run = *machine.store.runs(&entity).first().unwrap();
    let record: RunRecord = machine.store.record(&entity, Table::Run, Some(run), &[]).unwrap();
    assert_eq!(record.status(), WorkflowExecutionStatus::Terminated);
    let over = record.next_event_id - limits::HISTORY_COUNT_MAX;
    assert!((1..=110).contains(&over), "ended {over} events after the limit");
    assert_eq!(rebuild::check_all(&machine.store), Vec::<String>::new());
}

fn run_status(machine: &Machine) -> WorkflowExecutionStatus {
    let entity = Machine::entity("wf");
    let run = *machine.store.runs(&entity).first().unwrap();
    machine.store.record::<RunRecord>(&entity, Table::Run, Some(run), &[]).unwrap().status()
}

fn payloads(size: usize) -> Option<Payloads> {
    let payload = Payload { data: vec![7; size].into(), ..Payload::default() };
    Some(Payloads { payloads: vec![payload] })
}

#[test]
fn a_completion_too_large_for_one_write_ends_the_run() {
    let mut machine = Machine::new();
    let token = begin(&mut machine);
    let large = |id| {
        let mut command = activity(id);
        if let Some(Attributes::ScheduleActivityTaskCommandAttributes(a)) = &mut command.attributes {
            a.input = payloads(limits::BLOB_SIZE_MAX - 100);
        }
        command
    };
    let request =
        api::RespondWorkflowTaskCompletedRequest { commands: (0..3).map(large).collect(), ..Default::default() };
    let complete = log::CompleteWorkflowTask { token, request: Some(request), ..Default::default() };
    let (reply, _) = machine.apply("wf", Op::CompleteWorkflowTask(complete));
    let text = reply.unwrap_err().to_string();
    assert!(text.starts_with("transaction size of 62") && text.ends_with("exceeds limit of 4194304 bytes"), "{text}");
    assert_eq!(run_status(&machine), WorkflowExecutionStatus::Terminated);
    assert_eq!(rebuild::check_all(&machine.store), Vec::<String>::new());
}

#[test]
fn state_over_its_limit_ends_the_run() {
    let mut machine = Machine::new();
    let token = begin(&mut machine);
    let eager = |id| {
        let mut command = activity(id);
        if let Some(Attributes::ScheduleActivityTaskCommandAttributes(a)) = &mut command.attributes {
            a.request_eager_execution = true;
        }
        command
    };
    let request =
        api::RespondWorkflowTaskCompletedRequest { commands: (0..5).map(eager).collect(), ..Default::default() };
    let complete = log::CompleteWorkflowTask { token, request: Some(request), ..Default::default() };
    let Some(reply::Reply::WorkflowTaskCompleted(done)) =
        machine.apply("wf", Op::CompleteWorkflowTask(complete)).0.unwrap().reply
    else {
        panic!("a completion is answered as such")
    };
    let tokens: Vec<log::TaskToken> = done.activity_tasks.into_iter().filter_map(|task| task.token).collect();
    for (at, token) in tokens.into_iter().enumerate() {
        let target = Some(log::ActivityTarget { target: Some(Target::Token(token)) });
        let details = payloads(limits::BLOB_SIZE_MAX - 100);
        let beat = log::HeartbeatActivity { target, details, ..Default::default() };
        machine.apply("wf", Op::HeartbeatActivity(beat)).0.unwrap();
        let over = (at + 1) * (limits::BLOB_SIZE_MAX - 100) > limits::STATE_SIZE_MAX as usize;
        assert_eq!(run_status(&machine) == WorkflowExecutionStatus::Terminated, over, "after {at}");
    }
    assert_eq!(rebuild::check_all(&machine.store), Vec::<String>::new());
}
