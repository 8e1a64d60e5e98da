//! What is logged of calls: those that failed by the server's fault, and those that took long. Never what they carry.

use std::time::Duration;

use mainstay_api::Addressed;
use mainstay_engine::Error;

use crate::status::Refusal;

/// Calls that wait for something by themselves are never slow.
const WAITING: [&str; 7] = [
    "execute_multi_operation",
    "get_workflow_execution_history",
    "poll_activity_task_queue",
    "poll_workflow_execution_update",
    "poll_workflow_task_queue",
    "query_workflow",
    "update_workflow_execution",
];

/// What a call is about.
pub(crate) struct About {
    namespace: String,
    workflow_id: String,
    run_id: String,
}

impl About {
    pub(crate) fn of(request: &impl Addressed) -> Self {
        Self {
            namespace: request.namespace().to_owned(),
            workflow_id: request.workflow_id().to_owned(),
            run_id: request.run_id().to_owned(),
        }
    }

    /// Logs the end of a call, if it is worth a line.
    pub(crate) fn log(&self, method: &str, took: Duration, slow: Option<Duration>, refusal: Option<&Refusal>) {
        let Self { namespace, workflow_id, run_id } = self;
        if let Some(Refusal::Error(error @ (Error::Internal(_) | Error::Unavailable(_) | Error::Moved))) = refusal {
            tracing::error!(
                component = "frontend",
                operation = method,
                "wf-namespace" = namespace,
                "wf-id" = workflow_id,
                "wf-run-id" = run_id,
                %error,
                "a call failed"
            );
        }
        if slow.is_some_and(|slow| took > slow) && !WAITING.contains(&method) {
            tracing::warn!(
                component = "frontend",
                operation = method,
                "wf-namespace" = namespace,
                "wf-id" = workflow_id,
                "wf-run-id" = run_id,
                took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                "a call was slow"
            );
        }
    }
}
