//! Why a group could not do what it was asked.
//!
//! What the disk did wrong never comes back from a running group: the node stops instead. It is answered only while a group starts,
//! so that the caller can say what is wrong and refuse to serve.

use mainstay_storage::StorageError;

/// A group's refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another node leads, or nobody knows who does. Nothing was proposed.
    #[error("not the leader of the group{}", leader.map(|id| format!("; node {id} is")).unwrap_or_default())]
    NotLeader {
        /// The leader, if known.
        leader: Option<u64>,
    },
    /// Leadership changed after the entry was appended: it may or may not have happened.
    #[error("leadership changed; whether the entry was committed is not known")]
    Unknown,
    /// Too much is under way. Nothing was proposed.
    #[error("too many proposals are under way ({pending} of at most {limit})")]
    Busy {
        /// Proposals, or bytes of them, under way.
        pending: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A majority of the voters does not answer: nothing can be confirmed. Nothing was proposed.
    #[error("a majority of the group's voters does not answer")]
    NoQuorum,
    /// A change of the group's members, or of its leader, that cannot be made now.
    #[error("the group cannot be changed so: {0}")]
    Members(String),
    /// A proposal that is larger than what fits into a message. Nothing was proposed.
    #[error("a proposal of {bytes} bytes, where at most {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
    /// The group was stopped.
    #[error("the group was stopped")]
    Stopped,
    /// What is stored does not allow the group to start.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Settings that contradict each other.
    #[error("bad settings: {0}")]
    Settings(String),
}
