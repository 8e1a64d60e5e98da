//! Why a store could not do what it was asked.

/// A failure of the disk or of what is on it. The caller cannot go on as if nothing had happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The medium failed: an I/O error, in the system's words.
    #[error("storage failed: {0}")]
    Io(String),
    /// What was read cannot have been written.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// A log operation that does not follow from what the log holds. It was not written.
    #[error("log of group {group}: {reason}")]
    OutOfOrder {
        /// The group.
        group: u32,
        /// What does not fit.
        reason: String,
    },
    /// The store may not grow by so much. It was not written.
    #[error("the store is full: {used} bytes used, {wanted} more wanted, {room} bytes of room")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes that were to be added.
        wanted: u64,
        /// Bytes that may still be added.
        room: u64,
    },
}
