//! The state in memory. A crash forgets batches that were not flushed: some suffix of them, never others.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::{Budget, StateBatch, StateOp, StateStore, StateView, StorageError, Usage, lock};

type Rows = BTreeMap<Vec<u8>, Bytes>;
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

#[derive(Debug, Default)]
struct Inner {
    /// Shared with views, and copied by the first write that finds it shared.
    written: Arc<Rows>,
    flushed: Rows,
    /// Batches between the two.
    unflushed: Vec<StateBatch>,
    used: u64,
}

/// A state in memory.
#[derive(Debug, Default)]
pub struct MemoryState {
    inner: Mutex<Inner>,
    budget: Budget,
}

impl MemoryState {
    /// An empty state that refuses to hold more than this many bytes of keys and values.
    #[must_use]
    pub fn with_limit(max_bytes: u64) -> Self {
        Self { budget: Budget { max_bytes: Some(max_bytes), reserve_bytes: 0 }, ..Self::default() }
    }

    /// Forgets what was not flushed.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Forgets what was not flushed but for the first few batches, as if the store had flushed those by itself.
    pub fn crash_keeping(&self, batches: usize) {
        self.flush_some(batches);
        let mut inner = lock(&self.inner);
        inner.unflushed.clear();
        inner.used = inner.flushed.iter().map(|(key, value)| size(key, value)).sum();
        inner.written = Arc::new(inner.flushed.clone());
    }

    /// What a crash now would leave, with the first few unflushed batches; this state goes on as it is.
    #[must_use]
    pub fn after_crash(&self, batches: usize) -> Self {
        let inner = lock(&self.inner);
        let (flushed, unflushed) = (inner.flushed.clone(), inner.unflushed.clone());
        let copy = Inner { written: Arc::default(), flushed, unflushed, used: 0 };
        let copy = Self { inner: Mutex::new(copy), budget: self.budget };
        copy.crash_keeping(batches);
        copy
    }

    /// Makes the first few unflushed batches durable, as a store may at any time.
    pub fn flush_some(&self, batches: usize) {
        let mut inner = lock(&self.inner);
        let count = batches.min(inner.unflushed.len());
        let rest = inner.unflushed.split_off(count);
        for batch in std::mem::replace(&mut inner.unflushed, rest) {
            let mut used = 0;
            batch.into_ops().into_iter().for_each(|op| apply(&mut inner.flushed, &mut used, op));
        }
    }

    /// Batches that a crash may forget.
    #[must_use]
    pub fn unflushed(&self) -> usize {
        lock(&self.inner).unflushed.len()
    }

    fn moment(&self) -> Moment {
        Moment(lock(&self.inner).written.clone())
    }
}

fn size(key: &[u8], value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

fn apply(rows: &mut Rows, used: &mut u64, op: StateOp) {
    match op {
        StateOp::Put(key, value) => {
            *used = used.saturating_add(size(&key, &value));
            let key_len = key.len();
            if let Some(old) = rows.insert(key, value) {
                *used = used.saturating_sub((key_len + old.len()) as u64);
            }
        }
        StateOp::Delete(key) => {
            if let Some(old) = rows.remove(&key) {
                *used = used.saturating_sub(size(&key, &old));
            }
        }
        StateOp::DeleteRange(from, to) if from < to => {
            let doomed: Vec<_> = rows.range(from..to).map(|(key, _)| key.clone()).collect();
            doomed.into_iter().for_each(|key| apply(rows, used, StateOp::Delete(key)));
        }
        StateOp::DeleteRange(..) => {}
    }
}

/// The rows at one moment.
struct Moment(Arc<Rows>);

impl Moment {
    fn range(&self, from: &[u8], to: &[u8]) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Bytes)> {
        // A range whose start is behind its end panics.
        let to = to.max(from);
        self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
    }
}

impl StateView for Moment {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let _ = self.range(from, to).all(|(key, value)| visit(key, value));
        Ok(())
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        let _ = self.range(from, to).rev().all(|(key, value)| visit(key, value));
        Ok(())
    }
}

impl StateView for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.moment().get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.moment().scan(from, to, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.moment().scan_reverse(from, to, visit)
    }
}

impl StateStore for MemoryState {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let mut inner = lock(&self.inner);
        let inner = &mut *inner;
        if self.budget.max_bytes.is_some() {
            self.budget.admit(Usage { used: inner.used, available: u64::MAX }, batch.size())?;
        }
        let rows = Arc::make_mut(&mut inner.written);
        batch.ops().iter().for_each(|op| apply(rows, &mut inner.used, op.clone()));
        inner.unflushed.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.flush_some(usize::MAX);
        Ok(())
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(lock(&self.inner).flushed.get(key).cloned())
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        Box::new(self.moment())
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        Ok(Box::new(self.moment()))
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        let used = lock(&self.inner).used;
        Ok(Usage { used, available: self.budget.max_bytes.map_or(u64::MAX, |max| max.saturating_sub(used)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite;

    fn put(key: &str, value: &'static str) -> StateBatch {
        let mut batch = StateBatch::new();
        batch.put(key, value);
        batch
    }

    #[test]
    fn passes_the_suite() {
        suite::state(&MemoryState::default());
    }

    #[test]
    fn a_crash_forgets_what_was_not_flushed() {
        let state = MemoryState::default();
        state.write(put("k", "1")).expect("writes");
        state.flush().expect("flushes");
        state.write(put("k", "2")).expect("writes");
        state.write(put("k", "3")).expect("writes");
        assert_eq!(state.get_persisted(b"k").expect("reads").as_deref(), Some(&b"1"[..]));
        state.crash_keeping(1);
        assert_eq!(state.get(b"k").expect("reads").as_deref(), Some(&b"2"[..]));
        state.write(put("k", "4")).expect("writes");
        state.crash();
        assert_eq!(state.get(b"k").expect("reads").as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn a_full_state_refuses_and_a_delete_makes_room() {
        let state = MemoryState::with_limit(10);
        state.write(put("k", "12345678")).expect("fits");
        assert_eq!(state.usage().expect("tells"), Usage { used: 9, available: 1 });
        assert!(matches!(state.write(put("l", "1")), Err(StorageError::Full { .. })));
        let mut batch = StateBatch::new();
        batch.delete_range("a", "z");
        state.write(batch).expect("writes");
        assert_eq!(state.usage().expect("tells").used, 0);
    }
}
