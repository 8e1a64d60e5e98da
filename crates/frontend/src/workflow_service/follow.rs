//! How clients find the run that follows a retry or a cron run.
//!
//! Most look for it only in a continue-as-new. Whoever waits for a run's close and does not say in its headers that it looks
//! further is shown a continue-as-new, as by Temporal; who reads a whole history sees what is written.

use mainstay_api::RawHistory;
use mainstay_api::temporal::enums::v1::{EventType, TimeoutType};
use mainstay_api::temporal::failure::v1::failure::FailureInfo;
use mainstay_api::temporal::failure::v1::{Failure, TimeoutFailureInfo};
use mainstay_api::temporal::history::v1::history_event::Attributes;
use mainstay_api::temporal::history::v1::{
    HistoryEvent, WorkflowExecutionContinuedAsNewEventAttributes as ContinuedAsNew,
};
use prost::Message;
use tonic::metadata::MetadataMap;

/// A list with commas of what a client can do.
const FEATURES_HEADER: &str = "supported-features";
const FOLLOWS_NEXT_RUN: &str = "follows-next-run-id";

/// Whether a call's headers say that its client finds the next run by itself.
pub(super) fn is_known_to(headers: &MetadataMap) -> bool {
    let features = headers.get(FEATURES_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    features.split(',').any(|feature| feature.trim() == FOLLOWS_NEXT_RUN)
}

/// Shows the close of a run that another follows as a continue-as-new.
pub(super) fn as_continued(history: &mut RawHistory) {
    let Some(last) = history.events.last_mut() else { return };
    let Ok(event) = HistoryEvent::decode(last.clone()) else { return };
    if let Some(continued) = continued(&event) {
        *last = continued.encode_to_vec().into();
    }
}

#[expect(deprecated, reason = "the field of the failure is for clients that are older than its successor")]
fn continued(event: &HistoryEvent) -> Option<HistoryEvent> {
    let attributes = match event.attributes.clone()? {
        Attributes::WorkflowExecutionCompletedEventAttributes(a) => ContinuedAsNew {
            new_execution_run_id: a.new_execution_run_id,
            last_completion_result: a.result,
            ..ContinuedAsNew::default()
        },
        Attributes::WorkflowExecutionFailedEventAttributes(a) => ContinuedAsNew {
            new_execution_run_id: a.new_execution_run_id,
            failure: a.failure,
            ..ContinuedAsNew::default()
        },
        Attributes::WorkflowExecutionTimedOutEventAttributes(a) => ContinuedAsNew {
            new_execution_run_id: a.new_execution_run_id,
            failure: Some(timed_out()),
            ..ContinuedAsNew::default()
        },
        _ => return None,
    };
    (!attributes.new_execution_run_id.is_empty()).then(|| HistoryEvent {
        event_id: event.event_id,
        event_time: event.event_time,
        version: event.version,
        task_id: event.task_id,
        event_type: EventType::WorkflowExecutionContinuedAsNew as i32,
        attributes: Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(attributes)),
        ..HistoryEvent::default()
    })
}

fn timed_out() -> Failure {
    let info = TimeoutFailureInfo { timeout_type: TimeoutType::StartToClose as i32, ..TimeoutFailureInfo::default() };
    Failure {
        message: "workflow timeout".into(),
        source: "Server".into(),
        failure_info: Some(FailureInfo::TimeoutFailureInfo(info)),
        ..Failure::default()
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::temporal::history::v1::WorkflowExecutionFailedEventAttributes as Failed;

    use super::*;

    fn shown(new_execution_run_id: &str) -> HistoryEvent {
        let failure = Some(Failure { message: "again".into(), ..Failure::default() });
        let failed = Failed { failure, new_execution_run_id: new_execution_run_id.into(), ..Failed::default() };
        let event = HistoryEvent {
            event_id: 5,
            event_type: EventType::WorkflowExecutionFailed as i32,
            attributes: Some(Attributes::WorkflowExecutionFailedEventAttributes(failed)),
            ..HistoryEvent::default()
        };
        let mut history = RawHistory { events: vec![event.encode_to_vec().into()] };
        as_continued(&mut history);
        HistoryEvent::decode(history.events.remove(0)).expect("decodes")
    }

    #[test]
    #[expect(deprecated)]
    fn a_failed_run_that_is_retried_is_shown_as_continued() {
        let event = shown("next");
        assert_eq!((event.event_id, event.event_type()), (5, EventType::WorkflowExecutionContinuedAsNew));
        let Some(Attributes::WorkflowExecutionContinuedAsNewEventAttributes(attributes)) = event.attributes else {
            panic!("other attributes")
        };
        assert_eq!(attributes.new_execution_run_id, "next");
        assert_eq!(attributes.failure.map(|failure| failure.message), Some("again".to_owned()));
    }

    #[test]
    fn a_run_that_is_the_last_is_shown_as_it_closed() {
        assert_eq!(shown("").event_type(), EventType::WorkflowExecutionFailed);
    }

    #[test]
    fn the_header_is_a_list() {
        let mut headers = MetadataMap::new();
        assert!(!is_known_to(&headers));
        headers.insert(FEATURES_HEADER, "other,follows-next-run-id".parse().expect("ascii"));
        assert!(is_known_to(&headers));
    }
}
