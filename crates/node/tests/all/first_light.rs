//! One node on stores in memory: a workflow with an activity and a timer, through a crash that loses what was not durable.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::log::{self, ActivityTarget, Command, CompleteActivity, StartWorkflow, activity_target, command::Op};
use mainstay_api::temporal::command::v1::{self as commands, command::Attributes};
use mainstay_api::temporal::common::v1::{ActivityType, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, EventType, WorkflowExecutionStatus};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_node::service::{HistoryQuery, Namespace, WorkflowTask};
use mainstay_node::{Config, Node, Service, Stores};
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_storage::{MemoryLog, MemoryState};
use prost::Message;

const WAIT: Duration = Duration::from_secs(5);

struct Host {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    node: Node<TokioRuntime>,
    namespace: Namespace,
}

async fn start(log: Arc<MemoryLog>, state: Arc<MemoryState>) -> Host {
    let stores = Stores { log: log.clone(), state: state.clone() };
    let config = Config { cluster_id: "c".into(), ..Config::default() };
    let node = Node::start(config, stores).await.expect("starts");
    let namespace = node.namespace("default").expect("the default namespace");
    Host { log, state, node, namespace }
}

impl Host {
    async fn new() -> Self {
        start(Arc::new(MemoryLog::default()), Arc::new(MemoryState::default())).await
    }

    /// Loses what was not durable, and starts again.
    async fn crash(self) -> Self {
        self.node.stop().await;
        drop(self.node);
        self.log.crash();
        self.state.crash();
        start(self.log, self.state).await
    }

    async fn execute(&self, op: Op) -> log::Reply {
        let command = Command {
            namespace_id: self.namespace.id.clone(),
            workflow_id: "w".into(),
            op: Some(op),
            ..Command::default()
        };
        self.node.execute(command).await.expect("is accepted")
    }

    async fn start_workflow(&self) {
        let request = api::StartWorkflowExecutionRequest {
            namespace: "default".into(),
            workflow_id: "w".into(),
            workflow_type: Some(WorkflowType { name: "t".into() }),
            task_queue: queue(),
            request_id: "r".into(),
            ..Default::default()
        };
        self.execute(Op::StartWorkflow(StartWorkflow { request: Some(request) })).await;
    }

    async fn workflow_task(&self) -> WorkflowTask {
        let request = api::PollWorkflowTaskQueueRequest { task_queue: queue(), ..Default::default() };
        let task = self.node.poll_workflow_task(self.namespace.clone(), request, WAIT).await;
        task.expect("polls").expect("a task within the time")
    }

    async fn complete(&self, task: WorkflowTask, commands: Vec<commands::Command>) {
        let request = api::RespondWorkflowTaskCompletedRequest { commands, ..Default::default() };
        let done = self.node.complete_workflow_task(self.namespace.clone(), task.token, request).await;
        done.expect("completes");
    }

    async fn do_activity(&self) {
        let request = api::PollActivityTaskQueueRequest { task_queue: queue(), ..Default::default() };
        let task = self.node.poll_activity_task(self.namespace.clone(), request, WAIT).await;
        let task = task.expect("polls").expect("a task within the time");
        let target = ActivityTarget { target: task.token.map(activity_target::Target::Token) };
        self.execute(Op::CompleteActivity(CompleteActivity { target: Some(target), ..Default::default() })).await;
    }

    async fn history(&self) -> Vec<EventType> {
        let execution = WorkflowExecution { workflow_id: "w".into(), run_id: String::new() };
        let query = HistoryQuery { execution, ..HistoryQuery::default() };
        let page = self.node.history(self.namespace.clone(), query).await.expect("reads");
        let events = page.history.events.into_iter().map(|event| HistoryEvent::decode(event).expect("decodes"));
        let events: Vec<HistoryEvent> = events.collect();
        let ids: Vec<i64> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(ids, (1..=ids.len() as i64).collect::<Vec<_>>(), "without gap");
        events.iter().map(HistoryEvent::event_type).collect()
    }
}

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "q".into(), ..TaskQueue::default() })
}

fn command(kind: CommandType, attributes: Attributes) -> commands::Command {
    commands::Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() }
}

fn activity() -> commands::Command {
    let attributes = commands::ScheduleActivityTaskCommandAttributes {
        activity_id: "a".into(),
        activity_type: Some(ActivityType { name: "a".into() }),
        task_queue: queue(),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}

fn timer() -> commands::Command {
    let attributes = commands::StartTimerCommandAttributes {
        timer_id: "t".into(),
        start_to_fire_timeout: Some(prost_types::Duration { seconds: 0, nanos: 200_000_000 }),
    };
    command(CommandType::StartTimer, Attributes::StartTimerCommandAttributes(attributes))
}

fn completion() -> commands::Command {
    let attributes = commands::CompleteWorkflowExecutionCommandAttributes::default();
    command(CommandType::CompleteWorkflowExecution, Attributes::CompleteWorkflowExecutionCommandAttributes(attributes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_outlives_crashes_at_every_step() {
    let mut host = Host::new().await;
    host.start_workflow().await;
    host = host.crash().await;
    let task = host.workflow_task().await;
    assert_eq!(task.response.history.as_ref().map(|history| history.events.len()), Some(3));
    host = host.crash().await;
    host.complete(task, vec![activity(), timer()]).await;
    host = host.crash().await;
    host.do_activity().await;
    host = host.crash().await;
    let task = host.workflow_task().await;
    host.complete(task, vec![]).await;
    host = host.crash().await;
    let task = host.workflow_task().await;
    host.complete(task, vec![completion()]).await;
    host = host.crash().await;
    let history = host.history().await;
    assert!(history.contains(&EventType::TimerFired), "{history:?}");
    assert!(history.contains(&EventType::ActivityTaskCompleted), "{history:?}");
    assert_eq!(history.last(), Some(&EventType::WorkflowExecutionCompleted));
    let page = host.node.list(host.namespace.clone(), "WorkflowId = 'w'".into(), 10, Vec::new()).await.expect("lists");
    assert_eq!(page.executions.len(), 1);
    assert_eq!(page.executions[0].status(), WorkflowExecutionStatus::Completed);
    host.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_hears_of_the_close() {
    let host = Host::new().await;
    host.start_workflow().await;
    let query = HistoryQuery {
        execution: WorkflowExecution { workflow_id: "w".into(), run_id: String::new() },
        wait_new_event: true,
        close_event_only: true,
        timeout: WAIT,
        ..HistoryQuery::default()
    };
    let (node, namespace) = (host.node.clone(), host.namespace.clone());
    let waiting = tokio::spawn(async move { node.history(namespace, query).await });
    let task = host.workflow_task().await;
    host.complete(task, vec![completion()]).await;
    let page = waiting.await.expect("ends").expect("reads");
    assert_eq!(page.history.events.len(), 1);
    host.node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_poll_loses_no_task() {
    let host = Host::new().await;
    let request = api::PollWorkflowTaskQueueRequest { task_queue: queue(), ..Default::default() };
    for _ in 0..20 {
        let poll = host.node.poll_workflow_task(host.namespace.clone(), request.clone(), WAIT);
        assert!(tokio::time::timeout(Duration::from_millis(2), poll).await.is_err());
    }
    host.start_workflow().await;
    host.workflow_task().await;
    host.node.stop().await;
}
