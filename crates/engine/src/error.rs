//! Why a command was refused. The frontend's table maps each kind to a gRPC status and error detail; `refusal` has the form in which
//! a refusal is stored and sent between nodes.

/// A refusal that a client sees. Texts follow Temporal's, since SDKs match some of them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The workflow, run, task or activity does not exist, or is closed.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be right in any state.
    #[error("{0}")]
    InvalidArgument(String),
    /// The request does not fit the current state.
    #[error("{0}")]
    FailedPrecondition(String),
    /// A query or update must wait for the workflow's first good task.
    #[error("{0}")]
    WorkflowNotReady(String),
    /// A start met an existing run.
    #[error("{message}")]
    AlreadyStarted {
        /// Text for people.
        message: String,
        /// Request id that started the existing run.
        start_request_id: String,
        /// The existing run.
        run_id: String,
        /// First run of its chain.
        first_execution_run_id: String,
    },
    /// No such namespace.
    #[error("Namespace {0} is not found.")]
    NamespaceNotFound(String),
    /// Such a namespace exists already.
    #[error("{0}")]
    NamespaceAlreadyExists(String),
    /// A limit was met; the cause is Temporal's enum.
    #[error("{message}")]
    ResourceExhausted {
        /// `temporal.api.enums.v1.ResourceExhaustedCause`.
        cause: mainstay_api::temporal::enums::v1::ResourceExhaustedCause,
        /// Text for people.
        message: String,
    },
    /// The worker answered a query with a failure.
    #[error("{message}")]
    QueryFailed {
        /// Text of the failure.
        message: String,
        /// The failure itself.
        failure: Box<mainstay_api::temporal::failure::v1::Failure>,
    },
    /// Something else came between; the client should try again.
    #[error("{0}")]
    Aborted(String),
    /// The caller's time is up.
    #[error("{0}")]
    DeadlineExceeded(String),
    /// This shard cannot answer now; the client should try again.
    #[error("{0}")]
    Unavailable(String),
    /// This replica does not lead the shard, or not any more. A node's router asks the next one; no client sees it.
    #[error("the shard moved to another node; try again")]
    Moved,
    /// The answer would need something that is not built yet.
    #[error("{0}")]
    Unimplemented(String),
    /// A fault of the server itself.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A `NotFound`.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::NotFound(text.into())
    }

    /// An `InvalidArgument`.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::InvalidArgument(text.into())
    }
}
