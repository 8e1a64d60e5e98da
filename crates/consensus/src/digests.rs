//! Replicas are compared: an entry without data is a *checkpoint*, at which each of them hashes its rows. The leader asks all for what
//! they got there; who differs from the majority is told so, and fences itself.
//!
//! Hashing reads all rows, so it also finds what the disk has damaged. It is for now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;
use openraft::errors::{ClientWriteError, RaftError};

use crate::codec::Input;
use crate::peer::RAFT_SERVICE;
use crate::rpc::{self, Method};
use crate::trace::Trace;
use crate::types::Command;
use crate::{Error, Group, Machine};

/// Digests that are remembered.
const KEPT: usize = 4;
const ASK_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether an entry with these data is a checkpoint.
pub(crate) fn is_checkpoint(data: &[u8]) -> bool {
    data.is_empty()
}

/// A replica's digests at the last checkpoints.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<BTreeMap<u64, u64>>);

impl Digests {
    pub fn add(&self, index: u64, digest: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(index, digest);
        while known.len() > KEPT {
            known.pop_first();
        }
    }

    pub fn at(&self, index: u64) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied()
    }
}

/// What a comparison of a group's replicas found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The checkpoint's index.
    pub index: u64,
    /// Nodes whose rows are those of the majority.
    pub agree: BTreeSet<u64>,
    /// Nodes whose rows are others. If there is no majority: all that answered.
    pub differ: BTreeSet<u64>,
    /// Nodes that did not answer in time.
    pub silent: BTreeSet<u64>,
}

/// What a majority of `members` has, if there is such.
fn majority(digests: &BTreeMap<u64, u64>, members: usize) -> Option<u64> {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    digests.values().for_each(|digest| *counts.entry(*digest).or_default() += 1);
    counts.into_iter().find(|(_, count)| 2 * count > members).map(|(digest, _)| digest)
}

pub(crate) fn question(group: u32, index: u64) -> Bytes {
    let mut out = rpc::head(group, Method::Digest, 8);
    out.put_u64(index);
    out.freeze()
}

pub(crate) fn read_question(body: Bytes) -> Result<u64, StorageError> {
    let mut input = Input::raw(body, "question for a digest");
    let index = input.u64()?;
    input.end()?;
    Ok(index)
}

fn doubt(group: u32, index: u64, digest: u64) -> Bytes {
    let mut out = rpc::head(group, Method::Doubt, 16);
    out.put_u64(index);
    out.put_u64(digest);
    out.freeze()
}

pub(crate) fn read_doubt(body: Bytes) -> Result<(u64, u64), StorageError> {
    let mut input = Input::raw(body, "doubt");
    let doubt = (input.u64()?, input.u64()?);
    input.end()?;
    Ok(doubt)
}

/// The sentence of a replica that differs.
pub(crate) fn differs(index: u64) -> String {
    format!("its rows at entry {index} are not those of the other replicas")
}

/// A digest, if there is one yet.
pub(crate) fn answer(digest: Option<u64>) -> Bytes {
    digest.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest.to_be_bytes()))
}

fn read_answer(answer: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(answer.try_into().ok()?))
}

impl<R: Runtime, M: Machine> Group<R, M> {
    /// As the leader: compares the rows of all replicas at one position of the log. Who differs from the majority fences itself, be it
    /// this node. Returns when all have answered, or after `within`.
    ///
    /// # Errors
    /// As [`Group::propose`]; [`Error::Unknown`] if the rows here could not be hashed in time.
    pub async fn compare(&self, within: Duration) -> Result<Comparison, Error> {
        let deadline = R::Instant::now() + within;
        let index = self.propose_checkpoint().await?;
        let members = self.members();
        let all: BTreeSet<u64> = members.voters.union(&members.learners).copied().collect();
        let digests = self.gather(index, &all, deadline).await;
        let most = majority(&digests, all.len());
        let mut found = Comparison { index, ..Comparison::default() };
        for node in all {
            match digests.get(&node) {
                None => drop(found.silent.insert(node)),
                Some(digest) if Some(*digest) == most => drop(found.agree.insert(node)),
                Some(_) => drop(found.differ.insert(node)),
            }
        }
        // A group of which one member answered alone has nothing to compare.
        if digests.len() <= 1 && most.is_none() {
            found.silent.append(&mut found.differ);
        }
        if let Some(most) = most {
            for node in found.differ.iter().copied() {
                self.tell(node, index, most).await;
            }
        }
        Ok(found)
    }

    async fn propose_checkpoint(&self) -> Result<u64, Error> {
        self.awake().await?;
        match self.0.raft.client_write(Command(Bytes::new(), Trace::default())).await {
            Ok(response) => Ok(response.log_id.index),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(Error::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(_)) => Err(Error::Unknown),
            Err(RaftError::Fatal(fatal)) => Err(self.fatal(fatal)),
        }
    }

    /// The digests of these nodes at a checkpoint, as far as they are there in time.
    async fn gather(&self, index: u64, nodes: &BTreeSet<u64>, deadline: R::Instant) -> BTreeMap<u64, u64> {
        let mut digests = BTreeMap::new();
        loop {
            for node in nodes {
                if digests.contains_key(node) {
                    continue;
                }
                let digest = if *node == self.0.node {
                    self.0.digests.at(index)
                } else if let Some(peers) = &self.0.peers {
                    let asked = peers.call(*node, RAFT_SERVICE, question(self.0.log.id(), index), ASK_WITHIN).await;
                    asked.ok().and_then(|answer| read_answer(&answer))
                } else {
                    None
                };
                digest.and_then(|digest| digests.insert(*node, digest));
            }
            let time_is_up = R::Instant::now() >= deadline;
            if digests.len() == nodes.len() || time_is_up || self.fenced().is_some() {
                return digests;
            }
            R::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells a node what most have.
    async fn tell(&self, node: u64, index: u64, most: u64) {
        if node == self.0.node {
            self.fence(&differs(index));
        } else if let Some(peers) = &self.0.peers {
            // If it does not arrive, the next comparison finds the same.
            let _told = peers.call(node, RAFT_SERVICE, doubt(self.0.log.id(), index, most), ASK_WITHIN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_majority_of_all_members_is_believed() {
        let digests = BTreeMap::from([(1, 5), (2, 5), (3, 6)]);
        assert_eq!(majority(&digests, 3), Some(5));
        assert_eq!(majority(&digests, 4), None);
        assert_eq!(majority(&BTreeMap::from([(1, 5), (2, 6)]), 3), None);
    }

    #[test]
    fn what_is_told_is_read() {
        let (group, method, body) = rpc::read_head(doubt(3, 7, 9)).expect("reads");
        assert_eq!((group, method), (3, Method::Doubt));
        assert_eq!(read_doubt(body), Ok((7, 9)));
        assert_eq!(read_answer(&answer(Some(4))), Some(4));
        assert_eq!(read_answer(&answer(None)), None);
    }
}
