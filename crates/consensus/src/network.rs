//! The way to a group's peers. There is none yet: a node is alone, and every call answers that the peer cannot be reached.

use std::future::Future;

use mainstay_runtime::Runtime;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::types::{Address, NoData, Snapshot, Types, Vote};

/// Makes the way to a peer.
pub(crate) struct Peers;

/// The way to one peer.
pub(crate) struct Peer {
    id: u64,
    address: Address,
}

impl Peer {
    fn unreachable<R: Runtime, P: Send + Sync + 'static>(&self) -> Unreachable<Types<R, P>> {
        Unreachable::new(&AnyError::error(format!("no way to node {} at {:?}", self.id, self.address.0)))
    }
}

impl<R: Runtime, P: Send + Sync + 'static> RaftNetworkFactory<Types<R, P>> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, id: u64, address: &Address) -> Peer {
        Peer { id, address: address.clone() }
    }
}

impl<R: Runtime, P: Send + Sync + 'static> RaftNetworkV2<Types<R, P>> for Peer {
    type SnapshotData = NoData;

    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types<R, P>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R, P>>, RPCError<Types<R, P>>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(
        &mut self,
        _: VoteRequest<Types<R, P>>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types<R, P>>, RPCError<Types<R, P>>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn pre_vote(
        &mut self,
        _: VoteRequest<Types<R, P>>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types<R, P>>, RPCError<Types<R, P>>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _: Vote,
        _: Snapshot,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types<R, P>>, StreamingError<Types<R, P>>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}
