//! The way to a group's peers as openraft wants it: its calls become messages of the node's [`Peers`].
//!
//! Appends are pipelined: several are on their way to a peer at one time, in order, and are answered in order. A peer that is too
//! far behind gets the state instead of entries, see [`crate::snapshot`].
//!
//! A peer that does not have what it acknowledged to this very leader has lost its log. openraft takes that for impossible; so it
//! is not told, and the peer counts as unreachable until it joins anew.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use mainstay_runtime::{Runtime, Select2, select2};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use crate::Machine;
use crate::peer::{PeerError, Peers, RAFT_SERVICE};
use crate::rpc::{self, Append, Appended, Method};
use crate::snapshot::{Outgoing, Transfers};
use crate::types::{Address, Data, LeaderId, LogId, Snapshot, Types, Vote};

/// Appends on their way to one peer.
const PIPELINE: usize = 8;
/// An append that is not answered in this time is given up; the entries are sent again. Longer than a slow disk needs.
const APPEND_WITHIN: Duration = Duration::from_secs(3);

/// Makes the way to a peer.
pub(crate) struct Network<R: Runtime, M> {
    pub group: u32,
    /// None for a group that is alone for ever.
    pub peers: Option<Peers<R>>,
    pub machine: Arc<M>,
    pub transfers: Arc<Transfers>,
    pub snapshot_bytes_per_second: u64,
    /// By node.
    pub acknowledged: BTreeMap<u64, Arc<Acknowledged>>,
}

/// The last entry that a peer acknowledged to a leader, which is this node in one of its terms.
#[derive(Default)]
pub(crate) struct Acknowledged(Mutex<Option<(LeaderId, Option<LogId>)>>);

impl Acknowledged {
    fn with<T>(&self, leader: LeaderId, look: impl FnOnce(&mut Option<LogId>) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|(of, _)| of != leader) {
            *known = Some((leader, None));
        }
        look(known.as_mut().map_or(&mut None, |(_, last)| last))
    }

    fn add(&self, leader: LeaderId, entry: Option<LogId>) {
        self.with(leader, |last| *last = entry.max(*last));
    }

    /// Whether an entry was acknowledged, so that its lack means that it was lost.
    fn has(&self, leader: LeaderId, entry: LogId) -> bool {
        self.with(leader, |last| *last >= Some(entry))
    }
}

/// The way to one peer.
pub(crate) struct Peer<R: Runtime, M> {
    id: u64,
    group: u32,
    peers: Option<Peers<R>>,
    machine: Arc<M>,
    transfers: Arc<Transfers>,
    snapshot_bytes_per_second: u64,
    acknowledged: Arc<Acknowledged>,
}

/// What came of an append.
type AppendOutcome<C> = Result<StreamAppendResult<C>, RPCError<C>>;
type T<R, M> = Types<R, <M as Machine>::Reply>;

impl<R: Runtime, M: Machine> RaftNetworkFactory<T<R, M>> for Network<R, M> {
    type Network = Peer<R, M>;

    async fn new_client(&mut self, id: u64, address: &Address) -> Peer<R, M> {
        if let Some(peers) = &self.peers
            && peers.address(id).is_none()
            && !address.0.is_empty()
        {
            peers.set_address(id, address.0.clone());
        }
        Peer {
            id,
            group: self.group,
            peers: self.peers.clone(),
            machine: self.machine.clone(),
            transfers: self.transfers.clone(),
            snapshot_bytes_per_second: self.snapshot_bytes_per_second,
            acknowledged: self.acknowledged.entry(id).or_default().clone(),
        }
    }
}

/// A failed call as openraft sees it: it waits before it tries an unreachable peer again, and not after another failure.
pub(crate) fn failed<R: Runtime, P: Send + Sync + 'static>(error: &PeerError) -> RPCError<Types<R, P>> {
    let text = AnyError::error(error.to_string());
    match error {
        PeerError::TimedOut => RPCError::Network(NetworkError::new(&text)),
        PeerError::Unreachable(_) | PeerError::Lost(_) | PeerError::Refused(_) => {
            RPCError::Unreachable(Unreachable::new(&text))
        }
    }
}

async fn call<R: Runtime>(
    peers: Option<Peers<R>>,
    node: u64,
    message: Bytes,
    within: Duration,
) -> Result<Bytes, PeerError> {
    match peers {
        Some(peers) => peers.call(node, RAFT_SERVICE, message, within).await,
        None => Err(PeerError::Unreachable("the group has no way to peers".into())),
    }
}

/// An answer that cannot be read.
fn garbled<R: Runtime, P: Send + Sync + 'static>(error: impl std::error::Error) -> RPCError<Types<R, P>> {
    RPCError::Network(NetworkError::new(&AnyError::error(error.to_string())))
}

impl<R: Runtime, M: Machine> Peer<R, M> {
    /// Sends an append; the future owns all that it needs. It is queued when it is first polled.
    fn append(
        &self,
        request: AppendEntriesRequest<T<R, M>>,
    ) -> impl Future<Output = AppendOutcome<T<R, M>>> + Send + use<R, M> {
        let (peers, node, group) = (self.peers.clone(), self.id, self.group);
        let acknowledged = self.acknowledged.clone();
        async move {
            let append = Append::from(request);
            let last = append.entries.last().map(|entry| entry.log_id).or(append.prev);
            let answer = call(peers, node, append.encode(group), APPEND_WITHIN).await;
            let answer = answer.map_err(|error| failed(&error))?;
            Ok(match Appended::decode(answer).map_err(garbled)? {
                Appended::Done => {
                    acknowledged.add(append.vote.leader_id, last);
                    Ok(last)
                }
                Appended::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
                Appended::Conflict => match append.prev {
                    Some(prev) if acknowledged.has(append.vote.leader_id, prev) => {
                        let lost = format!("node {node} has lost entries that it acknowledged; it must join anew");
                        return Err(RPCError::Unreachable(Unreachable::new(&AnyError::error(lost))));
                    }
                    Some(prev) => Err(StreamAppendError::Conflict(prev)),
                    None => return Err(garbled(std::io::Error::other("a conflict before the first entry"))),
                },
            })
        }
    }

    async fn ask(&self, message: Bytes, option: &RPCOption) -> Result<Bytes, RPCError<T<R, M>>> {
        let answer = call(self.peers.clone(), self.id, message, option.soft_ttl()).await;
        answer.map_err(|error| failed(&error))
    }

    async fn ask_vote(
        &self,
        method: Method,
        request: VoteRequest<T<R, M>>,
        option: &RPCOption,
    ) -> Result<VoteResponse<T<R, M>>, RPCError<T<R, M>>> {
        let answer = self.ask(rpc::vote(self.group, method, &request), option).await?;
        rpc::read_vote_answer(answer).map_err(garbled)
    }
}

impl<R: Runtime, M: Machine> RaftNetworkV2<T<R, M>> for Peer<R, M> {
    type SnapshotData = Data;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<T<R, M>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<T<R, M>>, RPCError<T<R, M>>> {
        Ok(self.append(request).await?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<T<R, M>>, RPCError<T<R, M>>>>, RPCError<T<R, M>>>>
    where
        S: Stream<Item = AppendEntriesRequest<T<R, M>>> + OptionalSend + Unpin + 'static,
    {
        let peer = &*self;
        let answers = input.map(move |request| peer.append(request)).buffered(PIPELINE);
        Box::pin(async move { Ok(Box::pin(answers) as BoxStream<'s, _>) })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<T<R, M>>,
        option: RPCOption,
    ) -> Result<VoteResponse<T<R, M>>, RPCError<T<R, M>>> {
        self.ask_vote(Method::Vote, request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<T<R, M>>,
        option: RPCOption,
    ) -> Result<VoteResponse<T<R, M>>, RPCError<T<R, M>>> {
        self.ask_vote(Method::PreVote, request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<T<R, M>>, StreamingError<T<R, M>>> {
        let Some(peers) = self.peers.clone() else {
            let none = AnyError::error("the group has no way to peers");
            return Err(StreamingError::Unreachable(Unreachable::new(&none)));
        };
        let outgoing = Outgoing {
            group: self.group,
            node: self.id,
            peers,
            machine: self.machine.clone(),
            transfers: self.transfers.clone(),
            bytes_per_second: self.snapshot_bytes_per_second,
            transfer: R::random() as u64,
        };
        match select2(cancel, outgoing.send(vote)).await {
            Select2::First(closed) => Err(StreamingError::Closed(closed)),
            Select2::Second(Ok(vote)) => Ok(SnapshotResponse::new(vote)),
            Select2::Second(Err(error)) => {
                Err(StreamingError::Unreachable(Unreachable::new(&AnyError::error(error.to_string()))))
            }
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<T<R, M>>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<T<R, M>>, RPCError<T<R, M>>> {
        let message = rpc::transfer(self.group, &request);
        let answer = call(self.peers.clone(), self.id, message, APPEND_WITHIN).await.map_err(|error| failed(&error))?;
        match answer.first() {
            Some(&rpc::TRANSFER_BEGUN) => Ok(Ok(())),
            Some(_) => {
                Ok(Err(TransferLeaderError::LogNotFlushed { expected: request.last_log_id().copied(), actual: None }))
            }
            None => Err(garbled(std::io::Error::other("an empty answer"))),
        }
    }
}
