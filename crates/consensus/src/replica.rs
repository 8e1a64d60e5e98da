//! The side of a group that answers its peers: their calls are handed to openraft, and a state that they send is kept until it is
//! whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::{StateBatch, StorageError};
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesResponse, VoteResponse};
use tokio::sync::Mutex;

use crate::Machine;
use crate::applier::Applier;
use crate::clock::{self, Lost, Pace, Pulse};
use crate::codec::{Input, Mark};
use crate::digests::{self, Digests};
use crate::fence::Fence;
use crate::group::Inner;
use crate::install::{self, Incoming, Staged};
use crate::leadership::Changes;
use crate::members::alone;
use crate::peer::{Answer, Peers, WeakPeers};
use crate::quiet::{Offer, Quiet};
use crate::router::{Replica, refused};
use crate::rpc::{self, Append, Appended, Method};
use crate::snapshot::{self, Begin, End, Outgoing, Part, Transfers};
use crate::types::{Data, Snapshot, SnapshotMeta, Types, Vote};

/// How long a fenced replica waits until it knows that a state it was sent is committed.
const COMMITTED_WITHIN: Duration = Duration::from_secs(10);

type Handle<R, M> = Raft<Types<R, <M as Machine>::Reply>, Applier<R, M>>;

/// What peers reach of a group.
pub(crate) struct Peering<R: Runtime, M: Machine> {
    group: u32,
    raft: Handle<R, M>,
    machine: Arc<M>,
    changes: Arc<Changes>,
    quiet: Arc<Quiet<R>>,
    quiet_after: Option<Duration>,
    pace: Pace,
    pulse: Arc<Pulse<R>>,
    incoming: Arc<Mutex<Option<Incoming>>>,
    fence: Arc<Fence>,
    digests: Arc<Digests>,
    /// Weak: the peers' router holds this.
    peers: Option<WeakPeers<R>>,
    transfers: Arc<Transfers>,
    snapshot_bytes_per_second: u64,
}

impl<R: Runtime, M: Machine> Clone for Peering<R, M> {
    fn clone(&self) -> Self {
        let Self { group, raft, machine, changes, quiet, quiet_after, pace, pulse, incoming, .. } = self;
        Self {
            fence: self.fence.clone(),
            digests: self.digests.clone(),
            peers: self.peers.clone(),
            transfers: self.transfers.clone(),
            snapshot_bytes_per_second: self.snapshot_bytes_per_second,
            group: *group,
            raft: raft.clone(),
            machine: machine.clone(),
            changes: changes.clone(),
            quiet: quiet.clone(),
            quiet_after: *quiet_after,
            pace: *pace,
            pulse: pulse.clone(),
            incoming: incoming.clone(),
        }
    }
}

/// What a look at a replica finds.
enum Due {
    Nothing,
    Heartbeat,
    Election,
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
            Method::SendState => Box::pin(own.send_state(from, body)),
            Method::Digest => Box::pin(async move {
                let index = digests::read_question(body).map_err(said)?;
                Ok(digests::answer(own.digests.at(index)))
            }),
            Method::Doubt => Box::pin(async move { own.doubt(body) }),
            Method::Quiet => refused("offers to be quiet concern no single group"),
        }
    }

    fn offer(&self) -> Option<(Offer, Vec<u64>)> {
        let after = self.quiet_after?;
        if !self.quiet.is_idle(after) {
            return None;
        }
        let receiver = self.raft.metrics();
        let metrics = receiver.borrow_watched();
        let term = metrics.current_term;
        let last = metrics.last_log_index?;
        let applied = metrics.last_applied.filter(|applied| applied.index == last)?;
        let settled = metrics.state.is_leader()
            && !self.quiet.has_ceded(term)
            && self.changes.applied_term() == term
            && metrics.membership_config == metrics.committed_membership_config;
        let matched = metrics.replication.as_ref()?;
        let members: Vec<u64> =
            metrics.membership_config.membership().nodes().map(|(id, _)| *id).filter(|id| *id != metrics.id).collect();
        let all = members.iter().all(|id| matched.get(id).is_some_and(|matched| *matched == Some(applied)));
        (settled && all && !members.is_empty()).then_some((Offer { group: self.group, term, last }, members))
    }

    fn settle(&self, offer: Offer, agreed: bool) {
        let still = self.quiet_after.is_some_and(|after| self.quiet.is_idle(after)) && {
            let receiver = self.raft.metrics();
            let metrics = receiver.borrow_watched();
            let now = (metrics.current_term, metrics.last_log_index);
            metrics.state.is_leader() && now == (offer.term, Some(offer.last))
        };
        if agreed && still {
            self.quiet.sleep();
        } else if self.quiet.wake() {
            // The others' agreement runs out.
            self.bring_about(Due::Heartbeat);
        }
    }

    fn hear(&self, from: u64, offer: Offer) -> bool {
        let agrees = {
            let receiver = self.raft.metrics();
            let metrics = receiver.borrow_watched();
            let follows = metrics.vote.committed
                && (metrics.vote.leader_id.node_id, metrics.vote.leader_id.term) == (from, offer.term);
            let applied = metrics.last_applied.map(|applied| applied.index);
            follows && metrics.last_log_index == Some(offer.last) && applied == Some(offer.last)
        };
        if agrees {
            self.pulse.hear();
            self.quiet.sleep();
        }
        agrees
    }

    fn suspect(&self) {
        if self.quiet.is_orphaned() {
            self.quiet.wake();
        }
    }

    fn look(&self, lost: &[Lost]) -> bool {
        // Most groups, most of the time; there may be hundreds.
        if lost.is_empty() && self.quiet.is_asleep() {
            return false;
        }
        let due = {
            let receiver = self.raft.server_metrics();
            let metrics = receiver.borrow_watched();
            let members = metrics.membership_config.membership();
            let votes = members.voter_ids().any(|id| id == metrics.id);
            // Who is fenced lets all others go first.
            let fenced = self.fence.is_up();
            let more = if fenced { 4 * self.pace.patience.1 } else { Duration::ZERO };
            let lost = lost.iter().find(|(node, _)| *node == metrics.vote.leader_id.node_id && metrics.vote.committed);
            let past_lease = lost.and_then(|(_, silent)| silent.checked_sub(self.pace.lease));
            let is_turn = |past| {
                let leader = metrics.vote.leader_id.node_id;
                clock::is_turn(self.group, metrics.id, leader, members.voter_ids(), past)
            };
            let asleep = self.quiet.is_asleep();
            if alone(metrics.id, members) || members.nodes().next().is_none() || self.fence.is_parked() {
                return false;
            } else if votes && !fenced && past_lease.is_some_and(is_turn) && self.pulse.may_stand(self.pace) {
                Due::Election
            } else if asleep {
                return false;
            } else if metrics.state.is_leader() {
                if self.pulse.owes_heartbeat(self.pace, self.quiet.active()) { Due::Heartbeat } else { Due::Nothing }
            } else if votes && self.pulse.gives_up(self.pace, more) {
                Due::Election
            } else {
                Due::Nothing
            }
        };
        self.bring_about(due);
        true
    }
}

impl<R: Runtime, M: Machine> Peering<R, M> {
    pub fn of(inner: &Inner<R, M>) -> Self {
        Self {
            group: inner.log.id(),
            raft: inner.raft.clone(),
            machine: inner.machine.clone(),
            changes: inner.changes.clone(),
            quiet: inner.quiet.clone(),
            quiet_after: inner.config.quiet_after,
            pace: Pace {
                heartbeat: inner.config.heartbeat,
                lease: inner.config.election.1,
                patience: inner.config.election,
            },
            pulse: Arc::new(Pulse::new()),
            incoming: Arc::default(),
            fence: inner.fence.clone(),
            digests: inner.digests.clone(),
            peers: inner.peers.as_ref().map(Peers::downgrade),
            transfers: inner.transfers.clone(),
            snapshot_bytes_per_second: inner.config.snapshot_bytes_per_second,
        }
    }

    fn bring_about(&self, due: Due) {
        let raft = self.raft.clone();
        // If the group has stopped, nobody needs either.
        match due {
            Due::Nothing => {}
            Due::Heartbeat => drop(R::spawn(async move { raft.trigger().heartbeat().await.is_ok() })),
            Due::Election => {
                self.quiet.wake();
                drop(R::spawn(async move { raft.trigger().elect(true).await.is_ok() }));
            }
        }
    }

    /// Is with openraft when it was polled once, so that appends reach it in the order in which they came.
    async fn append(self, append: Append) -> Result<Bytes, String> {
        // Heard when it comes: the answer may have to wait for the disk.
        if append.vote.leader_id >= self.held_vote().leader_id {
            self.pulse.hear();
        }
        if !append.entries.is_empty() && self.quiet.is_asleep() {
            self.quiet.wake();
        }
        let answer = match self.raft.append_entries(append.into()).await.map_err(said)? {
            AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => Appended::Done,
            AppendEntriesResponse::Conflict => Appended::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(vote),
        };
        Ok(answer.encode())
    }

    async fn vote(self, method: Method, body: Bytes) -> Result<Bytes, String> {
        let request = rpc::read_vote::<R, M::Reply>(body).map_err(said)?;
        if self.quiet.is_covered() && !request.leadership_transfer {
            // A leader that is quiet lives: it has no lease, but its node was heard.
            return Ok(rpc::vote_answer(&VoteResponse::<Types<R, M::Reply>>::new(self.held_vote(), None, false)));
        }
        let answer = match method {
            Method::PreVote => self.raft.pre_vote(request).await,
            _ => self.raft.vote(request).await,
        };
        let answer = answer.map_err(said)?;
        if method == Method::Vote && answer.vote_granted {
            self.pulse.hear();
        }
        Ok(rpc::vote_answer(&answer))
    }

    async fn transfer(self, body: Bytes) -> Result<Bytes, String> {
        let request = rpc::read_transfer(body).map_err(said)?;
        if self.fence.is_up() {
            return Ok(Bytes::from_static(&[rpc::TRANSFER_REFUSED]));
        }
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
        // From here on the state must not depend on what is only in memory.
        let store = self.machine.range().store;
        R::disk(move || store.flush()).await.map_err(said)?;
        if self.fence.awaits(end.transfer) {
            self.rebuild(staged, mark).await?;
            return Ok(snapshot::answer(&self.held_vote()));
        }
        let meta = SnapshotMeta { last_log_id: mark.applied, last_membership: mark.membership };
        let accepted = Snapshot { meta, snapshot: Data::Staged(staged) };
        let answer = self.raft.install_full_snapshot(end.vote, accepted).await.map_err(said)?;
        // If it was not newer than the own one, the parts are still there.
        self.write(install::discard(self.group)).await.map_err(said)?;
        Ok(snapshot::answer(&answer.vote))
    }

    /// As the leader: sends the state to a fenced replica, under the number that it asked for. Answers when it is there.
    async fn send_state(self, from: u64, body: Bytes) -> Result<Bytes, String> {
        let transfer = Input::raw(body, "request for a state").u64().map_err(said)?;
        let vote = self.held_vote();
        let leads = self.raft.is_leader() && self.changes.applied_term() == vote.leader_id.term;
        let peers = self.peers.as_ref().and_then(WeakPeers::upgrade).filter(|_| leads && !self.fence.is_up());
        let peers = peers.ok_or_else(|| "this node does not lead the group".to_owned())?;
        if !self.raft.metrics().borrow_watched().membership_config.membership().nodes().any(|(id, _)| *id == from) {
            return Err(format!("node {from} is no member of the group yet"));
        }
        if self.transfers.has(from) {
            return Err("a state is on its way".into());
        }
        let (machine, transfers) = (self.machine.clone(), self.transfers.clone());
        let bytes_per_second = self.snapshot_bytes_per_second;
        let outgoing =
            Outgoing { group: self.group, node: from, peers, machine, transfers, bytes_per_second, transfer };
        outgoing.send(vote).await.map_err(said)?;
        Ok(Bytes::new())
    }

    /// Puts the state that this fenced replica asked for in the place of its own.
    async fn rebuild(&self, staged: Staged, mark: Mark) -> Result<(), String> {
        let wanted = mark.applied.map(|applied| applied.index);
        let deadline = R::Instant::now() + COMMITTED_WITHIN;
        // The state must not be ahead of what is known here to be committed.
        while self.raft.metrics().borrow_watched().last_applied.map(|applied| applied.index) < wanted {
            if R::Instant::now() >= deadline {
                return Err("the log here is behind the state".into());
            }
            R::sleep(Duration::from_millis(20)).await;
        }
        let rebuilt = self.raft.with_state_machine(move |applier| Box::pin(applier.rebuild(staged, mark))).await;
        rebuilt.map_err(said)?.map_err(said)
    }

    /// Most replicas have another digest at a checkpoint.
    fn doubt(&self, body: Bytes) -> Result<Bytes, String> {
        let (index, digest) = digests::read_doubt(body).map_err(said)?;
        if self.digests.at(index).is_some_and(|own| own != digest) {
            self.fence.raise(&digests::differs(index));
            self.changes.tell();
        }
        Ok(Bytes::new())
    }
}
