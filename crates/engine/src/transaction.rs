//! The working set of one entry: reads see earlier writes of the same entry, and all writes end as one list of changes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::SpeculativeTask;
use mainstay_api::record::{
    EntityMessage, ExecutionRecord, MessageOutcome, NamespaceRecord, RunDetails, RunRecord, TaskRow, TimerRow,
    VisibilityRecord,
};
use mainstay_base::{Prng, RunId, Slot};
use prost::Message;

use crate::store::{Change, EntityKey, Fault, MessageId, Row, Store, Table};
use crate::{Context, Error, Note, ScheduleNote, Stop};

/// Sequences of tasks and messages are the entry's log index and a count within the entry.
const SEQUENCE_BITS: u32 = 20;

/// As many as most entries make.
const CHANGES: usize = 16;

/// Reads and writes of one entity at a time.
pub(crate) struct Transaction<'a> {
    pub(crate) context: Context,
    store: &'a dyn Store,
    pub(crate) entity: Arc<EntityKey>,
    rows: BTreeMap<Row, Option<Bytes>>,
    changes: Vec<Change>,
    pub(crate) prng: Prng,
    /// Open runs that were saved with a history over its limits.
    pub(crate) oversized: Vec<RunId>,
    pub(crate) notes: Vec<Note>,
    /// The speculative tasks that the command carries.
    pub(crate) speculative: &'a [SpeculativeTask],
    tasks: u64,
    messages: u64,
    /// Whether what was written stays if the command is refused.
    keeps: bool,
    /// The last namespace that was looked at.
    namespace: RefCell<Option<Arc<NamespaceRecord>>>,
    /// The first failure of a read whose caller could not be told.
    fault: RefCell<Option<Fault>>,
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(context: Context, store: &'a dyn Store, entity: Arc<EntityKey>) -> Self {
        let prng = Prng::new(context.seed);
        Self {
            context,
            store,
            entity,
            rows: BTreeMap::new(),
            changes: Vec::with_capacity(CHANGES),
            prng,
            oversized: Vec::new(),
            notes: Vec::new(),
            speculative: &[],
            tasks: 0,
            messages: 0,
            keeps: false,
            namespace: RefCell::default(),
            fault: RefCell::default(),
        }
    }

    /// What was written stays, though the command is refused. Else a refusal leaves nothing.
    pub(crate) fn keep(&mut self) {
        self.keeps = true;
    }

    /// The command is refused: forgets what was written, unless that was to stay.
    pub(crate) fn refused(&mut self) {
        if !self.keeps {
            self.start_over();
        }
    }

    /// Notes that a read failed whose caller goes on with a default: the transition is not going to be written.
    pub(crate) fn fail(&self, fault: Fault) {
        self.fault.borrow_mut().get_or_insert(fault);
    }

    /// Notes what the schedule at hand did.
    pub(crate) fn note_schedule(&mut self, what: ScheduleNote) {
        let namespace_id = self.entity.namespace_id.clone();
        self.notes.push(Note::Schedule { namespace_id, what });
    }

    /// The id of a run that this entry makes.
    pub(crate) fn new_run_id(&mut self) -> RunId {
        self.prng.run_id(self.context.now)
    }

    /// The entry's time in nanoseconds.
    pub(crate) fn now(&self) -> i64 {
        self.context.now.as_nanos()
    }

    /// Forgets all that was written, so that the entry can be applied in another way.
    pub(crate) fn start_over(&mut self) {
        let fault = self.fault.take();
        let speculative = self.speculative;
        *self = Self::new(self.context, self.store, Arc::clone(&self.entity));
        self.fault = RefCell::new(fault);
        self.speculative = speculative;
    }

    /// Goes on with another entity; what was written so far stays, but is not seen if this entity is met again.
    pub(crate) fn switch(&mut self, entity: EntityKey) {
        if entity != *self.entity {
            self.flush_rows();
            self.entity = Arc::new(entity);
        }
    }

    /// All that was written, in order.
    ///
    /// # Errors
    /// The failure of a read, if there was one.
    pub(crate) fn into_changes(mut self) -> Result<Vec<Change>, Fault> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.flush_rows();
        Ok(self.changes)
    }

    fn flush_rows(&mut self) {
        for (row, value) in std::mem::take(&mut self.rows) {
            let entity = Arc::clone(&self.entity);
            self.changes.push(match value {
                Some(value) => Change::Put { entity, row, value },
                None => Change::Delete { entity, row },
            });
        }
    }

    pub(crate) fn get<M: Message + Default>(&self, row: &Row) -> Result<Option<M>, Fault> {
        let value = match self.rows.get(row) {
            Some(value) => value.clone(),
            None => self.store.get(&self.entity, row)?,
        };
        value.map(|bytes| decode(row.table, bytes)).transpose()
    }

    pub(crate) fn get_bytes(&self, row: &Row) -> Result<Option<Bytes>, Fault> {
        match self.rows.get(row) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(&self.entity, row),
        }
    }

    pub(crate) fn put<M: Message>(&mut self, row: Row, record: &M) {
        self.put_bytes(row, record.encode_to_vec().into());
    }

    pub(crate) fn put_bytes(&mut self, row: Row, value: Bytes) {
        self.rows.insert(row, Some(value));
    }

    pub(crate) fn delete(&mut self, row: Row) {
        self.rows.insert(row, None);
    }

    /// All rows of a run's table, in order of id.
    pub(crate) fn scan(&self, table: Table, run: RunId) -> Result<Vec<(Vec<u8>, Bytes)>, Fault> {
        let mut found = BTreeMap::new();
        self.store.scan(&self.entity, table, Some(run), &[], &mut |id, value| {
            found.insert(id.to_vec(), value);
            true
        })?;
        let from = Row { table, run: Some(run), id: Vec::new() };
        let own = self.rows.range(from..).take_while(|(row, _)| row.table == table && row.run == Some(run));
        for (row, value) in own {
            match value {
                Some(value) => found.insert(row.id.clone(), value.clone()),
                None => found.remove(&row.id),
            };
        }
        Ok(found.into_iter().collect())
    }

    pub(crate) fn scan_records<M: Message + Default>(&self, table: Table, run: RunId) -> Result<Vec<M>, Fault> {
        self.scan(table, run)?.into_iter().map(|(_, value)| decode(table, value)).collect()
    }

    pub(crate) fn execution(&self) -> Result<Option<ExecutionRecord>, Fault> {
        self.get(&Row { table: Table::Execution, run: None, id: Vec::new() })
    }

    pub(crate) fn put_execution(&mut self, record: &ExecutionRecord) {
        self.put(Row { table: Table::Execution, run: None, id: Vec::new() }, record);
    }

    pub(crate) fn run_record(&self, run: RunId) -> Result<Option<RunRecord>, Fault> {
        self.get(&run_row(run))
    }

    pub(crate) fn run_details(&self, run: RunId) -> Result<RunDetails, Fault> {
        let missing = || Fault(format!("run {run} has no details"));
        self.get(&details_row(run))?.ok_or_else(missing)
    }

    pub(crate) fn namespace(&self) -> Result<Arc<NamespaceRecord>, Stop> {
        let mut known = self.namespace.borrow_mut();
        if let Some(record) = known.as_ref().filter(|record| record.id == self.entity.namespace_id) {
            return Ok(Arc::clone(record));
        }
        let found = self.store.namespace(&self.entity.namespace_id)?;
        let record = found.ok_or_else(|| Error::NamespaceNotFound(self.entity.namespace_id.clone()))?;
        Ok(Arc::clone(known.insert(record)))
    }

    pub(crate) fn put_namespace(&mut self, record: NamespaceRecord) {
        self.changes.push(Change::PutNamespace(record));
    }

    pub(crate) fn remove_namespace(&mut self, id: String) {
        self.changes.push(Change::RemoveNamespace(id));
    }

    pub(crate) fn has_timer(&self, row: &TimerRow) -> Result<bool, Fault> {
        let last = self.changes.iter().rev().find_map(|change| match change {
            Change::AddTimer(other) if other == row => Some(true),
            Change::RemoveTimer(other) if other == row => Some(false),
            _ => None,
        });
        last.map_or_else(|| self.store.has_timer(row), Ok)
    }

    pub(crate) fn add_timer(&mut self, row: TimerRow) {
        self.changes.push(Change::AddTimer(row));
    }

    pub(crate) fn remove_timer(&mut self, row: TimerRow) {
        self.changes.push(Change::RemoveTimer(row));
    }

    pub(crate) fn next_task_sequence(&mut self) -> u64 {
        self.tasks += 1;
        (self.context.log_index << SEQUENCE_BITS) + self.tasks
    }

    pub(crate) fn add_task(&mut self, row: TaskRow) {
        self.changes.push(Change::AddTask(row));
    }

    /// A row that this entry itself added was seen by nobody, and is as if it had never been.
    pub(crate) fn remove_task(&mut self, row: TaskRow) {
        let added = |change: &Change| matches!(change, Change::AddTask(own) if own.sequence == row.sequence);
        // The sequence tells whose it is, so that closing a run with many tasks does not look through its changes for each.
        let is_own = row.sequence >> SEQUENCE_BITS == self.context.log_index;
        match is_own.then(|| self.changes.iter().rposition(added)).flatten() {
            Some(at) => drop(self.changes.remove(at)),
            None => self.changes.push(Change::RemoveTask(row)),
        }
    }

    /// The task rows that this entry added for the entity at hand.
    pub(crate) fn added_tasks(&self) -> Vec<TaskRow> {
        let own = |change: &Change| match change {
            Change::AddTask(row)
                if row.workflow_id == self.entity.workflow_id && row.namespace_id == self.entity.namespace_id =>
            {
                Some(row.clone())
            }
            _ => None,
        };
        self.changes.iter().filter_map(own).collect()
    }

    /// The id of the next message that the entity at hand sends.
    pub(crate) fn next_message_id(&mut self) -> MessageId {
        self.messages += 1;
        let sequence = (self.context.log_index << SEQUENCE_BITS) + self.messages;
        MessageId { source_slot: self.slot(), sequence }
    }

    /// The slot of the entity at hand.
    pub(crate) fn slot(&self) -> u16 {
        Slot::of(&self.entity.namespace_id, &self.entity.workflow_id).get()
    }

    /// Whether this entry itself put the message into the outbox, so that nobody can have seen it.
    pub(crate) fn is_own_message(&self, id: MessageId) -> bool {
        id.sequence >> SEQUENCE_BITS == self.context.log_index
    }

    /// A message of the outbox as it was before this entry.
    pub(crate) fn message(&self, id: MessageId) -> Result<Option<EntityMessage>, Fault> {
        self.store.message(id)
    }

    pub(crate) fn put_message(&mut self, message: EntityMessage) {
        self.changes.push(Change::PutMessage(Box::new(message)));
    }

    pub(crate) fn remove_message(&mut self, id: MessageId) {
        self.changes.push(Change::RemoveMessage(id));
    }

    /// What came of a message that was received before this entry.
    pub(crate) fn outcome(&self, id: MessageId) -> Result<Option<MessageOutcome>, Fault> {
        self.store.outcome(id)
    }

    pub(crate) fn put_outcome(&mut self, id: MessageId, outcome: MessageOutcome) {
        self.changes.push(Change::PutOutcome(id, outcome));
    }

    /// The floor of a source slot before this entry.
    pub(crate) fn floor(&self, source_slot: u16) -> Result<u64, Fault> {
        self.store.floor(source_slot)
    }

    pub(crate) fn raise_floor(&mut self, floor: MessageId) {
        self.changes.push(Change::RaiseFloor(floor));
    }

    pub(crate) fn put_visibility(&mut self, record: VisibilityRecord) {
        self.changes.push(Change::PutVisibility(Box::new(record)));
    }

    pub(crate) fn remove_visibility(&mut self, record: VisibilityRecord) {
        self.changes.push(Change::RemoveVisibility(Box::new(record)));
    }
}

/// The row of a run's own record.
pub(crate) fn run_row(run: RunId) -> Row {
    Row { table: Table::Run, run: Some(run), id: Vec::new() }
}

/// The row of a run's details.
pub(crate) fn details_row(run: RunId) -> Row {
    Row { table: Table::RunDetails, run: Some(run), id: Vec::new() }
}

/// A row whose id is a number that sorts as such.
pub(crate) fn numbered(table: Table, run: RunId, id: i64) -> Row {
    Row { table, run: Some(run), id: id.to_be_bytes().to_vec() }
}

/// A row whose id is a name.
pub(crate) fn named(table: Table, run: RunId, id: &str) -> Row {
    Row { table, run: Some(run), id: id.as_bytes().to_vec() }
}

pub(crate) fn decode<M: Message + Default>(table: Table, bytes: Bytes) -> Result<M, Fault> {
    M::decode(bytes).map_err(|e| Fault(format!("a stored row of table {table:?} does not decode: {e}")))
}
