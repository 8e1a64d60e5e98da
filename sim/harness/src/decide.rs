//! The workflow itself: which commands follow from a history. The same history gives the same commands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mainstay_api::temporal::command::v1::command::Attributes;
use mainstay_api::temporal::command::v1::{
    CancelTimerCommandAttributes, CancelWorkflowExecutionCommandAttributes, Command,
    CompleteWorkflowExecutionCommandAttributes, ContinueAsNewWorkflowExecutionCommandAttributes,
    FailWorkflowExecutionCommandAttributes, ModifyWorkflowPropertiesCommandAttributes, RecordMarkerCommandAttributes,
    RequestCancelActivityTaskCommandAttributes, ScheduleActivityTaskCommandAttributes, StartTimerCommandAttributes,
};
use mainstay_api::temporal::common::v1::{ActivityType, Memo, RetryPolicy, WorkflowType};
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

use crate::client::{WORKFLOW_TYPE, payloads, task_queue, text};
use crate::plan::{End, Habit, Plan, Step};

/// How long an attempt of an activity may take.
pub const START_TO_CLOSE: Duration = Duration::from_secs(10);
/// The same of an activity that comes too late.
pub const SHORT: Duration = Duration::from_secs(2);
/// How long an activity may be silent, if it sends heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(3);

/// How an activity ended, if it did.
#[derive(Clone, Debug, Default)]
struct Activity {
    scheduled: i64,
    cancel_requested: bool,
    over: bool,
    answer: Option<String>,
}

/// What a history says of the plan's steps.
#[derive(Debug, Default)]
pub struct Progress {
    plan: Option<Plan>,
    activities: BTreeMap<String, Activity>,
    timers: BTreeSet<String>,
    timers_over: BTreeSet<String>,
    markers: BTreeSet<String>,
    /// Signals of this run.
    pub signals: u64,
    cancel_requested: bool,
}

impl Progress {
    /// Reads a history.
    #[must_use]
    pub fn of(events: &[HistoryEvent]) -> Self {
        let mut progress = Self::default();
        let mut ids = BTreeMap::new();
        for event in events {
            if let Some(attributes) = event.attributes.as_ref() {
                progress.take(event.event_id, attributes, &mut ids);
            }
        }
        progress
    }

    fn take(&mut self, id: i64, attributes: &Event, ids: &mut BTreeMap<i64, String>) {
        match attributes {
            Event::WorkflowExecutionStartedEventAttributes(it) => {
                self.plan = text(it.input.as_ref()).parse().ok();
            }
            Event::ActivityTaskScheduledEventAttributes(it) => {
                ids.insert(id, it.activity_id.clone());
                let activity = Activity { scheduled: id, ..Activity::default() };
                self.activities.insert(it.activity_id.clone(), activity);
            }
            Event::ActivityTaskCompletedEventAttributes(it) => {
                self.over(ids, it.scheduled_event_id, Some(text(it.result.as_ref())));
            }
            Event::ActivityTaskFailedEventAttributes(it) => self.over(ids, it.scheduled_event_id, None),
            Event::ActivityTaskTimedOutEventAttributes(it) => self.over(ids, it.scheduled_event_id, None),
            Event::ActivityTaskCanceledEventAttributes(it) => self.over(ids, it.scheduled_event_id, None),
            Event::ActivityTaskCancelRequestedEventAttributes(it) => {
                let activity = ids.get(&it.scheduled_event_id).and_then(|id| self.activities.get_mut(id));
                if let Some(activity) = activity {
                    activity.cancel_requested = true;
                }
            }
            Event::TimerStartedEventAttributes(it) => drop(self.timers.insert(it.timer_id.clone())),
            Event::TimerFiredEventAttributes(it) => drop(self.timers_over.insert(it.timer_id.clone())),
            Event::TimerCanceledEventAttributes(it) => drop(self.timers_over.insert(it.timer_id.clone())),
            Event::MarkerRecordedEventAttributes(it) => drop(self.markers.insert(it.marker_name.clone())),
            Event::WorkflowExecutionSignaledEventAttributes(_) => self.signals += 1,
            Event::WorkflowExecutionCancelRequestedEventAttributes(_) => self.cancel_requested = true,
            _ => {}
        }
    }

    fn over(&mut self, ids: &BTreeMap<i64, String>, scheduled: i64, answer: Option<String>) {
        if let Some(activity) = ids.get(&scheduled).and_then(|id| self.activities.get_mut(id)) {
            activity.over = true;
            activity.answer = answer;
        }
    }

    /// The result of a run: what its activities answered.
    #[must_use]
    pub fn result(&self) -> String {
        let answers = self.activities.values().filter_map(|activity| activity.answer.clone());
        answers.collect::<Vec<_>>().join(" ")
    }

    /// What each activity answered, by id.
    pub fn answers(&self) -> impl Iterator<Item = (&str, &str)> {
        let answers = self.activities.iter();
        answers.filter_map(|(id, activity)| Some((id.as_str(), activity.answer.as_deref()?)))
    }

    fn done(&self, id: &str, step: Step) -> bool {
        match step {
            Step::Activity { .. } | Step::Abandon { .. } => self.activities.get(id).is_some_and(|it| it.over),
            Step::Timer { .. } => self.timers_over.contains(id),
            Step::Timers { count, .. } => (0..count).all(|n| self.timers_over.contains(&format!("{id}.{n}"))),
            Step::Signals { count, .. } => self.signals >= count || self.timers_over.contains(id),
            Step::Note => self.markers.contains(id),
        }
    }

    /// Commands that a step needs now.
    fn wants(&self, id: &str, step: Step) -> Vec<Command> {
        let timer = |id: &str, millis| (!self.timers.contains(id)).then(|| start_timer(id, millis));
        match step {
            Step::Activity { .. } => {
                let begun = self.activities.contains_key(id);
                (!begun).then(|| schedule(id, step)).into_iter().collect()
            }
            Step::Timer { millis } | Step::Signals { millis, .. } => timer(id, millis).into_iter().collect(),
            Step::Timers { count, millis } => (0..count).filter_map(|n| timer(&format!("{id}.{n}"), millis)).collect(),
            Step::Note => vec![marker(id), memo(id)],
            Step::Abandon { millis } => {
                let wait = format!("{id}.wait");
                let mut commands: Vec<Command> = timer(&wait, millis).into_iter().collect();
                match self.activities.get(id) {
                    None => commands.push(schedule(id, step)),
                    Some(it) if self.timers_over.contains(&wait) && !it.cancel_requested => {
                        commands.push(cancel_activity(it.scheduled));
                    }
                    Some(_) => {}
                }
                commands
            }
        }
    }
}

/// The commands that follow from a history.
///
/// # Panics
/// If the history does not begin with a plan.
#[must_use]
pub fn decide(events: &[HistoryEvent]) -> Vec<Command> {
    let progress = Progress::of(events);
    let Some(plan) = progress.plan.as_ref() else { panic!("a history begins with {:?}", events.first()) };
    if progress.cancel_requested && plan.obeys {
        let attributes = CancelWorkflowExecutionCommandAttributes { details: payloads("as asked") };
        let attributes = Attributes::CancelWorkflowExecutionCommandAttributes(attributes);
        return vec![command(CommandType::CancelWorkflowExecution, attributes)];
    }
    let mut commands = Vec::new();
    for (group, steps) in plan.groups.iter().enumerate() {
        let ids: Vec<String> = (0..steps.len()).map(|step| Plan::id(group, step)).collect();
        let done = |(id, step): (&String, &Step)| progress.done(id, *step);
        if ids.iter().zip(steps).all(done) {
            // A wait that signals ended leaves its timer.
            commands.extend(ids.iter().zip(steps).filter_map(|(id, step)| leave(&progress, id, *step)));
            continue;
        }
        let open = || ids.iter().zip(steps).filter(|(id, step)| !progress.done(id, **step));
        commands.extend(open().flat_map(|(id, step)| progress.wants(id, *step)));
        // A note needs no waiting.
        if !open().all(|(_, step)| *step == Step::Note) {
            return commands;
        }
    }
    commands.push(close(plan, &progress));
    commands
}

fn leave(progress: &Progress, id: &str, step: Step) -> Option<Command> {
    let open = progress.timers.contains(id) && !progress.timers_over.contains(id);
    (open && matches!(step, Step::Signals { .. })).then(|| {
        let attributes = CancelTimerCommandAttributes { timer_id: id.into() };
        command(CommandType::CancelTimer, Attributes::CancelTimerCommandAttributes(attributes))
    })
}

fn close(plan: &Plan, progress: &Progress) -> Command {
    match plan.end {
        End::Complete => {
            let attributes = CompleteWorkflowExecutionCommandAttributes { result: payloads(&progress.result()) };
            let attributes = Attributes::CompleteWorkflowExecutionCommandAttributes(attributes);
            command(CommandType::CompleteWorkflowExecution, attributes)
        }
        End::Fail => {
            let failure = Failure { message: "by plan".into(), ..Failure::default() };
            let attributes = FailWorkflowExecutionCommandAttributes { failure: Some(failure) };
            let attributes = Attributes::FailWorkflowExecutionCommandAttributes(attributes);
            command(CommandType::FailWorkflowExecution, attributes)
        }
        End::Again(times) => {
            let attributes = ContinueAsNewWorkflowExecutionCommandAttributes {
                workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
                task_queue: task_queue(),
                input: payloads(&plan.next(times - 1).to_string()),
                ..Default::default()
            };
            let attributes = Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(attributes);
            command(CommandType::ContinueAsNewWorkflowExecution, attributes)
        }
    }
}

fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command { command_type: kind as i32, attributes: Some(attributes), ..Command::default() }
}

fn span(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok()
}

fn start_timer(id: &str, millis: u64) -> Command {
    let attributes =
        StartTimerCommandAttributes { timer_id: id.into(), start_to_fire_timeout: span(Duration::from_millis(millis)) };
    command(CommandType::StartTimer, Attributes::StartTimerCommandAttributes(attributes))
}

fn cancel_activity(scheduled_event_id: i64) -> Command {
    let attributes = RequestCancelActivityTaskCommandAttributes { scheduled_event_id };
    command(CommandType::RequestCancelActivityTask, Attributes::RequestCancelActivityTaskCommandAttributes(attributes))
}

fn marker(id: &str) -> Command {
    let attributes = RecordMarkerCommandAttributes { marker_name: id.into(), ..Default::default() };
    command(CommandType::RecordMarker, Attributes::RecordMarkerCommandAttributes(attributes))
}

fn memo(id: &str) -> Command {
    let value = payloads(id).and_then(|mut all| all.payloads.pop()).unwrap_or_default();
    let upserted_memo = Some(Memo { fields: [("note".to_string(), value)].into() });
    let attributes = ModifyWorkflowPropertiesCommandAttributes { upserted_memo };
    command(CommandType::ModifyWorkflowProperties, Attributes::ModifyWorkflowPropertiesCommandAttributes(attributes))
}

fn schedule(id: &str, step: Step) -> Command {
    let habit = if let Step::Activity { habit, .. } = step { habit } else { Habit::Heartbeats };
    let short = matches!(habit, Habit::Silent | Habit::Late);
    let retry = RetryPolicy {
        initial_interval: span(Duration::from_millis(500)),
        backoff_coefficient: 1.5,
        maximum_interval: span(Duration::from_secs(3)),
        ..RetryPolicy::default()
    };
    let attributes = ScheduleActivityTaskCommandAttributes {
        activity_id: id.into(),
        activity_type: Some(ActivityType { name: "step".into() }),
        task_queue: task_queue(),
        input: payloads(&step.to_string()),
        start_to_close_timeout: span(if short { SHORT } else { START_TO_CLOSE }),
        heartbeat_timeout: if habit == Habit::Heartbeats { span(HEARTBEAT) } else { None },
        retry_policy: Some(retry),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}
