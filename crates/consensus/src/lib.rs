//! Raft, by openraft, behind a small seam: a node's groups propose bytes, and each group's [`Machine`] applies what was committed.
//!
//! All groups of a node share one [`Log`], whose writer makes one batch and one sync of what they queue. This crate knows how entries
//! are stored and when they are durable; it knows nothing of what they mean, and of the world only what
//! [`mainstay_runtime::Runtime`] offers. Replicas of a group on other nodes are reached through [`Peers`], which the node uses, too;
//! a group that is started without them is alone for ever.

mod applier;
mod clock;
mod codec;
mod config;
mod digests;
mod error;
mod fence;
mod group;
mod group_log;
mod health;
mod install;
mod leadership;
mod log;
mod machine;
mod measure;
mod members;
mod network;
mod park;
pub mod parsers;
pub mod peer;
mod queue;
mod quiet;
mod reads;
mod replica;
mod router;
mod rpc;
mod snapshot;
mod tail;
mod trace;
mod types;

pub use config::Config;
pub use digests::Comparison;
pub use error::Error;
pub use group::{Group, Metrics};
pub use leadership::Leadership;
pub use log::{Log, LogFigures};
pub use machine::{Entry, Machine, StateRange};
pub use members::{Members, Positions};
pub use peer::{Handler, PeerError, Peers};

use mainstay_storage::StorageError;

/// The index of the last entry applied, as a [`Machine`]'s mark says.
///
/// # Errors
/// If the mark cannot be read.
pub fn index_of_mark(mark: bytes::Bytes) -> Result<Option<u64>, StorageError> {
    Ok(codec::read_mark(mark)?.applied.map(|applied| applied.index))
}
