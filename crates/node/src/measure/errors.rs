//! Which kind an error is, in the words of Temporal's metrics.

use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_engine::Error;

/// A kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorKind {
    /// The value of the label `error_type`.
    pub name: &'static str,
    /// The counter of this kind alone, if there is one. Kinds that the server is to blame for count as `service_errors`.
    pub counter: Option<&'static str>,
    /// Why a resource is exhausted.
    pub cause: Option<&'static str>,
}

/// What the server is to blame for.
pub(crate) const FAULT: &str = "service_errors";

const fn kind(name: &'static str, counter: Option<&'static str>) -> ErrorKind {
    ErrorKind { name, counter, cause: None }
}

impl ErrorKind {
    /// The caller's time was up.
    pub const DEADLINE: Self = kind("context_DeadlineExceeded", Some("service_errors_context_timeout"));
    /// The caller went away.
    pub const CANCELED: Self = kind("context_Canceled", Some("service_errors_context_canceled"));
    /// A feature that is switched off.
    pub const PERMISSION: Self = kind("serviceerror_PermissionDenied", Some("service_errors_unauthorized"));
    /// A namespace in a state that does not allow it.
    pub const NAMESPACE_STATE: Self = kind("serviceerror_NamespaceInvalidState", None);
    /// One of several operations was refused.
    pub const MULTI: Self = kind("serviceerror_MultiOperationExecution", None);
    const NOT_FOUND: Self = kind("serviceerror_NotFound", Some("service_errors_entity_not_found"));
    const INVALID: Self = kind("serviceerror_InvalidArgument", Some("service_errors_invalid_argument"));
    const STARTED: Self =
        kind("serviceerror_WorkflowExecutionAlreadyStarted", Some("service_errors_execution_already_started"));
}

/// The kind of an error.
#[must_use]
pub fn kind_of(error: &Error) -> ErrorKind {
    match error {
        Error::NotFound(_) => ErrorKind::NOT_FOUND,
        Error::NamespaceNotFound(_) => ErrorKind { name: "serviceerror_NamespaceNotFound", ..ErrorKind::NOT_FOUND },
        Error::InvalidArgument(_) => ErrorKind::INVALID,
        Error::FailedPrecondition(_) => kind("serviceerror_FailedPrecondition", None),
        Error::WorkflowNotReady(_) => kind("serviceerror_WorkflowNotReady", None),
        Error::AlreadyStarted { .. } => ErrorKind::STARTED,
        Error::NamespaceAlreadyExists(_) => kind("serviceerror_NamespaceAlreadyExists", None),
        Error::ResourceExhausted { cause, .. } => ErrorKind {
            name: "serviceerror_ResourceExhausted",
            counter: Some("service_errors_resource_exhausted"),
            cause: Some(cause_name(*cause)),
        },
        Error::QueryFailed { .. } => kind("serviceerror_QueryFailed", None),
        Error::DeadlineExceeded(_) => ErrorKind::DEADLINE,
        Error::Unavailable(_) | Error::Moved => kind("serviceerror_Unavailable", Some(FAULT)),
        Error::Aborted(_) => kind("serviceerror_Aborted", None),
        Error::Unimplemented(_) => kind("serviceerror_Unimplemented", None),
        Error::Internal(_) => kind("serviceerror_Internal", Some(FAULT)),
    }
}

fn cause_name(cause: ResourceExhaustedCause) -> &'static str {
    match cause {
        ResourceExhaustedCause::RpsLimit => "RpsLimit",
        ResourceExhaustedCause::ConcurrentLimit => "ConcurrentLimit",
        ResourceExhaustedCause::SystemOverloaded => "SystemOverloaded",
        ResourceExhaustedCause::PersistenceLimit => "PersistenceLimit",
        ResourceExhaustedCause::BusyWorkflow => "BusyWorkflow",
        ResourceExhaustedCause::PersistenceStorageLimit => "PersistenceStorageLimit",
        _ => "Other",
    }
}
