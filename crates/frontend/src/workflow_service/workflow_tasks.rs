//! A worker's side of workflow tasks: poll, complete, fail.

use mainstay_api::log::{ActivityTaskStarted, FailWorkflowTask, command::Op, task_token::Kind};
use mainstay_api::temporal::enums::v1::QueryResultType;
use mainstay_api::temporal::query::v1::WorkflowQueryResult;
use mainstay_api::temporal::workflowservice::v1::{
    PollActivityTaskQueueResponse, PollWorkflowTaskQueueRequest, PollWorkflowTaskQueueResponse,
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse, RespondWorkflowTaskFailedRequest,
    RespondWorkflowTaskFailedResponse,
};
use mainstay_node::service::{Service, WorkflowTask};
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::page_token;
use crate::status::Answer;
use crate::token::Seal;
use crate::validate::sizes::{self, Blobs};
use crate::validate::{self, task_queue};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn poll_workflow_task_queue(
        &self,
        call: Call<PollWorkflowTaskQueueRequest>,
    ) -> Answer<PollWorkflowTaskQueueResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let timeout = self.poll_timeout(call.budget)?;
        validate::length("Identity", &request.identity)?;
        task_queue::normalise(&mut request.task_queue)?;
        let task = self.poll(self.service.poll_workflow_task(namespace, request, timeout)).await?;
        Ok(task.map(|task| with_token(self.seal(), task)).unwrap_or_default())
    }

    pub(super) async fn respond_workflow_task_completed(
        &self,
        call: Call<RespondWorkflowTaskCompletedRequest>,
    ) -> Answer<RespondWorkflowTaskCompletedResponse> {
        let mut request = call.request;
        let sealed = std::mem::take(&mut request.task_token);
        let (namespace, token) = self.namespace_of_token(&request.namespace, &sealed, Kind::WorkflowTask)?;
        validate::length("Identity", &request.identity)?;
        request.namespace = namespace.name.clone();
        let blobs = self.blobs();
        request.query_results.values_mut().for_each(|result| bound_query_result(result, blobs));
        let kinds: Vec<_> = request.commands.iter().map(|command| command.command_type()).collect();
        let name = request.namespace.clone();
        let completion = self.service.complete_workflow_task(namespace, token, request).await?;
        self.calls.commands(&self.service, &name, &kinds);
        let seal = self.seal();
        let mut response = completion.response;
        response.workflow_task = completion.workflow_task.map(|task| Box::new(with_token(seal, task)));
        response.activity_tasks =
            completion.activity_tasks.into_iter().map(|task| activity_with_token(seal, task)).collect();
        Ok(response)
    }

    pub(super) async fn respond_workflow_task_failed(
        &self,
        call: Call<RespondWorkflowTaskFailedRequest>,
    ) -> Answer<RespondWorkflowTaskFailedResponse> {
        let mut request = call.request;
        let sealed = std::mem::take(&mut request.task_token);
        let (namespace, token) = self.namespace_of_token(&request.namespace, &sealed, Kind::WorkflowTask)?;
        validate::length("Identity", &request.identity)?;
        request.namespace = namespace.name.clone();
        if self.blobs().is_too_large(request.failure.as_ref()) {
            request.failure = request.failure.take().map(sizes::without_details);
        }
        let workflow_id = token.workflow_id.clone();
        let op = Op::FailWorkflowTask(FailWorkflowTask { token: Some(token), request: Some(request) });
        self.execute(&namespace, &workflow_id, op).await?;
        Ok(RespondWorkflowTaskFailedResponse::default())
    }
}

/// A query result over the limit is a failed query.
fn bound_query_result(result: &mut WorkflowQueryResult, blobs: Blobs) {
    if blobs.is_too_large(result.answer.as_ref()) || blobs.is_too_large(result.failure.as_ref()) {
        *result = WorkflowQueryResult {
            result_type: QueryResultType::Failed as i32,
            error_message: sizes::BLOB_TOO_LARGE.into(),
            ..WorkflowQueryResult::default()
        };
    }
}

/// The answer to a poll, complete with what the worker sends back.
pub(super) fn with_token(seal: Seal, task: WorkflowTask) -> PollWorkflowTaskQueueResponse {
    let WorkflowTask { token, mut response, rest } = task;
    response.task_token = seal.task(&token);
    response.next_page_token = page_token::write(seal, rest, false);
    response
}

/// The same for an activity.
pub(super) fn activity_with_token(seal: Seal, task: ActivityTaskStarted) -> PollActivityTaskQueueResponse {
    let mut response = *task.response.unwrap_or_default();
    response.task_token = task.token.map(|token| seal.task(&token)).unwrap_or_default();
    response
}
