//! What a request is about, for whoever measures and traces calls of any kind.

/// A request of WorkflowService or OperatorService. What it does not say is empty.
pub trait Addressed {
    /// The namespace's name.
    fn namespace(&self) -> &str {
        ""
    }

    /// The workflow's id.
    fn workflow_id(&self) -> &str {
        ""
    }

    /// The run's id.
    fn run_id(&self) -> &str {
        ""
    }
}

include!(concat!(env!("OUT_DIR"), "/addressed.rs"));
