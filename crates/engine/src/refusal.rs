//! A refusal as a message, for whoever stores it or sends it on. Nothing that a client may see of it is lost.

use mainstay_api::log::{Outcome, Refusal, Reply, outcome, refusal::Kind};
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;

use prost::Message;

use crate::Error;

/// Of `Outcome.reply`.
const REPLY_TAG: u32 = 1;

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let of = |kind: Kind, message: String| Self { kind: kind as i32, message, ..Self::default() };
        match error {
            Error::NotFound(text) => of(Kind::NotFound, text),
            Error::InvalidArgument(text) => of(Kind::InvalidArgument, text),
            Error::FailedPrecondition(text) => of(Kind::FailedPrecondition, text),
            Error::WorkflowNotReady(text) => of(Kind::WorkflowNotReady, text),
            Error::AlreadyStarted { message, start_request_id, run_id, first_execution_run_id } => {
                Self { start_request_id, run_id, first_execution_run_id, ..of(Kind::AlreadyStarted, message) }
            }
            Error::NamespaceNotFound(name) => of(Kind::NamespaceNotFound, name),
            Error::NamespaceAlreadyExists(text) => of(Kind::NamespaceAlreadyExists, text),
            Error::ResourceExhausted { cause, message } => {
                Self { cause: cause as i32, ..of(Kind::ResourceExhausted, message) }
            }
            Error::QueryFailed { message, failure } => {
                Self { failure: Some(*failure), ..of(Kind::QueryFailed, message) }
            }
            Error::Aborted(text) => of(Kind::Aborted, text),
            Error::DeadlineExceeded(text) => of(Kind::DeadlineExceeded, text),
            Error::Unavailable(text) => of(Kind::Unavailable, text),
            // Nobody stores or sends it as a refusal; if so, it is what a client would be told.
            Error::Moved => of(Kind::Unavailable, Error::Moved.to_string()),
            Error::Unimplemented(text) => of(Kind::Unimplemented, text),
            Error::Internal(text) => of(Kind::Internal, text),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let kind = refusal.kind();
        let Refusal { message, cause, start_request_id, run_id, first_execution_run_id, failure, .. } = refusal;
        match kind {
            Kind::NotFound => Self::NotFound(message),
            Kind::InvalidArgument => Self::InvalidArgument(message),
            Kind::FailedPrecondition => Self::FailedPrecondition(message),
            Kind::WorkflowNotReady => Self::WorkflowNotReady(message),
            Kind::AlreadyStarted => Self::AlreadyStarted { message, start_request_id, run_id, first_execution_run_id },
            Kind::NamespaceNotFound => Self::NamespaceNotFound(message),
            Kind::NamespaceAlreadyExists => Self::NamespaceAlreadyExists(message),
            Kind::ResourceExhausted => {
                let cause = ResourceExhaustedCause::try_from(cause).unwrap_or(ResourceExhaustedCause::Unspecified);
                Self::ResourceExhausted { cause, message }
            }
            Kind::QueryFailed => Self::QueryFailed { message, failure: Box::new(failure.unwrap_or_default()) },
            Kind::Aborted => Self::Aborted(message),
            Kind::DeadlineExceeded => Self::DeadlineExceeded(message),
            Kind::Unavailable => Self::Unavailable(message),
            Kind::Unimplemented => Self::Unimplemented(message),
            Kind::Internal | Kind::Unspecified => Self::Internal(message),
        }
    }
}

/// What came of a command, as an encoded [`Outcome`]: without copying the reply.
#[must_use]
pub fn encoded_outcome(result: &Result<Reply, Error>) -> Vec<u8> {
    let Ok(reply) = result else { return outcome_of(result.clone()).encode_to_vec() };
    let mut encoded = Vec::with_capacity(reply.encoded_len() + 4);
    prost::encoding::message::encode(REPLY_TAG, reply, &mut encoded);
    encoded
}

/// What came of a command, as a message.
#[must_use]
pub fn outcome_of(result: Result<Reply, Error>) -> Outcome {
    let outcome = match result {
        Ok(reply) => outcome::Outcome::Reply(reply),
        Err(error) => outcome::Outcome::Refusal(error.into()),
    };
    Outcome { outcome: Some(outcome) }
}

/// What such a message says.
///
/// # Errors
/// The refusal, if it is one.
pub fn result_of(outcome: Outcome) -> Result<Reply, Error> {
    match outcome.outcome {
        Some(outcome::Outcome::Reply(reply)) => Ok(reply),
        Some(outcome::Outcome::Refusal(refusal)) => Err(refusal.into()),
        None => Err(Error::Internal("an outcome of a newer version".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_api::temporal::failure::v1::Failure;

    #[test]
    fn nothing_of_a_refusal_is_lost() {
        let text = || "t".to_string();
        let failure = Box::new(Failure { message: "f".into(), ..Failure::default() });
        let errors = [
            Error::NotFound(text()),
            Error::InvalidArgument(text()),
            Error::FailedPrecondition(text()),
            Error::WorkflowNotReady(text()),
            Error::AlreadyStarted {
                message: text(),
                start_request_id: "a".into(),
                run_id: "b".into(),
                first_execution_run_id: "c".into(),
            },
            Error::NamespaceNotFound(text()),
            Error::NamespaceAlreadyExists(text()),
            Error::ResourceExhausted { cause: ResourceExhaustedCause::BusyWorkflow, message: text() },
            Error::QueryFailed { message: text(), failure },
            Error::Aborted(text()),
            Error::DeadlineExceeded(text()),
            Error::Unavailable(text()),
            Error::Unimplemented(text()),
            Error::Internal(text()),
        ];
        for error in errors {
            assert_eq!(encoded_outcome(&Err(error.clone())), outcome_of(Err(error.clone())).encode_to_vec());
            assert_eq!(result_of(outcome_of(Err(error.clone()))), Err(error));
        }
    }

    #[test]
    fn an_outcome_is_encoded_as_its_message() {
        let reply = crate::empty();
        assert_eq!(encoded_outcome(&Ok(reply.clone())), outcome_of(Ok(reply)).encode_to_vec());
    }
}
