//! What a node says of itself and its groups, for people who look after a cluster.

use std::time::Duration;

use mainstay_api::admin::{GetClusterStatusResponse, GroupStatus, NodeStatus};
use mainstay_api::peer::{Empty, call};
use mainstay_api::record::MemberRecord;
use mainstay_runtime::{Instant, Runtime};

use crate::node::Node;

const ASK_WITHIN: Duration = Duration::from_secs(1);

impl<R: Runtime> Node<R> {
    pub(crate) fn own_status(&self) -> NodeStatus {
        let cluster = self.board().members.now();
        let known = cluster.members.iter().find(|member| member.node_id == self.id()).cloned();
        let alone = || MemberRecord { node_id: self.id(), alive: true, ..MemberRecord::default() };
        let held = (0..).zip(self.groups()).filter(|(number, _)| self.holds(*number));
        let groups = held.map(|(number, group)| {
            let metrics = group.metrics();
            let members = group.members();
            GroupStatus {
                group: number,
                term: metrics.term,
                leader: metrics.leader.unwrap_or_default(),
                leads: self.board().leads(number),
                voter: members.voters.contains(&self.id()),
                learner: members.learners.contains(&self.id()),
                voters: members.voters.into_iter().collect(),
                durable: group.durable().ok().flatten().unwrap_or_default(),
                quiet: group.is_quiet(),
                fenced: group.fenced().unwrap_or_default(),
                last: metrics.last.unwrap_or_default(),
                applied: metrics.applied.unwrap_or_default(),
            }
        });
        NodeStatus {
            member: Some(known.unwrap_or_else(alone)),
            answers: true,
            groups: groups.collect(),
            clock_ns: R::wall_clock().as_nanos(),
            clock_ahead_ns: 0,
            notices: self.peers().map(mainstay_consensus::Peers::notices).unwrap_or_default(),
        }
    }

    /// What another member says of itself.
    async fn status_of(&self, member: &MemberRecord) -> NodeStatus {
        let (before, begun) = (R::wall_clock().as_nanos(), R::Instant::now());
        let asked = self.call_node::<NodeStatus>(member.node_id, 0, call::Call::Status(Empty {}), ASK_WITHIN).await;
        let Some(mut status) = asked.ok().and_then(|asked| asked.result().ok()) else {
            return NodeStatus { member: Some(member.clone()), ..NodeStatus::default() };
        };
        let half = i64::try_from((R::Instant::now() - begun).as_nanos() / 2).unwrap_or_default();
        status.clock_ahead_ns = status.clock_ns - (before + half);
        status
    }

    /// What all members say of themselves; the dead are shown as the record has them.
    pub(crate) async fn status_of_all(&self) -> GetClusterStatusResponse {
        let cluster = self.board().members.now();
        let mut nodes = Vec::new();
        if cluster.members.is_empty() {
            nodes.push(self.own_status());
        }
        for member in cluster.members.iter().filter(|member| !member.removed) {
            if member.node_id == self.id() {
                nodes.push(self.own_status());
                continue;
            }
            nodes.push(self.status_of(member).await);
        }
        nodes.sort_by_key(|node| node.member.as_ref().map(|member| member.name.clone()));
        let placement = self.board().slots.placement();
        GetClusterStatusResponse {
            cluster_id: self.config().cluster_id.clone(),
            epoch: cluster.epoch,
            asked_node: self.id(),
            nodes,
            shards: placement.ranges(),
            splits: placement.splits().to_vec(),
            replicas: self.board().holders.now().shards.clone(),
            replicas_per_shard: self.config().replicas,
            next_move: self.next_decision().map(|next| next.reason).unwrap_or_default(),
        }
    }
}
