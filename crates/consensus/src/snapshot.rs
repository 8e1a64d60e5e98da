//! A replica's whole state on its way to another node: rows in key order, in parts, out of a view that stays as it is.
//!
//! A snapshot is only a mark; its rows are read while they are sent, and so they are as of the moment of the view, at or after
//! the mark. The receiver keeps the parts beside the state ([`crate::install`]) and replaces the state when it has them all.
//! A transfer that breaks is begun again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::{StateView, StorageError};
use xxhash_rust::xxh3::Xxh3;

use crate::Machine;
use crate::applier::read_mark;
use crate::codec::{self, Input, Mark};
use crate::machine::StateRange;
use crate::peer::{PeerError, Peers, RAFT_SERVICE};
use crate::rpc::{self, Method};
use crate::types::Vote;

/// Bytes of rows in one part; a single row may be larger.
pub(crate) const PART_BYTES: usize = 1 << 20;
/// A part that is not answered in this time has failed, and the transfer with it.
const PART_WITHIN: Duration = Duration::from_secs(20);
/// The receiver installs all parts before it answers the last call.
const INSTALL_WITHIN: Duration = Duration::from_secs(600);

/// Begins a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    pub vote: Vote,
    /// Tells transfers apart.
    pub transfer: u64,
    /// How far the state got, as the machine keeps it.
    pub mark: Bytes,
}

/// Some rows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub transfer: u64,
    /// From 0, without a gap.
    pub number: u64,
    /// As [`put_row`] writes them.
    pub rows: Bytes,
}

/// Ends a transfer: what must have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub vote: Vote,
    pub transfer: u64,
    pub parts: u64,
    /// A hash of all rows in order.
    pub digest: u64,
}

impl Begin {
    pub fn encode(&self, group: u32) -> Bytes {
        let mut out = rpc::head(group, Method::SnapshotBegin, 32 + self.mark.len());
        codec::put_vote(&mut out, &self.vote);
        out.put_u64(self.transfer);
        out.put_slice(&self.mark);
        out.freeze()
    }

    pub fn decode(body: Bytes) -> Result<Self, StorageError> {
        let mut input = Input::raw(body, "beginning of a snapshot");
        Ok(Self { vote: input.vote()?, transfer: input.u64()?, mark: input.rest() })
    }
}

impl Part {
    pub fn encode(&self, group: u32) -> Bytes {
        let mut out = rpc::head(group, Method::SnapshotPart, 16 + self.rows.len());
        out.put_u64(self.transfer);
        out.put_u64(self.number);
        out.put_slice(&self.rows);
        out.freeze()
    }

    pub fn decode(body: Bytes) -> Result<Self, StorageError> {
        let mut input = Input::raw(body, "part of a snapshot");
        Ok(Self { transfer: input.u64()?, number: input.u64()?, rows: input.rest() })
    }
}

impl End {
    pub fn encode(&self, group: u32) -> Bytes {
        let mut out = rpc::head(group, Method::SnapshotEnd, 48);
        codec::put_vote(&mut out, &self.vote);
        out.put_u64(self.transfer);
        out.put_u64(self.parts);
        out.put_u64(self.digest);
        out.freeze()
    }

    pub fn decode(body: Bytes) -> Result<Self, StorageError> {
        let mut input = Input::raw(body, "end of a snapshot");
        let end = Self { vote: input.vote()?, transfer: input.u64()?, parts: input.u64()?, digest: input.u64()? };
        input.end()?;
        Ok(end)
    }
}

/// The answer to each of the calls: the vote that the receiver holds.
pub(crate) fn answer(vote: &Vote) -> Bytes {
    codec::vote(vote)
}

/// Adds a row to a part: its key and its value, each with its length before it.
pub(crate) fn put_row(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    out.put_u32(codec::length(key.len()));
    out.put_slice(key);
    out.put_u32(codec::length(value.len()));
    out.put_slice(value);
}

/// The rows of a part.
pub(crate) fn rows(part: Bytes) -> Result<Vec<(Vec<u8>, Bytes)>, StorageError> {
    let mut input = Input::raw(part, "rows of a snapshot");
    let mut rows = Vec::new();
    while !input.is_empty() {
        let key = input.sized()?;
        rows.push((key.to_vec(), input.sized()?));
    }
    Ok(rows)
}

/// Rows of a range from a key on, up to [`PART_BYTES`]; none at the end. With the key to go on from.
fn read_part(view: &dyn StateView, from: &[u8], to: &[u8]) -> Result<Option<(Bytes, Vec<u8>)>, StorageError> {
    let mut out = BytesMut::new();
    let mut last = Vec::new();
    view.scan(from, to, &mut |key, value| {
        put_row(&mut out, key, value);
        last = key.to_vec();
        out.len() < PART_BYTES
    })?;
    // The first key after the last.
    last.push(0);
    Ok((!out.is_empty()).then(|| (out.freeze(), last)))
}

/// What a group sends at the moment: by node, the index after which the log is needed there.
#[derive(Debug, Default)]
pub(crate) struct Transfers(Mutex<BTreeMap<u64, u64>>);

impl Transfers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a state is being sent to a node.
    pub fn has(&self, node: u64) -> bool {
        self.lock().contains_key(&node)
    }

    /// The lowest index after which the log is needed by a receiver.
    pub fn floor(&self) -> Option<u64> {
        self.lock().values().min().copied()
    }
}

/// Registered while it lives.
struct Registered(Arc<Transfers>, u64);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// One transfer.
pub(crate) struct Outgoing<R: Runtime, M> {
    pub group: u32,
    pub node: u64,
    pub peers: Peers<R>,
    pub machine: Arc<M>,
    pub transfers: Arc<Transfers>,
    pub bytes_per_second: u64,
    /// Tells transfers apart.
    pub transfer: u64,
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("there is no state to send, or it is ahead of the leader that sends it")]
    Unfit,
}

impl<R: Runtime, M: Machine> Outgoing<R, M> {
    /// Sends the state as of now; the vote that the receiver holds in the end.
    pub async fn send(self, vote: Vote) -> Result<Vote, TransferError> {
        let range = self.machine.range();
        let (view, mark) = export::<R>(range.clone()).await?;
        let decoded: Mark = read_mark(Ok(mark.clone()))?;
        // Whoever led since then may have written it, and the receiver would not believe that of this vote.
        let applied = decoded.applied.filter(|applied| applied.leader_id <= vote.leader_id);
        let (Some(applied), Some(mark)) = (applied, mark) else {
            return Err(TransferError::Unfit);
        };
        self.transfers.lock().insert(self.node, applied.index);
        let _registered = Registered(self.transfers.clone(), self.node);
        let transfer = self.transfer;
        let held = self.call(Begin { vote, transfer, mark }.encode(self.group), PART_WITHIN).await?;
        if held > vote {
            return Ok(held);
        }
        let (parts, digest) = self.send_rows(transfer, view, range).await?;
        self.call(End { vote, transfer, parts, digest }.encode(self.group), INSTALL_WITHIN).await
    }

    async fn call(&self, message: Bytes, within: Duration) -> Result<Vote, TransferError> {
        let answer = self.peers.call(self.node, RAFT_SERVICE, message, within).await?;
        Ok(codec::read_vote(answer)?)
    }

    /// Sends all rows; how many parts they were, and their hash.
    async fn send_rows(
        &self,
        transfer: u64,
        mut view: Box<dyn StateView>,
        range: StateRange,
    ) -> Result<(u64, u64), TransferError> {
        let (begun, mut digest, mut sent) = (R::Instant::now(), Xxh3::new(), 0_u64);
        let mut from = range.from;
        for number in 0.. {
            let to = range.to.clone();
            let (back, part) = R::disk(move || {
                let part = read_part(&*view, &from, &to);
                (view, part)
            })
            .await;
            view = back;
            let Some((rows, next)) = part? else {
                // Dropped away from the async workers: it may hold files.
                R::disk(move || drop(view)).await;
                return Ok((number, digest.digest()));
            };
            from = next;
            digest.update(&rows);
            sent += rows.len() as u64;
            self.call(Part { transfer, number, rows }.encode(self.group), PART_WITHIN).await?;
            let due = Duration::from_secs_f64(sent as f64 / self.bytes_per_second.max(1) as f64);
            let elapsed = R::Instant::now() - begun;
            if due > elapsed {
                R::sleep(due - elapsed).await;
            }
        }
        Err(TransferError::Unfit)
    }
}

/// A view of the state, and its mark.
async fn export<R: Runtime>(range: StateRange) -> Result<(Box<dyn StateView>, Option<Bytes>), StorageError> {
    R::disk(move || {
        let view = range.store.export()?;
        let mark = view.get(&range.mark)?;
        Ok((view, mark))
    })
    .await
}
