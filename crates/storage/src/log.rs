//! The log of all Raft groups of a node.
//!
//! One writer calls `write` and `sync`, in order: a later operation is never durable before an earlier one. Truncation, purge, votes
//! and commit marks are operations like any other and take the same way. What may follow what is decided here, in
//! [`LogBounds::after`], so that every store refuses the same operations; what entries and marks mean is not known here.

use std::ops::Range;

use bytes::Bytes;

use crate::{StorageError, StoreFigures, Usage};

/// One operation on the log of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// Adds entries with consecutive indexes from `first`, which follows the last index. The first entries that a group ever
    /// gets may begin anywhere.
    Append { group: u32, first: u64, entries: Vec<Bytes> },
    /// Removes the entries from this index on. Purged ones cannot be truncated.
    Truncate { group: u32, from: u64 },
    /// Removes the entries up to and with this index, which may be beyond the last; `mark` describes the entry at `upto`.
    /// Changes nothing if as much was purged before.
    Purge { group: u32, upto: u64, mark: Bytes },
    /// Sets the group's vote.
    Vote { group: u32, value: Bytes },
    /// Sets what the group knows to be committed.
    Committed { group: u32, value: Bytes },
}

impl LogOp {
    /// The group that it concerns.
    #[must_use]
    pub fn group(&self) -> u32 {
        match self {
            Self::Append { group, .. }
            | Self::Truncate { group, .. }
            | Self::Purge { group, .. }
            | Self::Vote { group, .. }
            | Self::Committed { group, .. } => *group,
        }
    }

    /// Bytes of entries and values that it carries.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Append { entries, .. } => entries.iter().map(|entry| entry.len() as u64).sum(),
            Self::Truncate { .. } => 0,
            Self::Purge { mark: value, .. } | Self::Vote { value, .. } | Self::Committed { value, .. } => {
                value.len() as u64
            }
        }
    }
}

/// Which entries a group's log holds: those from `first` to `last`, without a gap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// The last purged index.
    pub purged: Option<u64>,
    /// What the purge said of the entry at that index.
    pub purge_mark: Option<Bytes>,
    /// The first index held; none if no entry is held.
    pub first: Option<u64>,
    /// The last index known: of the last entry held, else the last purged one.
    pub last: Option<u64>,
}

impl LogBounds {
    /// The bounds after an operation on this group.
    ///
    /// # Errors
    /// [`StorageError::OutOfOrder`] if the operation does not follow from these bounds.
    pub fn after(&self, op: &LogOp) -> Result<Self, StorageError> {
        let refuse = |reason: String| Err(StorageError::OutOfOrder { group: op.group(), reason });
        let mut next = self.clone();
        match op {
            LogOp::Append { entries, .. } if entries.is_empty() => {}
            LogOp::Append { first, entries, .. } => {
                let follows = self.last.is_none_or(|last| last.checked_add(1) == Some(*first));
                let last = first.checked_add(entries.len() as u64 - 1);
                let (true, Some(last)) = (follows, last) else {
                    return refuse(format!("entries from {first} do not follow {:?}", self.last));
                };
                next.first = self.first.or(Some(*first));
                next.last = Some(last);
            }
            LogOp::Truncate { from, .. } => {
                if self.purged.is_some_and(|purged| *from <= purged) {
                    return refuse(format!("entries from {from} are purged up to {:?}", self.purged));
                }
                if self.first.is_some_and(|first| *from <= first) {
                    next.first = None;
                    next.last = self.purged;
                } else {
                    next.last = self.last.map(|last| last.min(from.saturating_sub(1)));
                }
            }
            LogOp::Purge { upto, .. } if self.purged.is_some_and(|purged| *upto <= purged) => {}
            LogOp::Purge { upto, mark, .. } => {
                next.purged = Some(*upto);
                next.purge_mark = Some(mark.clone());
                if self.last.is_none_or(|last| last <= *upto) {
                    next.first = None;
                    next.last = Some(*upto);
                } else {
                    next.first = self.first.map(|first| first.max(upto + 1));
                }
            }
            LogOp::Vote { .. } | LogOp::Committed { .. } => {}
        }
        Ok(next)
    }
}

/// The log of a node.
pub trait LogStore: Send + Sync + 'static {
    /// Applies operations in order as one atomic batch. Readable at once, durable after [`LogStore::sync`].
    ///
    /// # Errors
    /// [`StorageError::OutOfOrder`] and [`StorageError::Full`] leave everything as it was. After any other error nothing may be
    /// assumed of the batch, and the node must stop.
    fn write(&self, ops: &[LogOp]) -> Result<(), StorageError>;

    /// Makes everything written so far durable. Blocks.
    ///
    /// # Errors
    /// A failed sync cannot be repeated: the node must stop.
    fn sync(&self) -> Result<(), StorageError>;

    /// Visits the entries of a range that exist, in order, until `visit` answers false.
    ///
    /// # Errors
    /// If they cannot be read.
    fn scan(
        &self,
        group: u32,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, Bytes) -> bool,
    ) -> Result<(), StorageError>;

    /// The entries of a range that exist, in order.
    ///
    /// # Errors
    /// If they cannot be read.
    fn entries(&self, group: u32, range: Range<u64>) -> Result<Vec<(u64, Bytes)>, StorageError> {
        self.entries_within(group, range, u64::MAX)
    }

    /// The entries of a range that exist, in order, up to `max_bytes` together, but at least one if there is one.
    ///
    /// # Errors
    /// If they cannot be read.
    fn entries_within(&self, group: u32, range: Range<u64>, max_bytes: u64) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let mut found: Vec<(u64, Bytes)> = Vec::new();
        let mut size = 0;
        self.scan(group, range, &mut |index, entry| {
            size += entry.len() as u64;
            let fits = found.is_empty() || size <= max_bytes;
            if fits {
                found.push((index, entry));
            }
            fits
        })?;
        Ok(found)
    }

    /// What the log holds.
    ///
    /// # Errors
    /// If it cannot be read.
    fn bounds(&self, group: u32) -> Result<LogBounds, StorageError>;

    /// The group's vote.
    ///
    /// # Errors
    /// If it cannot be read.
    fn vote(&self, group: u32) -> Result<Option<Bytes>, StorageError>;

    /// What the group knew to be committed.
    ///
    /// # Errors
    /// If it cannot be read.
    fn committed(&self, group: u32) -> Result<Option<Bytes>, StorageError>;

    /// Gives back the space of what was purged, if that does not happen at once. Blocks.
    ///
    /// # Errors
    /// If the medium failed.
    fn reclaim(&self) -> Result<(), StorageError> {
        Ok(())
    }

    /// How the store stands, for people who watch it.
    fn figures(&self) -> StoreFigures {
        StoreFigures::default()
    }

    /// Bytes taken and free, for a [`crate::Budget`].
    ///
    /// # Errors
    /// If the medium does not tell.
    fn usage(&self) -> Result<Usage, StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(first: u64, count: usize) -> LogOp {
        LogOp::Append { group: 1, first, entries: vec![Bytes::new(); count] }
    }

    fn purge(upto: u64) -> LogOp {
        LogOp::Purge { group: 1, upto, mark: Bytes::from_static(b"m") }
    }

    /// The purged, first and last index.
    type Indexes = (Option<u64>, Option<u64>, Option<u64>);

    fn after(ops: &[LogOp]) -> Result<Indexes, StorageError> {
        let end = ops.iter().try_fold(LogBounds::default(), |bounds, op| bounds.after(op))?;
        Ok((end.purged, end.first, end.last))
    }

    #[test]
    fn entries_follow_each_other() {
        assert_eq!(after(&[append(5, 3), append(8, 1)]), Ok((None, Some(5), Some(8))));
        assert!(after(&[append(5, 3), append(9, 1)]).is_err());
        assert!(after(&[append(5, 3), append(7, 1)]).is_err());
        assert_eq!(after(&[append(5, 0)]), Ok((None, None, None)));
        assert!(after(&[append(u64::MAX, 2)]).is_err());
    }

    #[test]
    fn a_truncated_log_goes_on_where_it_was_cut() {
        let truncate = |from| LogOp::Truncate { group: 1, from };
        assert_eq!(after(&[append(0, 4), truncate(2), append(2, 1)]), Ok((None, Some(0), Some(2))));
        assert_eq!(after(&[append(3, 4), truncate(1)]), Ok((None, None, None)));
        assert_eq!(after(&[append(0, 4), purge(1), truncate(2)]), Ok((Some(1), None, Some(1))));
        assert_eq!(after(&[append(0, 4), truncate(9)]), Ok((None, Some(0), Some(3))));
        assert!(after(&[append(0, 4), purge(2), truncate(2)]).is_err());
    }

    #[test]
    fn a_purge_may_pass_the_end_and_never_goes_back() {
        assert_eq!(after(&[append(0, 4), purge(9), append(10, 1)]), Ok((Some(9), Some(10), Some(10))));
        assert_eq!(after(&[append(0, 4), purge(2), purge(1)]), Ok((Some(2), Some(3), Some(3))));
        assert_eq!(after(&[purge(2)]), Ok((Some(2), None, Some(2))));
    }
}
