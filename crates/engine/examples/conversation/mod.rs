//! A conversation with an engine, as clients and workers would hold it: it knows what comes next, and writes down all that it said.

use std::time::Duration;

use mainstay_api::log::{self, ActivityTarget, Reply, TaskToken, activity_target::Target, command::Op, reply};
use mainstay_api::record::{NamespaceRecord, TaskRow, task_row};
use mainstay_api::temporal::command::v1::{self as command, Command, command::Attributes as A};
use mainstay_api::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, NamespaceState};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use rustix::time::{ClockId, clock_gettime};

/// The id of the one namespace.
pub const NAMESPACE: &str = "ns-id";
/// When the conversation begins.
pub const DAY_NS: i64 = 86_400_000_000_000;
/// Between two commands.
const STEP_NS: i64 = 1_000;

/// A command with its place in the log; time and seed follow from that.
pub struct Step {
    pub log_index: u64,
    pub command: log::Command,
}

impl Step {
    /// When it is proposed.
    pub fn now_ns(&self) -> i64 {
        DAY_NS + self.log_index as i64 * STEP_NS
    }

    /// The halves of its seed.
    pub fn seed(&self) -> (u64, u64) {
        (self.log_index, self.log_index)
    }
}

/// Who the conversation is with.
pub trait Partner {
    /// Applies a command: its reply, and the task rows that it added.
    fn apply(&mut self, step: &Step) -> (Reply, Vec<TaskRow>);
}

/// The conversation so far.
pub struct Talk<P> {
    pub partner: P,
    pub log_index: u64,
    pub steps: Vec<Step>,
    task: TaskToken,
    activity: TaskToken,
    offered: Vec<TaskRow>,
}

impl<P: Partner> Talk<P> {
    /// One whose first command has the next log index.
    pub fn new(partner: P, log_index: u64) -> Self {
        let (task, activity) = (TaskToken::default(), TaskToken::default());
        Self { partner, log_index, steps: Vec::new(), task, activity, offered: Vec::new() }
    }

    pub fn apply(&mut self, workflow_id: &str, op: Op) {
        self.log_index += 1;
        let command = log::Command {
            namespace_id: NAMESPACE.into(),
            workflow_id: workflow_id.to_string(),
            op: Some(op),
            ..Default::default()
        };
        let step = Step { log_index: self.log_index, command };
        let (reply, offered) = self.partner.apply(&step);
        self.steps.push(step);
        self.offered.extend(offered);
        match reply.reply {
            Some(reply::Reply::WorkflowTaskStarted(task)) => self.task = task.token.unwrap_or_default(),
            Some(reply::Reply::ActivityTaskStarted(task)) => self.activity = task.token.unwrap_or_default(),
            _ => {}
        }
    }

    fn offer(&mut self, kind: task_row::Kind) -> TaskRow {
        let at = self.offered.iter().rposition(|row| row.kind() == kind).expect("a task is offered");
        self.offered.swap_remove(at)
    }

    /// A workflow of one activity from its start to its end: seven commands.
    pub fn short_workflow(&mut self, id: &str) {
        self.start(id);
        self.poll();
        self.complete(id, vec![activity(1)]);
        self.run_activity();
        self.poll();
        self.complete(id, vec![done()]);
    }

    pub fn start(&mut self, workflow_id: &str) {
        let request = api::StartWorkflowExecutionRequest {
            namespace: "ns".into(),
            workflow_id: workflow_id.into(),
            workflow_type: Some(WorkflowType { name: "T".into() }),
            task_queue: queue(),
            input: payloads(),
            identity: "client".into(),
            request_id: format!("{:08x}-0000-4000-8000-000000000000", self.log_index),
            ..Default::default()
        };
        self.apply(workflow_id, Op::StartWorkflow(log::StartWorkflow { request: Some(request) }));
    }

    pub fn poll(&mut self) {
        let row = self.offer(task_row::Kind::Workflow);
        let op = Op::StartWorkflowTask(log::StartWorkflowTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: "poll".into(),
            poll: Some(api::PollWorkflowTaskQueueRequest { task_queue: queue(), ..Default::default() }),
        });
        self.apply(&row.workflow_id, op);
    }

    pub fn complete(&mut self, workflow_id: &str, commands: Vec<Command>) {
        let request = api::RespondWorkflowTaskCompletedRequest {
            force_create_new_workflow_task: commands.iter().any(|c| c.command_type() == CommandType::RecordMarker),
            commands,
            identity: "worker".into(),
            ..Default::default()
        };
        let op =
            log::CompleteWorkflowTask { token: Some(self.task.clone()), request: Some(request), ..Default::default() };
        self.apply(workflow_id, Op::CompleteWorkflowTask(op));
    }

    pub fn run_activity(&mut self) {
        let row = self.offer(task_row::Kind::Activity);
        let start = log::StartActivityTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: "poll".into(),
            poll: Some(api::PollActivityTaskQueueRequest::default()),
        };
        self.apply(&row.workflow_id, Op::StartActivityTask(start));
        let target = Some(ActivityTarget { target: Some(Target::Token(self.activity.clone())) });
        let complete = log::CompleteActivity { target, result: payloads(), identity: "worker".into(), worker: None };
        self.apply(&row.workflow_id, Op::CompleteActivity(complete));
    }
}

/// The one namespace.
pub fn namespace() -> NamespaceRecord {
    NamespaceRecord {
        id: NAMESPACE.into(),
        name: "ns".into(),
        state: NamespaceState::Registered as i32,
        retention_ns: DAY_NS,
        ..NamespaceRecord::default()
    }
}

/// What this thread has used of the processor, so that the time of other programs does not count.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() })
}

fn payloads() -> Option<Payloads> {
    let metadata = [("encoding".to_string(), "json/plain".into())].into();
    Some(Payloads { payloads: vec![Payload { metadata, data: "\"a small payload\"".into(), ..Payload::default() }] })
}

pub fn activity(id: usize) -> Command {
    let attributes = command::ScheduleActivityTaskCommandAttributes {
        activity_id: id.to_string(),
        activity_type: Some(ActivityType { name: "Act".into() }),
        task_queue: queue(),
        input: payloads(),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..Default::default()
    };
    Command {
        command_type: CommandType::ScheduleActivityTask as i32,
        attributes: Some(A::ScheduleActivityTaskCommandAttributes(attributes)),
        ..Command::default()
    }
}

pub fn marker() -> Command {
    let attributes = command::RecordMarkerCommandAttributes { marker_name: "m".into(), ..Default::default() };
    Command {
        command_type: CommandType::RecordMarker as i32,
        attributes: Some(A::RecordMarkerCommandAttributes(attributes)),
        ..Command::default()
    }
}

fn done() -> Command {
    let attributes = command::CompleteWorkflowExecutionCommandAttributes { result: payloads() };
    Command {
        command_type: CommandType::CompleteWorkflowExecution as i32,
        attributes: Some(A::CompleteWorkflowExecutionCommandAttributes(attributes)),
        ..Command::default()
    }
}
