//! What every finished history looks like, whatever the workflow did.
//!
//! Ids count up without a gap, time does not go back, every event follows from the event that it names, nothing ends twice, and
//! nothing fires early. What came while a worker held a task is written after the task's end, with the time when it came; so is an
//! activity's start, which is written with its end. Only of the other events does the order tell the time.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::enums::v1::EventType;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

/// Nanoseconds of a message's time or span.
fn nanos(seconds: i64, nanos: i32) -> i64 {
    seconds * 1_000_000_000 + i64::from(nanos)
}

fn time(event: &HistoryEvent) -> i64 {
    event.event_time.as_ref().map_or(0, |time| nanos(time.seconds, time.nanos))
}

/// Whether such an event may have come while a worker held a task.
fn comes_at_any_time(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::ActivityTaskStarted
            | EventType::ActivityTaskCompleted
            | EventType::ActivityTaskFailed
            | EventType::ActivityTaskTimedOut
            | EventType::ActivityTaskCanceled
            | EventType::TimerFired
            | EventType::WorkflowExecutionSignaled
            | EventType::WorkflowExecutionCancelRequested
            | EventType::WorkflowExecutionPaused
            | EventType::WorkflowExecutionUnpaused
            | EventType::StartChildWorkflowExecutionFailed
            | EventType::ChildWorkflowExecutionStarted
            | EventType::ChildWorkflowExecutionCompleted
            | EventType::ChildWorkflowExecutionFailed
            | EventType::ChildWorkflowExecutionCanceled
            | EventType::ChildWorkflowExecutionTimedOut
            | EventType::ChildWorkflowExecutionTerminated
            | EventType::ExternalWorkflowExecutionSignaled
            | EventType::SignalExternalWorkflowExecutionFailed
            | EventType::ExternalWorkflowExecutionCancelRequested
            | EventType::RequestCancelExternalWorkflowExecutionFailed
            | EventType::WorkflowExecutionUpdateAdmitted
    )
}

/// The request of a task that a reset began, to end it at once.
const NO_REQUEST: &str = "emptyUuid";

/// Checks a closed run's history.
///
/// # Errors
/// The first offence.
pub fn check(events: &[HistoryEvent]) -> Result<(), String> {
    let mut walk = Walk::default();
    for (expected, event) in (1..).zip(events) {
        if event.event_id != expected {
            return Err(format!("event {expected} has id {}", event.event_id));
        }
        if !comes_at_any_time(event.event_type()) {
            if time(event) < walk.now {
                return Err(format!("event {expected} is earlier than one before"));
            }
            walk.now = time(event);
        }
        if walk.closed {
            return Err(format!("event {expected} ({:?}) comes after the end", event.event_type()));
        }
        walk.at = time(event);
        walk.take(event).map_err(|offence| format!("event {expected} ({:?}): {offence}", event.event_type()))?;
    }
    if walk.closed { Ok(()) } else { Err("the last event closes nothing".into()) }
}

#[derive(Default)]
struct Walk<'a> {
    /// Time of the last event whose place tells its time.
    now: i64,
    /// Time of the event at hand.
    at: i64,
    closed: bool,
    events: BTreeMap<i64, &'a HistoryEvent>,
    /// Scheduled events of activities that are not over, with their activity ids.
    activities: BTreeMap<i64, &'a str>,
    started_activities: BTreeSet<i64>,
    /// Open timers, by id: due, and the event that began it.
    timers: BTreeMap<&'a str, (i64, i64)>,
    /// Initiated events of children that did not end, with their started events.
    children: BTreeMap<i64, Option<i64>>,
    /// Initiated events of signals and cancel requests to other workflows that were not answered.
    externals: BTreeSet<i64>,
    /// Updates: the event of their acceptance, and whether they are completed.
    updates: BTreeMap<&'a str, (i64, bool)>,
    /// The pending workflow task: its scheduled and started events.
    task: Option<(i64, Option<i64>)>,
    /// Since when the workflow is paused.
    paused: Option<i64>,
}

fn expect(holds: bool, offence: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(offence.into()) }
}

impl<'a> Walk<'a> {
    fn take(&mut self, event: &'a HistoryEvent) -> Result<(), String> {
        let id = event.event_id;
        let attributes = event.attributes.as_ref().ok_or("no attributes")?;
        match attributes {
            Event::WorkflowExecutionStartedEventAttributes(_) => expect(id == 1, "not the first event"),
            Event::WorkflowTaskScheduledEventAttributes(_)
            | Event::WorkflowTaskStartedEventAttributes(_)
            | Event::WorkflowTaskCompletedEventAttributes(_)
            | Event::WorkflowTaskFailedEventAttributes(_)
            | Event::WorkflowTaskTimedOutEventAttributes(_) => self.task(id, attributes),
            Event::TimerStartedEventAttributes(_)
            | Event::TimerFiredEventAttributes(_)
            | Event::TimerCanceledEventAttributes(_) => self.timer(id, attributes),
            Event::WorkflowExecutionCompletedEventAttributes(it) => self.close(it.workflow_task_completed_event_id),
            Event::WorkflowExecutionFailedEventAttributes(it) => self.close(it.workflow_task_completed_event_id),
            Event::WorkflowExecutionCanceledEventAttributes(it) => self.close(it.workflow_task_completed_event_id),
            Event::WorkflowExecutionContinuedAsNewEventAttributes(it) => {
                self.close(it.workflow_task_completed_event_id)
            }
            Event::WorkflowExecutionTerminatedEventAttributes(_)
            | Event::WorkflowExecutionTimedOutEventAttributes(_) => {
                self.closed = true;
                Ok(())
            }
            Event::WorkflowExecutionPausedEventAttributes(_) => {
                expect(self.paused.replace(self.at).is_none(), "it is paused already")
            }
            Event::WorkflowExecutionUnpausedEventAttributes(_) => {
                expect(self.paused.take().is_some(), "it is not paused")
            }
            Event::MarkerRecordedEventAttributes(it) => {
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)
            }
            Event::WorkflowPropertiesModifiedEventAttributes(it) => {
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)
            }
            Event::WorkflowExecutionUpdateAcceptedEventAttributes(_)
            | Event::WorkflowExecutionUpdateCompletedEventAttributes(_) => self.update(id, attributes),
            _ => self.activity(id, attributes).and_then(|()| self.other_workflow(id, attributes)),
        }?;
        self.events.insert(id, event);
        expect(id == 1 || self.events.contains_key(&1), "the run has no beginning")
    }

    /// The workflow ends by a command.
    fn close(&mut self, completed: i64) -> Result<(), String> {
        self.closed = true;
        self.is(completed, EventType::WorkflowTaskCompleted)
    }

    fn is(&self, id: i64, kind: EventType) -> Result<(), String> {
        let found = self.events.get(&id).map(|event| event.event_type());
        expect(found == Some(kind), &format!("names event {id} as {kind:?}, which is {found:?}"))
    }

    fn task(&mut self, id: i64, attributes: &Event) -> Result<(), String> {
        let over = |walk: &mut Self, scheduled, started| {
            let pending = walk.task.take();
            expect(pending == Some((scheduled, started)), &format!("ends a task while {pending:?} is pending"))
        };
        match attributes {
            Event::WorkflowTaskScheduledEventAttributes(_) => {
                expect(self.task.is_none(), "a task is pending already")?;
                self.task = Some((id, None));
                Ok(())
            }
            Event::WorkflowTaskStartedEventAttributes(it) => {
                expect(self.task == Some((it.scheduled_event_id, None)), "no such task waits")?;
                // What a worker held when the workflow was paused may be written later.
                let by_reset = it.request_id == NO_REQUEST;
                expect(by_reset || self.paused.is_none_or(|since| self.at <= since), "the workflow is paused")?;
                self.task = Some((it.scheduled_event_id, Some(id)));
                Ok(())
            }
            Event::WorkflowTaskCompletedEventAttributes(it) => {
                over(self, it.scheduled_event_id, Some(it.started_event_id))
            }
            // One that nobody had started ends when the workflow is paused.
            Event::WorkflowTaskFailedEventAttributes(it) => {
                over(self, it.scheduled_event_id, (it.started_event_id != 0).then_some(it.started_event_id))
            }
            Event::WorkflowTaskTimedOutEventAttributes(it) => {
                over(self, it.scheduled_event_id, (it.started_event_id != 0).then_some(it.started_event_id))
            }
            _ => Ok(()),
        }
    }

    fn timer(&mut self, id: i64, attributes: &'a Event) -> Result<(), String> {
        match attributes {
            Event::TimerStartedEventAttributes(it) => {
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)?;
                let span = it.start_to_fire_timeout.as_ref().map_or(0, |span| nanos(span.seconds, span.nanos));
                let old = self.timers.insert(&it.timer_id, (self.at + span, id));
                expect(old.is_none(), "such a timer is open already")
            }
            Event::TimerFiredEventAttributes(it) => {
                let (due, started) = self.timers.remove(it.timer_id.as_str()).ok_or("no such timer is open")?;
                expect(started == it.started_event_id, "it names another event as its start")?;
                expect(self.at >= due, &format!("it fires {} ns early", due - self.at))
            }
            Event::TimerCanceledEventAttributes(it) => {
                self.timers.remove(it.timer_id.as_str()).map(drop).ok_or_else(|| "no such timer is open".into())
            }
            _ => Ok(()),
        }
    }

    fn update(&mut self, id: i64, attributes: &'a Event) -> Result<(), String> {
        match attributes {
            Event::WorkflowExecutionUpdateAcceptedEventAttributes(it) => {
                let old = self.updates.insert(&it.protocol_instance_id, (id, false));
                expect(old.is_none(), "it was accepted before")
            }
            Event::WorkflowExecutionUpdateCompletedEventAttributes(it) => {
                let name = it.meta.as_ref().map(|meta| meta.update_id.as_str()).unwrap_or_default();
                let (accepted, completed) = self.updates.get_mut(name).ok_or("no such update was accepted")?;
                expect(*accepted == it.accepted_event_id, "it names another event as its acceptance")?;
                expect(!std::mem::replace(completed, true), "it was completed before")
            }
            _ => Ok(()),
        }
    }

    /// Children, and requests to other workflows.
    fn other_workflow(&mut self, id: i64, attributes: &'a Event) -> Result<(), String> {
        let mut over = |initiated: i64, started: i64| {
            let known = self.children.remove(&initiated);
            expect(known == Some(Some(started)), &format!("the child of event {initiated} is {known:?}"))
        };
        let mut answered = |initiated: i64| expect(self.externals.remove(&initiated), "no such request is open");
        match attributes {
            Event::StartChildWorkflowExecutionInitiatedEventAttributes(it) => {
                self.children.insert(id, None);
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)
            }
            Event::StartChildWorkflowExecutionFailedEventAttributes(it) => {
                expect(self.children.remove(&it.initiated_event_id) == Some(None), "no such child waits for its start")
            }
            Event::ChildWorkflowExecutionStartedEventAttributes(it) => {
                let old = self.children.insert(it.initiated_event_id, Some(id));
                expect(old == Some(None), "no such child waits for its start")
            }
            Event::ChildWorkflowExecutionCompletedEventAttributes(it) => {
                over(it.initiated_event_id, it.started_event_id)
            }
            Event::ChildWorkflowExecutionFailedEventAttributes(it) => over(it.initiated_event_id, it.started_event_id),
            Event::ChildWorkflowExecutionCanceledEventAttributes(it) => {
                over(it.initiated_event_id, it.started_event_id)
            }
            Event::ChildWorkflowExecutionTimedOutEventAttributes(it) => {
                over(it.initiated_event_id, it.started_event_id)
            }
            Event::ChildWorkflowExecutionTerminatedEventAttributes(it) => {
                over(it.initiated_event_id, it.started_event_id)
            }
            Event::SignalExternalWorkflowExecutionInitiatedEventAttributes(it) => {
                self.externals.insert(id);
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)
            }
            Event::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(it) => {
                self.externals.insert(id);
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)
            }
            Event::ExternalWorkflowExecutionSignaledEventAttributes(it) => answered(it.initiated_event_id),
            Event::SignalExternalWorkflowExecutionFailedEventAttributes(it) => answered(it.initiated_event_id),
            Event::ExternalWorkflowExecutionCancelRequestedEventAttributes(it) => answered(it.initiated_event_id),
            Event::RequestCancelExternalWorkflowExecutionFailedEventAttributes(it) => answered(it.initiated_event_id),
            _ => Ok(()),
        }
    }

    fn activity(&mut self, id: i64, attributes: &'a Event) -> Result<(), String> {
        let at = self.at;
        let since = |walk: &BTreeMap<i64, &HistoryEvent>, cause: i64| {
            let before = walk.get(&cause).is_some_and(|event| time(event) > at);
            expect(!before, &format!("it is earlier than event {cause}, from which it follows"))
        };
        let mut over = |scheduled: i64, started: i64| {
            since(&self.events, scheduled)?;
            since(&self.events, started)?;
            let known = self.activities.remove(&scheduled).is_some();
            expect(known, &format!("no activity scheduled by event {scheduled} is open"))?;
            let start = self.events.get(&started).and_then(|event| event.attributes.as_ref());
            let own = matches!(start, Some(Event::ActivityTaskStartedEventAttributes(it))
                if it.scheduled_event_id == scheduled);
            expect(started == 0 || own, &format!("event {started} does not start it"))
        };
        match attributes {
            Event::ActivityTaskScheduledEventAttributes(it) => {
                let twice = self.activities.values().any(|open| *open == it.activity_id);
                self.activities.insert(id, &it.activity_id);
                expect(!twice, "such an activity is open already")?;
                self.is(it.workflow_task_completed_event_id, EventType::WorkflowTaskCompleted)
            }
            Event::ActivityTaskCancelRequestedEventAttributes(it) => {
                self.is(it.scheduled_event_id, EventType::ActivityTaskScheduled)
            }
            Event::ActivityTaskStartedEventAttributes(it) => {
                since(&self.events, it.scheduled_event_id)?;
                expect(self.activities.contains_key(&it.scheduled_event_id), "no such activity is open")?;
                expect(self.started_activities.insert(it.scheduled_event_id), "it is started twice")
            }
            Event::ActivityTaskCompletedEventAttributes(it) => over(it.scheduled_event_id, it.started_event_id),
            Event::ActivityTaskFailedEventAttributes(it) => over(it.scheduled_event_id, it.started_event_id),
            Event::ActivityTaskTimedOutEventAttributes(it) => over(it.scheduled_event_id, it.started_event_id),
            Event::ActivityTaskCanceledEventAttributes(it) => over(it.scheduled_event_id, it.started_event_id),
            _ => Ok(()),
        }
    }
}
