//! Replicas are equal, byte for byte, at equal positions of their log; and once nothing goes on they are at equal positions.

use std::time::Duration;

use mainstay_runtime::AsyncRuntime;
use mainstay_shard::{Shard, replicas_of};
use mainstay_sim_node::SimNode;
use mainstay_sim_runtime::SimRuntime;

use crate::violation::{Invariant, hold, violated};

/// How long replicas may differ after the last command.
const WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until all replicas of every group are at one position, and compares them.
///
/// # Panics
/// If that does not happen, or they differ.
pub async fn check(nodes: &[&SimNode], groups: u32) {
    for group in 0..groups {
        let shards = converge(group, nodes).await;
        let digests: Vec<_> = shards.iter().map(Shard::digest).collect();
        hold(digests.windows(2).all(|pair| pair[0] == pair[1]), Invariant::ReplicasAgree, || {
            format!("group {group} at one position has the digests {digests:?}")
        });
    }
}

async fn converge(group: u32, nodes: &[&SimNode]) -> Vec<Shard> {
    let mut waited = Duration::ZERO;
    loop {
        let holders = holders(group, nodes);
        let shards: Vec<Shard> = holders.iter().map(|node| Shard::new(group, node.disk.state())).collect();
        let positions: Vec<_> = shards.iter().map(Shard::applied).collect();
        if positions.windows(2).all(|pair| pair[0] == pair[1]) {
            return shards;
        }
        if waited > WITHIN {
            violated(Invariant::ReplicasAgree, format!("replicas of group {group} stay apart: {positions:?}"));
        }
        SimRuntime::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}

/// The nodes that have a replica of a group, as the metadata group says by now: in a larger cluster not every one has.
pub fn holders<'a>(group: u32, nodes: &[&'a SimNode]) -> Vec<&'a SimNode> {
    // The metadata group comes first, so any node's record will do.
    let metadata = nodes.first().map(|node| Shard::new(0, node.disk.state()));
    let record = metadata.and_then(|shard| shard.replicas().ok()).unwrap_or_default();
    let known = replicas_of(&record, group);
    nodes.iter().copied().filter(|node| known.is_none_or(|known| known.nodes.contains(&node.id()))).collect()
}
