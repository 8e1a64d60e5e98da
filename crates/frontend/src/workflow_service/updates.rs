//! Updates: UpdateWorkflowExecution, PollWorkflowExecutionUpdate, and update-with-start as ExecuteMultiOperation.

use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use mainstay_api::temporal::update::v1::WaitPolicy;
use mainstay_api::temporal::workflowservice::v1::execute_multi_operation_request::operation::Operation;
use mainstay_api::temporal::workflowservice::v1::execute_multi_operation_response::{Response, response};
use mainstay_api::temporal::workflowservice::v1::{
    ExecuteMultiOperationRequest, ExecuteMultiOperationResponse, PollWorkflowExecutionUpdateRequest,
    PollWorkflowExecutionUpdateResponse, StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest,
    UpdateWorkflowExecutionResponse,
};
use mainstay_base::RunId;
use mainstay_engine::Error;
use mainstay_node::Service;
use mainstay_node::service::{MultiError, Patience};
use mainstay_runtime::Runtime;

use super::start::normalise_start;
use super::{Call, Frontend};
use crate::deadline::Budget;
use crate::status::{Answer, Operation as Part, Refusal, invalid};
use crate::validate::sizes::Blobs;
use crate::validate::{self, times};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn update_workflow_execution(
        &self,
        call: Call<UpdateWorkflowExecutionRequest>,
    ) -> Answer<UpdateWorkflowExecutionResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        normalise_update::<R>(&mut request)?;
        let patience = self.patience(call.budget);
        let updated = self.closing.unless(self.service.update(namespace, request, patience)).await;
        Ok(updated.unwrap_or_else(|| Err(stopping()))?)
    }

    pub(super) async fn poll_workflow_execution_update(
        &self,
        call: Call<PollWorkflowExecutionUpdateRequest>,
    ) -> Answer<PollWorkflowExecutionUpdateResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let Some(reference) = request.update_ref.as_mut() else {
            return Err(invalid("UpdateRef is not set on request."));
        };
        reference.workflow_execution = Some(validate::loaded_execution(reference.workflow_execution.as_ref())?);
        let patience = self.patience(call.budget);
        let polled = self.closing.unless(self.service.poll_update(namespace, request, patience)).await;
        Ok(polled.unwrap_or_else(|| Err(stopping()))?)
    }

    pub(super) async fn execute_multi_operation(
        &self,
        call: Call<ExecuteMultiOperationRequest>,
    ) -> Answer<ExecuteMultiOperationResponse> {
        let namespace = self.namespace_for_start(&call.request.namespace)?;
        let (mut start, mut update) = start_and_update(call.request)?;
        start.namespace.clone_from(&namespace.name);
        let begins =
            normalise_start_part::<R>(&mut start, &namespace, self.blobs()).map(|()| start.workflow_id.clone());
        let updates = normalise_update_part::<R>(&mut update, begins.as_ref().ok());
        let part = |refused: Option<Refusal>| refused.map_or(Part::Aborted, Part::Refused);
        if begins.is_err() || updates.is_err() {
            return Err(Refusal::MultiOperation(vec![part(begins.err()), part(updates.err())]));
        }
        let patience = self.patience(call.budget);
        let done = self.closing.unless(self.service.update_with_start(namespace, start, update, patience)).await;
        let (started, updated) = match done.unwrap_or_else(|| Err(MultiError::Whole(stopping()))) {
            Ok(both) => both,
            Err(MultiError::Start(error)) => return Err(parts(Part::Refused(error.into()), Part::Aborted)),
            Err(MultiError::Update(error)) => return Err(parts(Part::Aborted, Part::Refused(error.into()))),
            Err(MultiError::UpdateOfStarted(error)) => return Err(parts(Part::Done, Part::Refused(error.into()))),
            Err(MultiError::Whole(error)) => return Err(error.into()),
        };
        let responses = [response::Response::StartWorkflow(started), response::Response::UpdateWorkflow(updated)];
        let responses = responses.into_iter().map(|one| Response { response: Some(one) }).collect();
        Ok(ExecuteMultiOperationResponse { responses })
    }

    /// An update is waited for as long as the server lets calls wait, or shorter if the caller has less time.
    fn patience(&self, budget: Budget) -> Patience {
        let longest = self.config.update_timeout;
        match budget.0 {
            Some(given) if given <= longest => Patience::of_caller(budget.or(longest)),
            _ => Patience::of_server(longest),
        }
    }
}

fn stopping() -> Error {
    Error::Unavailable("server is shutting down".into())
}

fn parts(start: Part, update: Part) -> Refusal {
    Refusal::MultiOperation(vec![start, update])
}

/// The one sequence of operations that there is.
fn start_and_update(
    request: ExecuteMultiOperationRequest,
) -> Answer<(StartWorkflowExecutionRequest, UpdateWorkflowExecutionRequest)> {
    let mut operations = request.operations.into_iter().map(|operation| operation.operation);
    match (operations.next().flatten(), operations.next().flatten(), operations.next()) {
        (Some(Operation::StartWorkflow(start)), Some(Operation::UpdateWorkflow(update)), None) => Ok((start, update)),
        _ => Err(invalid("Operations have to be exactly [Start, Update].")),
    }
}

fn normalise_start_part<R: Runtime>(
    start: &mut StartWorkflowExecutionRequest,
    namespace: &NamespaceRecord,
    blobs: Blobs,
) -> Answer<()> {
    normalise_start::<R>(start, namespace, blobs)?;
    if !start.cron_schedule.is_empty() {
        return Err(invalid("CronSchedule is not allowed."));
    }
    if start.request_eager_execution {
        return Err(invalid("RequestEagerExecution is not supported."));
    }
    if times::is_set(start.workflow_start_delay.as_ref()) {
        return Err(invalid("WorkflowStartDelay is not supported."));
    }
    Ok(())
}

/// `started` is the workflow id of the operation before, if that one is well formed.
fn normalise_update_part<R: Runtime>(
    update: &mut UpdateWorkflowExecutionRequest,
    started: Option<&String>,
) -> Answer<()> {
    normalise_update::<R>(update)?;
    if !update.first_execution_run_id.is_empty() {
        return Err(invalid("FirstExecutionRunId is not allowed."));
    }
    let execution = update.workflow_execution.clone().unwrap_or_default();
    if !execution.run_id.is_empty() {
        return Err(invalid("RunId is not allowed."));
    }
    if started.is_some_and(|id| *id != execution.workflow_id) {
        return Err(invalid("WorkflowId is not consistent with previous operation(s)."));
    }
    Ok(())
}

fn normalise_update<R: Runtime>(update: &mut UpdateWorkflowExecutionRequest) -> Answer<()> {
    update.workflow_execution = Some(validate::execution_by_id(update.workflow_execution.as_ref())?);
    let request = update.request.get_or_insert_default();
    let Some(meta) = request.meta.as_mut() else { return Err(invalid("Update meta is not set on request.")) };
    validate::length("UpdateId", &meta.update_id)?;
    validate::length("Identity", &meta.identity)?;
    if meta.update_id.is_empty() {
        meta.update_id = RunId::from_random(R::random()).to_string();
    }
    let Some(input) = request.input.as_ref() else { return Err(invalid("Update input is not set on request.")) };
    if input.name.is_empty() {
        return Err(invalid("Update name is not set on request."));
    }
    let policy = update.wait_policy.get_or_insert_with(WaitPolicy::default);
    match policy.lifecycle_stage() {
        Stage::Unspecified => policy.set_lifecycle_stage(Stage::Completed),
        Stage::Admitted => {
            let text = "UpdateWorkflowExecution issued asynchronously and waiting on update admitted is not supported.";
            return Err(Refusal::PermissionDenied(text.into()));
        }
        Stage::Accepted | Stage::Completed => {}
    }
    Ok(())
}
