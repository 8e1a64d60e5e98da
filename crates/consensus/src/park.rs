//! A replica that its node is not to have any more is parked: its rows are removed, and it stays fenced until the node becomes a member
//! again.
//!
//! What it voted for, its log and the mark of its state stay: they are small, and true. So nothing depends on when a replica is parked, and
//! a member that is parked too early is only one that must be rebuilt. When the node is wanted again, its replica is rebuilt as any
//! other that is fenced ([`crate::fence`]), or gets a whole state, if its log ends too early for that.

use mainstay_runtime::Runtime;
use mainstay_storage::StateBatch;

use crate::machine::StateRange;
use crate::{Error, Group, Machine};

impl<R: Runtime, M: Machine> Group<R, M> {
    /// Removes the state of the replica here, which serves nothing from now on. Returns when the rows are gone. Idempotent; only for
    /// groups with peers.
    ///
    /// # Errors
    /// [`Error::Stopped`], or if the store fails.
    pub async fn park(&self) -> Result<(), Error> {
        self.0.fence.park();
        self.0.changes.tell();
        let parked = self.0.raft.with_state_machine(|applier| Box::pin(applier.park())).await;
        parked.map_err(|fatal| self.fatal(fatal))??;
        Ok(())
    }

    /// Has the replica here rebuilt, if it is parked: its node is to be a member again.
    pub fn unpark(&self) {
        self.0.fence.unpark();
    }

    /// Whether the replica here is parked.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.0.fence.is_parked()
    }
}

/// What removes all rows but the mark.
pub(crate) fn removal(range: &StateRange) -> StateBatch {
    let mut batch = StateBatch::new();
    batch.delete_range(range.from.clone(), range.mark.clone());
    let mut behind = range.mark.clone();
    behind.push(0);
    batch.delete_range(behind, range.to.clone());
    batch
}
