//! The deterministic state machine of one shard: entries of its log in, rows of the state store out.
//!
//! It knows keys, the order of entries, the shard's time, and which rows other parts of the server look at (tasks, timers, lists).
//! What a command means is the engine's. It does not know replication, leaders, pollers or clocks: the same entries applied
//! on any store give the same rows, byte for byte.

mod apply;
mod audit;
mod cursor;
mod index;
mod keys;
mod listed;
mod members;
mod moving;
mod ordered;
mod outcomes;
mod overlay;
mod reader;
mod reindex;
mod replicas;
mod serving;
mod splits;
mod walk;

pub use apply::{Applied, Effect, Shard};
pub use cursor::{Cursor, ListPlace, Lists, Section};
pub use index::{ListPosition, ListSpace};
pub use members::{live, working};
pub use moving::Differences;
pub use ordered::{Ordered, OrderedPage, OrderedPosition, PageError, SORTED_MAX, WALKED_MAX};
pub use outcomes::{KEPT_NS, command_id};
pub use replicas::replicas_of;
pub use serving::{Serving, slot_of_row, slot_of_task, slot_of_timer};
pub use splits::{Placement, SPLITS_MAX};

use bytes::Bytes;
use mainstay_engine::Fault;
use mainstay_storage::StorageError;
use prost::Message;

/// A store's failure, as the engine passes it on.
fn fault(error: StorageError) -> Fault {
    Fault(error.to_string())
}

/// Bytes that do not decode.
fn corrupt(what: &str, why: impl std::fmt::Display) -> StorageError {
    StorageError::Corrupt(format!("{what}: {why}"))
}

/// What a row holds.
fn decode<M: Message + Default>(what: &str, value: &[u8]) -> Result<M, StorageError> {
    M::decode(value).map_err(|error| corrupt(what, error))
}

/// As [`decode`], of a row that need not be there.
fn decode_or_default<M: Message + Default>(what: &str, value: Option<Bytes>) -> Result<M, StorageError> {
    value.map_or_else(|| Ok(M::default()), |value| decode(what, &value))
}
