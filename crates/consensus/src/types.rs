//! The types that openraft is instantiated with. Only the runtime and the reply vary; entries and ids are the same for all groups.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use mainstay_runtime::Runtime;
use openraft::impls::{BoxedErrorSource, InlineBatch, ProgressResponder, leader_id_adv};
use openraft::vote::RaftLeaderId;

use crate::install::Staged;
use crate::trace::Trace;

/// Who leads: a term and a node.
pub(crate) type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub(crate) type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type Payload = openraft::EntryPayload<Command, u64, Address>;
pub(crate) type LogEntry = openraft::Entry<CommittedLeaderId, Payload>;
pub(crate) type Membership = openraft::Membership<u64, Address>;
pub(crate) type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, Address>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, u64, Address>;
pub(crate) type Snapshot = openraft::Snapshot<CommittedLeaderId, u64, Address, Data>;

/// What a proposal carries, not understood here; and on the node that proposed it, its trace.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub Bytes, pub Trace);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a node's peers reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address(pub String);

/// What a snapshot holds besides its mark.
#[derive(Debug)]
pub(crate) enum Data {
    /// Nothing: it is this node's own, and its rows are read when they are sent.
    Own,
    /// Rows that arrived from another replica and lie beside the state.
    Staged(Staged),
}

/// openraft's type configuration for a runtime and a reply.
pub(crate) struct Types<Rt, P>(PhantomData<fn() -> (Rt, P)>);

impl<Rt: Runtime, P: Send + Sync + 'static> openraft::RaftTypeConfig for Types<Rt, P> {
    type D = Command;
    type R = Option<P>;
    type NodeId = u64;
    type Node = Address;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = LogEntry;
    type AsyncRuntime = Rt;
    type Responder<T>
        = ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

// By hand, since derives would ask the same of the parameters. All values are equal: there is only one.
impl<Rt, P> Clone for Types<Rt, P> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Rt, P> Copy for Types<Rt, P> {}
impl<Rt, P> Default for Types<Rt, P> {
    fn default() -> Self {
        Self(PhantomData)
    }
}
impl<Rt, P> fmt::Debug for Types<Rt, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<Rt, P> PartialEq for Types<Rt, P> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<Rt, P> Eq for Types<Rt, P> {}
impl<Rt, P> PartialOrd for Types<Rt, P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<Rt, P> Ord for Types<Rt, P> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
