//! Spans of calls, for whoever exports traces; with nobody there none is ever made.
//!
//! A span costs as much as a fair part of its call, so not every call has one: those whose callers speak of a span of their own have, and so
//! many others a second that they cost nothing to speak of. What the caller says of its span travels as a field: whoever exports
//! knows what that means.

use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use mainstay_api::Addressed;
use mainstay_base::Timestamp;
use mainstay_runtime::Runtime;
use tonic::Request;
use tracing::field::Empty;
use tracing::{Level, Span};

use crate::status::{Answer, status_of};

/// The target of spans that are traces.
const TARGET: &str = "mainstay::trace";

/// How many calls more are traced, of those whose callers do not ask for it.
pub(crate) struct Budget {
    per_second: f64,
    /// What is left, and when that was: it grows with time.
    left: Mutex<(f64, Timestamp)>,
}

impl Budget {
    /// So many a second, and as many at once.
    pub fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: Mutex::new((per_second, Timestamp::from_nanos(0))) }
    }

    fn take(&self, now: Timestamp) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back gives nothing.
        let passed = now.as_nanos().saturating_sub(left.1.as_nanos()).max(0);
        let earned = passed as f64 / 1e9 * self.per_second;
        *left = ((left.0 + earned).min(self.per_second), now);
        let may = left.0 >= 1.0;
        if may {
            left.0 -= 1.0;
        }
        may
    }
}

/// The span of a call, or none.
pub(crate) fn call<R: Runtime>(
    budget: &Budget,
    service: &'static str,
    method: &'static str,
    request: &Request<impl Addressed>,
) -> Span {
    let caller = traceparent(request.metadata().as_ref());
    if !tracing::enabled!(target: TARGET, Level::INFO) || caller.is_none() && !budget.take(R::wall_clock()) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
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
        traceparent = caller,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second_and_no_more_at_once() {
        let budget = Budget::new(3);
        let taken = |millis: i64| {
            let now = Timestamp::from_nanos(1_000_000_000_000 + millis * 1_000_000);
            (0..10).filter(|_| budget.take(now)).count()
        };
        assert_eq!(taken(0), 3);
        assert_eq!(taken(700), 2);
        assert_eq!(taken(500), 0, "the clock was set back");
        assert_eq!(taken(60_000), 3);
        assert!(!Budget::new(0).take(Timestamp::from_nanos(1)));
    }
}
