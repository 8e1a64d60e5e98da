//! What clients do to a workflow, and how they look at one: signal, cancel, terminate, delete, describe.

use mainstay_api::log::{ResetStickyTaskQueue, command::Op, reply};
use mainstay_api::temporal::workflow::v1::post_reset_operation::Variant;
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend, options, unexpected};
use crate::status::{Answer, invalid};
use crate::validate::{self, sizes};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn signal_workflow_execution(
        &self,
        call: Call<SignalWorkflowExecutionRequest>,
    ) -> Answer<SignalWorkflowExecutionResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution_by_id(request.workflow_execution.as_ref())?;
        validate::required("SignalName", &request.signal_name)?;
        validate::length("Identity", &request.identity)?;
        validate::request_id::<R>(&mut request.request_id)?;
        sizes::links(&request.links)?;
        self.blobs().check(request.input.as_ref())?;
        self.blobs().check(request.header.as_ref())?;
        match self.execute(&namespace, &execution.workflow_id, Op::SignalWorkflow(request)).await?.reply {
            Some(reply::Reply::SignalWorkflow(response)) => Ok(response),
            other => unexpected(other),
        }
    }

    pub(super) async fn request_cancel_workflow_execution(
        &self,
        call: Call<RequestCancelWorkflowExecutionRequest>,
    ) -> Answer<RequestCancelWorkflowExecutionResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution_by_id(request.workflow_execution.as_ref())?;
        validate::run_id(&request.first_execution_run_id)?;
        validate::length("Identity", &request.identity)?;
        validate::request_id::<R>(&mut request.request_id)?;
        sizes::links(&request.links)?;
        self.execute(&namespace, &execution.workflow_id, Op::RequestCancel(request)).await?;
        Ok(RequestCancelWorkflowExecutionResponse::default())
    }

    pub(super) async fn terminate_workflow_execution(
        &self,
        call: Call<TerminateWorkflowExecutionRequest>,
    ) -> Answer<TerminateWorkflowExecutionResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution_by_id(request.workflow_execution.as_ref())?;
        validate::run_id(&request.first_execution_run_id)?;
        validate::length("Identity", &request.identity)?;
        sizes::links(&request.links)?;
        self.blobs().check(request.details.as_ref())?;
        self.execute(&namespace, &execution.workflow_id, Op::Terminate(request)).await?;
        Ok(TerminateWorkflowExecutionResponse::default())
    }

    pub(super) async fn delete_workflow_execution(
        &self,
        call: Call<DeleteWorkflowExecutionRequest>,
    ) -> Answer<DeleteWorkflowExecutionResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution(request.workflow_execution.as_ref())?;
        self.execute(&namespace, &execution.workflow_id, Op::Delete(request)).await?;
        Ok(DeleteWorkflowExecutionResponse::default())
    }

    pub(super) async fn reset_workflow_execution(
        &self,
        call: Call<ResetWorkflowExecutionRequest>,
    ) -> Answer<ResetWorkflowExecutionResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution(request.workflow_execution.as_ref())?;
        if request.request_id.is_empty() {
            return Err(invalid("RequestId is not set on request."));
        }
        for operation in &request.post_reset_operations {
            let Some(Variant::UpdateWorkflowOptions(update)) = &operation.variant else {
                let text = "unsupported post reset operation: *workflow.PostResetOperation_SignalWorkflow_";
                return Err(invalid(text));
            };
            options::check(update.workflow_execution_options.as_ref(), update.update_mask.as_ref())?;
        }
        validate::length("RequestId", &request.request_id)?;
        match self.execute(&namespace, &execution.workflow_id, Op::Reset(request)).await?.reply {
            Some(reply::Reply::Reset(response)) => Ok(response),
            other => unexpected(other),
        }
    }

    pub(super) async fn reset_sticky_task_queue(
        &self,
        call: Call<ResetStickyTaskQueueRequest>,
    ) -> Answer<ResetStickyTaskQueueResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution_by_id(request.execution.as_ref())?;
        let op = Op::ResetSticky(ResetStickyTaskQueue { run_id: execution.run_id });
        self.execute(&namespace, &execution.workflow_id, op).await?;
        Ok(ResetStickyTaskQueueResponse::default())
    }

    pub(super) async fn describe_workflow_execution(
        &self,
        call: Call<DescribeWorkflowExecutionRequest>,
    ) -> Answer<DescribeWorkflowExecutionResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let execution = validate::execution(request.execution.as_ref())?;
        Ok(self.service.describe(namespace, execution).await?)
    }
}
