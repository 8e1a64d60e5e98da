//! Chains of runs: what retries and cron schedules begin comes in order, not early, and no more often than it may.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::{
    ContinueAsNewInitiator as Initiator, EventType, WorkflowExecutionStatus as Status,
};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::WorkflowExecutionStartedEventAttributes as Started;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;

use super::Run;
use crate::ledger::Ledger;
use crate::performer::TRIES_OF_A_RUN;
use crate::violation::{Invariant, hold};

/// Holds each run against the one that it follows.
///
/// # Panics
/// If it does not follow as the policy or schedule says.
pub fn check(ledger: &Ledger, runs: &[Run]) {
    let updated = ledger.promises().updated.clone();
    let by_id: BTreeMap<&str, &Run> = runs.iter().map(|run| (run.execution.run_id.as_str(), run)).collect();
    for run in runs.iter().filter(|run| run.reset.is_none()) {
        let Some(started) = started(run) else { continue };
        // An update that is rejected hurries a run, too, and leaves nothing.
        if !updated.contains(&run.execution.workflow_id) {
            backoff(run, started);
        }
        let Some(before) = by_id.get(started.continued_execution_run_id.as_str()) else { continue };
        must(
            before.fate.successor.as_deref() == Some(run.execution.run_id.as_str()) || was_reset(before, runs),
            || format!("{:?} follows {:?}, which says {:?}", run.execution, before.execution, before.fate),
        );
        match started.initiator() {
            Initiator::Retry => retry(run, started, before),
            Initiator::CronSchedule => must(before.fate.status != Status::Terminated, || {
                format!("{:?} follows the terminated {:?}", run.execution, before.execution)
            }),
            _ => {}
        }
    }
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::ChainsFollowPolicies, detail);
}

fn started(run: &Run) -> Option<&Started> {
    match run.events.first()?.attributes.as_ref()? {
        Event::WorkflowExecutionStartedEventAttributes(it) => Some(it),
        _ => None,
    }
}

/// A run that was reset has ended another way than its copy.
fn was_reset(run: &Run, runs: &[Run]) -> bool {
    run.reset.is_some()
        || runs.iter().any(|other| other.reset.as_ref().is_some_and(|(base, _)| *base == run.execution.run_id))
}

fn retry(run: &Run, started: &Started, before: &Run) {
    must(matches!(before.fate.status, Status::Failed | Status::TimedOut), || {
        format!("{:?} is another try of {:?}, which is {:?}", run.execution, before.execution, before.fate)
    });
    let last = before.events.first().map_or(0, |_| self::started(before).map_or(0, |it| it.attempt));
    must(started.attempt == last + 1 && started.attempt <= TRIES_OF_A_RUN, || {
        format!("{:?} is try {} after try {last}", run.execution, started.attempt)
    });
}

/// The first task waits for the retry's pause or the schedule's time, unless a signal with a start, an update or a cancel
/// request wants it sooner.
fn backoff(run: &Run, started: &Started) {
    let hurries = |event: &HistoryEvent| {
        use EventType as E;
        let kind = event.event_type();
        matches!(
            kind,
            E::WorkflowExecutionSignaled | E::WorkflowExecutionUpdateAccepted | E::WorkflowExecutionCancelRequested
        )
    };
    if run.events.iter().any(hurries) {
        return;
    }
    let nanos = |seconds: i64, nanos: i32| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let pause = started.first_workflow_task_backoff.as_ref().map_or(0, |pause| nanos(pause.seconds, pause.nanos));
    let time = |at: usize| run.events[at].event_time.as_ref().map_or(0, |time| nanos(time.seconds, time.nanos));
    let first = run.events.iter().position(|event| event.event_type() == EventType::WorkflowTaskScheduled);
    if let Some(first) = first {
        must(time(first) >= time(0) + pause, || {
            let before: Vec<EventType> = run.events[..=first].iter().map(HistoryEvent::event_type).collect();
            format!("the first task of {:?} is {} ns early: {before:?}", run.execution, time(0) + pause - time(first))
        });
    }
}
