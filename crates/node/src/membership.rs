//! What operators want of members: that one comes, votes, goes, takes another's place, or leads nothing for a while.
//!
//! Here it is only decided, and refused with a reason; what is decided is written into the members' record, and the leaders of the groups
//! carry it out one safe step after the other ([`crate::placement`], [`crate::members`]). So a command may be given to any node and
//! repeated, and whoever gave it may go away.

use mainstay_api::admin::{ChangeMemberRequest, ChangeMemberResponse, MemberChange};
use mainstay_api::log::{Command, PutMember, command::Op};
use mainstay_api::record::{ClusterRecord, MemberRecord};
use mainstay_engine::Error;
use mainstay_runtime::Runtime;

use crate::node::{METADATA_GROUP, METADATA_VOTERS_MAX, Node};

/// A cluster of fewer nodes stops when one of them fails.
const SAFE: usize = 3;

/// What is to be written into a member's record, and what the operator should know.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decision {
    wish: Option<MemberRecord>,
    remarks: Vec<String>,
}

impl<R: Runtime> Node<R> {
    /// Decides about a member.
    pub(crate) async fn decide_member(&self, request: ChangeMemberRequest) -> Result<ChangeMemberResponse, Error> {
        if self.is_alone() {
            let reason = "this server is no cluster; start nodes with `mainstay server start --node-name …`";
            return Err(Error::FailedPrecondition(reason.into()));
        }
        self.catch_up(METADATA_GROUP).await?;
        let cluster = self.board().members.now();
        if request.force_quorum_loss && request.cluster != self.config().cluster_id {
            return Err(Error::FailedPrecondition(format!(
                "--force-quorum-loss needs the id of the cluster, as `mainstay cluster status` shows it: --cluster {}",
                self.config().cluster_id
            )));
        }
        let Decision { wish, remarks } =
            decide(&cluster, self.replicas(), &request).map_err(Error::FailedPrecondition)?;
        if let Some(member) = wish {
            let put = PutMember { member: Some(member), sets_wishes: true, ..PutMember::default() };
            let command = Command { op: Some(Op::PutMember(put)), ..Command::default() };
            self.propose(METADATA_GROUP, command).await?;
        }
        Ok(ChangeMemberResponse { remarks })
    }
}

fn decide(cluster: &ClusterRecord, replicas: usize, request: &ChangeMemberRequest) -> Result<Decision, String> {
    let mut members: Vec<&MemberRecord> = cluster.members.iter().filter(|member| !member.removed).collect();
    members.sort_by_key(|member| &member.name);
    let name = &request.node;
    // If a node lost its disk there may be two of its name for a while: the one that lives is meant.
    let named = members.iter().filter(|member| member.name == *name);
    let Some(member) = named.copied().max_by_key(|member| member.alive) else {
        return absent(cluster, request, &members);
    };
    let live: Vec<&MemberRecord> = members.iter().copied().filter(|member| member.alive && !member.leaving).collect();
    match request.change() {
        MemberChange::Add => add(member, &live),
        MemberChange::Promote => promote(member, replicas, &live),
        MemberChange::Remove => remove(member, &live, request.force_quorum_loss),
        MemberChange::Replace => replace(member, &members, &request.by),
        MemberChange::Drain => drain(member, &live),
        MemberChange::Resume => {
            Ok(Decision { wish: Some(MemberRecord { drained: false, ..member.clone() }), ..Decision::default() })
        }
        MemberChange::Unspecified => Err("the request does not say what is to change".into()),
    }
}

/// What to say of a node that is no member.
fn absent(
    cluster: &ClusterRecord,
    request: &ChangeMemberRequest,
    members: &[&MemberRecord],
) -> Result<Decision, String> {
    let name = &request.node;
    if request.change() == MemberChange::Remove && cluster.members.iter().any(|member| member.name == *name) {
        return Ok(Decision { remarks: vec![format!("{name} is removed already")], ..Decision::default() });
    }
    if request.change() == MemberChange::Add {
        let join: Vec<&str> = members.iter().map(|member| member.peer_address.as_str()).collect();
        let remark = format!(
            "{name} is not there yet; start it with an empty directory: mainstay server start --data-dir DIRECTORY \
             --node-name {name} --listen ADDRESS:PORT --peer-listen ADDRESS:PORT --join {}",
            join.join(",")
        );
        return Ok(Decision { remarks: vec![remark], ..Decision::default() });
    }
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    Err(format!("there is no node {name} in this cluster; its nodes are {}", names.join(", ")))
}

fn add(member: &MemberRecord, live: &[&MemberRecord]) -> Result<Decision, String> {
    let mut decision = Decision::default();
    if member.leaving || member.drained {
        decision.wish = Some(MemberRecord { leaving: false, drained: false, ..member.clone() });
    }
    if !member.alive {
        decision.remarks.push(format!("{} is a member, and is down; start it", member.name));
    } else if live.len().is_multiple_of(2) {
        decision.remarks.push(even(live.len()));
    }
    Ok(decision)
}

/// Why an even number of nodes is no better than the odd one below it.
pub(crate) fn even(count: usize) -> String {
    format!("{count} nodes survive no more failures than {}; add one more, or remove one", count.saturating_sub(1))
}

/// Voting follows from the number of live members; a promotion is refused where it would not help.
fn promote(member: &MemberRecord, replicas: usize, live: &[&MemberRecord]) -> Result<Decision, String> {
    let name = &member.name;
    if !member.alive || member.leaving {
        return Err(format!("{name} is down or on its way out; a node votes only while it serves"));
    }
    if live.len() > replicas && live.len().is_multiple_of(2) {
        return Err(format!("{name} cannot vote in the metadata group: {}", even(live.len())));
    }
    if live.len() > METADATA_VOTERS_MAX {
        return Err(format!(
            "{METADATA_VOTERS_MAX} nodes vote already, which is the most; to have {name} vote, replace one of them: \
             mainstay cluster replace NODE --by {name}"
        ));
    }
    let mut decision = Decision::default();
    if live.len() > replicas {
        let remark = format!("{name} votes in the metadata group; a shard has {replicas} voters");
        decision.remarks.push(remark);
    }
    Ok(decision)
}

fn remove(member: &MemberRecord, live: &[&MemberRecord], force: bool) -> Result<Decision, String> {
    let rest: Vec<&str> =
        live.iter().filter(|one| one.node_id != member.node_id).map(|one| one.name.as_str()).collect();
    if rest.is_empty() {
        return Err(format!("{} is the last node that serves; it cannot be removed", member.name));
    }
    if rest.len() < SAFE && !force {
        return Err(format!(
            "without {} the cluster has only {} ({}), and stops when one of them fails. Start another node first, or one with the \
             name {} and an empty directory, which takes its place. To remove it all the same: --force-quorum-loss --cluster ID",
            member.name,
            if rest.len() == 1 { "one node".into() } else { format!("{} nodes", rest.len()) },
            rest.join(", "),
            member.name
        ));
    }
    let mut remarks = Vec::new();
    if rest.len().is_multiple_of(2) {
        remarks.push(even(rest.len()));
    }
    Ok(Decision { wish: Some(MemberRecord { leaving: true, ..member.clone() }), remarks })
}

fn replace(member: &MemberRecord, members: &[&MemberRecord], by: &str) -> Result<Decision, String> {
    let name = &member.name;
    let new = members.iter().find(|new| new.name == by && new.node_id != member.node_id);
    match new {
        None if by == name => {
            Err(format!("a node that has lost its disk is replaced by itself: start {name} with an empty directory"))
        }
        None => {
            Err(format!("there is no node {by} yet to replace {name}; start it, and wait: mainstay cluster add {by}"))
        }
        Some(new) if !new.alive || new.leaving || new.drained => {
            Err(format!("{by} is down, drained or on its way out, and cannot take the place of {name}"))
        }
        Some(_) => Ok(Decision { wish: Some(MemberRecord { leaving: true, ..member.clone() }), remarks: Vec::new() }),
    }
}

fn drain(member: &MemberRecord, live: &[&MemberRecord]) -> Result<Decision, String> {
    if !live.iter().any(|other| other.node_id != member.node_id && !other.drained) {
        return Err(format!("no other node could take over what {} leads", member.name));
    }
    let wish = Some(MemberRecord { drained: true, ..member.clone() });
    Ok(Decision { wish, remarks: vec![format!("{} still votes; to stop it, end its process", member.name)] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(members: &[(&str, bool)]) -> ClusterRecord {
        let members = (1..).zip(members).map(|(node_id, (name, alive))| MemberRecord {
            node_id,
            name: (*name).into(),
            peer_address: format!("{name}:1"),
            alive: *alive,
            ..MemberRecord::default()
        });
        ClusterRecord { epoch: 1, members: members.collect() }
    }

    fn ask(
        cluster: &ClusterRecord,
        change: MemberChange,
        node: &str,
        by: &str,
        force: bool,
    ) -> Result<Decision, String> {
        let request = ChangeMemberRequest {
            change: change as i32,
            node: node.into(),
            by: by.into(),
            force_quorum_loss: force,
            ..ChangeMemberRequest::default()
        };
        decide(cluster, 3, &request)
    }

    fn wish(decision: Result<Decision, String>) -> MemberRecord {
        decision.expect("is accepted").wish.expect("changes something")
    }

    #[test]
    fn no_removal_below_three_without_force() {
        let three = cluster(&[("a", true), ("b", true), ("c", true)]);
        let refused = ask(&three, MemberChange::Remove, "c", "", false).expect_err("is refused");
        assert!(refused.contains("only 2 nodes (a, b)") && refused.contains("--force-quorum-loss"), "{refused}");
        assert!(wish(ask(&three, MemberChange::Remove, "c", "", true)).leaving);
        let four = cluster(&[("a", true), ("b", true), ("c", true), ("d", true)]);
        assert!(wish(ask(&four, MemberChange::Remove, "a", "", false)).leaving);
        let down = cluster(&[("a", true), ("b", true), ("c", false), ("d", true)]);
        assert!(wish(ask(&down, MemberChange::Remove, "c", "", false)).leaving, "who is down is not needed");
        ask(&down, MemberChange::Remove, "a", "", false).expect_err("two would be left");
        let one = cluster(&[("a", true)]);
        ask(&one, MemberChange::Remove, "a", "", true).expect_err("somebody must stay");
    }

    #[test]
    fn a_replacement_must_serve() {
        let four = cluster(&[("a", true), ("b", true), ("c", true), ("d", true), ("e", false)]);
        assert!(wish(ask(&four, MemberChange::Replace, "a", "d", false)).leaving);
        let reason = |by| ask(&four, MemberChange::Replace, "a", by, false).expect_err("is refused");
        assert!(reason("e").contains("cannot take the place"));
        assert!(reason("f").contains("mainstay cluster add f"));
        assert!(reason("a").contains("empty directory"));
    }

    #[test]
    fn names_that_are_not_there_are_told() {
        let two = cluster(&[("a", true), ("b", true)]);
        let refused = ask(&two, MemberChange::Drain, "x", "", false).expect_err("is refused");
        assert!(refused.ends_with("its nodes are a, b"), "{refused}");
        let told = ask(&two, MemberChange::Add, "x", "", false).expect("waits").remarks;
        assert!(told[0].contains("--node-name x") && told[0].contains("--join a:1,b:1"), "{told:?}");
        let told = ask(&two, MemberChange::Add, "b", "", false).expect("is there").remarks;
        assert_eq!(told, ["2 nodes survive no more failures than 1; add one more, or remove one"]);
    }

    #[test]
    fn a_drained_node_comes_back() {
        let mut two = cluster(&[("a", true), ("b", true)]);
        assert!(wish(ask(&two, MemberChange::Drain, "a", "", false)).drained);
        two.members[0].drained = true;
        ask(&two, MemberChange::Drain, "b", "", false).expect_err("nobody else leads");
        assert!(!wish(ask(&two, MemberChange::Resume, "a", "", false)).drained);
        assert!(!wish(ask(&two, MemberChange::Add, "a", "", false)).drained);
    }

    #[test]
    fn a_promotion_that_does_not_help_is_refused() {
        let four = cluster(&[("a", true), ("b", true), ("c", true), ("d", true)]);
        assert!(
            ask(&four, MemberChange::Promote, "d", "", false)
                .expect_err("is refused")
                .contains("no more failures than 3")
        );
        let five = cluster(&[("a", true), ("b", true), ("c", true), ("d", true), ("e", true)]);
        assert_eq!(ask(&five, MemberChange::Promote, "e", "", false).expect("votes").remarks.len(), 1);
    }
}
