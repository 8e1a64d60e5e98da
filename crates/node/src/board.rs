//! What only a leader remembers, and what apply tells it: effects become offered tasks, armed timers and woken waits.
//!
//! Nothing here is needed for safety: all of it is made again from rows when this node begins to lead a group (`leadership`). Of
//! groups that it does not lead, only what every replica knows is taken up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use mainstay_base::Timestamp;
use mainstay_engine::MessageId;
use mainstay_shard::{Effect, Shard};
use mainstay_storage::StorageError;
use tokio::sync::Notify;

use crate::batches::Jobs;
use crate::dispatch::Dispatch;
use crate::holders::Holders;
use crate::measure::{Meter, Queues};
use crate::members::Members;
use crate::namespaces::Registry;
use crate::node::METADATA_GROUP;
use crate::outbox::Outbox;
use crate::queries::Questions;
use crate::slots::Slots;
use crate::task_queues::Configured;
use crate::updates::Updates;
use crate::waits::Waits;
use crate::workers::Workers;

/// A shard's next due timer, as far as its timer task knows.
pub(crate) struct Alarm {
    /// It sleeps until then.
    pub(crate) armed_ns: AtomicI64,
    /// The earliest row that was added since it last looked.
    pub(crate) lowest_ns: AtomicI64,
    pub(crate) earlier: Notify,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { armed_ns: AtomicI64::new(i64::MAX), lowest_ns: AtomicI64::new(i64::MAX), earlier: Notify::new() }
    }
}

/// The memory of a node.
pub(crate) struct Board {
    pub(crate) dispatch: Dispatch,
    pub(crate) waits: Waits,
    pub(crate) questions: Questions,
    pub(crate) updates: Updates,
    pub(crate) registry: Arc<Registry>,
    pub(crate) meter: Meter,
    pub(crate) configured: Configured,
    pub(crate) workers: Workers,
    pub(crate) members: Members,
    pub(crate) batches: Jobs,
    pub(crate) slots: Slots,
    pub(crate) holders: Holders,
    /// One for each group.
    pub(crate) alarms: Vec<Alarm>,
    /// Of which groups this node carries out effects.
    leads: Vec<AtomicBool>,
    /// How often that changed, for each group.
    turns: Vec<AtomicU64>,
    /// Rung when that changes for a group.
    pub(crate) leads_changed: Vec<Notify>,
    /// One for each group.
    pub(crate) outboxes: Vec<Outbox>,
    /// Bytes applied since the last flush.
    pub(crate) unflushed_bytes: AtomicU64,
    pub(crate) flush_wanted: Notify,
    /// Whether this node has learnt what there is: only then it may say that something is not there.
    pub(crate) has_met: AtomicBool,
}

impl Board {
    /// `groups`: how many there may ever be, of a cluster that was founded with so many shards.
    pub(crate) fn new(groups: u32, shards: u32, me: u64, clustered: bool) -> Self {
        let registry = Arc::<Registry>::default();
        Self {
            dispatch: Dispatch::new(me, clustered, Queues::new(Arc::clone(&registry))),
            members: Members::default(),
            waits: Waits::default(),
            questions: Questions::default(),
            updates: Updates::default(),
            registry,
            meter: Meter::default(),
            configured: Configured::default(),
            workers: Workers::default(),
            batches: Jobs::default(),
            slots: Slots::new(shards, groups),
            holders: Holders::default(),
            alarms: (0..groups).map(|_| Alarm::default()).collect(),
            leads: (0..groups).map(|_| AtomicBool::new(false)).collect(),
            turns: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            leads_changed: (0..groups).map(|_| Notify::new()).collect(),
            outboxes: (0..groups).map(|_| Outbox::default()).collect(),
            unflushed_bytes: AtomicU64::new(0),
            flush_wanted: Notify::new(),
            has_met: AtomicBool::new(false),
        }
    }

    /// Whether this node leads a group, and its memory of it is whole.
    pub(crate) fn leads(&self, group: u32) -> bool {
        self.leads.get(group as usize).is_some_and(|leads| leads.load(Ordering::Acquire))
    }

    /// Another one each time that this node begins to lead a group, or no longer does.
    pub(crate) fn turn(&self, group: u32) -> u64 {
        self.turns.get(group as usize).map_or(0, |turn| turn.load(Ordering::Acquire))
    }

    /// From here on effects of a group are carried out, or no longer.
    pub(crate) fn set_leads(&self, group: u32, leads: bool, now: Timestamp) {
        if let Some(outbox) = self.outboxes.get(group as usize) {
            outbox.clear();
        }
        if let Some(flag) = self.leads.get(group as usize) {
            let led = flag.swap(leads, Ordering::AcqRel);
            let shards = &self.meter.shards;
            match (led, leads) {
                (false, true) => shards.gained.increment(1),
                (true, false) => shards.lost.increment(1),
                _ => {}
            }
        }
        if let Some(turn) = self.turns.get(group as usize) {
            turn.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(changed) = self.leads_changed.get(group as usize) {
            changed.notify_waiters();
        }
        // What an earlier lead kept in memory alone is void, also for a later one.
        for (entity, run, task) in self.updates.abandon(group) {
            task.into_iter().for_each(|id| self.dispatch.retract_speculative(id, now));
            self.waits.wake(entity, run);
        }
        if let Some(alarm) = self.alarms.get(group as usize) {
            // The timer task looks at the whole index.
            alarm.lowest_ns.store(i64::MIN, Ordering::Release);
            alarm.earlier.notify_one();
        }
    }

    /// Remembers what every replica of a group does, out of its rows.
    pub(crate) fn load(&self, group: u32, shard: &Shard) -> Result<(), StorageError> {
        shard.namespaces(&mut |record| {
            self.registry.applied(group, record);
            true
        })?;
        if group == METADATA_GROUP {
            self.members.applied(shard.members()?);
            self.holders.applied(shard.replicas()?);
            self.slots.applied(&shard.splits()?);
        }
        self.slots.set_serving(group, shard.serving()?);
        Ok(())
    }

    /// Does what an applied entry asks a leader to do.
    pub(crate) fn carry_out(&self, group: u32, effects: Vec<Effect>, now: Timestamp) {
        let mut leads = self.leads(group);
        for effect in effects {
            match effect {
                Effect::NamespacePut(record) => self.registry.applied(group, *record),
                Effect::TaskQueueConfigured(namespace_id, row_id, value) => {
                    self.configure_queue(&namespace_id, &row_id, value, now);
                }
                Effect::MembersChanged(cluster) => {
                    self.meter.shards.members_changed.increment(1);
                    self.members.applied(*cluster);
                }
                Effect::ReplicasChanged(record) => self.holders.applied(*record),
                Effect::SplitsChanged(record) => self.slots.applied(&record),
                Effect::ServingChanged(serving) => {
                    self.slots.set_serving(group, *serving);
                    if std::mem::take(&mut leads) {
                        self.serve_anew(group, now);
                    }
                }
                Effect::NamespaceRemoved(id) => self.registry.removed(group, &id),
                _ if !leads => {}
                Effect::TaskAdded(row) => self.dispatch.offer_row(group, row, now),
                Effect::TaskRemoved(row) => self.dispatch.retract_row(group, &row, now),
                Effect::TimerAdded(due_ns) => self.arm(group, due_ns),
                Effect::RunChanged(entity, run) => {
                    self.meter.outcomes.transition(&self.registry, &entity.namespace_id);
                    self.updates.touch(&entity, run);
                    self.waits.wake(entity, run);
                }
                Effect::MessageAdded { id, slot } => self.message_added(group, id, slot),
                Effect::MessageRemoved(id) => {
                    if let Some(outbox) = self.outboxes.get(group as usize) {
                        outbox.removed(id);
                    }
                }
                Effect::BatchChanged => self.batches.wake(),
                Effect::RunClosed(row) => self.meter.outcomes.closed(&self.registry, *row),
                Effect::Noted(note) => self.meter.outcomes.noted(&self.registry, &note),
            }
        }
    }

    /// A group that this node leads serves other slots from here on: all that is remembered of it is made anew, as when it gets a leader.
    fn serve_anew(&self, group: u32, now: Timestamp) {
        self.set_leads(group, false, now);
        if let Some(anew) = self.slots.serves_anew.get(group as usize) {
            anew.notify_one();
        }
    }

    /// A group's outbox holds a message for an entity of this slot.
    pub(crate) fn message_added(&self, group: u32, id: MessageId, slot: u16) {
        if let Some(outbox) = self.outboxes.get(group as usize) {
            outbox.added(id, self.slots.placement().group_of(slot));
        }
    }

    fn arm(&self, group: u32, due_ns: i64) {
        let Some(alarm) = self.alarms.get(group as usize) else { return };
        alarm.lowest_ns.fetch_min(due_ns, Ordering::AcqRel);
        if due_ns < alarm.armed_ns.load(Ordering::Acquire) {
            alarm.earlier.notify_one();
        }
    }
}
