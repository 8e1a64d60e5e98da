//! The engine over a [`MemStore`], with a clock that only the test moves.

use std::collections::BTreeMap;

use mainstay_api::log::{
    AcknowledgeMessages, AcknowledgedMessage, Command, DeliverMessages, FireTimers, MessageFloor, Reply, ReservedPoll,
    SpeculativeTask, WorkflowTaskStarted, command::Op, reply,
};
use mainstay_api::record::{EntityMessage, ExecutionRecord, MessageOutcome, NamespaceRecord, RunRecord, TimerRow};
use mainstay_api::temporal::enums::v1::{IndexedValueType, NamespaceState};
use mainstay_base::Timestamp;
use mainstay_engine::speculative::{self, Taker};
use mainstay_engine::{Change, Context, EntityKey, Error, SuggestFrom, Table, apply};

use super::store::MemStore;

/// The one namespace of tests.
pub const NAMESPACE: &str = "ns-id";
/// When tests begin: 2001-09-09 01:46:40 UTC.
pub const EPOCH_NS: i64 = 1_000_000_000_000_000_000;
const SECOND: i64 = 1_000_000_000;
const RETENTION: i64 = 86_400 * SECOND;

/// One shard of one replica.
pub struct Machine {
    pub store: MemStore,
    pub now_ns: i64,
    pub log_index: u64,
    /// The speculative task that the leader holds.
    pub speculative: Option<SpeculativeTask>,
    /// Polls for the next command.
    pub reserved_polls: Vec<ReservedPoll>,
    pub suggest_from: SuggestFrom,
    last_speculative_id: u64,
}

impl Machine {
    pub fn new() -> Self {
        let attributes = [
            ("CustomKeywordField", IndexedValueType::Keyword),
            ("CustomIntField", IndexedValueType::Int),
            ("CustomKeywordListField", IndexedValueType::KeywordList),
        ];
        let namespace = NamespaceRecord {
            id: NAMESPACE.into(),
            name: "ns".into(),
            state: NamespaceState::Registered as i32,
            retention_ns: RETENTION,
            search_attributes: attributes.iter().map(|(name, kind)| ((*name).to_string(), *kind as i32)).collect(),
            ..NamespaceRecord::default()
        };
        let mut store = MemStore::default();
        store.namespaces.insert(NAMESPACE.into(), namespace);
        Self {
            store,
            now_ns: EPOCH_NS,
            log_index: 0,
            speculative: None,
            reserved_polls: Vec::new(),
            suggest_from: SuggestFrom::default(),
            last_speculative_id: 0,
        }
    }

    pub fn entity(workflow_id: &str) -> EntityKey {
        EntityKey { namespace_id: NAMESPACE.into(), workflow_id: workflow_id.into() }
    }

    fn current(&self, workflow_id: &str) -> Option<RunRecord> {
        let entity = Self::entity(workflow_id);
        let execution: ExecutionRecord = self.store.record(&entity, Table::Execution, None, &[])?;
        let run = execution.current_run_id.parse().ok();
        self.store.record(&entity, Table::Run, run, &[])
    }

    /// Schedules a speculative task of the current run, as a leader does whose updates need one.
    pub fn speculate(&mut self, workflow_id: &str) -> bool {
        let Some(record) = self.current(workflow_id).filter(|_| self.speculative.is_none()) else { return false };
        self.last_speculative_id += 1;
        let task = speculative::schedule(&record, self.last_speculative_id, Timestamp::from_nanos(self.now_ns));
        self.speculative = task.map(|task| SpeculativeTask { run_id: record.run_id, task: Some(task) });
        self.speculative.is_some()
    }

    /// Gives the speculative task to a worker.
    pub fn start_speculative(
        &mut self,
        workflow_id: &str,
        request_id: &str,
        sticky: bool,
    ) -> Option<WorkflowTaskStarted> {
        let record = self.current(workflow_id)?;
        let task = self.speculative.as_mut()?.task.as_mut().filter(|task| task.started_event_id == 0)?;
        let taker = Taker { identity: "worker", request_id, sticky };
        let now = Timestamp::from_nanos(self.now_ns);
        Some(speculative::start(&Self::entity(workflow_id), &record, task, &taker, now, &self.suggest_from))
    }

    /// Forgets the speculative task if the run has gone on without it.
    fn look(&mut self, workflow_id: &str) {
        let Some(held) = &self.speculative else { return };
        let record = self.current(workflow_id).filter(|record| record.run_id == held.run_id);
        let fits = |record: RunRecord| held.task.as_ref().is_some_and(|task| speculative::fits(&record, task));
        if !record.is_some_and(fits) {
            self.speculative = None;
        }
    }

    /// Applies a command; answers its reply and what it changed.
    pub fn apply(&mut self, workflow_id: &str, op: Op) -> (Result<Reply, Error>, Vec<Change>) {
        self.log_index += 1;
        let context = Context {
            now: Timestamp::from_nanos(self.now_ns),
            seed: u128::from(self.log_index).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            log_index: self.log_index,
            version: 1,
            suggest_from: self.suggest_from,
            blob_size_max: 0,
        };
        let command = Command {
            namespace_id: NAMESPACE.into(),
            workflow_id: workflow_id.to_string(),
            op: Some(op),
            speculative_tasks: self.speculative.clone().into_iter().collect(),
            reserved_polls: std::mem::take(&mut self.reserved_polls),
        };
        let outcome = apply(&context, &self.store, &command).expect("memory does not fail");
        self.store.write(outcome.changes.clone()).expect("changes fit the store");
        if !workflow_id.is_empty() {
            self.look(workflow_id);
        }
        (outcome.reply, outcome.changes)
    }

    /// The rows of the timer index that are due first, if that is before `until_ns`: one moment of one run.
    pub fn next_due(&self, until_ns: i64) -> Option<(i64, Vec<TimerRow>)> {
        let first = self.store.timers.values().next().filter(|row| row.due_ns <= until_ns)?;
        let same = |row: &&TimerRow| row.due_ns == first.due_ns && row.run_id == first.run_id;
        Some((first.due_ns, self.store.timers.values().filter(same).cloned().collect()))
    }

    /// Fires rows of the timer index, moving the clock to them.
    pub fn fire(&mut self, due_ns: i64, rows: Vec<TimerRow>) -> (Result<Reply, Error>, Vec<Change>) {
        self.now_ns = self.now_ns.max(due_ns);
        let workflow_id = rows.first().map(|row| row.workflow_id.clone()).unwrap_or_default();
        let (reply, changes) = self.apply(&workflow_id, Op::FireTimers(FireTimers { rows: rows.clone() }));
        for row in &rows {
            let armed = self.store.timers.contains_key(&super::store::timer_key(row));
            assert!(!armed, "a fired row stays in the index: {row:?}");
        }
        (reply, changes)
    }

    /// Delivers these messages, with floors or without; answers the outcomes.
    pub fn deliver(&mut self, messages: Vec<EntityMessage>, floors: bool) -> (Vec<MessageOutcome>, Vec<Change>) {
        let mut lowest: BTreeMap<u32, u64> = BTreeMap::new();
        for id in self.store.messages.keys().rev() {
            lowest.insert(u32::from(id.source_slot), id.sequence);
        }
        let floors = if floors { lowest } else { BTreeMap::new() };
        let floors = floors.into_iter().map(|(source_slot, sequence)| MessageFloor { source_slot, sequence }).collect();
        let (reply, changes) = self.apply("", Op::DeliverMessages(DeliverMessages { floors, messages }));
        match reply.expect("messages are delivered").reply {
            Some(reply::Reply::MessageOutcomes(answered)) => (answered.outcomes, changes),
            other => panic!("a delivery was answered with {other:?}"),
        }
    }

    /// Tells the sources of these messages what came of them.
    pub fn acknowledge(&mut self, messages: &[EntityMessage], outcomes: &[MessageOutcome]) -> Vec<Change> {
        let acknowledged = messages.iter().zip(outcomes).map(|(message, outcome)| AcknowledgedMessage {
            source_slot: message.source_slot,
            sequence: message.sequence,
            outcome: Some(outcome.clone()),
        });
        let senders: Vec<String> = messages.iter().map(|message| message.source_workflow_id.clone()).collect();
        let messages = acknowledged.collect();
        let (reply, changes) = self.apply("", Op::AcknowledgeMessages(AcknowledgeMessages { messages }));
        reply.expect("outcomes are accepted");
        senders.iter().for_each(|sender| self.look(sender));
        changes
    }

    /// What is in the outbox, in order of sending.
    pub fn outbox(&self) -> Vec<EntityMessage> {
        let mut messages: Vec<EntityMessage> = self.store.messages.values().cloned().collect();
        messages.sort_by_key(|message| message.sequence);
        messages
    }
}
