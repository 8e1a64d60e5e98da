//! Damage in stored rows: the replica that they are of serves nothing more, since nobody knows which other rows are wrong.
//!
//! The store tells damage from other failures by checksums. The first read that meets it, whoever reads, fences the replica of the
//! group whose row it is, and the group's leader rebuilds it; other groups go on. Where there is no other replica, or what is damaged is no
//! group's row, or it cannot even be written, the process ends. What cannot be read at a start is why the node does not start.
//! Started again it meets the damage again, so the node stays away until its disk is replaced and it joins as a new one, or is
//! restored from a backup.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mainstay_runtime::Runtime;
use mainstay_storage::{StateBatch, StateStore, StateView, StorageError, StoreFigures, Usage};

/// Fences the replica of a group, for a reason; answers whether that is possible.
type Fencing = Box<dyn Fn(u32, &str) -> bool + Send + Sync>;

/// What happens when damage is met.
#[derive(Clone)]
pub(crate) struct Guard {
    /// None before the node serves.
    fencing: Arc<OnceLock<Fencing>>,
    fatal: fn(&str) -> !,
}

/// The group whose row has this key.
fn group_of(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*key.first_chunk()?))
}

impl Guard {
    pub(crate) fn new<R: Runtime>() -> Self {
        Self { fencing: Arc::default(), fatal: R::fatal }
    }

    /// From now on damage fences a replica, or stops the node.
    pub(crate) fn serves(&self, fencing: Fencing) {
        // Called once.
        let _set = self.fencing.set(fencing);
    }

    /// The same store, watched.
    pub(crate) fn watch(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        Arc::new(Watched { store, guard: self.clone() })
    }

    /// A read of this key, or of the rows from it on.
    fn read<T>(&self, key: &[u8], read: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error @ StorageError::Corrupt(_)) = &read
            && let Some(fence) = self.fencing.get()
            && !group_of(key).is_some_and(|group| fence(group, &error.to_string()))
        {
            (self.fatal)(&format!("the stored state is damaged: {error}"));
        }
        read
    }

    fn checked<T>(&self, done: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error @ StorageError::Corrupt(_)) = &done
            && self.fencing.get().is_some()
        {
            (self.fatal)(&format!("the stored state is damaged: {error}"));
        }
        done
    }
}

struct Watched {
    store: Arc<dyn StateStore>,
    guard: Guard,
}

impl StateView for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.guard.read(key, self.store.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.guard.read(from, self.store.scan(from, to, visit))
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.guard.read(from, self.store.scan_reverse(from, to, visit))
    }
}

impl StateStore for Watched {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        self.guard.checked(self.store.write(batch))
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.guard.checked(self.store.flush())
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.guard.read(key, self.store.get_persisted(key))
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        Box::new(WatchedView { view: self.store.view(), guard: self.guard.clone() })
    }

    fn reclaim(&self) -> Result<(), StorageError> {
        self.guard.checked(self.store.reclaim())
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        let view = self.guard.checked(self.store.export())?;
        Ok(Box::new(WatchedView { view, guard: self.guard.clone() }))
    }

    fn figures(&self) -> StoreFigures {
        self.store.figures()
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.store.usage()
    }
}

struct WatchedView<'a> {
    view: Box<dyn StateView + 'a>,
    guard: Guard,
}

impl StateView for WatchedView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.guard.read(key, self.view.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.guard.read(from, self.view.scan(from, to, visit))
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.guard.read(from, self.view.scan_reverse(from, to, visit))
    }
}
