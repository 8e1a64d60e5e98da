//! From a path to a service, and what every call has in common: its deadline, its compression, the texts of errors that arise
//! before or outside a handler.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use mainstay_api::admin::admin_service_server::AdminServiceServer;
use mainstay_api::pb::grpc::health::v1::health_server::HealthServer;
use mainstay_api::temporal::operatorservice::v1::operator_service_server::OperatorServiceServer;
use mainstay_api::temporal::workflowservice::v1::workflow_service_server::WorkflowServiceServer;
use mainstay_base::limits::GRPC_MESSAGE_SIZE_MAX;
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use tonic::body::Body;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_server::ServerReflectionServer;
use tonic_reflection::pb::v1alpha::server_reflection_server as reflection_alpha;
use tower_service::Service as Tower;

use crate::Config;
use crate::admin::Admin;
use crate::closing::{Closing, either};
use crate::deadline::Budget;
use crate::health::Health;
use crate::operator::Operator;
use crate::reflection::Reflection;
use crate::status::response;
use crate::workflow_service::Frontend;

const WORKFLOW_SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";
const OPERATOR_SERVICE: &str = "temporal.api.operatorservice.v1.OperatorService";
const ADMIN_SERVICE: &str = "mainstay.admin.v1.AdminService";
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
/// What the generated code says of a method that nobody wrote.
const STUB_MESSAGE: &str = "Not yet implemented";

/// Answers gRPC calls, whatever carried them. Clones share everything.
pub struct Router<R: Runtime, S: Service> {
    frontend: Arc<Frontend<R, S>>,
    operator: Arc<Operator<R, S>>,
    health: Arc<Health<R, S>>,
    reflection: Reflection,
    closing: Closing,
}

impl<R: Runtime, S: Service> Clone for Router<R, S> {
    fn clone(&self) -> Self {
        Self {
            frontend: self.frontend.clone(),
            operator: self.operator.clone(),
            health: self.health.clone(),
            reflection: self.reflection.clone(),
            closing: self.closing.clone(),
        }
    }
}

impl<R: Runtime, S: Service> Router<R, S> {
    /// The services of one node. Sockets serve it by `serve_router`; other ways in, which this crate does not know, by `handle`.
    pub fn new(service: S, config: Config) -> Self {
        let closing = Closing::default();
        let frontend = Arc::new(Frontend::new(service, config, closing.clone()));
        let operator = Arc::new(Operator::new(frontend.clone()));
        let health = Arc::new(Health::new(frontend.clone(), closing.clone()));
        Self { frontend, operator, health, reflection: Reflection::default(), closing }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.frontend.config
    }

    /// Begun when `serve_router` is told to stop.
    pub(crate) fn closing(&self) -> &Closing {
        &self.closing
    }

    /// Answers one call. Dropping the future cancels the call.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        if !is_grpc(request.headers()) {
            return not_grpc();
        }
        let path = request.uri().path().to_string();
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return response(Status::unimplemented(format!("malformed method name: \"{path}\"")));
        };
        let Budget(timeout) = Budget::of(request.headers());
        let work = self.dispatch(service, request);
        let answer = match timeout {
            Some(timeout) => either(work, R::sleep(timeout)).await,
            None => Some(work.await),
        };
        match answer {
            Some(answer) => translate(answer, service, method),
            None => response(Status::deadline_exceeded("context deadline exceeded")),
        }
    }

    async fn dispatch(&self, service: &str, request: Request<Body>) -> Response<Body> {
        // As grpc-go: an answer is compressed only for who sends compressed requests.
        let gzip = request.headers().get("grpc-encoding").is_some_and(|encoding| encoding == "gzip");
        let answer = match service {
            WORKFLOW_SERVICE => {
                let server = WorkflowServiceServer::from_arc(self.frontend.clone())
                    .accept_compressed(Gzip)
                    .max_decoding_message_size(GRPC_MESSAGE_SIZE_MAX);
                if gzip { server.send_compressed(Gzip).call(request).await } else { call(server, request).await }
            }
            OPERATOR_SERVICE => {
                let server = OperatorServiceServer::from_arc(self.operator.clone())
                    .accept_compressed(Gzip)
                    .max_decoding_message_size(GRPC_MESSAGE_SIZE_MAX);
                if gzip { server.send_compressed(Gzip).call(request).await } else { call(server, request).await }
            }
            ADMIN_SERVICE => call(AdminServiceServer::new(Admin(self.frontend.clone())), request).await,
            HEALTH => call(HealthServer::from_arc(self.health.clone()).accept_compressed(Gzip), request).await,
            REFLECTION => call(ServerReflectionServer::new(self.reflection.clone()), request).await,
            REFLECTION_ALPHA => {
                call(reflection_alpha::ServerReflectionServer::new(self.reflection.clone()), request).await
            }
            _ => return response(Status::unimplemented(format!("unknown service {service}"))),
        };
        let Ok(answer) = answer;
        answer
    }
}

async fn call<T>(mut server: T, request: Request<Body>) -> Result<T::Response, T::Error>
where
    T: Tower<Request<Body>>,
{
    server.call(request).await
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| {
        kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    })
}

fn not_grpc() -> Response<Body> {
    let text = "This port speaks gRPC only\n";
    let mut answer = Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from_static(text.as_bytes()))));
    *answer.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    answer.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

/// Gives errors of the gRPC library the texts that Temporal's clients know.
fn translate(answer: Response<Body>, service: &str, method: &str) -> Response<Body> {
    let Some(status) = Status::from_header_map(answer.headers()) else { return answer };
    let text = status.message();
    let limit = GRPC_MESSAGE_SIZE_MAX;
    match status.code() {
        Code::Unimplemented if text == STUB_MESSAGE => {
            response(Status::unimplemented(format!("method {method} is not implemented")))
        }
        Code::Unimplemented if text.is_empty() => {
            response(Status::unimplemented(format!("unknown method {method} for service {service}")))
        }
        Code::OutOfRange if text.contains("decoded message length too large") => {
            let found = text.split_once("found ").and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
            let text = format!("grpc: received message larger than max ({found} vs. {limit})");
            response(Status::resource_exhausted(text))
        }
        Code::ResourceExhausted if text.starts_with("Error decompressing: size limit") => {
            let text = format!("grpc: received message after decompression larger than max {limit}");
            response(Status::resource_exhausted(text))
        }
        Code::Internal if text.starts_with("failed to decode Protobuf message") => {
            response(Status::internal(format!("grpc: error unmarshalling request: {text}")))
        }
        _ => answer,
    }
}
