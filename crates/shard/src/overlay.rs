//! What a batch has changed so far, over what the store holds: later entries of a batch see earlier ones.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::record::{EntityMessage, MessageOutcome, NamespaceRecord, TimerRow};
use mainstay_base::RunId;
use mainstay_engine::{EntityKey, Fault, MessageId, Row, Store, Table};
use mainstay_storage::{StateBatch, StateView, StorageError};
use prost::Message;

use crate::keys::{Keys, after};
use crate::{corrupt, fault};

/// A store and the changes of one batch over it.
pub(crate) struct Overlay<'a> {
    pub(crate) keys: Keys,
    view: &'a dyn StateView,
    written: BTreeMap<Vec<u8>, Option<Bytes>>,
    /// The entity that was met last, and how its keys begin.
    entity: RefCell<(EntityKey, Vec<u8>)>,
    /// Those that this batch has looked at.
    namespaces: RefCell<BTreeMap<String, Arc<NamespaceRecord>>>,
}

impl<'a> Overlay<'a> {
    pub(crate) fn new(keys: Keys, view: &'a dyn StateView) -> Self {
        let nobody = EntityKey { namespace_id: String::new(), workflow_id: String::new() };
        Self {
            keys,
            view,
            written: BTreeMap::new(),
            entity: RefCell::new((nobody, Vec::new())),
            namespaces: RefCell::default(),
        }
    }

    /// The key of a row. An entry's rows are mostly of one entity.
    pub(crate) fn row_key(&self, entity: &EntityKey, row: &Row) -> Vec<u8> {
        let mut key = self.rows_key(entity, row.table, row.run);
        key.extend_from_slice(&row.id);
        key
    }

    fn rows_key(&self, entity: &EntityKey, table: Table, run: Option<RunId>) -> Vec<u8> {
        let mut known = self.entity.borrow_mut();
        if known.1.is_empty() || known.0 != *entity {
            *known = (entity.clone(), self.keys.entity(entity));
        }
        Keys::within(&known.1, table, run)
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Bytes) {
        self.written.insert(key, Some(value));
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.written.insert(key, None);
    }

    pub(crate) fn value(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        match self.written.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.view.get(key),
        }
    }

    fn record<M: Message + Default>(&self, key: &[u8], what: &str) -> Result<Option<M>, StorageError> {
        self.value(key)?.map(|bytes| M::decode(bytes).map_err(|e| corrupt(what, e))).transpose()
    }

    /// Visits the keys in `from..to` in order, as they are with this batch's changes, until `visit` answers false.
    pub(crate) fn visit(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), StorageError> {
        let mut own = self.written.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to.max(from)))).peekable();
        let mut go_on = true;
        self.view.scan(from, to, &mut |key, value| {
            while go_on && let Some((written, change)) = own.next_if(|(written, _)| written.as_slice() < key) {
                if let Some(value) = change {
                    go_on = visit(written, value.clone());
                }
            }
            if !go_on {
                return false;
            }
            go_on = match own.next_if(|(written, _)| written.as_slice() == key) {
                Some((_, None)) => true,
                Some((_, Some(value))) => visit(key, value.clone()),
                None => visit(key, Bytes::copy_from_slice(value)),
            };
            go_on
        })?;
        for (key, change) in own {
            if let Some(value) = change
                && go_on
            {
                go_on = visit(key, value.clone());
            }
        }
        Ok(())
    }

    pub(crate) fn put_namespace(&mut self, record: &NamespaceRecord) {
        self.namespaces.borrow_mut().remove(&record.id);
        self.put(self.keys.namespace(&record.id), record.encode_to_vec().into());
    }

    pub(crate) fn remove_namespace(&mut self, id: &str) {
        self.namespaces.borrow_mut().remove(id);
        self.delete(self.keys.namespace(id));
    }

    pub(crate) fn into_batch(self) -> StateBatch {
        let mut batch = StateBatch::new();
        for (key, change) in self.written {
            match change {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }
}

impl Store for Overlay<'_> {
    fn get(&self, entity: &EntityKey, row: &Row) -> Result<Option<Bytes>, Fault> {
        self.value(&self.row_key(entity, row)).map_err(fault)
    }

    fn scan(
        &self,
        entity: &EntityKey,
        table: Table,
        run: Option<RunId>,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Fault> {
        let prefix = self.rows_key(entity, table, run);
        let mut start = prefix.clone();
        start.extend_from_slice(from);
        let length = prefix.len();
        self.visit(&start, &after(&prefix), &mut |key, value| visit(key.get(length..).unwrap_or_default(), value))
            .map_err(fault)
    }

    fn namespace(&self, id: &str) -> Result<Option<Arc<NamespaceRecord>>, Fault> {
        if let Some(known) = self.namespaces.borrow().get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        let value = self.value(&self.keys.namespace(id)).map_err(fault)?;
        let Some(value) = value else { return Ok(None) };
        let record = NamespaceRecord::decode(value).map_err(|e| fault(corrupt("a namespace", e)))?;
        let record = Arc::new(record);
        self.namespaces.borrow_mut().insert(id.to_string(), Arc::clone(&record));
        Ok(Some(record))
    }

    fn has_timer(&self, row: &TimerRow) -> Result<bool, Fault> {
        Ok(self.value(&self.keys.timer(row)).map_err(fault)?.is_some())
    }

    fn message(&self, id: MessageId) -> Result<Option<EntityMessage>, Fault> {
        self.record(&self.keys.message(id), "a message").map_err(fault)
    }

    fn outcome(&self, id: MessageId) -> Result<Option<MessageOutcome>, Fault> {
        self.record(&self.keys.message_outcome(id), "the outcome of a message").map_err(fault)
    }

    fn floor(&self, source_slot: u16) -> Result<u64, Fault> {
        let Some(value) = self.value(&self.keys.message_floor(source_slot)).map_err(fault)? else { return Ok(0) };
        let bytes = <[u8; 8]>::try_from(value.as_ref()).map_err(|e| fault(corrupt("a floor of messages", e)))?;
        Ok(u64::from_be_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_storage::{MemoryState, StateStore};

    #[test]
    fn a_scan_sees_the_store_with_the_batch_over_it() {
        let store = MemoryState::default();
        let mut batch = StateBatch::new();
        for key in [1u8, 3, 5, 7] {
            batch.put([key], Bytes::from(vec![key]));
        }
        store.write(batch).expect("writes");
        let mut overlay = Overlay::new(Keys(0), &store);
        overlay.put(vec![0], Bytes::from_static(b"a"));
        overlay.put(vec![4], Bytes::from_static(b"b"));
        overlay.put(vec![5], Bytes::from_static(b"c"));
        overlay.delete(vec![3]);
        overlay.put(vec![9], Bytes::from_static(b"d"));
        let seen = |limit: usize| {
            let mut seen = Vec::new();
            let visit = &mut |key: &[u8], _: Bytes| {
                seen.push(key[0]);
                seen.len() < limit
            };
            overlay.visit(&[0], &[10], visit).expect("scans");
            seen
        };
        assert_eq!(seen(9), [0, 1, 4, 5, 7, 9]);
        assert_eq!(seen(3), [0, 1, 4]);
    }
}
