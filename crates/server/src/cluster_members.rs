//! `cluster add|promote|remove|replace|drain|resume NODE`: says what is wanted of a member, and shows how it comes true.
//!
//! The cluster goes on with it by itself; whoever watches may go away.

use std::collections::BTreeSet;

use mainstay_api::admin::{ChangeMemberRequest, GetClusterStatusResponse, MemberChange, NodeStatus};
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;

use crate::cli::MemberFlags;
use crate::{Failure, admin_client, cluster_status};

/// Has a member changed, and waits until it is, or the patience ends.
pub fn run(change: MemberChange, flags: &MemberFlags, by: Option<&str>, force: Option<&str>) -> Result<(), Failure> {
    let mut runtime = TokioRuntime::new(1);
    runtime.block_on(change_member(change, flags, by, force))
}

async fn change_member(
    change: MemberChange,
    flags: &MemberFlags,
    by: Option<&str>,
    force: Option<&str>,
) -> Result<(), Failure> {
    let request = ChangeMemberRequest {
        change: change as i32,
        node: flags.node.clone(),
        by: by.unwrap_or_default().to_owned(),
        force_quorum_loss: force.is_some(),
        cluster: force.unwrap_or_default().to_owned(),
    };
    let before = cluster_status::ask(&flags.address).await?;
    let meant = find(&before, &flags.node).and_then(|node| node.member.as_ref()).map(|member| member.node_id);
    let mut client = admin_client::connect(&flags.address).await?;
    let decided = client.change_member(request).await.map_err(|refusal| refusal.message().to_owned())?;
    decided.into_inner().remarks.iter().for_each(|remark| println!("{remark}"));
    let progress = |status: &GetClusterStatusResponse| progress(change, status, &flags.node, meant);
    cluster_status::follow(&flags.address, flags.wait_s, "mainstay cluster nodes", progress).await
}

fn find<'a>(status: &'a GetClusterStatusResponse, name: &str) -> Option<&'a NodeStatus> {
    let named = status.nodes.iter().filter(|node| node.member.as_ref().is_some_and(|member| member.name == name));
    named.max_by_key(|node| node.answers)
}

/// Whether it is done, and how far it is.
fn progress(change: MemberChange, status: &GetClusterStatusResponse, name: &str, meant: Option<u64>) -> (bool, String) {
    let groups =
        status.nodes.iter().flat_map(|node| &node.groups).map(|group| group.group).collect::<BTreeSet<_>>().len();
    match change {
        MemberChange::Remove | MemberChange::Replace => {
            let node = status.nodes.iter().find(|node| node.member.as_ref().map(|member| member.node_id) == meant);
            let votes = |id: u64| {
                let led = status.nodes.iter().flat_map(|node| &node.groups).filter(|group| group.leads);
                led.filter(|group| group.voters.contains(&id)).count()
            };
            match (node, meant) {
                (Some(_), Some(id)) => (false, format!("{name} votes in {} of {groups} groups", votes(id))),
                _ => (true, format!("{name} is removed; its data directory is of no use any more")),
            }
        }
        MemberChange::Drain => {
            let Some(node) = find(status, name) else { return (false, format!("{name} does not answer")) };
            let leads = node.groups.iter().filter(|group| group.leads).count();
            (leads == 0, format!("{name} leads {leads} of {groups} groups"))
        }
        MemberChange::Resume => (true, format!("{name} leads and owns queues again within some seconds")),
        MemberChange::Add | MemberChange::Promote | MemberChange::Unspecified => {
            let Some(node) = find(status, name).filter(|node| node.answers) else {
                return (false, format!("waits for {name}"));
            };
            let replicas = node.groups.iter().filter(|group| group.voter || group.learner).count();
            // In a larger cluster it gets its share of the shards.
            let wanted = node.groups.len();
            let is_settled = status.next_move.is_empty() && status.replicas.iter().all(|known| known.placed);
            let votes = node.groups.iter().filter(|group| group.voter).count();
            let behind = cluster_status::behind(status, node);
            let line = format!("{name} has {replicas} of {groups} groups, votes in {votes}, {behind} entries behind");
            // More nodes than a shard has voters need not vote there.
            let enough = if change == MemberChange::Promote { votes > 0 } else { true };
            (replicas == wanted && is_settled && behind < 100 && enough, line)
        }
    }
}
