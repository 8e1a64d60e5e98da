//! The stores on RocksDB against the suite, and through crashes: a copy of the files of an open store is what a killed process
//! leaves; a shorter write-ahead log is what a power loss leaves.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mainstay_storage::suite::{LogSubject, StateSubject, Step, log_script, state_script};
use mainstay_storage::{LogOp, LogStore, StateBatch, StateStore, StateView, StorageError};
use mainstay_storage_rocksdb::{RocksLog, RocksState};
use proptest::prelude::*;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// Names and sizes of the files in a directory.
fn listing(directory: &Path) -> BTreeMap<OsString, Option<u64>> {
    let entries = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists"));
    entries.map(|entry| (entry.file_name(), entry.metadata().ok().map(|metadata| metadata.len()))).collect()
}

/// Copies the files of a store at one moment: again, if a compaction changed them meanwhile.
fn copy(from: &Path) -> TempDir {
    loop {
        let to = directory();
        let before = listing(from);
        let copied = before.keys().all(|name| fs::copy(from.join(name), to.path().join(name)).is_ok());
        if copied && listing(from) == before {
            return to;
        }
    }
}

/// The write-ahead log that is written now, and its size.
fn newest_log(directory: &Path) -> (PathBuf, u64) {
    let files = fs::read_dir(directory).expect("lists").map(|entry| entry.expect("lists").path());
    let newest = files.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max();
    let newest = newest.expect("a write-ahead log");
    let size = fs::metadata(&newest).expect("tells").len();
    (newest, size)
}

struct Log {
    store: RocksLog,
    directory: TempDir,
    synced: u64,
}

impl Log {
    fn open(directory: TempDir) -> Self {
        let store = RocksLog::open(directory.path()).expect("opens");
        let synced = newest_log(directory.path()).1;
        Self { store, directory, synced }
    }
}

impl LogSubject for Log {
    fn store(&self) -> &dyn LogStore {
        &self.store
    }

    fn sync(&mut self) {
        self.store.sync().expect("syncs");
        self.synced = newest_log(self.directory.path()).1;
    }

    fn crash(&mut self, luck: u8) {
        let left = copy(self.directory.path());
        let (path, size) = newest_log(left.path());
        let kept = self.synced + (size - self.synced) * u64::from(luck) / u64::from(u8::MAX);
        let file = fs::OpenOptions::new().write(true).open(path).expect("opens");
        file.set_len(kept).expect("cuts");
        *self = Self::open(left);
    }
}

struct State {
    store: RocksState,
    directory: TempDir,
}

impl StateSubject for State {
    fn store(&self) -> &dyn StateStore {
        &self.store
    }

    fn crash(&mut self, _luck: u8) {
        let directory = copy(self.directory.path());
        *self = Self { store: RocksState::open(directory.path()).expect("opens"), directory };
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_equals_its_model(script in steps()) {
        log_script(&mut Log::open(directory()), &script);
    }

    #[test]
    fn the_state_equals_its_model(script in steps()) {
        let directory = directory();
        state_script(&mut State { store: RocksState::open(directory.path()).expect("opens"), directory }, &script);
    }
}

#[test]
fn the_log_passes_the_suite_and_a_reopening() {
    let directory = directory();
    let log = RocksLog::open(directory.path()).expect("opens");
    mainstay_storage::suite::log(&log);
    let before = (log.bounds(7).expect("reads"), log.bounds(8).expect("reads"));
    assert!(log.usage().expect("tells").used > 0);
    drop(log);
    let log = RocksLog::open(directory.path()).expect("opens again");
    assert_eq!((log.bounds(7).expect("reads"), log.bounds(8).expect("reads")), before);
    assert_eq!(log.vote(7).expect("reads"), Some(Bytes::from_static(b"v2")));
    assert_eq!(log.entries(7, 0..20).expect("reads"), vec![(10, Bytes::from_static(b"j"))]);
}

#[test]
fn the_state_passes_the_suite_and_a_clean_end_keeps_all() {
    let directory = directory();
    let state = RocksState::open(directory.path()).expect("opens");
    mainstay_storage::suite::state(&state);
    let mut batch = StateBatch::new();
    batch.put("last", "written");
    state.write(batch).expect("writes");
    drop(state);
    let state = RocksState::open(directory.path()).expect("opens again");
    assert_eq!(state.get(b"last").expect("reads").as_deref(), Some(&b"written"[..]));
}

#[test]
fn a_second_opening_is_refused() {
    let directory = directory();
    let _log = RocksLog::open(directory.path()).expect("opens");
    assert!(matches!(RocksLog::open(directory.path()), Err(StorageError::Io(_))));
}

/// Three synced batches of one entry each, and where their bytes end in the write-ahead log.
fn three_batches() -> (TempDir, PathBuf, Vec<u64>) {
    let directory = directory();
    let log = RocksLog::open(directory.path()).expect("opens");
    let mut ends = Vec::new();
    for first in 1..=3 {
        let entry = Bytes::from(vec![b'e'; 1000]);
        log.write(&[LogOp::Append { group: 1, first, entries: vec![entry] }]).expect("writes");
        log.sync().expect("syncs");
        ends.push(newest_log(directory.path()).1);
    }
    let left = copy(directory.path());
    let path = newest_log(left.path()).0;
    (left, path, ends)
}

fn flip(path: &Path, at: u64) {
    let mut bytes = fs::read(path).expect("reads");
    bytes[usize::try_from(at).expect("small")] ^= 1;
    fs::write(path, bytes).expect("writes");
}

#[test]
fn a_torn_last_write_is_dropped_and_damage_before_it_is_refused() {
    let (left, path, ends) = three_batches();
    fs::OpenOptions::new().write(true).open(&path).expect("opens").set_len(ends[2] - 10).expect("cuts");
    assert_eq!(RocksLog::open(left.path()).expect("opens").bounds(1).expect("reads").last, Some(2));

    let (left, path, ends) = three_batches();
    flip(&path, ends[1] + 500);
    assert_eq!(RocksLog::open(left.path()).expect("opens").bounds(1).expect("reads").last, Some(2));

    // A wrong byte of data, and a wrong length, which hides what follows.
    for offset in [500, 4] {
        let (left, path, ends) = three_batches();
        flip(&path, ends[0] + offset);
        assert!(matches!(RocksLog::open(left.path()), Err(StorageError::Corrupt(_))), "at {offset}");
    }
}

#[test]
fn a_damaged_table_is_refused_when_it_is_read() {
    let directory = directory();
    let state = RocksState::open(directory.path()).expect("opens");
    let mut batch = StateBatch::new();
    (0..2000_u32).for_each(|n| batch.put(n.to_be_bytes(), vec![b'v'; 100]));
    state.write(batch).expect("writes");
    state.flush().expect("flushes");
    drop(state);
    let files = fs::read_dir(directory.path()).expect("lists").map(|entry| entry.expect("lists").path());
    let table = files.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "sst"));
    flip(&table.expect("a table"), 200);
    let state = RocksState::open(directory.path()).expect("opens");
    assert!(matches!(state.get(&0_u32.to_be_bytes()), Err(StorageError::Corrupt(_))));
}
