//! One log, applied to the store in memory and to RocksDB, in batches of other sizes and with restarts in between, gives the same
//! rows byte for byte.
//!
//! The log is made by a random worker that plays against a shard in memory: starts, signals, activities, timers, markers,
//! continue-as-new, closes, cancels, terminates and deletes of a few workflow ids, with time passing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::{
    self, ActivityTarget, Entry, FireTimers, Reply, TaskToken, activity_target, command::Op, reply,
};
use mainstay_api::record::{NamespaceRecord, TaskRow, task_row};
use mainstay_api::temporal::command::v1::{self as command, Command, command::Attributes as A};
use mainstay_api::temporal::common::v1::{ActivityType, Payload, Payloads, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, NamespaceState};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::Prng;
use mainstay_shard::{Effect, Shard};
use mainstay_storage::{MemoryState, StateStore};
use mainstay_storage_rocksdb::RocksState;
use prost::Message;

const NAMESPACE: &str = "ns-id";
const WORKFLOWS: u64 = 6;
const STEPS: usize = 1_500;
const SECOND_NS: i64 = 1_000_000_000;

/// Plays at random, and keeps what it played.
struct Recorder {
    shard: Shard,
    prng: Prng,
    now_ns: i64,
    log: Vec<(u64, Bytes)>,
    tasks: BTreeMap<u64, TaskRow>,
    workflow_tasks: Vec<TaskToken>,
    activities: Vec<TaskToken>,
    accepted: usize,
}

impl Recorder {
    fn new(seed: u64) -> Self {
        let mut recorder = Self {
            shard: Shard::new(1, Arc::new(MemoryState::default())),
            prng: Prng::new(u128::from(seed)),
            now_ns: 1_000 * SECOND_NS,
            log: Vec::new(),
            tasks: BTreeMap::new(),
            workflow_tasks: Vec::new(),
            activities: Vec::new(),
            accepted: 0,
        };
        let namespace = NamespaceRecord {
            id: NAMESPACE.into(),
            name: "ns".into(),
            state: NamespaceState::Registered as i32,
            retention_ns: 3_600 * SECOND_NS,
            revision: 1,
            ..NamespaceRecord::default()
        };
        recorder.play("", Op::PutNamespace(log::PutNamespace { namespace: Some(namespace) }));
        recorder
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.prng.next_u64() % bound
    }

    /// Applies one entry at once, and follows up what it offers.
    fn play(&mut self, workflow_id: &str, op: Op) {
        let index = self.log.len() as u64 + 1;
        let command = log::Command {
            namespace_id: NAMESPACE.into(),
            workflow_id: workflow_id.into(),
            op: Some(op),
            ..Default::default()
        };
        let entry = Entry {
            command_id: index.to_be_bytes().repeat(2).into(),
            now_ns: self.now_ns,
            seed_high: self.prng.next_u64(),
            seed_low: self.prng.next_u64(),
            version: 1,
            command: Some(command),
            ..Entry::default()
        };
        self.log.push((index, entry.encode_to_vec().into()));
        let applied = self.shard.apply(&self.log[self.log.len() - 1..], mark(index)).expect("applies");
        for one in applied {
            for effect in one.effects {
                match effect {
                    Effect::TaskAdded(row) => drop(self.tasks.insert(row.sequence, row)),
                    Effect::TaskRemoved(row) => drop(self.tasks.remove(&row.sequence)),
                    _ => {}
                }
            }
            if let Ok(reply) = one.reply {
                self.accepted += 1;
                self.follow(reply);
            }
        }
    }

    fn follow(&mut self, reply: Reply) {
        match reply.reply {
            Some(reply::Reply::WorkflowTaskStarted(task)) => self.workflow_tasks.extend(task.token),
            Some(reply::Reply::ActivityTaskStarted(task)) => self.activities.extend(task.token),
            _ => {}
        }
    }

    fn step(&mut self) {
        let workflow_id = format!("w{}", self.below(WORKFLOWS));
        let execution = Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id: String::new() });
        match self.below(20) {
            0..3 => self.start(&workflow_id),
            3..9 => self.poll(),
            9..13 => self.complete_workflow_task(),
            13..16 => self.end_activity(),
            16 => {
                let request = api::SignalWorkflowExecutionRequest {
                    workflow_execution: execution,
                    signal_name: "s".into(),
                    input: payloads(),
                    ..Default::default()
                };
                self.play(&workflow_id, Op::SignalWorkflow(request));
            }
            17 => self.let_time_pass(),
            18 => {
                let request =
                    api::RequestCancelWorkflowExecutionRequest { workflow_execution: execution, ..Default::default() };
                self.play(&workflow_id, Op::RequestCancel(request));
            }
            _ if self.below(3) > 0 => {
                let request =
                    api::TerminateWorkflowExecutionRequest { workflow_execution: execution, ..Default::default() };
                self.play(&workflow_id, Op::Terminate(request));
            }
            _ => {
                let request =
                    api::DeleteWorkflowExecutionRequest { workflow_execution: execution, ..Default::default() };
                self.play(&workflow_id, Op::Delete(request));
            }
        }
    }

    fn start(&mut self, workflow_id: &str) {
        let request = api::StartWorkflowExecutionRequest {
            namespace: "ns".into(),
            workflow_id: workflow_id.into(),
            workflow_type: Some(WorkflowType { name: "T".into() }),
            task_queue: queue(),
            input: payloads(),
            request_id: self.log.len().to_string(),
            ..Default::default()
        };
        self.play(workflow_id, Op::StartWorkflow(log::StartWorkflow { request: Some(request) }));
    }

    fn poll(&mut self) {
        let Some(row) = self.tasks.values().next().cloned() else { return };
        let op = match row.kind() {
            task_row::Kind::Workflow => Op::StartWorkflowTask(log::StartWorkflowTask {
                run_id: row.run_id.clone(),
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id: self.log.len().to_string(),
                poll: Some(api::PollWorkflowTaskQueueRequest { task_queue: queue(), ..Default::default() }),
            }),
            _ => Op::StartActivityTask(log::StartActivityTask {
                run_id: row.run_id.clone(),
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id: self.log.len().to_string(),
                poll: Some(api::PollActivityTaskQueueRequest::default()),
            }),
        };
        self.play(&row.workflow_id, op);
    }

    fn complete_workflow_task(&mut self) {
        let Some(token) = self.workflow_tasks.pop() else { return };
        let id = self.log.len().to_string();
        let commands = match self.below(8) {
            0..3 => vec![activity(&id), activity(&format!("{id}b"))],
            3..5 => vec![timer(&id), activity(&id)],
            5 => vec![continue_as_new()],
            6 => vec![complete()],
            _ => Vec::new(),
        };
        let request =
            api::RespondWorkflowTaskCompletedRequest { commands, identity: "worker".into(), ..Default::default() };
        let workflow_id = token.workflow_id.clone();
        let op = log::CompleteWorkflowTask { token: Some(token), request: Some(request), ..Default::default() };
        self.play(&workflow_id, Op::CompleteWorkflowTask(op));
    }

    fn end_activity(&mut self) {
        let Some(token) = self.activities.pop() else { return };
        let workflow_id = token.workflow_id.clone();
        let target = Some(ActivityTarget { target: Some(activity_target::Target::Token(token)) });
        let op = match self.below(3) {
            0 => Op::FailActivity(log::FailActivity { target, ..Default::default() }),
            _ => Op::CompleteActivity(log::CompleteActivity { target, result: payloads(), ..Default::default() }),
        };
        self.play(&workflow_id, op);
    }

    /// Moves the clock, and fires what is due.
    fn let_time_pass(&mut self) {
        self.now_ns += self.below(8) as i64 * SECOND_NS;
        let mut rows = Vec::new();
        let visit = &mut |row: mainstay_api::record::TimerRow| {
            let due = row.due_ns <= self.now_ns && rows.len() < 100;
            if due {
                rows.push(row);
            }
            due
        };
        self.shard.timers_from(i64::MIN, visit).expect("scans");
        if !rows.is_empty() {
            self.play("", Op::FireTimers(FireTimers { rows }));
        }
    }
}

fn mark(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() })
}

fn payloads() -> Option<Payloads> {
    Some(Payloads { payloads: vec![Payload { data: "\"a small payload\"".into(), ..Payload::default() }] })
}

fn command(kind: CommandType, attributes: A) -> Command {
    Command { command_type: kind as i32, attributes: Some(attributes), ..Command::default() }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn activity(id: &str) -> Command {
    let attributes = command::ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: "Act".into() }),
        task_queue: queue(),
        input: payloads(),
        start_to_close_timeout: seconds(10),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, A::ScheduleActivityTaskCommandAttributes(attributes))
}

fn timer(id: &str) -> Command {
    let attributes = command::StartTimerCommandAttributes { timer_id: id.into(), start_to_fire_timeout: seconds(3) };
    command(CommandType::StartTimer, A::StartTimerCommandAttributes(attributes))
}

fn complete() -> Command {
    let attributes = command::CompleteWorkflowExecutionCommandAttributes { result: payloads() };
    command(CommandType::CompleteWorkflowExecution, A::CompleteWorkflowExecutionCommandAttributes(attributes))
}

fn continue_as_new() -> Command {
    let attributes = command::ContinueAsNewWorkflowExecutionCommandAttributes {
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: queue(),
        ..Default::default()
    };
    command(CommandType::ContinueAsNewWorkflowExecution, A::ContinueAsNewWorkflowExecutionCommandAttributes(attributes))
}

fn apply_all(store: Arc<dyn StateStore>, log: &[(u64, Bytes)], batch: usize) -> u64 {
    let shard = Shard::new(1, store);
    for entries in log.chunks(batch) {
        let last = entries.last().map_or(0, |(index, _)| *index);
        shard.apply(entries, mark(last)).expect("applies");
    }
    shard.digest().expect("reads")
}

#[test]
fn a_recorded_log_gives_the_same_rows_on_every_store() {
    for seed in 0..3 {
        let mut recorder = Recorder::new(seed);
        for _ in 0..STEPS {
            recorder.step();
        }
        let log = recorder.log;
        assert!(recorder.accepted > STEPS / 3, "the worker got something done: {} of {}", recorder.accepted, log.len());
        let expected = recorder.shard.digest().expect("reads");
        assert_eq!(apply_all(Arc::new(MemoryState::default()), &log, 50), expected);

        let directory = tempfile::tempdir().expect("a directory");
        let (first, rest) = log.split_at(log.len() / 2);
        let store = Arc::new(RocksState::open(directory.path()).expect("opens"));
        apply_all(Arc::clone(&store) as Arc<dyn StateStore>, first, 7);
        store.flush().expect("flushes");
        drop(store);
        let store = Arc::new(RocksState::open(directory.path()).expect("opens"));
        assert_eq!(apply_all(store, rest, 64), expected, "seed {seed}");
    }
}
