//! The end of one group's log, in memory: what was accepted but is not yet durable, and some of what was, so that apply reads no disk.
//!
//! The log as the group sees it is this tail laid over what the store holds. Each accepted operation has a number; when the writer
//! reports a number done, entries up to it may be forgotten, since the store gives them back. No I/O here.

use std::collections::VecDeque;
use std::ops::Range;

use crate::types::{LogEntry, LogId, Payload, Vote};

/// Entries kept though they are durable, and bytes of them.
const KEEP_ENTRIES: usize = 4096;
const KEEP_BYTES: usize = 4 << 20;

/// What an entry costs beside its data.
const OVERHEAD: usize = 64;

struct Held {
    number: u64,
    entry: LogEntry,
}

/// The parts of a range of entries.
pub(crate) struct Parts {
    /// What only the store has.
    pub stored: Range<u64>,
    /// What follows it.
    pub held: Vec<LogEntry>,
    /// Changes when entries are removed: the store was read in vain if it did.
    pub removals: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Tail {
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// Without gaps, up to the last.
    held: VecDeque<Held>,
    bytes: usize,
    accepted: u64,
    done: u64,
    removals: u64,
}

pub(crate) fn size(entry: &LogEntry) -> usize {
    OVERHEAD + if let Payload::Normal(command) = &entry.payload { command.0.len() } else { 0 }
}

impl Tail {
    /// The tail of a log whose entries are all in the store.
    pub fn new(purged: Option<LogId>, last: Option<LogId>, vote: Option<Vote>, committed: Option<LogId>) -> Self {
        Self { purged, last: last.max(purged), vote, committed, ..Self::default() }
    }

    pub fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry's id, else the last purged one's.
    pub fn last(&self) -> Option<LogId> {
        self.last
    }

    pub fn vote(&self) -> Option<Vote> {
        self.vote
    }

    pub fn committed(&self) -> Option<LogId> {
        self.committed
    }

    pub fn set_vote(&mut self, vote: Vote) -> u64 {
        self.vote = Some(vote);
        self.accept()
    }

    pub fn set_committed(&mut self, committed: LogId) {
        self.committed = Some(committed);
    }

    /// Adds entries at the end.
    pub fn append(&mut self, entries: impl IntoIterator<Item = LogEntry>) -> u64 {
        let number = self.accept();
        for entry in entries {
            self.last = Some(entry.log_id);
            self.bytes += size(&entry);
            self.held.push_back(Held { number, entry });
        }
        number
    }

    /// Removes what follows `last`.
    pub fn truncate_after(&mut self, last: Option<LogId>) -> u64 {
        let from = last.map_or(0, |last| last.index + 1);
        while self.held.back().is_some_and(|held| held.entry.log_id.index >= from) {
            self.forget_last();
        }
        self.last = last.max(self.purged);
        self.removals += 1;
        self.accept()
    }

    /// Removes what is at or before `upto`.
    pub fn purge(&mut self, upto: LogId) -> u64 {
        while self.held.front().is_some_and(|held| held.entry.log_id.index <= upto.index) {
            self.forget_first();
        }
        self.purged = self.purged.max(Some(upto));
        self.last = self.last.max(Some(upto));
        self.removals += 1;
        self.accept()
    }

    /// Everything up to this number is durable.
    pub fn done(&mut self, number: u64) {
        self.done = self.done.max(number);
        while (self.held.len() > KEEP_ENTRIES || self.bytes > KEEP_BYTES)
            && self.held.front().is_some_and(|held| held.number <= self.done)
        {
            self.forget_first();
        }
    }

    /// Whether the entry at this index, and so all before it, is durable here.
    pub fn is_durable(&self, index: u64) -> bool {
        let Some(first) = self.held.front().map(|held| held.entry.log_id.index) else {
            return true;
        };
        let Some(offset) = index.checked_sub(first) else {
            return true;
        };
        let held = usize::try_from(offset).ok().and_then(|offset| self.held.get(offset));
        held.is_some_and(|held| held.number <= self.done)
    }

    /// Where the entries of a range are, as far as the log has them.
    pub fn read(&self, range: Range<u64>) -> Parts {
        let first = self.purged.map_or(0, |purged| purged.index + 1).max(range.start);
        let end = self.last.map_or(0, |last| last.index + 1).min(range.end).max(first);
        let held_from = self.held.front().map_or(end, |held| held.entry.log_id.index).clamp(first, end);
        let skip = self.held.front().map_or(0, |held| held_from.saturating_sub(held.entry.log_id.index));
        let held = self.held.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX));
        let count = usize::try_from(end - held_from).unwrap_or(usize::MAX);
        let held = held.take(count).map(|held| held.entry.clone()).collect();
        Parts { stored: first..held_from, held, removals: self.removals }
    }

    pub fn removals(&self) -> u64 {
        self.removals
    }

    fn accept(&mut self) -> u64 {
        self.accepted += 1;
        self.accepted
    }

    fn forget_first(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.bytes -= size(&held.entry);
        }
    }

    fn forget_last(&mut self) {
        if let Some(held) = self.held.pop_back() {
            self.bytes -= size(&held.entry);
        }
    }
}
