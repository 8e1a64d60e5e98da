//! grpc.health.v1: the services are up as long as this process serves and its node can reach the leaders.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay_api::pb::grpc::health::v1::health_check_response::ServingStatus;
use mainstay_api::pb::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, health_server};
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::closing::Closing;
use crate::workflow_service::Frontend;

/// Names that clients ask for; the empty one means the server as a whole.
const KNOWN: [&str; 4] = [
    "",
    "temporal.api.workflowservice.v1.WorkflowService",
    "temporal.api.operatorservice.v1.OperatorService",
    "temporal.api.adminservice.v1.AdminService",
];
/// How often a watcher's answer is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The health service.
pub(crate) struct Health<R, S> {
    frontend: Arc<Frontend<R, S>>,
    closing: Closing,
}

impl<R: Runtime, S: Service> Health<R, S> {
    pub(crate) fn new(frontend: Arc<Frontend<R, S>>, closing: Closing) -> Self {
        Self { frontend, closing }
    }
}

fn status_now<R: Runtime, S: Service>(frontend: &Frontend<R, S>) -> ServingStatus {
    if frontend.service.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl<R: Runtime, S: Service> health_server::Health for Health<R, S> {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !KNOWN.contains(&service.as_str()) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(answer(status_now(&self.frontend))))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<BoxStream<HealthCheckResponse>>, Status> {
        let known = KNOWN.contains(&request.into_inner().service.as_str());
        let (frontend, closing) = (Arc::clone(&self.frontend), self.closing.clone());
        let next = Box::new(move |last: Option<ServingStatus>| -> Pin<Box<dyn Future<Output = Next> + Send>> {
            let (frontend, closing) = (Arc::clone(&frontend), closing.clone());
            Box::pin(async move {
                let Some(last) = last else {
                    return Next::Changed(if known { status_now(&frontend) } else { ServingStatus::ServiceUnknown });
                };
                loop {
                    if closing.unless(R::sleep(LOOK_EVERY)).await.is_none() {
                        return Next::Last;
                    }
                    let now = status_now(&frontend);
                    if known && now != last {
                        return Next::Changed(now);
                    }
                }
            })
        });
        let state = next(None);
        Ok(Response::new(Box::pin(Watch { next, state: Some(state) })))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

enum Next {
    Changed(ServingStatus),
    /// The server stops.
    Last,
}

type After = Box<dyn Fn(Option<ServingStatus>) -> Pin<Box<dyn Future<Output = Next> + Send>> + Send>;

/// The state now, each change, and that the server stops.
struct Watch {
    next: After,
    state: Option<Pin<Box<dyn Future<Output = Next> + Send>>>,
}

impl Stream for Watch {
    type Item = Result<HealthCheckResponse, Status>;
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(state) = &mut self.state else { return Poll::Ready(None) };
        match state.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Next::Changed(status)) => {
                self.state = Some((self.next)(Some(status)));
                Poll::Ready(Some(Ok(answer(status))))
            }
            Poll::Ready(Next::Last) => {
                self.state = None;
                Poll::Ready(Some(Ok(answer(ServingStatus::NotServing))))
            }
        }
    }
}
