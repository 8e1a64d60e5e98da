//! Which shard serves which slots, as this node knows: the table of the metadata group, and what each replica here says of itself.
//!
//! The table tells where to ask. Whether whoever is asked serves the slot is the replica's to say, in the order of its log.

use std::sync::{Arc, Mutex};

use mainstay_api::record::{SplitRecord, SplitsRecord, VisibilityRecord, split_record::Phase};
use mainstay_base::Slot;
use mainstay_engine::EntityKey;
use mainstay_runtime::Runtime;
use mainstay_shard::{Placement, Serving};
use tokio::sync::Notify;

use crate::lock;
use crate::node::Node;

/// What a call is about, and so where it is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Group(u32),
    /// At the group that serves this slot, whichever that is by then.
    Slot(u16),
}

impl From<u32> for Place {
    fn from(group: u32) -> Self {
        Self::Group(group)
    }
}

impl Place {
    pub(crate) fn of(entity: &EntityKey) -> Self {
        Self::Slot(Slot::of(&entity.namespace_id, &entity.workflow_id).get())
    }
}

/// The slots' shards in memory.
pub(crate) struct Slots {
    placement: Mutex<Arc<Placement>>,
    /// By group.
    serving: Vec<Mutex<Arc<Serving>>>,
    /// Rung when the table changes.
    pub(crate) changed: Notify,
    /// Rung when a group that this node leads serves other slots than before. By group.
    pub(crate) serves_anew: Vec<Notify>,
}

impl Slots {
    /// Of a cluster that was founded with so many shards.
    pub(crate) fn new(shards: u32, groups: u32) -> Self {
        Self {
            placement: Mutex::new(Arc::new(Placement::of(shards, &SplitsRecord::default()))),
            serving: (0..groups).map(|_| Mutex::default()).collect(),
            changed: Notify::new(),
            serves_anew: (0..groups).map(|_| Notify::new()).collect(),
        }
    }

    pub(crate) fn placement(&self) -> Arc<Placement> {
        lock(&self.placement).clone()
    }

    /// The metadata group's log changed the table, or it was read.
    pub(crate) fn applied(&self, record: &SplitsRecord) {
        let mut placement = lock(&self.placement);
        *placement = Arc::new(Placement::of(placement.first_shards(), record));
        drop(placement);
        self.changed.notify_waiters();
    }

    /// A group's log changed what it serves, or it was read.
    pub(crate) fn set_serving(&self, group: u32, serving: Serving) {
        if let Some(known) = self.serving.get(group as usize) {
            *lock(known) = Arc::new(serving);
        }
    }

    pub(crate) fn serving(&self, group: u32) -> Arc<Serving> {
        self.serving.get(group as usize).map(|known| lock(known).clone()).unwrap_or_default()
    }

    /// The table by which lists are read on this node. The table of the metadata group may be newer than the replica here of the shard
    /// that it names: as long as that has not everything, the rows are still where they came from. Whoever must see what
    /// came later has waited for that replica.
    pub(crate) fn shown_placement(&self) -> Arc<Placement> {
        let placement = self.placement();
        let is_behind =
            |split: &&SplitRecord| split.phase() == Phase::Served && !self.serving(split.target).has_arrived();
        let behind = placement.splits().iter().find(is_behind).map(|split| split.target);
        behind.map_or(placement.clone(), |target| Arc::new(placement.before(target)))
    }

    /// Whether the replica of a group here says that the group serves a slot.
    pub(crate) fn serves(&self, group: u32, slot: u16) -> bool {
        self.serving(group).serves(slot)
    }
}

/// Which rows of lists are read where: what a shard still has of slots that another serves is not, nor what another has already.
pub(crate) struct Shown {
    placement: Arc<Placement>,
    is_whole: bool,
}

impl Shown {
    /// By this table.
    pub(crate) fn by(placement: Arc<Placement>) -> Self {
        Self { is_whole: placement.under_way().is_none(), placement }
    }

    /// Whether all rows are where they belong.
    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The groups that have rows to show.
    pub(crate) fn groups(&self) -> Vec<u32> {
        self.placement.serving()
    }

    pub(crate) fn has(&self, group: u32, row: &VisibilityRecord) -> bool {
        self.is_whole || self.placement.group_of(mainstay_shard::slot_of_row(row)) == group
    }
}

impl<R: Runtime> Node<R> {
    /// The group of an entity now.
    pub(crate) fn route(&self, entity: &EntityKey) -> u32 {
        self.group_at(Place::of(entity))
    }

    /// The group of a place now.
    pub(crate) fn group_at(&self, place: Place) -> u32 {
        match place {
            Place::Group(group) => group,
            Place::Slot(slot) => self.board().slots.placement().group_of(slot),
        }
    }

    /// Whether the group of a place has given it away, and it is not known yet that another serves it.
    pub(crate) fn is_on_its_way(&self, place: Place, group: u32) -> bool {
        match place {
            Place::Group(_) => false,
            Place::Slot(slot) => self.board().slots.serving(group).has_left(slot),
        }
    }

    /// What lists show while a shard is split, or else.
    pub(crate) fn shown(&self) -> Shown {
        let slots = &self.board().slots;
        let placement = slots.shown_placement();
        // The table may be newer than the replica here of the shard that gave slots away last.
        let has_dropped = |split: &SplitRecord| {
            let serving = self.shard(split.source).ok().and_then(|shard| shard.serving().ok());
            split.phase() == Phase::Done && serving.is_some_and(|serving| serving.has_dropped(split.target))
        };
        Shown { is_whole: placement.splits().last().is_none_or(has_dropped), placement }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mainstay_api::log::{BeginArrival, Command, EndArrival, Entry, command::Op};
    use mainstay_shard::Shard;
    use mainstay_storage::MemoryState;
    use prost::Message;

    use super::*;

    fn arrived() -> Serving {
        let shard = Shard::new(3, Arc::new(MemoryState::default()));
        let ops = [
            Op::BeginArrival(BeginArrival { session: 1 }),
            Op::EndArrival(EndArrival { session: 1, now_ns: 1, sequence_base: 7 }),
        ];
        let entry = |op| Entry { command: Some(Command { op: Some(op), ..Command::default() }), ..Entry::default() };
        let entries: Vec<(u64, Bytes)> = (1..).zip(ops.map(|op| entry(op).encode_to_vec().into())).collect();
        shard.apply(&entries, Bytes::new()).expect("applies");
        shard.serving().expect("reads")
    }

    #[test]
    fn lists_show_a_new_shard_when_its_replica_here_has_everything() {
        let slots = Slots::new(2, 4);
        let split = SplitRecord {
            source: 1,
            target: 3,
            from: 4_096,
            to: 8_192,
            phase: Phase::Served as i32,
            voters: Vec::new(),
        };
        slots.applied(&SplitsRecord { shards: 2, splits: vec![split] });
        assert_eq!(slots.placement().group_of(5_000), 3, "calls go there");
        assert_eq!((slots.shown_placement().group_of(5_000), slots.shown_placement().serving()), (1, vec![1, 2]));
        slots.set_serving(3, arrived());
        assert_eq!((slots.shown_placement().group_of(5_000), slots.shown_placement().serving()), (3, vec![1, 2, 3]));
    }
}
