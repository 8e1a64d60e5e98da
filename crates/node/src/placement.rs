//! Which members have replicas of a group, and which of them vote: the group's leader sees to it, one small step at a time.
//!
//! Every live member gets a replica, or every one that is to have one ([`crate::balancer`]); when a group has those members and no others, its
//! leader reports it. A member that is to leave goes out of the voters when another takes its place, or at once if there is
//! none; it hands over what it leads before ([`crate::members`]). A member that lost its disk comes back as another with the same name: it has forgotten its
//! votes, so the old one leaves the voters when the new one has caught up and takes its place.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_api::log::{Command, PutMember, command::Op};
use mainstay_api::record::{ClusterRecord, MemberRecord, ShardReplicas};
use mainstay_consensus::Members;
use mainstay_runtime::Runtime;
use mainstay_shard::replicas_of;

use crate::node::{METADATA_GROUP, Node};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A learner may vote when it is this close behind.
const LAG_MAX: u64 = 1_000;

/// What is to be done next to the members of a group.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    AddLearner(u64, String),
    Voters(BTreeSet<u64>),
    Remove(BTreeSet<u64>),
}

/// Places replicas for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        R::sleep(LOOK_EVERY).await;
        let cluster = node.board().members.now();
        for number in 0..node.group_count() {
            // Who is to leave hands over first.
            let leaves = cluster.members.iter().any(|member| member.node_id == node.id() && member.leaving);
            if !node.board().leads(number) || node.is_leaving() || leaves {
                continue;
            }
            let Ok(group) = node.group(number) else { continue };
            let members = group.members();
            let near = group.positions().map(|positions| {
                let last = positions.last.unwrap_or_default();
                let near =
                    positions.peers.into_iter().filter(|(_, at)| at.is_some_and(|at| last - at.min(last) <= LAG_MAX));
                near.map(|(id, _)| id).collect::<BTreeSet<u64>>()
            });
            let max = node.voters_max(number);
            if node.is_undecided(number) && !members.changing {
                // If it fails, the next look tries again.
                let _decided = node.decide_first(number, &members).await;
                continue;
            }
            let record = node.board().holders.now();
            let decided = replicas_of(&record, number);
            if let Some(to) = decided.and_then(|decided| next_leader(decided, &members, node.id())) {
                // A voter that is behind refuses; the next look tries again.
                let _handed = group.transfer_leader(to).await;
                continue;
            }
            let step = near.ok().map(|near| next_step(&cluster, decided, &members, &near, max));
            // What fails is tried again at the next look.
            let _done = match step.flatten() {
                None => {
                    node.report_placed(decided, &members).await;
                    Ok(())
                }
                Some(Step::AddLearner(id, address)) => group.add_learner(id, address).await,
                Some(Step::Voters(voters)) => group.change_voters(voters).await,
                Some(Step::Remove(gone)) => group.remove_learners(gone).await,
            };
        }
        if node.board().leads(METADATA_GROUP) {
            forget_replaced(&node, &cluster).await;
        }
    }
}

/// Whether a live member has taken the place of this one.
pub(crate) fn is_replaced(cluster: &ClusterRecord, member: &MemberRecord) -> bool {
    let same = |other: &MemberRecord| other.name == member.name && other.node_id != member.node_id;
    member.removed || member.leaving || (!member.alive && mainstay_shard::live(cluster).any(same))
}

/// Who leads a group instead of one that is not to have a replica: a voter that stays.
fn next_leader(decided: &ShardReplicas, members: &Members, me: u64) -> Option<u64> {
    if decided.nodes.contains(&me) {
        return None;
    }
    let mut staying = decided.nodes.iter().copied().filter(|id| members.voters.contains(id));
    staying.clone().nth(decided.group as usize % staying.clone().count().max(1)).or_else(|| staying.next())
}

fn next_step(
    cluster: &ClusterRecord,
    decided: Option<&ShardReplicas>,
    members: &Members,
    near: &BTreeSet<u64>,
    max: usize,
) -> Option<Step> {
    if members.changing {
        // Whoever began it may have lost the lead, or died; nobody else would end it.
        return Some(Step::Voters(members.target.clone()));
    }
    if members.voters.is_empty() {
        return None;
    }
    let known = |id: &u64| members.voters.contains(id) || members.learners.contains(id);
    let is_unwanted = |id: &u64| decided.is_some_and(|decided| !decided.nodes.contains(id));
    let gone = cluster.members.iter().filter(|member| is_replaced(cluster, member) || is_unwanted(&member.node_id));
    let gone: BTreeSet<u64> = gone.map(|member| member.node_id).collect();
    let live: Vec<&MemberRecord> =
        mainstay_shard::live(cluster).filter(|member| !gone.contains(&member.node_id)).collect();
    if let Some(new) = live.iter().find(|member| !known(&member.node_id)) {
        return Some(Step::AddLearner(new.node_id, new.peer_address.clone()));
    }
    let learners: BTreeSet<u64> = gone.intersection(&members.learners).copied().collect();
    if !learners.is_empty() {
        return Some(Step::Remove(learners));
    }
    let live: BTreeSet<u64> = live.into_iter().map(|member| member.node_id).collect();
    let able = members.learners.iter().copied().filter(|id| live.contains(id) && near.contains(id));
    let mut voters: BTreeSet<u64> = members.voters.difference(&gone).copied().collect();
    // An even number of voters survives no more than the odd one below it.
    let wanted = (live.len().min(max).saturating_sub(1) / 2 * 2 + 1).max(members.voters.len());
    let missing = wanted.saturating_sub(voters.len());
    voters.extend(able.take(missing));
    // Nobody leaves before somebody comes, if anybody can: fewer voters survive less. Who was decided on and is dead may come back, and
    // else the balancer decides on another.
    let all_came = |decided: &ShardReplicas| decided.nodes.iter().all(|id| voters.contains(id) || gone.contains(id));
    let nobody_comes = live.iter().all(|id| voters.contains(id)) && decided.is_none_or(all_came) && !voters.is_empty();
    let leaving =
        |id: &u64| is_unwanted(id) || cluster.members.iter().any(|member| member.node_id == *id && member.leaving);
    let only_wanted = members.voters.difference(&voters).all(leaving);
    let enough = voters.len() >= members.voters.len() || (nobody_comes && only_wanted);
    (voters != members.voters && enough).then_some(Step::Voters(voters))
}

impl<R: Runtime> Node<R> {
    /// As the leader of a group: says that its members are those that were decided, if they are and it is not known.
    async fn report_placed(&self, decided: Option<&ShardReplicas>, members: &Members) {
        let Some(decided) = decided.filter(|decided| !decided.placed && !members.changing) else { return };
        let wanted: BTreeSet<u64> = decided.nodes.iter().copied().collect();
        let all: BTreeSet<u64> = members.voters.union(&members.learners).copied().collect();
        if all == wanted {
            let report = ShardReplicas { placed: true, ..decided.clone() };
            // If it fails, the next look tries again.
            let _told = self.put_replicas(report).await;
        }
    }
}

/// Writes into the record that a replaced member is gone, once it has left all groups.
async fn forget_replaced<R: Runtime>(node: &Node<R>, cluster: &ClusterRecord) {
    let record = node.board().holders.now();
    let undecided = (0..).zip(node.groups()).filter(|(number, _)| replicas_of(&record, *number).is_none());
    let groups: Vec<Members> = undecided.map(|(_, group)| group.members()).collect();
    let is_in = |id: &u64| {
        groups.iter().any(|group| group.voters.contains(id) || group.learners.contains(id))
            || record.shards.iter().any(|known| known.nodes.contains(id) || !known.placed)
    };
    for member in cluster.members.iter().filter(|member| !member.removed && is_replaced(cluster, member)) {
        if !is_in(&member.node_id) {
            let put = PutMember {
                member: Some(MemberRecord { removed: true, alive: false, ..member.clone() }),
                expected_incarnation: member.incarnation,
                sets_wishes: false,
            };
            let command = Command { op: Some(Op::PutMember(put)), ..Command::default() };
            // If it fails, the next look tries again.
            let _put = node.propose(METADATA_GROUP, command).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    fn cluster(members: &[(u64, &str, bool)]) -> ClusterRecord {
        let members = members.iter().map(|(node_id, name, alive)| MemberRecord {
            node_id: *node_id,
            name: (*name).into(),
            alive: *alive,
            ..MemberRecord::default()
        });
        ClusterRecord { epoch: 1, members: members.collect() }
    }

    #[test]
    fn a_change_that_another_leader_began_is_ended() {
        let three = cluster(&[(1, "a", true), (2, "b", true), (3, "c", true)]);
        let halfway = Members { changing: true, target: set(&[1, 3]), ..group(&[1, 2, 3], &[]) };
        assert_eq!(next_step(&three, None, &halfway, &set(&[]), 5), Some(Step::Voters(set(&[1, 3]))));
    }

    fn group(voters: &[u64], learners: &[u64]) -> Members {
        Members { voters: set(voters), learners: set(learners), ..Members::default() }
    }

    #[test]
    fn a_new_member_learns_first_and_votes_when_it_makes_the_group_odd() {
        let four = cluster(&[(1, "a", true), (2, "b", true), (3, "c", true), (4, "d", true)]);
        let step = next_step(&four, None, &group(&[1, 2, 3], &[]), &set(&[]), 5);
        assert_eq!(step, Some(Step::AddLearner(4, String::new())));
        assert_eq!(next_step(&four, None, &group(&[1, 2, 3], &[4]), &set(&[4]), 5), None);
        let five = cluster(&[(1, "a", true), (2, "b", true), (3, "c", true), (4, "d", true), (5, "e", true)]);
        assert_eq!(next_step(&five, None, &group(&[1, 2, 3], &[4, 5]), &set(&[]), 5), None, "nobody has caught up");
        let step = next_step(&five, None, &group(&[1, 2, 3], &[4, 5]), &set(&[4, 5]), 5);
        assert_eq!(step, Some(Step::Voters(set(&[1, 2, 3, 4, 5]))));
        assert_eq!(next_step(&five, None, &group(&[1, 2, 3], &[4, 5]), &set(&[4, 5]), 3), None);
    }

    #[test]
    fn a_member_that_lost_its_disk_is_replaced_once_it_has_caught_up() {
        let lost = cluster(&[(1, "a", true), (2, "b", false), (3, "c", true), (12, "b", true)]);
        assert_eq!(next_step(&lost, None, &group(&[1, 2, 3], &[12]), &set(&[]), 5), None);
        let step = next_step(&lost, None, &group(&[1, 2, 3], &[12]), &set(&[12]), 5);
        assert_eq!(step, Some(Step::Voters(set(&[1, 3, 12]))));
    }

    fn leaving(mut cluster: ClusterRecord, id: u64) -> ClusterRecord {
        cluster.members.iter_mut().filter(|member| member.node_id == id).for_each(|member| member.leaving = true);
        cluster
    }

    #[test]
    fn who_is_to_leave_goes_when_another_takes_its_place() {
        let four = leaving(cluster(&[(1, "a", true), (2, "b", true), (3, "c", true), (4, "d", true)]), 2);
        assert_eq!(next_step(&four, None, &group(&[1, 2, 3], &[4]), &set(&[]), 3), None, "nobody has caught up");
        let step = next_step(&four, None, &group(&[1, 2, 3], &[4]), &set(&[4]), 3);
        assert_eq!(step, Some(Step::Voters(set(&[1, 3, 4]))));
        assert_eq!(next_step(&four, None, &group(&[1, 3, 4], &[]), &set(&[]), 3), None, "it does not come back");
        let step = next_step(&four, None, &group(&[1, 3, 4], &[2]), &set(&[]), 3);
        assert_eq!(step, Some(Step::Remove(set(&[2]))));
    }

    #[test]
    fn who_is_to_leave_goes_though_nobody_comes() {
        let three = leaving(cluster(&[(1, "a", true), (2, "b", false), (3, "c", true)]), 2);
        let step = next_step(&three, None, &group(&[1, 2, 3], &[]), &set(&[]), 3);
        assert_eq!(step, Some(Step::Voters(set(&[1, 3]))));
        let one = leaving(cluster(&[(2, "b", true)]), 2);
        assert_eq!(next_step(&one, None, &group(&[2], &[]), &set(&[]), 3), None, "the last one stays");
    }

    fn decided(nodes: &[u64]) -> ShardReplicas {
        ShardReplicas { group: 1, nodes: nodes.to_vec(), ..ShardReplicas::default() }
    }

    #[test]
    fn a_replica_moves_when_the_new_one_has_caught_up() {
        let five = cluster(&[(1, "a", true), (2, "b", true), (3, "c", true), (4, "d", true), (5, "e", true)]);
        let decided = decided(&[1, 3, 4]);
        let step = |voters: &[u64], learners: &[u64], near: &[u64]| {
            next_step(&five, Some(&decided), &group(voters, learners), &set(near), 3)
        };
        assert_eq!(step(&[1, 2, 3], &[5], &[5]), Some(Step::AddLearner(4, String::new())));
        assert_eq!(step(&[1, 2, 3], &[4, 5], &[5]), Some(Step::Remove(set(&[5]))), "it is no member of this group");
        assert_eq!(step(&[1, 2, 3], &[4], &[]), None, "nobody has caught up");
        assert_eq!(step(&[1, 2, 3], &[4], &[4]), Some(Step::Voters(set(&[1, 3, 4]))));
        assert_eq!(step(&[1, 3, 4], &[2], &[]), Some(Step::Remove(set(&[2]))));
        assert_eq!(step(&[1, 3, 4], &[], &[]), None, "it is done");
    }

    #[test]
    fn a_replica_does_not_go_before_the_new_one_comes_though_that_is_dead() {
        let dead = cluster(&[(1, "a", true), (2, "b", true), (3, "c", true), (4, "d", false)]);
        let decided = decided(&[1, 3, 4]);
        assert_eq!(next_step(&dead, Some(&decided), &group(&[1, 2, 3], &[]), &set(&[]), 3), None);
        assert_eq!(next_step(&dead, Some(&decided), &group(&[1, 2, 3], &[4]), &set(&[]), 3), None);
    }

    #[test]
    fn who_is_to_go_hands_over_to_one_that_stays() {
        let decided = decided(&[1, 3, 4]);
        assert_eq!(next_leader(&decided, &group(&[1, 2, 3], &[4]), 1), None);
        assert!(matches!(next_leader(&decided, &group(&[1, 2, 3], &[4]), 2), Some(1 | 3)));
        assert_eq!(next_leader(&decided, &group(&[2], &[]), 2), None, "nobody can");
    }

    #[test]
    fn a_member_that_is_only_dead_keeps_its_vote() {
        let dead = cluster(&[(1, "a", true), (2, "b", false), (3, "c", true)]);
        assert_eq!(next_step(&dead, None, &group(&[1, 2, 3], &[]), &set(&[3]), 5), None);
    }
}
