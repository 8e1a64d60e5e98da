//! What became of workflows, activities and schedules, counted by their shard's leader as entries are applied: once in a cluster.

use std::sync::Arc;

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::{CommandType, TimeoutType, WorkflowExecutionStatus as Status};
use mainstay_engine::{Note, ScheduleNote};
use metrics::{Counter, Histogram, counter, histogram};

use super::{Cached, OTHER, Room};
use crate::namespaces::Registry;

/// Namespaces and workflow types that have labels of their own, and those that have histograms of their own.
const NAMESPACES: usize = 100;
const NAMESPACES_TIMED: usize = 20;
const WORKFLOW_TYPES: usize = 200;
const WORKFLOW_TYPES_TIMED: usize = 50;

/// By namespace, by workflow type, by command.
pub(crate) struct Outcomes {
    namespaces: Cached<String, InNamespace>,
    types: Cached<(String, String), OfType>,
    commands: Cached<CommandType, Counter>,
    namespaces_timed: Room,
    types_timed: Room,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self {
            namespaces: Cached::new(NAMESPACES),
            types: Cached::new(WORKFLOW_TYPES),
            commands: Cached::new(64),
            namespaces_timed: Room::new(NAMESPACES_TIMED),
            types_timed: Room::new(WORKFLOW_TYPES_TIMED),
        }
    }
}

/// A namespace's name for a label.
pub(crate) fn label(registry: &Registry, namespace_id: Option<&str>) -> String {
    let found = namespace_id.and_then(|id| registry.by_id(id));
    found.map_or_else(|| OTHER.to_owned(), |namespace| namespace.name.clone())
}

struct InNamespace {
    transitions: Histogram,
    history_count: Histogram,
    history_size: Histogram,
    activity_timeouts: Timeouts,
    workflow_task_timeouts: Timeouts,
    acted: Counter,
    action_delay: Histogram,
    action_errors: Counter,
    missed: Counter,
    overruns: Counter,
}

impl InNamespace {
    /// `timed`: the name, if the namespace has histograms of its own.
    fn new(namespace: &str, timed: &str) -> Self {
        let labels = [("namespace", timed.to_owned()), ("service_name", "history".to_owned())];
        let delays = [("namespace", timed.to_owned()), ("service_name", "worker".to_owned())];
        let schedules = [("namespace", namespace.to_owned()), ("service_name", "worker".to_owned())];
        Self {
            transitions: histogram!("state_transition_count", &labels),
            history_count: histogram!("history_count", &labels),
            history_size: histogram!("history_size", &labels),
            activity_timeouts: Timeouts::new("TimerActiveTaskActivityTimeout", namespace),
            workflow_task_timeouts: Timeouts::new("TimerActiveTaskWorkflowTaskTimeout", namespace),
            acted: counter!("schedule_action_success", &schedules),
            action_delay: histogram!("schedule_action_delay", &delays),
            action_errors: counter!("schedule_action_errors", &schedules),
            missed: counter!("schedule_missed_catchup_window", &schedules),
            overruns: counter!("schedule_buffer_overruns", &schedules),
        }
    }
}

/// Time-outs of one kind of task.
struct Timeouts {
    schedule_to_start: Counter,
    start_to_close: Counter,
    schedule_to_close: Counter,
    heartbeat: Counter,
}

impl Timeouts {
    fn new(operation: &str, namespace: &str) -> Self {
        let labels = [
            ("operation", operation.to_owned()),
            ("namespace", namespace.to_owned()),
            ("service_name", "history".to_owned()),
        ];
        Self {
            schedule_to_start: counter!("schedule_to_start_timeout", &labels),
            start_to_close: counter!("start_to_close_timeout", &labels),
            schedule_to_close: counter!("schedule_to_close_timeout", &labels),
            heartbeat: counter!("heartbeat_timeout", &labels),
        }
    }

    fn count(&self, kind: TimeoutType) {
        match kind {
            TimeoutType::ScheduleToStart => self.schedule_to_start.increment(1),
            TimeoutType::StartToClose => self.start_to_close.increment(1),
            TimeoutType::ScheduleToClose => self.schedule_to_close.increment(1),
            TimeoutType::Heartbeat => self.heartbeat.increment(1),
            TimeoutType::Unspecified => {}
        }
    }
}

/// Runs of one type that closed.
struct OfType {
    completed: Counter,
    failed: Counter,
    timed_out: Counter,
    terminated: Counter,
    canceled: Counter,
    continued: Counter,
    latency: Histogram,
}

impl OfType {
    /// `timed`: the type, if it has a histogram of its own.
    fn new(namespace: &str, workflow_type: &str, timed: &str) -> Self {
        let labels = |namespace: &str, workflow_type: &str| {
            [
                ("operation", "CompletionStats".to_owned()),
                ("namespace", namespace.to_owned()),
                ("workflowType", workflow_type.to_owned()),
                ("service_name", "history".to_owned()),
            ]
        };
        let times = labels(if timed == OTHER { OTHER } else { namespace }, timed);
        let labels = labels(namespace, workflow_type);
        Self {
            completed: counter!("workflow_success", &labels),
            failed: counter!("workflow_failed", &labels),
            timed_out: counter!("workflow_timeout", &labels),
            terminated: counter!("workflow_terminate", &labels),
            canceled: counter!("workflow_cancel", &labels),
            continued: counter!("workflow_continued_as_new", &labels),
            latency: histogram!("workflow_schedule_to_close_latency", &times),
        }
    }
}

impl Outcomes {
    fn namespace(&self, registry: &Registry, id: &str) -> Arc<InNamespace> {
        self.namespaces.get(id, |id| {
            let name = label(registry, id);
            InNamespace::new(&name, self.namespaces_timed.own(&name))
        })
    }

    /// A run made a transition.
    pub(crate) fn transition(&self, registry: &Registry, namespace_id: &str) {
        self.namespace(registry, namespace_id).transitions.record(1.0);
    }

    /// A run closed.
    pub(crate) fn closed(&self, registry: &Registry, row: VisibilityRecord) {
        let namespace = self.namespace(registry, &row.namespace_id);
        namespace.history_count.record(row.history_length as f64);
        namespace.history_size.record(row.history_size_bytes as f64);
        let took = row.close_ns.saturating_sub(row.start_ns).max(0) as f64 / 1e9;
        let (status, key) = (row.status(), (row.namespace_id, row.workflow_type));
        let closed = self.types.get(&key, |known| match known {
            Some((id, name)) => OfType::new(&label(registry, Some(id)), name, self.types_timed.own(name)),
            None => OfType::new(OTHER, OTHER, OTHER),
        });
        match status {
            Status::Completed => closed.completed.increment(1),
            Status::Failed => closed.failed.increment(1),
            Status::TimedOut => closed.timed_out.increment(1),
            Status::Terminated => closed.terminated.increment(1),
            Status::Canceled => closed.canceled.increment(1),
            Status::ContinuedAsNew => closed.continued.increment(1),
            _ => {}
        }
        closed.latency.record(took);
    }

    /// Something happened that no row shows.
    pub(crate) fn noted(&self, registry: &Registry, note: &Note) {
        match note {
            Note::ActivityTimedOut { namespace_id, kind } => {
                self.namespace(registry, namespace_id).activity_timeouts.count(*kind);
            }
            Note::WorkflowTaskTimedOut { namespace_id, kind } => {
                self.namespace(registry, namespace_id).workflow_task_timeouts.count(*kind);
            }
            Note::Schedule { namespace_id, what } => {
                let namespace = self.namespace(registry, namespace_id);
                match what {
                    ScheduleNote::Acted { delay_ns } => {
                        namespace.acted.increment(1);
                        namespace.action_delay.record((*delay_ns).max(0) as f64 / 1e9);
                    }
                    ScheduleNote::ActionFailed => namespace.action_errors.increment(1),
                    ScheduleNote::MissedCatchupWindow => namespace.missed.increment(1),
                    ScheduleNote::BufferOverrun => namespace.overruns.increment(1),
                }
            }
        }
    }

    /// A worker's commands were carried out.
    pub(crate) fn commands(&self, kinds: impl Iterator<Item = CommandType>) {
        for kind in kinds {
            let counted = self.commands.get(&kind, |kind| {
                let name = crate::measure::command_name(kind.copied().unwrap_or_default());
                let service = ("service_name", "history".to_owned());
                let operation = ("operation", "RespondWorkflowTaskCompleted".to_owned());
                counter!("command", &[("commandType", name), operation, service])
            });
            counted.increment(1);
        }
    }
}
