//! Updates: what a client was told is in the history of the run that it was told of, once; what was rejected is not.

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::EventType;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
use mainstay_api::temporal::update::v1::outcome::Value;

use super::Run;
use crate::client::text;
use crate::ledger::{Ledger, Told};
use crate::updates::answer;
use crate::violation::{Invariant, hold};

/// What a history says of an update.
#[derive(Default)]
struct Kept {
    /// A reset brought it back.
    admitted: bool,
    accepted: usize,
    /// The answers, or the failures' texts.
    completed: Vec<Result<String, String>>,
}

/// Holds every answer to an update against the histories.
///
/// # Panics
/// If one was not kept.
pub fn check(ledger: &Ledger, runs: &[Run]) {
    let mut kept: BTreeMap<&str, BTreeMap<String, Kept>> = BTreeMap::new();
    for run in runs {
        let updates = of(run);
        for (id, update) in &updates {
            let accepted = update.accepted == 1 || update.admitted && update.accepted == 0;
            let sound = accepted && update.completed.len() <= update.accepted;
            must(sound, || {
                let (accepted, completed) = (update.accepted, &update.completed);
                format!("update {id} of {:?} was accepted {accepted} times and completed {completed:?}", run.execution)
            });
            let right = update.completed.iter().flatten().all(|answered| *answered == answer(id));
            must(right, || format!("update {id} of {:?} answers {:?}", run.execution, update.completed));
        }
        kept.insert(&run.execution.run_id, updates);
    }
    for update in &ledger.promises().updates {
        let found = kept.get(update.execution.run_id.as_str()).and_then(|run| run.get(&update.id));
        let completed = found.and_then(|found| found.completed.first());
        let holds = match &update.told {
            Told::Accepted => found.is_some_and(|found| found.accepted > 0),
            Told::Completed(answer) => completed == Some(&Ok(answer.clone())),
            // One that its workflow's end cut short has no end of its own.
            Told::Failed(_) => found.is_some_and(|found| found.accepted > 0) && !matches!(completed, Some(Ok(_))),
            Told::Rejected => found.is_none_or(|found| found.accepted == 0),
            // Scripted workers answer all that they are sent, but do not look for updates in histories.
            Told::PassedOver => found.is_some_and(|found| found.admitted),
        };
        must(holds, || format!("{update:?} was told, and the history says {completed:?}"));
    }
    check_aborted(ledger, runs);
}

/// Who is told that a workflow task failed finds one in a history of the workflow.
fn check_aborted(ledger: &Ledger, runs: &[Run]) {
    for (workflow_id, id) in &ledger.promises().aborted {
        let mut of_workflow = runs.iter().filter(|run| run.execution.workflow_id == *workflow_id).peekable();
        let is_failure = |event: &HistoryEvent| event.event_type() == EventType::WorkflowTaskFailed;
        // Runs may have been deleted.
        let holds = of_workflow.peek().is_none() || of_workflow.any(|run| run.events.iter().any(is_failure));
        must(holds, || format!("update {id} of {workflow_id} was aborted for a failed workflow task, and none failed"));
    }
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::UpdatesAreKept, detail);
}

fn of(run: &Run) -> BTreeMap<String, Kept> {
    let mut updates: BTreeMap<String, Kept> = BTreeMap::new();
    for event in &run.events {
        match event.attributes.as_ref() {
            Some(Event::WorkflowExecutionUpdateAdmittedEventAttributes(it)) => {
                let meta = it.request.clone().unwrap_or_default().meta.unwrap_or_default();
                updates.entry(meta.update_id).or_default().admitted = true;
            }
            Some(Event::WorkflowExecutionUpdateAcceptedEventAttributes(it)) => {
                updates.entry(it.protocol_instance_id.clone()).or_default().accepted += 1;
            }
            Some(Event::WorkflowExecutionUpdateCompletedEventAttributes(it)) => {
                let id = it.meta.clone().unwrap_or_default().update_id;
                let answer = match it.outcome.as_ref().and_then(|outcome| outcome.value.as_ref()) {
                    Some(Value::Success(answer)) => Ok(text(Some(answer))),
                    Some(Value::Failure(failure)) => Err(failure.message.clone()),
                    None => Err("nothing".into()),
                };
                updates.entry(id).or_default().completed.push(answer);
            }
            _ => {}
        }
    }
    updates
}
