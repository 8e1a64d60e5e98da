//! A client that does not give up: calls with deadlines, repeated while the server cannot be reached.
//!
//! What a repeat must not do twice carries a request id. An answer that no server should ever give ends the run.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use mainstay_api::RawHistory;
use mainstay_api::admin::admin_service_client::AdminServiceClient;
use mainstay_api::temporal::common::v1::{Payload, Payloads, WorkflowExecution};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_api::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, draw};
use prost::Message;
use tonic::{Code, Request, Response, Status};

use crate::channel::Channel;
use crate::violation::{Invariant, violated};

/// The namespace of all scenarios.
pub const NAMESPACE: &str = "default";
/// The task queue of all scenarios.
pub const TASK_QUEUE: &str = "simulated";
/// The only workflow type.
pub const WORKFLOW_TYPE: &str = "planned";

/// Of ordinary calls.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Of polls: longer than the server lets them wait.
pub const POLL_TIMEOUT: Duration = Duration::from_secs(70);

/// The generated client over the simulated network.
pub type Stub = WorkflowServiceClient<Channel>;

/// A client of one frontend.
#[derive(Clone)]
pub struct Client {
    /// For calls of which each answer matters.
    pub stub: Stub,
    /// For what operators ask, over the same connection.
    pub admin: AdminServiceClient<Channel>,
    /// Its name in the server's eyes.
    pub identity: String,
}

/// Text as the one payload of an input or result.
#[must_use]
pub fn payloads(text: &str) -> Option<Payloads> {
    let encoding = ("encoding".to_string(), Bytes::from_static(b"json/plain"));
    let payload =
        Payload { metadata: [encoding].into(), data: Bytes::from(format!("\"{text}\"")), ..Payload::default() };
    Some(Payloads { payloads: vec![payload] })
}

/// The text of [`payloads`].
#[must_use]
pub fn text(payloads: Option<&Payloads>) -> String {
    let data = payloads.and_then(|all| all.payloads.first()).map(|first| first.data.clone()).unwrap_or_default();
    String::from_utf8_lossy(&data).trim_matches('"').to_string()
}

/// The task queue of all scenarios, as messages name it.
#[must_use]
pub fn task_queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: TASK_QUEUE.into(), ..TaskQueue::default() })
}

/// Events of a history.
///
/// # Panics
/// If one does not decode: no server may send that.
#[must_use]
pub fn decode(history: Option<&RawHistory>) -> Vec<HistoryEvent> {
    let events = history.map(|history| history.events.as_slice()).unwrap_or_default();
    events.iter().map(|event| HistoryEvent::decode(event.clone()).expect("an event decodes")).collect()
}

/// Whether a call may be repeated after this answer.
///
/// # Panics
/// If the answer tells of a fault inside the server.
#[must_use]
pub fn passing(name: &str, status: &Status) -> bool {
    match status.code() {
        Code::Internal if is_of_failing_disk(status) => true,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted | Code::Aborted => true,
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unimplemented => {
            let what = format!("{name} answered {:?}: {}", status.code(), status.message());
            violated(Invariant::NoInternalErrors, what)
        }
        _ => false,
    }
}

/// What a failing disk makes of a read; of one of several operations, the details say it.
fn is_of_failing_disk(status: &Status) -> bool {
    let said = "cannot be read";
    status.message().contains(said) || String::from_utf8_lossy(status.details()).contains(said)
}

/// One call with a deadline on both sides.
///
/// # Errors
/// What the server said, or UNAVAILABLE for what happened on the way.
pub async fn call<Q, A, F>(deadline: Duration, message: Q, send: impl FnOnce(Request<Q>) -> F) -> Result<A, Status>
where
    F: Future<Output = Result<Response<A>, Status>> + Send,
{
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    // The server answers first; if it cannot, nobody waits for ever.
    match SimRuntime::timeout(deadline + Duration::from_secs(1), send(request)).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::unavailable("no answer")),
    }
}

/// Repeats a call until the answer stands.
macro_rules! insist {
    ($stub:expr, $deadline:expr, $method:ident, $message:expr) => {{
        let message = $message;
        let mut tries = 0;
        loop {
            let mut stub = $stub.clone();
            let asked =
                $crate::client::call($deadline, message.clone(), |request| async move { stub.$method(request).await });
            match asked.await {
                Err(status) if $crate::client::passing(stringify!($method), &status) => {
                    tries += 1;
                    if tries % 10 == 0 {
                        let method = stringify!($method);
                        ::mainstay_sim_runtime::trace::event(format!("{method} was refused {tries} times: {status:?}"));
                    }
                    let pause = ::mainstay_sim_runtime::draw(20..400);
                    <::mainstay_sim_runtime::SimRuntime as ::mainstay_runtime::AsyncRuntime>::sleep(
                        ::std::time::Duration::from_millis(pause),
                    )
                    .await;
                }
                answer => break answer,
            }
        }
    }};
}
pub(crate) use insist;

impl Client {
    /// A client with a connection of its own, to this node first.
    ///
    /// # Panics
    /// Never: the origin is a valid one.
    #[must_use]
    pub fn new(addresses: &[SocketAddr], first: usize, identity: &str) -> Self {
        let origin: Uri = "http://mainstay".parse().expect("a valid origin");
        let channel = Channel::new(addresses, first);
        let admin = AdminServiceClient::with_origin(channel.clone(), origin.clone());
        Self { stub: Stub::with_origin(channel, origin), admin, identity: identity.into() }
    }

    /// A run's whole history, encoded, in pages of a drawn size.
    ///
    /// # Errors
    /// What the server refused it with.
    pub async fn history(&self, execution: &WorkflowExecution) -> Result<Vec<Bytes>, Status> {
        let mut events = Vec::new();
        let mut token = Bytes::new();
        let page = draw(1..100) as i32;
        loop {
            let request = api::GetWorkflowExecutionHistoryRequest {
                namespace: NAMESPACE.into(),
                execution: Some(execution.clone()),
                maximum_page_size: page,
                next_page_token: token,
                ..Default::default()
            };
            let answer = insist!(self.stub, CALL_TIMEOUT, get_workflow_execution_history, request.clone())?;
            events.extend(answer.history.unwrap_or_default().events);
            token = answer.next_page_token;
            if token.is_empty() {
                return Ok(events);
            }
        }
    }

    /// How many executions match a filter.
    ///
    /// # Errors
    /// What the server refused it with.
    pub async fn count(&self, query: &str) -> Result<i64, Status> {
        let request = api::CountWorkflowExecutionsRequest { namespace: NAMESPACE.into(), query: query.into() };
        Ok(insist!(self.stub, CALL_TIMEOUT, count_workflow_executions, request.clone())?.count)
    }

    /// The executions that match a filter, in pages of a drawn size.
    ///
    /// # Errors
    /// What the server refused it with.
    pub async fn list(&self, query: &str) -> Result<Vec<WorkflowExecutionInfo>, Status> {
        let (mut listed, mut token) = (Vec::new(), Bytes::new());
        loop {
            let request = api::ListWorkflowExecutionsRequest {
                namespace: NAMESPACE.into(),
                query: query.into(),
                page_size: draw(1..50) as i32,
                next_page_token: token,
            };
            let answer = insist!(self.stub, CALL_TIMEOUT, list_workflow_executions, request.clone())?;
            listed.extend(answer.executions);
            token = answer.next_page_token;
            if token.is_empty() {
                return Ok(listed);
            }
        }
    }
}
