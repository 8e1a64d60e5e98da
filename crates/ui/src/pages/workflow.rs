//! One run: what it is, the picture of its history, its events, and what can be done with it.
//!
//! Events come in pages, so a long history costs no more than a short one. The picture is of the page at hand.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use mainstay_api::temporal::enums::v1::{EventType, WorkflowExecutionStatus};
use mainstay_api::temporal::workflow::v1::PendingActivityInfo;
use mainstay_api::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionRequest, DescribeWorkflowExecutionResponse,
};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{actions, activities, execution};
use crate::api::ask;
use crate::events::{Event, Page};
use crate::format::{self, nanos, span, time, time_of};
use crate::link::{Links, parameters, unsegment};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::timeline::Timeline;
use crate::visitor::Visitor;
use crate::{Ui, json, live, payload};

mod head;

pub use head::Head;

/// What the address says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    /// `compact`, `full` or `json`.
    #[serde(default)]
    view: String,
    #[serde(default)]
    token: String,
    /// `new`: newest events first.
    #[serde(default)]
    order: String,
    /// What was just done, by name.
    #[serde(default)]
    done: String,
}

/// The parts of a run's address.
pub type Run = (String, String, String);

/// A run and where it is shown.
pub struct Shown {
    pub namespace: String,
    pub workflow_id: String,
    pub run_id: String,
}

impl From<Run> for Shown {
    fn from((namespace, workflow_id, run_id): Run) -> Self {
        Self { namespace: unsegment(namespace), workflow_id: unsegment(workflow_id), run_id: unsegment(run_id) }
    }
}

impl Shown {
    pub fn links<'a>(&'a self, ui: &'a Ui) -> Links<'a> {
        Links { base: &ui.config.public_path, namespace: &self.namespace }
    }

    pub fn address(&self, ui: &Ui) -> String {
        self.links(ui).run(&self.workflow_id, &self.run_id)
    }

    pub async fn describe(&self, ui: &Ui) -> Result<DescribeWorkflowExecutionResponse, Problem> {
        let request = DescribeWorkflowExecutionRequest {
            namespace: self.namespace.clone(),
            execution: Some(execution(&self.workflow_id, &self.run_id)),
        };
        ask(ui.api.workflows().describe_workflow_execution(request)).await
    }
}

/// The latest run of a workflow.
pub async fn latest(
    State(ui): State<Arc<Ui>>,
    Path((namespace, workflow)): Path<(String, String)>,
) -> Result<Redirect, Problem> {
    let mut shown = Shown::from((namespace, workflow, String::new()));
    let info = shown.describe(&ui).await?.workflow_execution_info.unwrap_or_default();
    shown.run_id = info.execution.unwrap_or_default().run_id;
    Ok(Redirect::to(&shown.address(&ui)))
}

/// The page.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let described = shown.describe(&ui).await?;
    let token =
        URL_SAFE_NO_PAD.decode(&asked.token).map_err(|_| Problem::invalid("The address of the page is cut off."))?;
    let newest = asked.order == "new";
    let run = execution(&shown.workflow_id, &shown.run_id);
    let history = Page::read(&ui.api, &shown.namespace, run, token.into(), newest).await?;
    let head = Head { ui: &ui, shown: &shown, described: &described, visitor: &visitor };
    let body = html! {
        (head.markup("history", actions::done(&asked.done)))
        (head.outcome(&history))
        (pending(&ui, &shown, &described.pending_activities))
        section data-region #timeline {
            h2 { "Timeline" }
            (timeline(&history, &described, newest))
        }
        section data-region #history { (EventList { ui: &ui, shown: &shown, asked: &asked, history: &history }.markup()) }
        (head.dialogs(&history))
    };
    let events =
        head.is_running().then(|| live::address(&format!("{}/events", shown.address(&ui)), live::print(&described)));
    let shell =
        Shell { section: Section::Workflows, namespace: Some(&shown.namespace), title: &shown.workflow_id, events };
    Ok(shell.answer(&ui, &visitor, body).await)
}

/// Says when the run changes.
pub async fn events(State(ui): State<Arc<Ui>>, Path(run): Path<Run>, Query(seen): Query<live::Seen>) -> Response {
    let shown = Arc::new(Shown::from(run));
    live::changes(&seen, move || {
        let (ui, shown) = (ui.clone(), shown.clone());
        async move { live::print(&shown.describe(&ui).await.ok()?) }
    })
}

/// The whole history as proto JSON, as `temporal workflow show -o json` writes it and replayers read it.
pub async fn download(State(ui): State<Arc<Ui>>, Path(run): Path<Run>) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let mut text = String::from("{\"events\":[");
    let (mut token, mut first) = (Bytes::new(), true);
    loop {
        let run = execution(&shown.workflow_id, &shown.run_id);
        let page = Page::read(&ui.api, &shown.namespace, run, token, false).await?;
        for event in &page.events {
            text += if first { "\n" } else { ",\n" };
            text += &event.json.to_string();
            first = false;
        }
        if page.next.is_empty() {
            break;
        }
        token = page.next;
    }
    text += "\n]}\n";
    let headers = [(CONTENT_TYPE, "application/json"), (CONTENT_DISPOSITION, "attachment; filename=\"history.json\"")];
    Ok((headers, Body::from(text)).into_response())
}

fn timeline(history: &Page, described: &DescribeWorkflowExecutionResponse, newest: bool) -> Markup {
    let info = described.workflow_execution_info.clone().unwrap_or_default();
    // A page in the middle ends with its last event; the last one with the run, or now.
    let last = if newest { history.events.first() } else { history.events.last() };
    let is_whole = history.next.is_empty() || newest;
    let closed = info.close_time.as_ref().map_or_else(format::now, nanos);
    let until = if is_whole { closed } else { last.map_or(closed, |event| event.at) };
    let mut events = history.events.clone();
    events.sort_by_key(|event| event.id);
    Timeline::of(&events, &described.pending_activities, until).markup()
}

/// Activities that are not over: what people open this page for when something is stuck.
fn pending(ui: &Ui, shown: &Shown, activities: &[PendingActivityInfo]) -> Markup {
    html! {
        section #pending data-region {
            @if !activities.is_empty() {
                h2 { "Pending activities " small { (activities.len()) } }
                table.list.pending {
                    caption.sr { "Pending activities" }
                    thead { tr {
                        th scope="col" { "Activity" } th scope="col" { "State" } th.number scope="col" { "Attempt" }
                        th scope="col" { "Next attempt" } th scope="col" { "Last failure" } th scope="col" { span.sr { "What can be done" } }
                    } }
                    tbody { @for activity in activities.iter().take(100) { (pending_row(activity, &activities::links(ui, shown, activity))) } }
                }
            }
        }
    }
}

fn pending_row(activity: &PendingActivityInfo, links: &Markup) -> Markup {
    let state = format::enum_words(activity.state().as_str_name(), "PENDING_ACTIVITY_STATE_");
    let next = activity.next_attempt_schedule_time.as_ref().or(activity.scheduled_time.as_ref());
    let most = match activity.maximum_attempts {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    html! {
        tr {
            td {
                b { (activity.activity_type.as_ref().map(|kind| kind.name.as_str()).unwrap_or_default()) }
                br; span.muted.mono { (activity.activity_id) }
            }
            td {
                (state)
                @if let Some(at) = &activity.last_started_time { br; span.muted { "started " (time_of(Some(at))) } }
                @if let Some(at) = &activity.last_heartbeat_time { br; span.muted { "heartbeat " (time_of(Some(at))) } }
            }
            td.number data-label="Attempt" { (activity.attempt) (most) }
            td data-label="Next attempt" {
                @if activity.last_started_time.is_none() || activity.next_attempt_schedule_time.is_some() { (time(next.map(nanos))) }
                @if let Some(pause) = format::span_of(activity.current_retry_interval.as_ref()) {
                    br; span.muted { "pause " (pause) }
                }
            }
            td.failure {
                @match &activity.last_failure {
                    Some(failure) => {
                        details {
                            summary.bad { (failure.message) }
                            (json::fields(&json::of("temporal.api.failure.v1.Failure", &prost::Message::encode_to_vec(failure))))
                        }
                        @if !activity.last_worker_identity.is_empty() { span.muted.mono { (activity.last_worker_identity) } }
                    }
                    None => span.muted { "none" },
                }
                @if let Some(details) = &activity.heartbeat_details {
                    details { summary { "Heartbeat details" } (payload::all(Some(details))) }
                }
            }
            td { (links) }
        }
    }
}

/// The events of a page.
struct EventList<'a> {
    ui: &'a Ui,
    shown: &'a Shown,
    asked: &'a Asked,
    history: &'a Page,
}

impl EventList<'_> {
    fn address(&self, view: &str, order: &str, token: &str) -> String {
        self.shown.address(self.ui) + &parameters(&[("view", view), ("order", order), ("token", token)]) + "#history"
    }

    fn markup(&self) -> Markup {
        let view = match self.asked.view.as_str() {
            known @ ("full" | "json") => known,
            _ => "",
        };
        let order = if self.asked.order == "new" { "new" } else { "" };
        let tab = |name: &str, words| {
            html! {
                a href=(self.address(name, order, &self.asked.token)) aria-current=[(view == name).then_some("true")] { (words) }
            }
        };
        html! {
            div.bar-line {
                h2 { "Events" }
                div.tabs role="group" aria-label="How events are shown" { (tab("", "Compact")) (tab("full", "Full")) (tab("json", "JSON")) }
                a.right href=(self.address(view, if order.is_empty() { "new" } else { "" }, "")) {
                    @if order.is_empty() { "Newest first" } @else { "Oldest first" }
                }
                a href={ (self.shown.address(self.ui)) "/history.json" } download { "Download" }
            }
            @match view {
                "json" => (self.json()),
                "full" => (self.full()),
                _ => (self.compact()),
            }
            nav.pager aria-label="Pages of events" {
                @if !self.asked.token.is_empty() { a href=(self.address(view, order, "")) { "First page" } }
                @if !self.history.next.is_empty() {
                    a rel="next" href=(self.address(view, order, &URL_SAFE_NO_PAD.encode(&self.history.next))) {
                        @if order.is_empty() { "Later events →" } @else { "Earlier events →" }
                    }
                }
            }
        }
    }

    /// One row for what belongs together.
    fn compact(&self) -> Markup {
        html! {
            ol.events {
                @for group in self.history.groups() {
                    @if let Some(first) = group.iter().min_by_key(|event| event.id) { (self.group(first, &group)) }
                }
            }
        }
    }

    fn group(&self, first: &Event, group: &[&Event]) -> Markup {
        let last = group.iter().copied().max_by_key(|event| event.id).unwrap_or(first);
        let what = if first.is_workflow_task() { "Workflow task".into() } else { first.name() };
        html! {
            li.quiet[first.is_workflow_task()] id={ "e" (first.id) } {
                details {
                    summary {
                        span.number { (first.id) @if last.id != first.id { "–" (last.id) } }
                        span.what.bad[last.is_bad()] {
                            @if group.len() > 1 && !first.is_workflow_task() { (beginning(&what)) } @else { (what) }
                            @if last.id != first.id { " " span.end { (ending(last)) } }
                        }
                        span.subject { (first.subject()) }
                        span.took { @if last.id != first.id { (span(last.at - first.at)) } }
                        (time(Some(first.at)))
                    }
                    @for event in group { (self.event(event, group.len() > 1)) }
                }
            }
        }
    }

    fn event(&self, event: &Event, named: bool) -> Markup {
        html! {
            div.event {
                @if named { h3 { (event.id) " " (event.name()) " " (time(Some(event.at))) } }
                (self.reset_button(event))
                (json::fields(&event.attributes))
                @if let Value::Object(_) = json::at(&event.json, &["userMetadata"]) { (json::fields(json::at(&event.json, &["userMetadata"]))) }
            }
        }
    }

    /// A run goes back to a workflow task; the dialog asks for a reason and says what it means.
    fn reset_button(&self, event: &Event) -> Markup {
        html! {
            @if event.is_reset_point() && event.kind != EventType::WorkflowTaskStarted {
                button.small type="button" popovertarget="reset" data-reset=(event.id) { "Reset to here" }
            }
        }
    }

    fn full(&self) -> Markup {
        html! {
            ol.events.full {
                @for event in &self.history.events {
                    li id={ "e" (event.id) } {
                        div.line {
                            span.number { (event.id) }
                            span class={ "what" @if event.is_bad() { " bad" } } { (event.name()) }
                            span.subject { (event.subject()) }
                            (time(Some(event.at)))
                        }
                        (self.event(event, false))
                    }
                }
            }
        }
    }

    fn json(&self) -> Markup {
        html! {
            div.json {
                @for event in &self.history.events {
                    pre id={ "e" (event.id) } { (serde_json::to_string_pretty(&event.json).unwrap_or_default()) }
                }
            }
        }
    }
}

/// `Activity task scheduled` as `Activity`.
fn beginning(name: &str) -> &str {
    match name {
        "Activity task scheduled" => "Activity",
        "Timer started" => "Timer",
        "Start child workflow execution initiated" => "Child workflow",
        "Workflow execution update accepted" => "Update",
        "Nexus operation scheduled" => "Nexus operation",
        other => other,
    }
}

/// How a group ended, in a word: `completed`, `timed out`.
fn ending(event: &Event) -> String {
    let name = event.name();
    let words: Vec<&str> = name.split(' ').collect();
    match words.as_slice() {
        [.., "timed", "out"] => "timed out".into(),
        [.., last] => (*last).to_owned(),
        [] => String::new(),
    }
}

/// Whether a status means that the run goes on.
pub fn is_open(status: WorkflowExecutionStatus) -> bool {
    matches!(status, WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused)
}
