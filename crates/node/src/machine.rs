//! The seam between a Raft group and its shard: committed entries are applied, and what a leader must do goes to the board.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mainstay_api::log::Reply;
use mainstay_api::record::RunDetails;
use mainstay_base::RunId;
use mainstay_consensus::{Entry, Machine, StateRange};
use mainstay_engine::{EntityKey, Error};
use mainstay_shard::{Effect, Shard};
use mainstay_storage::StorageError;

use crate::board::Board;
use crate::clock::Now;
use crate::history::details_row;

/// Bytes applied after which the state is flushed, so that a start has little log to apply again.
const FLUSH_AFTER_BYTES: u64 = 64 << 20;

/// A shard as the machine of its group.
pub(crate) struct ShardMachine {
    pub(crate) group: u32,
    pub(crate) shard: Shard,
    pub(crate) board: Arc<Board>,
    pub(crate) clock: Now,
}

impl ShardMachine {
    /// Admits the updates that came with a start, before the first task of the run that it began is offered.
    fn admit_started(&self, effects: &[Effect]) -> Result<(), StorageError> {
        if !self.board.updates.expects_starts() {
            return Ok(());
        }
        for effect in effects {
            let Effect::TaskAdded(row) = effect else { continue };
            let entity = EntityKey { namespace_id: row.namespace_id.clone(), workflow_id: row.workflow_id.clone() };
            let Ok(run) = row.run_id.parse::<RunId>() else { continue };
            let details: Option<RunDetails> = self.shard.record(&entity, &details_row(run))?;
            if let Some(details) = details {
                self.board.updates.started(self.group, &entity, run, &details.start_request_id);
            }
        }
        Ok(())
    }
}

impl Machine for ShardMachine {
    type Reply = Result<Reply, Error>;

    fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        self.shard.applied()
    }

    fn durable(&self) -> Result<Option<Bytes>, StorageError> {
        self.shard.durable()
    }

    fn apply(&self, entries: Vec<Entry>, mark: Bytes) -> Result<Vec<Self::Reply>, StorageError> {
        let batch: Vec<(u64, Bytes)> =
            entries.into_iter().filter_map(|entry| Some((entry.index, entry.data?))).collect();
        let bytes: usize = batch.iter().map(|(_, data)| data.len()).sum();
        let applied = self.shard.apply(&batch, mark)?;
        let now = (self.clock)();
        let mut replies = Vec::with_capacity(applied.len());
        for one in applied {
            self.admit_started(&one.effects)?;
            self.board.carry_out(self.group, one.effects, now);
            replies.push(one.reply);
        }
        let unflushed = self.board.unflushed_bytes.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if unflushed > FLUSH_AFTER_BYTES {
            self.board.flush_wanted.notify_one();
        }
        Ok(replies)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.shard.flush()
    }

    fn range(&self) -> StateRange {
        let (store, from, to, mark) = self.shard.range();
        StateRange { store, from, to, mark }
    }

    fn digest(&self, taken: &mut dyn FnMut()) -> Result<u64, StorageError> {
        let (store, ..) = self.shard.range();
        let view = store.view();
        taken();
        self.shard.digest_of(&*view)
    }

    /// What every replica remembers is read again. This one does not lead, so there is nothing else.
    fn replaced(&self) -> Result<(), StorageError> {
        self.board.load(self.group, &self.shard)
    }
}
