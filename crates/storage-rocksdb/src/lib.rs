//! The two stores on RocksDB, as two databases: the log with a write-ahead log that is synced per batch, the state without one,
//! flushed now and then. The only crate that names RocksDB.
//!
//! Both are opened small: a development server keeps a few megabytes resident and grows with its load. Whether a store may grow
//! is not decided here: `usage` tells, and the node refuses commands before the disk refuses the log.

mod figures;
mod log;
mod state;
mod tail;
mod usage;

pub use log::RocksLog;
pub use state::RocksState;

use mainstay_storage::StorageError;

fn failed(error: rocksdb::Error) -> StorageError {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => StorageError::Corrupt(error.into_string()),
        _ => StorageError::Io(error.into_string()),
    }
}

const INFO_LOG_BYTES: usize = 1 << 20;
const MANIFEST_BYTES: usize = 4 << 20;
const OPEN_FILES_MAX: i32 = 256;

/// Options that both databases share: small in memory, quiet on disk.
fn options(write_buffer_bytes: usize) -> rocksdb::Options {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    options.set_write_buffer_size(write_buffer_bytes);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_log_level(rocksdb::LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options.set_max_manifest_file_size(MANIFEST_BYTES);
    options.set_max_open_files(OPEN_FILES_MAX);
    options.set_max_background_jobs(2);
    options
}

/// Bytes of a part of an index or filter.
const PART_BYTES: usize = 4 << 10;

/// One cache of uncompressed blocks, which also holds indexes and filters, so that it bounds what reads keep in memory.
///
/// Indexes and filters are in parts, of which only the list stays in memory. A cache is cut into shards, and a whole index of a large file
/// does not fit one: it would be read and decompressed again for every read.
fn table(cache_bytes: usize) -> rocksdb::BlockBasedOptions {
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_block_cache(&rocksdb::Cache::new_lru_cache(cache_bytes));
    table.set_cache_index_and_filter_blocks(true);
    table.set_index_type(rocksdb::BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(PART_BYTES);
    table.set_pin_top_level_index_and_filter(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table
}
