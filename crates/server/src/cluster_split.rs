//! `cluster split-shard SHARD`: has a new shard take over half of one's slots, and shows how it comes true.
//!
//! The cluster goes on with it by itself; whoever watches may go away.

use mainstay_api::admin::{GetClusterStatusResponse, SplitShardRequest};
use mainstay_api::record::{SplitRecord, split_record::Phase};
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;

use crate::cli::SplitShard;
use crate::{Failure, admin_client, cluster_status};

/// Has a shard split, and waits until it is, or the patience ends.
pub fn run(flags: &SplitShard) -> Result<(), Failure> {
    let mut runtime = TokioRuntime::new(1);
    runtime.block_on(split(flags))
}

async fn split(flags: &SplitShard) -> Result<(), Failure> {
    let mut client = admin_client::connect(&flags.address).await?;
    let decided = client.split_shard(SplitShardRequest { shard: flags.shard }).await;
    let split = decided.map_err(|refusal| refusal.message().to_owned())?.into_inner().split.unwrap_or_default();
    let progress = |status: &GetClusterStatusResponse| {
        let known = status.splits.iter().find(|known| known.target == split.target).unwrap_or(&split);
        (known.phase() == Phase::Done, progress(known))
    };
    cluster_status::follow(&flags.address, flags.wait_s, "mainstay cluster shards", progress).await
}

/// How far a split is, in a line.
pub fn progress(split: &SplitRecord) -> String {
    let SplitRecord { source, target, from, .. } = split;
    let last = split.to.saturating_sub(1);
    match split.phase() {
        Phase::Copying | Phase::Unspecified => {
            format!("slots {from} to {last} are copied from shard {source} to shard {target}")
        }
        Phase::Served => format!("shard {target} serves slots {from} to {last}; shard {source} forgets them"),
        Phase::Done => format!("shard {target} serves slots {from} to {last}"),
    }
}
