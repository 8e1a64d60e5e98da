//! What a caller gets instead of an answer: `google.rpc.Status` as JSON, under the HTTP status that its code stands for.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use mainstay_api::pb::google::rpc::Status as RpcStatus;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::{Code, Status};

use crate::Dialect;
use crate::json;

const RPC_STATUS: &str = "google.rpc.Status";
/// nginx's, which grpc-gateway took over: the client went away.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A refusal.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    status: RpcStatus,
    /// Where the code alone does not say it.
    http: Option<StatusCode>,
    /// The methods that would do.
    allow: Option<HeaderValue>,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        let status = RpcStatus { code: code as i32, message: message.into(), details: Vec::new() };
        Self { status, http: None, allow: None }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(Code::NotFound, "Not Found")
    }

    /// With the methods that the path has.
    pub(crate) fn method_not_allowed(allowed: &str) -> Self {
        Self {
            allow: HeaderValue::from_str(allowed).ok(),
            ..Self::new(Code::Unimplemented, "Method Not Allowed").with(StatusCode::METHOD_NOT_ALLOWED)
        }
    }

    /// With another HTTP status than the code stands for.
    pub(crate) fn with(self, http: StatusCode) -> Self {
        Self { http: Some(http), ..self }
    }

    #[cfg(test)]
    pub(crate) fn message(&self) -> &str {
        &self.status.message
    }

    pub(crate) fn code(&self) -> Code {
        Code::from(self.status.code)
    }

    pub(crate) fn response(&self, pool: &DescriptorPool, dialect: Dialect) -> Response<Bytes> {
        let text = pool
            .get_message_by_name(RPC_STATUS)
            .and_then(|message| DynamicMessage::decode(message, self.status.encode_to_vec().as_slice()).ok())
            .map_or_else(
                || br#"{"code":13,"message":"failed to marshal error message"}"#.to_vec(),
                |status| json::write(&status, dialect),
            );
        let mut response = Response::new(Bytes::from(text));
        *response.status_mut() = self.http.unwrap_or_else(|| http_status(self.code()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(methods) = self.allow.clone() {
            response.headers_mut().insert(ALLOW, methods);
        }
        response
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let details = RpcStatus::decode(status.details()).map(|status| status.details).unwrap_or_default();
        let message = status.message().to_owned();
        let status = RpcStatus { code: status.code() as i32, message, details };
        Self { status, http: None, allow: None }
    }
}

/// As grpc-gateway maps them.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
