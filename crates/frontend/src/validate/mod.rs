//! What a request must be in any state: ids, times, sizes, policies. Each check refuses with the text that Temporal uses.
//!
//! Normalisation lives here too: what a client may leave out is filled in, so that the log holds complete requests.

pub(crate) mod batch;
pub(crate) mod priority;
pub(crate) mod retry;
pub(crate) mod schedule;
pub(crate) mod search_attributes;
pub(crate) mod sizes;
pub(crate) mod start;
pub(crate) mod task_queue;
pub(crate) mod times;

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_base::RunId;
use mainstay_base::limits::ID_LENGTH_MAX;
use mainstay_runtime::Runtime;

use crate::status::{Answer, invalid};

/// A field that may be empty but not too long, in bytes as Temporal counts.
pub(crate) fn length(field: &str, value: &str) -> Answer<()> {
    if value.len() > ID_LENGTH_MAX {
        return Err(invalid(format!("{field} length exceeds limit.")));
    }
    Ok(())
}

/// A field that must be there.
pub(crate) fn required(field: &str, value: &str) -> Answer<()> {
    if value.is_empty() {
        return Err(invalid(format!("{field} is not set on request.")));
    }
    length(field, value)
}

/// A workflow id, whose length has a text of its own.
pub(crate) fn workflow_id(value: &str) -> Answer<()> {
    if value.is_empty() {
        return Err(invalid("WorkflowId is not set on request."));
    }
    workflow_id_length(value.len())
}

/// The length of a workflow id, in bytes, also of one that is still to be made.
pub(crate) fn workflow_id_length(length: usize) -> Answer<()> {
    if length > ID_LENGTH_MAX {
        return Err(invalid(format!("WorkflowId exceeds maximum allowed length ({length}/{ID_LENGTH_MAX})")));
    }
    Ok(())
}

/// A run id, or none.
pub(crate) fn run_id(value: &str) -> Answer<()> {
    if !value.is_empty() && value.parse::<RunId>().is_err() {
        return Err(invalid("Invalid RunId."));
    }
    Ok(())
}

/// Which execution a request means.
pub(crate) fn execution(value: Option<&WorkflowExecution>) -> Answer<WorkflowExecution> {
    let Some(value) = value else { return Err(invalid("Execution is not set on request.")) };
    if value.workflow_id.is_empty() {
        return Err(invalid("WorkflowId is not set on request."));
    }
    run_id(&value.run_id)?;
    Ok(value.clone())
}

/// Which execution a request means, where a missing message is a missing workflow id.
pub(crate) fn execution_by_id(value: Option<&WorkflowExecution>) -> Answer<WorkflowExecution> {
    execution(Some(&value.cloned().unwrap_or_default()))
}

/// Which execution a request means, in calls where only the loading of the run finds ids that cannot be right.
pub(crate) fn loaded_execution(value: Option<&WorkflowExecution>) -> Answer<WorkflowExecution> {
    let value = value.cloned().unwrap_or_default();
    if value.workflow_id.is_empty() {
        return Err(invalid("Can't load workflow execution.  WorkflowId not set."));
    }
    loaded_run_id(&value.run_id)?;
    Ok(value)
}

/// A run id, or none, in such calls.
pub(crate) fn loaded_run_id(value: &str) -> Answer<()> {
    run_id(value).map_err(|_| invalid("RunId is not valid UUID."))
}

/// Fills in a request id, so that a command applied twice by a retry inside the server has one effect.
pub(crate) fn request_id<R: Runtime>(value: &mut String) -> Answer<()> {
    if value.is_empty() {
        *value = RunId::from_random(R::random()).to_string();
    }
    length("RequestId", value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::status_of;

    fn text(answer: Answer<()>) -> String {
        answer.err().map(|refusal| status_of(&refusal).message().to_string()).unwrap_or_default()
    }

    #[test]
    fn ids_are_bounded_and_named() {
        let long = "x".repeat(1001);
        assert_eq!(text(required("SignalName", "")), "SignalName is not set on request.");
        assert_eq!(text(required("SignalName", &long)), "SignalName length exceeds limit.");
        assert_eq!(text(workflow_id(&long)), "WorkflowId exceeds maximum allowed length (1001/1000)");
        assert_eq!(text(workflow_id(&long[1..])), "");
        assert_eq!(text(run_id("not-a-uuid")), "Invalid RunId.");
        assert_eq!(text(run_id("")), "");
    }

    #[test]
    fn a_missing_execution_and_a_missing_id_differ() {
        assert_eq!(text(execution(None).map(drop)), "Execution is not set on request.");
        assert_eq!(text(execution_by_id(None).map(drop)), "WorkflowId is not set on request.");
    }
}
