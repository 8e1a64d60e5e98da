//! Which slots a shard serves: all that it is asked for, but for those that it gave away, and none while it is the target of a split
//! that has not everything yet.
//!
//! An entry for an entity of another slot changes nothing and is answered with [`Error::Moved`]: whoever asked tries again at the shard
//! that the metadata group names. Entries about many entities do what concerns the shard's own slots.

use bytes::Bytes;
use mainstay_api::log::{BeginArrival, Command, EndArrival, HoldSlots, MessageOutcomes, Reply, command::Op, reply};
use mainstay_api::record::{EntityMessage, MessageOutcome, SlotsRecord, TaskRow, TimerRow, VisibilityRecord};
use mainstay_base::Slot;
use mainstay_engine::{Error, batch};
use mainstay_storage::StorageError;
use prost::Message;

use crate::apply::Effect;
use crate::index::ListSpace;
use crate::overlay::Overlay;
use crate::{Shard, decode_or_default};

/// The slots that a shard serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serving(pub(crate) SlotsRecord);

/// The slot of a list's row.
#[must_use]
pub fn slot_of_row(row: &VisibilityRecord) -> u16 {
    if ListSpace::of(row) == ListSpace::Batches {
        return Slot::of(&row.namespace_id, &batch::entity_id(&row.workflow_id)).get();
    }
    Slot::of(&row.namespace_id, &row.workflow_id).get()
}

/// The slot of a task's workflow.
#[must_use]
pub fn slot_of_task(row: &TaskRow) -> u16 {
    Slot::of(&row.namespace_id, &row.workflow_id).get()
}

/// The slot of a timer's entity.
#[must_use]
pub fn slot_of_timer(row: &TimerRow) -> u16 {
    Slot::of(&row.namespace_id, &row.workflow_id).get()
}

fn destination(message: &EntityMessage) -> u16 {
    Slot::of(&message.namespace_id, &message.workflow_id).get()
}

/// What of a command concerns the shard.
pub(crate) enum Admitted {
    /// All, but for the messages at these places.
    But(Vec<usize>),
    Nothing,
}

impl Serving {
    pub(crate) fn read(overlay: &Overlay<'_>) -> Result<Self, StorageError> {
        decode(overlay.value(&overlay.keys.slots())?)
    }

    pub(crate) fn write(&self, overlay: &mut Overlay<'_>) {
        overlay.put(overlay.keys.slots(), self.0.encode_to_vec().into());
    }

    /// Whether the shard serves a slot, if it is asked to.
    #[must_use]
    pub fn serves(&self, slot: u16) -> bool {
        !self.0.arriving && !self.has_left(slot)
    }

    /// Whether it gave a slot away.
    #[must_use]
    pub fn has_left(&self, slot: u16) -> bool {
        let slot = u32::from(slot);
        self.0.left.iter().any(|left| (left.from..left.to).contains(&slot))
    }

    /// Whether it serves whatever it is asked for.
    #[must_use]
    pub fn serves_all(&self) -> bool {
        !self.0.arriving && self.0.left.is_empty()
    }

    /// Whether it has given slots to this shard.
    #[must_use]
    pub fn has_left_to(&self, target: u32) -> bool {
        self.0.left.iter().any(|left| left.target == target)
    }

    /// Whether no row is left of what it gave to this shard.
    #[must_use]
    pub fn has_dropped(&self, target: u32) -> bool {
        self.0.left.iter().any(|left| left.target == target && left.dropped)
    }

    /// Whether everything that a split brings has arrived.
    #[must_use]
    pub fn has_arrived(&self) -> bool {
        !self.0.arriving && self.0.sequence_base != 0
    }

    /// Whether it takes rows from whoever copies under this number.
    #[must_use]
    pub fn takes_from(&self, session: u64) -> bool {
        self.0.arriving && self.0.session == session
    }

    /// Whether it takes rows from whoever copies under this number, and took so many of its entries.
    #[must_use]
    pub fn has_taken(&self, session: u64, number: u64) -> bool {
        self.takes_from(session) && self.0.number == number
    }

    /// What is added to indexes of the log where sequences are made of them, so that they go on rising.
    #[must_use]
    pub fn sequence_base(&self) -> u64 {
        self.0.sequence_base
    }

    /// Takes out of a command what other shards serve.
    pub(crate) fn admit(&self, command: &mut Command) -> Admitted {
        let all = Admitted::But(Vec::new());
        if self.serves_all() {
            return all;
        }
        let Command { namespace_id, workflow_id, op, .. } = command;
        if !workflow_id.is_empty() {
            let serves = self.serves(Slot::of(namespace_id, workflow_id).get());
            return if serves { all } else { Admitted::Nothing };
        }
        match op {
            Some(Op::FireTimers(fire)) => fire.rows.retain(|row| self.serves(slot_of_timer(row))),
            Some(Op::EraseRuns(erase)) => {
                erase.executions.retain(|execution| self.serves(Slot::of(namespace_id, &execution.workflow_id).get()));
            }
            Some(Op::AcknowledgeMessages(acknowledged)) => {
                let serves = |slot: u32| u16::try_from(slot).is_ok_and(|slot| self.serves(slot));
                acknowledged.messages.retain(|message| serves(message.source_slot));
            }
            Some(Op::DeliverMessages(delivery)) => {
                let places = (0..).zip(&delivery.messages);
                let left_out = places.filter(|(_, message)| !self.serves(destination(message))).map(|(at, _)| at);
                let left_out: Vec<usize> = left_out.collect();
                delivery.messages.retain(|message| self.serves(destination(message)));
                return Admitted::But(left_out);
            }
            _ => {}
        }
        all
    }

    /// Somebody begins to copy rows into this shard.
    pub(crate) fn begin(&mut self, begin: &BeginArrival) -> bool {
        if self.has_arrived() || self.0.session == begin.session {
            return false;
        }
        self.0 = SlotsRecord { arriving: true, session: begin.session, ..SlotsRecord::default() };
        true
    }

    /// Everything was copied.
    pub(crate) fn end(&mut self, end: &EndArrival) -> bool {
        if !self.takes_from(end.session) {
            return false;
        }
        self.0 = SlotsRecord { sequence_base: end.sequence_base.max(1), ..SlotsRecord::default() };
        true
    }

    /// The shard gives slots away.
    pub(crate) fn hold(&mut self, hold: &HoldSlots) -> bool {
        let Some(slots) = hold.slots.clone().filter(|slots| !self.has_left_to(slots.target)) else { return false };
        self.0.left.push(slots);
        true
    }

    pub(crate) fn effect(&self) -> Effect {
        Effect::ServingChanged(Box::new(self.clone()))
    }
}

/// Puts outcomes that say nothing where messages were left out.
pub(crate) fn leave_gaps(reply: &mut Result<Reply, Error>, left_out: &[usize]) {
    let Ok(Reply { reply: Some(reply::Reply::MessageOutcomes(MessageOutcomes { outcomes })), .. }) = reply else {
        return;
    };
    for at in left_out {
        outcomes.insert((*at).min(outcomes.len()), MessageOutcome::default());
    }
}

fn decode(value: Option<Bytes>) -> Result<Serving, StorageError> {
    decode_or_default("the slots of a shard", value).map(Serving)
}

impl Shard {
    /// The slots that this shard serves, as its log says.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn serving(&self) -> Result<Serving, StorageError> {
        decode(self.store().get(&self.keys().slots())?)
    }
}
