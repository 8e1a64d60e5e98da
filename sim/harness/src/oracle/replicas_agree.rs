//! Replicas are equal, byte for byte, at equal positions of their log; and once nothing goes on they are at equal positions.

use std::time::Duration;

use mainstay_runtime::AsyncRuntime;
use mainstay_shard::Shard;
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
        let shards: Vec<Shard> = nodes.iter().map(|node| Shard::new(group, node.disk.state())).collect();
        converge(group, &shards).await;
        let digests: Vec<_> = shards.iter().map(Shard::digest).collect();
        hold(digests.windows(2).all(|pair| pair[0] == pair[1]), Invariant::ReplicasAgree, || {
            format!("group {group} at one position has the digests {digests:?}")
        });
    }
}

async fn converge(group: u32, shards: &[Shard]) {
    let mut waited = Duration::ZERO;
    loop {
        let positions: Vec<_> = shards.iter().map(Shard::applied).collect();
        if positions.windows(2).all(|pair| pair[0] == pair[1]) {
            return;
        }
        if waited > WITHIN {
            violated(Invariant::ReplicasAgree, format!("replicas of group {group} stay apart: {positions:?}"));
        }
        SimRuntime::sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
}
