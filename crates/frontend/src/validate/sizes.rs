//! Sizes of what clients store.

use mainstay_api::temporal::common::v1::{Link, Memo};
use mainstay_api::temporal::failure::v1::failure::FailureInfo;
use mainstay_api::temporal::failure::v1::{Failure, ServerFailureInfo};
use mainstay_base::limits::MEMO_SIZE_MAX;
use prost::Message;

use crate::status::{Answer, invalid};

/// Text of a blob over its limit, also used where the refusal is not a status.
pub(crate) const BLOB_TOO_LARGE: &str = "Blob data size exceeds limit.";
/// Bytes kept of the message of a failure that is too large.
const KEPT_MESSAGE_MAX: usize = 2 << 10;
const LINKS_MAX: usize = 10;
const LINK_SIZE_MAX: usize = 4_000;

/// How large payloads, headers and failures may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blobs(pub usize);

impl Blobs {
    /// Whether a blob is over the limit.
    pub fn is_too_large<M: Message>(self, value: Option<&M>) -> bool {
        value.is_some_and(|value| value.encoded_len() > self.0)
    }

    /// # Errors
    /// If a blob is over the limit.
    pub fn check<M: Message>(self, value: Option<&M>) -> Answer<()> {
        if self.is_too_large(value) { Err(invalid(BLOB_TOO_LARGE)) } else { Ok(()) }
    }
}

/// A memo.
pub(crate) fn memo(value: Option<&Memo>) -> Answer<()> {
    if value.is_some_and(|value| value.encoded_len() > MEMO_SIZE_MAX) {
        return Err(invalid("Memo size exceeds limit."));
    }
    Ok(())
}

/// Links, which each event repeats.
pub(crate) fn links(value: &[Link]) -> Answer<()> {
    if value.len() > LINKS_MAX {
        let text = format!("cannot attach more than {LINKS_MAX} links per request, got {}", value.len());
        return Err(invalid(text));
    }
    match value.iter().find(|link| link.encoded_len() > LINK_SIZE_MAX) {
        Some(link) => {
            let text = format!("link exceeds allowed size of {LINK_SIZE_MAX}, got {}", link.encoded_len());
            Err(invalid(text))
        }
        None => Ok(()),
    }
}

/// What people need of a failure that is too large to store: its message, shortened, and its kind.
pub(crate) fn without_details(mut failure: Failure) -> Failure {
    failure.stack_trace.clear();
    failure.encoded_attributes = None;
    failure.cause = None;
    if let Some(FailureInfo::ApplicationFailureInfo(info)) = &mut failure.failure_info {
        info.details = None;
    }
    let mut end = failure.message.len().min(KEPT_MESSAGE_MAX);
    while !failure.message.is_char_boundary(end) {
        end -= 1;
    }
    failure.message.truncate(end);
    failure
}

/// The server's own failure in place of something that it cannot store.
pub(crate) fn server_failure(message: &str, cause: Option<Failure>) -> Failure {
    let info = ServerFailureInfo { non_retryable: true };
    Failure {
        message: message.into(),
        cause: cause.map(Box::new),
        failure_info: Some(FailureInfo::ServerFailureInfo(info)),
        ..Failure::default()
    }
}
