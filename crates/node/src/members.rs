//! The cluster's members: each node keeps its own record true, the metadata group's leader says who died, and everybody acts on what
//! the record says: where peers are, who owns which task queue, who should lead which group.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_api::log::{Command, PutMember, command::Op};
use mainstay_api::record::{ClusterRecord, MemberRecord};
use mainstay_consensus::Peers;
use mainstay_runtime::{Instant, Runtime, select2};
use mainstay_shard::replicas_of;
use tokio::sync::Notify;

use crate::lock;
use crate::node::{METADATA_GROUP, Node};
use crate::owners::Owners;

/// A member that was not heard of for so long is taken for dead; sooner if its address refuses connections.
const DEAD_AFTER: Duration = Duration::from_millis(1_500);
const GONE_AFTER: Duration = Duration::from_millis(800);
/// How often the leader looks who lives.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often a node looks whether it leads what another should.
const BALANCE_EVERY: Duration = Duration::from_secs(1);
/// A member leads nothing more before it has lived for so long.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// How long a planned stop may take to hand over what the node leads.
const HAND_OVER_WITHIN: Duration = Duration::from_millis(1_500);

/// What a node is told that is no member any more.
pub const REMOVED: &str =
    "this node was removed from the cluster; start it with an empty data directory to join it as a new node";

/// The members as this node knows them.
#[derive(Default)]
pub(crate) struct Members {
    known: Mutex<Arc<ClusterRecord>>,
    changed: Notify,
    /// The epoch of which this node has divided the task queues.
    divided: AtomicU64,
    divided_anew: Notify,
}

impl Members {
    /// The metadata group's log changed the record, or it was read.
    pub(crate) fn applied(&self, cluster: ClusterRecord) {
        *lock(&self.known) = Arc::new(cluster);
        self.changed.notify_waiters();
    }

    pub(crate) fn now(&self) -> Arc<ClusterRecord> {
        lock(&self.known).clone()
    }

    /// Resolves when this node knows other owners of queues than those of an epoch.
    pub(crate) async fn divided_after(&self, epoch: u64) {
        loop {
            let anew = self.divided_anew.notified();
            if self.divided.load(Ordering::Acquire) > epoch {
                return;
            }
            anew.await;
        }
    }

    /// Resolves when the record is of a later epoch.
    pub(crate) async fn newer(&self, epoch: u64) {
        loop {
            let changed = self.changed.notified();
            if lock(&self.known).epoch > epoch {
                return;
            }
            changed.await;
        }
    }
}

fn member(cluster: &ClusterRecord, node: u64) -> Option<&MemberRecord> {
    cluster.members.iter().find(|member| member.node_id == node)
}

/// Acts on every change of the record.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let mut epoch = 0;
    loop {
        let cluster = node.board().members.now();
        if cluster.epoch > epoch {
            epoch = cluster.epoch;
            act_on(&node, &cluster);
        }
        if node.within(R::Instant::now() + Duration::from_secs(60), node.board().members.newer(epoch)).await.is_none()
            && node.is_stopped()
        {
            return;
        }
    }
}

fn act_on<R: Runtime>(node: &Node<R>, cluster: &ClusterRecord) {
    let Some(peers) = node.peers() else { return };
    let names = |alive: bool| {
        let members = cluster.members.iter().filter(|member| !member.removed && member.alive == alive);
        members.map(|member| member.name.as_str()).collect::<Vec<_>>().join(",")
    };
    tracing::info!(
        component = "members",
        epoch = cluster.epoch,
        alive = names(true),
        dead = names(false),
        "members changed"
    );
    for member in &cluster.members {
        if member.removed {
            peers.ban(member.node_id, REMOVED);
        } else if member.node_id != node.id() {
            peers.set_address(member.node_id, member.peer_address.clone());
        }
    }
    node.board().dispatch.set_owners(Owners::new(node.id(), cluster), node.now());
    let members = &node.board().members;
    members.divided.store(cluster.epoch, Ordering::Release);
    members.divided_anew.notify_waiters();
    for group in 0..node.group_count() {
        if node.board().leads(group)
            && let Err(error) = node.offer_anew(group)
        {
            node.cannot_read(group, &error);
        }
    }
}

/// Keeps this node's own record true: alive, in this incarnation, at these addresses.
pub(crate) async fn register<R: Runtime>(node: Node<R>) {
    let Some(me) = node.clustering().map(|clustering| clustering.member.clone()) else { return };
    while !node.is_stopped() && !node.is_leaving() {
        let cluster = node.board().members.now();
        let known = member(&cluster, me.node_id);
        if known.is_some_and(|known| known.removed) {
            R::fatal(REMOVED);
        }
        if known.is_some_and(|known| MemberRecord { drained: false, leaving: false, ..known.clone() } == me) {
            let _either = select2(node.board().members.newer(cluster.epoch), node.stopping()).await;
            continue;
        }
        let put = PutMember { member: Some(me.clone()), ..PutMember::default() };
        let command = Command { op: Some(Op::PutMember(put)), ..Command::default() };
        if node.propose(METADATA_GROUP, command).await.is_err() {
            R::sleep(LOOK_EVERY).await;
        } else {
            // What was applied at the leader is applied here soon.
            let _applied = R::timeout(LOOK_EVERY, node.board().members.newer(cluster.epoch)).await;
        }
    }
}

/// As the metadata group's leader: says of members that are not heard of any more that they are dead.
pub(crate) async fn watch<R: Runtime>(node: Node<R>) {
    // A node that was not running itself cannot blame others for their silence.
    let (mut runs_since, mut looked) = (R::Instant::now(), R::Instant::now());
    while !node.is_stopped() {
        R::sleep(LOOK_EVERY).await;
        let now = R::Instant::now();
        if now - looked > 2 * LOOK_EVERY {
            runs_since = now;
        }
        looked = now;
        if node.peers().and_then(Peers::refusal).is_some_and(|reason| reason == REMOVED) {
            R::fatal(REMOVED);
        }
        if !node.board().leads(METADATA_GROUP) {
            continue;
        }
        let cluster = node.board().members.now();
        for lost in mainstay_shard::live(&cluster).filter(|member| is_dead(&node, member, runs_since)) {
            let put = PutMember {
                member: Some(MemberRecord { alive: false, ..lost.clone() }),
                expected_incarnation: lost.incarnation,
                sets_wishes: false,
            };
            let command = Command { op: Some(Op::PutMember(put)), ..Command::default() };
            // If it fails, the next look tries again.
            let _put = node.propose(METADATA_GROUP, command).await;
        }
    }
}

fn is_dead<R: Runtime>(node: &Node<R>, member: &MemberRecord, since: R::Instant) -> bool {
    let Some(peers) = node.peers().filter(|_| member.node_id != node.id()) else { return false };
    let heard = peers.last_heard(member.node_id).map_or(since, |heard| heard.max(since));
    let after = if peers.is_unreachable(member.node_id) { GONE_AFTER } else { DEAD_AFTER };
    R::Instant::now() - heard > after
}

/// Hands groups over to whom they belong: leaders are spread evenly over the voters that live.
pub(crate) async fn balance<R: Runtime>(node: Node<R>) {
    let mut settled = (0, R::Instant::now());
    while !node.is_stopped() {
        R::sleep(BALANCE_EVERY).await;
        let cluster = node.board().members.now();
        if settled.0 != cluster.epoch {
            settled = (cluster.epoch, R::Instant::now());
        }
        if node.is_leaving() {
            continue;
        }
        if member(&cluster, node.id()).is_some_and(|me| me.drained || me.leaving) {
            let others = mainstay_shard::working(&cluster).into_iter().map(|member| member.node_id).collect();
            node.hand_over_to(others).await;
            continue;
        }
        if R::Instant::now() - settled.1 < SETTLED_AFTER {
            continue;
        }
        let wrong = (0..node.group_count()).filter(|group| node.board().leads(*group)).find_map(|group| {
            let to = preferred(&node, &cluster, group)?;
            (to != node.id()).then_some((group, to))
        });
        if let Some((group, to)) = wrong
            && let Ok(group) = node.group(group)
        {
            // A follower that is behind refuses; the next look tries again.
            let _handed = group.transfer_leader(to).await;
        }
    }
}

/// Who should lead a group.
fn preferred<R: Runtime>(node: &Node<R>, cluster: &ClusterRecord, group: u32) -> Option<u64> {
    let voters = node.group(group).ok()?.members().voters;
    let holders = node.board().holders.now();
    // One that is about to lose its replica hands over, so it must not be handed anything.
    let stays = |id: &u64| replicas_of(&holders, group).is_none_or(|decided| decided.nodes.contains(id));
    let able: Vec<u64> = mainstay_shard::working(cluster)
        .into_iter()
        .map(|member| member.node_id)
        .filter(|id| voters.contains(id) && stays(id))
        .collect();
    turn_of(group, able.iter()).copied()
}

/// Whose turn a group is, of nodes that could lead it: so leaders are spread.
pub(crate) fn turn_of<'a>(group: u32, able: impl ExactSizeIterator<Item = &'a u64>) -> Option<&'a u64> {
    let place = group as usize % able.len().max(1);
    able.into_iter().nth(place)
}

impl<R: Runtime> Node<R> {
    /// Before a planned stop: gives the queues away, then hands over every group that this node leads.
    pub(crate) async fn hand_over(&self) {
        let Some(me) = self.clustering().map(|clustering| clustering.member.clone()) else { return };
        self.set_leaving();
        let cluster = self.board().members.now();
        let others: Vec<u64> =
            mainstay_shard::live(&cluster).map(|member| member.node_id).filter(|id| *id != me.node_id).collect();
        if others.is_empty() {
            return;
        }
        let handing = async {
            let gone = MemberRecord { alive: false, ..me.clone() };
            let put = PutMember { member: Some(gone), expected_incarnation: me.incarnation, sets_wishes: false };
            let command = Command { op: Some(Op::PutMember(put)), ..Command::default() };
            let _told = self.propose(METADATA_GROUP, command).await;
            self.hand_over_to(others).await;
        };
        let _in_time = R::timeout(HAND_OVER_WITHIN, handing).await;
    }

    /// Hands every group that this node leads over to one of these nodes, all at once.
    async fn hand_over_to(&self, others: Vec<u64>) {
        let mut handing = Vec::new();
        for number in (0..self.group_count()).filter(|number| self.board().leads(*number)) {
            let Ok(group) = self.group(number).cloned() else { continue };
            let voters = group.members().voters;
            let able: Vec<u64> = others.iter().copied().filter(|id| *id != self.id() && voters.contains(id)).collect();
            if let Some(to) = turn_of(number, able.iter()).copied() {
                // If it does not work, the others elect a leader by themselves, or it is tried again.
                handing.push(R::spawn(async move { group.transfer_leader(to).await.is_ok() }));
            }
        }
        for one in handing {
            let _handed = one.await;
        }
    }
}
