//! grpc.health.v1: the services are up as long as this process serves.

use std::pin::Pin;
use std::task::{Context, Poll};

use mainstay_api::pb::grpc::health::v1::health_check_response::ServingStatus;
use mainstay_api::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, health_server};
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::closing::Closing;

/// Names that clients ask for; the empty one means the server as a whole.
const KNOWN: [&str; 4] = [
    "",
    "temporal.api.workflowservice.v1.WorkflowService",
    "temporal.api.operatorservice.v1.OperatorService",
    "temporal.api.adminservice.v1.AdminService",
];

/// The health service.
pub(crate) struct Health {
    closing: Closing,
}

impl Health {
    pub(crate) fn new(closing: Closing) -> Self {
        Self { closing }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !KNOWN.contains(&service.as_str()) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(ServingStatus::Serving)))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<BoxStream<HealthCheckResponse>>, Status> {
        let known = KNOWN.contains(&request.into_inner().service.as_str());
        let closing = self.closing.clone();
        let end = async move { closing.begun().await };
        let first = if known { ServingStatus::Serving } else { ServingStatus::ServiceUnknown };
        Ok(Response::new(Box::pin(Watch { first: Some(first), end: Some(Box::pin(end)) })))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

/// The state now, then that the server stops.
struct Watch {
    first: Option<ServingStatus>,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(answer(first))));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        if end.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.end = None;
        Poll::Ready(Some(Ok(answer(ServingStatus::NotServing))))
    }
}
