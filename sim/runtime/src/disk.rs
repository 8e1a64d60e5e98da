//! A disk that outlives the processes that use it, and loses what they did not sync.
//!
//! A process opens the disk and gets the two stores; a crash takes them away from it, so that a task of a dead process that still
//! waits to be dropped cannot write. What a crash loses is drawn: a killed process loses what was only in its own memory, a
//! power loss also what the system had not written back. A batch that was half written is lost as a whole, as the checksums of a
//! real log see to it.
//!
//! A disk can also be told to fail: an operation, the room that is left, bits that turn, and a crash in the middle of an operation.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mainstay_storage::{
    LogBounds, LogOp, LogStore, MemoryLog, MemoryState, StateBatch, StateStore, StateView, StorageError, Usage,
};

use crate::{FATAL, draw, trace};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; the system keeps what it was given: the whole log, and what the state flushed by itself.
    Process,
    /// The machine dies: of both stores only what was synced survives, and some of the rest, in order.
    Power,
}

/// What is on the medium.
#[derive(Clone, Debug, Default)]
struct Media {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    damaged_entries: BTreeSet<(u32, u64)>,
    damaged_rows: BTreeSet<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Inner {
    media: Media,
    /// Counts the processes that opened it; only the last may use it.
    owner: u64,
    /// Whether that process still lives.
    open: bool,
    lies: bool,
    /// Writes and syncs until the one at which the process dies.
    trap: Option<(u64, Crash)>,
    /// Writes, syncs and reads until the one that fails.
    failure: Option<u64>,
    /// Bytes that both stores may hold together.
    capacity: Option<u64>,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk(Mutex<Inner>);

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the log's sync does nothing and says that it did. A checker that does not notice is worth nothing.
    pub fn lie(&self) {
        self.inner().lies = true;
    }

    /// The process dies in the middle of the `operations`-th write or sync from now; none calls it off.
    pub fn set_trap(&self, operations: Option<u64>, crash: Crash) {
        self.inner().trap = operations.map(|operations| (operations, crash));
    }

    /// The `operations`-th operation from now fails with an I/O error; none calls it off.
    pub fn set_failure(&self, operations: Option<u64>) {
        self.inner().failure = operations;
    }

    /// The disk has this much room beyond what is used; none for no end.
    pub fn set_room(&self, bytes: Option<u64>) {
        let (log, state) = self.used();
        self.inner().capacity = bytes.map(|bytes| log + state + bytes);
    }

    /// A bit of a drawn entry of the log turns; reads of it fail from now on. False if there is none.
    pub fn damage_log(&self, groups: u32) -> bool {
        let media = self.inner().media.clone();
        let group = draw(0..u64::from(groups)) as u32;
        let Ok(LogBounds { first: Some(first), last: Some(last), .. }) = media.log.bounds(group) else { return false };
        let index = draw(first..last + 1);
        trace::event(format!("disk: entry {index} of group {group} is damaged"));
        self.inner().media.damaged_entries.insert((group, index))
    }

    /// A bit of a drawn row of the state turns. False if there is none.
    pub fn damage_state(&self) -> bool {
        let media = self.inner().media.clone();
        let mut keys = Vec::new();
        let _ = media.state.scan(&[], &[0xff; 8], &mut |key, _| {
            keys.push(key.to_vec());
            true
        });
        if keys.is_empty() {
            return false;
        }
        let key = keys.swap_remove(draw(0..keys.len() as u64) as usize);
        trace::event(format!("disk: row {key:02x?} is damaged"));
        self.inner().media.damaged_rows.insert(key)
    }

    /// Everything is gone. The process must be dead.
    pub fn lose(&self) {
        trace::event("disk: lost");
        self.inner().media = Media::default();
    }

    /// The stores, for a new process. They fail from the next crash on.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> (Arc<dyn LogStore>, Arc<dyn StateStore>) {
        if self.inner().open {
            // The last process died by itself.
            self.crash(Crash::Process);
        }
        let mut inner = self.inner();
        inner.owner += 1;
        inner.open = true;
        let fence = Fence { disk: self.clone(), me: inner.owner };
        let log = Owned { store: inner.media.log.clone(), fence: fence.clone() };
        (Arc::new(log), Arc::new(Owned { store: inner.media.state.clone(), fence }))
    }

    /// Takes the stores from their process and forgets what it had not made durable, as far as the draw says.
    pub fn crash(&self, crash: Crash) {
        let media = {
            let mut inner = self.inner();
            inner.owner += 1;
            inner.open = false;
            inner.media.clone()
        };
        let (log, state) = (media.log.unsynced(), media.state.unflushed());
        let log_kept = match crash {
            Crash::Process => log,
            Crash::Power => draw(0..log as u64 + 1) as usize,
        };
        let state_kept = draw(0..state as u64 + 1) as usize;
        trace::event(format!("disk: {crash:?} crash keeps {log_kept}/{log} log, {state_kept}/{state} state batches"));
        media.log.crash_keeping(log_kept);
        media.state.crash_keeping(state_kept);
    }

    /// Bytes that the two stores hold.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        let media = self.inner().media.clone();
        let used = |usage: Result<Usage, StorageError>| usage.map_or(0, |usage| usage.used);
        (used(media.log.usage()), used(media.state.usage()))
    }

    /// The state as the last process left it, for checks that look from outside.
    #[must_use]
    pub fn state(&self) -> Arc<dyn StateStore> {
        self.inner().media.state.clone()
    }
}

#[derive(Clone)]
struct Fence {
    disk: Arc<Disk>,
    me: u64,
}

impl Fence {
    /// Before any operation.
    fn check(&self) -> Result<(), StorageError> {
        let mut inner = self.disk.inner();
        if inner.owner != self.me {
            return Err(StorageError::Io("the process that opened this store is dead".into()));
        }
        if let Some(left) = inner.failure.as_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                inner.failure = None;
                return Err(StorageError::Io("the medium does not answer".into()));
            }
        }
        Ok(())
    }

    /// Does a write or a sync, unless the process dies in its middle: before it was done, or after and nobody is told.
    fn change<T>(&self, operation: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
        self.check()?;
        let sprung = {
            let mut inner = self.disk.inner();
            match inner.trap.as_mut() {
                Some((left, _)) if *left > 1 => {
                    *left -= 1;
                    None
                }
                _ => inner.trap.take(),
            }
        };
        let Some((_, crash)) = sprung else { return operation() };
        if draw(0..2) == 0 {
            let _ = operation();
        }
        trace::event("the process dies in the middle of a disk operation");
        self.disk.crash(crash);
        panic!("{FATAL}: a crash by plan");
    }

    /// Refuses what does not fit.
    fn admit(&self, bytes: u64) -> Result<(), StorageError> {
        // The sizes are summed up only when they matter.
        let Some(capacity) = self.disk.inner().capacity else { return Ok(()) };
        let (log, state) = self.disk.used();
        let used = log + state;
        if used + bytes <= capacity {
            return Ok(());
        }
        Err(StorageError::Full { used, wanted: bytes, room: capacity.saturating_sub(used) })
    }

    fn usage(&self, own: Usage) -> Usage {
        let Some(capacity) = self.disk.inner().capacity else { return own };
        let (log, state) = self.disk.used();
        Usage { used: own.used, available: capacity.saturating_sub(log + state) }
    }

    /// The keys that a scan visits must be whole.
    fn whole(&self, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        let inner = self.disk.inner();
        if inner.media.damaged_rows.iter().any(|key| from <= key.as_slice() && key.as_slice() < to) {
            return Err(StorageError::Corrupt("checksum of a block of the state".into()));
        }
        Ok(())
    }

    fn damaged(&self, key: &[u8]) -> Result<(), StorageError> {
        let inner = self.disk.inner();
        if !inner.media.damaged_rows.is_empty() && inner.media.damaged_rows.contains(key) {
            return Err(StorageError::Corrupt("checksum of a block of the state".into()));
        }
        Ok(())
    }
}

impl StateView for Viewed<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.fence.damaged(key)?;
        self.view.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.fence.check()?;
        self.fence.whole(from, to)?;
        self.view.scan(from, to, visit)
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.fence.check()?;
        self.fence.whole(from, to)?;
        self.view.scan_reverse(from, to, visit)
    }
}

/// A store in the hands of one process.
struct Owned<S> {
    store: Arc<S>,
    fence: Fence,
}

/// A moment of a state in the hands of one process.
struct Viewed<'a> {
    view: Box<dyn StateView + 'a>,
    fence: Fence,
}

impl LogStore for Owned<MemoryLog> {
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        self.fence.admit(ops.iter().map(LogOp::size).sum())?;
        self.fence.change(|| self.store.write(ops))
    }

    fn sync(&self) -> Result<(), StorageError> {
        let lies = self.fence.disk.inner().lies;
        self.fence.change(|| if lies { Ok(()) } else { self.store.sync() })
    }

    fn scan(
        &self,
        group: u32,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), StorageError> {
        self.fence.check()?;
        let damaged = self.fence.disk.inner().media.damaged_entries.clone();
        let mut met = false;
        self.store.scan(group, range, &mut |index, entry| {
            met = damaged.contains(&(group, index));
            !met && visit(index, entry)
        })?;
        if met { Err(StorageError::Corrupt("checksum of a block of the log".into())) } else { Ok(()) }
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
        Ok(self.fence.usage(self.store.usage()?))
    }
}

impl StateView for Owned<MemoryState> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.fence.damaged(key)?;
        self.store.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.fence.check()?;
        self.fence.whole(from, to)?;
        self.store.scan(from, to, visit)
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.fence.check()?;
        self.fence.whole(from, to)?;
        self.store.scan_reverse(from, to, visit)
    }
}

impl StateStore for Owned<MemoryState> {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        self.fence.admit(batch.size())?;
        self.fence.change(|| self.store.write(batch))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.fence.change(|| self.store.flush())
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.fence.check()?;
        self.store.get_persisted(key)
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        Box::new(Viewed { view: self.store.view(), fence: self.fence.clone() })
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        self.fence.check()?;
        Ok(Box::new(Viewed { view: self.store.export()?, fence: self.fence.clone() }))
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.fence.check()?;
        Ok(self.fence.usage(self.store.usage()?))
    }
}
