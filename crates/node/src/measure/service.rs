//! Temporal's `service_*` family for one operation of one role.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{Cached, ErrorKind};

/// Kinds of errors of one operation that are kept apart.
const KINDS: usize = 64;

/// Which of Temporal's services an operation would belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What clients and workers call.
    Frontend,
    /// What the leader of a shard does.
    History,
    /// What the owner of a task queue does.
    Matching,
}

impl Role {
    /// The value of the label `service_name`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::History => "history",
            Self::Matching => "matching",
        }
    }
}

/// An operation in one namespace, or in all.
pub struct Operation {
    labels: [(&'static str, String); 3],
    requests: Counter,
    latency: Histogram,
    pending: Gauge,
    errors: Cached<ErrorKind, Vec<Counter>>,
}

impl Operation {
    /// By its name, its role, and the namespace's name (or what stands for all); `timed` is the same name if the namespace has
    /// histograms of its own.
    #[must_use]
    pub fn new(name: &str, role: Role, namespace: &str, timed: &str) -> Self {
        let service = role.name().to_owned();
        let labels = |namespace: &str| {
            [("operation", name.to_owned()), ("service_name", service.clone()), ("namespace", namespace.to_owned())]
        };
        let (times, labels) = (labels(timed), labels(namespace));
        Self {
            requests: counter!("service_requests", &labels),
            latency: histogram!("service_latency", &times),
            pending: gauge!("service_pending_requests", &labels),
            errors: Cached::new(KINDS),
            labels,
        }
    }

    /// A call begins.
    pub fn begun(&self) {
        self.requests.increment(1);
        self.pending.increment(1.0);
    }

    /// A call ended.
    pub fn ended(&self, took: Duration, failed: Option<ErrorKind>) {
        self.pending.decrement(1.0);
        self.latency.record(took.as_secs_f64());
        if let Some(kind) = failed {
            self.errors.get(&kind, |kind| self.counters(kind)).iter().for_each(|counter| counter.increment(1));
        }
    }

    fn counters(&self, kind: Option<&ErrorKind>) -> Vec<Counter> {
        let Some(kind) = kind else { return Vec::new() };
        let mut labels = self.labels.to_vec();
        let mut typed = labels.clone();
        typed.push(("error_type", kind.name.to_owned()));
        let mut counters = vec![counter!("service_error_with_type", &typed)];
        if let Some(cause) = kind.cause {
            labels.push(("resource_exhausted_cause", cause.to_owned()));
        }
        counters.extend(kind.counter.map(|name| counter!(name, &labels)));
        counters
    }
}
