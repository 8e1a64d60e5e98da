//! Calls between nodes: Temporal's `client_*` family. A node that is alone makes none.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::peer::call::Call;
use metrics::{Counter, Histogram, counter, histogram};

use super::{Cached, Role};

/// Calls by operation.
pub(crate) struct Calls(Cached<&'static str, Outgoing>);

impl Default for Calls {
    fn default() -> Self {
        Self(Cached::new(64))
    }
}

/// Calls of one operation to other nodes.
pub(crate) struct Outgoing {
    requests: Counter,
    errors: Counter,
    latency: Histogram,
}

impl Calls {
    /// The handles of a call; it begins now.
    pub(crate) fn begin(&self, call: &Call) -> Arc<Outgoing> {
        let (operation, role) = names(call);
        let outgoing = self.0.get(&operation, |_| {
            let labels =
                [("operation", operation), ("service_role", role.name()), ("service_name", Role::Frontend.name())];
            Outgoing {
                requests: counter!("client_requests", &labels),
                errors: counter!("client_errors", &labels),
                latency: histogram!("client_latency", &labels),
            }
        });
        outgoing.requests.increment(1);
        outgoing
    }
}

impl Outgoing {
    /// It was answered, or was not.
    pub(crate) fn ended(&self, took: Duration, failed: bool) {
        self.latency.record(took.as_secs_f64());
        if failed {
            self.errors.increment(1);
        }
    }
}

fn names(call: &Call) -> (&'static str, Role) {
    match call {
        Call::Execute(_) => ("ExecuteCommand", Role::History),
        Call::CompleteTask(_) => ("CompleteEagerTask", Role::History),
        Call::BeginWorkflowTask(_) => ("RecordWorkflowTaskStarted", Role::History),
        Call::BeginActivityTask(_) => ("RecordActivityTaskStarted", Role::History),
        Call::CompleteWorkflowTask(_) => ("RespondWorkflowTaskCompleted", Role::History),
        Call::Query(_) => ("QueryWorkflow", Role::History),
        Call::Update(_) => ("UpdateWorkflowExecution", Role::History),
        Call::PollUpdate(_) => ("PollWorkflowExecutionUpdate", Role::History),
        Call::UpdateWithStart(_) => ("ExecuteMultiOperation", Role::History),
        Call::History(_) => ("GetWorkflowExecutionHistory", Role::History),
        Call::Describe(_) => ("DescribeWorkflowExecution", Role::History),
        Call::ReadIndex(_) => ("ReadIndex", Role::History),
        Call::PutNamespace(_) => ("UpdateNamespace", Role::History),
        Call::Poll(_) => ("PollTaskQueue", Role::Matching),
        Call::Offers(_) => ("AddTasks", Role::Matching),
        Call::DescribeQueue(_) => ("DescribeTaskQueue", Role::Matching),
        Call::AnswerQuery(_) => ("RespondQueryTaskCompleted", Role::Matching),
        _ => ("Other", Role::History),
    }
}
