//! Children: each starts once, ends as its parent is told, and its parent's end does to it what the parent's policy says.
//!
//! A child knows its parent by run and initiated event. A parent that is reset leaves its children to themselves, and a run that
//! begins by the reset knows only children of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{ParentClosePolicy, WorkflowExecutionStatus as Status};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
use mainstay_base::Timestamp;

use super::Run;
use crate::client::text;
use crate::violation::{Invariant, hold};

/// A parent's end reaches its children within this time after the last fault.
const WITHIN: Duration = Duration::from_secs(30);

/// What a parent's history says of a child.
#[derive(Default)]
struct Told {
    workflow_id: String,
    policy: ParentClosePolicy,
    first_run: Option<String>,
    failed_to_start: bool,
    end: Option<(Status, String)>,
}

/// Holds parents and children against each other; what a parent's end does, only if it is told when faults were over.
///
/// # Panics
/// If they differ.
pub fn check(runs: &[Run], quiet_since: Option<Timestamp>) {
    let mut begun: BTreeMap<(String, i64), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        let Some(Event::WorkflowExecutionStartedEventAttributes(it)) = first(run) else { continue };
        let Some(parent) = it.parent_workflow_execution.as_ref() else { continue };
        if it.continued_execution_run_id.is_empty() && run.reset.is_none() {
            begun.entry((parent.run_id.clone(), it.parent_initiated_event_id)).or_default().push(run);
        }
    }
    let by_id: BTreeMap<&str, &Run> = runs.iter().map(|run| (run.execution.run_id.as_str(), run)).collect();
    for ((parent, initiated), children) in &begun {
        must(children.len() == 1, || format!("event {initiated} of {parent} began {} children", children.len()));
        let known = by_id.get(parent.as_str()).is_some_and(|parent| told(&parent.events).contains_key(initiated));
        must(known, || format!("{:?} has a parent {parent} that does not know it", children[0].execution));
    }
    for parent in runs {
        for (initiated, told) in told(&parent.events) {
            let child = begun.get(&(parent.execution.run_id.clone(), initiated)).map(|children| children[0]);
            one(parent, initiated, &told, child, &by_id);
            let reset =
                runs.iter().any(|run| run.reset.as_ref().is_some_and(|(base, _)| *base == parent.execution.run_id));
            if let (Some(child), Some(quiet_since), false) = (child, quiet_since, reset) {
                policy(parent, &told, last(child, &by_id), quiet_since);
            }
        }
    }
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::ChildrenFollowParents, detail);
}

fn first(run: &Run) -> Option<&Event> {
    run.events.first()?.attributes.as_ref()
}

/// The last run of a chain.
fn last<'a>(run: &'a Run, by_id: &BTreeMap<&str, &'a Run>) -> &'a Run {
    let mut run = run;
    while let Some(next) = run.fate.successor.as_deref().and_then(|next| by_id.get(next)) {
        run = next;
    }
    run
}

fn one(parent: &Run, initiated: i64, told: &Told, child: Option<&Run>, by_id: &BTreeMap<&str, &Run>) {
    let what = || format!("event {initiated} of {:?}", parent.execution);
    if told.failed_to_start {
        must(child.is_none(), || format!("{} is told to have failed and began a child", what()));
    }
    // A parent that was reset copies what another run initiated.
    let own = parent.reset.is_none();
    if let (Some(run_id), true) = (&told.first_run, own) {
        let found = child.map(|child| child.execution.run_id.as_str());
        must(found == Some(run_id), || format!("{} is told to have begun {run_id}, and began {found:?}", what()));
    }
    if let (Some((status, result)), Some(child)) = (&told.end, child) {
        let last = last(child, by_id);
        must(last.fate.status == *status, || {
            format!("{} is told to have ended as {status:?}, and is {:?}", what(), last.fate)
        });
        if *status == Status::Completed {
            let own = match last.events.last().and_then(|event| event.attributes.as_ref()) {
                Some(Event::WorkflowExecutionCompletedEventAttributes(it)) => text(it.result.as_ref()),
                _ => String::new(),
            };
            must(own == *result, || format!("{} is told the result {result} of {own}", what()));
        }
    }
}

fn time(event: &HistoryEvent) -> i64 {
    event.event_time.as_ref().map_or(0, |time| time.seconds * 1_000_000_000 + i64::from(time.nanos))
}

/// A child that outlived its parent for long, once faults were over, was not told of its end.
fn policy(parent: &Run, told: &Told, child: &Run, quiet_since: Timestamp) {
    let close = |run: &Run| run.events.last().map_or(0, time);
    let must_end = matches!(told.policy, ParentClosePolicy::Terminate | ParentClosePolicy::RequestCancel);
    if must_end && told.end.is_none() {
        let latest = close(parent).max(quiet_since.as_nanos()) + WITHIN.as_nanos() as i64;
        // Who was asked to cancel ends when its workers see to it, and those may forget their tasks.
        let asked = told.policy == ParentClosePolicy::RequestCancel
            && child.events.iter().any(|event| is_cancel_request(event) && time(event) <= latest);
        must(asked || close(child) <= latest, || {
            let policy = told.policy;
            format!("{:?} went on after the end of {:?}, against {policy:?}", child.execution, parent.execution)
        });
    }
}

fn is_cancel_request(event: &HistoryEvent) -> bool {
    matches!(event.attributes, Some(Event::WorkflowExecutionCancelRequestedEventAttributes(_)))
}

fn told(events: &[HistoryEvent]) -> BTreeMap<i64, Told> {
    let mut children: BTreeMap<i64, Told> = BTreeMap::new();
    let run_id = |execution: &Option<WorkflowExecution>| execution.clone().unwrap_or_default().run_id;
    for event in events {
        let mut over = |initiated: i64, status, result| {
            let child = children.entry(initiated).or_default();
            must(child.end.is_none(), || format!("child {} ended twice", child.workflow_id));
            child.end = Some((status, result));
        };
        match event.attributes.as_ref() {
            Some(Event::StartChildWorkflowExecutionInitiatedEventAttributes(it)) => {
                let (workflow_id, policy) = (it.workflow_id.clone(), it.parent_close_policy());
                children.insert(event.event_id, Told { workflow_id, policy, ..Told::default() });
            }
            Some(Event::StartChildWorkflowExecutionFailedEventAttributes(it)) => {
                children.entry(it.initiated_event_id).or_default().failed_to_start = true;
            }
            Some(Event::ChildWorkflowExecutionStartedEventAttributes(it)) => {
                children.entry(it.initiated_event_id).or_default().first_run = Some(run_id(&it.workflow_execution));
            }
            Some(Event::ChildWorkflowExecutionCompletedEventAttributes(it)) => {
                over(it.initiated_event_id, Status::Completed, text(it.result.as_ref()));
            }
            Some(Event::ChildWorkflowExecutionFailedEventAttributes(it)) => {
                over(it.initiated_event_id, Status::Failed, String::new());
            }
            Some(Event::ChildWorkflowExecutionCanceledEventAttributes(it)) => {
                over(it.initiated_event_id, Status::Canceled, String::new());
            }
            Some(Event::ChildWorkflowExecutionTimedOutEventAttributes(it)) => {
                over(it.initiated_event_id, Status::TimedOut, String::new());
            }
            Some(Event::ChildWorkflowExecutionTerminatedEventAttributes(it)) => {
                over(it.initiated_event_id, Status::Terminated, String::new());
            }
            _ => {}
        }
    }
    children
}
