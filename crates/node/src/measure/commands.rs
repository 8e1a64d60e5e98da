//! Commands and reads of shards: the operations of Temporal's `history` service, and of its persistence.

use std::time::Duration;

use mainstay_api::log::command::Op;
use mainstay_engine::Error;
use metrics::{Counter, Histogram, counter, histogram};

use super::{Cached, Operation, Role, kind_of};

const ALL: &str = "all";

/// Commands by the name of their operation.
pub(crate) struct Commands(Cached<&'static str, Command>);

impl Default for Commands {
    fn default() -> Self {
        Self(Cached::new(64))
    }
}

/// A command that is proposed.
pub(crate) struct Command {
    operation: Operation,
    store: Access,
}

impl Commands {
    /// A command's handles; it begins now.
    pub(crate) fn begin(&self, op: Option<&Op>) -> std::sync::Arc<Command> {
        let (name, store) = op.map_or(("Unknown", "Unknown"), names);
        let command = self.0.get(&name, |_| Command {
            operation: Operation::new(name, Role::History, ALL, ALL),
            store: Access::new("persistence", store, Role::History),
        });
        command.operation.begun();
        command
    }
}

impl Command {
    /// It was applied or refused, so long after it began.
    pub(crate) fn ended(&self, took: Duration, error: Option<&Error>) {
        let kind = error.map(kind_of);
        self.operation.ended(took, kind);
        self.store.ended(took, kind.is_some_and(|kind| kind.counter == Some(super::errors::FAULT)));
    }
}

/// The store's part of an operation: Temporal's `persistence_*` and `visibility_persistence_*` families.
pub(crate) struct Access {
    requests: Counter,
    latency: Histogram,
    errors: Counter,
}

impl Access {
    fn new(family: &'static str, operation: &'static str, role: Role) -> Self {
        let labels = [("operation", operation), ("service_name", role.name())];
        let names = match family {
            "persistence" => ["persistence_requests", "persistence_latency", "persistence_errors"],
            _ => ["visibility_persistence_requests", "visibility_persistence_latency", "visibility_persistence_errors"],
        };
        let [requests, latency, errors] = names;
        Self {
            requests: counter!(requests, &labels),
            latency: histogram!(latency, &labels),
            errors: counter!(errors, &labels),
        }
    }

    /// It ended, so long after it began.
    pub(crate) fn ended(&self, took: Duration, failed: bool) {
        self.requests.increment(1);
        self.latency.record(took.as_secs_f64());
        if failed {
            self.errors.increment(1);
        }
    }
}

/// Reads of the store.
pub(crate) struct Reads {
    pub(crate) history: Access,
    pub(crate) execution: Access,
    pub(crate) list: Access,
    pub(crate) count: Access,
}

impl Reads {
    pub(crate) fn new() -> Self {
        Self {
            history: Access::new("persistence", "ReadHistoryBranch", Role::History),
            execution: Access::new("persistence", "GetWorkflowExecution", Role::History),
            list: Access::new("visibility", "ListWorkflowExecutions", Role::Frontend),
            count: Access::new("visibility", "CountWorkflowExecutions", Role::Frontend),
        }
    }
}

/// A command's operation, and what it is for the store, in Temporal's words where it has some.
fn names(op: &Op) -> (&'static str, &'static str) {
    const CREATE: &str = "CreateWorkflowExecution";
    const UPDATE: &str = "UpdateWorkflowExecution";
    const SCHEDULE: &str = "UpdateSchedule";
    match op {
        Op::StartWorkflow(_) => ("StartWorkflowExecution", CREATE),
        Op::SignalWorkflow(_) => ("SignalWorkflowExecution", UPDATE),
        Op::SignalWithStart(_) => ("SignalWithStartWorkflowExecution", CREATE),
        Op::RequestCancel(_) => ("RequestCancelWorkflowExecution", UPDATE),
        Op::Terminate(_) => ("TerminateWorkflowExecution", UPDATE),
        Op::Delete(_) => ("DeleteWorkflowExecution", "DeleteWorkflowExecution"),
        Op::Reset(_) => ("ResetWorkflowExecution", "ConflictResolveWorkflowExecution"),
        Op::StartWorkflowTask(_) => ("RecordWorkflowTaskStarted", UPDATE),
        Op::CompleteWorkflowTask(_) => ("RespondWorkflowTaskCompleted", UPDATE),
        Op::FailWorkflowTask(_) => ("RespondWorkflowTaskFailed", UPDATE),
        Op::ResetSticky(_) => ("ResetStickyTaskQueue", UPDATE),
        Op::StartActivityTask(_) => ("RecordActivityTaskStarted", UPDATE),
        Op::CompleteActivity(_) => ("RespondActivityTaskCompleted", UPDATE),
        Op::FailActivity(_) => ("RespondActivityTaskFailed", UPDATE),
        Op::CancelActivity(_) => ("RespondActivityTaskCanceled", UPDATE),
        Op::HeartbeatActivity(_) => ("RecordActivityTaskHeartbeat", UPDATE),
        Op::OperateActivities(_) => ("OperateActivities", UPDATE),
        Op::UpdateOptions(_) => ("UpdateWorkflowExecutionOptions", UPDATE),
        Op::PauseWorkflow(_) => ("PauseWorkflowExecution", UPDATE),
        Op::UnpauseWorkflow(_) => ("UnpauseWorkflowExecution", UPDATE),
        Op::FireTimers(_) => ("FireTimers", UPDATE),
        Op::TimeOutSpeculativeTask(_) => ("TimeOutSpeculativeTask", UPDATE),
        Op::ForgetRun(_) => ("ForgetRun", UPDATE),
        Op::DeliverMessages(_) => ("DeliverMessages", UPDATE),
        Op::AcknowledgeMessages(_) => ("AcknowledgeMessages", UPDATE),
        Op::CreateSchedule(_) => ("CreateSchedule", SCHEDULE),
        Op::UpdateSchedule(_) => ("UpdateSchedule", SCHEDULE),
        Op::PatchSchedule(_) => ("PatchSchedule", SCHEDULE),
        Op::DeleteSchedule(_) => ("DeleteSchedule", SCHEDULE),
        Op::StartBatch(_) | Op::StopBatch(_) | Op::AdvanceBatch(_) => ("BatchOperation", "UpdateBatchOperation"),
        Op::PutNamespace(_) | Op::RemoveNamespace(_) => ("UpdateNamespace", "UpdateNamespace"),
        Op::UpdateTaskQueueConfig(_) => ("UpdateTaskQueueConfig", "UpdateTaskQueueUserData"),
        Op::PutMember(_) => ("UpdateClusterMember", "UpsertClusterMembership"),
        Op::PutReplicas(_) => ("MoveShard", "UpdateShard"),
        Op::PutSplit(_) | Op::HoldSlots(_) | Op::DropSlots(_) => ("SplitShard", "UpdateShard"),
        Op::BeginArrival(_) | Op::ImportRows(_) | Op::EndArrival(_) => ("SplitShard", "UpdateShard"),
        // What is rarer, or newer than this list.
        #[allow(unreachable_patterns)]
        _ => ("Other", "Other"),
    }
}
