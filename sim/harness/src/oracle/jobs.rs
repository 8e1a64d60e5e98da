//! Batch jobs: each ends, signals a run at most once, and leaves out none that was open from its beginning to its end.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::{BatchOperationState, EventType};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

use super::Run;
use crate::performer::signal_name;
use crate::settle::Job;
use crate::violation::{Invariant, hold};

/// Nanoseconds by which the clocks of a job's node and a run's may differ.
const APART: i64 = 500_000_000;

/// Holds jobs against the histories; that none is left out, only if servers' clocks did not jump.
///
/// # Panics
/// If they differ.
pub fn check(jobs: &BTreeMap<String, Job>, runs: &[Run], told_times: bool) {
    for (id, job) in jobs {
        let state = job.described.state();
        let (total, complete) = (job.described.total_operation_count, job.described.complete_operation_count);
        let failed = job.described.failure_operation_count;
        must(state == BatchOperationState::Completed, || format!("job {id} is {state:?}"));
        must(failed == 0, || format!("job {id} did {complete} and failed {failed} of {total}"));
        if !job.begun.cancels {
            signals(id, job, runs, told_times);
        }
    }
}

fn signals(id: &str, job: &Job, runs: &[Run], told_times: bool) {
    let name = signal_name(id);
    let has = |run: &Run| {
        let named = |event: &&HistoryEvent| matches!(&event.attributes, Some(Event::WorkflowExecutionSignaledEventAttributes(it)) if it.signal_name == name);
        run.events.iter().filter(named).count()
    };
    let nanos = |time: Option<prost_types::Timestamp>| {
        time.map_or(0, |time| time.seconds * 1_000_000_000 + i64::from(time.nanos))
    };
    let (from, to) = (nanos(job.described.start_time), nanos(job.described.close_time));
    for run in runs {
        let times = has(run);
        must(times <= 1 || run.reset.is_some(), || format!("job {id} signaled {:?} {times} times", run.execution));
        let concerns = job.begun.workflow_id.as_ref().is_none_or(|id| *id == run.execution.workflow_id);
        let time = |event: Option<&HistoryEvent>| nanos(event.and_then(|event| event.event_time));
        // Its first event has the time at which it was proposed; by its first task it is there for sure.
        let there = run.events.iter().find(|event| event.event_type() == EventType::WorkflowTaskStarted);
        let open = there.is_some() && time(there) < from - APART && time(run.events.last()) > to + APART;
        // What is paused is not running.
        let paused = run.events.iter().any(|event| event.event_type() == EventType::WorkflowExecutionPaused);
        // What was reset began by another's history.
        if told_times && !paused && concerns && open && run.reset.is_none() {
            must(times == 1, || format!("job {id} left out {:?}, which was open all the time", run.execution));
        }
    }
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::JobsEnd, detail);
}
