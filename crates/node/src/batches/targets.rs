//! The targets of a job, a few at a time: named one by one, or found by its filter.
//!
//! A place among named targets is a count, a place among found ones is a page token: rows that come or go do not shift what is left.

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::workflowservice::v1::start_batch_operation_request::Operation;
use mainstay_engine::Error;
use mainstay_engine::batch::Job;
use mainstay_runtime::Runtime;

use crate::gather::{self, Ask, Listed};
use crate::list::write_token;
use crate::node::Node;
use crate::service::Namespace;

/// One target, and the place behind it.
pub(super) struct Target {
    pub(super) execution: WorkflowExecution,
    pub(super) position: Vec<u8>,
}

/// The next targets.
pub(super) struct Found {
    pub(super) targets: Vec<Target>,
    /// How many there are in all, if that was counted now; else 0.
    pub(super) total: i64,
}

impl<R: Runtime> Node<R> {
    /// The next targets of a job.
    pub(super) async fn targets(&self, namespace: &Namespace, job: &Job, size: usize) -> Result<Found, Error> {
        let begins = job.record.position.is_empty();
        if job.request.visibility_query.is_empty() {
            return Ok(named(job, size, begins));
        }
        let ask = Ask::new(namespace, Listed::Targets, filter(job));
        let total = if begins { self.gather_counts(ask.clone()).await?.count } else { 0 };
        let since = changed_since(job);
        let mut ask = ask.page(size, job.record.position.to_vec());
        loop {
            let read = self.gather_rows(ask.clone()).await?;
            ask.token = read.token.to_vec();
            let rows = gather::rows(read).filter(|row| row.close_ns < since && row.start_ns < since);
            let targets: Vec<Target> = rows
                .map(|row| Target {
                    position: write_token(&row),
                    execution: WorkflowExecution { workflow_id: row.workflow_id, run_id: row.run_id },
                })
                .collect();
            if !targets.is_empty() || ask.token.is_empty() {
                return Ok(Found { targets, total });
            }
        }
    }
}

#[allow(deprecated)]
fn named(job: &Job, size: usize, begins: bool) -> Found {
    let listed = job.request.executions.iter().cloned();
    let targets = job
        .request
        .target_executions
        .iter()
        .map(|target| WorkflowExecution { workflow_id: target.business_id.clone(), run_id: target.run_id.clone() });
    let all: Vec<WorkflowExecution> = listed.chain(targets).collect();
    let done = <[u8; 8]>::try_from(job.record.position.as_ref()).map_or(0, u64::from_be_bytes);
    let total = if begins { all.len() as i64 } else { 0 };
    let left = all.into_iter().zip(1u64..).skip(usize::try_from(done).unwrap_or(usize::MAX)).take(size);
    let targets = left.map(|(execution, count)| Target { execution, position: count.to_be_bytes().to_vec() }).collect();
    Found { targets, total }
}

/// A reset closes its target, which so moves to the list that comes later, and starts a run, which a worker that begins anew would
/// meet: what closed or started since the job began is not looked at.
fn changed_since(job: &Job) -> i64 {
    match &job.request.operation {
        Some(Operation::ResetOperation(_)) => job.record.start_ns,
        _ => i64::MAX,
    }
}

/// The filter of a job: most operations mean running executions only.
fn filter(job: &Job) -> String {
    let query = &job.request.visibility_query;
    match &job.request.operation {
        Some(Operation::DeletionOperation(_) | Operation::ResetOperation(_)) | None => query.clone(),
        Some(_) => format!("({query}) AND (ExecutionStatus = 'Running')"),
    }
}
