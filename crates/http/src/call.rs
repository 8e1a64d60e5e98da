//! One gRPC call without a network: a request with the call's path, one framed message, the answer's message and status.

use std::future::Future;

use bytes::{Buf, Bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, TE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use mainstay_frontend::{Router, SERVER_VERSION};
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use prost::Message;
use prost_reflect::MethodDescriptor;
use tonic::Status;
use tonic::body::Body;

const GRPC: &str = "application/grpc";
/// Before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Headers of a request that the services see.
const FORWARDED: [&str; 10] = [
    "authorization",
    "authorization-extras",
    "client-name",
    "client-version",
    "grpc-timeout",
    "supported-server-versions",
    "temporal-namespace",
    "traceparent",
    "tracestate",
    "x-forwarded-for",
];
/// A header with this before its name is forwarded without it.
const METADATA: &str = "grpc-metadata-";
const CLIENT_NAME: &str = "client-name";
const CLIENT_VERSION: &str = "client-version";
const OWN_NAME: &str = "temporal-server-http";

/// What answers gRPC calls.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Answers one call. Dropping the future cancels the call.
    fn call(&self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
}

impl<R: Runtime, S: Service> Backend for Router<R, S> {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        self.handle(request).await
    }
}

/// Calls an RPC with a message; answers the encoded message that comes back.
///
/// # Errors
/// The status with which the services refuse.
pub(crate) async fn call<B: Backend>(
    backend: &B,
    rpc: &MethodDescriptor,
    message: &impl Message,
    headers: HeaderMap,
) -> Result<Bytes, Status> {
    let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
    let mut request = Request::new(Body::new(Full::new(framed(message))));
    *request.uri_mut() = path.parse().map_err(|_| Status::internal("the RPC has no path"))?;
    *request.method_mut() = http::Method::POST;
    *request.headers_mut() = headers;
    let answer = backend.call(request).await;
    if let Some(status) = Status::from_header_map(answer.headers()).filter(|status| status.code() != tonic::Code::Ok) {
        return Err(status);
    }
    let answer = answer.into_body().collect().await?;
    if let Some(status) = answer.trailers().and_then(Status::from_header_map).filter(|s| s.code() != tonic::Code::Ok) {
        return Err(status);
    }
    unframed(answer.to_bytes()).ok_or_else(|| Status::internal("the answer is no message"))
}

/// The headers of a call, from those of an HTTP request.
pub(crate) fn headers(given: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CLIENT_NAME, HeaderValue::from_static(OWN_NAME));
    headers.insert(CLIENT_VERSION, HeaderValue::from_static(SERVER_VERSION));
    for (name, value) in given {
        let forwarded = match name.as_str().strip_prefix(METADATA) {
            Some(name) => HeaderName::from_bytes(name.as_bytes()).ok().filter(is_metadata),
            None if FORWARDED.contains(&name.as_str()) || *name == USER_AGENT => Some(name.clone()),
            None => None,
        };
        if let Some(name) = forwarded {
            headers.insert(name, value.clone());
        }
    }
    headers
}

/// Whether a name may stand for metadata: not one that gRPC or HTTP uses, nor one that is forwarded as itself.
fn is_metadata(name: &HeaderName) -> bool {
    !name.as_str().starts_with("grpc-") && ![CONTENT_TYPE, TE, AUTHORIZATION].contains(name)
}

fn framed(message: &impl Message) -> Bytes {
    let mut out = Vec::with_capacity(PREFIX + message.encoded_len());
    out.extend([0; PREFIX]);
    // A vector has room for whatever is encoded.
    let _ = message.encode(&mut out);
    let length = u32::try_from(out.len() - PREFIX).unwrap_or(u32::MAX);
    out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    out.into()
}

fn unframed(mut answer: Bytes) -> Option<Bytes> {
    if answer.remaining() < PREFIX || answer.get_u8() != 0 {
        return None;
    }
    let length = usize::try_from(answer.get_u32()).ok()?;
    (answer.len() == length).then_some(answer)
}
