//! A disk that outlives the processes that use it, and loses what they did not sync.
//!
//! A process opens the disk and gets the two stores; a crash takes them away from it, so that a task of a dead process that still
//! waits to be dropped cannot write. What a crash loses is drawn: a killed process loses what was only in its own memory, a
//! power loss also what the system had not written back.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use mainstay_storage::{
    LogBounds, LogOp, LogStore, MemoryLog, MemoryState, StateBatch, StateStore, StateView, StorageError, Usage,
};

use crate::{draw, trace};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the system keeps what it was given: the whole log, and what the state flushed by itself.
    Process,
    /// The machine dies: of both stores only what was synced survives, and some of the rest, in order.
    Power,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    /// Counts the processes that opened it; only the last may use it.
    owner: Arc<AtomicU64>,
    lies: Arc<AtomicBool>,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// From now on the log's sync does nothing and says that it did. A checker that does not notice is worth nothing.
    pub fn lie(&self) {
        self.lies.store(true, Ordering::Relaxed);
    }

    /// The stores, for a new process. They fail from the next crash on.
    #[must_use]
    pub fn open(&self) -> (Arc<dyn LogStore>, Arc<dyn StateStore>) {
        let me = self.owner.fetch_add(1, Ordering::Relaxed) + 1;
        let fence = Fence { owner: self.owner.clone(), lies: self.lies.clone(), me };
        let log = Owned { store: self.log.clone(), fence: fence.clone() };
        (Arc::new(log), Arc::new(Owned { store: self.state.clone(), fence }))
    }

    /// Takes the stores from their process and forgets what it had not made durable, as far as the draw says.
    pub fn crash(&self, crash: Crash) {
        self.owner.fetch_add(1, Ordering::Relaxed);
        let (log, state) = (self.log.unsynced(), self.state.unflushed());
        let log_kept = match crash {
            Crash::Process => log,
            Crash::Power => draw(0..log as u64 + 1) as usize,
        };
        let state_kept = draw(0..state as u64 + 1) as usize;
        trace::event(format!("disk: {crash:?} crash keeps {log_kept}/{log} log, {state_kept}/{state} state batches"));
        self.log.crash_keeping(log_kept);
        self.state.crash_keeping(state_kept);
    }

    /// Bytes that the two stores hold.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        let used = |usage: Result<Usage, StorageError>| usage.map_or(0, |usage| usage.used);
        (used(self.log.usage()), used(self.state.usage()))
    }

    /// The state as the last process left it, for checks that look from outside.
    #[must_use]
    pub fn state(&self) -> Arc<dyn StateStore> {
        self.state.clone()
    }
}

#[derive(Clone)]
struct Fence {
    owner: Arc<AtomicU64>,
    lies: Arc<AtomicBool>,
    me: u64,
}

impl Fence {
    fn check(&self) -> Result<(), StorageError> {
        if self.owner.load(Ordering::Relaxed) == self.me {
            return Ok(());
        }
        Err(StorageError::Io("the process that opened this store is dead".into()))
    }
}

/// A store in the hands of one process.
struct Owned<S> {
    store: Arc<S>,
    fence: Fence,
}

impl LogStore for Owned<MemoryLog> {
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        self.fence.check()?;
        self.store.write(ops)
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.fence.check()?;
        if self.fence.lies.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.store.sync()
    }

    fn scan(
        &self,
        group: u32,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), StorageError> {
        self.fence.check()?;
        self.store.scan(group, range, visit)
    }

    fn bounds(&self, group: u32) -> Result<LogBounds, StorageError> {
        self.fence.check()?;
        self.store.bounds(group)
    }

    fn vote(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.store.vote(group)
    }

    fn committed(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.store.committed(group)
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.fence.check()?;
        self.store.usage()
    }
}

impl StateView for Owned<MemoryState> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.store.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.fence.check()?;
        self.store.scan(from, to, visit)
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.fence.check()?;
        self.store.scan_reverse(from, to, visit)
    }
}

impl StateStore for Owned<MemoryState> {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        self.fence.check()?;
        self.store.write(batch)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.fence.check()?;
        self.store.flush()
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.store.get_persisted(key)
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        self.store.view()
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        self.fence.check()?;
        self.store.export()
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.fence.check()?;
        self.store.usage()
    }
}
