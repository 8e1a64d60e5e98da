//! A page of a history, ready to be drawn: events by number, and what belongs together.
//!
//! What an event closes is told by the numbers in it: an activity's by `scheduledEventId`, a timer's by `startedEventId`, a child's
//! by `initiatedEventId`. So grouping needs no list of kinds.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::EventType;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, GetWorkflowExecutionHistoryReverseRequest,
};
use prost::Message;
use serde_json::Value;

use crate::api::{Api, ask};
use crate::format::{nanos, words};
use crate::json::{self, integer, text};
use crate::problem::Problem;

/// Events on one page: enough for most histories, and drawn in no time.
pub const PAGE: i32 = 500;

/// One event.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: i64,
    /// Nanoseconds since 1970.
    pub at: i64,
    pub kind: EventType,
    /// Its attributes.
    pub attributes: Value,
    /// All of it, as proto JSON.
    pub json: Value,
}

impl Event {
    fn read(encoded: &[u8]) -> Option<Self> {
        let event = HistoryEvent::decode(encoded).ok()?;
        let json = json::of("temporal.api.history.v1.HistoryEvent", encoded);
        let attributes = json.as_object()?.iter().find(|(name, _)| name.ends_with("EventAttributes"));
        Some(Self {
            id: event.event_id,
            at: event.event_time.as_ref().map_or(0, nanos),
            kind: event.event_type(),
            attributes: attributes.map(|(_, value)| value.clone()).unwrap_or_default(),
            json,
        })
    }

    /// Its kind in words.
    pub fn name(&self) -> String {
        words(&format!("{:?}", self.kind))
    }

    /// The number of the event that began what this one carries on; its own if it begins something.
    pub fn group(&self) -> i64 {
        let begun = ["scheduledEventId", "initiatedEventId", "startedEventId", "acceptedEventId"];
        begun.iter().map(|name| integer(&self.attributes, &[*name])).find(|id| *id > 0).unwrap_or(self.id)
    }

    /// What it is about: an activity's type, a timer's id, a signal's name.
    pub fn subject(&self) -> String {
        let a = &self.attributes;
        let named: [&[&str]; 9] = [
            &["activityType", "name"],
            &["signalName"],
            &["markerName"],
            &["acceptedRequest", "input", "name"],
            &["request", "input", "name"],
            &["workflowType", "name"],
            &["operation"],
            &["failure", "message"],
            &["reason"],
        ];
        let found = named.iter().map(|path| text(a, path)).find(|text| !text.is_empty());
        match found {
            Some(found) => found.to_owned(),
            None if self.kind == EventType::TimerStarted => {
                format!("timer {}, {}", text(a, &["timerId"]), text(a, &["startToFireTimeout"]))
            }
            None => String::new(),
        }
    }

    pub fn is_workflow_task(&self) -> bool {
        matches!(
            self.kind,
            EventType::WorkflowTaskScheduled
                | EventType::WorkflowTaskStarted
                | EventType::WorkflowTaskCompleted
                | EventType::WorkflowTaskTimedOut
                | EventType::WorkflowTaskFailed
        )
    }

    /// Whether it tells of something that went wrong.
    pub fn is_bad(&self) -> bool {
        let name = self.kind.as_str_name();
        ["_FAILED", "_TIMED_OUT", "_REJECTED", "_TERMINATED"].iter().any(|ending| name.ends_with(ending))
    }

    /// Whether a run can be reset to it.
    pub fn is_reset_point(&self) -> bool {
        matches!(
            self.kind,
            EventType::WorkflowTaskCompleted
                | EventType::WorkflowTaskFailed
                | EventType::WorkflowTaskTimedOut
                | EventType::WorkflowTaskStarted
        )
    }
}

/// A page of events in the order that was asked for.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub events: Vec<Event>,
    /// The token of the next page; empty at the end.
    pub next: Bytes,
}

impl Page {
    /// Reads a page.
    pub async fn read(
        api: &Api,
        namespace: &str,
        execution: WorkflowExecution,
        token: Bytes,
        newest_first: bool,
    ) -> Result<Self, Problem> {
        let namespace = namespace.to_owned();
        let execution = Some(execution);
        let (history, next) = if newest_first {
            let request = GetWorkflowExecutionHistoryReverseRequest {
                namespace,
                execution,
                maximum_page_size: PAGE,
                next_page_token: token,
            };
            let page = ask(api.workflows().get_workflow_execution_history_reverse(request)).await?;
            (page.history, page.next_page_token)
        } else {
            let request = GetWorkflowExecutionHistoryRequest {
                namespace,
                execution,
                maximum_page_size: PAGE,
                next_page_token: token,
                ..Default::default()
            };
            let page = ask(api.workflows().get_workflow_execution_history(request)).await?;
            (page.history, page.next_page_token)
        };
        let events = history.unwrap_or_default().events;
        Ok(Self { events: events.iter().filter_map(|event| Event::read(event)).collect(), next })
    }

    /// Events by the one that began them, in the order of the page.
    pub fn groups(&self) -> Vec<Vec<&Event>> {
        let mut order = Vec::new();
        let mut groups: BTreeMap<i64, Vec<&Event>> = BTreeMap::new();
        for event in &self.events {
            let group = event.group();
            if !groups.contains_key(&group) {
                order.push(group);
            }
            groups.entry(group).or_default().push(event);
        }
        order.iter().filter_map(|group| groups.remove(group)).collect()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use mainstay_api::temporal::history::v1::history_event::Attributes;
    use prost_types::Timestamp;

    /// An event at a second.
    pub fn event(id: i64, second: i64, kind: EventType, attributes: Attributes) -> Event {
        let event = HistoryEvent {
            event_id: id,
            event_time: Some(Timestamp { seconds: second, nanos: 0 }),
            event_type: kind as i32,
            attributes: Some(attributes),
            ..HistoryEvent::default()
        };
        Event::read(&event.encode_to_vec()).unwrap()
    }

    #[test]
    fn an_activity_is_one_group() {
        use mainstay_api::temporal::history::v1 as h;
        let scheduled = h::ActivityTaskScheduledEventAttributes {
            activity_type: Some(mainstay_api::temporal::common::v1::ActivityType { name: "ship".into() }),
            ..Default::default()
        };
        let started = h::ActivityTaskStartedEventAttributes { scheduled_event_id: 5, ..Default::default() };
        let completed = h::ActivityTaskCompletedEventAttributes {
            scheduled_event_id: 5,
            started_event_id: 6,
            ..Default::default()
        };
        let events = vec![
            event(5, 1, EventType::ActivityTaskScheduled, Attributes::ActivityTaskScheduledEventAttributes(scheduled)),
            event(6, 2, EventType::ActivityTaskStarted, Attributes::ActivityTaskStartedEventAttributes(started)),
            event(7, 3, EventType::ActivityTaskCompleted, Attributes::ActivityTaskCompletedEventAttributes(completed)),
        ];
        let page = Page { events, next: Bytes::new() };
        let groups = page.groups();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].iter().map(|event| event.id).collect::<Vec<_>>(), [5, 6, 7]);
        assert_eq!(groups[0][0].subject(), "ship");
        assert_eq!(groups[0][2].name(), "Activity task completed");
    }
}
