//! What a worker is shown of a transient task before it is written is what is written: to a workflow, those times are the time of day.

use crate::support;

use mainstay_api::RawHistory;
use mainstay_api::log::{self, Reply, WorkflowTaskStarted, command::Op, reply};
use mainstay_api::record::task_row;
use mainstay_api::temporal::common::v1::WorkflowType;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::Table;
use prost::Message;

use support::machine::Machine;

const SECOND: i64 = 1_000_000_000;

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() })
}

fn begin(machine: &mut Machine) {
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: queue(),
        ..Default::default()
    };
    machine.apply("wf", Op::StartWorkflow(log::StartWorkflow { request: Some(request) })).0.unwrap();
}

/// Starts the task that waits.
fn poll(machine: &mut Machine) -> WorkflowTaskStarted {
    let row = machine.store.tasks.values().find(|row| row.kind() == task_row::Kind::Workflow).unwrap().clone();
    let start = log::StartWorkflowTask {
        run_id: row.run_id,
        scheduled_event_id: row.scheduled_event_id,
        attempt: row.attempt,
        task_sequence: row.sequence,
        poll_request_id: format!("poll-{}", machine.log_index),
        poll: Some(api::PollWorkflowTaskQueueRequest { task_queue: queue(), ..Default::default() }),
    };
    match machine.apply("wf", Op::StartWorkflowTask(start)).0.unwrap() {
        Reply { reply: Some(reply::Reply::WorkflowTaskStarted(started)), .. } => started,
        other => panic!("{other:?}"),
    }
}

fn history(machine: &Machine) -> Vec<HistoryEvent> {
    let entity = Machine::entity("wf");
    let run = *machine.store.runs(&entity).first().unwrap();
    let batches: Vec<(Vec<u8>, RawHistory)> = machine.store.records(&entity, Table::History, run);
    let events = batches.into_iter().flat_map(|(_, batch)| batch.events);
    events.map(|event| HistoryEvent::decode(event).unwrap()).collect()
}

#[test]
fn what_a_worker_was_shown_is_what_is_written() {
    let mut machine = Machine::new();
    begin(&mut machine);
    let first = poll(&mut machine);
    let fail =
        log::FailWorkflowTask { token: first.token, request: Some(api::RespondWorkflowTaskFailedRequest::default()) };
    machine.now_ns += SECOND;
    machine.apply("wf", Op::FailWorkflowTask(fail)).0.unwrap();
    machine.now_ns += SECOND;
    let second = poll(&mut machine);
    let shown: Vec<HistoryEvent> =
        second.unwritten_events.iter().map(|event| HistoryEvent::decode(event.clone()).unwrap()).collect();
    assert_eq!(shown.len(), 2);
    machine.now_ns += SECOND;
    let request = Some(api::RespondWorkflowTaskCompletedRequest::default());
    let complete = log::CompleteWorkflowTask { token: second.token, request, ..Default::default() };
    machine.apply("wf", Op::CompleteWorkflowTask(complete)).0.unwrap();
    let written = history(&machine);
    for event in shown {
        let same = written.iter().find(|other| other.event_id == event.event_id).unwrap();
        assert_eq!(HistoryEvent { task_id: event.task_id, ..same.clone() }, event);
    }
}
