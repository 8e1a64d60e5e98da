//! Reads of replicas that this node does not lead, as good as the leader's own: the leader says how far the log was committed when it
//! was asked, and the read waits until the replica here is as far.
//!
//! So lists, which read all shards, need no other node to read for them, but for shards that have no replica here ([`crate::gather`]).

use std::time::Duration;

use mainstay_api::peer::{Empty, ReadIndex, call};
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime};

use crate::node::Node;

/// How long a replica may take to catch up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Entries that a replica may miss and still be waited for.
const LAG_MAX: u64 = 1_000;

impl<R: Runtime> Node<R> {
    /// The last index of a group that is applied here.
    pub(crate) fn applied(&self, group: u32) -> Result<u64, Error> {
        Ok(self.group(group)?.metrics().applied.unwrap_or_default())
    }

    /// Returns when the replica here has everything that was committed before the call.
    pub(crate) async fn catch_up(&self, group: u32) -> Result<(), Error> {
        if self.is_alone() {
            return Ok(());
        }
        while self.group(group).is_err() && group <= self.board().slots.placement().shards() && !self.is_stopped() {
            R::sleep(LOOK_EVERY).await;
        }
        if self.await_applied(group, self.committed_at_leader(group).await?).await? {
            return Ok(());
        }
        Err(Error::Unavailable(format!("the replica of shard {group} here is behind; try again")))
    }

    /// How far the log of a group is committed, as its leader says now.
    async fn committed_at_leader(&self, group: u32) -> Result<u64, Error> {
        let asked = || call::Call::ReadIndex(Empty {});
        let here = || -> crate::route::Here<'_, ReadIndex> {
            Box::pin(async move { Ok(ReadIndex { index: self.applied(group)? }) })
        };
        Ok(self.read_at_leader(group, Duration::ZERO, asked, here).await?.index)
    }

    /// Waits until the replica here is as far; answers whether it was in time.
    async fn await_applied(&self, group: u32, index: u64) -> Result<bool, Error> {
        let deadline = R::Instant::now() + CAUGHT_UP_WITHIN;
        while self.applied(group)? < index || self.is_fenced(group) {
            if R::Instant::now() >= deadline || !self.holds(group) {
                return Ok(false);
            }
            R::sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    /// Whether the replica of a group here has everything that was committed before the call; it is waited for if it is near. Else
    /// the group's leader is to be asked.
    pub(crate) async fn is_at_hand(&self, group: u32) -> Result<bool, Error> {
        if !self.holds(group) || self.group(group).is_err() {
            return Ok(false);
        }
        let index = self.committed_at_leader(group).await?;
        let is_near = |at: u64| at + LAG_MAX >= index;
        if !is_near(self.applied(group)?) || self.is_fenced(group) {
            return Ok(false);
        }
        self.await_applied(group, index).await
    }
}
