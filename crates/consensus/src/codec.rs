//! The stored form of entries, votes, log ids and marks.
//!
//! Each value begins with a version byte; integers are big-endian and of fixed width. A value is read whole or not at all: what is
//! too short, too long or of an unknown version or kind is corrupt. Checksums are the store's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use mainstay_storage::StorageError;

use crate::trace::Trace;
use crate::types::{Address, Command, LeaderId, LogEntry, LogId, Membership, Payload, StoredMembership, Vote};

const VERSION: u8 = 1;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// How far a machine got: the last entry applied and the members as of then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
}

pub(crate) fn entry(entry: &LogEntry) -> Bytes {
    let data = if let Payload::Normal(command) = &entry.payload { command.0.len() } else { 0 };
    let mut out = BytesMut::with_capacity(26 + data);
    put_entry(&mut out, entry);
    out.freeze()
}

/// An entry in its stored form.
pub(crate) fn put_entry(out: &mut BytesMut, entry: &LogEntry) {
    out.put_u8(VERSION);
    put_log_id(out, &entry.log_id);
    match &entry.payload {
        Payload::Blank => out.put_u8(BLANK),
        Payload::Normal(command) => {
            out.put_u8(NORMAL);
            out.put_slice(&command.0);
        }
        Payload::Membership(membership) => {
            out.put_u8(MEMBERSHIP);
            put_membership(out, membership);
        }
    }
}

pub(crate) fn read_entry(stored: Bytes) -> Result<LogEntry, StorageError> {
    let mut input = Input::new(stored, "log entry")?;
    let log_id = input.log_id()?;
    let payload = match input.u8()? {
        BLANK => Payload::Blank,
        NORMAL => Payload::Normal(Command(input.rest(), Trace::default())),
        MEMBERSHIP => Payload::Membership(input.membership()?),
        kind => return Err(input.corrupt(&format!("unknown kind {kind}"))),
    };
    input.end()?;
    Ok(LogEntry { log_id, payload })
}

pub(crate) fn vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(18);
    out.put_u8(VERSION);
    put_vote(&mut out, vote);
    out.freeze()
}

pub(crate) fn read_vote(stored: Bytes) -> Result<Vote, StorageError> {
    let mut input = Input::new(stored, "vote")?;
    let vote = input.vote()?;
    input.end()?;
    Ok(vote)
}

pub(crate) fn log_id(log_id: &LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(25);
    out.put_u8(VERSION);
    put_log_id(&mut out, log_id);
    out.freeze()
}

pub(crate) fn read_log_id(stored: Bytes) -> Result<LogId, StorageError> {
    let mut input = Input::new(stored, "log id")?;
    let log_id = input.log_id()?;
    input.end()?;
    Ok(log_id)
}

pub(crate) fn mark(mark: &Mark) -> Bytes {
    let mut out = BytesMut::with_capacity(96);
    out.put_u8(VERSION);
    put_optional_log_id(&mut out, mark.applied.as_ref());
    put_optional_log_id(&mut out, mark.membership.log_id().as_ref());
    put_membership(&mut out, mark.membership.membership());
    out.freeze()
}

pub(crate) fn read_mark(stored: Bytes) -> Result<Mark, StorageError> {
    let mut input = Input::new(stored, "mark")?;
    let applied = input.optional_log_id()?;
    let members_at = input.optional_log_id()?;
    let membership = StoredMembership::new(members_at, input.membership()?);
    input.end()?;
    Ok(Mark { applied, membership })
}

/// A vote without a version of its own.
pub(crate) fn put_vote(out: &mut BytesMut, vote: &Vote) {
    put_leader(out, &vote.leader_id);
    out.put_u8(vote.committed.into());
}

fn put_leader(out: &mut BytesMut, leader: &LeaderId) {
    out.put_u64(leader.term);
    out.put_u64(leader.node_id);
}

fn put_log_id(out: &mut BytesMut, log_id: &LogId) {
    put_leader(out, &log_id.leader_id);
    out.put_u64(log_id.index);
}

/// A log id, or that there is none.
pub(crate) fn put_optional_log_id(out: &mut BytesMut, log_id: Option<&LogId>) {
    out.put_u8(log_id.is_some().into());
    if let Some(log_id) = log_id {
        put_log_id(out, log_id);
    }
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u32(length(configs.len()));
    for voters in configs {
        out.put_u32(length(voters.len()));
        voters.iter().for_each(|id| out.put_u64(*id));
    }
    let nodes: Vec<_> = membership.nodes().collect();
    out.put_u32(length(nodes.len()));
    for (id, Address(address)) in nodes {
        out.put_u64(*id);
        out.put_u32(length(address.len()));
        out.put_slice(address.as_bytes());
    }
}

/// Lengths of lists and of what is in them, which are nowhere near the limit.
pub(crate) fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// What is left of a stored value, or of a message.
pub(crate) struct Input {
    rest: Bytes,
    what: &'static str,
}

impl Input {
    /// Something that does not begin with the version of stored values.
    pub fn raw(rest: Bytes, what: &'static str) -> Self {
        Self { rest, what }
    }

    fn new(stored: Bytes, what: &'static str) -> Result<Self, StorageError> {
        let mut input = Self::raw(stored, what);
        match input.u8()? {
            VERSION => Ok(input),
            version => Err(input.corrupt(&format!("unknown version {version}"))),
        }
    }

    pub fn corrupt(&self, why: &str) -> StorageError {
        StorageError::Corrupt(format!("{}: {why}", self.what))
    }

    fn need(&self, bytes: usize) -> Result<(), StorageError> {
        if self.rest.len() < bytes { Err(self.corrupt("too short")) } else { Ok(()) }
    }

    pub fn u8(&mut self) -> Result<u8, StorageError> {
        self.need(1)?;
        Ok(self.rest.get_u8())
    }

    pub fn u32(&mut self) -> Result<u32, StorageError> {
        self.need(4)?;
        Ok(self.rest.get_u32())
    }

    pub fn u64(&mut self) -> Result<u64, StorageError> {
        self.need(8)?;
        Ok(self.rest.get_u64())
    }

    /// A number of things that take at least so many bytes each.
    pub fn count(&mut self, each: usize) -> Result<usize, StorageError> {
        self.need(4)?;
        let count = self.rest.get_u32() as usize;
        self.need(count.saturating_mul(each))?;
        Ok(count)
    }

    pub fn flag(&mut self) -> Result<bool, StorageError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.corrupt(&format!("{other} is neither yes nor no"))),
        }
    }

    pub fn vote(&mut self) -> Result<Vote, StorageError> {
        Ok(Vote { leader_id: self.leader()?, committed: self.flag()? })
    }

    /// Bytes with their length before them.
    pub fn sized(&mut self) -> Result<Bytes, StorageError> {
        let length = self.count(1)?;
        Ok(self.rest.split_to(length))
    }

    fn leader(&mut self) -> Result<LeaderId, StorageError> {
        Ok(LeaderId { term: self.u64()?, node_id: self.u64()? })
    }

    fn log_id(&mut self) -> Result<LogId, StorageError> {
        Ok(LogId { leader_id: self.leader()?, index: self.u64()? })
    }

    pub fn optional_log_id(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(if self.flag()? { Some(self.log_id()?) } else { None })
    }

    fn membership(&mut self) -> Result<Membership, StorageError> {
        let mut configs = Vec::new();
        for _ in 0..self.count(4)? {
            let voters = self.count(8)?;
            configs.push((0..voters).map(|_| self.u64()).collect::<Result<BTreeSet<_>, _>>()?);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.count(12)? {
            let id = self.u64()?;
            let length = self.count(1)?;
            let address = String::from_utf8(self.rest.split_to(length).to_vec());
            nodes.insert(id, Address(address.map_err(|_| self.corrupt("an address is not text"))?));
        }
        Membership::new(configs, nodes).map_err(|error| self.corrupt(&error.to_string()))
    }

    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.rest)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn end(&self) -> Result<(), StorageError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("too long")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn log_ids() -> impl Strategy<Value = LogId> {
        (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(term, node_id, index)| LogId { leader_id: LeaderId { term, node_id }, index })
    }

    fn memberships() -> impl Strategy<Value = Membership> {
        let voters = vec(btree_set(0..20_u64, 1..4), 0..3);
        (voters, btree_set(0..30_u64, 0..4), "\\PC{0,12}").prop_map(|(configs, learners, address)| {
            let all = configs.iter().flatten().copied().chain(learners);
            let nodes: BTreeMap<_, _> = all.map(|id| (id, Address(address.clone()))).collect();
            Membership::new(configs, nodes).expect("every voter has an address")
        })
    }

    fn payloads() -> impl Strategy<Value = Payload> {
        prop_oneof![
            Just(Payload::Blank),
            vec(any::<u8>(), 0..40).prop_map(|data| Payload::Normal(Command(data.into(), Trace::default()))),
            memberships().prop_map(Payload::Membership),
        ]
    }

    fn marks() -> impl Strategy<Value = Mark> {
        (prop::option::of(log_ids()), prop::option::of(log_ids()), memberships()).prop_map(
            |(applied, members_at, membership)| Mark {
                applied,
                membership: StoredMembership::new(members_at, membership),
            },
        )
    }

    proptest! {
        #[test]
        fn all_forms_come_back(log_id in log_ids(), payload in payloads(), mark in marks(), committed: bool) {
            let written = LogEntry { log_id, payload };
            prop_assert_eq!(read_entry(entry(&written)), Ok(written));
            prop_assert_eq!(read_log_id(super::log_id(&log_id)), Ok(log_id));
            let vote = Vote { leader_id: log_id.leader_id, committed };
            prop_assert_eq!(read_vote(super::vote(&vote)), Ok(vote));
            prop_assert_eq!(read_mark(super::mark(&mark)), Ok(mark));
        }

        #[test]
        fn garbage_is_corrupt_and_never_panics(mut garbage in vec(any::<u8>(), 0..80)) {
            let check = |bytes: &[u8]| {
                let bytes = Bytes::copy_from_slice(bytes);
                // Whatever can be read is what was written.
                if let Ok(found) = read_entry(bytes.clone()) { assert_eq!(entry(&found), bytes) }
                if let Ok(found) = read_vote(bytes.clone()) { assert_eq!(vote(&found), bytes) }
                if let Ok(found) = read_log_id(bytes.clone()) { assert_eq!(log_id(&found), bytes) }
                let _ = read_mark(bytes);
            };
            check(&garbage);
            if let Some(first) = garbage.first_mut() { *first = VERSION }
            if let Some(kind) = garbage.get_mut(25) { *kind %= 4 }
            check(&garbage);
        }

        #[test]
        fn a_cut_or_lengthened_value_is_corrupt(mark in marks(), cut in 0..64_usize) {
            let whole = super::mark(&mark);
            let cut = cut.min(whole.len() - 1);
            prop_assert!(matches!(read_mark(whole.slice(..cut)), Err(StorageError::Corrupt(_))));
            let longer: Bytes = whole.iter().copied().chain([0]).collect();
            prop_assert!(matches!(read_mark(longer), Err(StorageError::Corrupt(_))));
        }
    }
}
