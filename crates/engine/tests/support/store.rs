//! An in-memory store for tests: rows, task index, timer index, lists and namespaces, changed only by what apply answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::record::{EntityMessage, MessageOutcome, NamespaceRecord, TaskRow, TimerRow, VisibilityRecord};
use mainstay_base::RunId;
use mainstay_engine::{Change, EntityKey, Fault, MessageId, Row, Store, Table};
use prost::Message;

/// A task's place in the index: kind, namespace, queue, sequence.
pub type TaskKey = (i32, String, String, u64);
/// A timer row in order of its due time.
pub type TimerKey = (i64, String, String, String, i32, i64);

/// All rows of one shard.
#[derive(Clone, Default)]
pub struct MemStore {
    pub rows: BTreeMap<EntityKey, BTreeMap<Row, Bytes>>,
    pub tasks: BTreeMap<TaskKey, TaskRow>,
    pub timers: BTreeMap<TimerKey, TimerRow>,
    pub visibility: BTreeMap<(String, String), VisibilityRecord>,
    pub namespaces: BTreeMap<String, NamespaceRecord>,
    pub messages: BTreeMap<MessageId, EntityMessage>,
    pub outcomes: BTreeMap<MessageId, MessageOutcome>,
    pub floors: BTreeMap<u16, u64>,
}

pub fn message_id(message: &EntityMessage) -> MessageId {
    MessageId { source_slot: message.source_slot as u16, sequence: message.sequence }
}

pub fn task_key(row: &TaskRow) -> TaskKey {
    (row.kind, row.namespace_id.clone(), row.task_queue.clone(), row.sequence)
}

pub fn timer_key(row: &TimerRow) -> TimerKey {
    (row.due_ns, row.namespace_id.clone(), row.workflow_id.clone(), row.run_id.clone(), row.kind, row.id)
}

impl MemStore {
    /// Writes what apply answered. Adding what exists or removing what does not is a fault of the engine.
    pub fn write(&mut self, changes: Vec<Change>) -> Result<(), String> {
        for change in changes {
            match change {
                Change::Put { entity, row, value } => {
                    self.rows.entry(EntityKey::clone(&entity)).or_default().insert(row, value);
                }
                Change::Delete { entity, row } => {
                    if let Some(rows) = self.rows.get_mut(entity.as_ref()) {
                        rows.remove(&row);
                    }
                }
                Change::AddTask(row) => {
                    if let Some(old) = self.tasks.insert(task_key(&row), row) {
                        return Err(format!("task row added twice: {old:?}"));
                    }
                }
                Change::RemoveTask(row) => {
                    if self.tasks.remove(&task_key(&row)).is_none() {
                        return Err(format!("no such task row to remove: {row:?}"));
                    }
                }
                Change::AddTimer(row) => {
                    self.timers.insert(timer_key(&row), row);
                }
                Change::RemoveTimer(row) => {
                    self.timers.remove(&timer_key(&row));
                }
                Change::PutVisibility(record) => {
                    self.visibility.insert((record.namespace_id.clone(), record.run_id.clone()), *record);
                }
                Change::RemoveVisibility(record) => {
                    self.visibility.remove(&(record.namespace_id, record.run_id));
                }
                Change::RemoveNamespace(id) => drop(self.namespaces.remove(&id)),
                Change::PutNamespace(record) => {
                    self.namespaces.insert(record.id.clone(), record);
                }
                Change::PutMessage(message) => {
                    self.messages.insert(message_id(&message), *message);
                }
                Change::RemoveMessage(id) => {
                    self.messages.remove(&id);
                }
                Change::PutOutcome(id, outcome) => {
                    if let Some(old) = self.outcomes.insert(id, outcome) {
                        return Err(format!("message {id:?} was executed before: {old:?}"));
                    }
                }
                Change::RaiseFloor(floor) => {
                    self.floors.insert(floor.source_slot, floor.sequence);
                    self.outcomes.retain(|id, _| id.source_slot != floor.source_slot || *id >= floor);
                }
            }
        }
        Ok(())
    }

    /// A decoded row.
    pub fn record<M: Message + Default>(
        &self,
        entity: &EntityKey,
        table: Table,
        run: Option<RunId>,
        id: &[u8],
    ) -> Option<M> {
        let row = Row { table, run, id: id.to_vec() };
        let value = self.rows.get(entity)?.get(&row)?.clone();
        Some(M::decode(value).expect("stored rows decode"))
    }

    /// All decoded rows of a run's table.
    pub fn records<M: Message + Default>(&self, entity: &EntityKey, table: Table, run: RunId) -> Vec<(Vec<u8>, M)> {
        let mut found = Vec::new();
        let visit = &mut |id: &[u8], value: Bytes| {
            found.push((id.to_vec(), M::decode(value).expect("stored rows decode")));
            true
        };
        self.scan(entity, table, Some(run), &[], visit).expect("memory does not fail");
        found
    }

    /// The runs of an entity.
    pub fn runs(&self, entity: &EntityKey) -> BTreeSet<RunId> {
        let rows = self.rows.get(entity).into_iter().flat_map(BTreeMap::keys);
        rows.filter(|row| row.table == Table::Run).filter_map(|row| row.run).collect()
    }
}

impl Store for MemStore {
    fn get(&self, entity: &EntityKey, row: &Row) -> Result<Option<Bytes>, Fault> {
        Ok(self.rows.get(entity).and_then(|rows| rows.get(row)).cloned())
    }

    fn scan(
        &self,
        entity: &EntityKey,
        table: Table,
        run: Option<RunId>,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Fault> {
        let Some(rows) = self.rows.get(entity) else { return Ok(()) };
        let first = Row { table, run, id: from.to_vec() };
        for (row, value) in rows.range(first..) {
            if row.table != table || row.run != run || !visit(&row.id, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn namespace(&self, id: &str) -> Result<Option<Arc<NamespaceRecord>>, Fault> {
        Ok(self.namespaces.get(id).cloned().map(Arc::new))
    }

    fn has_timer(&self, row: &TimerRow) -> Result<bool, Fault> {
        Ok(self.timers.contains_key(&timer_key(row)))
    }

    fn message(&self, id: MessageId) -> Result<Option<EntityMessage>, Fault> {
        Ok(self.messages.get(&id).cloned())
    }

    fn outcome(&self, id: MessageId) -> Result<Option<MessageOutcome>, Fault> {
        Ok(self.outcomes.get(&id).cloned())
    }

    fn floor(&self, source_slot: u16) -> Result<u64, Fault> {
        Ok(self.floors.get(&source_slot).copied().unwrap_or(0))
    }
}
