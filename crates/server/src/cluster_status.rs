//! `cluster status|nodes|shards`: what the nodes of a cluster say of themselves, as a table or as JSON.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use mainstay_api::admin::{GetClusterStatusRequest, GetClusterStatusResponse, GroupStatus, NodeStatus, ShardSlots};
use mainstay_api::record::{ShardReplicas, SplitRecord, split_record::Phase};
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;

use crate::cli::{Asked, Global};
use crate::{Failure, admin_client, cluster_split};

const WATCH_EVERY: Duration = Duration::from_secs(1);
const FOLLOW_EVERY: Duration = Duration::from_millis(400);
/// Clears a terminal.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Prints the status of the cluster that the node at an address is part of; again and again, if it is watched.
pub fn run(
    global: &Global,
    flags: &Asked,
    watch: bool,
    table: fn(&GetClusterStatusResponse) -> String,
) -> Result<(), Failure> {
    let json_wanted = match global.ignored.output.as_deref() {
        None | Some("table" | "text") => false,
        Some("json") => true,
        Some(other) => return Err(format!("-o {other} is not table or json")),
    };
    let mut runtime = TokioRuntime::new(1);
    runtime.block_on(async {
        loop {
            let status = ask(&flags.address).await?;
            let text = if json_wanted { json(&status) + "\n" } else { table(&status) };
            let clear = if watch && !json_wanted { CLEAR } else { "" };
            // Whoever reads only the beginning has seen enough.
            let written = write!(std::io::stdout(), "{clear}{text}").and_then(|()| std::io::stdout().flush());
            if !watch || written.is_err() {
                return Ok(());
            }
            TokioRuntime::sleep(WATCH_EVERY).await;
        }
    })
}

/// Asks a node.
pub async fn ask(address: &str) -> Result<GetClusterStatusResponse, Failure> {
    let answer = admin_client::connect(address).await?.get_cluster_status(GetClusterStatusRequest {}).await;
    Ok(answer.map_err(|error| admin_client::silent(address, &error.message()))?.into_inner())
}

/// Shows how something comes true that was decided, a line whenever it goes on, until it is done or the patience of `wait_s`
/// seconds ends. `progress` says whether it is done, and how far it is; `also` names the command that goes on showing it.
pub async fn follow(
    address: &str,
    wait_s: u64,
    also: &str,
    progress: impl Fn(&GetClusterStatusResponse) -> (bool, String),
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut last = String::new();
    loop {
        // The node that is asked may be away for a moment, or be the one that goes.
        if let Ok(status) = ask(address).await {
            let (done, line) = progress(&status);
            if line != last {
                println!("{line}");
                let _ = std::io::stdout().flush();
                last = line;
            }
            if done {
                return Ok(());
            }
        }
        if begun.elapsed() > Duration::from_secs(wait_s) {
            return Err(format!("it is not done after {wait_s} s; the cluster goes on with it: {also}"));
        }
        TokioRuntime::sleep(FOLLOW_EVERY).await;
    }
}

/// One line for each shard.
pub fn shards(status: &GetClusterStatusResponse) -> String {
    let name = |id: u64| {
        let known = status.nodes.iter().filter_map(|node| node.member.as_ref()).find(|member| member.node_id == id);
        known.map_or_else(|| id.to_string(), |member| member.name.clone())
    };
    let mut groups: BTreeMap<u32, Vec<(String, &GroupStatus)>> = BTreeMap::new();
    for node in &status.nodes {
        let member = node.member.clone().unwrap_or_default();
        node.groups.iter().for_each(|group| groups.entry(group.group).or_default().push((member.name.clone(), group)));
    }
    let mut text = format!(
        "{:<9} {:<12} {:<13} {:>5} {:>9} {:<6} {:<28} applied (durable)\n",
        "shard", "slots", "leader", "term", "last", "", "voters"
    );
    for (number, replicas) in groups {
        let led = replicas.iter().find(|(_, group)| group.leads);
        let (leader, best) = match led {
            Some((leader, group)) => (leader.as_str(), *group),
            None => ("none", replicas[0].1),
        };
        let voters: Vec<String> = best.voters.iter().map(|id| name(*id)).collect();
        let applied: Vec<String> = replicas
            .iter()
            .map(|(name, group)| {
                let fenced = if group.fenced.is_empty() { "" } else { " fenced" };
                format!("{name} {} ({}){fenced}", group.applied, group.durable)
            })
            .collect();
        let shard = if number == 0 { "metadata".to_owned() } else { number.to_string() };
        let slots = status.shards.iter().find(|range| range.group == number);
        let slots = slots.map_or("-".to_owned(), |range| format!("{}-{}", range.from, range.to.saturating_sub(1)));
        let quiet = if best.quiet { "quiet" } else { "awake" };
        text += &format!(
            "{shard:<9} {slots:<12} {leader:<13} {:>5} {:>9} {quiet:<6} {:<28} {}\n",
            best.term,
            best.last,
            voters.join(","),
            applied.join(", ")
        );
    }
    for moving in status.replicas.iter().filter(|known| !known.placed) {
        text += &format!("shard {} moves: {}\n", moving.group, moving.reason);
    }
    if !status.next_move.is_empty() {
        text += &format!("next: {}\n", status.next_move);
    }
    for split in status.splits.iter().filter(|split| split.phase() != Phase::Done) {
        text += &format!("{}\n", cluster_split::progress(split));
    }
    text
}

/// One line for each node.
pub fn nodes(status: &GetClusterStatusResponse) -> String {
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
    if node.member.as_ref().is_some_and(|member| member.leaving) {
        return "leaves";
    }
    if node.answers && node.member.as_ref().is_some_and(|member| member.drained) {
        return "drained";
    }
    let alive = node.member.as_ref().is_some_and(|member| member.alive);
    match (node.answers, alive) {
        (true, true) => "serves",
        (true, false) => "joins",
        (false, true) => "silent",
        (false, false) => "down",
    }
}

/// Entries that others applied and this node did not yet, over all groups.
pub fn behind(status: &GetClusterStatusResponse, node: &NodeStatus) -> u64 {
    node.groups.iter().map(|group| missed(status, group)).sum()
}

/// The same of one group; none if the node of this name is no member of it yet.
pub fn behind_of(status: &GetClusterStatusResponse, name: &str, group: u32) -> Option<u64> {
    let named = |node: &&NodeStatus| node.member.as_ref().is_some_and(|member| member.name == name);
    let groups = status.nodes.iter().filter(named).flat_map(|node| &node.groups);
    let mut held = groups.filter(|known| known.group == group && (known.voter || known.learner));
    held.next().map(|known| missed(status, known))
}

fn missed(status: &GetClusterStatusResponse, group: &GroupStatus) -> u64 {
    let all = status.nodes.iter().flat_map(|node| &node.groups).filter(|other| other.group == group.group);
    all.map(|other| other.applied).max().unwrap_or_default().saturating_sub(group.applied)
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
                        r#"{{"group":{},"term":{},"leader":{},"leads":{},"voter":{},"learner":{},"last":{},"applied":{},"durable":{},"quiet":{},"voters":{:?},"fenced":{}}}"#,
                        group.group,
                        group.term,
                        group.leader,
                        group.leads,
                        group.voter,
                        group.learner,
                        group.last,
                        group.applied,
                        group.durable,
                        group.quiet,
                        group.voters,
                        quoted(&group.fenced)
                    )
                })
                .collect();
            format!(
                r#"{{"id":{},"name":{},"state":"{}","address":{},"peer_address":{},"version":{},"clock_ahead_ms":{},"groups":[{}]}}"#,
                member.node_id,
                quoted(&member.name),
                state(node),
                quoted(&member.address),
                quoted(&member.peer_address),
                quoted(&member.version),
                node.clock_ahead_ns / 1_000_000,
                groups.join(",")
            )
        })
        .collect();
    let range = |range: &ShardSlots| format!(r#"{{"group":{},"from":{},"to":{}}}"#, range.group, range.from, range.to);
    let shards: Vec<String> = status.shards.iter().map(range).collect();
    let splits: Vec<String> = status
        .splits
        .iter()
        .map(|split| {
            let SplitRecord { source, target, from, to, .. } = split;
            let phase = quoted(split.phase().as_str_name());
            format!(r#"{{"source":{source},"target":{target},"from":{from},"to":{to},"phase":{phase}}}"#)
        })
        .collect();
    let replicas: Vec<String> = status
        .replicas
        .iter()
        .map(|known| {
            let ShardReplicas { group, nodes, version, placed, reason, by_operator } = known;
            let reason = quoted(reason);
            format!(
                r#"{{"group":{group},"nodes":{nodes:?},"version":{version},"placed":{placed},"by_operator":{by_operator},"reason":{reason}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"cluster_id":{},"epoch":{},"asked_node":{},"shards":[{}],"splits":[{}],"replicas":[{}],"next_move":{},"nodes":[{}]}}"#,
        quoted(&status.cluster_id),
        status.epoch,
        status.asked_node,
        shards.join(","),
        splits.join(","),
        replicas.join(","),
        quoted(&status.next_move),
        nodes.join(",")
    )
}

/// Text as JSON has it.
pub fn quoted(text: &str) -> String {
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
