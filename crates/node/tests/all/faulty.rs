//! A state of which some rows are damaged until they are replaced.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mainstay_storage::{MemoryState, StateBatch, StateOp, StateStore, StateView, StorageError, Usage};

type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

/// The rows whose keys begin so are damaged.
#[derive(Clone, Default)]
pub struct Damage(Arc<Mutex<Option<Vec<u8>>>>);

impl Damage {
    pub fn begin(&self, prefix: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(prefix);
    }

    pub fn is_there(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn check(&self, meets: impl Fn(&[u8]) -> bool) -> Result<(), StorageError> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(prefix) if meets(prefix) => Err(StorageError::Corrupt("a test says so".into())),
            _ => Ok(()),
        }
    }

    fn check_range(&self, from: &[u8], to: &[u8]) -> Result<(), StorageError> {
        self.check(|prefix| (from <= prefix || from.starts_with(prefix)) && prefix < to)
    }

    fn mend(&self, batch: &StateBatch) {
        let mut damaged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |op: &StateOp| matches!((op, &*damaged), (StateOp::DeleteRange(from, to), Some(prefix)) if from <= prefix && prefix < to);
        if batch.ops().iter().any(covers) {
            *damaged = None;
        }
    }
}

/// The state over which it lies.
pub struct Faulty {
    pub disk: Arc<MemoryState>,
    pub damage: Damage,
}

struct FaultyView<'a>(Box<dyn StateView + 'a>, Damage);

impl StateView for FaultyView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.1.check(|prefix| key.starts_with(prefix))?;
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.1.check_range(from, to)?;
        self.0.scan(from, to, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.1.check_range(from, to)?;
        self.0.scan_reverse(from, to, visit)
    }
}

impl StateView for Faulty {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.view().get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.view().scan(from, to, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.view().scan_reverse(from, to, visit)
    }
}

impl StateStore for Faulty {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        self.damage.mend(&batch);
        self.disk.write(batch)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.disk.flush()
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.disk.get_persisted(key)
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        Box::new(FaultyView(self.disk.view(), self.damage.clone()))
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        Ok(Box::new(FaultyView(self.disk.export()?, self.damage.clone())))
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.disk.usage()
    }
}
