//! Lists and counts say of each run what its history says.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;

use super::Run;
use crate::client::Client;
use crate::violation::{Invariant, hold};

/// Holds what is listed against the histories, and counts against both.
///
/// # Panics
/// If they differ.
pub async fn check(client: &Client, listed: &[WorkflowExecutionInfo], runs: &[Run]) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    let rows: BTreeMap<String, &WorkflowExecutionInfo> =
        listed.iter().map(|row| (row.execution.clone().unwrap_or_default().run_id, row)).collect();
    let ids: BTreeSet<&String> = runs.iter().map(|run| &run.execution.run_id).collect();
    hold(
        rows.len() == listed.len() && rows.keys().collect::<BTreeSet<_>>() == ids,
        Invariant::ListsFollowHistories,
        || format!("{} rows are listed of {} runs", listed.len(), ids.len()),
    );
    for run in runs {
        let Some(row) = rows.get(&run.execution.run_id) else { continue };
        let same = row.status() == run.fate.status && row.history_length == run.events.len() as i64;
        hold(same, Invariant::ListsFollowHistories, || {
            format!(
                "{:?} is listed as {:?} with {} events, and is {:?} with {}",
                run.execution,
                row.status(),
                row.history_length,
                run.fate.status,
                run.events.len()
            )
        });
        *counts.entry(name(run.fate.status)).or_default() += 1;
    }
    for status in ["Completed", "Failed", "Canceled", "Terminated", "ContinuedAsNew", "Running"] {
        let query = format!("ExecutionStatus = '{status}'");
        let counted = client.count(&query).await.unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"));
        let expected = counts.get(status).copied().unwrap_or_default();
        hold(counted == expected, Invariant::ListsFollowHistories, || {
            format!("{query} counts {counted} of {expected} runs")
        });
    }
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Completed => "Completed",
        Status::Failed => "Failed",
        Status::Canceled => "Canceled",
        Status::Terminated => "Terminated",
        Status::ContinuedAsNew => "ContinuedAsNew",
        Status::TimedOut => "TimedOut",
        _ => "Running",
    }
}
