//! Housekeeping: the state is flushed and the log behind it purged, and the stores' size is watched.
//!
//! A full store is flushed and compacted after everything that was applied meanwhile, so that room which a delete made is seen soon
//! and not when the database would have come to it by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;

use crate::node::Node;

/// How often the stores' size is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Room is looked for at most this often while the stores are full.
const RECLAIM_EVERY: Duration = Duration::from_secs(3);

/// Keeps house for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let mut last_flush = R::Instant::now();
    while !node.is_stopped() {
        if let Err(error) = look(&node).await {
            R::fatal(&format!("the stores' size cannot be told: {error}"));
        }
        let wanted = node.within(R::Instant::now() + LOOK_EVERY, node.board().flush_wanted.notified()).await;
        let full = node.0.room.load(Ordering::Relaxed) <= 0;
        let every = if full { RECLAIM_EVERY } else { node.config().flush_every };
        let due = R::Instant::now() >= last_flush + every;
        if (wanted.is_some() || due) && !node.is_stopped() {
            let flushed = flush(&node).await;
            if full && flushed {
                reclaim(&node).await;
            }
            // Its own length does not count, or a slow disk would do nothing else.
            last_flush = R::Instant::now();
        }
    }
}

/// Sets how much room there is; proposals count down from there until the next look.
async fn look<R: Runtime>(node: &Node<R>) -> Result<(), StorageError> {
    let stores = node.0.stores.clone();
    let (log, state) = R::disk(move || (stores.log.usage(), stores.state.usage())).await;
    let (log, state) = (log?, state?);
    let both = mainstay_storage::Usage {
        used: log.used.saturating_add(state.used),
        available: log.available.min(state.available),
    };
    let room = i64::try_from(node.config().budget.room(both)).unwrap_or(i64::MAX);
    let before = node.0.room.swap(room, Ordering::Relaxed);
    if room <= 0 && before > 0 {
        tracing::warn!(component = "storage", used_bytes = both.used, "the disk is full: new work is refused");
    } else if room > 0 && before <= 0 {
        tracing::info!(component = "storage", room_bytes = room, "there is room on the disk again");
    }
    node.0.used.store(both.used, Ordering::Relaxed);
    Ok(())
}

/// Whether there was anything to flush.
async fn flush<R: Runtime>(node: &Node<R>) -> bool {
    if node.board().unflushed_bytes.swap(0, Ordering::AcqRel) == 0 {
        return false;
    }
    let state = Arc::clone(&node.0.stores.state);
    if let Err(error) = R::disk(move || state.flush()).await {
        R::fatal(&format!("the state cannot be flushed: {error}"));
    }
    for group in node.groups().cloned().collect::<Vec<_>>() {
        // A refused compaction is tried again after the next flush.
        let _compacted = group.compact().await;
    }
    true
}

async fn reclaim<R: Runtime>(node: &Node<R>) {
    let stores = node.0.stores.clone();
    if let Err(error) = R::disk(move || stores.log.reclaim().and_then(|()| stores.state.reclaim())).await {
        R::fatal(&format!("the stores cannot be compacted: {error}"));
    }
}
