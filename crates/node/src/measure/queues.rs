//! Task queues: who waits for whom, and how long. The operations of Temporal's `matching` service.

use std::sync::Arc;

use mainstay_base::Duration;
use mainstay_matching::{QueueKey, QueueKind};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::outcomes::label;
use super::{Cached, OTHER, Room};
use crate::namespaces::Registry;

/// Task queues that have labels of their own, and those that have histograms of their own.
const QUEUES: usize = 200;
const QUEUES_TIMED: usize = 20;
/// Sticky queues are as many as workers, and share a label.
const STICKY: &str = "__sticky__";

/// By task queue.
pub(crate) struct Queues {
    registry: Arc<Registry>,
    normal: Cached<QueueKey, Queue>,
    sticky: Cached<(String, bool), Queue>,
    timed: Room,
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
    /// `timed`: the name, if the queue has histograms of its own.
    fn new(namespace: String, name: &str, timed: &str, kind: QueueKind) -> Self {
        let (task_type, add, poll) = match kind {
            QueueKind::Workflow => ("Workflow", "AddWorkflowTask", "PollWorkflowTaskQueue"),
            QueueKind::Activity => ("Activity", "AddActivityTask", "PollActivityTaskQueue"),
        };
        let labels = |operation: &str, namespace: &str, name: &str| {
            [
                ("operation", operation.to_owned()),
                ("service_name", "matching".to_owned()),
                ("namespace", namespace.to_owned()),
                ("taskqueue", name.to_owned()),
                ("task_type", task_type.to_owned()),
                ("partition", "0".to_owned()),
            ]
        };
        let (manager, poll) = (labels("TaskQueueMgr", &namespace, name), labels(poll, &namespace, name));
        let times = labels("TaskQueueMgr", if timed == OTHER { OTHER } else { &namespace }, timed);
        Self {
            added: counter!("service_requests", "operation" => add, "service_name" => "matching", "namespace" => namespace),
            sync: histogram!("syncmatch_latency", &times),
            asynchronous: histogram!("asyncmatch_latency", &times),
            dispatch: histogram!("task_dispatch_latency", &times),
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
        Self { registry, normal: Cached::new(QUEUES), sticky: Cached::new(QUEUES), timed: Room::new(QUEUES_TIMED) }
    }

    /// A queue's handles.
    pub(crate) fn of(&self, key: &QueueKey, sticky: bool) -> Arc<Queue> {
        if sticky {
            let shared = (key.namespace_id.clone(), key.kind == QueueKind::Activity);
            let named =
                |id: Option<&str>| Queue::new(label(&self.registry, id), STICKY, self.timed.own(STICKY), key.kind);
            return self.sticky.get(&shared, |shared| named(shared.map(|(id, _)| id.as_str())));
        }
        self.normal.get(key, |known| match known {
            Some(key) => {
                let namespace = label(&self.registry, Some(&key.namespace_id));
                Queue::new(namespace, &key.name, self.timed.own(&key.name), key.kind)
            }
            None => Queue::new(OTHER.to_owned(), OTHER, OTHER, key.kind),
        })
    }

    /// The queues that are not sticky.
    pub(super) fn normal(&self) -> Vec<(QueueKey, Arc<Queue>)> {
        self.normal.all()
    }
}
