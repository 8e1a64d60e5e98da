//! UpdateWorkflowExecutionOptions: which fields may be named, and what their values may be.

use mainstay_api::log::{command::Op, reply};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionOptions;
use mainstay_api::temporal::workflowservice::v1::{
    UpdateWorkflowExecutionOptionsRequest, UpdateWorkflowExecutionOptionsResponse,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use prost_types::FieldMask;

use super::{Call, Frontend, unexpected};
use crate::status::{Answer, invalid};
use crate::validate::{self, priority};

/// The fields of the options; what is under one of them is checked where it is used.
const FIELDS: [&str; 3] = ["versioning_override", "priority", "time_skipping_config"];

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn update_workflow_execution_options(
        &self,
        call: Call<UpdateWorkflowExecutionOptionsRequest>,
    ) -> Answer<UpdateWorkflowExecutionOptionsResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        validate::workflow_id(request.workflow_execution.as_ref().map_or("", |execution| &execution.workflow_id))?;
        check(request.workflow_execution_options.as_ref(), request.update_mask.as_ref())?;
        let execution = validate::loaded_execution(request.workflow_execution.as_ref())?;
        validate::length("Identity", &request.identity)?;
        match self.execute(&namespace, &execution.workflow_id, Op::UpdateOptions(request)).await?.reply {
            Some(reply::Reply::UpdateOptions(response)) => Ok(response),
            other => unexpected(other),
        }
    }
}

/// Checks options and their mask.
pub(super) fn check(options: Option<&WorkflowExecutionOptions>, mask: Option<&FieldMask>) -> Answer<()> {
    let options = options.ok_or_else(|| invalid("WorkflowExecutionOptions is required"))?;
    let mask = mask.ok_or_else(|| invalid("UpdateMask is required"))?;
    let known = |path: &str| FIELDS.contains(&path.split('.').next().unwrap_or_default());
    if let Some(path) = mask.paths.iter().find(|path| !known(path)) {
        return Err(invalid(format!(
            "error parsing UpdateMask: proto: invalid path \"{path}\" for message \"temporal.api.workflow.v1.WorkflowExecutionOptions\""
        )));
    }
    priority::check(options.priority.as_ref())
}
