//! One group's log: the tail in memory laid over the store, and a place in the node's one queue for everything that changes it.
//!
//! An operation changes the tail and enters the queue in one step, so that the order in memory is the order on disk. Nothing here
//! writes to the store. openraft's traits are implemented by [`Adapter`], which only translates.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, stream};
use mainstay_runtime::Runtime;
use mainstay_storage::{LogOp, LogStore, StorageError};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftLogReader};
use tokio::sync::{Notify, oneshot};

use crate::codec;
use crate::health::Health;
use crate::queue::{Done, Item, Queue};
use crate::tail::{self, Tail};
use crate::trace;
use crate::types::{Address, LeaderId, LogEntry, LogId, Membership, Payload, Types, Vote};

/// Entries read at once for apply.
const CHUNK: u64 = 256;
/// Bytes read at once for a peer.
const MESSAGE_BYTES: u64 = 1 << 20;

/// The log of one group, shared by the parts of openraft that use it.
pub(crate) struct GroupLog {
    id: u32,
    store: Arc<dyn LogStore>,
    queue: Queue,
    health: Arc<Health>,
    tail: Mutex<Tail>,
    /// Told whenever more of the tail is durable.
    progress: Notify,
}

impl GroupLog {
    /// Reads where the log stands. Blocks. Earlier operations of the group must be in the store.
    pub fn open(
        id: u32,
        store: Arc<dyn LogStore>,
        queue: Queue,
        health: Arc<Health>,
    ) -> Result<Arc<Self>, StorageError> {
        let bounds = store.bounds(id)?;
        let purged = bounds.purge_mark.map(codec::read_log_id).transpose()?;
        if bounds.purged != purged.map(|purged| purged.index) {
            return Err(StorageError::Corrupt(format!(
                "log of group {id}: purged to {:?}, marked {purged:?}",
                bounds.purged
            )));
        }
        let last = match (bounds.first, bounds.last) {
            (Some(_), Some(last)) => read_stored(&*store, id, last..last + 1)?.pop().map(|entry| entry.log_id),
            _ => None,
        };
        let vote = store.vote(id)?.map(codec::read_vote).transpose()?;
        let committed = store.committed(id)?.map(codec::read_log_id).transpose()?;
        let tail = Mutex::new(Tail::new(purged, last, vote, committed));
        Ok(Arc::new(Self { id, store, queue, health, tail, progress: Notify::new() }))
    }

    pub fn id(&self) -> u32 {
        self.id
    }

    pub fn health(&self) -> &Health {
        &self.health
    }

    pub fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writer made everything up to this number durable.
    pub fn done(&self, number: u64) {
        self.tail().done(number);
        self.progress.notify_waiters();
    }

    /// Returns when this node's own log has the entry at `index` durable.
    pub async fn durable(&self, index: u64) {
        loop {
            let progress = self.progress.notified();
            if self.tail().is_durable(index) {
                return;
            }
            progress.await;
        }
    }

    /// The entries of a range that the log has.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<LogEntry>, StorageError> {
        loop {
            let parts = self.tail().read(range.clone());
            if parts.stored.is_empty() {
                return Ok(parts.held);
            }
            let wanted = parts.stored.end - parts.stored.start;
            match read_stored(&*self.store, self.id, parts.stored) {
                Ok(mut entries) if entries.len() as u64 == wanted => {
                    entries.extend(parts.held);
                    return Ok(entries);
                }
                // Removed meanwhile, so look again.
                _ if self.tail().removals() != parts.removals => {}
                Ok(entries) => {
                    let reason =
                        format!("log of group {}: {} of {wanted} entries in {range:?}", self.id, entries.len());
                    return Err(StorageError::Corrupt(reason));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Changes the tail and queues the operation that does the same to the store.
    async fn submit(
        self: Arc<Self>,
        bytes: usize,
        done: Done,
        change: impl FnOnce(&mut Tail) -> (u64, LogOp) + Send,
    ) -> Result<(), StorageError> {
        let slot = self.queue.slot(bytes).await?;
        let mut tail = self.tail();
        let (number, op) = change(&mut tail);
        slot.send(Item { op: Some(op), group: Some((self.clone(), number)), done });
        Ok(())
    }

    async fn append(self: Arc<Self>, entries: Vec<LogEntry>, done: Done) -> Result<(), StorageError> {
        let Some(first) = entries.first().map(|entry| entry.log_id.index) else {
            done.tell();
            return Ok(());
        };
        let bytes = entries.iter().map(tail::size).sum();
        let encoded = entries.iter().map(codec::entry).collect();
        let op = LogOp::Append { group: self.id, first, entries: encoded };
        self.submit(bytes, done, |tail| (tail.append(entries), op)).await
    }

    /// Whether nothing was ever written here but perhaps a vote.
    pub fn is_new(&self) -> bool {
        let tail = self.tail();
        tail.last().is_none() && tail.purged().is_none()
    }

    /// Writes the first entry of a new group, which is the same on all of its founders: so the group has members as soon as a majority of
    /// them runs, whoever is missing. Returns when it is durable.
    pub async fn found(self: Arc<Self>, founders: &BTreeMap<u64, String>) -> Result<(), StorageError> {
        let Some(first) = founders.keys().next() else { return Ok(()) };
        let addresses: BTreeMap<_, _> = founders.iter().map(|(id, at)| (*id, Address(at.clone()))).collect();
        let members = Membership::new(vec![founders.keys().copied().collect()], addresses)
            .map_err(|error| StorageError::Corrupt(format!("founders of group {}: {error}", self.id)))?;
        let log_id = LogId::new(LeaderId::new(0, *first).to_committed(), 0);
        let (tell, told) = oneshot::channel();
        self.append(vec![LogEntry { log_id, payload: Payload::Membership(members) }], Done::Signal(tell)).await?;
        told.await.map_err(|_| Queue::closed())
    }

    async fn save_vote(self: Arc<Self>, vote: Vote) -> Result<(), StorageError> {
        let op = LogOp::Vote { group: self.id, value: codec::vote(&vote) };
        let (tell, told) = oneshot::channel();
        self.submit(0, Done::Signal(tell), |tail| (tail.set_vote(vote), op)).await?;
        told.await.map_err(|_| Queue::closed())
    }

    async fn save_committed(self: Arc<Self>, committed: LogId) -> Result<(), StorageError> {
        let op = LogOp::Committed { group: self.id, value: codec::log_id(&committed) };
        let slot = self.queue.slot(0).await?;
        let mut tail = self.tail();
        tail.set_committed(committed);
        // Nobody asks whether it is durable; and the writer may hold it for long, which must not keep the queue open.
        slot.send(Item { op: Some(op), group: None, done: Done::Lazy });
        Ok(())
    }

    async fn truncate_after(self: Arc<Self>, last: Option<LogId>) -> Result<(), StorageError> {
        let op = LogOp::Truncate { group: self.id, from: last.map_or(0, |last| last.index + 1) };
        self.submit(0, Done::Nobody, |tail| (tail.truncate_after(last), op)).await
    }

    pub async fn purge(self: Arc<Self>, upto: LogId) -> Result<(), StorageError> {
        let op = LogOp::Purge { group: self.id, upto: upto.index, mark: codec::log_id(&upto) };
        self.submit(0, Done::Nobody, |tail| (tail.purge(upto), op)).await
    }
}

/// Entries of the store, checked to be where they say they are.
fn read_stored(store: &dyn LogStore, group: u32, range: Range<u64>) -> Result<Vec<LogEntry>, StorageError> {
    let mut entries = Vec::new();
    let mut first_error = None;
    let mut expected = range.start;
    store.scan(group, range, &mut |index, stored: Bytes| {
        let entry = codec::read_entry(stored).and_then(|entry| match entry.log_id.index {
            found if found == index && index == expected => Ok(entry),
            found => {
                Err(StorageError::Corrupt(format!("log of group {group}: entry {found} at {index}, not {expected}")))
            }
        });
        expected += 1;
        match entry {
            Ok(entry) => entries.push(entry),
            Err(error) => first_error = Some(error),
        }
        first_error.is_none()
    })?;
    first_error.map_or(Ok(entries), Err)
}

/// A group's log as openraft wants it.
pub(crate) struct Adapter<R, P> {
    log: Arc<GroupLog>,
    types: PhantomData<fn() -> (R, P)>,
}

impl<R, P> Adapter<R, P> {
    pub fn new(log: Arc<GroupLog>) -> Self {
        Self { log, types: PhantomData }
    }

    fn checked<T>(&self, result: Result<T, StorageError>) -> Result<T, io::Error> {
        result.map_err(|error| self.log.health().failed(error))
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl<R: Runtime, P: Send + Sync + 'static> RaftLogReader<Types<R, P>> for Adapter<R, P> {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<LogEntry>, io::Error> {
        self.checked(self.log.read(bounds(&range)))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.tail().vote())
    }

    async fn entries_stream<B>(&mut self, range: B) -> impl Stream<Item = Result<LogEntry, io::Error>> + OptionalSend
    where
        B: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = self.log.clone();
        let start = (bounds(&range), VecDeque::new());
        stream::try_unfold(start, move |(mut range, mut ready): (Range<u64>, VecDeque<LogEntry>)| {
            let log = log.clone();
            async move {
                if ready.is_empty() && !range.is_empty() {
                    let end = range.start.saturating_add(CHUNK).min(range.end);
                    ready = log.read(range.start..end).map_err(|error| log.health().failed(error))?.into();
                    range.start = if ready.is_empty() { range.end } else { end };
                }
                Ok(ready.pop_front().map(|entry| (entry, (range, ready))))
            }
        })
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        let mut entries = self.checked(self.log.read(start..end.min(start.saturating_add(CHUNK))))?;
        let mut bytes = 0;
        let fit = entries.iter().take_while(|entry| {
            bytes += tail::size(entry) as u64;
            bytes <= MESSAGE_BYTES
        });
        let fit = fit.count().max(1);
        entries.truncate(fit);
        Ok(entries)
    }
}

impl<R: Runtime, P: Send + Sync + 'static> RaftLogStorage<Types<R, P>> for Adapter<R, P> {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types<R, P>>, io::Error> {
        let tail = self.log.tail();
        Ok(LogState { last_purged_log_id: tail.purged(), last_log_id: tail.last() })
    }

    async fn get_log_reader(&mut self) -> Self {
        Self::new(self.log.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.checked(self.log.clone().save_vote(*vote).await)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        match committed {
            Some(committed) => self.checked(self.log.clone().save_committed(committed).await),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.tail().committed())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types<R, P>>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<LogEntry> = entries.into_iter().collect();
        let spans = trace::syncs(&entries);
        let synced = move || {
            drop(spans);
            callback.io_completed(Ok(()));
        };
        self.checked(self.log.clone().append(entries, Done::Call(Box::new(synced))).await)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.checked(self.log.clone().truncate_after(last).await)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.checked(self.log.clone().purge(upto).await)
    }
}
