//! Who leads a group, and since when this node may act as its leader.
//!
//! A new leader knows what was committed before it only when it has applied the first entry of its own term; until then it does
//! not lead in the sense that matters to whoever carries out effects. The applier says of which term the last entry was.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// This node's part in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The current term, as far as this node knows.
    pub term: u64,
    /// Whether this node leads it and has applied an entry of it, and with that everything that was committed before.
    pub leading: bool,
}

/// Tells of changes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    applied_term: AtomicU64,
    changed: Notify,
}

impl Changes {
    /// An entry of this term was applied.
    pub fn applied(&self, term: u64) {
        if self.applied_term.fetch_max(term, Ordering::AcqRel) < term {
            self.changed.notify_waiters();
        }
    }

    pub fn applied_term(&self) -> u64 {
        self.applied_term.load(Ordering::Acquire)
    }

    /// Something may have changed.
    pub fn tell(&self) {
        self.changed.notify_waiters();
    }

    /// Resolves at the next change after this call.
    pub fn next(&self) -> Notified<'_> {
        self.changed.notified()
    }
}
