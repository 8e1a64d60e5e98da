//! The byte budget: whether a store may grow.
//!
//! A full disk must never reach the log, where every error is fatal; so a command is refused when it is *admitted*, while a
//! reserve is still free for what was admitted before and for compaction. This module knows numbers only; the stores tell theirs.

use crate::StorageError;

/// Bytes that a store takes, and could still take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in use, on the medium and in write buffers. An estimate.
    pub used: u64,
    /// Bytes that the medium has free; `u64::MAX` where it has no end.
    pub available: u64,
}

/// How far stores may grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Most bytes in use; none for as many as the medium holds.
    pub max_bytes: Option<u64>,
    /// Bytes of the medium that stay free.
    pub reserve_bytes: u64,
}

impl Budget {
    /// Bytes that may still be added.
    #[must_use]
    pub fn room(&self, usage: Usage) -> u64 {
        let own = self.max_bytes.map_or(u64::MAX, |max| max.saturating_sub(usage.used));
        own.min(usage.available.saturating_sub(self.reserve_bytes))
    }

    /// Admits this many more bytes.
    ///
    /// # Errors
    /// [`StorageError::Full`] if there is no room for them.
    pub fn admit(&self, usage: Usage, wanted: u64) -> Result<(), StorageError> {
        let room = self.room(usage);
        if wanted <= room { Ok(()) } else { Err(StorageError::Full { used: usage.used, wanted, room }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_own_limit_and_the_reserve_bound_the_room() {
        let usage = Usage { used: 60, available: 50 };
        assert_eq!(Budget::default().room(usage), 50);
        assert_eq!(Budget { max_bytes: Some(100), reserve_bytes: 0 }.room(usage), 40);
        let tight = Budget { max_bytes: Some(100), reserve_bytes: 30 };
        assert_eq!(tight.room(usage), 20);
        assert!(tight.admit(usage, 20).is_ok());
        assert_eq!(tight.admit(usage, 21), Err(StorageError::Full { used: 60, wanted: 21, room: 20 }));
    }

    #[test]
    fn an_overdrawn_budget_has_no_room() {
        let usage = Usage { used: 200, available: u64::MAX };
        assert_eq!(Budget { max_bytes: Some(100), reserve_bytes: 1 }.room(usage), 0);
    }
}
