//! The side of a group that answers its peers: their calls are handed to openraft, and a state that they send is kept until it is
//! whole.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_runtime::Runtime;
use mainstay_storage::{StateBatch, StorageError};
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::AppendEntriesResponse;
use tokio::sync::Mutex;

use crate::Machine;
use crate::applier::Applier;
use crate::install::{self, Incoming};
use crate::peer::Answer;
use crate::router::{Replica, refused};
use crate::rpc::{self, Append, Appended, Method};
use crate::snapshot::{self, Begin, End, Part};
use crate::types::{Data, Snapshot, SnapshotMeta, Types, Vote};

type Handle<R, M> = Raft<Types<R, <M as Machine>::Reply>, Applier<R, M>>;

/// What peers reach of a group.
pub(crate) struct Peering<R: Runtime, M: Machine> {
    group: u32,
    raft: Handle<R, M>,
    machine: Arc<M>,
    incoming: Arc<Mutex<Option<Incoming>>>,
}

impl<R: Runtime, M: Machine> Clone for Peering<R, M> {
    fn clone(&self) -> Self {
        let Self { group, raft, machine, incoming } = self;
        Self { group: *group, raft: raft.clone(), machine: machine.clone(), incoming: incoming.clone() }
    }
}

/// A refusal's sentence.
fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl<R: Runtime, M: Machine> Replica for Peering<R, M> {
    fn handle(&self, from: u64, method: Method, body: Bytes) -> Answer {
        let own = self.clone();
        match method {
            Method::Append => match Append::decode(body) {
                Ok(append) => Box::pin(own.append(append)),
                Err(error) => refused(error.to_string()),
            },
            Method::Vote | Method::PreVote => Box::pin(own.vote(method, body)),
            Method::TransferLeader => Box::pin(own.transfer(body)),
            Method::SnapshotBegin => Box::pin(own.begin(from, body)),
            Method::SnapshotPart => Box::pin(own.part(from, body)),
            Method::SnapshotEnd => Box::pin(own.end(from, body)),
        }
    }
}

impl<R: Runtime, M: Machine> Peering<R, M> {
    pub fn new(group: u32, raft: Handle<R, M>, machine: Arc<M>) -> Self {
        Self { group, raft, machine, incoming: Arc::default() }
    }

    /// Is with openraft when it was polled once, so that appends reach it in the order in which they came.
    async fn append(self, append: Append) -> Result<Bytes, String> {
        let answer = match self.raft.append_entries(append.into()).await.map_err(said)? {
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => Appended::Done,
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(vote),
        };
        Ok(answer.encode())
    }

    async fn vote(self, method: Method, body: Bytes) -> Result<Bytes, String> {
        let request = rpc::read_vote(body).map_err(said)?;
        let answer = match method {
            Method::PreVote => self.raft.pre_vote(request).await,
            _ => self.raft.vote(request).await,
        };
        Ok(rpc::vote_answer(&answer.map_err(said)?))
    }

    async fn transfer(self, body: Bytes) -> Result<Bytes, String> {
        let request = rpc::read_transfer(body).map_err(said)?;
        let taken = self.raft.handle_transfer_leader(request).await.map_err(said)?;
        let answer: &'static [u8] = if taken.is_ok() { &[rpc::TRANSFER_BEGUN] } else { &[rpc::TRANSFER_REFUSED] };
        Ok(Bytes::from_static(answer))
    }

    /// The vote that this replica holds.
    fn held_vote(&self) -> Vote {
        self.raft.metrics().borrow_watched().vote
    }

    async fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let store = self.machine.range().store;
        R::disk(move || store.write(batch)).await
    }

    async fn begin(self, from: u64, body: Bytes) -> Result<Bytes, String> {
        let Begin { vote, transfer, mark } = Begin::decode(body).map_err(said)?;
        let held = self.held_vote();
        if held > vote {
            return Ok(snapshot::answer(&held));
        }
        // Held while a state is being installed.
        let mut incoming = self.incoming.try_lock().map_err(|_| "another state is being installed".to_owned())?;
        self.write(install::discard(self.group)).await.map_err(said)?;
        *incoming = Some(Incoming::new(from, transfer, mark).map_err(said)?);
        Ok(snapshot::answer(&vote))
    }

    async fn part(self, from: u64, body: Bytes) -> Result<Bytes, String> {
        let part = Part::decode(body).map_err(said)?;
        let mut incoming = self.incoming.lock().await;
        let known = incoming.as_mut().filter(|known| (known.from, known.transfer) == (from, part.transfer));
        let known = known.ok_or_else(|| "a part of another transfer".to_owned())?;
        let batch = known.part(self.group, &self.machine.range(), part).map_err(said)?;
        self.write(batch).await.map_err(said)?;
        Ok(snapshot::answer(&self.held_vote()))
    }

    async fn end(self, from: u64, body: Bytes) -> Result<Bytes, String> {
        let end = End::decode(body).map_err(said)?;
        let mut incoming = self.incoming.lock().await;
        let known = incoming.take().filter(|known| (known.from, known.transfer) == (from, end.transfer));
        let known = known.ok_or_else(|| "the end of another transfer".to_owned())?;
        let staged = known.end(&end).map_err(said)?;
        let mark = known.mark;
        if mark.applied.is_none_or(|applied| applied.leader_id > end.vote.leader_id) {
            return Err("the state is not of this leader's log".into());
        }
        let meta = SnapshotMeta { last_log_id: mark.applied, last_membership: mark.membership };
        // From here on the state must not depend on what is only in memory.
        let store = self.machine.range().store;
        R::disk(move || store.flush()).await.map_err(said)?;
        let accepted = Snapshot { meta, snapshot: Data::Staged(staged) };
        let answer = self.raft.install_full_snapshot(end.vote, accepted).await.map_err(said)?;
        // If it was not newer than the own one, the parts are still there.
        self.write(install::discard(self.group)).await.map_err(said)?;
        Ok(snapshot::answer(&answer.vote))
    }
}
