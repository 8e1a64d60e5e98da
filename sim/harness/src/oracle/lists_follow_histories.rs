//! Lists and counts say of each run what its history says.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;

use super::Run;
use crate::client::Client;
use crate::violation::{Invariant, hold};

/// Workflow ids that are looked for one by one.
const FILTERED: usize = 12;

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
    for status in ["Completed", "Failed", "Canceled", "Terminated", "ContinuedAsNew", "TimedOut", "Running"] {
        let query = format!("ExecutionStatus = '{status}'");
        let counted = client.count(&query).await.unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"));
        let expected = counts.get(status).copied().unwrap_or_default();
        hold(counted == expected, Invariant::ListsFollowHistories, || {
            format!("{query} counts {counted} of {expected} runs")
        });
    }
    filters(client, runs).await;
}

/// Filters that indexes answer: by workflow id, with and without a status, and by the time of the start.
async fn filters(client: &Client, runs: &[Run]) {
    let mut by_workflow: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_workflow.entry(&run.execution.workflow_id).or_default().push(run);
    }
    for (workflow_id, runs) in by_workflow.iter().take(FILTERED) {
        exact(client, &format!("WorkflowId = '{workflow_id}'"), runs).await;
        let completed: Vec<&Run> = runs.iter().copied().filter(|run| run.fate.status == Status::Completed).collect();
        let query = format!("WorkflowId = '{workflow_id}' AND ExecutionStatus = 'Completed'");
        exact(client, &query, &completed).await;
    }
    let all: Vec<&Run> = runs.iter().collect();
    exact(client, "WorkflowType = 'planned' AND StartTime > '2001-01-01T00:00:00Z'", &all).await;
    exact(client, "StartTime < '2001-01-01T00:00:00Z'", &[]).await;
    let others: Vec<&Run> = runs.iter().filter(|run| run.fate.status != Status::Completed).collect();
    exact(client, "ExecutionStatus != 'Completed' AND CloseTime IS NOT NULL", &others).await;
}

/// A filter must list these runs and no others, and count as many.
async fn exact(client: &Client, query: &str, runs: &[&Run]) {
    let listed = client.list(query).await.unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"));
    let found: BTreeSet<String> = listed.iter().filter_map(|row| Some(row.execution.clone()?.run_id)).collect();
    let expected: BTreeSet<String> = runs.iter().map(|run| run.execution.run_id.clone()).collect();
    hold(found == expected && found.len() == listed.len(), Invariant::ListsFollowHistories, || {
        format!("{query} lists {} rows of {} runs", listed.len(), runs.len())
    });
    let counted = client.count(query).await.unwrap_or_else(|refusal| panic!("{query}: {refusal:?}"));
    hold(counted == runs.len() as i64, Invariant::ListsFollowHistories, || {
        format!("{query} counts {counted} of {} runs", runs.len())
    });
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
