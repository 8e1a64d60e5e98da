//! What begins workflows: StartWorkflowExecution and SignalWithStartWorkflowExecution.

use mainstay_api::log::{StartWorkflow, command::Op, reply};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::enums::v1::WorkflowIdConflictPolicy as Conflict;
use mainstay_api::temporal::workflowservice::v1::{
    SignalWithStartWorkflowExecutionRequest, SignalWithStartWorkflowExecutionResponse, StartWorkflowExecutionRequest,
    StartWorkflowExecutionResponse,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::workflow_tasks::with_token;
use super::{Call, Frontend, unexpected};
use crate::status::{Answer, invalid};
use crate::validate::sizes::{self, Blobs};
use crate::validate::{self, priority, search_attributes, start, task_queue};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn start_workflow_execution(
        &self,
        call: Call<StartWorkflowExecutionRequest>,
    ) -> Answer<StartWorkflowExecutionResponse> {
        let mut request = call.request;
        let namespace = self.namespace_for_start(&request.namespace)?;
        normalise_start::<R>(&mut request, &namespace, self.blobs())?;
        let workflow_id = request.workflow_id.clone();
        let op = Op::StartWorkflow(StartWorkflow { request: Some(request) });
        let reply = self.execute(&namespace, &workflow_id, op).await?;
        let mut response = match reply.reply {
            Some(reply::Reply::StartWorkflow(response)) => response,
            other => return unexpected(other),
        };
        if let Some(started) = reply.eager_workflow_task {
            let task = self.service.complete_task(namespace, *started).await?;
            response.eager_workflow_task = Some(Box::new(with_token(self.seal(), task)));
        }
        Ok(response)
    }

    pub(super) async fn signal_with_start_workflow_execution(
        &self,
        call: Call<SignalWithStartWorkflowExecutionRequest>,
    ) -> Answer<SignalWithStartWorkflowExecutionResponse> {
        let mut request = call.request;
        let namespace = self.namespace_for_start(&request.namespace)?;
        normalise_signal_with_start::<R>(&mut request, &namespace, self.blobs())?;
        let workflow_id = request.workflow_id.clone();
        match self.execute(&namespace, &workflow_id, Op::SignalWithStart(request)).await?.reply {
            Some(reply::Reply::SignalWithStart(response)) => Ok(response),
            other => unexpected(other),
        }
    }
}

pub(super) fn normalise_start<R: Runtime>(
    r: &mut StartWorkflowExecutionRequest,
    namespace: &NamespaceRecord,
    blobs: Blobs,
) -> Answer<()> {
    validate::workflow_id(&r.workflow_id)?;
    start::retry_policy(&mut r.retry_policy)?;
    start::delay(&r.cron_schedule, &mut r.workflow_start_delay)?;
    start::cron(&r.cron_schedule)?;
    start::workflow_type(r.workflow_type.as_ref(), "WorkflowType is not set on request.")?;
    task_queue::normalise(&mut r.task_queue)?;
    let (execution, run, task) =
        (&mut r.workflow_execution_timeout, &mut r.workflow_run_timeout, &mut r.workflow_task_timeout);
    start::Timeouts { execution, run, task }.normalise()?;
    validate::length("Identity", &r.identity)?;
    validate::request_id::<R>(&mut r.request_id)?;
    start::policies(r.workflow_id_reuse_policy(), r.workflow_id_conflict_policy())?;
    sizes::links(&r.links)?;
    start::callbacks(&r.completion_callbacks)?;
    blobs.check(r.input.as_ref())?;
    blobs.check(r.header.as_ref())?;
    blobs.check(r.last_completion_result.as_ref())?;
    blobs.check(r.continued_failure.as_ref())?;
    sizes::memo(r.memo.as_ref())?;
    priority::check(r.priority.as_ref())?;
    search_attributes::normalise(&mut r.search_attributes, namespace)
}

fn normalise_signal_with_start<R: Runtime>(
    r: &mut SignalWithStartWorkflowExecutionRequest,
    namespace: &NamespaceRecord,
    blobs: Blobs,
) -> Answer<()> {
    validate::workflow_id(&r.workflow_id)?;
    if r.signal_name.is_empty() {
        return Err(invalid("signal not set"));
    }
    validate::length("SignalName", &r.signal_name)?;
    start::workflow_type(r.workflow_type.as_ref(), "workflow type not set")?;
    task_queue::normalise(&mut r.task_queue)?;
    validate::length("Identity", &r.identity)?;
    validate::request_id::<R>(&mut r.request_id)?;
    let (execution, run, task) =
        (&mut r.workflow_execution_timeout, &mut r.workflow_run_timeout, &mut r.workflow_task_timeout);
    start::Timeouts { execution, run, task }.normalise()?;
    start::policies(r.workflow_id_reuse_policy(), r.workflow_id_conflict_policy())?;
    if r.workflow_id_conflict_policy() == Conflict::Fail {
        let name = Conflict::Fail.as_str_name();
        let text = format!("Invalid WorkflowIDConflictPolicy: {name} is not supported for this operation.");
        return Err(invalid(text));
    }
    start::retry_policy(&mut r.retry_policy)?;
    start::delay(&r.cron_schedule, &mut r.workflow_start_delay)?;
    start::cron(&r.cron_schedule)?;
    sizes::links(&r.links)?;
    blobs.check(r.input.as_ref())?;
    blobs.check(r.signal_input.as_ref())?;
    blobs.check(r.header.as_ref())?;
    sizes::memo(r.memo.as_ref())?;
    priority::check(r.priority.as_ref())?;
    search_attributes::normalise(&mut r.search_attributes, namespace)
}
