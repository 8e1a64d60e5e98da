//! Which shard serves which slots, as this node knows: the table of the metadata group, and what each replica here says of itself.
//!
//! The table tells where to ask. Whether whoever is asked serves the slot is the replica's to say, in the order of its log.

use std::sync::{Arc, Mutex};

use mainstay_api::record::{SplitsRecord, VisibilityRecord};
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
        let placement = self.board().slots.placement();
        Shown { is_whole: placement.under_way().is_none(), placement }
    }

    /// The shards that serve slots.
    pub(crate) fn serving_groups(&self) -> Vec<u32> {
        self.board().slots.placement().serving()
    }
}
