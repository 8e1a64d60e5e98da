//! Which nodes have replicas of which shards, as this node knows, and what it does about its own: the state of a shard that is not to have
//! a replica here any more is removed, and made again when it is.
//!
//! Who decides is [`crate::balancer`], who carries it out [`crate::placement`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_api::record::ReplicasRecord;
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::replicas_of;
use tokio::sync::Notify;

use crate::lock;
use crate::node::{METADATA_GROUP, Node};

/// What failed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const IDLE_FOR: Duration = Duration::from_secs(60);

/// The decisions in memory.
#[derive(Default)]
pub(crate) struct Holders {
    known: Mutex<Arc<ReplicasRecord>>,
    /// Rung when they change.
    pub(crate) changed: Notify,
}

impl Holders {
    /// The metadata group's log changed them, or they were read.
    pub(crate) fn applied(&self, record: ReplicasRecord) {
        *lock(&self.known) = Arc::new(record);
        self.changed.notify_waiters();
    }

    pub(crate) fn now(&self) -> Arc<ReplicasRecord> {
        lock(&self.known).clone()
    }
}

impl<R: Runtime> Node<R> {
    /// Whether this node is to have a replica of a group.
    pub(crate) fn holds(&self, group: u32) -> bool {
        group == METADATA_GROUP
            || replicas_of(&self.board().holders.now(), group).is_none_or(|known| known.nodes.contains(&self.id()))
    }

    /// Of a group that has no replica here: who leads it, or knows who does. Another one at each try.
    pub(crate) fn some_holder(&self, group: u32, tries: usize) -> Option<u64> {
        let (holders, cluster) = (self.board().holders.now(), self.board().members.now());
        let nodes = &replicas_of(&holders, group)?.nodes;
        let working = mainstay_shard::working(&cluster).into_iter().map(|member| member.node_id);
        let able: Vec<u64> = working.filter(|id| nodes.contains(id)).collect();
        // It begins with who should lead it.
        able.get((group as usize + tries) % able.len().max(1)).copied()
    }
}

/// Keeps what this node holds as it was decided, for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        let changed = node.board().holders.changed.notified();
        let record = node.board().holders.now();
        let mut rest = IDLE_FOR;
        for (number, group) in (0..).zip(node.groups()) {
            let Some(known) = replicas_of(&record, number) else { continue };
            if known.nodes.contains(&node.id()) {
                group.unpark();
            } else if known.placed && !group.is_parked() {
                // From then on nobody counts on the replica here.
                match group.park().await {
                    Ok(()) => {
                        tracing::info!(component = "replicas", "shard-id" = number, "the replica here was removed");
                    }
                    Err(error) => {
                        tracing::warn!(component = "replicas", "shard-id" = number, %error, "a replica is removed later");
                        rest = RETRY_AFTER;
                    }
                }
            }
        }
        let _woken = node.within(R::Instant::now() + rest, changed).await;
    }
}
