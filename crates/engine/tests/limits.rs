//! Limits that only a long conversation meets.

#![allow(clippy::unwrap_used)]

mod support;

use mainstay_api::log::{self, command::Op, reply};
use mainstay_api::record::RunRecord;
use mainstay_api::temporal::command::v1::{Command, RecordMarkerCommandAttributes, command::Attributes};
use mainstay_api::temporal::common::v1::WorkflowType;
use mainstay_api::temporal::enums::v1::{CommandType, WorkflowExecutionStatus};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::limits;
use mainstay_engine::Table;

use support::machine::Machine;
use support::rebuild;

fn marker() -> Command {
    let attributes = RecordMarkerCommandAttributes { marker_name: "m".into(), ..Default::default() };
    Command {
        command_type: CommandType::RecordMarker as i32,
        attributes: Some(Attributes::RecordMarkerCommandAttributes(attributes)),
        ..Command::default()
    }
}

#[test]
fn a_history_over_its_limit_ends_the_run() {
    let mut machine = Machine::new();
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() }),
        request_eager_execution: true,
        ..Default::default()
    };
    let (reply, _) = machine.apply("wf", Op::StartWorkflow(log::StartWorkflow { request: Some(request) }));
    let mut token = reply.unwrap().eager_workflow_task.unwrap().token;
    for _ in 0..limits::HISTORY_COUNT_MAX {
        let request = api::RespondWorkflowTaskCompletedRequest {
            commands: vec![marker(); 100],
            force_create_new_workflow_task: true,
            return_new_workflow_task: true,
            ..Default::default()
        };
        let complete = log::CompleteWorkflowTask { token: token.take(), request: Some(request) };
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
