//! Damage in stored rows stops the node: a replica that met one wrong row serves nothing more, since nobody knows which others are.
//!
//! The store tells damage from other failures by checksums. What cannot be read at a start is why the node does not start; once it
//! serves, the first read that meets damage, whoever reads, ends the process. Started again it meets the damage again, so the node
//! stays away until its disk is replaced and it joins as a new one, or is restored from a backup.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use mainstay_runtime::Runtime;
use mainstay_storage::{StateBatch, StateStore, StateView, StorageError, StoreFigures, Usage};

/// What happens when damage is met.
#[derive(Clone)]
pub(crate) struct Guard {
    serves: Arc<AtomicBool>,
    fatal: fn(&str) -> !,
}

impl Guard {
    pub(crate) fn new<R: Runtime>() -> Self {
        Self { serves: Arc::default(), fatal: R::fatal }
    }

    /// From now on damage stops the node.
    pub(crate) fn serves(&self) {
        self.serves.store(true, Ordering::Release);
    }

    /// The same store, watched.
    pub(crate) fn watch(&self, store: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        Arc::new(Watched { store, guard: self.clone() })
    }

    fn checked<T>(&self, read: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(error @ StorageError::Corrupt(_)) = &read
            && self.serves.load(Ordering::Acquire)
        {
            (self.fatal)(&format!("the stored state is damaged: {error}"));
        }
        read
    }
}

struct Watched {
    store: Arc<dyn StateStore>,
    guard: Guard,
}

impl StateView for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.guard.checked(self.store.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.guard.checked(self.store.scan(from, to, visit))
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.guard.checked(self.store.scan_reverse(from, to, visit))
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
        self.guard.checked(self.store.get_persisted(key))
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
        self.guard.checked(self.view.get(key))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.guard.checked(self.view.scan(from, to, visit))
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.guard.checked(self.view.scan_reverse(from, to, visit))
    }
}
