//! What a store tells of itself to people who watch it.

/// How a store stands. What a kind of store does not know is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Bytes of data that are not deleted. An estimate.
    pub live_bytes: u64,
    /// Bytes of table files.
    pub table_bytes: u64,
    /// Bytes in write buffers.
    pub buffer_bytes: u64,
    /// Bytes in the cache of blocks.
    pub cache_bytes: u64,
    /// Bytes of them that cannot be given up now.
    pub cache_pinned_bytes: u64,
    /// Most bytes of that cache.
    pub cache_capacity_bytes: u64,
    /// Bytes in memory for open tables, beside the cache.
    pub readers_bytes: u64,
    /// Keys. An estimate.
    pub keys: u64,
    /// Files of the first level: too many slow writes down.
    pub first_level_files: u64,
    /// Bytes that compaction has yet to write anew. An estimate.
    pub pending_compaction_bytes: u64,
    /// Compactions under way.
    pub running_compactions: u64,
    /// Flushes under way.
    pub running_flushes: u64,
    /// Whether writes wait for compaction.
    pub writes_stopped: bool,
    /// Bytes per second to which writes are slowed down; 0: they are not.
    pub delayed_write_rate: u64,
    /// Failures of work in the background since the store was opened.
    pub background_errors: u64,
}
