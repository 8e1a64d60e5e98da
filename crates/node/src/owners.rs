//! Which node owns a task queue: a function of the live and wanted members alone, so that all nodes with the same epoch agree.
//!
//! The owner is the live node with the highest hash of node and queue, so that a node that comes or goes moves only its own queues.
//! A node that is alone owns all, and pays nothing for the question.

use mainstay_api::record::ClusterRecord;
use mainstay_base::Slot;
use mainstay_matching::QueueKey;

/// The live members, as one node knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners {
    /// Of the record that this was made of; 0 before there is one.
    pub(crate) epoch: u64,
    me: u64,
    live: Vec<u64>,
}

impl Owners {
    /// This node owns everything.
    pub(crate) fn alone(me: u64) -> Self {
        Self { epoch: 0, me, live: Vec::new() }
    }

    pub(crate) fn new(me: u64, cluster: &ClusterRecord) -> Self {
        let live = mainstay_shard::working(cluster).into_iter().map(|member| member.node_id).collect();
        Self { epoch: cluster.epoch, me, live }
    }

    /// The node that matches a queue's tasks with its pollers.
    pub(crate) fn of(&self, queue: &QueueKey) -> u64 {
        if self.live.is_empty() {
            return self.me;
        }
        let slot = u64::from(Slot::of(&queue.namespace_id, &queue.name).get());
        self.live.iter().copied().max_by_key(|node| mix(slot, *node)).unwrap_or(self.me)
    }

    pub(crate) fn is_mine(&self, queue: &QueueKey) -> bool {
        self.of(queue) == self.me
    }

    pub(crate) fn me(&self) -> u64 {
        self.me
    }
}

/// SplitMix64's finisher over both numbers.
fn mix(slot: u64, node: u64) -> u64 {
    let mut mixed = node ^ slot.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_api::record::MemberRecord;
    use mainstay_matching::QueueKind;

    fn owners(live: &[u64]) -> Owners {
        let members = live.iter().map(|id| MemberRecord { node_id: *id, alive: true, ..MemberRecord::default() });
        Owners::new(11, &ClusterRecord { epoch: 1, members: members.collect() })
    }

    #[test]
    fn a_node_that_goes_moves_only_its_own_queues() {
        let (before, after) = (owners(&[11, 22, 33]), owners(&[11, 33]));
        let mut share = 0;
        for number in 0..300 {
            let queue = QueueKey { namespace_id: "n".into(), name: format!("q{number}"), kind: QueueKind::Workflow };
            let owner = before.of(&queue);
            share += u32::from(owner == 22);
            assert!(owner == 22 || after.of(&queue) == owner);
        }
        assert!((60..140).contains(&share), "{share} of 300");
    }
}
