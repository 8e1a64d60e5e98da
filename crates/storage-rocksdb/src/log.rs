//! The log on RocksDB. A key is group, kind, index, big-endian; a value is what was given.
//!
//! A batch of operations is one record of the write-ahead log, so it is there as a whole or not at all; see `tail` for what a
//! crash may leave of the last one. The bounds of each group are kept in memory, as they judge every operation.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use mainstay_storage::{LogBounds, LogOp, LogStore, StorageError, StoreFigures, Usage};
use rocksdb::{DB, ReadOptions, WriteBatch};

use crate::{failed, figures, options, table, tail, usage};

const ENTRY: u8 = 1;
const PURGED: u8 = 2;
const VOTE: u8 = 3;
const COMMITTED: u8 = 4;

/// Also how much of the write-ahead log is read at opening.
const WRITE_BUFFER_BYTES: usize = 16 << 20;
/// Entries are read back rarely: by a follower that lags, and at opening.
const CACHE_BYTES: usize = 4 << 20;
const READAHEAD_BYTES: usize = 256 << 10;

/// A log in a directory.
pub struct RocksLog {
    db: DB,
    directory: PathBuf,
    synced: bool,
    /// Of the groups asked for so far.
    bounds: Mutex<BTreeMap<u32, LogBounds>>,
}

type Key = [u8; 13];

fn key(group: u32, kind: u8, index: u64) -> Key {
    let mut key = [0; 13];
    key[..4].copy_from_slice(&group.to_be_bytes());
    key[4] = kind;
    key[5..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Behind every entry of a group.
fn end_of_entries(group: u32) -> Key {
    key(group, ENTRY + 1, 0)
}

fn index_of(key: &[u8]) -> Result<u64, StorageError> {
    let tail = key.get(5..).and_then(|tail| <[u8; 8]>::try_from(tail).ok());
    tail.map(u64::from_be_bytes).ok_or_else(|| StorageError::Corrupt("a key of the log has a wrong length".into()))
}

impl RocksLog {
    /// Opens or creates the log.
    ///
    /// # Errors
    /// If the directory cannot be used, another process holds it, or what it holds is damaged.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        Self::open_with(directory, true)
    }

    /// Opens or creates a log that does not wait for the disk: it survives its process, but not a power loss. For data that is
    /// thrown away at the end.
    ///
    /// # Errors
    /// As [`RocksLog::open`].
    pub fn open_unsynced(directory: &Path) -> Result<Self, StorageError> {
        Self::open_with(directory, false)
    }

    fn open_with(directory: &Path, synced: bool) -> Result<Self, StorageError> {
        let mut options = options(WRITE_BUFFER_BYTES);
        tail::repair(directory)?;
        options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_block_based_table_factory(&table(CACHE_BYTES));
        let db = DB::open(&options, directory).map_err(failed)?;
        Ok(Self { db, directory: directory.to_path_buf(), synced, bounds: Mutex::default() })
    }

    fn value(&self, group: u32, kind: u8) -> Result<Option<Bytes>, StorageError> {
        Ok(self.db.get(key(group, kind, 0)).map_err(failed)?.map(Bytes::from))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, LogBounds>> {
        // A panic elsewhere left the bounds as they were: they change by one assignment, after the write.
        self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bounds_in(&self, known: &mut BTreeMap<u32, LogBounds>, group: u32) -> Result<LogBounds, StorageError> {
        if let Some(bounds) = known.get(&group) {
            return Ok(bounds.clone());
        }
        let bounds = self.stored_bounds(group)?;
        known.insert(group, bounds.clone());
        Ok(bounds)
    }

    fn stored_bounds(&self, group: u32) -> Result<LogBounds, StorageError> {
        let (mut purged, mut purge_mark) = (None, None);
        if let Some(mut value) = self.value(group, PURGED)? {
            let short = || StorageError::Corrupt(format!("the purge mark of group {group} is too short"));
            purged = Some(value.try_get_u64().map_err(|_| short())?);
            purge_mark = Some(value);
        }
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(key(group, ENTRY, purged.map_or(0, |index| index.saturating_add(1))));
        read.set_iterate_upper_bound(end_of_entries(group));
        let mut entries = self.db.raw_iterator_opt(read);
        entries.seek_to_first();
        let first = entries.key().map(index_of).transpose()?;
        entries.seek_to_last();
        let last = entries.key().map(index_of).transpose()?;
        entries.status().map_err(failed)?;
        Ok(LogBounds { purged, purge_mark, first, last: last.or(purged) })
    }
}

/// Adds an operation to a batch. `before` are the group's bounds without it.
fn add(batch: &mut WriteBatch, op: &LogOp, before: &LogBounds) {
    match op {
        LogOp::Append { group, first, entries } => {
            (*first..).zip(entries).for_each(|(index, entry)| batch.put(key(*group, ENTRY, index), entry));
        }
        LogOp::Truncate { group, from } if before.last.is_some_and(|last| *from <= last) => {
            batch.delete_range(key(*group, ENTRY, *from), end_of_entries(*group));
        }
        LogOp::Truncate { .. } => {}
        LogOp::Purge { upto, .. } if before.purged.is_some_and(|purged| *upto <= purged) => {}
        LogOp::Purge { group, upto, mark } => {
            if let Some(first) = before.first.filter(|first| first <= upto) {
                let end = upto.checked_add(1).map_or_else(|| end_of_entries(*group), |end| key(*group, ENTRY, end));
                batch.delete_range(key(*group, ENTRY, first), end);
            }
            batch.put(key(*group, PURGED, 0), [&upto.to_be_bytes(), mark.as_ref()].concat());
        }
        LogOp::Vote { group, value } => batch.put(key(*group, VOTE, 0), value),
        LogOp::Committed { group, value } => batch.put(key(*group, COMMITTED, 0), value),
    }
}

impl LogStore for RocksLog {
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        let mut known = self.lock();
        let mut changed: BTreeMap<u32, LogBounds> = BTreeMap::new();
        let mut batch = WriteBatch::default();
        for op in ops {
            let before = match changed.remove(&op.group()) {
                Some(bounds) => bounds,
                None => self.bounds_in(&mut known, op.group())?,
            };
            add(&mut batch, op, &before);
            changed.insert(op.group(), before.after(op)?);
        }
        self.db.write(batch).map_err(failed)?;
        known.extend(changed);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.db.flush_wal(self.synced).map_err(failed)
    }

    fn scan(
        &self,
        group: u32,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), StorageError> {
        if range.is_empty() {
            return Ok(());
        }
        let mut read = ReadOptions::default();
        read.set_iterate_lower_bound(key(group, ENTRY, range.start));
        read.set_iterate_upper_bound(key(group, ENTRY, range.end));
        read.set_readahead_size(READAHEAD_BYTES);
        let mut entries = self.db.raw_iterator_opt(read);
        entries.seek_to_first();
        let mut previous: Option<u64> = None;
        while let Some((key, value)) = entries.item() {
            let index = index_of(key)?;
            if previous.is_some_and(|previous| previous + 1 != index) {
                return Err(StorageError::Corrupt(format!("log of group {group}: no entry before {index}")));
            }
            previous = Some(index);
            if !visit(index, Bytes::copy_from_slice(value)) {
                break;
            }
            entries.next();
        }
        entries.status().map_err(failed)
    }

    fn bounds(&self, group: u32) -> Result<LogBounds, StorageError> {
        self.bounds_in(&mut self.lock(), group)
    }

    fn vote(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.value(group, VOTE)
    }

    fn committed(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.value(group, COMMITTED)
    }

    fn reclaim(&self) -> Result<(), StorageError> {
        // First the buffer, so that the write-ahead log behind it goes.
        self.db.flush().map_err(failed)?;
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn figures(&self) -> StoreFigures {
        figures::of(&self.db)
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        usage::of(&self.directory, 0)
    }
}
