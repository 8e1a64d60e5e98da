//! Apply: a batch of entries becomes one batch of rows, with the position of the log in it.
//!
//! The shard's time never runs back: an entry's `now` is a proposal. What a leader must do afterwards is told as effects; all of
//! them can also be found as rows, so a new leader needs none that it did not see.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::{Entry, Reply, command::Op};
use mainstay_api::record::{ClusterRecord, NamespaceRecord, ReplicasRecord, SplitsRecord, TaskRow, VisibilityRecord};
use mainstay_base::{RunId, Slot, Timestamp};
use mainstay_engine::{self as engine, Change, Context, EntityKey, Error, MessageId, Note, SuggestFrom, Table};
use mainstay_storage::{StateStore, StateView, StorageError};
use prost::Message;

use crate::index::ListSpace;
use crate::keys::Keys;
use crate::overlay::Overlay;
use crate::serving::{Admitted, Serving, leave_gaps};
use crate::{corrupt, index, members, moving, outcomes, replicas, splits};

/// What a leader does after an entry was applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A task became dispatchable.
    TaskAdded(TaskRow),
    /// A task is no longer dispatchable.
    TaskRemoved(TaskRow),
    /// Something is due at this time, in nanoseconds.
    TimerAdded(i64),
    /// A run has new events, or closed, or is gone.
    RunChanged(EntityKey, RunId),
    /// A batch job began, or went on.
    BatchChanged,
    /// A namespace is gone.
    NamespaceRemoved(String),
    /// A namespace was set.
    NamespacePut(Box<NamespaceRecord>),
    /// The cluster's members changed.
    MembersChanged(Box<ClusterRecord>),
    /// A shard is split, or the split went on.
    SplitsChanged(Box<SplitsRecord>),
    /// It was decided which members have replicas of a shard, or they have them now.
    ReplicasChanged(Box<ReplicasRecord>),
    /// The shard serves other slots than before.
    ServingChanged(Box<Serving>),
    /// A task queue was configured: the namespace's id, the row's id, and its value.
    TaskQueueConfigured(String, Vec<u8>, Bytes),
    /// A message was added to the outbox, for an entity of this slot, or replaced.
    MessageAdded {
        /// Its id.
        id: MessageId,
        /// Hash slot of its destination.
        slot: u16,
    },
    /// A message was removed from the outbox.
    MessageRemoved(MessageId),
    /// A run closed: its row in the list of closed ones.
    RunClosed(Box<VisibilityRecord>),
    /// Something to count.
    Noted(Note),
}

/// What came of one entry.
#[derive(Debug)]
pub struct Applied {
    /// For whoever proposed it.
    pub reply: Result<Reply, Error>,
    /// In the order in which they happened.
    pub effects: Vec<Effect>,
}

/// The state machine of one shard over a store that it shares with others.
pub struct Shard {
    keys: Keys,
    store: Arc<dyn StateStore>,
}

impl Shard {
    /// The shard with this number.
    #[must_use]
    pub fn new(number: u32, store: Arc<dyn StateStore>) -> Self {
        Self { keys: Keys(number), store }
    }

    pub(crate) fn keys(&self) -> Keys {
        self.keys
    }

    pub(crate) fn store(&self) -> &dyn StateStore {
        self.store.as_ref()
    }

    /// Lets a reader see the shard's rows as the engine does.
    pub fn read<T>(&self, reader: impl FnOnce(&dyn engine::Store) -> T) -> T {
        reader(&Overlay::new(self.keys, self.store.as_ref()))
    }

    /// The position written with the last applied batch.
    ///
    /// # Errors
    /// If the store fails.
    pub fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        self.store.get(&self.keys.applied())
    }

    /// The same, as it would be after a crash now.
    ///
    /// # Errors
    /// If the store fails.
    pub fn durable(&self) -> Result<Option<Bytes>, StorageError> {
        self.store.get_persisted(&self.keys.applied())
    }

    /// Where the shard's rows are: the store, the first key, the first key that is not the shard's, and the key of the position.
    #[must_use]
    pub fn range(&self) -> (Arc<dyn StateStore>, Vec<u8>, Vec<u8>, Vec<u8>) {
        let (from, to) = self.keys.whole();
        (Arc::clone(&self.store), from, to, self.keys.applied())
    }

    /// Makes what was applied durable. Blocks.
    ///
    /// # Errors
    /// If the medium fails.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.store.flush()
    }

    /// The shard's time: of its last entry, in nanoseconds.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn now(&self) -> Result<i64, StorageError> {
        decode_now(self.store.get(&self.keys.now())?)
    }

    /// Applies entries (log index and encoded [`Entry`]) in order, and stores `mark` as the position with them.
    ///
    /// # Errors
    /// If the store fails, or an entry or a row does not decode. Then nothing was written, and the replica must stop.
    pub fn apply(&self, entries: &[(u64, Bytes)], mark: Bytes) -> Result<Vec<Applied>, StorageError> {
        let mut overlay = Overlay::new(self.keys, self.store.as_ref());
        let mut now = self.now()?;
        let mut serving = Serving::read(&overlay)?;
        let mut applied = Vec::with_capacity(entries.len());
        for (log_index, bytes) in entries {
            let entry = Entry::decode(bytes.clone()).map_err(|e| corrupt("an entry of the log", e))?;
            now = now.max(entry.now_ns);
            if let Some(Op::EndArrival(end)) = entry.command.as_ref().and_then(|command| command.op.as_ref()) {
                now = now.max(end.now_ns);
            }
            applied.push(self.apply_entry(&mut overlay, &mut serving, *log_index, now, entry)?);
        }
        overlay.put(self.keys.now(), Bytes::copy_from_slice(&now.to_be_bytes()));
        overlay.put(self.keys.applied(), mark);
        self.store.write(overlay.into_batch())?;
        Ok(applied)
    }

    fn apply_entry(
        &self,
        overlay: &mut Overlay<'_>,
        serving: &mut Serving,
        log_index: u64,
        now_ns: i64,
        entry: Entry,
    ) -> Result<Applied, StorageError> {
        let context = Context {
            now: Timestamp::from_nanos(now_ns),
            seed: (u128::from(entry.seed_high) << 64) | u128::from(entry.seed_low),
            log_index: log_index + serving.sequence_base(),
            version: entry.version,
            suggest_from: entry.suggest_from.as_ref().map(SuggestFrom::from).unwrap_or_default(),
            blob_size_max: entry.blob_size_max,
        };
        if let Some(reply) = outcomes::recall(overlay, &entry)? {
            return Ok(Applied { reply, effects: Vec::new() });
        }
        outcomes::forget(overlay, log_index, now_ns)?;
        let mut command = entry.command.unwrap_or_default();
        // Not remembered: the shard that serves the entity answers.
        let Admitted::But(left_out) = serving.admit(&mut command) else {
            return Ok(Applied { reply: Err(Error::Moved), effects: Vec::new() });
        };
        let mut effects = own_effects(overlay, serving, command.op.as_ref())?;
        let mut outcome = engine::apply(&context, overlay, &command).map_err(|fault| corrupt("apply", fault))?;
        for change in outcome.changes {
            index::write(overlay, &change)?;
            effects.extend(effect(change));
        }
        effects.extend(outcome.notes.into_iter().map(Effect::Noted));
        leave_gaps(&mut outcome.reply, &left_out);
        outcomes::remember(overlay, &entry.command_id, &outcome.reply);
        Ok(Applied { reply: outcome.reply, effects })
    }

    /// A hash of every row of the shard with its key: equal at equal positions of equal logs, on any store.
    ///
    /// # Errors
    /// If the store fails.
    pub fn digest(&self) -> Result<u64, StorageError> {
        self.digest_of(self.store.as_ref())
    }

    /// The same of a view of its store.
    ///
    /// # Errors
    /// If the view fails.
    pub fn digest_of(&self, view: &dyn StateView) -> Result<u64, StorageError> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        let (from, to) = self.keys.whole();
        view.scan(&from, &to, &mut |key, value| {
            for part in [key, value] {
                hash.update(&(part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            true
        })?;
        Ok(hash.digest())
    }
}

/// What the shard does itself, since it concerns no entity: members, splits, slots.
fn own_effects(overlay: &mut Overlay<'_>, serving: &mut Serving, op: Option<&Op>) -> Result<Vec<Effect>, StorageError> {
    let changed = match op {
        Some(Op::PutMember(put)) => return Ok(members::put(overlay, put)?.into_iter().collect()),
        Some(Op::PutReplicas(put)) => return Ok(replicas::put(overlay, put)?.into_iter().collect()),
        Some(Op::PutSplit(put)) => return splits::put(overlay, put),
        Some(Op::ImportRows(import)) => return moving::import(overlay, serving, import),
        Some(Op::DropSlots(dropped)) => {
            moving::drop_some(overlay, serving, dropped)?;
            return Ok(Vec::new());
        }
        Some(Op::BeginArrival(begin)) => serving.begin(begin),
        Some(Op::EndArrival(end)) => serving.end(end),
        Some(Op::HoldSlots(hold)) => serving.hold(hold),
        _ => return Ok(Vec::new()),
    };
    if changed {
        serving.write(overlay);
    }
    Ok(changed.then(|| serving.effect()).into_iter().collect())
}

fn effect(change: Change) -> Option<Effect> {
    match change {
        Change::AddTask(row) => Some(Effect::TaskAdded(row)),
        Change::RemoveTask(row) => Some(Effect::TaskRemoved(row)),
        Change::AddTimer(row) => Some(Effect::TimerAdded(row.due_ns)),
        Change::Put { entity, row, .. } | Change::Delete { entity, row } if row.table == Table::Run => {
            row.run.map(|run| Effect::RunChanged(EntityKey::clone(&entity), run))
        }
        Change::Put { entity, row, value } if row.table == Table::TaskQueueConfig => {
            Some(Effect::TaskQueueConfigured(entity.namespace_id.clone(), row.id, value))
        }
        Change::PutMessage(message) => {
            let slot = Slot::of(&message.namespace_id, &message.workflow_id).get();
            index::message_id(&message).map(|id| Effect::MessageAdded { id, slot })
        }
        Change::RemoveMessage(id) => Some(Effect::MessageRemoved(id)),
        Change::PutVisibility(row) => match ListSpace::of(&row) {
            ListSpace::Batches => Some(Effect::BatchChanged),
            ListSpace::Closed => Some(Effect::RunClosed(row)),
            ListSpace::Open | ListSpace::Schedules => None,
        },
        Change::RemoveNamespace(id) => Some(Effect::NamespaceRemoved(id)),
        Change::PutNamespace(record) => Some(Effect::NamespacePut(Box::new(record))),
        _ => None,
    }
}

pub(crate) fn decode_now(value: Option<Bytes>) -> Result<i64, StorageError> {
    let Some(value) = value else { return Ok(0) };
    let bytes = <[u8; 8]>::try_from(value.as_ref()).map_err(|e| corrupt("the shard's time", e))?;
    Ok(i64::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_api::log::{Command, PutNamespace, StartWorkflow, command::Op};
    use mainstay_api::temporal::common::v1::WorkflowType;
    use mainstay_api::temporal::taskqueue::v1::TaskQueue;
    use mainstay_api::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
    use mainstay_storage::MemoryState;

    fn entry(now_ns: i64, seed: u64, workflow_id: &str, op: Op) -> Bytes {
        let command =
            Command { namespace_id: "n".into(), workflow_id: workflow_id.into(), op: Some(op), ..Command::default() };
        let entry = Entry { now_ns, seed_low: seed, version: 1, command: Some(command), ..Entry::default() };
        entry.encode_to_vec().into()
    }

    fn log() -> Vec<(u64, Bytes)> {
        let namespace = NamespaceRecord { id: "n".into(), name: "default".into(), revision: 1, ..Default::default() };
        let mut log = vec![(1, entry(10, 0, "", Op::PutNamespace(PutNamespace { namespace: Some(namespace) })))];
        for index in 2..20u64 {
            let request = StartWorkflowExecutionRequest {
                workflow_id: format!("w{}", index % 12),
                workflow_type: Some(WorkflowType { name: "t".into() }),
                task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
                request_id: format!("r{index}"),
                ..StartWorkflowExecutionRequest::default()
            };
            let op = Op::StartWorkflow(StartWorkflow { request: Some(request.clone()) });
            log.push((index, entry(100 - index as i64, index, &request.workflow_id, op)));
        }
        log
    }

    #[test]
    fn the_cut_into_batches_does_not_matter() {
        let digests: Vec<u64> = [1, 3, 100]
            .into_iter()
            .map(|size| {
                let shard = Shard::new(2, Arc::new(MemoryState::default()));
                for batch in log().chunks(size) {
                    let replies = shard.apply(batch, Bytes::from_static(b"mark")).expect("applies");
                    assert_eq!(replies.len(), batch.len());
                }
                assert_eq!(shard.now().expect("reads"), 98, "time does not run back");
                shard.digest().expect("reads")
            })
            .collect();
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0], digests[2]);
    }

    #[test]
    fn a_start_is_listed_and_dispatchable() {
        let shard = Shard::new(2, Arc::new(MemoryState::default()));
        let applied = shard.apply(&log(), Bytes::from_static(b"mark")).expect("applies");
        assert!(applied[1].reply.is_ok());
        assert!(applied[1].effects.iter().any(|effect| matches!(effect, Effect::TaskAdded(_))));
        assert!(matches!(applied[13].reply, Err(Error::AlreadyStarted { .. })), "{:?}", applied[13].reply);
        let mut listed = 0;
        let mut count = |_| {
            listed += 1;
            true
        };
        shard.list("n", crate::ListSpace::Open, None, &mut count).expect("lists");
        assert_eq!(listed, 12);
        let mut tasks = 0;
        shard
            .tasks(&mut |_| {
                tasks += 1;
                true
            })
            .expect("scans");
        assert_eq!(tasks, 12);
    }
}
