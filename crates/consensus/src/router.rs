//! Peers' Raft calls to this node, brought to the group that they concern.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::clock::Lost;
use crate::peer::{Answer, Handler};
use crate::quiet::{self, Offer};
use crate::rpc::{self, Method};

/// A group as peers see it.
pub(crate) trait Replica: Send + Sync {
    /// Answers a call of node `from`.
    fn handle(&self, from: u64, method: Method, body: Bytes) -> Answer;

    /// The offer to be quiet that is to be made now, and the members to make it to, if there is one.
    fn offer(&self) -> Option<(Offer, Vec<u64>)>;

    /// Whether all members agreed to it.
    fn settle(&self, offer: Offer, agreed: bool);

    /// Another node's offer: whether this replica agrees.
    fn hear(&self, from: u64, offer: Offer) -> bool;

    /// Wakes if what was agreed does not hold any more.
    fn suspect(&self);

    /// The node's clock passes: does what is due here. Whether the replica is awake and the clock must go on.
    fn look(&self, lost: &[Lost]) -> bool;
}

/// The groups of a node that take calls.
#[derive(Default)]
pub(crate) struct Router(Mutex<BTreeMap<u32, Arc<dyn Replica>>>);

impl Router {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<dyn Replica>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on calls reach the group.
    pub fn open(&self, group: u32, replica: Arc<dyn Replica>) {
        self.lock().insert(group, replica);
    }

    /// All of them.
    pub fn replicas(&self) -> Vec<Arc<dyn Replica>> {
        self.lock().values().cloned().collect()
    }

    pub fn replica(&self, group: u32) -> Option<Arc<dyn Replica>> {
        self.lock().get(&group).cloned()
    }

    /// From now on they do not.
    pub fn close(&self, group: u32) {
        self.lock().remove(&group);
    }
}

/// A refusal.
pub(crate) fn refused(reason: impl Into<String>) -> Answer {
    let reason = reason.into();
    Box::pin(async move { Err(reason) })
}

impl Handler for Router {
    fn handle(&self, from: u64, body: Bytes) -> Answer {
        match rpc::read_head(body) {
            Ok((_, Method::Quiet, body)) => {
                let answer = quiet::hear(self, from, body).map_err(|error| error.to_string());
                Box::pin(async move { answer })
            }
            Ok((group, method, body)) => match self.replica(group) {
                Some(replica) => replica.handle(from, method, body),
                None => refused(format!("there is no replica of group {group} here")),
            },
            Err(error) => refused(error.to_string()),
        }
    }
}
