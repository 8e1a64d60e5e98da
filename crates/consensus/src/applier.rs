//! Between openraft's state machine and a [`Machine`]: gathers committed entries into batches, waits until this node's own log has them
//! durable, and keeps the mark.
//!
//! The wait matters: openraft applies what a majority has, which need not include this node's disk. Without it the state could be
//! ahead of the log after a power loss. A snapshot is only a mark at the durable position; its data are not made here. A state from
//! another replica is put in place of the own one between two batches.

use std::io;
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::Semaphore;

use crate::codec::{self, Mark};
use crate::digests::{self, Digests};
use crate::fence::Fence;
use crate::group_log::GroupLog;
use crate::install::{self, Staged};
use crate::leadership::Changes;
use crate::log::Log;
use crate::measure::ApplyMeter;
use crate::types::{Data, LogEntry, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::{Entry, Machine};
use crate::{tail, trace};

/// Entries, and bytes of them, applied as one batch.
const BATCH_ENTRIES: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

type Waiting<R, M> = Option<ApplyResponder<Types<R, <M as Machine>::Reply>>>;

/// Reads a machine's mark of what it applied, or of what is durable.
pub(crate) fn read_mark(mark: Result<Option<bytes::Bytes>, StorageError>) -> Result<Mark, StorageError> {
    mark?.map_or(Ok(Mark::default()), codec::read_mark)
}

/// Closes when the applier is gone, so that nothing is applied any more.
pub(crate) struct Alive(pub Arc<Semaphore>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// openraft's state machine of one group.
pub(crate) struct Applier<R: Runtime, M: Machine> {
    pub machine: Arc<M>,
    pub log: Arc<GroupLog>,
    pub node_log: Log<R>,
    pub mark: Mark,
    pub changes: Arc<Changes>,
    pub meter: ApplyMeter,
    pub fence: Arc<Fence>,
    pub digests: Arc<Digests>,
    /// The last entry that was not applied because the replica is fenced.
    pub skipped: Option<u64>,
    /// Held only to be dropped.
    pub _alive: Alive,
}

impl<R: Runtime, M: Machine> Applier<R, M> {
    /// Applies entries, or leaves them for later if the replica is not to be trusted.
    async fn take(&mut self, entries: Vec<LogEntry>, waiting: Vec<Waiting<R, M>>) -> Result<(), io::Error> {
        let Some(last) = entries.last().map(|entry| entry.log_id.index) else {
            return Ok(());
        };
        if !self.fence.is_up() {
            match self.apply_batch(entries, waiting).await {
                Err(StorageError::Corrupt(reason)) if self.may_fence() => {
                    self.fence.raise(&reason);
                    self.changes.tell();
                }
                done => return done.map_err(|error| self.log.health().failed(error)),
            }
        } else {
            // What came of them is not known here.
            waiting.into_iter().flatten().for_each(|waiting| waiting.send(None));
        }
        self.skipped = Some(last);
        Ok(())
    }

    /// Whether there is another member that could rebuild this one.
    fn may_fence(&self) -> bool {
        self.mark.membership.membership().nodes().count() > 1
    }

    async fn apply_batch(&mut self, entries: Vec<LogEntry>, waiting: Vec<Waiting<R, M>>) -> Result<(), StorageError> {
        let Some(last) = entries.last().map(|entry| entry.log_id) else {
            return Ok(());
        };
        self.log.durable(last.index).await;
        let spans = trace::applies(&entries);
        let mut mark = Mark { applied: Some(last), membership: self.mark.membership.clone() };
        let entries: Vec<Entry> = entries.into_iter().map(|entry| self.hand_over(entry, &mut mark)).collect();
        let with_data: Vec<bool> = entries.iter().map(|entry| entry.data.is_some()).collect();
        let (count, begun) = (entries.len(), R::Instant::now());
        let replies = match self.machine.apply(entries, codec::mark(&mark)) {
            Ok(replies) => replies,
            Err(error) => {
                waiting.into_iter().flatten().for_each(|waiting| waiting.send(None));
                return Err(error);
            }
        };
        self.meter.applied(count, R::Instant::now() - begun);
        drop(spans);
        if replies.len() != with_data.iter().filter(|has| **has).count() {
            self.log.health().fatal("the machine gave another number of replies than there were commands");
        }
        self.mark = mark;
        self.changes.applied(last.leader_id.term);
        let mut replies = replies.into_iter();
        for (has_data, waiting) in with_data.into_iter().zip(waiting) {
            let reply = if has_data { replies.next() } else { None };
            if let Some(waiting) = waiting {
                waiting.send(reply);
            }
        }
        Ok(())
    }

    /// An entry as the machine sees it; members go into the mark.
    fn hand_over(&self, entry: LogEntry, mark: &mut Mark) -> Entry {
        let data = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(command) => Some(command.0).filter(|data| !digests::is_checkpoint(data)),
            EntryPayload::Membership(members) => {
                mark.membership = StoredMembership::new(Some(entry.log_id), members);
                None
            }
        };
        Entry { index: entry.log_id.index, term: entry.log_id.leader_id.term, data }
    }

    /// The mark at the durable position, if there is one.
    fn durable(&self) -> Result<Option<SnapshotMeta>, io::Error> {
        let mark = read_mark(self.machine.durable()).map_err(|error| self.log.health().failed(error))?;
        Ok(mark.applied.map(|applied| SnapshotMeta { last_log_id: Some(applied), last_membership: mark.membership }))
    }

    async fn install(&mut self, staged: Staged) -> Result<(), StorageError> {
        // What the log was told to forget of its end is forgotten before the state is ahead of it.
        self.node_log.barrier().await?;
        let mark = install::run::<R>(&self.log, &self.node_log, self.machine.range(), staged).await?;
        self.machine.replaced()?;
        if let Some(applied) = mark.applied {
            self.changes.applied(applied.leader_id.term);
        }
        self.mark = mark;
        self.skipped = None;
        self.fence.lower();
        self.changes.tell();
        Ok(())
    }

    /// Puts another replica's rows in the place of those of this fenced one, and applies what this one's own log has beyond them.
    pub async fn rebuild(&mut self, staged: Staged, new: Mark) -> Result<(), StorageError> {
        let upto = self.skipped.max(self.mark.applied.map(|applied| applied.index)).unwrap_or_default();
        let from = new.applied.map(|applied| applied.index).unwrap_or_default();
        if !self.fence.is_up() || from > upto || new.applied < self.log.tail().purged() {
            return Err(StorageError::Io(format!("a state at {from} does not fit to a log up to {upto}")));
        }
        self.skipped = Some(upto);
        self.mark = install::rebuild::<R>(self.log.id(), self.machine.range(), staged).await?;
        self.machine.replaced()?;
        self.changes.applied(self.mark.applied.map_or(0, |applied| applied.leader_id.term));
        let mut next = from + 1;
        while next <= upto {
            let end = next.saturating_add(BATCH_ENTRIES as u64).min(upto + 1);
            self.apply_batch(self.log.read(next..end)?, Vec::new()).await?;
            next = end;
        }
        self.skipped = None;
        self.fence.lower();
        self.changes.tell();
        Ok(())
    }

    /// Removes the rows, but not the mark, and remembers it. The replica is fenced.
    pub async fn park(&mut self) -> Result<(), StorageError> {
        let (group, range) = (self.log.id(), self.machine.range());
        R::disk(move || install::park(group, &range)).await?;
        self.machine.replaced()
    }

    /// Begins to hash the rows as they are now, at a checkpoint; returns when they may change again.
    async fn checkpoint(&self, index: u64) {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (machine, digests, fence) = (self.machine.clone(), self.digests.clone(), self.fence.clone());
        let may_fence = self.may_fence();
        drop(R::spawn(async move {
            let digest = R::disk(move || {
                let mut tell = Some(tell);
                machine.digest(&mut || {
                    // Nobody waits any more if the group stops.
                    let _waits = tell.take().map(|tell| tell.send(()));
                })
            });
            match digest.await {
                Ok(digest) => digests.add(index, digest),
                Err(StorageError::Corrupt(reason)) if may_fence => fence.raise(&reason),
                // The next one may work.
                Err(_) => {}
            }
        }));
        let _taken = told.await;
    }
}

impl<R: Runtime, M: Machine> RaftStateMachine<Types<R, M::Reply>> for Applier<R, M> {
    type SnapshotData = Data;
    type SnapshotBuilder = Marker;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.mark.applied, self.mark.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<R, M::Reply>>, io::Error>> + Unpin + OptionalSend,
    {
        let (mut batch, mut waiting, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some((entry, responder)) = entries.try_next().await? {
            bytes += tail::size(&entry);
            let index = entry.log_id.index;
            let checkpoint = matches!(&entry.payload, EntryPayload::Normal(data) if digests::is_checkpoint(&data.0));
            batch.push(entry);
            waiting.push(responder);
            if checkpoint || batch.len() == BATCH_ENTRIES || bytes >= BATCH_BYTES {
                self.take(std::mem::take(&mut batch), std::mem::take(&mut waiting)).await?;
                bytes = 0;
            }
            if checkpoint && !self.fence.is_up() {
                self.checkpoint(index).await;
            }
        }
        self.take(batch, waiting).await
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Self::SnapshotBuilder> {
        self.durable().ok().flatten().map(|meta| Marker(Some(meta)))
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Marker(self.durable().ok().flatten())
    }

    async fn install_snapshot(&mut self, _: &SnapshotMeta, data: Data) -> Result<(), io::Error> {
        let Data::Staged(staged) = data else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a snapshot of its own cannot be installed"));
        };
        self.install(staged).await.map_err(|error| self.log.health().failed(error))
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.durable()?.map(|meta| Snapshot { meta, snapshot: Data::Own }))
    }
}

/// Makes snapshots, which are marks: this one.
pub(crate) struct Marker(Option<SnapshotMeta>);

impl<R: Runtime, P: Send + Sync + 'static> RaftSnapshotBuilder<Types<R, P>> for Marker {
    type SnapshotData = Data;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = self.0.clone();
        let meta = meta.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "nothing is durable yet"))?;
        Ok(Snapshot { meta, snapshot: Data::Own })
    }
}
