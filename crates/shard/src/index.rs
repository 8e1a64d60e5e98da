//! The rows that are read across entities: tasks by queue, timers by due time, runs in list order, namespaces.

use bytes::Bytes;
use mainstay_api::record::{EntityMessage, ListSpace as Space, TaskRow, TimerRow, VisibilityRecord};
use mainstay_engine::{Change, MessageId};
use mainstay_storage::StorageError;
use mainstay_visibility::Openness;
use mainstay_visibility::plan::{Plan, Span};
use prost::Message;

use crate::keys::after;
use crate::overlay::Overlay;
use crate::{Shard, decode, listed};

/// Which rows a list reads: each kind has an order of its own. The number is part of the stored key and of page tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ListSpace {
    /// Open runs, by start, newest first.
    Open = 0,
    /// Closed runs, by close, newest first.
    Closed = 1,
    /// Schedules, by creation, newest first.
    Schedules = 2,
    /// Batch jobs, by start, newest first.
    Batches = 3,
}

/// A place in a list: of the last row that was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListPosition {
    /// Start or close time of that row, in nanoseconds.
    pub time_ns: i64,
    /// Its run.
    pub run_id: String,
}

impl ListPosition {
    /// Of a row.
    #[must_use]
    pub fn of(row: &VisibilityRecord) -> Self {
        let time_ns = if ListSpace::of(row) == ListSpace::Closed { row.close_ns } else { row.start_ns };
        Self { time_ns, run_id: row.run_id.clone() }
    }
}

/// Writes one change of the engine.
pub(crate) fn write(overlay: &mut Overlay<'_>, change: &Change) -> Result<(), StorageError> {
    let keys = overlay.keys;
    match change {
        Change::Put { entity, row, value } => overlay.put(overlay.row_key(entity, row), value.clone()),
        Change::Delete { entity, row } => overlay.delete(overlay.row_key(entity, row)),
        Change::AddTask(row) => overlay.put(keys.task(row), row.encode_to_vec().into()),
        Change::RemoveTask(row) => overlay.delete(keys.task(row)),
        Change::AddTimer(row) => overlay.put(keys.timer(row), row.encode_to_vec().into()),
        Change::RemoveTimer(row) => overlay.delete(keys.timer(row)),
        Change::PutVisibility(row) => listed::put(overlay, row)?,
        Change::RemoveVisibility(row) => listed::remove(overlay, row)?,
        Change::PutNamespace(record) => overlay.put_namespace(record),
        Change::PutMessage(message) => {
            if let Some(id) = message_id(message) {
                overlay.put(keys.message(id), message.encode_to_vec().into());
            }
        }
        Change::RemoveMessage(id) => overlay.delete(keys.message(*id)),
        Change::PutOutcome(id, outcome) => overlay.put(keys.message_outcome(*id), outcome.encode_to_vec().into()),
        Change::RaiseFloor(floor) => raise_floor(overlay, *floor)?,
        Change::RemoveNamespace(id) => overlay.remove_namespace(id),
    }
    Ok(())
}

/// The id of a message; none for a slot that does not exist, which no engine sends from.
pub(crate) fn message_id(message: &EntityMessage) -> Option<MessageId> {
    let source_slot = u16::try_from(message.source_slot).ok()?;
    Some(MessageId { source_slot, sequence: message.sequence })
}

/// Sets a floor and forgets the outcomes of what is settled.
fn raise_floor(overlay: &mut Overlay<'_>, floor: MessageId) -> Result<(), StorageError> {
    let keys = overlay.keys;
    overlay.put(keys.message_floor(floor.source_slot), Bytes::copy_from_slice(&floor.sequence.to_be_bytes()));
    let mut settled = Vec::new();
    let from = keys.message_outcome(MessageId { sequence: 0, ..floor });
    overlay.visit(&from, &keys.message_outcome(floor), &mut |key, _| {
        settled.push(key.to_vec());
        true
    })?;
    settled.into_iter().for_each(|key| overlay.delete(key));
    Ok(())
}

impl ListSpace {
    /// The list that a row is in.
    #[must_use]
    pub fn of(row: &VisibilityRecord) -> Self {
        match row.space() {
            Space::Schedule => Self::Schedules,
            Space::Batch => Self::Batches,
            Space::Unspecified if row.close_ns == 0 => Self::Open,
            Space::Unspecified => Self::Closed,
        }
    }

    /// Whether a plan leads to no row of this list.
    #[must_use]
    pub fn is_excluded(self, plan: &Plan) -> bool {
        match plan.openness {
            Some(Openness::Open) => self == Self::Closed,
            Some(Openness::Closed) => self == Self::Open,
            None => false,
        }
    }

    /// The times between which a plan's rows of this list are.
    #[must_use]
    pub fn span(self, plan: &Plan) -> Span {
        match self {
            Self::Open => plan.open,
            Self::Closed => plan.closed,
            Self::Schedules | Self::Batches => Span::ALL,
        }
    }
}

impl Shard {
    /// Visits every task row, by kind, namespace, queue and sequence, until `visit` answers false.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn tasks(&self, visit: &mut dyn FnMut(TaskRow) -> bool) -> Result<(), StorageError> {
        let from = self.keys().tasks();
        self.records("a task row", &from, &after(&from), visit)
    }

    /// Visits the timer rows due at `from_ns` or later, earliest first, until `visit` answers false.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn timers_from(&self, from_ns: i64, visit: &mut dyn FnMut(TimerRow) -> bool) -> Result<(), StorageError> {
        self.records("a timer row", &self.keys().timers_from(from_ns), &after(&self.keys().timers()), visit)
    }

    /// Visits every message of the outbox, by source slot and sequence, until `visit` answers false.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn messages(&self, visit: &mut dyn FnMut(EntityMessage) -> bool) -> Result<(), StorageError> {
        let from = self.keys().outbox();
        self.records("a message", &from, &after(&from), visit)
    }

    /// One message of the outbox, as it is now.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn message(&self, id: MessageId) -> Result<Option<EntityMessage>, StorageError> {
        let value = self.store().get(&self.keys().message(id))?;
        value.map(|bytes| decode("a message", &bytes)).transpose()
    }

    /// Visits the runs of a namespace in list order behind `position`, until `visit` answers false.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn list(
        &self,
        namespace_id: &str,
        space: ListSpace,
        position: Option<&ListPosition>,
        visit: &mut dyn FnMut(VisibilityRecord) -> bool,
    ) -> Result<(), StorageError> {
        let prefix = self.keys().list_space(namespace_id, space);
        let from = match position {
            None => prefix.clone(),
            Some(at) => after(&self.keys().list(namespace_id, space, at.time_ns, &at.run_id)),
        };
        self.records("a list row", &from, &after(&prefix), visit)
    }

    /// Visits the namespaces that this shard's log knows.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn namespaces(
        &self,
        visit: &mut dyn FnMut(mainstay_api::record::NamespaceRecord) -> bool,
    ) -> Result<(), StorageError> {
        let from = self.keys().namespaces();
        self.records("a namespace", &from, &after(&from), visit)
    }

    fn records<M: Message + Default>(
        &self,
        what: &str,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(M) -> bool,
    ) -> Result<(), StorageError> {
        let mut failed = None;
        self.store().scan(from, to, &mut |_, value| match decode(what, value) {
            Ok(record) => visit(record),
            Err(error) => {
                failed = Some(error);
                false
            }
        })?;
        failed.map_or(Ok(()), Err)
    }
}
