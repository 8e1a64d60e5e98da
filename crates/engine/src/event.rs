//! History events: their type numbers, and which of them wait while a workflow task is started.

use mainstay_api::temporal::common::v1::Link;
use mainstay_api::temporal::enums::v1::EventType;
use mainstay_api::temporal::history::v1::HistoryEvent;
pub(crate) use mainstay_api::temporal::history::v1::history_event::Attributes;
use mainstay_api::temporal::sdk::v1::{EventGroupMarker, UserMetadata};
use prost::Message;
use prost::encoding::WireType;

/// An event that has no id yet.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) attributes: Attributes,
    pub(crate) user_metadata: Option<UserMetadata>,
    pub(crate) links: Vec<Link>,
    pub(crate) group_markers: Vec<EventGroupMarker>,
}

impl From<Attributes> for NewEvent {
    fn from(attributes: Attributes) -> Self {
        Self { attributes, user_metadata: None, links: Vec::new(), group_markers: Vec::new() }
    }
}

impl NewEvent {
    pub(crate) fn with_metadata(mut self, metadata: Option<UserMetadata>) -> Self {
        self.user_metadata = metadata;
        self
    }

    pub(crate) fn with_links(mut self, links: Vec<Link>) -> Self {
        self.links = links;
        self
    }

    /// Appends the event to an encoded history, without moving its attributes into a message first: a message is encoded as its
    /// parts one after the other. It can be done once. Answers the event's size.
    pub(crate) fn append(&mut self, history: &mut Vec<u8>, event_id: i64, now_ns: i64, task_id: i64) -> usize {
        let kind = event_type(&self.attributes);
        let head = HistoryEvent {
            event_id,
            event_time: crate::convert::time(now_ns),
            event_type: kind as i32,
            task_id,
            ..HistoryEvent::default()
        };
        let tail = HistoryEvent {
            worker_may_ignore: may_be_ignored(kind),
            user_metadata: self.user_metadata.take(),
            links: std::mem::take(&mut self.links),
            event_group_markers: std::mem::take(&mut self.group_markers),
            ..HistoryEvent::default()
        };
        let size = head.encoded_len() + self.attributes.encoded_len() + tail.encoded_len();
        begin(history, size);
        head.encode_raw(history);
        self.attributes.encode(history);
        tail.encode_raw(history);
        size
    }

    /// The event as stored; id 0 for one that is buffered.
    pub(crate) fn into_event(self, event_id: i64, now_ns: i64, task_id: i64) -> HistoryEvent {
        let event_type = event_type(&self.attributes);
        HistoryEvent {
            event_id,
            event_time: crate::convert::time(now_ns),
            event_type: event_type as i32,
            task_id,
            worker_may_ignore: may_be_ignored(event_type),
            user_metadata: self.user_metadata,
            links: self.links,
            event_group_markers: self.group_markers,
            attributes: Some(self.attributes),
            ..HistoryEvent::default()
        }
    }
}

/// Appends an event to an encoded history. Answers the event's size.
pub(crate) fn append(history: &mut Vec<u8>, event: &HistoryEvent) -> usize {
    let size = event.encoded_len();
    begin(history, size);
    event.encode_raw(history);
    size
}

/// Appends what stands before one of the `repeated HistoryEvent events = 1` of a history.
fn begin(history: &mut Vec<u8>, size: usize) {
    prost::encoding::encode_key(1, WireType::LengthDelimited, history);
    prost::encoding::encode_varint(size as u64, history);
    history.reserve(size);
}

/// Whether workers that do not know this type may go on as if it were not there: it means nothing to workflow code.
fn may_be_ignored(kind: EventType) -> bool {
    matches!(
        kind,
        EventType::WorkflowExecutionOptionsUpdated
            | EventType::WorkflowExecutionPaused
            | EventType::WorkflowExecutionUnpaused
    )
}

/// The type that belongs to an event's attributes.
pub(crate) fn event_type(attributes: &Attributes) -> EventType {
    use Attributes as A;
    match attributes {
        A::WorkflowExecutionStartedEventAttributes(_) => EventType::WorkflowExecutionStarted,
        A::WorkflowExecutionCompletedEventAttributes(_) => EventType::WorkflowExecutionCompleted,
        A::WorkflowExecutionFailedEventAttributes(_) => EventType::WorkflowExecutionFailed,
        A::WorkflowExecutionTimedOutEventAttributes(_) => EventType::WorkflowExecutionTimedOut,
        A::WorkflowExecutionCanceledEventAttributes(_) => EventType::WorkflowExecutionCanceled,
        A::WorkflowExecutionTerminatedEventAttributes(_) => EventType::WorkflowExecutionTerminated,
        A::WorkflowExecutionContinuedAsNewEventAttributes(_) => EventType::WorkflowExecutionContinuedAsNew,
        A::WorkflowExecutionCancelRequestedEventAttributes(_) => EventType::WorkflowExecutionCancelRequested,
        A::WorkflowExecutionSignaledEventAttributes(_) => EventType::WorkflowExecutionSignaled,
        A::WorkflowExecutionOptionsUpdatedEventAttributes(_) => EventType::WorkflowExecutionOptionsUpdated,
        A::WorkflowExecutionPausedEventAttributes(_) => EventType::WorkflowExecutionPaused,
        A::WorkflowExecutionUnpausedEventAttributes(_) => EventType::WorkflowExecutionUnpaused,
        A::WorkflowExecutionUpdateAdmittedEventAttributes(_) => EventType::WorkflowExecutionUpdateAdmitted,
        A::WorkflowExecutionUpdateAcceptedEventAttributes(_) => EventType::WorkflowExecutionUpdateAccepted,
        A::WorkflowExecutionUpdateCompletedEventAttributes(_) => EventType::WorkflowExecutionUpdateCompleted,
        A::WorkflowTaskScheduledEventAttributes(_) => EventType::WorkflowTaskScheduled,
        A::WorkflowTaskStartedEventAttributes(_) => EventType::WorkflowTaskStarted,
        A::WorkflowTaskCompletedEventAttributes(_) => EventType::WorkflowTaskCompleted,
        A::WorkflowTaskFailedEventAttributes(_) => EventType::WorkflowTaskFailed,
        A::WorkflowTaskTimedOutEventAttributes(_) => EventType::WorkflowTaskTimedOut,
        A::ActivityTaskScheduledEventAttributes(_) => EventType::ActivityTaskScheduled,
        A::ActivityTaskStartedEventAttributes(_) => EventType::ActivityTaskStarted,
        A::ActivityTaskCompletedEventAttributes(_) => EventType::ActivityTaskCompleted,
        A::ActivityTaskFailedEventAttributes(_) => EventType::ActivityTaskFailed,
        A::ActivityTaskTimedOutEventAttributes(_) => EventType::ActivityTaskTimedOut,
        A::ActivityTaskCancelRequestedEventAttributes(_) => EventType::ActivityTaskCancelRequested,
        A::ActivityTaskCanceledEventAttributes(_) => EventType::ActivityTaskCanceled,
        A::TimerStartedEventAttributes(_) => EventType::TimerStarted,
        A::TimerFiredEventAttributes(_) => EventType::TimerFired,
        A::TimerCanceledEventAttributes(_) => EventType::TimerCanceled,
        A::MarkerRecordedEventAttributes(_) => EventType::MarkerRecorded,
        A::UpsertWorkflowSearchAttributesEventAttributes(_) => EventType::UpsertWorkflowSearchAttributes,
        A::WorkflowPropertiesModifiedEventAttributes(_) => EventType::WorkflowPropertiesModified,
        other => event_type_of_relative(other),
    }
}

/// The same for events about other workflows.
fn event_type_of_relative(attributes: &Attributes) -> EventType {
    use Attributes as A;
    match attributes {
        A::StartChildWorkflowExecutionInitiatedEventAttributes(_) => EventType::StartChildWorkflowExecutionInitiated,
        A::StartChildWorkflowExecutionFailedEventAttributes(_) => EventType::StartChildWorkflowExecutionFailed,
        A::ChildWorkflowExecutionStartedEventAttributes(_) => EventType::ChildWorkflowExecutionStarted,
        A::ChildWorkflowExecutionCompletedEventAttributes(_) => EventType::ChildWorkflowExecutionCompleted,
        A::ChildWorkflowExecutionFailedEventAttributes(_) => EventType::ChildWorkflowExecutionFailed,
        A::ChildWorkflowExecutionCanceledEventAttributes(_) => EventType::ChildWorkflowExecutionCanceled,
        A::ChildWorkflowExecutionTimedOutEventAttributes(_) => EventType::ChildWorkflowExecutionTimedOut,
        A::ChildWorkflowExecutionTerminatedEventAttributes(_) => EventType::ChildWorkflowExecutionTerminated,
        A::SignalExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            EventType::SignalExternalWorkflowExecutionInitiated
        }
        A::SignalExternalWorkflowExecutionFailedEventAttributes(_) => EventType::SignalExternalWorkflowExecutionFailed,
        A::ExternalWorkflowExecutionSignaledEventAttributes(_) => EventType::ExternalWorkflowExecutionSignaled,
        A::RequestCancelExternalWorkflowExecutionInitiatedEventAttributes(_) => {
            EventType::RequestCancelExternalWorkflowExecutionInitiated
        }
        A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(_) => {
            EventType::RequestCancelExternalWorkflowExecutionFailed
        }
        A::ExternalWorkflowExecutionCancelRequestedEventAttributes(_) => {
            EventType::ExternalWorkflowExecutionCancelRequested
        }
        _ => EventType::Unspecified,
    }
}

/// Whether an event waits while a workflow task is started. Events made from commands, and those about the task or the run itself,
/// never do.
pub(crate) fn is_buffered(attributes: &Attributes) -> bool {
    use Attributes as A;
    matches!(
        attributes,
        A::WorkflowExecutionSignaledEventAttributes(_)
            | A::WorkflowExecutionCancelRequestedEventAttributes(_)
            | A::WorkflowExecutionOptionsUpdatedEventAttributes(_)
            | A::WorkflowExecutionPausedEventAttributes(_)
            | A::WorkflowExecutionUnpausedEventAttributes(_)
            | A::ActivityTaskStartedEventAttributes(_)
            | A::ActivityTaskCompletedEventAttributes(_)
            | A::ActivityTaskFailedEventAttributes(_)
            | A::ActivityTaskTimedOutEventAttributes(_)
            | A::ActivityTaskCanceledEventAttributes(_)
            | A::TimerFiredEventAttributes(_)
            | A::StartChildWorkflowExecutionFailedEventAttributes(_)
            | A::ChildWorkflowExecutionStartedEventAttributes(_)
            | A::ChildWorkflowExecutionCompletedEventAttributes(_)
            | A::ChildWorkflowExecutionFailedEventAttributes(_)
            | A::ChildWorkflowExecutionCanceledEventAttributes(_)
            | A::ChildWorkflowExecutionTimedOutEventAttributes(_)
            | A::ChildWorkflowExecutionTerminatedEventAttributes(_)
            | A::SignalExternalWorkflowExecutionFailedEventAttributes(_)
            | A::ExternalWorkflowExecutionSignaledEventAttributes(_)
            | A::RequestCancelExternalWorkflowExecutionFailedEventAttributes(_)
            | A::ExternalWorkflowExecutionCancelRequestedEventAttributes(_)
    )
}

/// The ids of the events that began and started what an event closes, an activity or a child: such events move behind all others
/// when the buffer is flushed, so that a Started event precedes them.
pub(crate) fn item_close(attributes: &mut Attributes) -> Option<(i64, &mut i64)> {
    use Attributes as A;
    match attributes {
        A::ActivityTaskCompletedEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        A::ActivityTaskFailedEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        A::ActivityTaskTimedOutEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        A::ActivityTaskCanceledEventAttributes(a) => Some((a.scheduled_event_id, &mut a.started_event_id)),
        A::ChildWorkflowExecutionCompletedEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        A::ChildWorkflowExecutionFailedEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        A::ChildWorkflowExecutionCanceledEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        A::ChildWorkflowExecutionTimedOutEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        A::ChildWorkflowExecutionTerminatedEventAttributes(a) => Some((a.initiated_event_id, &mut a.started_event_id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_api::temporal::history::v1::TimerFiredEventAttributes;
    use mainstay_api::{RawHistory, temporal::common::v1::Payload};

    #[test]
    fn both_ways_to_write_an_event_give_the_same() {
        let attributes = TimerFiredEventAttributes { timer_id: "t".into(), started_event_id: 5 };
        let metadata = UserMetadata { summary: Some(Payload::default()), ..UserMetadata::default() };
        let event = NewEvent::from(Attributes::TimerFiredEventAttributes(attributes))
            .with_metadata(Some(metadata))
            .with_links(vec![Link::default()]);
        let mut history = Vec::new();
        let size = event.clone().append(&mut history, 7, 1_000_000_001, 9);
        let whole = event.into_event(7, 1_000_000_001, 9);
        assert_eq!(append(&mut history, &whole), size);
        let events = RawHistory::decode(history.as_slice()).expect("decodes").events;
        assert_eq!(events.len(), 2);
        for event in events {
            assert_eq!(HistoryEvent::decode(event).expect("decodes"), whole);
        }
    }
}
