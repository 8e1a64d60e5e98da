//! What the final histories say of each run: the facts that oracles hold answers against.

use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{WorkflowExecutionStatus as Status, WorkflowTaskFailedCause};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

use crate::client::decode;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// Its last status.
    pub status: Status,
    /// The reason that a termination gives.
    pub reason: String,
    /// The run that follows by itself.
    pub successor: Option<String>,
}

/// A run and its history.
#[derive(Clone, Debug)]
pub struct Run {
    /// Workflow and run id.
    pub execution: WorkflowExecution,
    /// The events as sent.
    pub raw: Vec<Bytes>,
    /// The events.
    pub events: Vec<HistoryEvent>,
    /// The identity of whoever started it, if a client did and no other run went before.
    pub starter: Option<String>,
    /// The run that it was reset from, and the reset's reason.
    pub reset: Option<(String, String)>,
    /// Its end.
    pub fate: Fate,
}

impl Run {
    /// Reads a history.
    #[must_use]
    pub fn of(execution: WorkflowExecution, raw: Vec<Bytes>) -> Self {
        let events = decode(Some(&RawHistory { events: raw.clone() }));
        let reset = events.iter().rev().find_map(|event| match event.attributes.as_ref()? {
            Event::WorkflowTaskFailedEventAttributes(it)
                if it.cause() == WorkflowTaskFailedCause::ResetWorkflow && it.new_run_id == execution.run_id =>
            {
                let reason = it.failure.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
                Some((it.base_run_id.clone(), reason))
            }
            _ => None,
        });
        let starter = match events.first().and_then(|event| event.attributes.as_ref()) {
            Some(Event::WorkflowExecutionStartedEventAttributes(it))
                if it.continued_execution_run_id.is_empty() && reset.is_none() =>
            {
                Some(it.identity.clone())
            }
            _ => None,
        };
        let fate = fate(&events);
        Self { execution, raw, events, starter, reset, fate }
    }
}

fn fate(events: &[HistoryEvent]) -> Fate {
    let next = |run_id: &String| Some(run_id.clone()).filter(|run_id| !run_id.is_empty());
    let (status, reason, successor) = match events.last().and_then(|event| event.attributes.as_ref()) {
        Some(Event::WorkflowExecutionCompletedEventAttributes(it)) => {
            (Status::Completed, String::new(), next(&it.new_execution_run_id))
        }
        Some(Event::WorkflowExecutionFailedEventAttributes(it)) => {
            (Status::Failed, String::new(), next(&it.new_execution_run_id))
        }
        Some(Event::WorkflowExecutionTimedOutEventAttributes(it)) => {
            (Status::TimedOut, String::new(), next(&it.new_execution_run_id))
        }
        Some(Event::WorkflowExecutionCanceledEventAttributes(_)) => (Status::Canceled, String::new(), None),
        Some(Event::WorkflowExecutionTerminatedEventAttributes(it)) => (Status::Terminated, it.reason.clone(), None),
        Some(Event::WorkflowExecutionContinuedAsNewEventAttributes(it)) => {
            (Status::ContinuedAsNew, String::new(), next(&it.new_execution_run_id))
        }
        _ => (Status::Running, String::new(), None),
    };
    Fate { status, reason, successor }
}
