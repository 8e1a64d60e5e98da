//! Transitions per second of the engine alone, on one core over rows in memory, with a digest of all rows written.
//!
//! ```text
//! cargo run --release -p mainstay-engine --example transitions [-- --smoke]
//! ```
//! Commands are first worked out by a conversation with the engine, as clients and workers would hold it, and then applied again to
//! equal rows: only that is measured, and it must give equal rows. Besides the throughput of short workflows it prints how the
//! cost of a transition grows with the length of a history and with the number of pending activities: it should not.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_api::log::{self, ActivityTarget, Reply, TaskToken, activity_target::Target, command::Op, reply};
use mainstay_api::record::{NamespaceRecord, TaskRow, TimerRow, task_row};
use mainstay_api::temporal::command::v1::{self as command, Command, command::Attributes as A};
use mainstay_api::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, NamespaceState};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::{RunId, Timestamp};
use mainstay_engine::{Change, Context, EntityKey, Fault, Outcome, Row, Store, Table, apply};
use xxhash_rust::xxh3::Xxh3;

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NAMESPACE: &str = "ns-id";
/// Workflows that are in memory together.
const TOGETHER: usize = 100;
/// Started, completed, marker, scheduled.
const EVENTS_PER_TURN: usize = 4;
const TURNS: usize = 300;
const DAY_NS: i64 = 86_400_000_000_000;
/// A cost that grows by more than this is a mistake of the engine, not of the clock.
const GROWTH_MAX: f64 = 4.0;

/// One command with its context, ready to be applied.
type Step = (Context, log::Command);
type EntityRows = BTreeMap<Row, Bytes>;

/// The rows of all workflows. Index rows are the shard's concern and are not kept.
#[derive(Clone, Default)]
struct Rows {
    entities: HashMap<String, EntityRows>,
    log_index: u64,
}

/// What the engine sees of one workflow.
struct View<'a> {
    rows: &'a EntityRows,
    namespace: &'a Arc<NamespaceRecord>,
}

impl Store for View<'_> {
    fn get(&self, _: &EntityKey, row: &Row) -> Result<Option<Bytes>, Fault> {
        Ok(self.rows.get(row).cloned())
    }

    fn scan(
        &self,
        _: &EntityKey,
        table: Table,
        run: Option<RunId>,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Fault> {
        let first = Row { table, run, id: from.to_vec() };
        for (row, value) in self.rows.range(first..) {
            if row.table != table || row.run != run || !visit(&row.id, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn namespace(&self, _: &str) -> Result<Option<Arc<NamespaceRecord>>, Fault> {
        Ok(Some(Arc::clone(self.namespace)))
    }

    fn has_timer(&self, _: &TimerRow) -> Result<bool, Fault> {
        Ok(false)
    }
}

fn namespace() -> &'static Arc<NamespaceRecord> {
    static RECORD: OnceLock<Arc<NamespaceRecord>> = OnceLock::new();
    let record = || NamespaceRecord {
        id: NAMESPACE.into(),
        name: "ns".into(),
        state: NamespaceState::Registered as i32,
        retention_ns: DAY_NS,
        ..NamespaceRecord::default()
    };
    RECORD.get_or_init(|| Arc::new(record()))
}

impl Rows {
    /// One transition: the engine's work, and its rows written. Answers the reply and the task rows that were added.
    fn apply(&mut self, (context, command): &Step) -> (Reply, Vec<TaskRow>) {
        if !self.entities.contains_key(&command.workflow_id) {
            self.entities.insert(command.workflow_id.clone(), EntityRows::new());
        }
        let rows = self.entities.get_mut(&command.workflow_id).expect("just added");
        let view = View { rows, namespace: namespace() };
        let Outcome { reply, changes } = apply(context, &view, command).expect("memory does not fail");
        let mut offered = Vec::new();
        for change in changes {
            match change {
                Change::Put { row, value, .. } => drop(rows.insert(row, value)),
                Change::Delete { row, .. } => drop(rows.remove(&row)),
                Change::AddTask(row) => offered.push(row),
                _ => {}
            }
        }
        (reply.expect("accepted"), offered)
    }

    /// Microseconds for each of these steps.
    fn measure(&mut self, steps: &[Step]) -> f64 {
        let began = processor_time();
        for step in steps {
            self.apply(step);
        }
        (processor_time() - began).as_secs_f64() * 1e6 / steps.len() as f64
    }

    fn digest(&self, hash: &mut Xxh3) {
        let ordered: BTreeMap<_, _> = self.entities.iter().collect();
        for (row, value) in ordered.into_values().flatten() {
            hash.update(&[row.table as u8]);
            hash.update(&row.id);
            hash.update(value);
        }
    }
}

/// A conversation: it knows what a client and a worker would send next, and writes down all that it sent.
#[derive(Default)]
struct Talk {
    rows: Rows,
    steps: Vec<Step>,
    task: TaskToken,
    activity: TaskToken,
    offered: Vec<TaskRow>,
}

impl Talk {
    fn apply(&mut self, workflow_id: &str, op: Op) {
        self.rows.log_index += 1;
        let index = self.rows.log_index;
        let command =
            log::Command { namespace_id: NAMESPACE.into(), workflow_id: workflow_id.to_string(), op: Some(op) };
        let context = Context {
            now: Timestamp::from_nanos(DAY_NS + index as i64 * 1_000),
            seed: u128::from(index) << 64 | u128::from(index),
            log_index: index,
            version: 1,
        };
        let step = (context, command);
        let (reply, offered) = self.rows.apply(&step);
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

    fn start(&mut self, workflow_id: &str) {
        let request = api::StartWorkflowExecutionRequest {
            namespace: "ns".into(),
            workflow_id: workflow_id.into(),
            workflow_type: Some(WorkflowType { name: "T".into() }),
            task_queue: queue(),
            input: payloads(),
            identity: "client".into(),
            request_id: format!("{:08x}-0000-4000-8000-000000000000", self.rows.log_index),
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

    /// Measures what `say` says, on rows as they are before. Answers microseconds for each transition.
    fn measured(&mut self, say: impl FnOnce(&mut Self)) -> f64 {
        let mut rows = self.rows.clone();
        self.steps.clear();
        say(self);
        let each = rows.measure(&self.steps);
        assert!(rows.entities == self.rows.entities, "the same commands gave other rows");
        each
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

/// Workflows of one activity: seven transitions each.
fn short_workflows(count: usize) {
    let (mut hash, mut transitions, mut micros, mut best) = (Xxh3::new(), 0, 0.0, f64::MAX);
    for first in (0..count).step_by(TOGETHER) {
        let mut talk = Talk { rows: Rows { log_index: first as u64 * 7, ..Rows::default() }, ..Talk::default() };
        let each = talk.measured(|talk| {
            for at in first..first + TOGETHER {
                let id = format!("wf-{at}");
                talk.start(&id);
                talk.poll();
                talk.complete(&id, vec![activity(1)]);
                talk.run_activity();
                talk.poll();
                talk.complete(&id, vec![done()]);
            }
        });
        talk.rows.digest(&mut hash);
        transitions += talk.steps.len();
        micros += each * talk.steps.len() as f64;
        best = best.min(each);
    }
    let (each, digest) = (micros / transitions as f64, hash.digest());
    println!(
        "short workflows: {transitions} transitions, {:.0} per second, {each:.2} us each ({best:.2} at best), digest {digest:016x}",
        1e6 / each
    );
}

/// A cost as a multiple of the first of its series.
fn grown(first: &mut f64, each: f64) -> f64 {
    if *first == 0.0 {
        *first = each;
    }
    let growth = each / *first;
    assert!(growth < GROWTH_MAX, "the cost of a transition is {growth:.1} times the first");
    growth
}

/// One run whose history grows: each task leaves a marker and asks for another.
fn long_history(targets: &[usize]) {
    let mut talk = Talk::default();
    talk.start("wf");
    let (mut first, mut events) = (0.0, 2);
    let mut turns = |talk: &mut Talk, count: usize| {
        for _ in 0..count {
            talk.poll();
            talk.complete("wf", vec![marker()]);
            events += EVENTS_PER_TURN;
        }
        events
    };
    for &target in targets {
        while turns(&mut talk, 1) < target {
            talk.steps.clear();
        }
        let each = talk.measured(|talk| {
            turns(talk, TURNS);
        });
        let growth = grown(&mut first, each);
        println!("history of {target} events: {each:.2} us each, {growth:.2} times the first");
    }
}

/// Many activities pending in one run: the cost of running one more.
fn many_pending(counts: &[usize]) {
    let mut first = 0.0;
    for &pending in counts {
        let mut talk = Talk::default();
        talk.start("wf");
        talk.poll();
        talk.complete("wf", (0..pending).map(activity).collect());
        let each = talk.measured(|talk| {
            for at in 0..TURNS {
                talk.run_activity();
                talk.poll();
                talk.complete("wf", vec![activity(10_000 + at)]);
            }
        });
        let growth = grown(&mut first, each);
        println!("{pending} pending activities: {each:.2} us each, {growth:.2} times the first");
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--smoke") {
        short_workflows(2_000);
        long_history(&[10, 5_000]);
        many_pending(&[1, 1_000]);
        return;
    }
    short_workflows(20_000);
    long_history(&[10, 1_000, 10_000, 50_000]);
    many_pending(&[1, 10, 100, 1_000, 2_000]);
}
