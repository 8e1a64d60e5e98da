//! The way to the server: generated clients over an in-process channel.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{HeaderValue, Request, Response};
use mainstay_api::admin::admin_service_client::AdminServiceClient;
use mainstay_api::temporal::operatorservice::v1::operator_service_client::OperatorServiceClient;
use mainstay_api::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use tonic::Status;
use tonic::body::Body;

use crate::problem::Problem;

/// A page that waits longer than this says so. Queries and updates depend on workers.
const WITHIN: Duration = Duration::from_secs(12);
/// The server leaves out what is not written yet for clients of this name.
const CLIENT_NAME: HeaderValue = HeaderValue::from_static("temporal-ui");
/// As `WITHIN`, but such that the server's own answer about it comes first.
const GRPC_TIMEOUT: HeaderValue = HeaderValue::from_static("11S");

/// A gRPC call as HTTP has it.
pub type Call = Request<Body>;

/// A call's answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Whoever answers gRPC calls.
pub trait Server: Send + Sync + 'static {
    /// Answers one call. Dropping the future cancels it.
    fn call(&self, request: Call) -> Answer;
}

/// Clients of a server's services.
pub(crate) struct Api {
    channel: Channel,
}

impl Api {
    pub fn new(server: Arc<dyn Server>) -> Self {
        Self { channel: Channel(server) }
    }

    pub fn workflows(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn operator(&self) -> OperatorServiceClient<Channel> {
        OperatorServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }
}

/// Waits for an answer, but not for ever.
pub(crate) async fn ask<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Problem> {
    match tokio::time::timeout(WITHIN, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("the server did not answer in time").into()),
    }
}

/// A transport that is a function call.
#[derive(Clone)]
pub(crate) struct Channel(Arc<dyn Server>);

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let headers = request.headers_mut();
        headers.insert("client-name", CLIENT_NAME);
        headers.entry("grpc-timeout").or_insert(GRPC_TIMEOUT);
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await) })
    }
}
