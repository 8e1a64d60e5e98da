//! `cluster status`: what the nodes of a cluster say of themselves, as a table or as JSON.

use std::time::Duration;

use mainstay_api::admin::admin_service_client::AdminServiceClient;
use mainstay_api::admin::{GetClusterStatusRequest, GetClusterStatusResponse, NodeStatus};
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;
use tonic::transport::Endpoint;

use crate::Failure;
use crate::cli::{ClusterStatus, Global};

const WITHIN: Duration = Duration::from_secs(5);

/// Prints the status of the cluster that the node at an address is part of.
pub fn run(global: &Global, flags: &ClusterStatus) -> Result<(), Failure> {
    let mut runtime = TokioRuntime::new(1);
    let status = runtime.block_on(ask(&flags.address))?;
    match global.ignored.output.as_deref() {
        None | Some("table" | "text") => print!("{}", table(&status)),
        Some("json") => println!("{}", json(&status)),
        Some(other) => return Err(format!("-o {other} is not table or json")),
    }
    Ok(())
}

/// Asks a node.
pub async fn ask(address: &str) -> Result<GetClusterStatusResponse, Failure> {
    let wrong = |error: &dyn std::fmt::Display| format!("no node answers at {address}: {error}; say another --address");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| wrong(&error))?;
    let channel = endpoint.connect_timeout(WITHIN).timeout(WITHIN).connect().await.map_err(|error| wrong(&error))?;
    let answer = AdminServiceClient::new(channel).get_cluster_status(GetClusterStatusRequest {}).await;
    Ok(answer.map_err(|error| wrong(&error.message()))?.into_inner())
}

/// One line for each node.
pub fn table(status: &GetClusterStatusResponse) -> String {
    let mut text = format!("cluster {}\n", status.cluster_id);
    text += &format!(
        "{:<12} {:<8} {:<22} {:<22} {:>6} {:>7}  metadata\n",
        "node", "state", "clients", "nodes", "leads", "behind"
    );
    for node in &status.nodes {
        let member = node.member.clone().unwrap_or_default();
        let leads = node.groups.iter().filter(|group| group.leads && group.group > 0).count();
        let metadata = match node.groups.first() {
            Some(group) if group.leads => "leader",
            Some(group) if group.voter => "voter",
            Some(_) => "learner",
            None => "-",
        };
        let state = state(node);
        let behind = behind(status, node);
        text += &format!(
            "{:<12} {state:<8} {:<22} {:<22} {leads:>6} {behind:>7}  {metadata}\n",
            member.name, member.address, member.peer_address
        );
    }
    text
}

fn state(node: &NodeStatus) -> &'static str {
    let alive = node.member.as_ref().is_some_and(|member| member.alive);
    match (node.answers, alive) {
        (true, true) => "serves",
        (true, false) => "joins",
        (false, true) => "silent",
        (false, false) => "down",
    }
}

/// Entries that others applied and this node did not yet, over all groups.
fn behind(status: &GetClusterStatusResponse, node: &NodeStatus) -> u64 {
    let most = |group: u32| {
        let all = status.nodes.iter().flat_map(|node| &node.groups).filter(|other| other.group == group);
        all.map(|other| other.applied).max().unwrap_or_default()
    };
    node.groups.iter().map(|group| most(group.group).saturating_sub(group.applied)).sum()
}

fn json(status: &GetClusterStatusResponse) -> String {
    let nodes: Vec<String> = status
        .nodes
        .iter()
        .map(|node| {
            let member = node.member.clone().unwrap_or_default();
            let groups: Vec<String> = node
                .groups
                .iter()
                .map(|group| {
                    format!(
                        r#"{{"group":{},"term":{},"leader":{},"leads":{},"voter":{},"last":{},"applied":{}}}"#,
                        group.group, group.term, group.leader, group.leads, group.voter, group.last, group.applied
                    )
                })
                .collect();
            format!(
                r#"{{"id":{},"name":{},"state":"{}","address":{},"peer_address":{},"version":{},"groups":[{}]}}"#,
                member.node_id,
                quoted(&member.name),
                state(node),
                quoted(&member.address),
                quoted(&member.peer_address),
                quoted(&member.version),
                groups.join(",")
            )
        })
        .collect();
    format!(
        r#"{{"cluster_id":{},"epoch":{},"asked_node":{},"nodes":[{}]}}"#,
        quoted(&status.cluster_id),
        status.epoch,
        status.asked_node,
        nodes.join(",")
    )
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\u000a""#);
    }
}
