//! Schedules: the list, one with its next times, and what can be done with it.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mainstay_api::temporal::enums::v1::ScheduleOverlapPolicy;
use mainstay_api::temporal::schedule::v1::schedule_action::Action;
use mainstay_api::temporal::schedule::v1::{
    Range, ScheduleActionResult, ScheduleListEntry, SchedulePatch, ScheduleSpec, StructuredCalendarSpec,
    TriggerImmediatelyRequest,
};
use mainstay_api::temporal::workflowservice::v1::{
    DeleteScheduleRequest, DescribeScheduleRequest, DescribeScheduleResponse, ListScheduleMatchingTimesRequest,
    ListSchedulesRequest, PatchScheduleRequest,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{IDENTITY, actions, request_id, secret};
use crate::api::ask;
use crate::format::{self, enum_words, span_of, time_of};
use crate::link::{Links, parameters, unsegment};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, json, payload};

const PAGE: i32 = 100;
/// Next times that are shown, and how far they are looked for.
const NEXT_MAX: usize = 20;
const LOOK_AHEAD_DAYS: i64 = 400;

/// What the address says.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    token: String,
    #[serde(default)]
    done: String,
}

/// The list.
pub async fn list(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let token =
        URL_SAFE_NO_PAD.decode(&asked.token).map_err(|_| Problem::invalid("The address of the page is cut off."))?;
    let request = ListSchedulesRequest {
        namespace: namespace.clone(),
        maximum_page_size: PAGE,
        next_page_token: token.into(),
        ..Default::default()
    };
    let listed = ask(ui.api.workflows().list_schedules(request)).await?;
    let body = html! {
        div.head { h1 { "Schedules" } a.button href=(links.page("new-schedule")) { "New schedule" } }
        div #rows data-region {
            @if listed.schedules.is_empty() {
                div.nothing { p { "No schedules." } p.muted { "Create one here, with an SDK, or with " code { "temporal schedule create" } "." } }
            } @else {
                table.list {
                    caption.sr { "Schedules" }
                    thead { tr {
                        th scope="col" { "Schedule" } th scope="col" { "State" } th scope="col" { "Starts" } th scope="col" { "When" }
                        th scope="col" { "Last" } th scope="col" { "Next" }
                    } }
                    tbody { @for entry in &listed.schedules { (row(&links, entry)) } }
                }
            }
            nav.pager aria-label="Pages" {
                @if !listed.next_page_token.is_empty() {
                    a rel="next" href={ (links.page("schedules")) (parameters(&[("token", &URL_SAFE_NO_PAD.encode(&listed.next_page_token))])) } { "More →" }
                }
            }
        }
    };
    let shell = Shell { section: Section::Schedules, namespace: Some(&namespace), title: "Schedules", events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

fn row(links: &Links<'_>, entry: &ScheduleListEntry) -> Markup {
    let info = entry.info.clone().unwrap_or_default();
    html! {
        tr {
            td { a.mono href=(links.schedule(&entry.schedule_id)) { (entry.schedule_id) } }
            td { (state(info.paused)) }
            td { (info.workflow_type.clone().unwrap_or_default().name) }
            td { (when(info.spec.as_ref())) }
            td { (time_of(info.recent_actions.last().and_then(|action| action.actual_time.as_ref()))) }
            td { (time_of(info.future_action_times.first())) }
        }
    }
}

fn state(paused: bool) -> Markup {
    html! {
        @if paused { span.st.paused { i.dot {} "Paused" } } @else { span.st.running { i.dot {} "Active" } }
    }
}

/// A spec in words, as far as it has short ones.
fn when(spec: Option<&ScheduleSpec>) -> Markup {
    let Some(spec) = spec else { return html! {} };
    let mut parts: Vec<String> = spec.cron_string.clone();
    parts.extend(spec.interval.iter().filter_map(|each| {
        let phase = span_of(each.phase.as_ref()).map(|phase| format!(", shifted by {phase}")).unwrap_or_default();
        Some(format!("every {}{phase}", span_of(each.interval.as_ref())?))
    }));
    parts.extend(spec.structured_calendar.iter().map(calendar));
    html! {
        @for part in &parts { div { (part) } }
        @if !spec.timezone_name.is_empty() { div.muted { (spec.timezone_name) } }
    }
}

fn calendar(spec: &StructuredCalendarSpec) -> String {
    if spec.comment.is_empty() { cron(spec) } else { spec.comment.clone() }
}

/// A calendar as cron would write it: minute, hour, day, month, day of the week; then the year; with seconds all seven.
pub fn cron(spec: &StructuredCalendarSpec) -> String {
    let seconds = ranges(&spec.second, "0");
    let fields = [
        ranges(&spec.minute, "0"),
        ranges(&spec.hour, "0"),
        all(&spec.day_of_month, 1, 31),
        all(&spec.month, 1, 12),
        all(&spec.day_of_week, 0, 6),
    ];
    let seconds = if seconds == "0" { String::new() } else { format!("{seconds} ") };
    let years = match (spec.year.is_empty(), seconds.is_empty()) {
        (true, true) => String::new(),
        _ => format!(" {}", ranges(&spec.year, "*")),
    };
    format!("{seconds}{}{years}", fields.join(" "))
}

fn all(ranges: &[Range], from: i32, to: i32) -> String {
    match ranges {
        [one] if one.start == from && one.end == to && one.step <= 1 => "*".into(),
        other => self::ranges(other, "*"),
    }
}

fn ranges(ranges: &[Range], none: &str) -> String {
    let written = ranges.iter().map(|range| {
        let span =
            if range.end > range.start { format!("{}-{}", range.start, range.end) } else { range.start.to_string() };
        if range.step > 1 { format!("{span}/{}", range.step) } else { span }
    });
    let written: Vec<String> = written.collect();
    if written.is_empty() { none.into() } else { written.join(",") }
}

/// One schedule.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id)): Path<(String, String)>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let request = DescribeScheduleRequest { namespace: namespace.clone(), schedule_id: id.clone() };
    let described = ask(ui.api.workflows().describe_schedule(request)).await?;
    let next = next_times(&ui, &namespace, &id, &described).await;
    let shown = Shown { links: &links, id: &id, described: &described, visitor: &visitor };
    let body = shown.markup(actions::done(&asked.done), &next);
    let shell = Shell { section: Section::Schedules, namespace: Some(&namespace), title: &id, events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

/// What a schedule has told of its next times is ten at most; more are computed for as long as they are wanted.
async fn next_times(
    ui: &Ui,
    namespace: &str,
    id: &str,
    described: &DescribeScheduleResponse,
) -> Vec<prost_types::Timestamp> {
    let known = described.info.clone().unwrap_or_default().future_action_times;
    let Some(last) = known.get(9) else { return known };
    let seconds = last.seconds.saturating_sub(known[0].seconds).max(60).saturating_mul(3).min(LOOK_AHEAD_DAYS * 86_400);
    let request = ListScheduleMatchingTimesRequest {
        namespace: namespace.to_owned(),
        schedule_id: id.to_owned(),
        // The beginning itself does not count.
        start_time: Some(prost_types::Timestamp { seconds: known[0].seconds.saturating_sub(1), nanos: 0 }),
        end_time: Some(prost_types::Timestamp { seconds: last.seconds.saturating_add(seconds), nanos: 0 }),
    };
    match ask(ui.api.workflows().list_schedule_matching_times(request)).await {
        Ok(more) if more.start_time.len() > known.len() => more.start_time.into_iter().take(NEXT_MAX).collect(),
        _ => known,
    }
}

struct Shown<'a> {
    links: &'a Links<'a>,
    id: &'a str,
    described: &'a DescribeScheduleResponse,
    visitor: &'a Visitor,
}

impl Shown<'_> {
    fn markup(&self, done: Option<&str>, next: &[prost_types::Timestamp]) -> Markup {
        let schedule = self.described.schedule.clone().unwrap_or_default();
        let info = self.described.info.clone().unwrap_or_default();
        let paused = schedule.state.as_ref().is_some_and(|state| state.paused);
        html! {
            @if let Some(done) = done { p.done role="status" { (done) } }
            div.title {
                nav.crumbs aria-label="Where" { a href=(self.links.page("schedules")) { "Schedules" } }
                h1.mono { (self.id) }
                (state(paused))
            }
            (self.buttons(paused))
            section.summary { (self.facts()) }
            div.columns {
                section { h2 { "Next times" } (times(next)) }
                section {
                    h2 { "Recent actions" }
                    (self.recent(&info.recent_actions))
                    @if !info.running_workflows.is_empty() {
                        h2 { "Running" }
                        ul { @for run in &info.running_workflows { li { a.mono href=(self.links.run(&run.workflow_id, &run.run_id)) { (run.workflow_id) } } } }
                    }
                }
            }
            details.panel { summary { "Definition" }
                (json::fields(&json::of("temporal.api.schedule.v1.Schedule", &prost::Message::encode_to_vec(&schedule)))) }
        }
    }

    fn buttons(&self, paused: bool) -> Markup {
        let form = |action: &str, fields: Markup, words: &str| {
            html! {
                form method="post" action={ (self.links.schedule(self.id)) "/" (action) } {
                    (secret(self.visitor)) (fields) button { (words) }
                }
            }
        };
        html! {
            div.actions {
                @if paused { (form("unpause", html! {}, "Unpause")) } @else { (form("pause", html! {}, "Pause")) }
                (form("trigger", html! {}, "Trigger now"))
                a.button href={ (self.links.schedule(self.id)) "/edit" } { "Change" }
                button.danger type="button" popovertarget="delete" { "Delete" }
            }
            dialog #delete popover aria-labelledby="delete-title" {
                form method="post" action={ (self.links.schedule(self.id)) "/delete" } {
                    h2 #delete-title { "Delete this schedule?" }
                    p.muted { "It starts nothing any more. What it started goes on." }
                    (secret(self.visitor))
                    div.buttons {
                        button type="button" popovertarget="delete" popovertargetaction="hide" { "Keep it" }
                        button.danger { "Delete" }
                    }
                }
            }
        }
    }

    fn facts(&self) -> Markup {
        let schedule = self.described.schedule.clone().unwrap_or_default();
        let info = self.described.info.clone().unwrap_or_default();
        let policies = schedule.policies.unwrap_or_default();
        let state = schedule.state.clone().unwrap_or_default();
        let start = schedule
            .action
            .and_then(|action| action.action)
            .map(|Action::StartWorkflow(start)| start)
            .unwrap_or_default();
        let queue = start.task_queue.unwrap_or_default().name;
        let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
        html! {
            dl.facts {
                (fact("Starts", html! { (start.workflow_type.unwrap_or_default().name) }))
                (fact("As", html! { span.mono { (start.workflow_id) } }))
                (fact("Task queue", html! { a href=(self.links.task_queue(&queue)) { (queue) } }))
                (fact("When", when(schedule.spec.as_ref())))
                (fact("If one still runs", html! { (enum_words(policies.overlap_policy().as_str_name(), "SCHEDULE_OVERLAP_POLICY_")) }))
                (fact("Catches up within", html! { (span_of(policies.catchup_window.as_ref()).unwrap_or_default()) }))
                (fact("Actions", html! { (format::count(info.action_count)) }))
                @if info.overlap_skipped > 0 { (fact("Skipped", html! { (format::count(info.overlap_skipped)) })) }
                @if info.missed_catchup_window > 0 { (fact("Missed", html! { (format::count(info.missed_catchup_window)) })) }
                @if !state.notes.is_empty() { (fact("Notes", html! { (state.notes) })) }
                (fact("Created", time_of(info.create_time.as_ref())))
                @for (name, value) in self.described.memo.iter().flat_map(|memo| &memo.fields) { (fact(name, payload::of(value).markup())) }
            }
        }
    }

    fn recent(&self, actions: &[ScheduleActionResult]) -> Markup {
        html! {
            @if actions.is_empty() { p.muted { "None yet." } }
            ul.plain {
                @for action in actions.iter().rev().take(20) {
                    li {
                        (time_of(action.actual_time.as_ref())) " "
                        @if let Some(run) = &action.start_workflow_result {
                            a.mono href=(self.links.run(&run.workflow_id, &run.run_id)) { (run.workflow_id) }
                        }
                        @if action.start_workflow_status > 0 { " " (super::status(action.start_workflow_status())) }
                    }
                }
            }
        }
    }
}

fn times(next: &[prost_types::Timestamp]) -> Markup {
    html! {
        @if next.is_empty() { p.muted { "None." } }
        ol.plain { @for at in next { li { (time_of(Some(at))) " " span.muted.mono { (format::rfc3339(format::nanos(at))) } } } }
    }
}

/// Carries out what a button says.
pub async fn act(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id, action)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let note = format!("by {IDENTITY}");
    let patch = match action.as_str() {
        "pause" => SchedulePatch { pause: note, ..SchedulePatch::default() },
        "unpause" => SchedulePatch { unpause: note, ..SchedulePatch::default() },
        "trigger" => {
            let overlap_policy = ScheduleOverlapPolicy::Unspecified as i32;
            let trigger = TriggerImmediatelyRequest { overlap_policy, ..Default::default() };
            SchedulePatch { trigger_immediately: Some(trigger), ..SchedulePatch::default() }
        }
        "delete" => {
            let request =
                DeleteScheduleRequest { namespace: namespace.clone(), schedule_id: id, identity: IDENTITY.into() };
            ask(ui.api.workflows().delete_schedule(request)).await?;
            return Ok(Redirect::to(&links.page("schedules")).into_response());
        }
        _ => return Err(Problem::not_found("A schedule can be paused, unpaused, triggered and deleted.")),
    };
    let request = PatchScheduleRequest {
        namespace: namespace.clone(),
        schedule_id: id.clone(),
        patch: Some(patch),
        identity: IDENTITY.into(),
        request_id: request_id(),
    };
    ask(ui.api.workflows().patch_schedule(request)).await?;
    Ok(Redirect::to(&(links.schedule(&id) + &parameters(&[("done", "schedule")]))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_is_written_as_cron() {
        let range = |start, end, step| Range { start, end, step };
        let spec = StructuredCalendarSpec {
            second: vec![range(0, 0, 1)],
            minute: vec![range(30, 30, 1)],
            hour: vec![range(8, 18, 2)],
            day_of_month: vec![range(1, 31, 1)],
            month: vec![range(1, 12, 1)],
            day_of_week: vec![range(1, 5, 1)],
            ..Default::default()
        };
        assert_eq!(calendar(&spec), "30 8-18/2 * * 1-5");
        let exact = StructuredCalendarSpec { second: vec![range(5, 5, 1)], ..spec };
        assert_eq!(cron(&exact), "5 30 8-18/2 * * 1-5 *");
    }
}
