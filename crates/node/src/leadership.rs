//! What changes when this node begins to lead a group, or no longer does.
//!
//! A leader's memory is made of rows: once the first entry of its own term is applied, the rows are all there is to know. Effects are
//! carried out from then on, so that no row is missed between; what is offered twice is held once.

use mainstay_runtime::Runtime;
use mainstay_storage::StorageError;

use crate::node::Node;

impl<R: Runtime> Node<R> {
    /// This node leads the group, and has applied an entry of its own term: takes up what its rows ask for.
    pub(crate) fn gain(&self, group: u32) -> Result<(), StorageError> {
        self.board().set_leads(group, true);
        let now = self.now();
        let Some(started) = self.groups().get(group as usize) else { return Ok(()) };
        started.machine().shard.tasks(&mut |row| {
            self.board().dispatch.offer_row(group, row, now);
            true
        })
    }
}
