//! Reads of a shard as it is now: rows of an entity, and history by ranges of events.

use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::record::{ExecutionRecord, RunRecord};
use mainstay_base::RunId;
use mainstay_engine::{EntityKey, Row, Table};
use mainstay_storage::StorageError;
use prost::Message;

use crate::keys::after;
use crate::{Shard, corrupt};

/// A batch of history: the id of its first event, and its events as stored.
pub type Batch = (i64, RawHistory);

impl Shard {
    /// One row, decoded.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn record<M: Message + Default>(&self, entity: &EntityKey, row: &Row) -> Result<Option<M>, StorageError> {
        let value = self.store().get(&self.keys().row(entity, row))?;
        value.map(|bytes| M::decode(bytes).map_err(|e| corrupt("a row", e))).transpose()
    }

    /// All rows of a table of a run, or of the entity itself, decoded, in order of id.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn records_of<M: Message + Default>(
        &self,
        entity: &EntityKey,
        table: Table,
        run: Option<RunId>,
    ) -> Result<Vec<(Vec<u8>, M)>, StorageError> {
        let prefix = self.keys().rows(entity, table, run);
        let mut found = Vec::new();
        let mut failed = None;
        self.store().scan(&prefix, &after(&prefix), &mut |key, value| match M::decode(value) {
            Ok(record) => {
                found.push((key.get(prefix.len()..).unwrap_or_default().to_vec(), record));
                true
            }
            Err(error) => {
                failed = Some(corrupt("a row", error));
                false
            }
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// What is current of a workflow id.
    ///
    /// # Errors
    /// As [`Shard::record`].
    pub fn execution(&self, entity: &EntityKey) -> Result<Option<ExecutionRecord>, StorageError> {
        self.record(entity, &Row { table: Table::Execution, run: None, id: Vec::new() })
    }

    /// A run.
    ///
    /// # Errors
    /// As [`Shard::record`].
    pub fn run(&self, entity: &EntityKey, run: RunId) -> Result<Option<RunRecord>, StorageError> {
        self.record(entity, &Row { table: Table::Run, run: Some(run), id: Vec::new() })
    }

    /// Visits the batches that begin in `first..end` (event ids), in order or newest first, until `visit` answers false.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn history(
        &self,
        entity: &EntityKey,
        run: RunId,
        first: i64,
        end: i64,
        reverse: bool,
        visit: &mut dyn FnMut(Batch) -> bool,
    ) -> Result<(), StorageError> {
        let prefix = self.keys().rows(entity, Table::History, Some(run));
        let at = |id: i64| [prefix.as_slice(), &id.to_be_bytes()].concat();
        let (from, to) = (at(first.max(0)), at(end.max(0)));
        let mut failed = None;
        let mut each = |key: &[u8], value: &[u8]| {
            let id = key.get(prefix.len()..).and_then(|id| <[u8; 8]>::try_from(id).ok()).map(i64::from_be_bytes);
            let (Some(id), Ok(batch)) = (id, RawHistory::decode(Bytes::copy_from_slice(value))) else {
                failed = Some(corrupt("a batch of history", "does not decode"));
                return false;
            };
            visit((id, batch))
        };
        if reverse {
            self.store().scan_reverse(&from, &to, &mut each)?;
        } else {
            self.store().scan(&from, &to, &mut each)?;
        }
        failed.map_or(Ok(()), Err)
    }
}
