//! What operators can do with a member of the cluster: drain, resume, promote. A page says what it means and asks; then it is one
//! call of the API, and the map shows how it comes true.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_api::admin::{ChangeMemberRequest, MemberChange, NodeStatus};
use maud::{Markup, html};
use serde::Deserialize;

use super::{cluster, secret};
use crate::Ui;
use crate::api::ask;
use crate::link::parameters;
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;

/// The fields of the links and of the forms.
#[derive(Debug, Default, Deserialize)]
pub struct Fields {
    #[serde(default)]
    node: String,
    #[serde(default)]
    change: String,
}

/// Name, change, words on the button, what it means.
type Known = (&'static str, MemberChange, &'static str, &'static str);

const DRAIN: Known = (
    "drain",
    MemberChange::Drain,
    "Drain",
    "Others lead its shards and own its task queues within some seconds; it still keeps its replicas and votes. It stays so until it is resumed. Do this before its machine is stopped.",
);
const RESUME: Known = (
    "resume",
    MemberChange::Resume,
    "Resume",
    "It may lead shards and own task queues again, and will within some seconds.",
);
const PROMOTE: Known = (
    "promote",
    MemberChange::Promote,
    "Promote",
    "Where its replicas only learn, it gets a vote as soon as it has what the others have, as far as there is room for voters.",
);

fn known(name: &str) -> Result<Known, Problem> {
    let found = [DRAIN, RESUME, PROMOTE].into_iter().find(|(known, ..)| *known == name);
    found.ok_or_else(|| {
        Problem::invalid("A node can be drained, resumed and promoted here; the rest is done by mainstay cluster.")
    })
}

/// The links of one node's row: only what would change something.
pub fn links(base: &str, node: &NodeStatus) -> Markup {
    let Some(member) = node.member.as_ref().filter(|member| !member.removed && !member.leaving) else {
        return html! {};
    };
    let link = |(name, _, words, _): Known| {
        html! {
            a.button.small href={ (base) "/cluster/member" (parameters(&[("change", name), ("node", &member.name)])) } {
                (words) span.sr { " " (member.name) }
            }
        }
    };
    html! {
        div.acts {
            (link(if member.drained { RESUME } else { DRAIN }))
            @if node.groups.iter().any(|group| group.learner) { (link(PROMOTE)) }
        }
    }
}

/// Says what it means, before anything is done.
pub async fn confirm(
    State(ui): State<Arc<Ui>>,
    Query(fields): Query<Fields>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let (name, _, words, meaning) = known(&fields.change)?;
    let status = cluster::status(&ui).await?;
    let named = |node: &&NodeStatus| node.member.as_ref().is_some_and(|member| member.name == fields.node);
    let node = status.nodes.iter().filter(named).max_by_key(|node| node.answers);
    let node = node.ok_or_else(|| Problem::not_found("There is no member of this name."))?;
    let leads = node.groups.iter().filter(|group| group.leads).count();
    let map = format!("{}/cluster", ui.config.public_path);
    let body = html! {
        section.panel.narrow {
            nav.crumbs aria-label="Where" { a href=(map) { "Cluster" } }
            h1 { (words) " " (fields.node) "?" }
            p.muted { "It leads " (leads) " of " (node.groups.len()) " groups"
                @if !node.answers { ", as far as is known: it does not answer" } "." }
            p { (meaning) }
            form method="post" action={ (map) "/member" } {
                (secret(&visitor))
                input type="hidden" name="node" value=(fields.node);
                input type="hidden" name="change" value=(name);
                div.buttons { a.button href=(map) { "Leave it" } button class=(if name == "drain" { "danger" } else { "primary" }) { (words) } }
            }
        }
    };
    let shell = Shell { section: Section::Cluster, namespace: None, title: words, events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

/// Does it.
pub async fn change(State(ui): State<Arc<Ui>>, Form(fields): Form<Fields>) -> Result<Response, Problem> {
    let (name, change, ..) = known(&fields.change)?;
    let request = ChangeMemberRequest { change: change as i32, node: fields.node, ..ChangeMemberRequest::default() };
    ask(ui.api.admin().change_member(request)).await?;
    let map = format!("{}/cluster{}", ui.config.public_path, parameters(&[("done", name)]));
    Ok(Redirect::to(&map).into_response())
}
