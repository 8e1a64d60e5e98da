//! Housekeeping: the state is flushed and the log behind it purged, and the stores' size is watched.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;

use crate::node::Node;

/// How often the stores' size is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The state is flushed at least this often while it changes.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// Keeps house for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let mut last_flush = R::Instant::now();
    while !node.is_stopped() {
        if let Err(error) = look(&node).await {
            R::fatal(&format!("the stores' size cannot be told: {error}"));
        }
        let wanted = node.within(R::Instant::now() + LOOK_EVERY, node.board().flush_wanted.notified()).await;
        let due = R::Instant::now() >= last_flush + FLUSH_EVERY;
        if (wanted.is_some() || due) && !node.is_stopped() {
            last_flush = R::Instant::now();
            flush(&node).await;
        }
    }
}

/// Sets whether there is room. A margin keeps it from changing its mind at every write.
async fn look<R: Runtime>(node: &Node<R>) -> Result<(), StorageError> {
    let stores = node.0.stores.clone();
    let (log, state) = R::disk(move || (stores.log.usage(), stores.state.usage())).await;
    let (log, state) = (log?, state?);
    let both = mainstay_storage::Usage {
        used: log.used.saturating_add(state.used),
        available: log.available.min(state.available),
    };
    node.0.full.store(node.config().budget.room(both) == 0, Ordering::Relaxed);
    Ok(())
}

async fn flush<R: Runtime>(node: &Node<R>) {
    if node.board().unflushed_bytes.swap(0, Ordering::AcqRel) == 0 {
        return;
    }
    let state = Arc::clone(&node.0.stores.state);
    if let Err(error) = R::disk(move || state.flush()).await {
        R::fatal(&format!("the state cannot be flushed: {error}"));
    }
    for group in node.groups() {
        // A refused compaction is tried again after the next flush.
        let _compacted = group.compact().await;
    }
}
