//! Calls of clients, counted and timed by operation and namespace: Temporal's `service_*` and `action` families.
//!
//! Handles are kept by namespace, and in it by operation, so that a call costs a look-up and no text. Only namespaces that exist get a
//! label: a client that makes names up makes no series.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mainstay_api::Addressed;
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_node::measure::{Cached, ErrorKind, OTHER, Operation, Role, Room, command_name, kind_of};
use mainstay_node::service::Service;
use mainstay_runtime::{Instant, Runtime};
use metrics::{Counter, counter};
use tonic::Request;

use crate::deadline::Budget;
use crate::status::Refusal;

/// Namespaces that have labels of their own, and those that have histograms of their own.
const NAMESPACES: usize = 100;
const NAMESPACES_TIMED: usize = 20;
/// Temporal's label of a namespace that a request does not name, or that does not exist.
const UNKNOWN: &str = "_unknown_";
/// Calls that Temporal counts as actions.
const ACTIONS: [&str; 15] = [
    "CreateSchedule",
    "DeleteSchedule",
    "PatchSchedule",
    "QueryWorkflow",
    "RecordActivityTaskHeartbeat",
    "RecordActivityTaskHeartbeatById",
    "RequestCancelWorkflowExecution",
    "ResetWorkflowExecution",
    "SignalWithStartWorkflowExecution",
    "SignalWorkflowExecution",
    "StartWorkflowExecution",
    "TerminateWorkflowExecution",
    "UpdateSchedule",
    "UpdateWorkflowExecution",
    "ExecuteMultiOperation",
];
/// Commands that Temporal counts as actions.
const ACTION_COMMANDS: [CommandType; 8] = [
    CommandType::ScheduleActivityTask,
    CommandType::StartTimer,
    CommandType::RecordMarker,
    CommandType::StartChildWorkflowExecution,
    CommandType::SignalExternalWorkflowExecution,
    CommandType::UpsertWorkflowSearchAttributes,
    CommandType::ModifyWorkflowProperties,
    CommandType::ContinueAsNewWorkflowExecution,
];

/// All calls of a frontend.
pub(crate) struct Calls {
    /// Names of operations, by their number.
    names: &'static [&'static str],
    prefix: &'static str,
    namespaces: Cached<String, InNamespace>,
    unknown: InNamespace,
    timed: Room,
}

struct InNamespace {
    label: String,
    /// The same, if it has histograms of its own.
    timed: String,
    operations: Vec<OnceLock<Call>>,
    commands: Cached<CommandType, Counter>,
}

struct Call {
    operation: Operation,
    action: Option<Counter>,
}

impl InNamespace {
    fn new(label: &str, timed: &str, operations: usize) -> Self {
        let operations = (0..operations).map(|_| OnceLock::new()).collect();
        Self { label: label.to_owned(), timed: timed.to_owned(), operations, commands: Cached::new(64) }
    }
}

fn action(namespace: &str, kind: String) -> Counter {
    counter!("action", "action_type" => kind, "namespace" => namespace.to_owned(), "service_name" => "frontend")
}

impl Calls {
    /// `names` are those of methods, by number; `prefix` goes before each.
    pub(crate) fn new(names: &'static [&'static str], prefix: &'static str) -> Self {
        let unknown = InNamespace::new(UNKNOWN, UNKNOWN, names.len());
        Self { names, prefix, namespaces: Cached::new(NAMESPACES), unknown, timed: Room::new(NAMESPACES_TIMED) }
    }

    /// A call begins.
    pub(crate) fn begin<R: Runtime, S: Service>(
        &self,
        service: &S,
        number: usize,
        request: &Request<impl Addressed>,
    ) -> Measured<'_, R> {
        let Budget(budget) = Budget::of(request.metadata().as_ref());
        let known = self.in_namespace(service, request.get_ref().namespace());
        let namespace = known.as_deref().unwrap_or(&self.unknown);
        if let Some(call) = self.call(namespace, number) {
            call.operation.begun();
            if let Some(action) = &call.action {
                action.increment(1);
            }
        }
        Measured { calls: self, namespace: known, number, budget, begun: R::Instant::now(), ended: false }
    }

    fn in_namespace<S: Service>(&self, service: &S, name: &str) -> Option<Arc<InNamespace>> {
        if name.is_empty() || service.namespace(name).is_none() {
            return None;
        }
        Some(self.namespaces.get(name, |name| {
            let name = name.unwrap_or(OTHER);
            InNamespace::new(name, self.timed.own(name), self.names.len())
        }))
    }

    fn call<'a>(&self, namespace: &'a InNamespace, number: usize) -> Option<&'a Call> {
        let (place, name) = (namespace.operations.get(number)?, self.names.get(number)?);
        Some(place.get_or_init(|| {
            let name = format!("{}{}", self.prefix, mainstay_node::measure::camel(name));
            Call {
                operation: Operation::new(&name, Role::Frontend, &namespace.label, &namespace.timed),
                action: ACTIONS.contains(&name.as_str()).then(|| action(&namespace.label, format!("grpc_{name}"))),
            }
        }))
    }

    /// A worker's commands were accepted.
    pub(crate) fn commands<S: Service>(&self, service: &S, namespace: &str, kinds: &[CommandType]) {
        let Some(known) = self.in_namespace(service, namespace) else { return };
        for kind in kinds.iter().filter(|kind| ACTION_COMMANDS.contains(kind)) {
            let counted = known.commands.get(kind, |kind| {
                action(&known.label, format!("command_{}", command_name(kind.copied().unwrap_or_default())))
            });
            counted.increment(1);
        }
    }
}

/// A call under way. One that is dropped was cancelled by its caller, or its time was up.
pub(crate) struct Measured<'a, R: Runtime> {
    calls: &'a Calls,
    namespace: Option<Arc<InNamespace>>,
    number: usize,
    /// The caller's time.
    budget: Option<Duration>,
    begun: R::Instant,
    ended: bool,
}

impl<R: Runtime> Measured<'_, R> {
    /// It was answered.
    pub(crate) fn end<T>(mut self, answer: &Result<T, Refusal>) -> Duration {
        self.ended = true;
        self.record(answer.as_ref().err().map(kind_of_refusal))
    }

    fn record(&self, kind: Option<ErrorKind>) -> Duration {
        let took = R::Instant::now() - self.begun;
        let namespace = self.namespace.as_deref().unwrap_or(&self.calls.unknown);
        if let Some(call) = self.calls.call(namespace, self.number) {
            call.operation.ended(took, kind);
        }
        took
    }
}

impl<R: Runtime> Drop for Measured<'_, R> {
    fn drop(&mut self) {
        if !self.ended {
            let is_late = self.budget.is_some_and(|budget| R::Instant::now() - self.begun >= budget);
            self.record(Some(if is_late { ErrorKind::DEADLINE } else { ErrorKind::CANCELED }));
        }
    }
}

fn kind_of_refusal(refusal: &Refusal) -> ErrorKind {
    match refusal {
        Refusal::Error(error) => kind_of(error),
        Refusal::NamespaceInvalidState { .. } => ErrorKind::NAMESPACE_STATE,
        Refusal::PermissionDenied(_) => ErrorKind::PERMISSION,
        Refusal::MultiOperation(_) => ErrorKind::MULTI,
    }
}
