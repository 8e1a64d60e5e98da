//! What is wrong with a cluster, each thing in a sentence that says what to do about it. Made of what all nodes say of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_api::admin::{GetClusterStatusResponse, GroupStatus, NodeStatus};
use mainstay_api::record::MemberRecord;
use mainstay_runtime::Runtime;

use crate::membership::even;
use crate::node::{METADATA_GROUP, Node};

/// A clock that is this far from another is told.
const CLOCKS_APART_NS: i64 = 500_000_000;
/// A group may be without a leader for so long while one hands over to the next.
const HAND_OVER: Duration = Duration::from_millis(1_500);
/// A replica that misses so many entries is told.
const BEHIND: u64 = 10_000;

impl<R: Runtime> Node<R> {
    /// What is wrong, as far as this node can tell; nothing for a node that is no part of a cluster.
    pub(crate) async fn check(&self) -> Vec<String> {
        if self.is_alone() {
            return Vec::new();
        }
        let status = self.status_of_all().await;
        if has_leaders(&status) {
            return problems(&status);
        }
        // A leader may just be handing over.
        R::sleep(HAND_OVER).await;
        problems(&self.status_of_all().await)
    }
}

fn has_leaders(status: &GetClusterStatusResponse) -> bool {
    let all = status.nodes.iter().flat_map(|node| &node.groups);
    let led: BTreeSet<u32> = all.clone().filter(|group| group.leads).map(|group| group.group).collect();
    all.into_iter().all(|group| led.contains(&group.group))
}

/// A node with its member's record.
struct Seen<'a> {
    member: MemberRecord,
    status: &'a NodeStatus,
}

pub(crate) fn problems(status: &GetClusterStatusResponse) -> Vec<String> {
    let nodes: Vec<Seen<'_>> =
        status.nodes.iter().map(|status| Seen { member: status.member.clone().unwrap_or_default(), status }).collect();
    let mut found = Vec::new();
    of_members(&nodes, &mut found);
    of_clocks(&nodes, &mut found);
    of_groups(&nodes, status.replicas_per_shard as usize, &mut found);
    for node in &nodes {
        found.extend(node.status.notices.iter().map(|notice| format!("node {}: {notice}", node.member.name)));
    }
    found
}

fn of_members(nodes: &[Seen<'_>], found: &mut Vec<String>) {
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    let mut versions: BTreeSet<&str> = BTreeSet::new();
    for Seen { member, status } in nodes {
        if status.answers {
            *names.entry(&member.name).or_default() += 1;
            versions.insert(&member.version);
        } else {
            found.push(format!(
                "node {} does not answer at {}; start it, or look at the network between the nodes. If its disk is lost, start it \
                 with an empty directory; if it is gone for good: mainstay cluster remove {}",
                member.name, member.peer_address, member.name
            ));
        }
        if member.leaving {
            found.push(format!("node {} is being removed and still has replicas or is not stopped", member.name));
        }
        if member.drained {
            found.push(format!(
                "node {} is drained and leads nothing; to undo: mainstay cluster resume {}",
                member.name, member.name
            ));
        }
    }
    for (name, count) in names.into_iter().filter(|(_, count)| *count > 1) {
        found.push(format!(
            "{count} nodes have the name {name}; stop all but one, and start them with names of their own"
        ));
    }
    if versions.len() > 1 {
        let versions: Vec<&str> = versions.into_iter().collect();
        found.push(format!("nodes run different versions ({}); bring them to one", versions.join(", ")));
    }
    let count = nodes.iter().filter(|node| !node.member.leaving).count();
    if count.is_multiple_of(2) {
        found.push(even(count));
    } else if count == 1 {
        found.push("there is one node only; a cluster that survives a failure has three".into());
    }
}

fn of_clocks(nodes: &[Seen<'_>], found: &mut Vec<String>) {
    // The asked node's own clock is at 0.
    let mut offsets: Vec<i64> =
        nodes.iter().filter(|node| node.status.answers).map(|node| node.status.clock_ahead_ns).collect();
    offsets.sort_unstable();
    let Some(median) = offsets.get(offsets.len().saturating_sub(1) / 2).copied() else { return };
    for Seen { member, status } in nodes.iter().filter(|node| node.status.answers) {
        let off = status.clock_ahead_ns - median;
        if off.abs() > CLOCKS_APART_NS {
            let (by, side) = (off.abs() / 1_000_000, if off > 0 { "ahead of" } else { "behind" });
            found.push(format!(
                "the clock of node {} is {by} ms {side} the others; set it, and let NTP or chrony keep it",
                member.name
            ));
        }
    }
}

fn of_groups(nodes: &[Seen<'_>], wanted: usize, found: &mut Vec<String>) {
    let mut groups: BTreeMap<u32, Vec<(&str, &GroupStatus)>> = BTreeMap::new();
    for Seen { member, status } in nodes {
        for group in &status.groups {
            groups.entry(group.group).or_default().push((&member.name, group));
        }
    }
    let serving = nodes.iter().filter(|node| node.status.answers && !node.member.leaving).count();
    let (mut headless, mut thin) = (Vec::new(), Vec::new());
    for (number, replicas) in groups {
        let led = replicas.iter().find(|(_, group)| group.leads);
        match led {
            None => headless.push(number),
            Some((_, group)) if group.voters.len() < wanted.min(serving) => thin.push(number),
            Some(_) => {}
        }
        let most = replicas.iter().map(|(_, group)| group.applied).max().unwrap_or_default();
        for (name, group) in replicas {
            if !group.fenced.is_empty() {
                found.push(format!("node {name} does not trust its replica of {}: {}", called(number), group.fenced));
            } else if most - group.applied.min(most) > BEHIND {
                found.push(format!(
                    "node {name} is {} entries behind in {}; it catches up by itself unless its disk or network is too slow",
                    most - group.applied,
                    called(number)
                ));
            }
        }
    }
    if !headless.is_empty() {
        found.push(format!(
            "no leader for {}: a majority of the nodes that vote there must run and reach each other; start those that do not answer",
            list(&headless)
        ));
    }
    if !thin.is_empty() {
        found.push(format!("{} have fewer than {wanted} voters; wait for the new replicas to catch up", list(&thin)));
    }
}

fn called(group: u32) -> String {
    if group == METADATA_GROUP { "the metadata group".into() } else { format!("shard {group}") }
}

/// Names of groups, not too many.
fn list(groups: &[u32]) -> String {
    const SHOWN: usize = 5;
    let mut names: Vec<String> = groups.iter().take(SHOWN).map(|group| called(*group)).collect();
    if groups.len() > SHOWN {
        names.push(format!("{} more", groups.len() - SHOWN));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, answers: bool) -> NodeStatus {
        let member = MemberRecord { name: name.into(), alive: answers, version: "1".into(), ..MemberRecord::default() };
        let leads = name == "a";
        let group = GroupStatus { group: 1, leads, voters: vec![1, 2, 3], applied: 20_000, ..GroupStatus::default() };
        let groups = if answers { vec![group] } else { Vec::new() };
        NodeStatus { member: Some(member), answers, groups, ..NodeStatus::default() }
    }

    fn found(nodes: Vec<NodeStatus>) -> String {
        problems(&GetClusterStatusResponse { nodes, replicas_per_shard: 3, ..GetClusterStatusResponse::default() })
            .join("\n")
    }

    #[test]
    fn a_sound_cluster_has_no_problems() {
        assert_eq!(found(vec![node("a", true), node("b", true), node("c", true)]), "");
    }

    #[test]
    fn each_problem_has_its_sentence() {
        let three = || vec![node("a", true), node("b", true), node("c", true)];
        assert!(found(vec![node("a", true), node("b", false), node("c", true)]).contains("node b does not answer"));
        assert!(found(vec![node("a", true), node("b", true)]).contains("2 nodes survive no more"));
        assert!(found(vec![node("a", true), node("a", true), node("c", true)]).contains("2 nodes have the name a"));
        assert!(found(vec![node("b", true), node("d", true), node("c", true)]).contains("no leader for shard 1"));
        let mut late = three();
        late[1].clock_ahead_ns = -700_000_000;
        assert!(found(late).contains("node b is 700 ms behind the others"));
        let mut own = three();
        (own[1].clock_ahead_ns, own[2].clock_ahead_ns) = (900_000_000, 900_000_000);
        assert!(
            found(own).contains("node a is 900 ms behind the others"),
            "the asked node may be the one that is wrong"
        );
        let mut mixed = three();
        mixed[2].member.as_mut().expect("has one").version = "2".into();
        assert!(found(mixed).contains("different versions (1, 2)"));
        let mut behind = three();
        behind[2].groups[0].applied = 5;
        assert!(found(behind).contains("node c is 19995 entries behind in shard 1"));
        let mut refused = three();
        refused[0].notices.push("a stranger".into());
        assert!(found(refused).contains("node a: a stranger"));
    }
}
