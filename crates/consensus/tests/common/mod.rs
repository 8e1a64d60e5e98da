//! What the tests share: a machine that keeps every command as a row, and stores whose power can be cut.

#![allow(dead_code)]

pub mod cluster;
pub mod wire;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use mainstay_consensus::{Entry, Machine, StateRange};
use mainstay_storage::{
    LogBounds, LogOp, LogStore, MemoryLog, MemoryState, StateBatch, StateStore, StateView, StorageError, Usage,
};

/// Whether anything still reaches the disks.
#[derive(Debug)]
pub struct Power {
    on: AtomicBool,
    /// Read by what changes the disks, written by who wants them to stand still.
    moment: RwLock<()>,
}

impl Default for Power {
    fn default() -> Self {
        Self { on: AtomicBool::new(true), moment: RwLock::default() }
    }
}

impl Power {
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    pub fn cut(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    /// Both disks at one moment.
    pub fn at_once<T>(&self, look: impl FnOnce() -> T) -> T {
        let _still = self.moment.write().expect("not poisoned");
        look()
    }

    fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let _moment = self.moment.read().expect("not poisoned");
        change()
    }
}

/// A state whose changes stop for a look at both disks.
pub struct State {
    pub disk: Arc<MemoryState>,
    pub power: Arc<Power>,
}

type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

impl StateView for State {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.disk.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.disk.scan(from, to, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.disk.scan_reverse(from, to, visit)
    }
}

impl StateStore for State {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        self.power.change(|| self.disk.write(batch))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.power.change(|| self.disk.flush())
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.disk.get_persisted(key)
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        self.disk.view()
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        self.disk.export()
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.disk.usage()
    }
}

/// A log that pretends to work when its power is cut.
pub struct Log {
    pub disk: Arc<MemoryLog>,
    pub power: Arc<Power>,
}

impl LogStore for Log {
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        if self.power.is_on() { self.power.change(|| self.disk.write(ops)) } else { Ok(()) }
    }

    fn sync(&self) -> Result<(), StorageError> {
        if self.power.is_on() { self.power.change(|| self.disk.sync()) } else { Ok(()) }
    }

    fn scan(
        &self,
        group: u32,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), StorageError> {
        self.disk.scan(group, range, visit)
    }

    fn bounds(&self, group: u32) -> Result<LogBounds, StorageError> {
        self.disk.bounds(group)
    }

    fn vote(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.disk.vote(group)
    }

    fn committed(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.disk.committed(group)
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.disk.usage()
    }
}

/// Keeps each command under its index; answers the index.
pub struct Rows {
    pub group: u8,
    pub disk: Arc<MemoryState>,
    pub power: Arc<Power>,
}

const MARK: u8 = b'm';
const ROW: u8 = b'r';

impl Rows {
    pub fn new(group: u8, disk: Arc<MemoryState>) -> Self {
        Self { group, disk, power: Arc::default() }
    }

    fn key(&self, table: u8, index: u64) -> Vec<u8> {
        [&[self.group, table][..], &index.to_be_bytes()].concat()
    }

    /// All commands with their indexes.
    pub fn all(&self) -> Vec<(u64, Bytes)> {
        let mut rows = Vec::new();
        let scanned = self.disk.scan(&[self.group, ROW], &[self.group, ROW + 1], &mut |key, value| {
            let index = key[2..].try_into().expect("eight bytes of index");
            rows.push((u64::from_be_bytes(index), Bytes::copy_from_slice(value)));
            true
        });
        scanned.expect("memory is readable");
        rows
    }
}

impl Machine for Rows {
    type Reply = u64;

    fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        self.disk.get(&self.key(MARK, 0))
    }

    fn durable(&self) -> Result<Option<Bytes>, StorageError> {
        self.disk.get_persisted(&self.key(MARK, 0))
    }

    fn apply(&self, entries: Vec<Entry>, mark: Bytes) -> Result<Vec<u64>, StorageError> {
        let mut batch = StateBatch::new();
        let mut replies = Vec::new();
        for Entry { index, data, .. } in entries {
            if let Some(data) = data {
                batch.put(self.key(ROW, index), data);
                replies.push(index);
            }
        }
        batch.put(self.key(MARK, 0), mark);
        if self.power.is_on() {
            self.power.change(|| self.disk.write(batch))?;
        }
        Ok(replies)
    }

    fn flush(&self) -> Result<(), StorageError> {
        if self.power.is_on() { self.disk.flush() } else { Ok(()) }
    }

    fn range(&self) -> StateRange {
        StateRange {
            store: Arc::new(State { disk: self.disk.clone(), power: self.power.clone() }),
            from: vec![self.group],
            to: vec![self.group + 1],
            mark: self.key(MARK, 0),
        }
    }

    fn digest(&self, taken: &mut dyn FnMut()) -> Result<u64, StorageError> {
        let mut rows = Vec::new();
        self.disk.scan(&[self.group], &[self.group + 1], &mut |key, value| {
            rows.extend_from_slice(key);
            rows.extend_from_slice(value);
            true
        })?;
        taken();
        Ok(rows.iter().fold(0, |sum, byte| u64::wrapping_add(sum, u64::from(*byte)).wrapping_mul(31)))
    }

    fn replaced(&self) -> Result<(), StorageError> {
        Ok(())
    }
}
