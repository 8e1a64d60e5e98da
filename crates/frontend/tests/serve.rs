//! The frontend over a real socket, in front of a node that does nothing.

#![allow(clippy::unwrap_used)]

mod fake;

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fake::{Fake, RUN};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use mainstay_api::log::command::Op;
use mainstay_api::pb::grpc::health::v1::health_client::HealthClient;
use mainstay_api::pb::grpc::health::v1::{HealthCheckRequest, health_check_response::ServingStatus};
use mainstay_api::temporal::common::v1::{Payload, Payloads, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::operatorservice::v1::operator_service_client::OperatorServiceClient;
use mainstay_api::temporal::operatorservice::v1::{AddSearchAttributesRequest, ListSearchAttributesRequest};
use mainstay_api::temporal::query::v1::WorkflowQuery;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_frontend::{Config, serve};
use mainstay_runtime::Runtime;
use mainstay_runtime_tokio::TokioRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};

type Sender = hyper::client::conn::http2::SendRequest<Body>;

/// A connection as tonic's clients want it.
#[derive(Clone)]
struct Connection(Sender);

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path().to_string();
        *request.uri_mut() = format!("http://localhost{path}").parse().unwrap();
        Box::pin(self.0.send_request(request))
    }
}

#[derive(Clone)]
struct Spawn;

impl<F> hyper::rt::Executor<F> for Spawn
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}

struct Server {
    node: Fake,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let node = Fake::new();
        let listener = TokioRuntime::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = TokioRuntime::local_address(&listener).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async move {
            let _ = stopped.await;
        };
        let ended = tokio::spawn(serve::<TokioRuntime, _>(listener, node.clone(), Config::default(), stopped));
        Self { node, address, stop, ended }
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::Builder::new(Spawn).handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Connection(sender)
    }

    async fn client(&self) -> WorkflowServiceClient<Connection> {
        WorkflowServiceClient::new(self.connect().await)
    }

    async fn until_waiting(&self, count: usize) {
        let begun = Instant::now();
        while self.node.waiting() != count {
            assert!(begun.elapsed() < Duration::from_secs(10), "{} calls wait, not {count}", self.node.waiting());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn start_request() -> StartWorkflowExecutionRequest {
    StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: queue("tq"),
        ..Default::default()
    }
}

fn queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue { name: name.into(), ..TaskQueue::default() })
}

fn payload(size: usize) -> Option<Payloads> {
    let payload = Payload { data: vec![b'x'; size].into(), ..Payload::default() };
    Some(Payloads { payloads: vec![payload] })
}

fn poll(queue_name: &str) -> PollWorkflowTaskQueueRequest {
    PollWorkflowTaskQueueRequest {
        namespace: "default".into(),
        task_queue: queue(queue_name),
        ..PollWorkflowTaskQueueRequest::default()
    }
}

#[tokio::test]
async fn a_start_reaches_the_node_complete() {
    let server = Server::start().await;
    let response = server.client().await.start_workflow_execution(start_request()).await.unwrap().into_inner();
    assert_eq!((response.run_id.as_str(), response.started), (RUN, true));
    let commands = server.node.commands();
    assert_eq!((commands[0].namespace_id.as_str(), commands[0].workflow_id.as_str()), ("id-default", "wf"));
    let Some(Op::StartWorkflow(start)) = &commands[0].op else { panic!("{commands:?}") };
    assert_eq!(start.request.as_ref().unwrap().request_id.len(), 36, "a request id was made");
}

#[tokio::test]
async fn refusals_carry_their_details() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let unknown = StartWorkflowExecutionRequest { namespace: "nope".into(), ..start_request() };
    let status = client.start_workflow_execution(unknown).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Namespace nope is not found."));
    assert!(!status.details().is_empty());
    let unnamed = StartWorkflowExecutionRequest { workflow_type: None, ..start_request() };
    let status = client.start_workflow_execution(unnamed).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "WorkflowType is not set on request."));
    let status = client.describe_worker_deployment(DescribeWorkerDeploymentRequest::default()).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unimplemented, "method DescribeWorkerDeployment is not implemented")
    );
}

#[tokio::test]
async fn messages_over_the_limit_are_refused_as_grpc_go_does() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let large = StartWorkflowExecutionRequest { input: payload(4 << 20), ..start_request() };
    let size = prost::Message::encoded_len(&large);
    let status = client.start_workflow_execution(large).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), format!("grpc: received message larger than max ({size} vs. 4194304)"));

    let mut zipped = server.client().await.send_compressed(CompressionEncoding::Gzip);
    let large = StartWorkflowExecutionRequest { input: payload(5 << 20), ..start_request() };
    let status = zipped.start_workflow_execution(large).await.unwrap_err();
    assert_eq!(status.message(), "grpc: received message after decompression larger than max 4194304");

    let blob = StartWorkflowExecutionRequest { input: payload((2 << 20) + 10), ..start_request() };
    let status = client.start_workflow_execution(blob).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "Blob data size exceeds limit."));
}

#[tokio::test]
async fn compressed_requests_get_compressed_answers() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut client = client.send_compressed(CompressionEncoding::Gzip).accept_compressed(CompressionEncoding::Gzip);
    let response = client.get_system_info(GetSystemInfoRequest {}).await.unwrap();
    assert_eq!(response.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(response.into_inner().server_version, "1.32.0");
}

#[tokio::test]
async fn garbage_is_refused_and_the_connection_lives() {
    let server = Server::start().await;
    let mut connection = server.connect().await;
    // A message whose only field claims more bytes than follow; then a frame that ends too early.
    for body in [&b"\0\0\0\0\x02\x0a\x09"[..], b"\0\0\0\0\x09\x0a", b"\x07\0\0\0\0"] {
        let request = http::Request::post("/temporal.api.workflowservice.v1.WorkflowService/StartWorkflowExecution")
            .header("content-type", "application/grpc")
            .body(Body::new(Full::new(Bytes::copy_from_slice(body))))
            .unwrap();
        let response = tower_service::Service::call(&mut connection, request).await.unwrap();
        assert_eq!(response.headers().get("grpc-status").unwrap(), "13", "{response:?}");
    }
    let request = http::Request::get("/").body(Body::empty()).unwrap();
    let response = tower_service::Service::call(&mut connection, request).await.unwrap();
    assert_eq!(response.status(), 415);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "This port speaks gRPC only\n");
    let mut client = WorkflowServiceClient::new(connection);
    client.get_system_info(GetSystemInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn http_1_is_told_so() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("gRPC"), "{answer}");
}

#[tokio::test]
async fn a_deadline_ends_the_call_and_frees_the_node() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let query = QueryWorkflowRequest {
        namespace: "default".into(),
        execution: Some(WorkflowExecution { workflow_id: "wf".into(), run_id: String::new() }),
        query: Some(WorkflowQuery { query_type: "q".into(), ..WorkflowQuery::default() }),
        ..QueryWorkflowRequest::default()
    };
    let mut request = Request::new(query);
    request.set_timeout(Duration::from_millis(100));
    let status = client.query_workflow(request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    server.until_waiting(0).await;
}

#[tokio::test]
async fn polls_wait_are_cancelled_with_their_caller_and_refused_if_too_short() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut hasty = Request::new(poll("idle"));
    hasty.set_timeout(Duration::from_millis(1500));
    let status = client.poll_workflow_task_queue(hasty).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "Context timeout is too short."));

    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.poll_workflow_task_queue(poll("idle")).await });
    server.until_waiting(1).await;
    waiting.abort();
    server.until_waiting(0).await;

    let mut short = Request::new(poll("idle"));
    short.set_timeout(Duration::from_secs(2));
    let begun = Instant::now();
    let response = client.poll_workflow_task_queue(short).await.unwrap().into_inner();
    assert!(response.task_token.is_empty());
    assert!(begun.elapsed() < Duration::from_millis(1900), "the answer comes before the caller's deadline");
}

#[tokio::test]
async fn stopping_answers_polls_empty_and_ends() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let polled = tokio::spawn(async move { client.poll_workflow_task_queue(poll("idle")).await });
    server.until_waiting(1).await;
    let begun = Instant::now();
    server.stop.send(()).unwrap();
    let response = polled.await.unwrap().unwrap().into_inner();
    assert!(response.task_token.is_empty());
    server.ended.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(server.address).await.is_err(), "it listens no more");
}

#[tokio::test]
async fn tokens_go_out_and_come_back() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let task = client.poll_workflow_task_queue(poll("busy")).await.unwrap().into_inner();
    let history = GetWorkflowExecutionHistoryRequest {
        namespace: "default".into(),
        execution: Some(WorkflowExecution { workflow_id: "wf".into(), run_id: RUN.into() }),
        next_page_token: task.next_page_token,
        ..Default::default()
    };
    let page = client.get_workflow_execution_history(history).await.unwrap().into_inner();
    assert!(page.next_page_token.is_empty(), "the position in the poll's token was past the fake's last");

    let complete = |task_token: Bytes| RespondWorkflowTaskCompletedRequest { task_token, ..Default::default() };
    let next = client.respond_workflow_task_completed(complete(task.task_token.clone())).await.unwrap().into_inner();
    assert!(!next.workflow_task.unwrap().task_token.is_empty());
    let status = client.respond_workflow_task_completed(complete(Bytes::new())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "Task token not set on request."));
    let status = client.respond_workflow_task_completed(complete("x".into())).await.unwrap_err();
    assert_eq!(status.message(), "Error deserializing task token.");

    let register = RegisterNamespaceRequest {
        namespace: "other".into(),
        workflow_execution_retention_period: Some(prost_types::Duration { seconds: 86_400, nanos: 0 }),
        ..Default::default()
    };
    client.register_namespace(register).await.unwrap();
    let foreign = RespondWorkflowTaskCompletedRequest { namespace: "other".into(), ..complete(task.task_token) };
    let status = client.respond_workflow_task_completed(foreign).await.unwrap_err();
    assert_eq!(status.message(), "Operation requested with a token from a different namespace.");
}

#[tokio::test]
async fn what_a_worker_cannot_store_fails_its_activity() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = PollActivityTaskQueueRequest {
        namespace: "default".into(),
        task_queue: queue("tq"),
        ..PollActivityTaskQueueRequest::default()
    };
    let task = client.poll_activity_task_queue(request).await.unwrap().into_inner();
    let completed = RespondActivityTaskCompletedRequest {
        task_token: task.task_token.clone(),
        result: payload((2 << 20) + 1),
        ..RespondActivityTaskCompletedRequest::default()
    };
    client.respond_activity_task_completed(completed).await.unwrap();
    let heartbeat = RecordActivityTaskHeartbeatRequest {
        task_token: task.task_token,
        details: payload((2 << 20) + 1),
        ..RecordActivityTaskHeartbeatRequest::default()
    };
    let response = client.record_activity_task_heartbeat(heartbeat).await.unwrap().into_inner();
    assert!(response.cancel_requested);
    let messages: Vec<String> = server.node.commands().into_iter().filter_map(failure_message).collect();
    assert_eq!(messages, ["Complete result exceeds size limit.", "Heartbeat details exceed size limit."]);
}

fn failure_message(command: mainstay_api::log::Command) -> Option<String> {
    match command.op {
        Some(Op::FailActivity(fail)) => fail.failure.map(|failure| failure.message),
        _ => None,
    }
}

#[tokio::test]
async fn old_lists_are_queries() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = ListOpenWorkflowExecutionsRequest {
        namespace: "default".into(),
        filters: Some(list_open_workflow_executions_request::Filters::TypeFilter(
            mainstay_api::temporal::filter::v1::WorkflowTypeFilter { name: "it's".into() },
        )),
        ..ListOpenWorkflowExecutionsRequest::default()
    };
    client.list_open_workflow_executions(request).await.unwrap();
    assert_eq!(server.node.filters(), [r"ExecutionStatus = 'Running' AND WorkflowType = 'it\'s'"]);
}

#[tokio::test]
async fn operators_add_search_attributes() {
    let server = Server::start().await;
    let mut client = OperatorServiceClient::new(server.connect().await);
    let request =
        AddSearchAttributesRequest { namespace: "default".into(), search_attributes: [("Mine".to_string(), 2)].into() };
    client.add_search_attributes(request).await.unwrap();
    let request = ListSearchAttributesRequest { namespace: "default".into() };
    let listed = client.list_search_attributes(request).await.unwrap().into_inner();
    assert_eq!(listed.custom_attributes, [("Mine".to_string(), 2)].into());
    assert_eq!(listed.system_attributes.len(), 33);
}

#[tokio::test]
async fn health_knows_the_services() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.connect().await);
    for service in ["", "temporal.api.workflowservice.v1.WorkflowService"] {
        let request = HealthCheckRequest { service: service.into() };
        let response = client.check(request).await.unwrap().into_inner();
        assert_eq!(response.status(), ServingStatus::Serving);
    }
    let status = client.check(HealthCheckRequest { service: "no".into() }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "unknown service"));
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    server.stop.send(()).unwrap();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}
