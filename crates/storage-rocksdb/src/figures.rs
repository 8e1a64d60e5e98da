//! What RocksDB tells of itself: properties that it keeps anyway. Its own statistics stay off, since they cost every read.

use mainstay_storage::StoreFigures;
use rocksdb::{DB, properties};

const FIRST_LEVEL: usize = 0;

/// Reads the properties. One that is not known counts as 0.
pub fn of(db: &DB) -> StoreFigures {
    let number = |name| db.property_int_value(name).ok().flatten().unwrap_or_default();
    let files = db.property_value(properties::num_files_at_level(FIRST_LEVEL)).ok().flatten();
    StoreFigures {
        live_bytes: number(properties::ESTIMATE_LIVE_DATA_SIZE),
        table_bytes: number(properties::TOTAL_SST_FILES_SIZE),
        buffer_bytes: number(properties::CUR_SIZE_ALL_MEM_TABLES),
        cache_bytes: number(properties::BLOCK_CACHE_USAGE),
        cache_pinned_bytes: number(properties::BLOCK_CACHE_PINNED_USAGE),
        cache_capacity_bytes: number(properties::BLOCK_CACHE_CAPACITY),
        readers_bytes: number(properties::ESTIMATE_TABLE_READERS_MEM),
        keys: number(properties::ESTIMATE_NUM_KEYS),
        first_level_files: files.and_then(|text| text.trim().parse().ok()).unwrap_or_default(),
        pending_compaction_bytes: number(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        running_compactions: number(properties::NUM_RUNNING_COMPACTIONS),
        running_flushes: number(properties::NUM_RUNNING_FLUSHES),
        writes_stopped: number(properties::IS_WRITE_STOPPED) != 0,
        delayed_write_rate: number(properties::ACTUAL_DELAYED_WRITE_RATE),
        background_errors: number(properties::BACKGROUND_ERRORS),
    }
}
