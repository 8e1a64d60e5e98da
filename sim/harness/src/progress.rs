//! What a history says of the steps of its plan.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
use mainstay_api::temporal::update::v1::Request;

use crate::client::text;
use crate::plan::Plan;

/// How an activity ended, if it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity {
    pub(crate) scheduled: i64,
    pub(crate) cancel_requested: bool,
    pub(crate) over: bool,
    pub(crate) answer: Option<String>,
}

/// What a history says of the plan's steps.
#[derive(Debug, Default)]
pub struct Progress {
    pub(crate) plan: Option<Plan>,
    pub(crate) activities: BTreeMap<String, Activity>,
    pub(crate) timers: BTreeSet<String>,
    pub(crate) timers_over: BTreeSet<String>,
    pub(crate) markers: BTreeSet<String>,
    /// Children by step.
    pub(crate) children: BTreeMap<String, Child>,
    /// Signals and cancel requests to other workflows, by step; whether they were answered.
    pub(crate) externals: BTreeMap<String, bool>,
    /// Updates by id.
    pub(crate) updates: BTreeMap<String, Update>,
    /// Signals of this run.
    pub signals: u64,
    pub(crate) cancel_requested: bool,
}

/// How far a child is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Child {
    /// It started, or cannot start.
    pub(crate) answered: bool,
    pub(crate) over: bool,
}

/// How far an update is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Update {
    /// What it asks for.
    pub(crate) wish: String,
    pub(crate) accepted: bool,
    pub(crate) completed: bool,
}

/// What an update asks for.
pub(crate) fn wish(request: Option<&Request>) -> String {
    text(request.and_then(|request| request.input.as_ref()).and_then(|input| input.args.as_ref()))
}

/// The step that a name ends with: names of children and signals do.
fn step_of(name: &str) -> String {
    name.rsplit('-').next().unwrap_or_default().to_string()
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
            _ => {
                self.take_other_workflows(id, attributes, ids);
                self.take_update(attributes);
            }
        }
    }

    fn take_other_workflows(&mut self, id: i64, attributes: &Event, ids: &mut BTreeMap<i64, String>) {
        let mut child = |initiated: i64, over: bool| {
            if let Some(child) = ids.get(&initiated).and_then(|step| self.children.get_mut(step)) {
                child.answered = true;
                child.over |= over;
            }
        };
        match attributes {
            Event::StartChildWorkflowExecutionInitiatedEventAttributes(it) => {
                ids.insert(id, step_of(&it.workflow_id));
                self.children.insert(step_of(&it.workflow_id), Child::default());
            }
            Event::ChildWorkflowExecutionStartedEventAttributes(it) => child(it.initiated_event_id, false),
            Event::StartChildWorkflowExecutionFailedEventAttributes(it) => child(it.initiated_event_id, true),
            Event::ChildWorkflowExecutionCompletedEventAttributes(it) => child(it.initiated_event_id, true),
            Event::ChildWorkflowExecutionFailedEventAttributes(it) => child(it.initiated_event_id, true),
            Event::ChildWorkflowExecutionCanceledEventAttributes(it) => child(it.initiated_event_id, true),
            Event::ChildWorkflowExecutionTimedOutEventAttributes(it) => child(it.initiated_event_id, true),
            Event::ChildWorkflowExecutionTerminatedEventAttributes(it) => child(it.initiated_event_id, true),
            Event::SignalExternalWorkflowExecutionInitiatedEventAttributes(it) => {
                ids.insert(id, step_of(&it.signal_name));
                self.externals.insert(step_of(&it.signal_name), false);
            }
            Event::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(it) => {
                ids.insert(id, step_of(&it.reason));
                self.externals.insert(step_of(&it.reason), false);
            }
            Event::ExternalWorkflowExecutionSignaledEventAttributes(it) => self.answered(ids, it.initiated_event_id),
            Event::SignalExternalWorkflowExecutionFailedEventAttributes(it) => {
                self.answered(ids, it.initiated_event_id);
            }
            Event::ExternalWorkflowExecutionCancelRequestedEventAttributes(it) => {
                self.answered(ids, it.initiated_event_id);
            }
            Event::RequestCancelExternalWorkflowExecutionFailedEventAttributes(it) => {
                self.answered(ids, it.initiated_event_id);
            }
            _ => {}
        }
    }

    fn answered(&mut self, ids: &BTreeMap<i64, String>, initiated: i64) {
        if let Some(step) = ids.get(&initiated) {
            self.externals.insert(step.clone(), true);
        }
    }

    fn take_update(&mut self, attributes: &Event) {
        match attributes {
            Event::WorkflowExecutionUpdateAdmittedEventAttributes(it) => {
                let id = it.request.as_ref().and_then(|request| request.meta.as_ref()).map(|meta| &meta.update_id);
                let update = Update { wish: wish(it.request.as_ref()), ..Update::default() };
                self.updates.insert(id.cloned().unwrap_or_default(), update);
            }
            Event::WorkflowExecutionUpdateAcceptedEventAttributes(it) => {
                let update = self.updates.entry(it.protocol_instance_id.clone()).or_default();
                update.accepted = true;
                if it.accepted_request.is_some() {
                    update.wish = wish(it.accepted_request.as_ref());
                }
            }
            Event::WorkflowExecutionUpdateCompletedEventAttributes(it) => {
                let id = it.meta.as_ref().map(|meta| meta.update_id.clone()).unwrap_or_default();
                self.updates.entry(id).or_default().completed = true;
            }
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
}
