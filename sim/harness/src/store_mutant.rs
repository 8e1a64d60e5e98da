//! Bugs of stores.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use mainstay_api::record::SlotsRecord;
use mainstay_storage::{LogBounds, LogOp, LogStore, StateBatch, StateOp, StateStore, StateView, StorageError, Usage};

use mainstay_sim_node::Around;
use prost::Message;

use crate::mutant::Mutant;

/// A row's space within its shard: the byte after the shard's number, as the shard writes keys.
const SPACE: usize = 4;
const ENTITY: u8 = 1;
const TASK: u8 = 2;
const TIMER: u8 = 3;
const LIST: u8 = 4;
const OUTBOX: u8 = 8;
const MESSAGE_OUTCOME: u8 = 9;
const COMMAND_OUTCOME: u8 = 30;
/// Ends the key of what a shard says of its slots.
const SLOTS: &[u8] = b"slots";

/// A bug of stores, around those of a node. None if it is another kind of bug.
#[must_use]
pub fn around(mutant: Option<Mutant>) -> Option<Arc<dyn Around>> {
    let mutant = mutant.filter(|mutant| of_logs(*mutant) || of_states(*mutant))?;
    Some(Arc::new(Stores(mutant)))
}

fn of_logs(mutant: Mutant) -> bool {
    matches!(mutant, Mutant::SyncLate | Mutant::LoseLogSuffix | Mutant::PurgeTooFar | Mutant::ForgetVote)
}

fn of_states(mutant: Mutant) -> bool {
    matches!(
        mutant,
        Mutant::SkipStateFlush
            | Mutant::TearBatch
            | Mutant::DropTimerRow
            | Mutant::DropTaskRow
            | Mutant::DropBufferedEvent
            | Mutant::ForgetRequestIds
            | Mutant::DropListRow
            | Mutant::DropMessage
            | Mutant::ForgetMessageOutcomes
            | Mutant::ForgetCommandOutcomes
            | Mutant::KeepTimerRow
            | Mutant::KeepTaskRow
            | Mutant::ExportWithoutOutcomes
            | Mutant::ExportTorn
            | Mutant::RestartSequences
    )
}

struct Stores(Mutant);

impl Around for Stores {
    fn log(&self, inner: Arc<dyn LogStore>) -> Arc<dyn LogStore> {
        if !of_logs(self.0) {
            return inner;
        }
        if self.0 == Mutant::LoseLogSuffix {
            lose_suffix(inner.as_ref());
        }
        Arc::new(Log { inner, mutant: self.0, held: Mutex::default() })
    }

    fn state(&self, inner: Arc<dyn StateStore>) -> Arc<dyn StateStore> {
        if !of_states(self.0) {
            return inner;
        }
        Arc::new(State { inner, mutant: self.0, batches: AtomicU64::new(0) })
    }
}

fn lose_suffix(log: &dyn LogStore) {
    for group in 1..8 {
        if let Ok(LogBounds { first: Some(first), last: Some(last), .. }) = log.bounds(group)
            && last > first
        {
            let _ = log.write(&[LogOp::Truncate { group, from: last }]);
        }
    }
}

struct Log {
    inner: Arc<dyn LogStore>,
    mutant: Mutant,
    /// Written batches that a late sync has not passed on.
    held: Mutex<u64>,
}

impl LogStore for Log {
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError> {
        if self.mutant == Mutant::PurgeTooFar {
            let further = |op: &LogOp| match op {
                LogOp::Purge { group, upto, mark } => {
                    LogOp::Purge { group: *group, upto: upto + 2, mark: mark.clone() }
                }
                other => other.clone(),
            };
            return self.inner.write(&ops.iter().map(further).collect::<Vec<_>>());
        }
        if self.mutant == Mutant::ForgetVote {
            let kept: Vec<LogOp> = ops.iter().filter(|op| !matches!(op, LogOp::Vote { .. })).cloned().collect();
            return self.inner.write(&kept);
        }
        self.inner.write(ops)
    }

    fn sync(&self) -> Result<(), StorageError> {
        if self.mutant == Mutant::SyncLate {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            *held += 1;
            if !held.is_multiple_of(3) {
                return Ok(());
            }
        }
        self.inner.sync()
    }

    fn scan(
        &self,
        group: u32,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), StorageError> {
        self.inner.scan(group, range, visit)
    }

    fn bounds(&self, group: u32) -> Result<LogBounds, StorageError> {
        self.inner.bounds(group)
    }

    fn vote(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.inner.vote(group)
    }

    fn committed(&self, group: u32) -> Result<Option<Bytes>, StorageError> {
        self.inner.committed(group)
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.inner.usage()
    }
}

struct State {
    inner: Arc<dyn StateStore>,
    mutant: Mutant,
    batches: AtomicU64,
}

impl State {
    /// Whether this change gets lost. Only some batches are hit, so that the bug is not all there is to see.
    fn loses(&self, number: u64, place: usize, op: &StateOp) -> bool {
        let space = |key: &[u8]| key.get(SPACE).copied().unwrap_or_default();
        let key = match op {
            StateOp::Put(key, _) => key,
            StateOp::Delete(key) => {
                return number.is_multiple_of(20)
                    && match self.mutant {
                        Mutant::KeepTimerRow => space(key) == TIMER,
                        Mutant::KeepTaskRow => space(key) == TASK,
                        _ => false,
                    };
            }
            StateOp::DeleteRange(..) => return false,
        };
        let space = space(key);
        // The table follows the entity's names and the run.
        let table = |number: u8| space == ENTITY && key.len() > 9 && is_table(key, number);
        match self.mutant {
            Mutant::TearBatch => number.is_multiple_of(20) && place as u64 == number / 20 % 4 && space == ENTITY,
            Mutant::DropTimerRow => number.is_multiple_of(20) && space == TIMER,
            Mutant::DropTaskRow => number.is_multiple_of(20) && space == TASK,
            Mutant::DropListRow => number.is_multiple_of(20) && space == LIST,
            Mutant::DropMessage => number.is_multiple_of(5) && space == OUTBOX,
            Mutant::ForgetMessageOutcomes => space == MESSAGE_OUTCOME,
            Mutant::ForgetCommandOutcomes => space == COMMAND_OUTCOME,
            Mutant::DropBufferedEvent => table(mainstay_engine::Table::Buffered as u8),
            Mutant::ForgetRequestIds => table(mainstay_engine::Table::RequestId as u8),
            _ => false,
        }
    }
}

/// What a shard says of its slots, with a base of its sequences that is too low.
fn restarted(value: Bytes) -> Bytes {
    let Ok(mut record) = SlotsRecord::decode(value.clone()) else { return value };
    record.sequence_base = record.sequence_base.min(1);
    record.encode_to_vec().into()
}

/// Whether an entity's key with a run names this table: names end with `00 01`, then comes `01`, the run, and the table.
fn is_table(key: &[u8], table: u8) -> bool {
    let rest = &key[SPACE + 3..];
    let end = |from: usize| rest[from..].windows(2).position(|pair| pair == [0, 1]).map(|place| from + place + 2);
    let Some(run) = end(0).and_then(end) else { return false };
    rest.get(run) == Some(&1) && rest.get(run + 17) == Some(&table)
}

impl StateView for State {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.inner.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.inner.scan(from, to, visit)
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.inner.scan_reverse(from, to, visit)
    }
}

impl StateStore for State {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let mut kept = StateBatch::new();
        for (place, op) in batch.into_ops().into_iter().enumerate() {
            if self.loses(number, place, &op) {
                continue;
            }
            match op {
                StateOp::Put(key, value) if self.mutant == Mutant::RestartSequences && key.ends_with(SLOTS) => {
                    kept.put(key, restarted(value));
                }
                StateOp::Put(key, value) => kept.put(key, value),
                StateOp::Delete(key) => kept.delete(key),
                StateOp::DeleteRange(from, to) => kept.delete_range(from, to),
            }
        }
        self.inner.write(kept)
    }

    fn flush(&self) -> Result<(), StorageError> {
        if self.mutant == Mutant::SkipStateFlush { Ok(()) } else { self.inner.flush() }
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        if self.mutant == Mutant::SkipStateFlush { self.inner.get(key) } else { self.inner.get_persisted(key) }
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        self.inner.view()
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        let view = self.inner.export()?;
        Ok(match self.mutant {
            mutant @ (Mutant::ExportWithoutOutcomes | Mutant::ExportTorn) => Box::new(Exported { view, mutant }),
            _ => view,
        })
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.inner.usage()
    }
}

/// A state as another replica gets it.
struct Exported {
    view: Box<dyn StateView>,
    mutant: Mutant,
}

impl Exported {
    fn shows(&self, key: &[u8]) -> bool {
        let space = key.get(SPACE).copied().unwrap_or_default();
        match self.mutant {
            Mutant::ExportWithoutOutcomes => space != MESSAGE_OUTCOME && space != COMMAND_OUTCOME,
            _ => space != ENTITY || key.last().is_none_or(|last| last % 16 != 7),
        }
    }
}

impl StateView for Exported {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.view.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), StorageError> {
        self.view.scan(from, to, &mut |key, value| !self.shows(key) || visit(key, value))
    }

    fn scan_reverse(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        self.view.scan_reverse(from, to, &mut |key, value| !self.shows(key) || visit(key, value))
    }
}
