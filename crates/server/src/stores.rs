//! The two stores in a data directory.

use std::sync::Arc;

use mainstay_node::Stores;
use mainstay_storage::StorageError;
use mainstay_storage_rocksdb::{RocksLog, RocksState};

use crate::Failure;
use crate::data_directory::DataDirectory;

/// Opens or creates the stores.
pub fn open(data: &DataDirectory) -> Result<Stores, Failure> {
    let failed = |error: StorageError| match error {
        StorageError::Corrupt(what) => format!("the stored data is damaged ({what}); restore it from a backup"),
        other => format!("the data cannot be opened: {other}"),
    };
    // What is temporary outlives no crash, so its log need not wait for the disk.
    let log = if data.is_temporary() { RocksLog::open_unsynced(&data.log()) } else { RocksLog::open(&data.log()) };
    let state = RocksState::open(&data.state()).map_err(failed)?;
    Ok(Stores { log: Arc::new(log.map_err(failed)?), state: Arc::new(state) })
}
