//! The one table from what went wrong to what a client sees: gRPC code, message, error details.
//!
//! SDKs decide by code whether to retry, and by the first detail which exception to raise; so a permanent refusal never gets a
//! code that clients retry.

use http::HeaderMap;
use mainstay_api::pb::google::rpc::Status as RpcStatus;
use mainstay_api::temporal::enums::v1::{NamespaceState, ResourceExhaustedCause, ResourceExhaustedScope};
use mainstay_api::temporal::errordetails::v1 as details;
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_engine::Error;
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

const CAUSE_HEADER: &str = "x-resource-exhausted-cause";
const SCOPE_HEADER: &str = "x-resource-exhausted-scope";

/// What a handler gives.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Why a call is refused: by the state, or by the frontend itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// What the node or the engine says.
    Error(Error),
    /// The namespace is not in a state that allows this.
    NamespaceInvalidState {
        /// Its name.
        namespace: String,
        /// The state it is in.
        state: NamespaceState,
        /// The states that would do.
        allowed: Vec<NamespaceState>,
    },
    /// A feature that is switched off.
    PermissionDenied(String),
    /// Not all of several operations were done.
    MultiOperation(Vec<Operation>),
}

/// What became of one of several operations.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// It was done.
    Done,
    /// It was not done, because of another.
    Aborted,
    /// It was refused.
    Refused(Refusal),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// INVALID_ARGUMENT.
pub(crate) fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::Error(Error::invalid(text))
}

/// FAILED_PRECONDITION.
pub(crate) fn precondition(text: impl Into<String>) -> Refusal {
    Refusal::Error(Error::FailedPrecondition(text.into()))
}

/// NOT_FOUND.
pub(crate) fn not_found(text: impl Into<String>) -> Refusal {
    Refusal::Error(Error::not_found(text))
}

fn row_of_refusal(refusal: &Refusal) -> Row {
    match refusal {
        Refusal::Error(error) => row_of(error),
        Refusal::NamespaceInvalidState { namespace, state, allowed } => {
            invalid_state(namespace, *state, allowed.as_slice())
        }
        Refusal::PermissionDenied(text) => Row::plain(Code::PermissionDenied, text)
            .with("PermissionDeniedFailure", &details::PermissionDeniedFailure { reason: String::new() }),
        Refusal::MultiOperation(operations) => multi_operation(operations),
    }
}

/// What a client sees of a refusal.
pub fn status_of(refusal: &Refusal) -> Status {
    let row = row_of_refusal(refusal);
    let mut headers = HeaderMap::new();
    if let Some((cause, scope)) = row.exhausted {
        for (name, value) in [(CAUSE_HEADER, camel(cause)), (SCOPE_HEADER, camel(scope))] {
            if let Ok(value) = value.parse() {
                headers.insert(name, value);
            }
        }
    }
    let metadata = MetadataMap::from_headers(headers);
    let Some(any) = row.any() else {
        return Status::with_metadata(row.code, row.message, metadata);
    };
    let status = RpcStatus { code: row.code as i32, message: row.message.clone(), details: vec![any] };
    Status::with_details_and_metadata(row.code, row.message, status.encode_to_vec().into(), metadata)
}

struct Row {
    code: Code,
    message: String,
    /// Name and encoded value of a message of `temporal.api.errordetails.v1`.
    detail: Option<(&'static str, Vec<u8>)>,
    /// Enum names of cause and scope, for headers.
    exhausted: Option<(&'static str, &'static str)>,
}

impl Row {
    fn plain(code: Code, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), detail: None, exhausted: None }
    }

    fn with(self, name: &'static str, detail: &impl Message) -> Self {
        Self { detail: Some((name, detail.encode_to_vec())), ..self }
    }

    fn any(&self) -> Option<prost_types::Any> {
        let (name, value) = self.detail.clone()?;
        Some(prost_types::Any { type_url: format!("type.googleapis.com/temporal.api.errordetails.v1.{name}"), value })
    }
}

fn row_of(error: &Error) -> Row {
    let row = |code| Row::plain(code, error);
    match error {
        Error::NotFound(_) => row(Code::NotFound).with("NotFoundFailure", &details::NotFoundFailure::default()),
        Error::InvalidArgument(_) => row(Code::InvalidArgument),
        Error::FailedPrecondition(_) => row(Code::FailedPrecondition),
        Error::WorkflowNotReady(_) => {
            row(Code::FailedPrecondition).with("WorkflowNotReadyFailure", &details::WorkflowNotReadyFailure::default())
        }
        Error::AlreadyStarted { start_request_id, run_id, first_execution_run_id, .. } => row(Code::AlreadyExists)
            .with(
                "WorkflowExecutionAlreadyStartedFailure",
                &details::WorkflowExecutionAlreadyStartedFailure {
                    start_request_id: start_request_id.clone(),
                    run_id: run_id.clone(),
                    first_execution_run_id: first_execution_run_id.clone(),
                },
            ),
        Error::NamespaceNotFound(namespace) => row(Code::NotFound)
            .with("NamespaceNotFoundFailure", &details::NamespaceNotFoundFailure { namespace: namespace.clone() }),
        Error::NamespaceAlreadyExists(_) => row(Code::AlreadyExists)
            .with("NamespaceAlreadyExistsFailure", &details::NamespaceAlreadyExistsFailure::default()),
        Error::ResourceExhausted { cause, .. } => exhausted(row(Code::ResourceExhausted), *cause),
        Error::QueryFailed { failure, .. } => {
            let failure = Some(failure.as_ref()).filter(|f| **f != Failure::default()).cloned();
            row(Code::InvalidArgument).with("QueryFailedFailure", &details::QueryFailedFailure { failure })
        }
        Error::Aborted(_) => row(Code::Aborted),
        Error::DeadlineExceeded(_) => row(Code::DeadlineExceeded),
        Error::Unavailable(_) | Error::Moved => row(Code::Unavailable),
        Error::Unimplemented(_) => row(Code::Unimplemented),
        Error::Internal(_) => row(Code::Internal),
    }
}

fn exhausted(row: Row, cause: ResourceExhaustedCause) -> Row {
    let scope = match cause {
        ResourceExhaustedCause::SystemOverloaded | ResourceExhaustedCause::PersistenceStorageLimit => {
            ResourceExhaustedScope::System
        }
        _ => ResourceExhaustedScope::Namespace,
    };
    let detail = details::ResourceExhaustedFailure { cause: cause as i32, scope: scope as i32 };
    let row = row.with("ResourceExhaustedFailure", &detail);
    let cause = cause.as_str_name().trim_start_matches("RESOURCE_EXHAUSTED_CAUSE_");
    let scope = scope.as_str_name().trim_start_matches("RESOURCE_EXHAUSTED_SCOPE_");
    Row { exhausted: Some((cause, scope)), ..row }
}

fn invalid_state(namespace: &str, state: NamespaceState, allowed: &[NamespaceState]) -> Row {
    let name = |state: &NamespaceState| camel(state.as_str_name().trim_start_matches("NAMESPACE_STATE_"));
    let names: Vec<String> = allowed.iter().map(name).collect();
    let message = format!("Namespace has invalid state: {}. Must be {}.", name(&state), names.join(" or "));
    let detail = details::NamespaceInvalidStateFailure {
        namespace: namespace.into(),
        state: state as i32,
        allowed_states: allowed.iter().map(|state| *state as i32).collect(),
    };
    Row::plain(Code::FailedPrecondition, message).with("NamespaceInvalidStateFailure", &detail)
}

/// The code of the first operation that is at fault, and a status for each.
fn multi_operation(operations: &[Operation]) -> Row {
    let mut code = Code::Aborted;
    let mut statuses = Vec::with_capacity(operations.len());
    for operation in operations {
        let refusal = match operation {
            Operation::Refused(refusal) => refusal,
            Operation::Aborted => {
                statuses.push(aborted_operation());
                continue;
            }
            Operation::Done => {
                statuses.push(details::multi_operation_execution_failure::OperationStatus::default());
                continue;
            }
        };
        let row = row_of_refusal(refusal);
        if code == Code::Aborted {
            code = row.code;
        }
        statuses.push(details::multi_operation_execution_failure::OperationStatus {
            code: row.code as i32,
            details: row.any().into_iter().collect(),
            message: row.message,
        });
    }
    let detail = details::MultiOperationExecutionFailure { statuses };
    Row::plain(code, "Update-with-Start could not be executed.").with("MultiOperationExecutionFailure", &detail)
}

fn aborted_operation() -> details::multi_operation_execution_failure::OperationStatus {
    let aborted = prost_types::Any {
        type_url: "type.googleapis.com/temporal.api.failure.v1.MultiOperationExecutionAborted".into(),
        value: Vec::new(),
    };
    details::multi_operation_execution_failure::OperationStatus {
        code: Code::Aborted as i32,
        message: "Operation was aborted.".into(),
        details: vec![aborted],
    }
}

/// `BUSY_WORKFLOW` as `BusyWorkflow`.
pub(crate) fn camel(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    name.split('_').map(word).collect()
}

/// A status as a whole response of gRPC over HTTP/2.
pub(crate) fn response(status: Status) -> http::Response<tonic::body::Body> {
    status.into_http()
}

/// The details of a status.
#[cfg(test)]
pub(crate) fn details_of(status: &Status) -> Option<RpcStatus> {
    RpcStatus::decode(status.details()).ok().filter(|s| !s.details.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, message and detail name of each kind of error; a new kind does not compile until it has a row in `row_of`, and
    /// belongs here too.
    #[test]
    fn every_row() {
        let text = || "text".to_string();
        let busy = ResourceExhaustedCause::BusyWorkflow;
        let started = Error::AlreadyStarted {
            message: text(),
            start_request_id: "q".into(),
            run_id: "r".into(),
            first_execution_run_id: "f".into(),
        };
        let failure = Box::new(Failure { message: "inner".into(), ..Failure::default() });
        let rows = [
            (Error::NotFound(text()), Code::NotFound, "NotFoundFailure"),
            (Error::InvalidArgument(text()), Code::InvalidArgument, ""),
            (Error::FailedPrecondition(text()), Code::FailedPrecondition, ""),
            (Error::WorkflowNotReady(text()), Code::FailedPrecondition, "WorkflowNotReadyFailure"),
            (started, Code::AlreadyExists, "WorkflowExecutionAlreadyStartedFailure"),
            (Error::NamespaceNotFound("n".into()), Code::NotFound, "NamespaceNotFoundFailure"),
            (Error::NamespaceAlreadyExists(text()), Code::AlreadyExists, "NamespaceAlreadyExistsFailure"),
            (
                Error::ResourceExhausted { cause: busy, message: text() },
                Code::ResourceExhausted,
                "ResourceExhaustedFailure",
            ),
            (Error::QueryFailed { message: text(), failure }, Code::InvalidArgument, "QueryFailedFailure"),
            (Error::Aborted(text()), Code::Aborted, ""),
            (Error::DeadlineExceeded(text()), Code::DeadlineExceeded, ""),
            (Error::Unavailable(text()), Code::Unavailable, ""),
            (Error::Moved, Code::Unavailable, ""),
            (Error::Unimplemented(text()), Code::Unimplemented, ""),
            (Error::Internal(text()), Code::Internal, ""),
        ];
        for (error, code, detail) in rows {
            let status = status_of(&error.clone().into());
            assert_eq!((status.code(), status.message()), (code, error.to_string().as_str()));
            let found = details_of(&status);
            let found = found.as_ref().map(|s| s.details[0].type_url.rsplit('.').next().unwrap_or_default());
            assert_eq!(found.unwrap_or_default(), detail, "{error:?}");
        }
    }

    #[test]
    fn exhaustion_names_cause_and_scope_in_details_and_headers() {
        let error = Error::ResourceExhausted { cause: ResourceExhaustedCause::BusyWorkflow, message: "closing".into() };
        let status = status_of(&error.into());
        assert_eq!(status.metadata().get(CAUSE_HEADER).unwrap(), "BusyWorkflow");
        assert_eq!(status.metadata().get(SCOPE_HEADER).unwrap(), "Namespace");
        let any = details_of(&status).unwrap().details.remove(0);
        let detail = details::ResourceExhaustedFailure::decode(any.value.as_slice()).unwrap();
        assert_eq!(detail.cause(), ResourceExhaustedCause::BusyWorkflow);
        assert_eq!(detail.scope(), ResourceExhaustedScope::Namespace);
    }

    #[test]
    fn a_namespace_in_a_wrong_state_says_which_would_do() {
        let refusal = Refusal::NamespaceInvalidState {
            namespace: "n".into(),
            state: NamespaceState::Deprecated,
            allowed: vec![NamespaceState::Registered],
        };
        let status = status_of(&refusal);
        assert_eq!(status.message(), "Namespace has invalid state: Deprecated. Must be Registered.");
        assert_eq!(status.code(), Code::FailedPrecondition);
    }

    #[test]
    fn several_operations_have_a_status_each_and_the_code_of_the_first_at_fault() {
        let refused = Operation::Refused(invalid("bad update"));
        let statuses = |operations: Vec<Operation>| {
            let status = status_of(&Refusal::MultiOperation(operations));
            let any = details_of(&status).unwrap().details.remove(0);
            assert!(any.type_url.ends_with(".MultiOperationExecutionFailure"));
            let detail = details::MultiOperationExecutionFailure::decode(any.value.as_slice()).unwrap();
            let each: Vec<_> = detail.statuses.iter().map(|one| (one.code, one.message.clone())).collect();
            (status.code(), each)
        };
        let (aborted, bad) = ((10, "Operation was aborted.".to_string()), (3, "bad update".to_string()));
        let (code, each) = statuses(vec![Operation::Aborted, refused.clone()]);
        assert_eq!((code, each), (Code::InvalidArgument, vec![aborted, bad.clone()]));
        let (code, each) = statuses(vec![Operation::Done, refused]);
        assert_eq!((code, each), (Code::InvalidArgument, vec![(0, String::new()), bad]));
    }

    #[test]
    fn a_feature_that_is_off_is_denied() {
        let status = status_of(&Refusal::PermissionDenied("not here".into()));
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not here"));
        assert!(details_of(&status).unwrap().details[0].type_url.ends_with(".PermissionDeniedFailure"));
    }
}
