//! The state of all shards of a node: ordered keys, atomic batches, durable when flushed.
//!
//! A batch is durable as a whole or not at all, and never before an earlier one: after a crash the state is as it was after some
//! batch, at or behind the last flush. Stores flush by themselves too, whenever they like. Keys and values are bytes here.

use bytes::Bytes;

use crate::{StorageError, StoreFigures, Usage};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateOp {
    /// Sets a key.
    Put(Vec<u8>, Bytes),
    /// Removes a key, if it is there.
    Delete(Vec<u8>),
    /// Removes the keys from the first (inclusive) to the second (exclusive).
    DeleteRange(Vec<u8>, Vec<u8>),
}

/// Changes that happen together or not at all, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateBatch {
    ops: Vec<StateOp>,
}

impl StateBatch {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Bytes>) {
        self.ops.push(StateOp::Put(key.into(), value.into()));
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.ops.push(StateOp::Delete(key.into()));
    }

    /// Removes the keys from `from` (inclusive) to `to` (exclusive). For whole ranges, not for single rows: it costs later reads.
    pub fn delete_range(&mut self, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        self.ops.push(StateOp::DeleteRange(from.into(), to.into()));
    }

    /// What was added, in order.
    #[must_use]
    pub fn ops(&self) -> &[StateOp] {
        &self.ops
    }

    /// What was added, in order.
    #[must_use]
    pub fn into_ops(self) -> Vec<StateOp> {
        self.ops
    }

    /// Whether nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of keys and values that it puts.
    #[must_use]
    pub fn size(&self) -> u64 {
        let puts = self.ops.iter().map(|op| match op {
            StateOp::Put(key, value) => key.len() + value.len(),
            StateOp::Delete(_) | StateOp::DeleteRange(..) => 0,
        });
        puts.sum::<usize>() as u64
    }
}

/// Reads of a state: of the store itself as it changes, or of a moment of it.
pub trait StateView: Send + Sync {
    /// A key's value as last written.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Visits keys in `from..to`, ascending, until `visit` answers false. One scan sees one moment.
    ///
    /// # Errors
    /// If they cannot be read.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError>;

    /// Visits keys in `from..to`, descending, until `visit` answers false. One scan sees one moment.
    ///
    /// # Errors
    /// If they cannot be read.
    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError>;
}

/// The state of a node.
pub trait StateStore: StateView + 'static {
    /// Applies a batch. Not durable until flushed.
    ///
    /// # Errors
    /// If it cannot be written; then none of it was.
    fn write(&self, batch: StateBatch) -> Result<(), StorageError>;

    /// Makes everything written so far durable. Blocks.
    ///
    /// # Errors
    /// If the medium failed.
    fn flush(&self) -> Result<(), StorageError>;

    /// A key's value as it would be after a crash now.
    ///
    /// # Errors
    /// If it cannot be read.
    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// The state as it is now, whatever is written later. Keeps old data alive: do not hold it for long.
    fn view(&self) -> Box<dyn StateView + '_>;

    /// Gives back the space of what was deleted, if that does not happen at once. Blocks, and may write all data anew: for a full
    /// store only.
    ///
    /// # Errors
    /// If the medium failed.
    fn reclaim(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// The state as it is now, for a reader that takes its time: it may outlive the call, and moves to another thread. Blocks, and
    /// may take room on the medium for as long as it lives.
    ///
    /// # Errors
    /// If it cannot be made.
    fn export(&self) -> Result<Box<dyn StateView>, StorageError>;

    /// How the store stands, for people who watch it.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }

    /// Bytes taken and free, for a [`crate::Budget`].
    ///
    /// # Errors
    /// If the medium does not tell.
    fn usage(&self) -> Result<Usage, StorageError>;
}
