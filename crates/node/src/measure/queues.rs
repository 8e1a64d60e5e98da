//! Task queues: who waits for whom, and how long. The operations of Temporal's `matching` service.

use std::sync::Arc;

use mainstay_base::Duration;
use mainstay_matching::{QueueKey, QueueKind};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::outcomes::label;
use super::{Cached, OTHER};
use crate::namespaces::Registry;

/// Task queues that have labels of their own.
const QUEUES: usize = 1_000;
/// Sticky queues are as many as workers, and share a label.
const STICKY: &str = "__sticky__";

/// By task queue.
pub(crate) struct Queues {
    registry: Arc<Registry>,
    normal: Cached<QueueKey, Queue>,
    sticky: Cached<(String, bool), Queue>,
}

/// Handles of one queue.
pub(crate) struct Queue {
    added: Counter,
    sync: Histogram,
    asynchronous: Histogram,
    dispatch: Histogram,
    polled: Counter,
    polled_at_once: Counter,
    timeouts: Counter,
    no_poller: Counter,
    pub(super) backlog: Gauge,
    pub(super) backlog_age: Gauge,
}

impl Queue {
    fn new(namespace: String, name: &str, kind: QueueKind) -> Self {
        let (task_type, add, poll) = match kind {
            QueueKind::Workflow => ("Workflow", "AddWorkflowTask", "PollWorkflowTaskQueue"),
            QueueKind::Activity => ("Activity", "AddActivityTask", "PollActivityTaskQueue"),
        };
        let labels = |operation: &str| {
            [
                ("operation", operation.to_owned()),
                ("service_name", "matching".to_owned()),
                ("namespace", namespace.clone()),
                ("taskqueue", name.to_owned()),
                ("task_type", task_type.to_owned()),
                ("partition", "0".to_owned()),
            ]
        };
        let (manager, poll) = (labels("TaskQueueMgr"), labels(poll));
        Self {
            added: counter!("service_requests", "operation" => add, "service_name" => "matching", "namespace" => namespace.clone()),
            sync: histogram!("syncmatch_latency", &manager),
            asynchronous: histogram!("asyncmatch_latency", &manager),
            dispatch: histogram!("task_dispatch_latency", &manager),
            polled: counter!("poll_success", &poll),
            polled_at_once: counter!("poll_success_sync", &poll),
            timeouts: counter!("poll_timeouts", &poll),
            no_poller: counter!("no_poller_tasks", &manager),
            backlog: gauge!("approximate_backlog_count", &manager),
            backlog_age: gauge!("approximate_backlog_age_seconds", &manager),
        }
    }

    /// A task came; whether a poller has it at once, and whether there was one lately.
    pub(crate) fn offered(&self, at_once: bool, has_pollers: bool) {
        self.added.increment(1);
        if !at_once && !has_pollers {
            self.no_poller.increment(1);
        }
    }

    /// A poller has a task, so long after the task was made; whether the poller was there first.
    pub(crate) fn matched(&self, age: Duration, at_once: bool) {
        let seconds = age.as_nanos().max(0) as f64 / 1e9;
        self.dispatch.record(seconds);
        self.polled.increment(1);
        if at_once {
            self.polled_at_once.increment(1);
            self.sync.record(seconds);
        } else {
            self.asynchronous.record(seconds);
        }
    }

    /// A poll ended without a task.
    pub(crate) fn timed_out(&self) {
        self.timeouts.increment(1);
    }
}

impl Queues {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, normal: Cached::new(QUEUES), sticky: Cached::new(QUEUES) }
    }

    /// A queue's handles.
    pub(crate) fn of(&self, key: &QueueKey, sticky: bool) -> Arc<Queue> {
        if sticky {
            let shared = (key.namespace_id.clone(), key.kind == QueueKind::Activity);
            let named = |id: Option<&str>| Queue::new(label(&self.registry, id), STICKY, key.kind);
            return self.sticky.get(&shared, |shared| named(shared.map(|(id, _)| id.as_str())));
        }
        self.normal.get(key, |known| match known {
            Some(key) => Queue::new(label(&self.registry, Some(&key.namespace_id)), &key.name, key.kind),
            None => Queue::new(OTHER.to_owned(), OTHER, key.kind),
        })
    }

    /// The queues that are not sticky.
    pub(super) fn normal(&self) -> Vec<(QueueKey, Arc<Queue>)> {
        self.normal.all()
    }
}
