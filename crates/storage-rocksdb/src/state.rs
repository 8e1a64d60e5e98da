//! The state on RocksDB, without a write-ahead log: durable as of the last flush.
//!
//! One column family, so that a flush takes a prefix of the batches and never parts of one. A view is a snapshot; as long as it
//! lives, compaction keeps what it sees. RocksDB also flushes when its buffer is full, and when it is closed. An export is a
//! checkpoint: the files of the moment, linked into a directory of their own, which outlive a compaction without holding it up.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mainstay_storage::{StateBatch, StateOp, StateStore, StateView, StorageError, StoreFigures, Usage};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, DBRawIteratorWithThreadMode, FlushOptions, ReadOptions, ReadTier, WriteBatch, WriteOptions};

use crate::{failed, figures, options, table, usage};

const WRITE_BUFFER_BYTES: usize = 16 << 20;
const CACHE_BYTES: usize = 32 << 20;
const BLOOM_BITS: f64 = 10.0;

/// A state in a directory.
pub struct RocksState {
    db: DB,
    directory: PathBuf,
    /// Numbers exports.
    exports: AtomicU64,
}

/// The directory of exports, inside that of the state: links do not reach other file systems.
const EXPORTS: &str = "exports";
const EXPORT_CACHE_BYTES: usize = 4 << 20;

impl RocksState {
    /// Opens or creates the state.
    ///
    /// # Errors
    /// If the directory cannot be used, another process holds it, or what it holds is damaged.
    pub fn open(directory: &Path) -> Result<Self, StorageError> {
        let mut table = table(CACHE_BYTES);
        table.set_bloom_filter(BLOOM_BITS, false);
        let mut options = options(WRITE_BUFFER_BYTES);
        options.set_atomic_flush(true);
        options.set_block_based_table_factory(&table);
        let db = DB::open(&options, directory).map_err(failed)?;
        // Those of a process that was killed.
        match fs::remove_dir_all(directory.join(EXPORTS)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StorageError::Io(error.to_string())),
            _ => Ok(Self { db, directory: directory.to_path_buf(), exports: AtomicU64::new(0) }),
        }
    }
}

type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

fn bounded(from: &[u8], to: &[u8]) -> ReadOptions {
    let mut read = ReadOptions::default();
    read.set_iterate_lower_bound(from);
    read.set_iterate_upper_bound(to);
    read
}

fn ascend(mut rows: DBRawIteratorWithThreadMode<'_, DB>, visit: Visit<'_>) -> Result<(), StorageError> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if !visit(key, value) {
            break;
        }
        rows.next();
    }
    rows.status().map_err(failed)
}

fn descend(mut rows: DBRawIteratorWithThreadMode<'_, DB>, visit: Visit<'_>) -> Result<(), StorageError> {
    rows.seek_to_last();
    while let Some((key, value)) = rows.item() {
        if !visit(key, value) {
            break;
        }
        rows.prev();
    }
    rows.status().map_err(failed)
}

impl StateView for RocksState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.db.get(key).map_err(failed)?.map(Bytes::from))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to { Ok(()) } else { ascend(self.db.raw_iterator_opt(bounded(from, to)), visit) }
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to { Ok(()) } else { descend(self.db.raw_iterator_opt(bounded(from, to)), visit) }
    }
}

/// The state at one moment.
struct Moment<'a>(rocksdb::Snapshot<'a>);

impl StateView for Moment<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(key).map_err(failed)?.map(Bytes::from))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to { Ok(()) } else { ascend(self.0.raw_iterator_opt(bounded(from, to)), visit) }
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to { Ok(()) } else { descend(self.0.raw_iterator_opt(bounded(from, to)), visit) }
    }
}

/// A checkpoint, open for reading; removed when dropped.
struct Export {
    /// None only while it is dropped.
    db: Option<DB>,
    directory: PathBuf,
}

impl Export {
    fn db(&self) -> Result<&DB, StorageError> {
        self.db.as_ref().ok_or_else(|| StorageError::Io("the export is closed".into()))
    }
}

impl StateView for Export {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.db()?.get(key).map_err(failed)?.map(Bytes::from))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to { Ok(()) } else { ascend(self.db()?.raw_iterator_opt(bounded(from, to)), visit) }
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        if from >= to { Ok(()) } else { descend(self.db()?.raw_iterator_opt(bounded(from, to)), visit) }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        drop(self.db.take());
        // What is left behind is removed at the next start.
        let _left = fs::remove_dir_all(&self.directory);
    }
}

impl StateStore for RocksState {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let mut ops = WriteBatch::default();
        for op in batch.into_ops() {
            match op {
                StateOp::Put(key, value) => ops.put(key, value),
                StateOp::Delete(key) => ops.delete(key),
                StateOp::DeleteRange(from, to) if from < to => ops.delete_range(from, to),
                StateOp::DeleteRange(..) => {}
            }
        }
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(ops, &options).map_err(failed)
    }

    fn flush(&self) -> Result<(), StorageError> {
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_opt(&options).map_err(failed)
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let mut read = ReadOptions::default();
        read.set_read_tier(ReadTier::Persisted);
        Ok(self.db.get_opt(key, &read).map_err(failed)?.map(Bytes::from))
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        Box::new(Moment(self.db.snapshot()))
    }

    fn reclaim(&self) -> Result<(), StorageError> {
        // Answers nothing; a failure shows at the next write.
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        Ok(())
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        let parent = self.directory.join(EXPORTS);
        fs::create_dir_all(&parent).map_err(|error| StorageError::Io(error.to_string()))?;
        let directory = parent.join(self.exports.fetch_add(1, Ordering::Relaxed).to_string());
        Checkpoint::new(&self.db).and_then(|checkpoint| checkpoint.create_checkpoint(&directory)).map_err(failed)?;
        let mut export = Export { db: None, directory };
        let mut options = options(WRITE_BUFFER_BYTES);
        options.set_block_based_table_factory(&table(EXPORT_CACHE_BYTES));
        export.db = Some(DB::open_for_read_only(&options, &export.directory, false).map_err(failed)?);
        Ok(Box::new(export))
    }

    fn figures(&self) -> StoreFigures {
        figures::of(&self.db)
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        let buffered = self.db.property_int_value(rocksdb::properties::CUR_SIZE_ALL_MEM_TABLES).map_err(failed)?;
        usage::of(&self.directory, buffered.unwrap_or(0))
    }
}
