//! The wire form of Raft's calls between replicas of a group, and of their answers.
//!
//! A call is a version byte, a method byte, the group's number, and the method's fields in order; integers are big-endian and of
//! fixed width, log ids, votes and entries are as they are stored. A message is read whole or not at all.

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_runtime::Runtime;
use mainstay_storage::StorageError;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};

use crate::codec::{self, Input};
use crate::types::{LogEntry, LogId, Types, Vote};

const VERSION: u8 = 1;

/// Which call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Append,
    Vote,
    PreVote,
    TransferLeader,
    SnapshotBegin,
    SnapshotPart,
    SnapshotEnd,
    /// Concerns many groups.
    Quiet,
    /// A fenced replica asks the leader for its state.
    SendState,
    /// The leader asks for the digest of the rows at a checkpoint.
    Digest,
    /// The leader tells what most replicas have there.
    Doubt,
}

const METHODS: [Method; 11] = [
    Method::Append,
    Method::Vote,
    Method::PreVote,
    Method::TransferLeader,
    Method::SnapshotBegin,
    Method::SnapshotPart,
    Method::SnapshotEnd,
    Method::Quiet,
    Method::SendState,
    Method::Digest,
    Method::Doubt,
];

/// Begins a call.
pub(crate) fn head(group: u32, method: Method, capacity: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(6 + capacity);
    out.put_u8(VERSION);
    out.put_u8(METHODS.iter().position(|known| *known == method).unwrap_or_default() as u8);
    out.put_u32(group);
    out
}

/// The group, the method and its fields.
pub(crate) fn read_head(call: Bytes) -> Result<(u32, Method, Bytes), StorageError> {
    let mut input = Input::raw(call, "call");
    let version = input.u8()?;
    if version != VERSION {
        return Err(input.corrupt(&format!("version {version}, not {VERSION}")));
    }
    let method = input.u8()?;
    let Some(method) = METHODS.get(usize::from(method)).copied() else {
        return Err(input.corrupt(&format!("unknown method {method}")));
    };
    let group = input.u32()?;
    Ok((group, method, input.rest()))
}

/// Entries to append, as they travel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Append {
    pub vote: Vote,
    pub prev: Option<LogId>,
    pub commit: Option<LogId>,
    pub entries: Vec<LogEntry>,
}

impl Append {
    pub fn encode(&self, group: u32) -> Bytes {
        let size: usize = self.entries.iter().map(crate::tail::size).sum();
        let mut out = head(group, Method::Append, 96 + size);
        codec::put_vote(&mut out, &self.vote);
        codec::put_optional_log_id(&mut out, self.prev.as_ref());
        codec::put_optional_log_id(&mut out, self.commit.as_ref());
        out.put_u32(codec::length(self.entries.len()));
        for entry in &self.entries {
            let at = out.len();
            out.put_u32(0);
            codec::put_entry(&mut out, entry);
            let length = codec::length(out.len() - at - 4);
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        out.freeze()
    }

    pub fn decode(body: Bytes) -> Result<Self, StorageError> {
        let mut input = Input::raw(body, "append call");
        let vote = input.vote()?;
        let (prev, commit) = (input.optional_log_id()?, input.optional_log_id()?);
        let count = input.count(4)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let entry = input.sized()?;
            entries.push(codec::read_entry(entry)?);
        }
        input.end()?;
        Ok(Self { vote, prev, commit, entries })
    }
}

impl<R: Runtime, P: Send + Sync + 'static> From<AppendEntriesRequest<Types<R, P>>> for Append {
    fn from(request: AppendEntriesRequest<Types<R, P>>) -> Self {
        let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
        Self { vote, prev: prev_log_id, commit: leader_commit, entries }
    }
}

impl<R: Runtime, P: Send + Sync + 'static> From<Append> for AppendEntriesRequest<Types<R, P>> {
    fn from(append: Append) -> Self {
        let Append { vote, prev, commit, entries } = append;
        Self { vote, prev_log_id: prev, entries, leader_commit: commit }
    }
}

const DONE: u8 = 0;
const CONFLICT: u8 = 1;
const HIGHER_VOTE: u8 = 2;

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// The entries are durable there.
    Done,
    /// The entry before them is not there.
    Conflict,
    /// Somebody else was voted for.
    HigherVote(Vote),
}

impl Appended {
    pub fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(18);
        match self {
            Self::Done => out.put_u8(DONE),
            Self::Conflict => out.put_u8(CONFLICT),
            Self::HigherVote(vote) => {
                out.put_u8(HIGHER_VOTE);
                codec::put_vote(&mut out, &vote);
            }
        }
        out.freeze()
    }

    pub fn decode(answer: Bytes) -> Result<Self, StorageError> {
        let mut input = Input::raw(answer, "append answer");
        let found = match input.u8()? {
            DONE => Self::Done,
            CONFLICT => Self::Conflict,
            HIGHER_VOTE => Self::HigherVote(input.vote()?),
            other => return Err(input.corrupt(&format!("unknown outcome {other}"))),
        };
        input.end()?;
        Ok(found)
    }
}

pub(crate) fn vote<R: Runtime, P: Send + Sync + 'static>(
    group: u32,
    method: Method,
    request: &VoteRequest<Types<R, P>>,
) -> Bytes {
    let mut out = head(group, method, 48);
    codec::put_vote(&mut out, &request.vote);
    codec::put_optional_log_id(&mut out, request.last_log_id.as_ref());
    out.put_u8(request.leadership_transfer.into());
    out.freeze()
}

pub(crate) fn read_vote<R: Runtime, P: Send + Sync + 'static>(
    body: Bytes,
) -> Result<VoteRequest<Types<R, P>>, StorageError> {
    let mut input = Input::raw(body, "vote call");
    let mut request = VoteRequest::new(input.vote()?, input.optional_log_id()?);
    request.leadership_transfer = input.flag()?;
    input.end()?;
    Ok(request)
}

pub(crate) fn vote_answer<R: Runtime, P: Send + Sync + 'static>(answer: &VoteResponse<Types<R, P>>) -> Bytes {
    let mut out = BytesMut::with_capacity(48);
    codec::put_vote(&mut out, &answer.vote);
    out.put_u8(answer.vote_granted.into());
    codec::put_optional_log_id(&mut out, answer.last_log_id.as_ref());
    out.freeze()
}

pub(crate) fn read_vote_answer<R: Runtime, P: Send + Sync + 'static>(
    answer: Bytes,
) -> Result<VoteResponse<Types<R, P>>, StorageError> {
    let mut input = Input::raw(answer, "vote answer");
    let (vote, granted) = (input.vote()?, input.flag()?);
    let last_log_id = input.optional_log_id()?;
    input.end()?;
    Ok(VoteResponse { vote, vote_granted: granted, last_log_id })
}

/// The answer of a node that takes over.
pub(crate) const TRANSFER_BEGUN: u8 = 0;
/// The answer of one that does not.
pub(crate) const TRANSFER_REFUSED: u8 = 1;

pub(crate) fn transfer<R: Runtime, P: Send + Sync + 'static>(
    group: u32,
    request: &TransferLeaderRequest<Types<R, P>>,
) -> Bytes {
    let mut out = head(group, Method::TransferLeader, 56);
    codec::put_vote(&mut out, request.from_leader());
    out.put_u64(*request.to_node_id());
    codec::put_optional_log_id(&mut out, request.last_log_id());
    out.freeze()
}

pub(crate) fn read_transfer<R: Runtime, P: Send + Sync + 'static>(
    body: Bytes,
) -> Result<TransferLeaderRequest<Types<R, P>>, StorageError> {
    let mut input = Input::raw(body, "transfer call");
    let (from, to) = (input.vote()?, input.u64()?);
    let request = TransferLeaderRequest::new(from, to, input.optional_log_id()?);
    input.end()?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Command, LeaderId, Payload};

    type C = Types<mainstay_runtime_tokio::TokioRuntime, ()>;

    fn leaders() -> impl Strategy<Value = LeaderId> {
        (any::<u64>(), any::<u64>()).prop_map(|(term, node_id)| LeaderId { term, node_id })
    }

    fn log_ids() -> impl Strategy<Value = LogId> {
        (leaders(), any::<u64>()).prop_map(|(leader_id, index)| LogId { leader_id, index })
    }

    fn votes() -> impl Strategy<Value = Vote> {
        (leaders(), any::<bool>()).prop_map(|(leader_id, committed)| Vote { leader_id, committed })
    }

    fn entries() -> impl Strategy<Value = LogEntry> {
        (log_ids(), vec(any::<u8>(), 0..50)).prop_map(|(log_id, data)| {
            let payload = if data.is_empty() {
                Payload::Blank
            } else {
                Payload::Normal(Command(data.into(), Default::default()))
            };
            LogEntry { log_id, payload }
        })
    }

    proptest! {
        #[test]
        fn calls_and_answers_come_back(
            vote in votes(), prev in prop::option::of(log_ids()), commit in prop::option::of(log_ids()),
            entries in vec(entries(), 0..5), group: u32, flag: bool, to: u64,
        ) {
            let append = Append { vote, prev, commit, entries };
            let (found, method, body) = read_head(append.encode(group)).expect("is a call");
            prop_assert_eq!((found, method), (group, Method::Append));
            prop_assert_eq!(Append::decode(body), Ok(append));
            for answer in [Appended::Done, Appended::Conflict, Appended::HigherVote(vote)] {
                prop_assert_eq!(Appended::decode(answer.encode()), Ok(answer));
            }
            let request = VoteRequest::<C> { vote, last_log_id: prev, leadership_transfer: flag };
            let (_, method, body) = read_head(super::vote(group, Method::PreVote, &request)).expect("is a call");
            prop_assert_eq!(method, Method::PreVote);
            prop_assert_eq!(read_vote::<_, ()>(body), Ok(request));
            let answer = VoteResponse::<C> { vote, vote_granted: flag, last_log_id: prev };
            prop_assert_eq!(read_vote_answer::<_, ()>(vote_answer(&answer)), Ok(answer));
            let request = TransferLeaderRequest::<C>::new(vote, to, prev);
            let (_, _, body) = read_head(transfer(group, &request)).expect("is a call");
            let found = read_transfer::<mainstay_runtime_tokio::TokioRuntime, ()>(body).expect("is a call");
            prop_assert_eq!((found.from_leader(), found.to_node_id(), found.last_log_id()), (&vote, &to, prev.as_ref()));
        }

        #[test]
        fn garbage_is_refused_and_never_panics(garbage in vec(any::<u8>(), 0..120)) {
            let bytes = Bytes::from(garbage);
            let _ = read_head(bytes.clone());
            let _ = Append::decode(bytes.clone());
            let _ = Appended::decode(bytes.clone());
            let _ = read_vote::<mainstay_runtime_tokio::TokioRuntime, ()>(bytes.clone());
            let _ = read_vote_answer::<mainstay_runtime_tokio::TokioRuntime, ()>(bytes.clone());
            let _ = read_transfer::<mainstay_runtime_tokio::TokioRuntime, ()>(bytes);
        }
    }
}
