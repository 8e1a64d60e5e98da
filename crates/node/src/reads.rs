//! Reads of replicas that this node does not lead, as good as the leader's own: the leader says how far the log was committed when it
//! was asked, and the read waits until the replica here is as far.
//!
//! So lists, which read all shards, need no other node to read for them.

use std::time::Duration;

use mainstay_api::peer::{Empty, ReadIndex, call};
use mainstay_engine::{EntityKey, Error};
use mainstay_runtime::{Instant, Runtime};

use crate::node::{METADATA_GROUP, Node};
use crate::slots::Place;

/// How long a replica may take to catch up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(2);

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
        let asked = || call::Call::ReadIndex(Empty {});
        let here = || -> crate::route::Here<'_, ReadIndex> {
            Box::pin(async move { Ok(ReadIndex { index: self.applied(group)? }) })
        };
        while self.group(group).is_err() && group <= self.board().slots.placement().shards() && !self.is_stopped() {
            R::sleep(LOOK_EVERY).await;
        }
        let index = self.read_at_leader(group, Duration::ZERO, asked, here).await?.index;
        let deadline = R::Instant::now() + CAUGHT_UP_WITHIN;
        while self.applied(group)? < index || self.is_fenced(group) {
            if R::Instant::now() >= deadline {
                return Err(Error::Unavailable(format!("the replica of shard {group} here is behind; try again")));
            }
            R::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// The same for the shard of one entity.
    pub(crate) async fn catch_up_entity(&self, namespace_id: &str, entity_id: String) -> Result<(), Error> {
        let entity = EntityKey { namespace_id: namespace_id.to_string(), workflow_id: entity_id };
        loop {
            let group = self.route(&entity);
            self.catch_up(group).await?;
            // A split may have gone on meanwhile.
            let place = Place::of(&entity);
            if self.route(&entity) == group && !self.is_on_its_way(place, group) {
                return Ok(());
            }
            R::sleep(LOOK_EVERY).await;
        }
    }

    /// The same for all shards.
    pub(crate) async fn catch_up_all(&self) -> Result<(), Error> {
        if self.is_alone() {
            return Ok(());
        }
        let mut asked = Vec::new();
        // First the table: a shard that is not in it yet has served nothing before this call.
        self.catch_up(METADATA_GROUP).await?;
        for group in self.serving_groups() {
            let node = self.clone();
            asked.push(R::spawn(async move { node.catch_up(group).await }));
        }
        for one in asked {
            one.await.unwrap_or_else(|_| Err(Error::Unavailable("a shard was not asked".into())))?;
        }
        Ok(())
    }
}
