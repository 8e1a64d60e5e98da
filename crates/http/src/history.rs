//! A whole history as a download: a JSON array of events, as Temporal's web interface offers and its SDKs replay.
//!
//! It is read page by page and written as it is read, so that neither its size nor a slow client costs memory.

use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::workflowservice::v1::{
    GetWorkflowExecutionHistoryRequest, GetWorkflowExecutionHistoryResponse,
};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor};
use tonic::{Code, Status};

use crate::call::{self, Backend};
use crate::handler::Answer;
use crate::problem::Problem;
use crate::routes::unescape;
use crate::{Dialect, json};

const SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";
const RPC: &str = "GetWorkflowExecutionHistory";
/// What the array is of.
pub(crate) const EVENT: &str = "temporal.api.history.v1.HistoryEvent";
/// Where it is.
pub(crate) const PATH: &str = "/api/v1/namespaces/{namespace}/workflows/{workflow}/run/{run}/history.json";
/// Pages that wait for the client to read them.
const PAGES_AHEAD: usize = 1;

/// The body of an answer that is written as it is read.
pub type Stream = Channel<Bytes, std::convert::Infallible>;

/// Which history.
pub(crate) struct Run {
    namespace: String,
    execution: WorkflowExecution,
}

/// The run whose history a path asks for.
///
/// # Errors
/// If a segment is no text.
pub(crate) fn asked(path: &str) -> Result<Option<Run>, Problem> {
    let segments: Vec<&str> = path.split('/').collect();
    let ["", "api", "v1", "namespaces", namespace, "workflows", workflow, "run", run, "history.json"] = segments[..]
    else {
        return Ok(None);
    };
    let execution = WorkflowExecution { workflow_id: unescape(workflow)?, run_id: unescape(run)? };
    Ok(Some(Run { namespace: unescape(namespace)?, execution }))
}

/// Answers once the first page is there, and goes on writing in a task of its own, which ends when nobody reads any more.
///
/// # Errors
/// If the first page cannot be read. A later error is the last element of the array, as an object with `error`.
pub(crate) async fn download<B: Backend>(
    backend: B,
    pool: &DescriptorPool,
    run: Run,
    headers: HeaderMap,
    dialect: Dialect,
) -> Result<Answer, Problem> {
    let missing = || Problem::new(Code::Internal, "the descriptors lack histories");
    let rpc = pool.get_service_by_name(SERVICE).and_then(|service| service.methods().find(|rpc| rpc.name() == RPC));
    let (rpc, event) = (rpc.ok_or_else(missing)?, pool.get_message_by_name(EVENT).ok_or_else(missing)?);
    let request = GetWorkflowExecutionHistoryRequest {
        namespace: run.namespace,
        execution: Some(run.execution),
        ..GetWorkflowExecutionHistoryRequest::default()
    };
    let mut pages = Pages { backend, rpc, event, request, headers, dialect, written: false };
    let (first, more) = pages.next().await?;
    let (sender, body) = Stream::new(PAGES_AHEAD);
    tokio::spawn(pages.write(first, more, sender));
    let mut answer = Response::new(Either::Right(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"history.json\""));
    Ok(answer)
}

struct Pages<B> {
    backend: B,
    rpc: MethodDescriptor,
    event: MessageDescriptor,
    request: GetWorkflowExecutionHistoryRequest,
    headers: HeaderMap,
    dialect: Dialect,
    /// Whether the next event has one before it.
    written: bool,
}

impl<B: Backend> Pages<B> {
    /// The events of the next page, and whether there are more pages.
    async fn next(&mut self) -> Result<(Vec<u8>, bool), Status> {
        let answer = call::call(&self.backend, &self.rpc, &self.request, self.headers.clone()).await?;
        let wrong = |error: prost::DecodeError| Status::internal(error.to_string());
        let page = GetWorkflowExecutionHistoryResponse::decode(answer).map_err(wrong)?;
        let mut text = Vec::new();
        for event in page.history.unwrap_or_default().events {
            let event = DynamicMessage::decode(self.event.clone(), event).map_err(wrong)?;
            text.extend(if self.written { ",\n" } else { "[" }.as_bytes());
            text.append(&mut json::write(&event, self.dialect));
            self.written = true;
        }
        self.request.next_page_token = page.next_page_token;
        Ok((text, !self.request.next_page_token.is_empty()))
    }

    async fn write(mut self, first: Vec<u8>, more: bool, mut sender: Sender<Bytes, std::convert::Infallible>) {
        let (mut page, mut more) = (first, more);
        loop {
            if sender.send_data(page.into()).await.is_err() {
                return;
            }
            if !more {
                break;
            }
            (page, more) = match self.next().await {
                Ok(next) => next,
                Err(status) => {
                    let separator = if self.written { ",\n" } else { "[" };
                    self.written = true;
                    let error = serde_json::json!({"error": status.message()});
                    (format!("{separator}{error}").into_bytes(), false)
                }
            };
        }
        let end = if self.written { "]\n" } else { "[]\n" };
        let _ = sender.send_data(end.into()).await;
    }
}
