//! Decides which members have replicas of which shards: the metadata group's leader does, one decision at a time, each with its reason.
//!
//! A cluster of no more nodes than a shard has replicas needs no decisions: every member has everything. In a larger one the first decision
//! about a shard is its leader's, who alone is sure to know its voters: they keep it. From then on each shard has as many
//! replicas as the cluster was founded with, and they are spread so that no member has two more than another. A member that leaves, or that lost its disk, is
//! replaced in every shard; one that is only down keeps its place. What a person decided is left as it is while its nodes are members.
//!
//! Here it is only decided. The leaders of the shards carry it out, one safe step after the other ([`crate::placement`]), and report;
//! only then comes the next decision, so that no more than one shard is copied at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_api::admin::{MoveShardRequest, MoveShardResponse};
use mainstay_api::log::{Command, PutReplicas, command::Op};
use mainstay_api::record::{ClusterRecord, MemberRecord, ReplicasRecord, ShardReplicas};
use mainstay_consensus::Members;
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::{Placement, replicas_of};

use crate::node::{METADATA_GROUP, Node};
use crate::placement::is_replaced;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Members that came or went lately may go or come again.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// Decides for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let mut settled = (0, R::Instant::now());
    while !node.is_stopped() {
        node.rest_until(R::Instant::now() + LOOK_EVERY).await;
        let epoch = node.board().members.now().epoch;
        if settled.0 != epoch {
            settled = (epoch, R::Instant::now());
        }
        if !node.board().leads(METADATA_GROUP) || R::Instant::now() - settled.1 < SETTLED_AFTER {
            continue;
        }
        let Some(replicas) = node.next_decision() else { continue };
        let (shard, version) = (replicas.group, replicas.version);
        tracing::info!(component = "balancer", "shard-id" = shard, version, reason = replicas.reason, "decided");
        // If it fails, the next look decides again.
        let _decided = node.put_replicas(replicas).await;
    }
}

impl<R: Runtime> Node<R> {
    /// What is to be decided next, if something is.
    pub(crate) fn next_decision(&self) -> Option<ShardReplicas> {
        let board = self.board();
        let seen = Seen {
            cluster: &board.members.now(),
            record: &board.holders.now(),
            placement: &board.slots.placement(),
            replicas: self.replicas(),
        };
        seen.next()
    }

    /// Whether it is yet to be decided who has replicas of a shard.
    pub(crate) fn is_undecided(&self, group: u32) -> bool {
        group != METADATA_GROUP
            && is_large(&self.board().members.now(), self.replicas())
            && replicas_of(&self.board().holders.now(), group).is_none()
    }

    /// As the leader of a shard about which nothing is decided: decides that it stays where it is.
    pub(crate) async fn decide_first(&self, group: u32, members: &Members) -> Result<(), Error> {
        if is_splitting(&self.board().slots.placement(), group) || members.voters.is_empty() {
            return Ok(());
        }
        self.put_replicas(first(group, members.voters.iter().copied())).await
    }

    /// Proposes a decision, or the report that the last one is carried out.
    pub(crate) async fn put_replicas(&self, replicas: ShardReplicas) -> Result<(), Error> {
        let put = PutReplicas { replicas: Some(replicas) };
        let command = Command { op: Some(Op::PutReplicas(put)), ..Command::default() };
        self.propose(METADATA_GROUP, command).await.map(drop)
    }

    /// Decides that a replica moves, because a person wants it.
    pub(crate) async fn decide_move(&self, request: MoveShardRequest) -> Result<MoveShardResponse, Error> {
        if self.is_alone() {
            return Err(Error::FailedPrecondition(
                "this server is no cluster; there is nowhere to move a shard to".into(),
            ));
        }
        self.catch_up(METADATA_GROUP).await?;
        let (cluster, record) = (self.board().members.now(), self.board().holders.now());
        let placement = self.board().slots.placement();
        let decided =
            moved(&cluster, &record, &placement, self.replicas(), &request).map_err(Error::FailedPrecondition)?;
        self.put_replicas(decided.clone()).await?;
        self.catch_up(METADATA_GROUP).await?;
        match replicas_of(&self.board().holders.now(), decided.group) {
            Some(known) if known.version == decided.version && known.nodes == decided.nodes => {
                Ok(MoveShardResponse { replicas: Some(decided) })
            }
            _ => Err(Error::FailedPrecondition(
                "something else was decided about the shard at the same time; try again".into(),
            )),
        }
    }
}

/// What a person wants of a shard, or why it cannot be.
fn moved(
    cluster: &ClusterRecord,
    record: &ReplicasRecord,
    placement: &Placement,
    replicas: usize,
    request: &MoveShardRequest,
) -> Result<ShardReplicas, String> {
    let MoveShardRequest { shard, from, to } = request;
    let find = |name: &str| {
        let members = cluster.members.iter().filter(|member| !member.removed && member.name == *name);
        members.max_by_key(|member| member.alive).ok_or_else(|| format!("there is no node {name} in this cluster"))
    };
    let (from, to) = (find(from)?, find(to)?);
    if !(1..=placement.shards()).contains(shard) {
        return Err(format!("there is no shard {shard}; the shards are 1 to {}", placement.shards()));
    }
    if is_splitting(placement, *shard) {
        return Err(format!("shard {shard} is being split; when that is done it can move"));
    }
    let Some(known) = replicas_of(record, *shard) else {
        return Err(format!(
            "every node has a replica of shard {shard}, as in every cluster of up to {replicas} nodes; add another node first"
        ));
    };
    if !known.placed {
        return Err(format!("shard {shard} is moving: {}; when that is done it can move again", known.reason));
    }
    if !known.nodes.contains(&from.node_id) {
        return Err(format!("node {} has no replica of shard {shard}", from.name));
    }
    if known.nodes.contains(&to.node_id) {
        return Err(format!("node {} has a replica of shard {shard} already", to.name));
    }
    if !to.alive || to.leaving {
        return Err(format!("node {} is down or on its way out; it cannot take a replica", to.name));
    }
    let reason = format!("moved from {} to {} by an operator", from.name, to.name);
    let nodes = known.nodes.iter().copied().filter(|id| *id != from.node_id).chain([to.node_id]);
    Ok(ShardReplicas { by_operator: true, ..decision(*shard, Some(known), nodes, reason) })
}

/// Whether there are more members than a shard has replicas.
fn is_large(cluster: &ClusterRecord, replicas: usize) -> bool {
    // A node that lost its disk comes back under its name, perhaps before it is known to have gone.
    able(cluster).map(|member| &member.name).collect::<BTreeSet<_>>().len() > replicas
}

/// Members that replicas may be placed at.
fn able(cluster: &ClusterRecord) -> impl Iterator<Item = &MemberRecord> {
    mainstay_shard::live(cluster).filter(|member| !member.leaving)
}

/// The first decision about a shard.
fn first(group: u32, voters: impl IntoIterator<Item = u64>) -> ShardReplicas {
    decision(group, None, voters, "its voters have it".into())
}

fn is_splitting(placement: &Placement, group: u32) -> bool {
    placement.under_way().is_some_and(|split| split.source == group || split.target == group)
}

fn decision(
    group: u32,
    known: Option<&ShardReplicas>,
    nodes: impl IntoIterator<Item = u64>,
    reason: String,
) -> ShardReplicas {
    let nodes: BTreeSet<u64> = nodes.into_iter().collect();
    let version = known.map_or(0, |known| known.version) + 1;
    ShardReplicas { group, version, nodes: nodes.into_iter().collect(), reason, ..ShardReplicas::default() }
}

/// What decisions are made of.
struct Seen<'a> {
    cluster: &'a ClusterRecord,
    record: &'a ReplicasRecord,
    placement: &'a Placement,
    /// Of each shard.
    replicas: usize,
}

impl Seen<'_> {
    fn next(&self) -> Option<ShardReplicas> {
        let replaced = self.record.shards.iter().find_map(|known| self.replace(known));
        if replaced.is_some() {
            return replaced;
        }
        let is_undecided = |group| replicas_of(self.record, group).is_none() && !is_splitting(self.placement, group);
        let waits = is_large(self.cluster, self.replicas) && (1..=self.placement.shards()).any(is_undecided);
        if waits || self.record.shards.iter().any(|known| !known.placed) {
            return None;
        }
        self.record.shards.iter().find_map(|known| self.fill(known)).or_else(|| self.spread())
    }

    fn name(&self, id: u64) -> &str {
        let member = self.cluster.members.iter().find(|member| member.node_id == id);
        member.map_or("a forgotten node", |member| member.name.as_str())
    }

    /// Replicas that a member has.
    fn load(&self, id: u64) -> usize {
        self.record.shards.iter().filter(|known| known.nodes.contains(&id)).count()
    }

    /// The member with the fewest replicas that has none of these.
    fn least_loaded(&self, but: &[u64]) -> Option<&MemberRecord> {
        let able = able(self.cluster).filter(|member| !but.contains(&member.node_id));
        able.min_by_key(|member| (self.load(member.node_id), member.node_id))
    }

    /// Another member for one that is gone for good.
    fn replace(&self, known: &ShardReplicas) -> Option<ShardReplicas> {
        if is_splitting(self.placement, known.group) {
            return None;
        }
        let is_gone = |id: &u64| {
            let member = self.cluster.members.iter().find(|member| member.node_id == *id);
            member.is_none_or(|member| is_replaced(self.cluster, member))
        };
        let gone = known.nodes.iter().copied().find(is_gone)?;
        let rest = known.nodes.iter().copied().filter(|id| *id != gone);
        // A node that lost its disk comes back under its name.
        let same = able(self.cluster).find(|member| {
            member.name == self.name(gone) && member.node_id != gone && !known.nodes.contains(&member.node_id)
        });
        match same.or_else(|| self.least_loaded(&known.nodes)) {
            Some(new) => {
                let reason =
                    format!("{} takes the place of {}, which is gone or on its way out", new.name, self.name(gone));
                Some(decision(known.group, Some(known), rest.chain([new.node_id]), reason))
            }
            None if known.nodes.len() > 1 => {
                let reason = format!("{} is gone or on its way out, and nobody can take its place", self.name(gone));
                Some(decision(known.group, Some(known), rest, reason))
            }
            None => None,
        }
    }

    /// One more member for a shard that has too few.
    fn fill(&self, known: &ShardReplicas) -> Option<ShardReplicas> {
        if known.nodes.len() >= self.replicas || is_splitting(self.placement, known.group) {
            return None;
        }
        let new = self.least_loaded(&known.nodes)?;
        let reason = format!("{} makes {} replicas of it", new.name, known.nodes.len() + 1);
        Some(decision(known.group, Some(known), known.nodes.iter().copied().chain([new.node_id]), reason))
    }

    /// A move from the member with the most replicas to the one with the fewest.
    fn spread(&self) -> Option<ShardReplicas> {
        let most = able(self.cluster).max_by_key(|member| (self.load(member.node_id), member.node_id))?;
        let least = able(self.cluster).min_by_key(|member| (self.load(member.node_id), member.node_id))?;
        let (high, low) = (self.load(most.node_id), self.load(least.node_id));
        if high < low + 2 {
            return None;
        }
        let may_move = |known: &&ShardReplicas| {
            known.nodes.contains(&most.node_id)
                && !known.nodes.contains(&least.node_id)
                && !known.by_operator
                && !is_splitting(self.placement, known.group)
        };
        let known = self.record.shards.iter().find(may_move)?;
        let nodes = known.nodes.iter().copied().filter(|id| *id != most.node_id).chain([least.node_id]);
        let reason = format!("{} had {high} replicas and {} had {low}", most.name, least.name);
        Some(decision(known.group, Some(known), nodes, reason))
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::record::{SplitRecord, SplitsRecord, split_record::Phase};

    use super::*;

    const SHARDS: u32 = 8;

    fn cluster(members: &[(u64, &str)]) -> ClusterRecord {
        let members = members.iter().map(|(node_id, name)| MemberRecord {
            node_id: *node_id,
            name: (*name).into(),
            alive: true,
            ..MemberRecord::default()
        });
        ClusterRecord { epoch: 1, members: members.collect() }
    }

    fn next(cluster: &ClusterRecord, record: &ReplicasRecord, splits: &SplitsRecord) -> Option<ShardReplicas> {
        let placement = Placement::of(SHARDS, splits);
        Seen { cluster, record, placement: &placement, replicas: 3 }.next()
    }

    /// Carries out one decision.
    fn take(record: &mut ReplicasRecord, decided: ShardReplicas) {
        let decided = ShardReplicas { placed: true, ..decided };
        match record.shards.binary_search_by_key(&decided.group, |known| known.group) {
            Ok(at) => record.shards[at] = decided,
            Err(at) => record.shards.insert(at, decided),
        }
    }

    /// Carries out decisions until there are none; how many there were.
    fn settle(cluster: &ClusterRecord, record: &mut ReplicasRecord) -> usize {
        if is_large(cluster, 3) {
            let undecided = (1..=SHARDS).filter(|group| replicas_of(record, *group).is_none());
            undecided.collect::<Vec<_>>().into_iter().for_each(|group| take(record, first(group, [1, 2, 3])));
        }
        let mut count = 0;
        while let Some(decided) = next(cluster, record, &SplitsRecord::default()) {
            take(record, decided);
            count += 1;
            assert!(count < 200, "it goes round in circles");
        }
        count
    }

    fn loads(cluster: &ClusterRecord, record: &ReplicasRecord) -> Vec<usize> {
        let load = |id: u64| record.shards.iter().filter(|known| known.nodes.contains(&id)).count();
        cluster.members.iter().map(|member| load(member.node_id)).collect()
    }

    fn leaving(mut cluster: ClusterRecord, id: u64) -> ClusterRecord {
        cluster.members.iter_mut().filter(|member| member.node_id == id).for_each(|member| member.leaving = true);
        cluster
    }

    const FIVE: [(u64, &str); 5] = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")];

    #[test]
    fn a_cluster_of_three_needs_no_decisions() {
        assert_eq!(settle(&cluster(&FIVE[..3]), &mut ReplicasRecord::default()), 0);
        assert!(!is_large(&cluster(&[(1, "a"), (2, "b"), (3, "c"), (12, "b")]), 3), "b comes back as another");
        assert!(is_large(&cluster(&FIVE[..4]), 3));
    }

    #[test]
    fn replicas_are_spread_and_no_more_is_moved_than_needed() {
        let (five, mut record) = (cluster(&FIVE), ReplicasRecord::default());
        let count = settle(&five, &mut record);
        let loads = loads(&five, &record);
        assert_eq!(loads.iter().sum::<usize>(), 3 * SHARDS as usize);
        assert!(loads.iter().all(|load| (4..=5).contains(load)), "{loads:?}");
        assert_eq!(count, loads[3] + loads[4], "one move for each replica of the new nodes");
    }

    #[test]
    fn who_leaves_is_replaced_everywhere_and_one_that_is_down_is_not() {
        let (mut five, mut record) = (cluster(&FIVE), ReplicasRecord::default());
        settle(&five, &mut record);
        five.members[1].alive = false;
        assert_eq!(settle(&five, &mut record), 0);
        five.members[1].alive = true;
        let five = leaving(five, 2);
        settle(&five, &mut record);
        assert_eq!(loads(&five, &record), [6, 0, 6, 6, 6]);
        // Down to what has replicas of everything, and below.
        let three = leaving(leaving(five, 5), 4);
        settle(&three, &mut record);
        assert!(record.shards.iter().all(|known| known.nodes == [1, 3]), "{record:?}");
    }

    #[test]
    fn a_node_that_lost_its_disk_gets_its_replicas_again() {
        let (mut four, mut record) = (cluster(&FIVE[..4]), ReplicasRecord::default());
        settle(&four, &mut record);
        let before = loads(&four, &record);
        four.members[0].alive = false;
        let again = MemberRecord { node_id: 11, alive: true, ..four.members[0].clone() };
        four.members.push(again);
        settle(&four, &mut record);
        let after = loads(&four, &record);
        assert_eq!((after[0], after[4]), (0, before[0]));
    }

    #[test]
    fn one_shard_at_a_time_and_none_that_is_split() {
        let (five, mut record) = (cluster(&FIVE), ReplicasRecord::default());
        for group in 1..=SHARDS {
            assert_eq!(next(&five, &record, &SplitsRecord::default()), None, "the leader of {group} decides first");
            take(&mut record, first(group, [1, 2, 3]));
        }
        let split =
            SplitRecord { source: 1, target: 9, from: 0, to: 9, phase: Phase::Copying as i32, ..Default::default() };
        let splits = SplitsRecord { shards: SHARDS, splits: vec![split] };
        let decided = next(&five, &record, &splits).expect("there is much to do");
        assert_eq!((decided.group, decided.version), (2, 2));
        record.shards[1] = decided;
        assert_eq!(next(&five, &record, &splits), None, "the last one is not carried out");
    }

    #[test]
    fn an_operator_is_obeyed_and_told_why_not() {
        let (four, mut record) = (cluster(&FIVE[..4]), ReplicasRecord::default());
        let placement = Placement::of(SHARDS, &SplitsRecord::default());
        let ask = |record: &ReplicasRecord, shard, from: &str, to: &str| {
            moved(&four, record, &placement, 3, &MoveShardRequest { shard, from: from.into(), to: to.into() })
        };
        assert!(ask(&record, 1, "a", "d").expect_err("is refused").contains("every node has a replica"));
        settle(&four, &mut record);
        let known = record.shards[0].clone();
        let missing = (1..=4).find(|id| !known.nodes.contains(id)).expect("one has none");
        let name = |id: u64| FIVE[id as usize - 1].1;
        let decided = ask(&record, 1, name(known.nodes[0]), name(missing)).expect("moves");
        assert!(decided.by_operator && decided.nodes.contains(&missing) && !decided.nodes.contains(&known.nodes[0]));
        assert!(
            ask(&record, 1, name(missing), name(known.nodes[0])).expect_err("is refused").contains("has no replica")
        );
        assert!(
            ask(&record, 1, name(known.nodes[0]), name(known.nodes[1])).expect_err("is refused").contains("already")
        );
        assert!(ask(&record, 99, "a", "b").expect_err("is refused").contains("the shards are 1 to 8"));
        assert!(ask(&record, 1, "a", "x").expect_err("is refused").contains("there is no node x"));
        let wanted = decided.nodes.clone();
        take(&mut record, decided);
        settle(&four, &mut record);
        assert_eq!(record.shards[0].nodes, wanted, "it stays there");
        record.shards[0].placed = false;
        assert!(ask(&record, 1, "a", "b").expect_err("is refused").contains("is moving"));
    }
}
