//! What a shard's leader does by itself, later: timers that fire, messages that are delivered. Temporal's `task_*` family.

use std::time::Duration;

use mainstay_api::record::entity_message::Body;
use mainstay_api::record::timer_row::Kind;
use metrics::{Counter, Histogram, counter, histogram};

use super::Cached;

/// Tasks by operation.
pub(crate) struct Tasks(Cached<&'static str, Task>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Cached::new(64))
    }
}

struct Task {
    requests: Counter,
    errors: Counter,
    attempts: Histogram,
    /// Of the work itself.
    latency: Histogram,
    processing: Histogram,
    /// From when it was due, or made, to its end.
    queue: Histogram,
}

impl Task {
    fn new(operation: &'static str) -> Self {
        let labels = [("operation", operation), ("service_name", "history")];
        Self {
            requests: counter!("task_requests", &labels),
            errors: counter!("task_errors", &labels),
            attempts: histogram!("task_attempt", &labels),
            latency: histogram!("task_latency", &labels),
            processing: histogram!("task_latency_processing", &labels),
            queue: histogram!("task_latency_queue", &labels),
        }
    }
}

impl Tasks {
    /// A task was carried out in this time, so long after it was due if that is known.
    pub(crate) fn done(&self, operation: &'static str, took: Duration, since_due: Option<Duration>) {
        let task = self.0.get(&operation, |_| Task::new(operation));
        task.requests.increment(1);
        task.attempts.record(1.0);
        task.latency.record(took.as_secs_f64());
        task.processing.record(took.as_secs_f64());
        if let Some(since_due) = since_due {
            task.queue.record(since_due.as_secs_f64());
        }
    }

    /// An attempt failed, and another will follow.
    pub(crate) fn failed(&self, operation: &'static str) {
        let task = self.0.get(&operation, |_| Task::new(operation));
        task.requests.increment(1);
        task.errors.increment(1);
    }
}

/// The operation that a timer is.
pub(crate) fn timer_operation(kind: Kind) -> &'static str {
    match kind {
        Kind::RunTimeout => "TimerActiveTaskWorkflowRunTimeout",
        Kind::FirstTaskBackoff => "TimerActiveTaskWorkflowBackoffTimer",
        Kind::WorkflowTask => "TimerActiveTaskWorkflowTaskTimeout",
        Kind::Activity => "TimerActiveTaskActivityTimeout",
        Kind::UserTimer => "TimerActiveTaskUserTimer",
        Kind::Retention => "TimerActiveTaskDeleteHistoryEvent",
        Kind::Schedule => "TimerActiveTaskSchedule",
        Kind::Batch => "TimerActiveTaskBatchRetention",
        Kind::Unspecified => "TimerActiveTaskUnknown",
    }
}

/// The operation that a message is.
pub(crate) fn message_operation(body: Option<&Body>) -> &'static str {
    match body {
        Some(Body::StartChild(_) | Body::ReleaseChild(_) | Body::WithdrawStart(_)) => {
            "TransferActiveTaskStartChildExecution"
        }
        Some(Body::CloseChild(_) | Body::ChildClosed(_)) => "TransferActiveTaskCloseExecution",
        Some(Body::SignalExternal(_)) => "TransferActiveTaskSignalExecution",
        Some(Body::CancelExternal(_)) => "TransferActiveTaskCancelExecution",
        Some(Body::StartScheduled(_) | Body::StopScheduled(_) | Body::ScheduledClosed(_)) => {
            "TransferActiveTaskSchedule"
        }
        None => "TransferActiveTaskUnknown",
    }
}
