//! The form of a schedule: to make one, and to change one.
//!
//! It has what people set. What else a schedule has (headers, retry policies, times that are left out, inputs that are no text) stays
//! as it was when it is changed. Times are lines in cron's language, which the server reads, so its words explain a mistake; the form
//! is then drawn again with what was typed. A change names the version of the schedule that the form was drawn from, so it undoes
//! nobody else's.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::SignedDuration;
use mainstay_api::temporal::common::v1::{Payloads, WorkflowType};
use mainstay_api::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;
use mainstay_api::temporal::schedule::v1::{Schedule, ScheduleAction, ScheduleSpec, schedule_action::Action};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::{
    CreateScheduleRequest, DescribeScheduleRequest, DescribeScheduleResponse, UpdateScheduleRequest,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::schedules::cron;
use super::{IDENTITY, request_id, secret};
use crate::api::ask;
use crate::link::{Links, parameters, unsegment};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, payload};

/// What to do if the last action still runs: in the address of nothing, so these are the form's own words.
const OVERLAPS: [(Overlap, &str); 6] = [
    (Overlap::Skip, "Start nothing"),
    (Overlap::BufferOne, "Start one when it has ended"),
    (Overlap::BufferAll, "Start all, one after the other"),
    (Overlap::CancelOther, "Cancel it, then start"),
    (Overlap::TerminateOther, "Terminate it, then start"),
    (Overlap::AllowAll, "Start beside it"),
];

/// Everything in the form, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Fields {
    id: String,
    workflow_type: String,
    workflow_id: String,
    task_queue: String,
    /// Missing if the input is not for a form.
    input: Option<String>,
    /// A line for each time.
    times: String,
    zone: String,
    jitter: String,
    overlap: i32,
    catchup: String,
    pause_on_failure: String,
    paused: String,
    notes: String,
    /// The version that the form was drawn from.
    token: String,
}

impl Fields {
    /// What the form of a new schedule begins with.
    fn new() -> Self {
        Self { input: Some(String::new()), overlap: Overlap::Skip as i32, zone: "UTC".into(), ..Self::default() }
    }

    fn of(id: &str, described: &DescribeScheduleResponse) -> Self {
        let schedule = described.schedule.clone().unwrap_or_default();
        let (spec, policies) = (schedule.spec.unwrap_or_default(), schedule.policies.unwrap_or_default());
        let state = schedule.state.unwrap_or_default();
        let start = schedule.action.and_then(|action| action.action).map(|Action::StartWorkflow(start)| start);
        let start = start.unwrap_or_default();
        let checked = |yes: bool| if yes { "1".to_owned() } else { String::new() };
        Self {
            id: id.to_owned(),
            workflow_type: start.workflow_type.unwrap_or_default().name,
            workflow_id: start.workflow_id,
            task_queue: start.task_queue.unwrap_or_default().name,
            input: editable(start.input.as_ref()),
            times: lines(&spec).join("\n"),
            overlap: policies.overlap_policy,
            catchup: span_text(policies.catchup_window.as_ref()),
            pause_on_failure: checked(policies.pause_on_failure),
            paused: checked(state.paused),
            notes: state.notes,
            jitter: span_text(spec.jitter.as_ref()),
            zone: spec.timezone_name,
            token: URL_SAFE_NO_PAD.encode(&described.conflict_token),
        }
    }

    /// The schedule that `known` becomes.
    fn apply(&self, known: Schedule) -> Result<Schedule, Problem> {
        let mut schedule = known;
        let spec = schedule.spec.get_or_insert_default();
        self.set_times(spec)?;
        let action = schedule.action.get_or_insert_default().action.take();
        let Action::StartWorkflow(mut start) =
            action.unwrap_or_else(|| Action::StartWorkflow(NewWorkflowExecutionInfo::default()));
        start.workflow_type = Some(WorkflowType { name: self.workflow_type.trim().to_owned() });
        start.workflow_id = self.workflow_id.trim().to_owned();
        let queue = start.task_queue.get_or_insert_default();
        *queue = TaskQueue { name: self.task_queue.trim().to_owned(), ..queue.clone() };
        // A browser ends lines in its own way.
        let text = self.input.as_ref().map(|text| text.replace("\r\n", "\n"));
        if let Some(text) = text.filter(|text| editable(start.input.as_ref()).as_ref() != Some(text)) {
            start.input = payload::typed(&text);
        }
        schedule.action = Some(ScheduleAction { action: Some(Action::StartWorkflow(start)) });
        let policies = schedule.policies.get_or_insert_default();
        policies.overlap_policy = self.overlap;
        policies.catchup_window = span("Catches up within", &self.catchup)?;
        policies.pause_on_failure = !self.pause_on_failure.is_empty();
        let state = schedule.state.get_or_insert_default();
        state.paused = !self.paused.is_empty();
        self.notes.clone_into(&mut state.notes);
        Ok(schedule)
    }

    /// Times are written anew only if they were changed: what cron cannot say stays.
    fn set_times(&self, spec: &mut ScheduleSpec) -> Result<(), Problem> {
        let given = self.times.lines().map(str::trim).filter(|line| !line.is_empty());
        let given: Vec<String> = given.map(str::to_owned).collect();
        if given != lines(spec) {
            spec.structured_calendar.clear();
            spec.calendar.clear();
            spec.interval.clear();
            spec.cron_string = given;
        }
        self.zone.trim().clone_into(&mut spec.timezone_name);
        spec.jitter = span("Spread by", &self.jitter)?;
        Ok(())
    }
}

/// The input as text, if the form can show it and make the same of it again.
fn editable(input: Option<&Payloads>) -> Option<String> {
    let payloads = input.map(|input| input.payloads.as_slice()).unwrap_or_default();
    match payloads {
        [] => Some(String::new()),
        [one] => match payload::of(one) {
            payload::Shown::Json(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// When it starts, one line for each: as cron and `@every` say it.
fn lines(spec: &ScheduleSpec) -> Vec<String> {
    let every = spec.interval.iter().map(|each| {
        let phase = span_text(each.phase.as_ref());
        let phase = if phase.is_empty() { phase } else { format!("/{phase}") };
        format!("@every {}{phase}", span_text(each.interval.as_ref()))
    });
    let calendars = spec.structured_calendar.iter().map(|each| {
        let comment = if each.comment.is_empty() { String::new() } else { format!(" # {}", each.comment) };
        cron(each) + &comment
    });
    spec.cron_string.iter().cloned().chain(calendars).chain(every).collect()
}

/// `1h30m`; nothing for no span.
fn span_text(duration: Option<&prost_types::Duration>) -> String {
    let Some(duration) = duration.filter(|duration| duration.seconds != 0 || duration.nanos != 0) else {
        return String::new();
    };
    let (hours, rest) = (duration.seconds / 3600, duration.seconds % 3600);
    let parts = [(hours, "h"), (rest / 60, "m"), (rest % 60, "s"), (i64::from(duration.nanos) / 1_000_000, "ms")];
    parts.iter().filter(|(number, _)| *number != 0).map(|(number, unit)| format!("{number}{unit}")).collect()
}

fn span(field: &str, text: &str) -> Result<Option<prost_types::Duration>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = text.parse::<SignedDuration>().ok().filter(|span| !span.is_negative());
    let span =
        parsed.ok_or_else(|| Problem::invalid(format!("{field}: {text:?} is not a span like 90s, 15m or 1h30m.")))?;
    Ok(Some(prost_types::Duration { seconds: span.as_secs(), nanos: span.subsec_nanos() }))
}

/// The form as a page.
struct Drawn<'a> {
    ui: &'a Ui,
    visitor: &'a Visitor,
    links: Links<'a>,
    /// The schedule's id, if there is one already.
    changes: Option<&'a str>,
}

impl Drawn<'_> {
    async fn answer(&self, fields: &Fields, problem: Option<&Problem>) -> Response {
        let title = if self.changes.is_some() { "Change a schedule" } else { "New schedule" };
        let body = html! {
            nav.crumbs aria-label="Where" { a href=(self.links.page("schedules")) { "Schedules" }
                @if let Some(id) = self.changes { " / " a.mono href=(self.links.schedule(id)) { (id) } } }
            h1 { (title) }
            @if let Some(problem) = problem { p.refusal role="alert" { (problem.message) } }
            (self.form(fields))
        };
        let namespace = Some(self.links.namespace);
        let shell = Shell { section: Section::Schedules, namespace, title, events: None };
        let mut response = shell.answer(self.ui, self.visitor, body).await;
        if let Some(problem) = problem {
            *response.status_mut() = problem.status;
        }
        response
    }

    fn form(&self, fields: &Fields) -> Markup {
        let action = match self.changes {
            Some(id) => self.links.schedule(id) + "/edit",
            None => self.links.page("schedules"),
        };
        let back = self.changes.map_or_else(|| self.links.page("schedules"), |id| self.links.schedule(id));
        html! {
            form.panel.form method="post" action=(action) {
                (secret(self.visitor))
                input type="hidden" name="token" value=(fields.token);
                @if self.changes.is_none() { (line("Name", "id", &fields.id, true, "")) }
                (what(fields))
                (when(fields))
                (how(fields))
                div.buttons { a.button href=(back) { "Leave it" } button.primary { @if self.changes.is_some() { "Change" } @else { "Create" } } }
            }
        }
    }
}

fn line(words: &str, name: &str, value: &str, required: bool, placeholder: &str) -> Markup {
    html! {
        label { (words)
            input name=(name) value=(value) required[required] autocomplete="off"
                placeholder=[Some(placeholder).filter(|words| !words.is_empty())];
        }
    }
}

fn what(fields: &Fields) -> Markup {
    html! {
        fieldset {
            legend { "What it starts" }
            div.pair {
                (line("Workflow type", "workflow_type", &fields.workflow_type, true, ""))
                (line("Task queue", "task_queue", &fields.task_queue, true, ""))
            }
            (line("Workflow id; the time is appended", "workflow_id", &fields.workflow_id, true, ""))
            @match &fields.input {
                Some(input) => label { "Input, as JSON; other text is sent as a string"
                    textarea.mono name="input" rows="4" spellcheck="false" { "\n" (input) } },
                None => p.muted { "Its input is no single JSON value and stays as it is." },
            }
        }
    }
}

fn when(fields: &Fields) -> Markup {
    html! {
        fieldset {
            legend { "When" }
            label { "Times, one a line"
                textarea.mono name="times" rows="4" spellcheck="false" aria-describedby="times-help"
                    placeholder="30 2 * * *" { "\n" (fields.times) } }
            p.muted #times-help { code { "30 2 * * 1-5" } " is minute, hour, day, month, day of the week; a sixth field is the year. "
                code { "@every 1h30m" } ", " code { "@every 1h/15m" } " shifted by 15 minutes, " code { "@daily" } "." }
            div.pair {
                (line("Time zone", "zone", &fields.zone, false, "UTC"))
                (line("Spread by at most", "jitter", &fields.jitter, false, "0s"))
            }
        }
    }
}

fn how(fields: &Fields) -> Markup {
    let unspecified = fields.overlap == Overlap::Unspecified as i32;
    let check = |name: &str, value: &str, words: &str| {
        html! {
            label.check { input type="checkbox" name=(name) value="1" checked[!value.is_empty()]; (words) }
        }
    };
    html! {
        fieldset {
            legend { "How" }
            label { "If the last one still runs"
                select name="overlap" {
                    @for (policy, words) in OVERLAPS {
                        option value=(policy as i32) selected[fields.overlap == policy as i32 || unspecified && policy == Overlap::Skip] { (words) }
                    }
                }
            }
            (line("Catches up within, after an outage", "catchup", &fields.catchup, false, "8760h"))
            (check("pause_on_failure", &fields.pause_on_failure, "Pause when a workflow of it fails"))
            (check("paused", &fields.paused, "Paused"))
            (line("Notes", "notes", &fields.notes, false, ""))
        }
    }
}

fn drawn<'a>(ui: &'a Ui, visitor: &'a Visitor, namespace: &'a str, changes: Option<&'a str>) -> Drawn<'a> {
    Drawn { ui, visitor, links: Links { base: &ui.config.public_path, namespace }, changes }
}

/// An empty form.
pub async fn new(State(ui): State<Arc<Ui>>, Path(namespace): Path<String>, visitor: Visitor) -> Response {
    let namespace = unsegment(namespace);
    drawn(&ui, &visitor, &namespace, None).answer(&Fields::new(), None).await
}

/// Makes a schedule.
pub async fn create(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> Response {
    let namespace = unsegment(namespace);
    let form = drawn(&ui, &visitor, &namespace, None);
    let created = async {
        let request = CreateScheduleRequest {
            namespace: namespace.clone(),
            schedule_id: fields.id.trim().to_owned(),
            schedule: Some(fields.apply(Schedule::default())?),
            identity: IDENTITY.into(),
            request_id: request_id(),
            ..Default::default()
        };
        ask(ui.api.workflows().create_schedule(request)).await
    };
    match created.await {
        Ok(_) => done(&form.links, fields.id.trim(), "schedule-new"),
        Err(problem) => form.answer(&fields, Some(&problem)).await,
    }
}

/// The form of a schedule that there is.
pub async fn edit(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id)): Path<(String, String)>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    let described = describe(&ui, &namespace, &id).await?;
    Ok(drawn(&ui, &visitor, &namespace, Some(&id)).answer(&Fields::of(&id, &described), None).await)
}

/// Changes a schedule.
pub async fn change(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id)): Path<(String, String)>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    let form = drawn(&ui, &visitor, &namespace, Some(&id));
    let token = URL_SAFE_NO_PAD.decode(&fields.token).map_err(|_| Problem::invalid("The form is not complete."))?;
    let described = describe(&ui, &namespace, &id).await?;
    let (known, current) = (described.schedule.unwrap_or_default(), described.conflict_token);
    let changed = async {
        // The server drops what names an old version without a word.
        if token != current {
            return Err(Problem::changed());
        }
        let request = UpdateScheduleRequest {
            namespace: namespace.clone(),
            schedule_id: id.clone(),
            schedule: Some(fields.apply(known)?),
            conflict_token: token.into(),
            identity: IDENTITY.into(),
            request_id: request_id(),
            ..Default::default()
        };
        ask(ui.api.workflows().update_schedule(request)).await
    };
    match changed.await {
        Ok(_) => Ok(done(&form.links, &id, "schedule-changed")),
        Err(problem) => Ok(form.answer(&fields, Some(&problem)).await),
    }
}

async fn describe(ui: &Ui, namespace: &str, id: &str) -> Result<DescribeScheduleResponse, Problem> {
    let request = DescribeScheduleRequest { namespace: namespace.to_owned(), schedule_id: id.to_owned() };
    ask(ui.api.workflows().describe_schedule(request)).await
}

fn done(links: &Links<'_>, id: &str, done: &str) -> Response {
    Redirect::to(&(links.schedule(id) + &parameters(&[("done", done)]))).into_response()
}

#[cfg(test)]
mod tests {
    use mainstay_api::temporal::common::v1::{Header, Payload};
    use mainstay_api::temporal::schedule::v1::{IntervalSpec, Range, StructuredCalendarSpec};

    use super::*;

    fn seconds(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    fn known() -> Schedule {
        let at = |start| vec![Range { start, end: start, step: 1 }];
        let all = |start, end| vec![Range { start, end, step: 1 }];
        let calendar = StructuredCalendarSpec {
            second: at(0),
            minute: at(30),
            hour: at(2),
            day_of_month: all(1, 31),
            month: all(1, 12),
            day_of_week: all(0, 6),
            comment: "at night".into(),
            ..Default::default()
        };
        let spec = ScheduleSpec {
            structured_calendar: vec![calendar.clone()],
            interval: vec![IntervalSpec { interval: seconds(5400), phase: seconds(900) }],
            exclude_structured_calendar: vec![calendar],
            ..Default::default()
        };
        let start = NewWorkflowExecutionInfo {
            workflow_id: "w".into(),
            header: Some(Header::default()),
            input: payload::typed("{\"a\": [1]}"),
            ..Default::default()
        };
        let action = Some(ScheduleAction { action: Some(Action::StartWorkflow(start)) });
        Schedule { spec: Some(spec), action, ..Default::default() }
    }

    fn described(schedule: Schedule) -> DescribeScheduleResponse {
        DescribeScheduleResponse { schedule: Some(schedule), conflict_token: "v1".into(), ..Default::default() }
    }

    #[test]
    fn times_are_lines() {
        assert_eq!(lines(&known().spec.unwrap()), ["30 2 * * * # at night", "@every 1h30m/15m"]);
    }

    #[test]
    fn a_form_that_nobody_changed_changes_nothing() {
        let before = known();
        let after = Fields::of("s", &described(before.clone())).apply(before.clone()).unwrap();
        let start = |schedule: &Schedule| schedule.action.clone().unwrap().action;
        assert_eq!(after.spec, before.spec);
        let Some(Action::StartWorkflow(start)) = start(&after) else { panic!("a start") };
        assert_eq!(start.input, payload::typed("{\"a\": [1]}"));
        assert!(start.header.is_some());
    }

    #[test]
    fn what_is_changed_replaces_and_the_rest_stays() {
        let before = known();
        let mut fields = Fields::of("s", &described(before.clone()));
        fields.times = " @daily \n\n0 12 * * 1\n".into();
        fields.catchup = "1h 30m".into();
        let after = fields.apply(before.clone()).unwrap();
        let spec = after.spec.unwrap();
        assert_eq!(spec.cron_string, ["@daily", "0 12 * * 1"]);
        assert!(spec.interval.is_empty() && spec.structured_calendar.is_empty());
        assert_eq!(spec.exclude_structured_calendar, before.spec.unwrap().exclude_structured_calendar);
        assert_eq!(after.policies.unwrap().catchup_window, seconds(5400));
    }

    #[test]
    fn inputs_that_are_no_json_stay() {
        let mut before = known();
        let payload = Payload { data: vec![0, 255].into(), ..Payload::default() };
        let input = Some(Payloads { payloads: vec![payload] });
        if let Some(Action::StartWorkflow(start)) = before.action.as_mut().and_then(|action| action.action.as_mut()) {
            start.input.clone_from(&input);
        }
        let fields = Fields::of("s", &described(before.clone()));
        assert_eq!(fields.input, None);
        let Some(Action::StartWorkflow(start)) = fields.apply(before).unwrap().action.unwrap().action else {
            panic!("a start")
        };
        assert_eq!(start.input, input);
    }

    #[test]
    fn spans_are_read_as_they_are_written() {
        for text in ["90s", "1m30s", "1h", "8760h", "1500ms"] {
            let parsed = span("x", text).unwrap();
            assert_eq!(span("x", &span_text(parsed.as_ref())).unwrap(), parsed, "{text}");
        }
        assert!(span("x", "soon").is_err() && span("x", "-1s").is_err());
    }
}
