//! A history as a picture: one row for each activity, timer and child, and one for all workflow tasks; time runs to the right.
//!
//! It tells apart who is waited for: the queue (nobody has taken the task), the worker, and the pause before a retry. What history
//! does not say is not drawn: of an activity that was retried it has only the last attempt, so all before that is one span.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::EventType as Kind;
use mainstay_api::temporal::workflow::v1::PendingActivityInfo;
use maud::{Markup, html};

use crate::events::Event;
use crate::format::{nanos, rfc3339, span};
use crate::json::{integer, text};

/// More rows than this are counted, not drawn.
const ROWS_MAX: usize = 200;
/// Marks on one row.
const MARKS_MAX: usize = 400;
/// Lines that divide the time.
const TICKS: u32 = 4;
const ROW_HEIGHT: f64 = 22.0;

/// Who is waited for in a span, and so its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Queue,
    Worker,
    Backoff,
    Timer,
    Child,
}

impl Phase {
    fn class(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Worker => "worker",
            Self::Backoff => "backoff",
            Self::Timer => "timer",
            Self::Child => "child",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Queue => "in the queue",
            Self::Worker => "at a worker",
            Self::Backoff => "earlier attempts and pauses between",
            Self::Timer => "timer",
            Self::Child => "child runs",
        }
    }
}

/// A part of a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub phase: Phase,
    pub from: i64,
    /// None while it lasts.
    pub to: Option<i64>,
    pub bad: bool,
}

/// A moment on a row.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    pub at: i64,
    pub title: String,
    pub bad: bool,
}

/// A row of the picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The event that began it; 0 if it is about several.
    pub event: i64,
    pub kind: &'static str,
    pub label: String,
    pub note: String,
    pub spans: Vec<Span>,
    pub marks: Vec<Mark>,
}

/// The picture of a page of events.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    rows: Vec<Row>,
    from: i64,
    to: i64,
}

impl Timeline {
    /// Of events in ascending order. `until` is when the run closed, or now.
    pub fn of(events: &[Event], pending: &[PendingActivityInfo], until: i64) -> Self {
        let mut tasks = Row { kind: "task", label: "Workflow tasks".into(), ..Row::default() };
        let mut signals = Row { kind: "mark", label: "Signals and updates".into(), ..Row::default() };
        let mut markers = Row { kind: "mark", label: "Markers".into(), ..Row::default() };
        let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
        for event in events {
            match event.kind {
                _ if event.is_workflow_task() => workflow_task(&mut tasks, event),
                Kind::WorkflowExecutionSignaled
                | Kind::WorkflowExecutionUpdateAccepted
                | Kind::WorkflowExecutionCancelRequested => mark(&mut signals, event),
                Kind::MarkerRecorded => mark(&mut markers, event),
                _ => item(&mut rows, event),
            }
        }
        pending.iter().for_each(|activity| apply_pending(&mut rows, activity));
        let from = events.first().map_or(until, |event| event.at);
        let to = events.last().map_or(until, |event| event.at).max(until).max(from + 1);
        let fixed = [tasks, signals, markers].into_iter().filter(|row| !row.spans.is_empty() || !row.marks.is_empty());
        Self { rows: fixed.chain(rows.into_values()).collect(), from, to }
    }

    /// The picture.
    pub fn markup(&self) -> Markup {
        let hidden = self.rows.len().saturating_sub(ROWS_MAX);
        html! {
            table.timeline {
                caption.sr { "What ran when. Each row has the same in words." }
                thead { tr { th scope="col" { span.sr { "What" } } td { (self.axis()) } } }
                tbody {
                    @for row in self.rows.iter().take(ROWS_MAX) { (self.row(row)) }
                }
            }
            @if hidden > 0 { p.muted { "and " (hidden) " more, see the events" } }
            (legend())
        }
    }

    fn axis(&self) -> Markup {
        html! {
            svg.axis width="100%" height="18" aria-hidden="true" {
                @for tick in 0..=TICKS {
                    @let share = f64::from(tick) / f64::from(TICKS);
                    @let anchor = match tick { 0 => "start", TICKS => "end", _ => "middle" };
                    text x=(percent(share * 100.0)) y="13" text-anchor=(anchor) {
                        (if tick == 0 { "0".into() } else { span(((self.to - self.from) as f64 * share) as i64) })
                    }
                }
            }
        }
    }

    fn row(&self, row: &Row) -> Markup {
        let words = self.words(row);
        html! {
            tr {
                th scope="row" class=(row.kind) title=(row.label) {
                    @if row.event > 0 { a href={ "#e" (row.event) } { (row.label) } } @else { (row.label) }
                    @if !row.note.is_empty() { " " small { (row.note) } }
                }
                td {
                    svg width="100%" height=(ROW_HEIGHT) role="img" aria-label=(words) {
                        @for tick in 0..=TICKS {
                            @let x = percent(f64::from(tick) * 100.0 / f64::from(TICKS));
                            line.grid x1=(x) x2=(x) y1="0" y2=(ROW_HEIGHT) {}
                        }
                        @for part in &row.spans { (self.span(part)) }
                        @for mark in row.marks.iter().take(MARKS_MAX) {
                            circle class={ "mark" @if mark.bad { " bad" } } cx=(self.x(mark.at)) cy=(ROW_HEIGHT / 2.0) r="4" {
                                title { (mark.title) " at " (rfc3339(mark.at)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn span(&self, part: &Span) -> Markup {
        let end = part.to.unwrap_or(self.to);
        let class = format!(
            "bar {}{}{}",
            part.phase.class(),
            if part.bad { " bad" } else { "" },
            if part.to.is_none() { " open" } else { "" }
        );
        html! {
            rect class=(class) x=(self.x(part.from)) width=(percent(self.share(end) - self.share(part.from)))
                y="5" height=(ROW_HEIGHT - 10.0) rx="2" {
                title { (part.phase.words()) ", " (span(end - part.from)) @if part.to.is_none() { " so far" } }
            }
            // Whatever took no time is still there.
            line class=(class) x1=(self.x(part.from)) x2=(self.x(part.from)) y1="5" y2=(ROW_HEIGHT - 5.0) {}
        }
    }

    /// A row for those who do not see it.
    fn words(&self, row: &Row) -> String {
        let parts: Vec<String> = row
            .spans
            .iter()
            .take(MARKS_MAX / 40)
            .map(|part| {
                let end = part.to.unwrap_or(self.to);
                let state = if part.bad {
                    ", ended badly"
                } else if part.to.is_none() {
                    ", not over"
                } else {
                    ""
                };
                format!(
                    "{} for {} from {}{state}",
                    part.phase.words(),
                    span(end - part.from),
                    span(part.from - self.from)
                )
            })
            .collect();
        if parts.is_empty() { format!("{} times", row.marks.len()) } else { parts.join("; ") }
    }

    fn share(&self, at: i64) -> f64 {
        let whole = (self.to - self.from).max(1) as f64;
        ((at - self.from) as f64 * 100.0 / whole).clamp(0.0, 100.0)
    }

    fn x(&self, at: i64) -> String {
        percent(self.share(at))
    }
}

fn percent(share: f64) -> String {
    format!("{share:.2}%")
}

fn legend() -> Markup {
    let phases = [
        (Phase::Queue, "waits in a queue"),
        (Phase::Worker, "a worker has it"),
        (Phase::Backoff, "earlier attempts and pauses"),
        (Phase::Timer, "timer"),
        (Phase::Child, "child workflow"),
    ];
    html! {
        ul.legend aria-label="Colours" {
            @for (phase, words) in phases {
                li { svg width="14" height="10" aria-hidden="true" {
                    rect class={ "bar " (phase.class()) } width="14" height="10" rx="2" {} } (words) }
            }
        }
    }
}

/// Ends the last span of a row, and begins another if something follows.
fn turn(row: &mut Row, at: i64, bad: bool, next: Option<Phase>) {
    if let Some(last) = row.spans.last_mut().filter(|last| last.to.is_none()) {
        last.to = Some(at);
        last.bad = bad;
    }
    row.spans.extend(next.map(|phase| Span { phase, from: at, to: None, bad: false }));
}

fn workflow_task(row: &mut Row, event: &Event) {
    match event.kind {
        Kind::WorkflowTaskScheduled => turn(row, event.at, false, Some(Phase::Queue)),
        Kind::WorkflowTaskStarted => turn(row, event.at, false, Some(Phase::Worker)),
        _ => turn(row, event.at, event.is_bad(), None),
    }
}

fn mark(row: &mut Row, event: &Event) {
    let title = format!("{} {}", event.name(), event.subject());
    row.marks.push(Mark { at: event.at, title, bad: event.is_bad() });
}

/// Whatever has a beginning and an end of its own.
fn item(rows: &mut BTreeMap<i64, Row>, event: &Event) {
    let begins = |kind, label, phase| {
        let spans = vec![Span { phase, from: event.at, to: None, bad: false }];
        Row { event: event.id, kind, label, spans, ..Row::default() }
    };
    let a = &event.attributes;
    match event.kind {
        Kind::ActivityTaskScheduled | Kind::NexusOperationScheduled => {
            rows.insert(event.id, begins("activity", event.subject(), Phase::Queue));
        }
        Kind::TimerStarted => {
            let label = format!("Timer {}", text(a, &["timerId"]));
            let mut row = begins("timer", label, Phase::Timer);
            row.note = text(a, &["startToFireTimeout"]).to_owned();
            rows.insert(event.id, row);
        }
        Kind::StartChildWorkflowExecutionInitiated => {
            rows.insert(event.id, begins("child", event.subject(), Phase::Queue));
        }
        Kind::ActivityTaskStarted => {
            let Some(row) = rows.get_mut(&event.group()) else { return };
            let attempt = integer(a, &["attempt"]);
            if attempt > 1 {
                row.note = format!("attempt {attempt}");
                // What the queue had of it is not known.
                row.spans.iter_mut().for_each(|part| part.phase = Phase::Backoff);
            }
            turn(row, event.at, false, Some(Phase::Worker));
        }
        Kind::ChildWorkflowExecutionStarted => {
            rows.entry(event.group()).and_modify(|row| turn(row, event.at, false, Some(Phase::Child)));
        }
        Kind::NexusOperationStarted => {
            rows.entry(event.group()).and_modify(|row| turn(row, event.at, false, Some(Phase::Worker)));
        }
        Kind::ActivityTaskCancelRequested | Kind::NexusOperationCancelRequested => {
            let title = "Cancellation requested".to_owned();
            let mark = Mark { at: event.at, title, bad: false };
            rows.entry(event.group()).and_modify(|row| row.marks.push(mark));
        }
        _ => {
            let bad =
                event.is_bad() || event.kind.as_str_name().ends_with("_CANCELED") && event.kind != Kind::TimerCanceled;
            rows.entry(event.group()).and_modify(|row| turn(row, event.at, bad, None));
        }
    }
}

/// What the server knows of an activity's present attempt, which has no events yet.
fn apply_pending(rows: &mut BTreeMap<i64, Row>, activity: &PendingActivityInfo) {
    let kind = activity.activity_type.as_ref().map(|kind| kind.name.as_str()).unwrap_or_default();
    let open = |row: &&mut Row| {
        row.kind == "activity" && row.label == kind && row.spans.len() == 1 && row.spans[0].to.is_none()
    };
    let Some(row) = rows.values_mut().find(open) else { return };
    let time = |time: &Option<prost_types::Timestamp>| time.as_ref().map(nanos);
    if activity.attempt > 1 {
        row.note = format!("attempt {}", activity.attempt);
        row.spans[0].phase = Phase::Backoff;
        if let Some(at) = time(&activity.last_attempt_complete_time) {
            row.marks.push(Mark { at, title: format!("Attempt {} failed", activity.attempt - 1), bad: true });
        }
    }
    let started = time(&activity.last_started_time).filter(|_| {
        use mainstay_api::temporal::enums::v1::PendingActivityState as State;
        matches!(activity.state(), State::Started | State::CancelRequested | State::PauseRequested)
    });
    if let Some(at) = started.filter(|at| *at >= row.spans[0].from) {
        turn(row, at, false, Some(Phase::Worker));
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::temporal::common::v1::ActivityType;
    use mainstay_api::temporal::history::v1::{self as h, history_event::Attributes};

    use super::*;
    use crate::events::tests::event;

    const SECOND: i64 = 1_000_000_000;

    fn activity(attempt: i32) -> Vec<Event> {
        let scheduled = h::ActivityTaskScheduledEventAttributes {
            activity_type: Some(ActivityType { name: "<ship>".into() }),
            ..Default::default()
        };
        let started = h::ActivityTaskStartedEventAttributes { scheduled_event_id: 5, attempt, ..Default::default() };
        let failed =
            h::ActivityTaskFailedEventAttributes { scheduled_event_id: 5, started_event_id: 6, ..Default::default() };
        vec![
            event(5, 1, Kind::ActivityTaskScheduled, Attributes::ActivityTaskScheduledEventAttributes(scheduled)),
            event(6, 2, Kind::ActivityTaskStarted, Attributes::ActivityTaskStartedEventAttributes(started)),
            event(7, 4, Kind::ActivityTaskFailed, Attributes::ActivityTaskFailedEventAttributes(failed)),
        ]
    }

    #[test]
    fn queue_and_worker_are_told_apart() {
        let timeline = Timeline::of(&activity(1), &[], 5 * SECOND);
        let part = |phase, from: i64, to: i64, bad| Span { phase, from: from * SECOND, to: Some(to * SECOND), bad };
        assert_eq!(timeline.rows[0].spans, [part(Phase::Queue, 1, 2, false), part(Phase::Worker, 2, 4, true)]);
        let page = timeline.markup().into_string();
        assert!(page.contains("&lt;ship&gt;") && page.contains("href=\"#e5\""), "{page}");
        assert!(page.contains("x=\"25.00%\""), "{page}");
        assert!(!page.contains("style="), "no inline styles");
    }

    #[test]
    fn earlier_attempts_are_one_span() {
        let timeline = Timeline::of(&activity(3), &[], 5 * SECOND);
        assert_eq!(timeline.rows[0].spans[0].phase, Phase::Backoff);
        assert_eq!(timeline.rows[0].note, "attempt 3");
    }

    #[test]
    fn the_present_attempt_comes_from_the_server() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let pending = PendingActivityInfo {
            activity_type: Some(ActivityType { name: "<ship>".into() }),
            attempt: 4,
            state: mainstay_api::temporal::enums::v1::PendingActivityState::Started as i32,
            last_started_time: time(3),
            last_attempt_complete_time: time(2),
            ..Default::default()
        };
        let timeline = Timeline::of(&activity(1)[..1], &[pending], 6 * SECOND);
        let row = &timeline.rows[0];
        assert_eq!(row.spans.iter().map(|part| part.phase).collect::<Vec<_>>(), [Phase::Backoff, Phase::Worker]);
        assert_eq!((row.spans[1].to, row.marks.len()), (None, 1));
    }

    #[test]
    fn events_whose_beginning_is_on_another_page_draw_nothing() {
        let timeline = Timeline::of(&activity(1)[1..], &[], 5 * SECOND);
        assert!(timeline.rows.is_empty());
        assert!(!timeline.markup().into_string().is_empty());
    }
}
