//! A task that is started in the entry that made it leaves the same history as one that is started by the next entry.

use mainstay_api::RawHistory;
use mainstay_api::log::{
    self, ActivityTarget, ActivityTaskStarted, Reply, ReservedPoll, WorkflowTaskStarted, activity_target::Target,
    command::Op, reply, started_task,
};
use mainstay_api::record::task_row;
use mainstay_api::temporal::command::v1::{self as commands, command::Attributes};
use mainstay_api::temporal::common::v1::{ActivityType, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, TaskQueueKind};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::{Change, Table};
use prost::Message;

use crate::support::machine::Machine;

const ACTIVITIES: usize = 3;

fn queue(name: &str) -> Option<TaskQueue> {
    let kind = if name == "sticky" { TaskQueueKind::Sticky } else { TaskQueueKind::Normal };
    Some(TaskQueue { name: name.into(), kind: kind as i32, ..TaskQueue::default() })
}

/// A worker that is either given its tasks with their cause, or takes them in entries of their own.
struct Worker {
    machine: Machine,
    rides: bool,
    polls: u32,
    entries: u32,
}

impl Worker {
    /// Applies a command whose task of this kind is for this worker, and answers the task's start.
    fn apply(&mut self, op: Op, activity: bool, name: &str) -> (Reply, Option<started_task::Task>) {
        self.polls += 1;
        self.machine.now_ns += 1_000_000;
        let request_id = format!("poll-{}", self.polls);
        if self.rides {
            self.machine.reserved_polls = vec![ReservedPoll {
                activity,
                task_queue: name.into(),
                sticky: name == "sticky",
                identity: "worker".into(),
                request_id: request_id.clone(),
                ..Default::default()
            }];
        }
        let (reply, changes) = self.machine.apply("wf", op);
        let mut reply = reply.unwrap();
        self.entries += 1;
        if !self.rides {
            let started = self.start(activity, name, request_id);
            return (reply, started);
        }
        let seen = |change: &Change| matches!(change, Change::AddTask(row) if row.task_queue == name);
        assert!(!changes.iter().any(seen), "a started task has no row");
        let started = reply.started_tasks.pop();
        assert!(started.as_ref().is_none_or(|started| started.poll_request_id == request_id));
        (reply, started.and_then(|started| started.task))
    }

    fn start(&mut self, activity: bool, name: &str, poll_request_id: String) -> Option<started_task::Task> {
        let kind = if activity { task_row::Kind::Activity } else { task_row::Kind::Workflow };
        let mut rows = self.machine.store.tasks.values();
        let row = rows.find(|row| row.kind() == kind && row.task_queue == name)?.clone();
        let identity = "worker".to_string();
        let (run_id, scheduled_event_id, attempt, task_sequence) =
            (row.run_id, row.scheduled_event_id, row.attempt, row.sequence);
        let op = if activity {
            let poll =
                Some(api::PollActivityTaskQueueRequest { identity, task_queue: queue(name), ..Default::default() });
            Op::StartActivityTask(log::StartActivityTask {
                run_id,
                scheduled_event_id,
                attempt,
                task_sequence,
                poll_request_id,
                poll,
            })
        } else {
            let poll =
                Some(api::PollWorkflowTaskQueueRequest { identity, task_queue: queue(name), ..Default::default() });
            Op::StartWorkflowTask(log::StartWorkflowTask {
                run_id,
                scheduled_event_id,
                attempt,
                task_sequence,
                poll_request_id,
                poll,
            })
        };
        self.entries += 1;
        match self.machine.apply("wf", op).0.unwrap().reply? {
            reply::Reply::WorkflowTaskStarted(task) => Some(started_task::Task::WorkflowTask(task)),
            reply::Reply::ActivityTaskStarted(task) => Some(started_task::Task::ActivityTask(task)),
            other => panic!("{other:?}"),
        }
    }

    fn complete(&mut self, task: WorkflowTaskStarted, attributes: Attributes) -> Option<started_task::Task> {
        let kind = match &attributes {
            Attributes::ScheduleActivityTaskCommandAttributes(_) => CommandType::ScheduleActivityTask,
            _ => CommandType::CompleteWorkflowExecution,
        };
        let command =
            commands::Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() };
        let request = api::RespondWorkflowTaskCompletedRequest {
            identity: "worker".into(),
            commands: vec![command],
            sticky_attributes: Some(StickyExecutionAttributes {
                worker_task_queue: queue("sticky"),
                schedule_to_start_timeout: None,
            }),
            ..Default::default()
        };
        let complete = log::CompleteWorkflowTask { token: task.token, request: Some(request), ..Default::default() };
        self.apply(Op::CompleteWorkflowTask(complete), true, "tq").1
    }

    fn history(&self) -> Vec<HistoryEvent> {
        let entity = Machine::entity("wf");
        let run = *self.machine.store.runs(&entity).first().unwrap();
        let batches: Vec<(Vec<u8>, RawHistory)> = self.machine.store.records(&entity, Table::History, run);
        let events = batches.into_iter().flat_map(|(_, batch)| batch.events);
        // The id of an event's transition differs, as it does in Temporal.
        events.map(|event| HistoryEvent { task_id: 0, ..HistoryEvent::decode(event).unwrap() }).collect()
    }
}

fn workflow(task: Option<started_task::Task>) -> WorkflowTaskStarted {
    match task {
        Some(started_task::Task::WorkflowTask(task)) => task,
        other => panic!("{other:?}"),
    }
}

fn activity(task: Option<started_task::Task>) -> ActivityTaskStarted {
    match task {
        Some(started_task::Task::ActivityTask(task)) => task,
        other => panic!("{other:?}"),
    }
}

fn sequence(rides: bool) -> Worker {
    let mut worker = Worker { machine: Machine::new(), rides, polls: 0, entries: 0 };
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: queue("tq"),
        ..Default::default()
    };
    let start = Op::StartWorkflow(log::StartWorkflow { request: Some(request) });
    let mut task = workflow(worker.apply(start, false, "tq").1);
    for at in 0..ACTIVITIES {
        let schedule = commands::ScheduleActivityTaskCommandAttributes {
            activity_id: at.to_string(),
            activity_type: Some(ActivityType { name: "A".into() }),
            task_queue: queue("tq"),
            start_to_close_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
            ..Default::default()
        };
        let started = activity(worker.complete(task, Attributes::ScheduleActivityTaskCommandAttributes(schedule)));
        let token = started.token.unwrap();
        let next = (token.workflow_task_queue.clone(), token.workflow_task_sticky);
        assert_eq!(next, ("sticky".to_string(), true), "the token names the queue of what follows");
        let target = Some(ActivityTarget { target: Some(Target::Token(token)) });
        let complete = log::CompleteActivity { target, identity: "worker".into(), ..Default::default() };
        task = workflow(worker.apply(Op::CompleteActivity(complete), false, "sticky").1);
    }
    let end = Attributes::CompleteWorkflowExecutionCommandAttributes(Default::default());
    assert!(worker.complete(task, end).is_none());
    worker
}

#[test]
fn history_is_the_same_and_half_of_the_entries_are_spared() {
    let (together, apart) = (sequence(true), sequence(false));
    assert_eq!(together.history(), apart.history());
    assert_eq!(together.entries as usize, 2 * ACTIVITIES + 2);
    assert_eq!(apart.entries as usize, 4 * ACTIVITIES + 3);
    assert_eq!(together.machine.store.timers.len(), apart.machine.store.timers.len());
}
