//! What a database takes of its disk. Sizes come from the file system, not from RocksDB, whose figures leave out its
//! write-ahead log and files about to be deleted.

use std::io;
use std::path::Path;

use mainstay_storage::{StorageError, Usage};

/// Bytes of the files in a directory (`in_memory` added), and bytes free where it lies.
pub(crate) fn of(directory: &Path, in_memory: u64) -> Result<Usage, StorageError> {
    let told = |error: io::Error| StorageError::Io(format!("{}: {error}", directory.display()));
    let mut used = in_memory;
    for entry in std::fs::read_dir(directory).map_err(told)? {
        match entry.and_then(|entry| entry.metadata()) {
            Ok(metadata) => used += metadata.len(),
            // A compaction may delete a file at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(told(error)),
        }
    }
    let disk = rustix::fs::statvfs(directory).map_err(|errno| told(errno.into()))?;
    Ok(Usage { used, available: disk.f_bavail.saturating_mul(disk.f_frsize) })
}
