//! A node: shards, consensus, matching, routing and what only a leader remembers. The simulator runs this, whole.
//!
//! A [`Node`] is an object: given a runtime and two stores it starts, serves [`Service`], and stops; nothing of it is global, so that
//! several live in one process and any can be killed and started again on what its stores kept. It knows no gRPC.

mod answer;
mod balancer;
mod batches;
mod board;
mod check;
mod clock;
mod counts;
mod damage;
mod dispatch;
mod execute;
pub mod forming;
mod gather;
mod history;
mod holders;
mod keeper;
mod leadership;
mod list;
mod machine;
pub mod measure;
mod members;
mod membership;
mod namespaces;
mod node;
mod offers;
mod ordered;
mod outbox;
mod owners;
mod pace;
mod placement;
mod poll;
mod queries;
mod query;
mod queues;
mod reads;
mod reclaim;
mod replicas;
mod reserve;
mod route;
mod rows;
mod schedules;
mod serve;
pub mod service;
mod slots;
mod speculative;
mod splits;
mod status;
mod task_queues;
mod timers;
mod update;
mod update_with_start;
mod updates;
mod waits;
mod wire;
mod workers;

pub use forming::Forming;
pub use members::REMOVED;
pub use node::{Clustering, Config, Node, REPLICAS, StartError, Stores};
pub use service::Service;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; what is behind these locks is whole after every statement, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a failed read means for a caller. The store's own words go to the log, not to clients.
fn unreadable(error: impl std::fmt::Display) -> mainstay_engine::Error {
    mainstay_engine::Error::Internal(format!("the shard cannot be read: {error}"))
}
