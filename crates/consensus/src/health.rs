//! What happens when the disk fails a group: before it serves, its start fails with the reason; after that, the node stops.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use mainstay_runtime::Runtime;
use mainstay_storage::StorageError;

/// One group's.
pub(crate) struct Health {
    group: u32,
    serving: AtomicBool,
    first: Mutex<Option<StorageError>>,
    fatal: fn(&str) -> !,
}

impl Health {
    pub fn new<R: Runtime>(group: u32) -> Self {
        Self { group, serving: AtomicBool::new(false), first: Mutex::new(None), fatal: R::fatal }
    }

    /// From now on a failure stops the node.
    pub fn serves(&self) {
        self.serving.store(true, Ordering::Release);
    }

    /// Something failed. Returns only if the group does not serve yet.
    pub fn failed(&self, error: StorageError) -> io::Error {
        if self.serving.load(Ordering::Acquire) {
            self.fatal(&error.to_string());
        }
        let told = io::Error::other(error.to_string());
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }

    /// Stops the node.
    pub fn fatal(&self, reason: &str) -> ! {
        (self.fatal)(&format!("group {}: {reason}", self.group))
    }

    /// What failed first, if anything did.
    pub fn first(&self) -> Option<StorageError> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
