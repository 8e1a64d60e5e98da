//! The log in memory. A crash forgets batches that were not synced, as a power loss would: some suffix of them, never others.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use bytes::Bytes;

use crate::{Budget, LogBounds, LogOp, LogStore, StorageError, Usage, lock};

#[derive(Clone, Debug, Default)]
struct GroupLog {
    entries: BTreeMap<u64, Bytes>,
    bounds: LogBounds,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

impl GroupLog {
    fn apply(&mut self, op: &LogOp) -> Result<(), StorageError> {
        let bounds = self.bounds.after(op)?;
        match op {
            LogOp::Append { first, entries, .. } => self.entries.extend((*first..).zip(entries.iter().cloned())),
            LogOp::Truncate { from, .. } => drop(self.entries.split_off(from)),
            LogOp::Purge { upto, .. } => match upto.checked_add(1) {
                Some(first) => self.entries = self.entries.split_off(&first),
                None => self.entries.clear(),
            },
            LogOp::Vote { value, .. } => self.vote = Some(value.clone()),
            LogOp::Committed { value, .. } => self.committed = Some(value.clone()),
        }
        self.bounds = bounds;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.entries.values().map(|entry| entry.len() as u64).sum()
    }
}

type Groups = BTreeMap<u32, GroupLog>;

fn apply(groups: &mut Groups, ops: &[LogOp]) -> Result<(), StorageError> {
    ops.iter().try_for_each(|op| groups.entry(op.group()).or_default().apply(op))
}

#[derive(Debug, Default)]
struct Inner {
    written: Groups,
    synced: Groups,
    /// Batches between the two.
    unsynced: Vec<Vec<LogOp>>,
}

/// A log in memory.
#[derive(Debug, Default)]
pub struct MemoryLog {
    inner: Mutex<Inner>,
    budget: Budget,
}

impl MemoryLog {
    /// An empty log that refuses to hold more than this many bytes of entries.
    #[must_use]
    pub fn with_limit(max_bytes: u64) -> Self {
        Self { budget: Budget { max_bytes: Some(max_bytes), reserve_bytes: 0 }, ..Self::default() }
    }

    /// Forgets what was not synced.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Forgets what was not synced but for the first few batches, which reached the disk by themselves.
    pub fn crash_keeping(&self, batches: usize) {
        let mut inner = lock(&self.inner);
        let unsynced = std::mem::take(&mut inner.unsynced);
        for ops in unsynced.iter().take(batches) {
            // They were accepted once, from the same bounds.
            let _ = apply(&mut inner.synced, ops);
        }
        inner.written = inner.synced.clone();
    }

    /// What a crash now would leave, with the first few unsynced batches; this log goes on as it is.
    #[must_use]
    pub fn after_crash(&self, batches: usize) -> Self {
        let inner = lock(&self.inner);
        let (synced, unsynced) = (inner.synced.clone(), inner.unsynced.clone());
        let copy = Inner { written: Groups::default(), synced, unsynced };
        let copy = Self { inner: Mutex::new(copy), budget: self.budget };
        copy.crash_keeping(batches);
        copy
    }

    /// Batches that a crash may forget.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        lock(&self.inner).unsynced.len()
    }

    fn read<T>(&self, group: u32, read: impl FnOnce(&GroupLog) -> T) -> T {
        read(lock(&self.inner).written.get(&group).unwrap_or(&GroupLog::default()))
    }
}

fn usage(groups: &Groups, budget: &Budget) -> Usage {
    let used = groups.values().map(GroupLog::size).sum();
    Usage { used, available: budget.max_bytes.map_or(u64::MAX, |max| max.saturating_sub(used)) }
}

impl LogStore for MemoryLog {
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        let mut inner = lock(&self.inner);
        if self.budget.max_bytes.is_some() {
            self.budget.admit(usage(&inner.written, &self.budget), ops.iter().map(LogOp::size).sum())?;
        }
        check(&inner.written, ops)?;
        apply(&mut inner.written, ops)?;
        inner.unsynced.push(ops.to_vec());
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut inner = lock(&self.inner);
        let unsynced = std::mem::take(&mut inner.unsynced);
        unsynced.iter().try_for_each(|ops| apply(&mut inner.synced, ops))
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
        // Collected first: `visit` may use this store.
        let found: Vec<_> = self.read(group, |log| log.entries.range(range).map(|(i, e)| (*i, e.clone())).collect());
        let _ = found.into_iter().all(|(index, entry)| visit(index, entry));
        Ok(())
    }

    fn bounds(&self, group: u32) -> Result<LogBounds, StorageError> {
        Ok(self.read(group, |log| log.bounds.clone()))
    }

    fn vote(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        Ok(self.read(group, |log| log.vote.clone()))
    }

    fn committed(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        Ok(self.read(group, |log| log.committed.clone()))
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        Ok(usage(&lock(&self.inner).written, &self.budget))
    }
}

/// Whether all operations follow from what the groups hold, so that a batch is never half applied.
fn check(groups: &Groups, ops: &[LogOp]) -> Result<(), StorageError> {
    let mut bounds: BTreeMap<u32, LogBounds> = BTreeMap::new();
    for op in ops {
        let of_group = bounds.entry(op.group());
        let of_group =
            of_group.or_insert_with(|| groups.get(&op.group()).map(|g| g.bounds.clone()).unwrap_or_default());
        *of_group = of_group.after(op)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    #[test]
    fn passes_the_suite() {
        suite::log(&MemoryLog::default());
    }

    #[test]
    fn a_crash_forgets_what_was_not_synced() {
        let log = MemoryLog::default();
        let entry = |first| LogOp::Append { group: 1, first, entries: vec![Bytes::from_static(b"x")] };
        log.write(&[entry(1)]).expect("writes");
        log.sync().expect("syncs");
        log.write(&[entry(2), LogOp::Truncate { group: 1, from: 1 }]).expect("writes");
        log.crash();
        assert_eq!(log.bounds(1).expect("reads").last, Some(1));
        log.write(&[entry(2)]).expect("writes");
        log.write(&[entry(3)]).expect("writes");
        log.crash_keeping(1);
        assert_eq!(log.bounds(1).expect("reads").last, Some(2));
    }

    #[test]
    fn a_full_log_refuses_and_a_purge_makes_room() {
        let log = MemoryLog::with_limit(8);
        let entry = |first, size| LogOp::Append { group: 1, first, entries: vec![Bytes::from(vec![0; size])] };
        log.write(&[entry(1, 6)]).expect("fits");
        let refused = log.write(&[entry(2, 3)]);
        assert_eq!(refused, Err(StorageError::Full { used: 6, wanted: 3, room: 2 }));
        assert_eq!(log.bounds(1).expect("reads").last, Some(1));
        log.write(&[LogOp::Purge { group: 1, upto: 1, mark: Bytes::new() }]).expect("writes");
        log.write(&[entry(2, 8)]).expect("fits");
    }
}
