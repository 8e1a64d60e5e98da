//! Every limit that a client can meet, with Temporal's default values and their relations checked at compile time.

/// Largest gRPC message accepted from a client, in bytes.
pub const GRPC_MESSAGE_SIZE_MAX: usize = 4 << 20;
/// Largest payload, failure or other blob, in bytes.
pub const BLOB_SIZE_MAX: usize = 2 << 20;
/// Largest memo, in bytes.
pub const MEMO_SIZE_MAX: usize = 2 << 20;
/// Longest id or name, in characters.
pub const ID_LENGTH_MAX: usize = 1_000;
/// Events of one run before the server terminates it.
pub const HISTORY_COUNT_MAX: i64 = 51_200;
/// Bytes of history of one run before the server terminates it.
pub const HISTORY_SIZE_MAX: i64 = 50 << 20;
/// Bytes of what one run keeps besides its history (buffered events, large heartbeat details) before the server terminates it.
pub const STATE_SIZE_MAX: i64 = 8 << 20;
/// Bytes of events that one completion of a workflow task may write.
pub const TRANSACTION_SIZE_MAX: usize = 4 << 20;
/// Events from which a worker is told to continue as new.
pub const HISTORY_COUNT_SUGGEST: i64 = 4_096;
/// Bytes of history from which a worker is told to continue as new.
pub const HISTORY_SIZE_SUGGEST: i64 = 4 << 20;
/// Events (rounded up to whole batches) in one page of history.
pub const HISTORY_PAGE_MAX: usize = 256;
/// Pending activities, children, external signals or external cancels of one run, each.
pub const PENDING_MAX: usize = 2_000;
/// Signals that one run accepts.
pub const SIGNALS_MAX: i64 = 10_000;
/// Events buffered behind a started workflow task.
pub const BUFFERED_EVENTS_MAX: usize = 100;
/// Bytes of events buffered behind a started workflow task.
pub const BUFFERED_BYTES_MAX: usize = 2 << 20;
/// Updates of one run that are admitted and not completed.
pub const UPDATES_IN_FLIGHT_MAX: usize = 10;
/// Bytes of the requests of a run's updates in flight.
pub const UPDATES_IN_FLIGHT_BYTES_MAX: usize = 20 << 20;
/// Updates that one run accepts in its life.
pub const UPDATES_MAX: usize = 2_000;
/// Updates from which a worker is told to continue as new.
pub const UPDATES_SUGGEST: usize = 1_800;
/// Events that a worker may have seen with a speculative workflow task that is dropped, if it says that it can go back.
pub const SPECULATIVE_EVENTS_MAX: i64 = 10;

const _: () = assert!(UPDATES_SUGGEST < UPDATES_MAX);
const _: () = assert!(BLOB_SIZE_MAX < GRPC_MESSAGE_SIZE_MAX);
const _: () = assert!(HISTORY_COUNT_SUGGEST < HISTORY_COUNT_MAX);
const _: () = assert!(HISTORY_SIZE_SUGGEST < HISTORY_SIZE_MAX);
