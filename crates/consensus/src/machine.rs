//! What a group's log is applied to, as this crate sees it: entries in, replies out, and one opaque mark of how far it got.
//!
//! What the data mean is not known here. What the mark means is not known there.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_storage::{StateStore, StorageError};

/// One committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that wrote it.
    pub term: u64,
    /// What was proposed; none for entries of the group's own (a new leader, a change of members).
    pub data: Option<Bytes>,
}

/// Where a machine keeps its state: the keys of a store from the first (inclusive) to the second (exclusive). All of its rows are
/// there, the mark among them, and nobody else's.
#[derive(Clone)]
pub struct StateRange {
    /// The store, which others may use, too.
    pub store: Arc<dyn StateStore>,
    /// The first key.
    pub from: Vec<u8>,
    /// The first key that is not in it.
    pub to: Vec<u8>,
    /// The key of the mark.
    pub mark: Vec<u8>,
}

/// A state that committed entries are applied to, in order. A node keeps one for each of its groups.
pub trait Machine: Send + Sync + 'static {
    /// What applying an entry answers to its proposer.
    type Reply: Send + Sync + 'static;

    /// The mark of the last apply; none before the first.
    ///
    /// # Errors
    /// If it cannot be read.
    fn applied(&self) -> Result<Option<Bytes>, StorageError>;

    /// The mark as it would be after a crash now.
    ///
    /// # Errors
    /// If it cannot be read.
    fn durable(&self) -> Result<Option<Bytes>, StorageError>;

    /// Applies entries in order and keeps `mark` with what they changed, all of it as one batch that survives a crash as a whole or
    /// not at all. Answers one reply for each entry that has data, in order.
    ///
    /// # Errors
    /// If the state cannot be kept; the node stops then. A refused command is a reply, not an error.
    fn apply(&self, entries: Vec<Entry>, mark: Bytes) -> Result<Vec<Self::Reply>, StorageError>;

    /// Makes everything applied so far durable. Blocks.
    ///
    /// # Errors
    /// If the medium failed.
    fn flush(&self) -> Result<(), StorageError>;

    /// Where the state is. A replica that is too far behind gets these rows from another, as they are; so their keys are the same on
    /// all nodes, and do not begin with four bytes 0xff.
    fn range(&self) -> StateRange;

    /// A hash of all rows in the range as they are now: equal at equal positions of equal logs, on any store. It calls `taken` when later
    /// changes no longer matter. Blocks, for as long as it takes to read everything.
    ///
    /// # Errors
    /// If they cannot be read.
    fn digest(&self, taken: &mut dyn FnMut()) -> Result<u64, StorageError>;

    /// The rows were replaced by another replica's: what was remembered of them is not true any more.
    ///
    /// # Errors
    /// If they cannot be read; the node stops then.
    fn replaced(&self) -> Result<(), StorageError>;
}
