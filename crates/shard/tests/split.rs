//! A shard that is split while commands go on: every row is at one of the two, none is lost or there twice, a message is executed once,
//! and replicas that apply the same logs in other batches have the same rows.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::{self, Command, Entry, Reply, TaskToken, command::Op, reply};
use mainstay_api::record::{
    NamespaceRecord, SlotsLeft, SplitRecord, SplitVoter, SplitsRecord, TaskRow, TimerRow, VisibilityRecord,
};
use mainstay_api::temporal::command::v1::{self as commands, command::Attributes};
use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::{Prng, Slot};
use mainstay_engine::{EntityKey, Error};
use mainstay_shard::{ListSpace, Placement, Shard, slot_of_row, slot_of_task, slot_of_timer};
use mainstay_storage::{MemoryState, StateView};
use prost::Message;

const SOURCE: u32 = 1;
const TARGET: u32 = 2;
const SECOND: i64 = 1_000_000_000;
const WORKFLOWS: u64 = 24;
/// Spaces of rows that are at one shard.
const SPLIT_SPACES: [u8; 9] = [1, 2, 3, 4, 5, 6, 8, 33, 34];

fn id(number: u64) -> String {
    format!("w{number}")
}

struct Host {
    number: u32,
    store: Arc<MemoryState>,
    shard: Shard,
    log: Vec<(u64, Bytes)>,
}

impl Host {
    fn new(number: u32) -> Self {
        let store = Arc::new(MemoryState::default());
        Self { number, shard: Shard::new(number, store.clone()), store, log: Vec::new() }
    }

    fn apply(&mut self, now_ns: i64, op: Command) -> Result<Reply, Error> {
        let index = self.log.len() as u64 + 1;
        let entry = Entry {
            now_ns,
            seed_low: index,
            seed_high: u64::from(self.number),
            version: 1,
            command: Some(op),
            ..Entry::default()
        };
        let batch = (index, Bytes::from(entry.encode_to_vec()));
        self.log.push(batch.clone());
        self.shard.apply(&[batch], Bytes::from_static(b"mark")).expect("applies").remove(0).reply
    }

    /// Rows by keys without the shard's number, of the spaces that are split.
    fn rows(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let (number, prefix) = (self.number, self.number.to_be_bytes());
        let mut rows = BTreeMap::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            if SPLIT_SPACES.contains(&key[4]) {
                let value = value.strip_prefix(&prefix).filter(|_| key[4] == 5).unwrap_or(value);
                rows.insert(key[4..].to_vec(), value.to_vec());
            }
            true
        };
        self.store.scan(&prefix, &(number + 1).to_be_bytes(), visit).expect("scans");
        rows
    }
}

/// Two shards and whoever routes between them, without a network.
struct World {
    hosts: BTreeMap<u32, Host>,
    placement: Placement,
    prng: Prng,
    now_ns: i64,
    waiting: VecDeque<Command>,
    started: BTreeMap<String, i64>,
    tokens: VecDeque<(TaskToken, bool)>,
    number: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            hosts: [SOURCE, TARGET].map(|number| (number, Host::new(number))).into(),
            placement: Placement::of(1, &SplitsRecord::default()),
            prng: Prng::new(u128::from(seed)),
            now_ns: SECOND,
            waiting: VecDeque::new(),
            started: BTreeMap::new(),
            tokens: VecDeque::new(),
            number: 0,
        };
        let namespace = NamespaceRecord { id: "n".into(), name: "n".into(), revision: 1, ..Default::default() };
        let put = Op::PutNamespace(log::PutNamespace { namespace: Some(namespace) });
        world.at(SOURCE, put).expect("is kept");
        world
    }

    fn at(&mut self, group: u32, op: Op) -> Result<Reply, Error> {
        self.send(group, Command { op: Some(op), ..Command::default() })
    }

    fn send(&mut self, group: u32, command: Command) -> Result<Reply, Error> {
        self.now_ns += 1_000_000;
        let now_ns = self.now_ns;
        self.hosts.get_mut(&group).expect("is there").apply(now_ns, command)
    }

    fn group_of(&self, slot: u16) -> u32 {
        self.placement.group_of(slot)
    }

    /// Proposes a command of a workflow where the table says; what is refused there waits.
    fn run(&mut self, command: Command) {
        let group = self.group_of(Slot::of(&command.namespace_id, &command.workflow_id).get());
        match self.send(group, command.clone()) {
            Err(Error::Moved) => self.waiting.push_back(command),
            reply => self.learn(&command, reply.ok()),
        }
    }

    fn learn(&mut self, command: &Command, reply: Option<Reply>) {
        match (&command.op, reply.and_then(|reply| reply.reply)) {
            (Some(Op::SignalWithStart(_)), Some(_)) => {
                *self.started.entry(command.workflow_id.clone()).or_default() += 1;
            }
            (_, Some(reply::Reply::WorkflowTaskStarted(started))) => {
                self.tokens.extend(started.token.map(|token| (token, true)));
            }
            (_, Some(reply::Reply::ActivityTaskStarted(started))) => {
                self.tokens.extend(started.token.map(|token| (token, false)));
            }
            _ => {}
        }
    }

    fn of_workflow(workflow_id: &str, op: Op) -> Command {
        Command { namespace_id: "n".into(), workflow_id: workflow_id.into(), op: Some(op), ..Command::default() }
    }

    fn signal(&mut self) {
        let workflow_id = id(self.prng.next_u64() % WORKFLOWS);
        self.number += 1;
        let request = api::SignalWithStartWorkflowExecutionRequest {
            workflow_id: workflow_id.clone(),
            workflow_type: Some(WorkflowType { name: "t".into() }),
            task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
            signal_name: "s".into(),
            request_id: format!("r{}", self.number),
            ..Default::default()
        };
        self.run(Self::of_workflow(&workflow_id, Op::SignalWithStart(request)));
    }

    /// Starts a task of any served row.
    fn start_task(&mut self) {
        let mut rows: Vec<TaskRow> = Vec::new();
        for host in self.hosts.values() {
            let serving = host.shard.serving().expect("reads");
            let visit = &mut |row: TaskRow| {
                rows.extend(Some(row).filter(|row| serving.serves(slot_of_task(row))));
                true
            };
            host.shard.tasks(visit).expect("scans");
        }
        if rows.is_empty() {
            return;
        }
        let row = rows.swap_remove(self.prng.next_u64() as usize % rows.len());
        self.number += 1;
        let poll_request_id = format!("p{}", self.number);
        let op = if row.kind() == mainstay_api::record::task_row::Kind::Workflow {
            Op::StartWorkflowTask(log::StartWorkflowTask {
                run_id: row.run_id,
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id,
                ..Default::default()
            })
        } else {
            Op::StartActivityTask(log::StartActivityTask {
                run_id: row.run_id,
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id,
                ..Default::default()
            })
        };
        self.run(Self::of_workflow(&row.workflow_id, op));
    }

    fn complete_task(&mut self) {
        let Some((token, is_workflow)) = self.tokens.pop_front() else { return };
        let workflow_id = token.workflow_id.clone();
        let op = if is_workflow {
            let request = api::RespondWorkflowTaskCompletedRequest { commands: self.decide(), ..Default::default() };
            let (token, request) = (Some(token), Some(request));
            Op::CompleteWorkflowTask(log::CompleteWorkflowTask { token, request, ..Default::default() })
        } else {
            let target = log::ActivityTarget { target: Some(log::activity_target::Target::Token(token)) };
            Op::CompleteActivity(log::CompleteActivity { target: Some(target), ..Default::default() })
        };
        self.run(Self::of_workflow(&workflow_id, op));
    }

    /// What a worker wants: a timer, an activity, a signal to another, rarely the end.
    fn decide(&mut self) -> Vec<commands::Command> {
        self.number += 1;
        let number = self.number;
        let second = prost_types::Duration { seconds: 1, nanos: 0 };
        let (kind, attributes) = match self.prng.next_u64() % 5 {
            0 => {
                let timer = commands::StartTimerCommandAttributes {
                    timer_id: format!("t{number}"),
                    start_to_fire_timeout: Some(second),
                };
                (CommandType::StartTimer, Attributes::StartTimerCommandAttributes(timer))
            }
            1 => {
                let activity = commands::ScheduleActivityTaskCommandAttributes {
                    activity_id: format!("a{number}"),
                    activity_type: Some(Default::default()),
                    task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
                    start_to_close_timeout: Some(second),
                    schedule_to_close_timeout: Some(second),
                    ..Default::default()
                };
                (CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(activity))
            }
            2 | 3 => {
                let execution =
                    WorkflowExecution { workflow_id: id(self.prng.next_u64() % WORKFLOWS), run_id: String::new() };
                let signal = commands::SignalExternalWorkflowExecutionCommandAttributes {
                    execution: Some(execution),
                    signal_name: "external".into(),
                    ..Default::default()
                };
                let attributes = Attributes::SignalExternalWorkflowExecutionCommandAttributes(signal);
                (CommandType::SignalExternalWorkflowExecution, attributes)
            }
            _ => return Vec::new(),
        };
        vec![commands::Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() }]
    }

    fn fire(&mut self) {
        for group in [SOURCE, TARGET] {
            let mut rows: Vec<TimerRow> = Vec::new();
            let (now_ns, host) = (self.now_ns, &self.hosts[&group]);
            let visit = &mut |row: TimerRow| {
                let is_due = row.due_ns <= now_ns;
                rows.extend(Some(row).filter(|_| is_due));
                is_due
            };
            host.shard.timers_from(i64::MIN, visit).expect("scans");
            // Also those that are not served: they must not fire.
            if !rows.is_empty() {
                self.at(group, Op::FireTimers(log::FireTimers { rows })).expect("fires");
            }
        }
    }

    /// Delivers what the outboxes hold; as in life, some deliveries go to where the destination was, and some outcomes are lost.
    fn deliver(&mut self, all: bool) {
        for group in [SOURCE, TARGET] {
            let serving = self.hosts[&group].shard.serving().expect("reads");
            let mut messages = Vec::new();
            let visit = &mut |message: mainstay_api::record::EntityMessage| {
                messages.extend(Some(message).filter(|message| serving.serves(message.source_slot as u16)));
                true
            };
            self.hosts[&group].shard.messages(visit).expect("scans");
            for message in messages {
                let right = self.group_of(Slot::of(&message.namespace_id, &message.workflow_id).get());
                let late = !all && self.prng.next_u64().is_multiple_of(4);
                let to = if late { SOURCE } else { right };
                let (source_slot, sequence) = (message.source_slot, message.sequence);
                let deliver = log::DeliverMessages { floors: Vec::new(), messages: vec![message] };
                let reply = self.at(to, Op::DeliverMessages(deliver)).expect("answers");
                let Some(reply::Reply::MessageOutcomes(mut answered)) = reply.reply else { panic!("no outcomes") };
                let outcome = answered.outcomes.remove(0);
                let lost = !all && self.prng.next_u64().is_multiple_of(4);
                if outcome.outcome.is_none() || lost {
                    continue;
                }
                let messages = vec![log::AcknowledgedMessage { source_slot, sequence, outcome: Some(outcome) }];
                self.at(group, Op::AcknowledgeMessages(log::AcknowledgeMessages { messages })).expect("is kept");
            }
        }
    }

    fn step(&mut self) {
        match self.prng.next_u64() % 8 {
            0..=2 => self.signal(),
            3 | 4 => self.start_task(),
            5 | 6 => self.complete_task(),
            _ => {
                self.fire();
                self.deliver(false);
            }
        }
        if let Some(command) = self.waiting.pop_front() {
            self.run(command);
        }
    }

    /// One step of copying; answers how much differed, and whether it was the last.
    fn copy(&mut self, split: &SplitRecord, session: u64, number: &mut u64, position: &mut Vec<u8>) -> (usize, bool) {
        let (source, target) = (&self.hosts[&SOURCE].shard, &self.hosts[&TARGET].shard);
        let found = source.differences(target, (split.from, split.to), position).expect("compares");
        if !found.rows.is_empty() {
            *number += 1;
            let import = log::ImportRows { session, number: *number, rows: found.rows };
            self.at(TARGET, Op::ImportRows(import)).expect("is kept");
        }
        let is_last = found.next.is_none();
        *position = found.next.unwrap_or_default();
        (found.exact, is_last)
    }

    fn copy_all(&mut self, split: &SplitRecord, session: u64, number: &mut u64) -> usize {
        let (mut position, mut exact) = (Vec::new(), 0);
        loop {
            let (found, is_last) = self.copy(split, session, number, &mut position);
            exact += found;
            if is_last {
                return exact;
            }
        }
    }

    fn begin(&mut self) -> SplitRecord {
        let (from, to) = self.placement.half_of(SOURCE).expect("can be split");
        SplitRecord { source: SOURCE, target: TARGET, from, to, phase: 1, voters: vec![SplitVoter::default()] }
    }

    fn hold(&mut self, split: &SplitRecord) {
        let slots = SlotsLeft { target: split.target, from: split.from, to: split.to, ..SlotsLeft::default() };
        self.at(SOURCE, Op::HoldSlots(log::HoldSlots { slots: Some(slots) })).expect("holds");
    }

    fn end(&mut self, session: u64) {
        let now_ns = self.hosts[&SOURCE].shard.now().expect("reads");
        let sequence_base = self.hosts[&SOURCE].log.len() as u64;
        self.at(TARGET, Op::EndArrival(log::EndArrival { session, now_ns, sequence_base })).expect("arrives");
    }

    fn serve(&mut self, mut split: SplitRecord) {
        split.phase = 2;
        self.placement = Placement::of(1, &SplitsRecord { shards: 1, splits: vec![split] });
    }

    fn drop_all(&mut self) {
        while !self.hosts[&SOURCE].shard.serving().expect("reads").has_dropped(TARGET) {
            let op = Op::DropSlots(log::DropSlots { target: TARGET, rows_max: 7 });
            self.at(SOURCE, op).expect("drops");
        }
    }

    fn signals(&self, workflow_id: &str) -> i64 {
        let entity = EntityKey { namespace_id: "n".into(), workflow_id: workflow_id.into() };
        let group = self.group_of(Slot::of("n", workflow_id).get());
        let mut counted = 0;
        self.hosts[&group]
            .shard
            .rows(&mut |key, row, value| {
                if key == entity && row.table == mainstay_engine::Table::History {
                    let batch = mainstay_api::RawHistory::decode(value).expect("decodes");
                    let events = batch.events.into_iter().map(|event| {
                        mainstay_api::temporal::history::v1::HistoryEvent::decode(event).expect("decodes")
                    });
                    counted += events.filter(|event| event.event_type == 26).filter(is_direct).count() as i64;
                }
            })
            .expect("scans");
        counted
    }

    fn check(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            self.run(command);
        }
        for _ in 0..4 {
            self.deliver(true);
        }
        for (workflow_id, signals) in &self.started {
            let known = self.signals(workflow_id) + self.buffered(workflow_id);
            assert_eq!(known, *signals, "signals of {workflow_id}");
        }
        self.check_lists();
        for (number, host) in &self.hosts {
            let replica = Host::new(*number);
            for batch in host.log.chunks(5) {
                replica.shard.apply(batch, Bytes::from_static(b"mark")).expect("applies");
            }
            let digests = [&replica, host].map(|host| host.shard.digest().expect("reads"));
            assert_eq!(digests[0], digests[1], "replicas of shard {number} differ");
        }
    }

    /// Signals that wait for the end of a workflow task.
    fn buffered(&self, workflow_id: &str) -> i64 {
        let group = self.group_of(Slot::of("n", workflow_id).get());
        let mut counted = 0;
        let visit = &mut |key: EntityKey, row: mainstay_engine::Row, value: Bytes| {
            if key.workflow_id == workflow_id && row.table == mainstay_engine::Table::Buffered {
                let event = mainstay_api::temporal::history::v1::HistoryEvent::decode(value).expect("decodes");
                counted += i64::from(event.event_type == 26 && is_direct(&event));
            }
        };
        self.hosts[&group].shard.rows(visit).expect("scans");
        counted
    }

    /// Each row of a list is at the shard of its slot, once, and counted.
    fn check_lists(&self) {
        let (mut listed, mut counted) = (0, 0);
        for (number, host) in &self.hosts {
            for space in [ListSpace::Open, ListSpace::Closed] {
                let visit = &mut |row: VisibilityRecord| {
                    assert_eq!(self.group_of(slot_of_row(&row)), *number, "{}", row.workflow_id);
                    listed += 1;
                    true
                };
                host.shard.list("n", space, None, visit).expect("lists");
            }
            let counts = host.shard.lists().counts("n").expect("counts");
            counted += counts.values().sum::<i64>();
            let visit = &mut |row: TimerRow| {
                assert_eq!(self.group_of(slot_of_timer(&row)), *number);
                true
            };
            host.shard.timers_from(i64::MIN, visit).expect("scans");
        }
        assert_eq!(listed, self.started.len() as i64);
        assert_eq!(counted, listed);
    }
}

/// Whether a signal came from outside, and not from another workflow.
fn is_direct(event: &mainstay_api::temporal::history::v1::HistoryEvent) -> bool {
    use mainstay_api::temporal::history::v1::history_event::Attributes as A;
    matches!(&event.attributes, Some(A::WorkflowExecutionSignaledEventAttributes(a)) if a.signal_name == "s")
}

#[test]
fn rows_are_at_one_of_the_two_and_together_as_before() {
    let mut world = World::new(1);
    (0..400).for_each(|_| world.step());
    let split = world.begin();
    let mut number = 0;
    world.at(TARGET, Op::BeginArrival(log::BeginArrival { session: 5 })).expect("begins");
    world.copy_all(&split, 5, &mut number);
    world.hold(&split);
    world.copy_all(&split, 5, &mut number);
    assert_eq!(world.copy_all(&split, 5, &mut number), 0, "nothing differs");
    let before = world.hosts[&SOURCE].rows();
    world.end(5);
    world.serve(split);
    world.drop_all();
    let (left, moved) = (world.hosts[&SOURCE].rows(), world.hosts[&TARGET].rows());
    assert!(left.len() > 100 && moved.len() > 100, "{} and {} rows", left.len(), moved.len());
    let twice: Vec<_> = left.keys().filter(|key| moved.contains_key(*key)).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let together: BTreeMap<_, _> = left.into_iter().chain(moved).collect();
    assert!(before == together, "{} rows before, {} after", before.len(), together.len());
    world.check();
}

#[test]
fn nothing_is_lost_or_done_twice_while_commands_go_on() {
    for seed in 0..24 {
        let mut world = World::new(100 + seed);
        (0..200).for_each(|_| world.step());
        let split = world.begin();
        world.at(TARGET, Op::BeginArrival(log::BeginArrival { session: 1 })).expect("begins");
        let mut number = 0;
        for _ in 0..3 {
            world.copy_all(&split, 1, &mut number);
            (0..30).for_each(|_| world.step());
        }
        // Another takes over, before or after the slots are held; what the first still sends is refused.
        let held = seed % 2 == 0;
        if held {
            world.hold(&split);
            (0..10).for_each(|_| world.step());
        }
        world.at(TARGET, Op::BeginArrival(log::BeginArrival { session: 2 })).expect("begins");
        let garbage = log::ImportedRow { key: Bytes::from_static(&[1, 0x3f, 0xff, 0]), value: Some(Bytes::new()) };
        let late = log::ImportRows { session: 1, number: number + 1, rows: vec![garbage] };
        world.at(TARGET, Op::ImportRows(late)).expect("is refused");
        number = 0;
        if !held {
            world.hold(&split);
        }
        (0..10).for_each(|_| world.step());
        while world.copy_all(&split, 2, &mut number) > 0 {
            (0..5).for_each(|_| world.step());
        }
        world.end(1);
        assert!(!world.hosts[&TARGET].shard.serving().expect("reads").has_arrived(), "the first does not decide");
        world.end(2);
        (0..10).for_each(|_| world.step());
        world.serve(split);
        (0..100).for_each(|_| world.step());
        world.drop_all();
        world.end(2);
        (0..200).for_each(|_| world.step());
        world.check();
    }
}
