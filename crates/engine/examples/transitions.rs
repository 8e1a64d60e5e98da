//! Transitions per second of the engine alone, on one core over rows in memory, with a digest of all rows written.
//!
//! ```text
//! cargo run --release -p mainstay-engine --example transitions
//! ```
//! Besides the throughput of short workflows it prints how the cost of a transition grows with the length of a history and with
//! the number of pending activities: it should not.

#[path = "../tests/support/store.rs"]
#[allow(dead_code, missing_docs)]
mod store;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mainstay_api::log::{self, ActivityTarget, Reply, TaskToken, activity_target::Target, command::Op, reply};
use mainstay_api::record::{NamespaceRecord, TaskRow, task_row};
use mainstay_api::temporal::command::v1::{self as command, Command, command::Attributes as A};
use mainstay_api::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, NamespaceState};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::Timestamp;
use mainstay_engine::{Change, Context, apply};

use store::MemStore;

const NAMESPACE: &str = "ns-id";
const WORKFLOWS: usize = 20_000;
/// Started, completed, marker, scheduled.
const EVENTS_PER_TURN: usize = 4;
const DAY_NS: i64 = 86_400_000_000_000;

/// The engine, its rows, and the time spent in it.
struct Bench {
    store: MemStore,
    log_index: u64,
    lap_began: Duration,
    transitions: u64,
    digest: DefaultHasher,
    task: TaskToken,
    activity: TaskToken,
    offered: Vec<TaskRow>,
}

impl Bench {
    fn new() -> Self {
        let mut store = MemStore::default();
        let namespace = NamespaceRecord {
            id: NAMESPACE.into(),
            name: "ns".into(),
            state: NamespaceState::Registered as i32,
            retention_ns: DAY_NS,
            ..NamespaceRecord::default()
        };
        store.namespaces.insert(NAMESPACE.into(), namespace);
        Self {
            store,
            log_index: 0,
            lap_began: processor_time(),
            transitions: 0,
            digest: DefaultHasher::new(),
            task: TaskToken::default(),
            activity: TaskToken::default(),
            offered: Vec::new(),
        }
    }

    /// One transition.
    fn apply(&mut self, workflow_id: &str, op: Op) {
        self.log_index += 1;
        let command =
            log::Command { namespace_id: NAMESPACE.into(), workflow_id: workflow_id.to_string(), op: Some(op) };
        let context = Context {
            now: Timestamp::from_nanos(DAY_NS + self.log_index as i64 * 1_000),
            seed: u128::from(self.log_index) << 64 | u128::from(self.log_index),
            log_index: self.log_index,
            version: 1,
        };
        let outcome = apply(&context, &self.store, &command).expect("memory does not fail");
        self.transitions += 1;
        self.remember(outcome.reply.expect("accepted"));
        self.write(outcome.changes);
    }

    fn remember(&mut self, reply: Reply) {
        match reply.reply {
            Some(reply::Reply::WorkflowTaskStarted(task)) => self.task = task.token.unwrap_or_default(),
            Some(reply::Reply::ActivityTaskStarted(task)) => self.activity = task.token.unwrap_or_default(),
            _ => {}
        }
    }

    fn write(&mut self, changes: Vec<Change>) {
        for change in &changes {
            match change {
                Change::Put { row, value, .. } => (row, value).hash(&mut self.digest),
                Change::Delete { row, .. } => row.hash(&mut self.digest),
                Change::AddTask(row) => self.offered.push(row.clone()),
                _ => {}
            }
        }
        self.store.write(changes).expect("changes fit");
    }

    fn offer(&mut self, kind: task_row::Kind) -> TaskRow {
        let at = self.offered.iter().rposition(|row| row.kind() == kind).expect("a task is offered");
        self.offered.swap_remove(at)
    }

    fn start(&mut self, workflow_id: &str) {
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

    fn poll(&mut self) {
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

    fn complete(&mut self, workflow_id: &str, commands: Vec<Command>) {
        let request = api::RespondWorkflowTaskCompletedRequest {
            force_create_new_workflow_task: commands.iter().any(|c| c.command_type() == CommandType::RecordMarker),
            commands,
            identity: "worker".into(),
            ..Default::default()
        };
        let op = log::CompleteWorkflowTask { token: Some(self.task.clone()), request: Some(request) };
        self.apply(workflow_id, Op::CompleteWorkflowTask(op));
    }

    fn run_activity(&mut self) {
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
        let complete = log::CompleteActivity { target, result: payloads(), identity: "worker".into() };
        self.apply(&row.workflow_id, Op::CompleteActivity(complete));
    }

    /// Microseconds for each transition since the last call: engine, rows in memory and digest together.
    fn lap(&mut self) -> f64 {
        let now = processor_time();
        let each = (now - self.lap_began).as_secs_f64() / self.transitions.max(1) as f64;
        (self.lap_began, self.transitions) = (now, 0);
        each * 1e6
    }
}

/// What this thread has used of the processor, so that a busy machine does not count; wall time where that is not known.
fn processor_time() -> Duration {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let wall = BEGAN.get_or_init(Instant::now).elapsed();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).map_or(wall, Duration::from_nanos)
}

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() })
}

fn payloads() -> Option<Payloads> {
    let metadata = [("encoding".to_string(), "json/plain".into())].into();
    Some(Payloads { payloads: vec![Payload { metadata, data: "\"a small payload\"".into(), ..Payload::default() }] })
}

fn activity(id: usize) -> Command {
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

fn marker() -> Command {
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

/// Workflows of one activity: eight transitions each.
fn short_workflows() {
    let mut bench = Bench::new();
    for at in 0..WORKFLOWS {
        let id = format!("wf-{at}");
        bench.start(&id);
        bench.poll();
        bench.complete(&id, vec![activity(1)]);
        bench.run_activity();
        bench.poll();
        bench.complete(&id, vec![done()]);
    }
    let (count, digest) = (bench.transitions, bench.digest.finish());
    let each = bench.lap();
    println!(
        "short workflows: {count} transitions, {:.0} per second, {each:.2} us each, digest {digest:016x}",
        1e6 / each
    );
}

/// One run whose history grows: each task leaves a marker and asks for another.
fn long_history() {
    let mut bench = Bench::new();
    bench.start("wf");
    let (mut first, mut events) = (0.0, 2);
    for target in [10, 1_000, 10_000, 50_000] {
        while events < target {
            bench.poll();
            bench.complete("wf", vec![marker()]);
            events += EVENTS_PER_TURN;
        }
        bench.lap();
        for _ in 0..300 {
            bench.poll();
            bench.complete("wf", vec![marker()]);
            events += EVENTS_PER_TURN;
        }
        let each = bench.lap();
        first = if target == 10 { each } else { first };
        println!("history of {target} events: {each:.2} us each, {:.2} times the first", each / first);
    }
}

/// Many activities pending in one run: the cost of running one more.
fn many_pending() {
    let mut first = 0.0;
    for pending in [1, 10, 100, 1_000, 2_000] {
        let mut bench = Bench::new();
        bench.start("wf");
        bench.poll();
        bench.complete("wf", (0..pending).map(activity).collect());
        bench.lap();
        let mut spent = 0.0;
        let rounds = 300;
        for at in 0..rounds {
            bench.run_activity();
            bench.poll();
            bench.complete("wf", vec![activity(10_000 + at)]);
            spent += bench.lap();
        }
        let each = spent / rounds as f64;
        first = if pending == 1 { each } else { first };
        println!("{pending} pending activities: {each:.2} us each, {:.2} times the first", each / first);
    }
}

fn main() {
    short_workflows();
    long_history();
    many_pending();
}
