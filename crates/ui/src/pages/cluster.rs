//! The cluster as a map: a row for each node, a column for each group of replicas; who leads what, and who is behind.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::Response;
use mainstay_api::admin::{GetClusterStatusRequest, GetClusterStatusResponse, GroupStatus, NodeStatus};
use maud::{Markup, html};
use serde::Deserialize;

use super::{actions, members};
use crate::api::ask;
use crate::format::count;
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, live};

/// Entries behind the leader that are a delay of the wire, not a replica that lags.
const BEHIND_LITTLE: u64 = 50;

/// The cluster as this node sees it.
pub async fn status(ui: &Ui) -> Result<GetClusterStatusResponse, Problem> {
    ask(ui.api.admin().get_cluster_status(GetClusterStatusRequest {})).await
}

/// What the address says.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    done: String,
}

/// The map.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let status = status(&ui).await?;
    let seen = live::print(&status);
    let map = Map::of(&ui.config.public_path, status);
    let body = html! {
        @if let Some(done) = actions::done(&asked.done) { p.done role="status" { (done) } }
        h1 { "Cluster" }
        div #map data-region { (map.markup()) }
    };
    let events = Some(live::address(&format!("{}/cluster/events", ui.config.public_path), seen));
    let shell = Shell { section: Section::Cluster, namespace: None, title: "Cluster", events };
    Ok(shell.answer(&ui, &visitor, body).await)
}

/// Says when the map changes.
pub async fn events(State(ui): State<Arc<Ui>>, Query(seen): Query<live::Seen>) -> Response {
    live::changes(&seen, move || {
        let ui = ui.clone();
        async move { live::print(&status(&ui).await.ok()?) }
    })
}

/// What is drawn.
struct Map<'a> {
    /// Where the pages are.
    base: &'a str,
    status: GetClusterStatusResponse,
    groups: Vec<u32>,
}

/// How a node is, as `mainstay cluster status` names it: the word, its class, and what it means.
fn state(node: &NodeStatus) -> (&'static str, &'static str, &'static str) {
    let alive = node.member.as_ref().is_some_and(|member| member.alive);
    match (node.answers, alive) {
        (true, true) => ("serves", "completed", "It answers and is a live member."),
        (true, false) => ("joins", "running", "It answers; the cluster does not count on it yet."),
        (false, true) => ("silent", "timedout", "It does not answer; the cluster still counts on it."),
        (false, false) => ("down", "failed", "It does not answer, and others do its work."),
    }
}

impl<'a> Map<'a> {
    fn of(base: &'a str, status: GetClusterStatusResponse) -> Self {
        let groups: BTreeSet<u32> =
            status.nodes.iter().flat_map(|node| &node.groups).map(|group| group.group).collect();
        Self { base, status, groups: groups.into_iter().collect() }
    }

    /// Entries of a group that some replica has applied.
    fn most(&self, group: u32) -> u64 {
        let all = self.status.nodes.iter().flat_map(|node| &node.groups).filter(|other| other.group == group);
        all.map(|other| other.applied).max().unwrap_or_default()
    }

    fn behind(&self, node: &NodeStatus) -> u64 {
        node.groups.iter().map(|group| self.most(group.group).saturating_sub(group.applied)).sum()
    }

    fn markup(&self) -> Markup {
        let nodes = &self.status.nodes;
        let answering = nodes.iter().filter(|node| node.answers).count();
        let leaderless: Vec<u32> = self.groups.iter().copied().filter(|group| !self.has_leader(*group)).collect();
        html! {
            section.summary {
                dl.facts {
                    (fact("Nodes", &html! { (answering) " of " (nodes.len()) " answer" }))
                    (fact("Shards", &html! { (self.groups.iter().filter(|group| **group > 0).count()) }))
                    (fact("Without a leader", &html! {
                        @if leaderless.is_empty() { "none" } @else { span.bad { @for group in &leaderless { (name(*group)) " " } } }
                    }))
                    (fact("Members' epoch", &html! { (self.status.epoch) }))
                    (fact("Cluster id", &html! { span.mono { (self.status.cluster_id) } }))
                }
            }
            @if nodes.len() == 1 {
                p.muted.note { "This node is alone. " code { "mainstay cluster dev --nodes 3" } " shows a cluster on this machine." }
            }
            div.scroll {
                table.list.map {
                    caption.sr { "Nodes and the replicas they hold" }
                    thead { tr {
                        th scope="col" { "Node" } th scope="col" { "State" } th.number scope="col" { "Leads" } th.number scope="col" { "Behind" }
                        @if nodes.len() > 1 { th scope="col" { span.sr { "What can be done" } } }
                        @for group in &self.groups { th.cell scope="col" title=(if *group == 0 { "Metadata: members, namespaces" } else { "A shard of the workflows" }) { (name(*group)) } }
                    } }
                    tbody { @for node in nodes { (self.row(node)) } }
                }
            }
            ul.legend aria-label="Signs" {
                li { span.replica.leads { "★" } "leads" }
                li { span.replica { "•" } "follows" }
                li { span.replica.learner { "◦" } "learns, has no vote" }
                li { span.replica.late { "•" } "is behind; the number says by how many entries" }
            }
        }
    }

    fn has_leader(&self, group: u32) -> bool {
        self.status.nodes.iter().flat_map(|node| &node.groups).any(|other| other.group == group && other.leads)
    }

    fn row(&self, node: &NodeStatus) -> Markup {
        let member = node.member.clone().unwrap_or_default();
        let (word, class, meaning) = state(node);
        let leads = node.groups.iter().filter(|group| group.leads && group.group > 0).count();
        let behind = self.behind(node);
        html! {
            tr {
                th scope="row" {
                    (if member.name.is_empty() { "this node" } else { member.name.as_str() })
                    @if member.node_id == self.status.asked_node && self.status.nodes.len() > 1 { " " small.muted { "drew this" } }
                    @if !member.address.is_empty() { br; span.muted.mono { (member.address) } }
                    @if !member.version.is_empty() { " " span.muted { (member.version) } }
                    @if member.drained { " " span.tag { "drained" } }
                    @if member.leaving { " " span.tag { "leaves" } }
                }
                td title=(meaning) { span class={ "st " (class) } { i.dot {} (word) } }
                td.number { (leads) }
                td.number.bad[behind > BEHIND_LITTLE] { @if node.answers { (count(i64::try_from(behind).unwrap_or(i64::MAX))) } @else { "–" } }
                @if self.status.nodes.len() > 1 { td { (members::links(self.base, node)) } }
                @for group in &self.groups {
                    td.cell { (self.replica(node.groups.iter().find(|other| other.group == *group))) }
                }
            }
        }
    }

    fn replica(&self, group: Option<&GroupStatus>) -> Markup {
        let Some(group) = group else { return html! { span.replica.none { "·" } } };
        let behind = self.most(group.group).saturating_sub(group.applied);
        let role = if group.leads {
            "leads"
        } else if group.voter {
            "follows"
        } else {
            "learns"
        };
        let class = match (group.leads, group.voter) {
            (true, _) => "replica leads",
            (false, true) if behind > BEHIND_LITTLE => "replica late",
            (false, true) => "replica",
            (false, false) => "replica learner",
        };
        let sign = if group.leads {
            "★"
        } else if group.voter {
            "•"
        } else {
            "◦"
        };
        let words = format!(
            "{}: {role}, term {}, applied {} of {}, {behind} behind",
            name(group.group),
            group.term,
            group.applied,
            group.last
        );
        html! {
            span class=(class) title=(words) {
                span aria-hidden="true" { (sign) @if behind > BEHIND_LITTLE { small { (count(i64::try_from(behind).unwrap_or(i64::MAX))) } } }
                span.sr { (words) }
            }
        }
    }
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn name(group: u32) -> String {
    if group == 0 { "meta".into() } else { group.to_string() }
}

#[cfg(test)]
mod tests {
    use mainstay_api::record::MemberRecord;

    use super::*;

    fn node(id: u64, alive: bool, groups: Vec<GroupStatus>) -> NodeStatus {
        let member = MemberRecord { node_id: id, name: format!("node-{id}"), alive, ..MemberRecord::default() };
        NodeStatus { member: Some(member), answers: !groups.is_empty(), groups, ..NodeStatus::default() }
    }

    #[test]
    fn the_map_shows_leaders_lag_and_who_is_down() {
        let group =
            |leads, applied| GroupStatus { group: 1, leads, voter: true, applied, last: 500, ..GroupStatus::default() };
        let nodes =
            vec![node(1, true, vec![group(true, 500)]), node(2, true, vec![group(false, 100)]), node(3, false, vec![])];
        let map = Map::of("", GetClusterStatusResponse { nodes, ..Default::default() });
        let page = map.markup().into_string();
        assert!(page.contains("2 of 3 answer") && page.contains("400 behind"), "{page}");
        assert!(page.contains("replica leads") && page.contains("replica late") && page.contains(">down<"));
        assert!(page.contains("none"), "group 1 has a leader");
    }

    #[test]
    fn a_node_that_is_alone_is_a_map_too() {
        let map = Map::of("", GetClusterStatusResponse { nodes: vec![NodeStatus::default()], ..Default::default() });
        assert!(map.markup().into_string().contains("This node is alone"));
    }
}
