//! Splits of shards, asked for while all else goes on.

use mainstay_api::admin::SplitShardRequest;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, trace};
use tonic::Code;

use super::Performer;
use crate::client::{CALL_TIMEOUT, call, passing};

impl Performer {
    /// Has a shard split. Another split may be under way: then it is asked for again.
    pub(super) async fn split(&self, shard: u32) -> bool {
        let mut stub = self.client.admin.clone();
        let request = SplitShardRequest { shard };
        match call(CALL_TIMEOUT, request, |it| async move { stub.split_shard(it).await }).await {
            Ok(answer) => {
                trace::event(format!("shard {shard} is to be split: {:?}", answer.split));
                self.ledger.promises().splits.extend(answer.split.map(|split| split.target));
                true
            }
            Err(status) if passing("SplitShard", &status) => {
                // It may be decided until the server gives it up; what is checked at the end must not begin then.
                SimRuntime::sleep(CALL_TIMEOUT).await;
                false
            }
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "a split was refused: {status:?}");
                false
            }
        }
    }
}
