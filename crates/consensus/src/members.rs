//! Who belongs to a group, who leads it, and how far each replica got.
//!
//! Members are changed through the log, by joint consensus: a majority of both the old and the new voters must agree. A new
//! replica is first a learner, which gets everything and has no vote.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_runtime::{Instant, Runtime, Select2, select2};
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use openraft::raft::ClientWriteResponse;

use crate::types::{Address, Types};
use crate::{Error, Group, Leadership, Machine};

/// What came of a change.
type Changed<C> = Result<ClientWriteResponse<C>, RaftError<C, ClientWriteError<C>>>;

/// Entries that the next leader may still miss when the hand-over begins.
const TRANSFER_LAG_MAX: u64 = 1000;

/// Who belongs to a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Who votes. While voters are being changed: the old ones and the new ones.
    pub voters: BTreeSet<u64>,
    /// Who gets entries and does not vote.
    pub learners: BTreeSet<u64>,
    /// Where they are, as was said when they were added.
    pub addresses: BTreeMap<u64, String>,
    /// Whether voters are being changed.
    pub changing: bool,
    /// Who votes when that is done.
    pub target: BTreeSet<u64>,
}

/// How far the replicas of a group got, as one of them knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// The last index of this node's log.
    pub last: Option<u64>,
    /// The last index known to be committed.
    pub committed: Option<u64>,
    /// The last index applied here.
    pub applied: Option<u64>,
    /// The index that the state here would be at after a crash now.
    pub durable: Option<u64>,
    /// On the leader: the last index known to be in each other member's log.
    pub peers: BTreeMap<u64, Option<u64>>,
}

impl<R: Runtime, M: Machine> Group<R, M> {
    /// Stands for election if the group is new and nobody did yet, rather than to wait until patience ends.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn stand_first(&self) -> Result<(), Error> {
        let voted = self.0.log.tail().vote().is_some();
        if !voted && self.members().voters.contains(&self.0.node) {
            self.0.raft.trigger().elect(true).await.map_err(|fatal| self.fatal(fatal))?;
        }
        Ok(())
    }

    /// The leader, if known.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        self.0.raft.server_metrics().borrow_watched().current_leader
    }

    /// This node's part in the group.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        let receiver = self.0.raft.server_metrics();
        let metrics = receiver.borrow_watched();
        let term = metrics.vote.leader_id.term;
        let leading = metrics.state.is_leader() && self.0.changes.applied_term() == term && !self.0.fence.is_up();
        Leadership { term, leading }
    }

    /// Resolves when leadership, the leader or the members may have changed since this was called: call it, look, then wait for it.
    pub fn leadership_changed(&self) -> impl Future<Output = ()> + Send + use<'_, R, M> {
        self.0.changes.next()
    }

    /// Waits until this node's part is another than `known`.
    pub async fn leadership_after(&self, known: Leadership) -> Leadership {
        loop {
            let changed = self.leadership_changed();
            let now = self.leadership();
            if now != known {
                return now;
            }
            changed.await;
        }
    }

    /// Who belongs to the group, as far as this node knows.
    #[must_use]
    pub fn members(&self) -> Members {
        let metrics = self.0.raft.server_metrics();
        let config = metrics.borrow_watched().membership_config.clone();
        let membership = config.membership();
        Members {
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            addresses: membership.nodes().map(|(id, address)| (*id, address.0.clone())).collect(),
            changing: membership.get_joint_config().len() > 1,
            target: membership.get_joint_config().last().cloned().unwrap_or_default(),
        }
    }

    /// How far the replicas got.
    ///
    /// # Errors
    /// If the durable position cannot be read.
    pub fn positions(&self) -> Result<Positions, Error> {
        let durable = self.durable()?;
        let receiver = self.0.raft.metrics();
        let metrics = receiver.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        let matched = matched.filter(|(id, _)| **id != metrics.id);
        Ok(Positions {
            last: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            durable,
            peers: matched.map(|(id, matched)| (*id, matched.map(|id| id.index))).collect(),
        })
    }

    /// Adds a node that gets entries and does not vote, or changes the address of one that does. Returns when that is committed;
    /// the node may still be far behind.
    ///
    /// # Errors
    /// As [`Group::propose`]; [`Error::Members`] if another change is under way.
    pub async fn add_learner(&self, node: u64, address: String) -> Result<(), Error> {
        self.awake().await?;
        self.changed(self.0.raft.add_learner(node, Address(address), false).await)
    }

    /// Makes these members, and no others, the voters. Voters that are not among them leave the group; others must be learners
    /// before. Returns when the new voters alone decide.
    ///
    /// # Errors
    /// As [`Group::propose`]; [`Error::Members`] if one of them is no member or another change is under way.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<(), Error> {
        self.awake().await?;
        self.changed(self.0.raft.change_membership(voters, false).await)
    }

    /// Removes learners from the group.
    ///
    /// # Errors
    /// As [`Group::change_voters`].
    pub async fn remove_learners(&self, nodes: BTreeSet<u64>) -> Result<(), Error> {
        self.awake().await?;
        self.changed(self.0.raft.change_membership(ChangeMembers::RemoveNodes(nodes), false).await)
    }

    fn changed(&self, result: Changed<Types<R, M::Reply>>) -> Result<(), Error> {
        match result {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(Error::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => Err(Error::Unknown),
            Err(RaftError::APIError(error)) => Err(Error::Members(error.to_string())),
            Err(RaftError::Fatal(fatal)) => Err(self.fatal(fatal)),
        }
    }

    /// Hands leadership over to a voter. Returns when this node does not lead any more. Meanwhile proposals are refused with the
    /// next leader as hint; those that were accepted before go on.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::Members`] if the node is no voter, is too far behind, or did not take over in time.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), Error> {
        let term = self.leadership().term;
        if !self.is_leader() {
            return Err(Error::NotLeader { leader: self.leader() });
        }
        if self.0.node == to {
            return Ok(());
        }
        if !self.members().voters.contains(&to) {
            return Err(Error::Members(format!("node {to} is no voter")));
        }
        self.awake().await?;
        let deadline = R::Instant::now() + 2 * self.0.config.election.1;
        self.wait_for_lag(to, deadline).await?;
        self.0.quiet.cede(term);
        self.0.raft.trigger().transfer_leader(to).await.map_err(|fatal| self.fatal(fatal))?;
        loop {
            let changed = self.leadership_changed();
            if !self.is_leader() || self.leadership().term != term {
                return Ok(());
            }
            if let Select2::Second(()) = select2(changed, R::sleep_until(deadline)).await {
                return Err(Error::Members(format!("node {to} did not take over in time")));
            }
        }
    }

    /// Waits until a node is not far behind.
    async fn wait_for_lag(&self, node: u64, deadline: R::Instant) -> Result<(), Error> {
        loop {
            let positions = self.positions()?;
            let matched = positions.peers.get(&node).copied().flatten();
            let last = positions.last.unwrap_or(0);
            if matched.is_some_and(|matched| last.saturating_sub(matched) <= TRANSFER_LAG_MAX) {
                return Ok(());
            }
            if R::Instant::now() >= deadline {
                return Err(Error::Members(format!("node {node} is at {matched:?}, and the log at {last}")));
            }
            R::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the group is quiet here: nothing happens in it, and it costs nothing.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.0.quiet.is_asleep()
    }

    /// Whether this node is the only member.
    pub(crate) fn is_alone(&self) -> bool {
        let metrics = self.0.raft.server_metrics();
        let config = metrics.borrow_watched().membership_config.clone();
        alone(self.0.node, config.membership())
    }

    pub(crate) fn fatal(&self, fatal: Fatal<Types<R, M::Reply>>) -> Error {
        match fatal {
            Fatal::Stopped => Error::Stopped,
            fatal => self.0.log.health().fatal(&fatal.to_string()),
        }
    }
}

/// Whether a node is the only member.
pub(crate) fn alone(node: u64, membership: &crate::types::Membership) -> bool {
    let mut nodes = membership.nodes();
    nodes.next().is_some_and(|(id, _)| *id == node) && nodes.next().is_none()
}
