//! `cluster move-shard SHARD --from NODE --to NODE`: has a replica of a shard move, and shows how it comes true.
//!
//! The cluster goes on with it by itself; whoever watches may go away.

use mainstay_api::admin::{GetClusterStatusResponse, MoveShardRequest};
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;

use crate::cli::MoveShard;
use crate::{Failure, admin_client, cluster_status};

/// Has a replica move, and waits until it has, or the patience ends.
pub fn run(flags: &MoveShard) -> Result<(), Failure> {
    let mut runtime = TokioRuntime::new(1);
    runtime.block_on(move_replica(flags))
}

async fn move_replica(flags: &MoveShard) -> Result<(), Failure> {
    let MoveShard { shard, from, to, address, wait_s } = flags;
    let request = MoveShardRequest { shard: *shard, from: from.clone(), to: to.clone() };
    let decided = admin_client::connect(address).await?.move_shard(request).await;
    let decided = decided.map_err(|refusal| refusal.message().to_owned())?.into_inner().replicas.unwrap_or_default();
    let progress = |status: &GetClusterStatusResponse| {
        let known = status.replicas.iter().find(|known| known.group == decided.group).unwrap_or(&decided);
        let is_done = known.version > decided.version || known.placed;
        let line = if is_done {
            format!("{to} has the replica of shard {shard} that {from} had")
        } else {
            let behind = cluster_status::behind_of(status, to, *shard);
            let behind = behind.map_or("nothing of it yet".to_owned(), |behind| format!("it, {behind} entries behind"));
            format!("the replica of shard {shard} moves from {from} to {to}, which has {behind}")
        };
        (is_done, line)
    };
    cluster_status::follow(address, *wait_s, "mainstay cluster shards", progress).await
}
