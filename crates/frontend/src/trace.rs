//! A span for each call, for whoever exports traces; with nobody there it is never made.
//!
//! What the caller says of its own span travels as a field: whoever exports knows what that means.

use http::HeaderMap;
use mainstay_api::Addressed;
use tonic::Request;
use tracing::Span;
use tracing::field::Empty;

use crate::status::{Answer, status_of};

/// The span of a call.
pub(crate) fn call(service: &'static str, method: &'static str, request: &Request<impl Addressed>) -> Span {
    let span = tracing::info_span!(
        target: "mainstay::trace",
        "call",
        otel.name = Empty,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = Empty,
        rpc.grpc.status_code = Empty,
        temporalNamespace = Empty,
        temporalWorkflowID = Empty,
        temporalRunID = Empty,
        traceparent = traceparent(request.metadata().as_ref()),
        error = Empty,
    );
    if !span.is_disabled() {
        let (method, about) = (mainstay_node::measure::camel(method), request.get_ref());
        span.record("otel.name", format!("{service}/{method}"));
        span.record("rpc.method", method);
        span.record("temporalNamespace", about.namespace());
        span.record("temporalWorkflowID", about.workflow_id());
        span.record("temporalRunID", about.run_id());
    }
    span
}

fn traceparent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent").and_then(|value| value.to_str().ok())
}

/// The call was answered.
pub(crate) fn ended<T>(span: &Span, answer: &Answer<T>) {
    if span.is_disabled() {
        return;
    }
    match answer {
        Ok(_) => drop(span.record("rpc.grpc.status_code", 0)),
        Err(refusal) => {
            let status = status_of(refusal);
            span.record("rpc.grpc.status_code", status.code() as i32);
            span.record("error", status.message());
        }
    }
}
