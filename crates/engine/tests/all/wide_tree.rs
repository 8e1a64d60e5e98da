//! What children cost their parent does not grow with their number.

use crate::support;

use mainstay_api::log::{self, Reply, TaskToken, command::Op, reply};
use mainstay_api::record::task_row;
use mainstay_api::temporal::command::v1::{self as command, Command, command::Attributes};
use mainstay_api::temporal::common::v1::WorkflowType;
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::Change;
use prost::Message;

use support::machine::Machine;
use support::rebuild;

/// As delivery sends them.
const BATCH: usize = 256;

/// A parent, its children, and the bytes that all of it wrote.
struct Tree {
    machine: Machine,
    written: usize,
}

impl Tree {
    fn count(&mut self, changes: &[Change]) {
        self.written += changes.iter().map(size).sum::<usize>();
    }

    fn apply(&mut self, workflow_id: &str, op: Op) -> Reply {
        let (reply, changes) = self.machine.apply(workflow_id, op);
        self.count(&changes);
        reply.expect("accepted")
    }

    fn start(&mut self) {
        let request = api::StartWorkflowExecutionRequest {
            namespace: "ns".into(),
            workflow_id: "wf".into(),
            workflow_type: Some(WorkflowType { name: "T".into() }),
            task_queue: queue("parent"),
            request_id: "start".into(),
            ..Default::default()
        };
        self.apply("wf", Op::StartWorkflow(log::StartWorkflow { request: Some(request) }));
    }

    /// The next workflow task of a queue.
    fn poll(&mut self, name: &str) -> Option<TaskToken> {
        let rows = self.machine.store.tasks.values();
        let row = rows
            .filter(|row| row.kind() == task_row::Kind::Workflow && row.task_queue == name)
            .min_by_key(|r| r.sequence)?
            .clone();
        let poll = api::PollWorkflowTaskQueueRequest { task_queue: queue(name), ..Default::default() };
        let op = Op::StartWorkflowTask(log::StartWorkflowTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: "poll".into(),
            poll: Some(poll),
        });
        match self.apply(&row.workflow_id, op).reply {
            Some(reply::Reply::WorkflowTaskStarted(task)) => task.token,
            other => panic!("a poll was answered with {other:?}"),
        }
    }

    fn complete(&mut self, token: TaskToken, commands: Vec<Command>) {
        let workflow_id = token.workflow_id.clone();
        let request = api::RespondWorkflowTaskCompletedRequest { commands, ..Default::default() };
        let op = log::CompleteWorkflowTask { token: Some(token), request: Some(request), ..Default::default() };
        self.apply(&workflow_id, Op::CompleteWorkflowTask(op));
    }

    fn deliver_all(&mut self) {
        loop {
            let mut messages = self.machine.outbox();
            messages.truncate(BATCH);
            if messages.is_empty() {
                return;
            }
            let (outcomes, changes) = self.machine.deliver(messages.clone(), true);
            self.count(&changes);
            let changes = self.machine.acknowledge(&messages, &outcomes);
            self.count(&changes);
        }
    }
}

fn size(change: &Change) -> usize {
    match change {
        Change::Put { row, value, .. } => row.id.len() + value.len(),
        Change::PutMessage(message) => message.encoded_len(),
        _ => 32,
    }
}

fn queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue { name: name.into(), ..TaskQueue::default() })
}

fn child(number: usize) -> Command {
    let attributes = command::StartChildWorkflowExecutionCommandAttributes {
        // Names of one length, so that bytes can be compared.
        workflow_id: format!("child-{number:06}"),
        workflow_type: Some(WorkflowType { name: "K".into() }),
        task_queue: queue("children"),
        ..Default::default()
    };
    Command {
        command_type: CommandType::StartChildWorkflowExecution as i32,
        attributes: Some(Attributes::StartChildWorkflowExecutionCommandAttributes(attributes)),
        ..Command::default()
    }
}

fn done() -> Command {
    Command {
        command_type: CommandType::CompleteWorkflowExecution as i32,
        attributes: Some(Attributes::CompleteWorkflowExecutionCommandAttributes(Default::default())),
        ..Command::default()
    }
}

/// Bytes written for each of so many children, from their start to their parent's end.
fn cost(children: usize) -> usize {
    let mut tree = Tree { machine: Machine::new(), written: 0 };
    tree.start();
    let token = tree.poll("parent").expect("a first task");
    tree.complete(token, (0..children).map(child).collect());
    tree.deliver_all();
    while let Some(token) = tree.poll("children") {
        tree.complete(token, vec![done()]);
    }
    tree.deliver_all();
    let token = tree.poll("parent").expect("the parent is told");
    tree.complete(token, vec![done()]);
    tree.deliver_all();
    assert_eq!(rebuild::check_all(&tree.machine.store), Vec::<String>::new());
    assert!(tree.machine.store.messages.is_empty());
    tree.written / children
}

#[test]
fn a_thousand_children_cost_what_a_hundred_do() {
    let (few, many) = (cost(100), cost(1_000));
    assert!(many * 10 <= few * 11, "{many} bytes for each of 1,000 children, {few} for each of 100");
}
