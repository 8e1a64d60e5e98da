//! Pausing and unpausing a workflow. Off unless the server's settings say otherwise, as in Temporal.

use mainstay_api::log::command::Op;
use mainstay_api::temporal::workflowservice::v1::{
    PauseWorkflowExecutionRequest, PauseWorkflowExecutionResponse, UnpauseWorkflowExecutionRequest,
    UnpauseWorkflowExecutionResponse,
};
use mainstay_engine::Error;
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::status::Answer;
use crate::validate;

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn pause_workflow_execution(
        &self,
        call: Call<PauseWorkflowExecutionRequest>,
    ) -> Answer<PauseWorkflowExecutionResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        if !self.config.workflow_pause {
            let text = format!("workflow pause is not enabled for namespace: {}", namespace.name);
            return Err(Error::Unimplemented(text).into());
        }
        check(&request.workflow_id, &request.run_id, &request.identity, &request.reason)?;
        validate::length("RequestId", &request.request_id)?;
        let workflow_id = request.workflow_id.clone();
        self.execute(&namespace, &workflow_id, Op::PauseWorkflow(request)).await?;
        Ok(PauseWorkflowExecutionResponse::default())
    }

    pub(super) async fn unpause_workflow_execution(
        &self,
        call: Call<UnpauseWorkflowExecutionRequest>,
    ) -> Answer<UnpauseWorkflowExecutionResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        check(&request.workflow_id, &request.run_id, &request.identity, &request.reason)?;
        validate::length("RequestId", &request.request_id)?;
        let workflow_id = request.workflow_id.clone();
        self.execute(&namespace, &workflow_id, Op::UnpauseWorkflow(request)).await?;
        Ok(UnpauseWorkflowExecutionResponse::default())
    }
}

fn check(workflow_id: &str, run_id: &str, identity: &str, reason: &str) -> Answer<()> {
    validate::workflow_id(workflow_id)?;
    validate::run_id(run_id)?;
    validate::length("Identity", identity)?;
    validate::length("Reason", reason)
}
