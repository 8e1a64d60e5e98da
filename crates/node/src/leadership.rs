//! What changes when this node begins to lead a group, or no longer does.
//!
//! A leader's memory is made of rows: once the first entry of its own term is applied, the rows are all there is to know. Effects are
//! carried out from then on, so that no row is missed between; what is offered twice is held once. When leadership ends, whoever waits
//! here for the group is sent to the next leader by `route`.

use mainstay_base::Slot;
use mainstay_consensus::Leadership;
use mainstay_engine::MessageId;
use mainstay_runtime::{Runtime, Select2, select2};
use mainstay_shard::slot_of_task;
use mainstay_storage::StorageError;

use crate::node::Node;

impl<R: Runtime> Node<R> {
    /// This node leads the group, and has applied an entry of its own term: takes up what its rows ask for.
    pub(crate) fn gain(&self, group: u32) -> Result<(), StorageError> {
        // As at a start. A clock that was far behind when this node came to be would let the group's time stand still.
        if let Ok(shard) = self.shard(group) {
            self.has_seen(shard.now()?);
        }
        self.board().set_leads(group, true, self.now());
        self.offer_rows(group)?;
        self.load_outbox(group)
    }

    /// Offers every task of a group again, to those who own the queues now.
    pub(crate) fn offer_anew(&self, group: u32) -> Result<(), StorageError> {
        self.offer_rows(group)?;
        self.offer_speculative_again(group)
    }

    /// Offers every task row of a group. What is held already is held once.
    fn offer_rows(&self, group: u32) -> Result<(), StorageError> {
        let now = self.now();
        let (Ok(shard), serving) = (self.shard(group), self.board().slots.serving(group)) else { return Ok(()) };
        shard.tasks(&mut |row| {
            if serving.serves_all() || serving.serves(slot_of_task(&row)) {
                self.board().dispatch.offer_row(group, row, now);
            }
            true
        })
    }

    /// Takes up every message that a group has to deliver.
    pub(crate) fn load_outbox(&self, group: u32) -> Result<(), StorageError> {
        let (Ok(shard), serving) = (self.shard(group), self.board().slots.serving(group)) else { return Ok(()) };
        shard.messages(&mut |message| {
            if let Ok(source_slot) = u16::try_from(message.source_slot)
                && serving.serves(source_slot)
            {
                let id = MessageId { source_slot, sequence: message.sequence };
                let slot = Slot::of(&message.namespace_id, &message.workflow_id).get();
                self.board().message_added(group, id, slot);
            }
            true
        })
    }

    /// Takes up a group anew that serves other slots than before: what others serve now is offered no longer.
    fn regain(&self, group: u32) -> Result<(), StorageError> {
        let (Ok(shard), serving, now) = (self.shard(group), self.board().slots.serving(group), self.now()) else {
            return Ok(());
        };
        shard.tasks(&mut |row| {
            if !serving.serves(slot_of_task(&row)) {
                self.board().dispatch.retract_row(group, &row, now);
            }
            true
        })?;
        self.gain(group)
    }

    /// Resolves when this node does not lead the group, or leads it anew.
    pub(crate) async fn lost(&self, group: u32) {
        let Some(changed) = self.board().leads_changed.get(group as usize) else { return };
        let turn = self.board().turn(group);
        loop {
            let changed = changed.notified();
            if !self.board().leads(group) || self.board().turn(group) != turn {
                return;
            }
            changed.await;
        }
    }

    /// Resolves when the group has a leader that is not `than`.
    pub(crate) async fn another_leader(&self, number: u32, than: u64) {
        let Ok(group) = self.group(number) else { return };
        loop {
            let changed = group.leadership_changed();
            if self.known_leader(number).is_some_and(|leader| leader != than) {
                return;
            }
            changed.await;
        }
    }
}

/// Follows who leads a group, for as long as the node runs. Only for groups with peers.
pub(crate) async fn follow<R: Runtime>(node: Node<R>, group: u32) {
    let Ok(followed) = node.group(group).cloned() else { return };
    let Some(anew) = node.board().slots.serves_anew.get(group as usize) else { return };
    let mut known = Leadership::default();
    while !node.is_stopped() {
        let either = select2(followed.leadership_after(known), anew.notified());
        let Select2::First(either) = select2(either, node.stopping()).await else { return };
        let Select2::First(next) = either else {
            if known.leading
                && !node.board().leads(group)
                && let Err(error) = node.regain(group)
            {
                node.cannot_read(group, &error);
            }
            continue;
        };
        if node.board().leads(group) && (!next.leading || next.term != known.term) {
            node.board().set_leads(group, false, node.now());
            tracing::info!(component = "shard", "shard-id" = group, term = next.term, "leads no longer");
        }
        if next.leading
            && !node.board().leads(group)
            && let Err(error) = node.gain(group)
        {
            node.cannot_read(group, &error);
        }
        if next.leading && !(known.leading && known.term == next.term) {
            tracing::info!(component = "shard", "shard-id" = group, term = next.term, "leads");
        }
        known = next;
    }
}
