//! Workflows that are deleted: each is one client's own, open or closed when it goes, and nothing of it is ever shown again.

use std::time::Duration;

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{WorkflowIdConflictPolicy, WorkflowIdReusePolicy};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::SimRuntime;
use tonic::Code;

use super::{Performer, Start, current};
use crate::client::{CALL_TIMEOUT, NAMESPACE, insist};
use crate::operation::Follow;
use crate::plan::{End, Plan, Step};
use crate::violation::{Invariant, violated};

impl Performer {
    /// Starts a workflow, deletes it after a while, and looks whether it is gone.
    pub(super) async fn delete(&self, label: &str, millis: u64, pause: Duration) -> bool {
        let workflow_id = format!("doomed-{label}");
        let start = Start {
            label,
            workflow_id: &workflow_id,
            conflict: WorkflowIdConflictPolicy::UseExisting,
            // A second try must not begin it again.
            reuse: WorkflowIdReusePolicy::RejectDuplicate,
            follow: Follow::Nothing,
        };
        let plan = Plan { groups: vec![vec![Step::Timer { millis }]], end: End::Complete, obeys: true };
        let request = start.request(&plan);
        let begun = insist!(self.client.stub, CALL_TIMEOUT, start_workflow_execution, request.clone());
        let run_id = match begun {
            Ok(begun) => begun.run_id,
            Err(status) if status.code() == Code::AlreadyExists => return true,
            Err(status) => panic!("a start was refused: {status:?}"),
        };
        SimRuntime::sleep(pause).await;
        self.ledger.promises().doomed.insert(run_id.clone(), false);
        let execution = WorkflowExecution { run_id: run_id.clone(), ..current(&workflow_id) };
        let request = api::DeleteWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(execution.clone()),
        };
        match insist!(self.client.stub, CALL_TIMEOUT, delete_workflow_execution, request.clone()) {
            Ok(_) => {}
            // An earlier try did it.
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => panic!("a deletion was refused: {status:?}"),
        }
        self.ledger.promises().doomed.insert(run_id, true);
        let request =
            api::DescribeWorkflowExecutionRequest { namespace: NAMESPACE.into(), execution: Some(execution.clone()) };
        match insist!(self.client.stub, CALL_TIMEOUT, describe_workflow_execution, request.clone()) {
            Err(status) if status.code() == Code::NotFound => true,
            other => violated(Invariant::AcknowledgedEffects, format!("{execution:?} was deleted, and is {other:?}")),
        }
    }
}
