//! What changes when this node begins to lead a group, or no longer does.
//!
//! A leader's memory is made of rows: once the first entry of its own term is applied, the rows are all there is to know. Effects are
//! carried out from then on, so that no row is missed between; what is offered twice is held once. When leadership ends, whoever waits
//! here for the group is sent to the next leader by `route`.

use mainstay_base::Slot;
use mainstay_consensus::Leadership;
use mainstay_engine::MessageId;
use mainstay_runtime::{Runtime, Select2, select2};
use mainstay_storage::StorageError;

use crate::node::Node;

impl<R: Runtime> Node<R> {
    /// This node leads the group, and has applied an entry of its own term: takes up what its rows ask for.
    pub(crate) fn gain(&self, group: u32) -> Result<(), StorageError> {
        self.board().set_leads(group, true, self.now());
        self.offer_rows(group)?;
        self.load_outbox(group)
    }

    /// Offers every task of a group. What is held already is held once.
    pub(crate) fn offer_rows(&self, group: u32) -> Result<(), StorageError> {
        let now = self.now();
        let Some(started) = self.groups().get(group as usize) else { return Ok(()) };
        started.machine().shard.tasks(&mut |row| {
            self.board().dispatch.offer_row(group, row, now);
            true
        })
    }

    /// Takes up every message that a group has to deliver.
    fn load_outbox(&self, group: u32) -> Result<(), StorageError> {
        let Some(started) = self.groups().get(group as usize) else { return Ok(()) };
        started.machine().shard.messages(&mut |message| {
            if let Ok(source_slot) = u16::try_from(message.source_slot) {
                let id = MessageId { source_slot, sequence: message.sequence };
                let slot = Slot::of(&message.namespace_id, &message.workflow_id).get();
                self.board().message_added(group, id, slot);
            }
            true
        })
    }

    /// Resolves when this node does not lead the group.
    pub(crate) async fn lost(&self, group: u32) {
        let Some(changed) = self.board().leads_changed.get(group as usize) else { return };
        loop {
            let changed = changed.notified();
            if !self.board().leads(group) {
                return;
            }
            changed.await;
        }
    }

    /// Resolves when the group has a leader that is not `than`.
    pub(crate) async fn another_leader(&self, group: u32, than: u64) {
        let Ok(group) = self.group(group) else { return };
        loop {
            let changed = group.leadership_changed();
            if group.leader().is_some_and(|leader| leader != than) {
                return;
            }
            changed.await;
        }
    }
}

/// Follows who leads a group, for as long as the node runs. Only for groups with peers.
pub(crate) async fn follow<R: Runtime>(node: Node<R>, group: u32) {
    let Ok(followed) = node.group(group).cloned() else { return };
    let mut known = Leadership::default();
    while !node.is_stopped() {
        let Select2::First(next) = select2(followed.leadership_after(known), node.stopping()).await else { return };
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
