//! Which faults met which capabilities: a pair that never met is a gap, and the table shows it as a zero.
//!
//! A run counts, for each use of a capability, every fault that lasts at that moment, or `none`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What a run can meet: what clients do, what workers do, and the commands that these answer with.
pub const CAPABILITIES: &[&str] = &[
    "start",
    "signal-with-start",
    "start-with-retries",
    "start-cron",
    "signal",
    "signal-storm",
    "cancel",
    "terminate",
    "query",
    "describe",
    "list",
    "watch-history",
    "reset",
    "describe-task-queue",
    "update",
    "schedule",
    "batch",
    "pause-activities",
    "update-with-start",
    "pause-workflow",
    "delete-workflow",
    "split-shard",
    "duplicated-request",
    "late-request",
    "workflow-task",
    "answer-query",
    "answer-update",
    "dropped-task",
    "forget-task",
    "fail-workflow-task",
    "stale-task-token",
    "activity-task",
    "heartbeat",
    "complete-activity",
    "fail-activity",
    "cancel-activity",
    "silent-activity",
    "late-activity",
    "stale-activity-token",
    "SCHEDULE_ACTIVITY_TASK",
    "REQUEST_CANCEL_ACTIVITY_TASK",
    "START_TIMER",
    "CANCEL_TIMER",
    "RECORD_MARKER",
    "MODIFY_WORKFLOW_PROPERTIES",
    "START_CHILD_WORKFLOW_EXECUTION",
    "SIGNAL_EXTERNAL_WORKFLOW_EXECUTION",
    "REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION",
    "PROTOCOL_MESSAGE",
    "COMPLETE_WORKFLOW_EXECUTION",
    "FAIL_WORKFLOW_EXECUTION",
    "CANCEL_WORKFLOW_EXECUTION",
    "CONTINUE_AS_NEW_WORKFLOW_EXECUTION",
];

/// How often each pair of a fault and a capability met.
pub type Table = BTreeMap<(String, String), u64>;

#[derive(Default)]
struct Counter {
    lasting: Vec<&'static str>,
    table: Table,
}

thread_local! {
    static COUNTER: RefCell<Counter> = RefCell::default();
}

/// A fault begins.
pub fn begins(fault: &'static str) {
    COUNTER.with_borrow_mut(|counter| counter.lasting.push(fault));
}

/// A fault ends.
pub fn ends(fault: &'static str) {
    COUNTER.with_borrow_mut(|counter| {
        if let Some(place) = counter.lasting.iter().position(|lasting| *lasting == fault) {
            counter.lasting.remove(place);
        }
    });
}

/// A capability is used.
pub fn met(capability: &'static str) {
    COUNTER.with_borrow_mut(|counter| {
        let lasting = if counter.lasting.is_empty() { vec!["none"] } else { counter.lasting.clone() };
        for fault in lasting {
            *counter.table.entry((fault.into(), capability.into())).or_default() += 1;
        }
    });
}

/// What the run on this thread counted; the next one begins at zero.
#[must_use]
pub fn take() -> Table {
    COUNTER.take().table
}

/// Adds a table to another.
pub fn add(sum: &mut Table, table: &Table) {
    for (pair, count) in table {
        *sum.entry(pair.clone()).or_default() += count;
    }
}

/// The table as text: a line for each capability, a column for each fault. All of both are shown, met or not; a zero is a gap.
#[must_use]
pub fn show(table: &Table, faults: &[&str]) -> String {
    let mut columns: Vec<&str> = vec!["none"];
    columns.extend(faults);
    let met = table.keys().map(|(_, capability)| capability.as_str());
    let others: BTreeSet<&str> = met.filter(|capability| !CAPABILITIES.contains(capability)).collect();
    let width = |name: &str| name.len().max(6) + 2;
    let first = CAPABILITIES.iter().map(|name| name.len()).max().unwrap_or_default();
    let mut text = format!("{:<first$}", "capability");
    for fault in &columns {
        text.push_str(&format!("{fault:>0$}", width(fault)));
    }
    for capability in CAPABILITIES.iter().copied().chain(others) {
        text.push_str(&format!("\n{capability:<first$}"));
        for fault in &columns {
            let count = table.get(&((*fault).to_string(), capability.to_string())).copied().unwrap_or_default();
            text.push_str(&format!("{count:>0$}", width(fault)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_met_is_a_zero() {
        begins("pause");
        met("signal");
        ends("pause");
        met("new-thing");
        let text = show(&take(), &["pause", "loss"]);
        let line =
            |name: &str| text.lines().find(|line| line.starts_with(name)).map(|line| line.split_whitespace().skip(1));
        let counts = |name: &str| line(name).map(|counts| counts.map(String::from).collect::<Vec<_>>());
        assert_eq!(counts("signal "), Some(vec!["0".to_string(), "1".into(), "0".into()]));
        assert_eq!(counts("new-thing"), Some(vec!["1".to_string(), "0".into(), "0".into()]));
        assert_eq!(counts("reset"), Some(vec!["0".to_string(), "0".into(), "0".into()]));
    }
}
