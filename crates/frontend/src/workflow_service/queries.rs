//! Queries: asking a workflow, and the worker's answer.

use mainstay_api::log::task_token::Kind;
use mainstay_api::temporal::enums::v1::QueryResultType;
use mainstay_api::temporal::workflowservice::v1::{
    QueryWorkflowRequest, QueryWorkflowResponse, RespondQueryTaskCompletedRequest, RespondQueryTaskCompletedResponse,
};
use mainstay_engine::Error;
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::status::{Answer, invalid};
use crate::validate::{self, sizes};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn query_workflow(&self, call: Call<QueryWorkflowRequest>) -> Answer<QueryWorkflowResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        request.execution = Some(validate::execution_by_id(request.execution.as_ref())?);
        let Some(query) = request.query.as_ref() else { return Err(invalid("WorkflowQuery is not set on request.")) };
        validate::length("QueryType", &query.query_type)?;
        self.blobs().check(query.query_args.as_ref())?;
        self.blobs().check(query.header.as_ref())?;
        let timeout = call.budget.or(self.config.query_timeout);
        let asked = self.service.query(namespace, request, timeout);
        match self.closing.unless(asked).await {
            Some(answer) => Ok(answer?),
            None => Err(Error::Unavailable("server is shutting down".into()).into()),
        }
    }

    pub(super) async fn respond_query_task_completed(
        &self,
        call: Call<RespondQueryTaskCompletedRequest>,
    ) -> Answer<RespondQueryTaskCompletedResponse> {
        let mut request = call.request;
        let sealed = std::mem::take(&mut request.task_token);
        let (namespace, token) = self.namespace_of_token(&request.namespace, &sealed, Kind::QueryTask)?;
        request.namespace = namespace.name.clone();
        if self.blobs().is_too_large(request.query_result.as_ref())
            || self.blobs().is_too_large(request.failure.as_ref())
        {
            request.completed_type = QueryResultType::Failed as i32;
            request.query_result = None;
            request.failure = None;
            request.error_message = sizes::BLOB_TOO_LARGE.into();
        }
        self.service.answer_query(namespace, token, request).await?;
        Ok(RespondQueryTaskCompletedResponse::default())
    }
}
