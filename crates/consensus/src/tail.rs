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
    keep_entries: usize,
    keep_bytes: usize,
}

pub(crate) fn size(entry: &LogEntry) -> usize {
    OVERHEAD + if let Payload::Normal(command) = &entry.payload { command.0.len() } else { 0 }
}

impl Tail {
    /// The tail of a log whose entries are all in the store.
    pub fn new(purged: Option<LogId>, last: Option<LogId>, vote: Option<Vote>, committed: Option<LogId>) -> Self {
        Self {
            purged,
            last: last.max(purged),
            vote,
            committed,
            held: VecDeque::new(),
            bytes: 0,
            accepted: 0,
            done: 0,
            removals: 0,
            keep_entries: KEEP_ENTRIES,
            keep_bytes: KEEP_BYTES,
        }
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
        while (self.held.len() > self.keep_entries || self.bytes > self.keep_bytes)
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use mainstay_storage::{LogOp, LogStore, MemoryLog};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::codec;
    use crate::types::{Command, LeaderId};

    #[derive(Clone, Debug)]
    enum Step {
        Append(u64),
        /// Removes so many from the end.
        Truncate(u64),
        /// Removes so many from the beginning.
        Purge(u64),
        /// The writer writes so many operations.
        Write(usize),
        /// Some entries are read.
        Read(u64, u64),
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..5_u64).prop_map(Step::Append),
            (1..8_u64).prop_map(Step::Truncate),
            (1..8_u64).prop_map(Step::Purge),
            (1..4_usize).prop_map(Step::Write),
            (0..40_u64, 0..40_u64).prop_map(|(from, count)| Step::Read(from, from + count)),
        ]
    }

    fn id(term: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: 1 }, index }
    }

    /// A tail over a store, with a plain map that says what the log must be.
    struct World {
        tail: Tail,
        store: MemoryLog,
        queue: VecDeque<(u64, LogOp)>,
        model: BTreeMap<u64, LogEntry>,
        purged: Option<LogId>,
        term: u64,
    }

    impl World {
        fn last(&self) -> Option<LogId> {
            self.model.values().next_back().map(|entry| entry.log_id).max(self.purged)
        }

        fn append(&mut self, count: u64) {
            self.term += 1;
            let first = self.last().map_or(0, |last| last.index + 1);
            let entry = |index| LogEntry {
                log_id: id(self.term, index),
                payload: Payload::Normal(Command(vec![7].into(), Default::default())),
            };
            let entries: Vec<_> = (first..first + count).map(entry).collect();
            self.model.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
            let encoded = entries.iter().map(codec::entry).collect();
            self.queue.push_back((self.tail.append(entries), LogOp::Append { group: 1, first, entries: encoded }));
        }

        fn truncate(&mut self, count: u64) {
            let Some((first, last)) = self.model.keys().next().zip(self.model.keys().next_back()) else { return };
            let from = (last + 1).saturating_sub(count).max(*first);
            self.model.split_off(&from);
            let keep = self.last().filter(|_| from > 0);
            self.queue.push_back((self.tail.truncate_after(keep), LogOp::Truncate { group: 1, from }));
        }

        fn purge(&mut self, count: u64) {
            let Some(upto) = self.model.values().take(usize::try_from(count).expect("small")).last() else { return };
            let upto = upto.log_id;
            self.model = self.model.split_off(&(upto.index + 1));
            self.purged = Some(upto);
            let op = LogOp::Purge { group: 1, upto: upto.index, mark: codec::log_id(&upto) };
            self.queue.push_back((self.tail.purge(upto), op));
        }

        fn write(&mut self, count: usize) {
            for (number, op) in self.queue.drain(..count.min(self.queue.len())) {
                self.store.write(&[op]).expect("follows from what was written");
                self.tail.done(number);
            }
        }

        fn read(&self, range: Range<u64>) -> Vec<LogEntry> {
            let parts = self.tail.read(range);
            let stored = self.store.entries(1, parts.stored.clone()).expect("memory is readable");
            assert_eq!(
                stored.len() as u64,
                parts.stored.end - parts.stored.start,
                "the store has what the tail has not"
            );
            let stored = stored.into_iter().map(|(_, entry)| codec::read_entry(entry).expect("was written"));
            stored.chain(parts.held).collect()
        }

        /// Whether all operations that concern this entry were written.
        fn written(&self, index: u64) -> bool {
            !self.queue.iter().any(|(_, op)| match op {
                LogOp::Append { first, entries, .. } => (*first..first + entries.len() as u64).contains(&index),
                _ => false,
            })
        }
    }

    proptest! {
        #[test]
        fn a_tail_over_a_store_is_the_log(steps in vec(steps(), 1..60)) {
            let tail = Tail { keep_entries: 3, ..Tail::new(None, None, None, None) };
            let (store, queue, model) = Default::default();
            let mut world = World { tail, store, queue, model, purged: None, term: 0 };
            for step in steps {
                match step {
                    Step::Append(count) => world.append(count),
                    Step::Truncate(count) => world.truncate(count),
                    Step::Purge(count) => world.purge(count),
                    Step::Write(count) => world.write(count),
                    Step::Read(from, to) => {
                        let expected: Vec<_> = world.model.range(from..to).map(|(_, entry)| entry.clone()).collect();
                        prop_assert_eq!(world.read(from..to), expected);
                    }
                }
                let expected: Vec<_> = world.model.values().cloned().collect();
                prop_assert_eq!(world.read(0..u64::MAX), expected);
                prop_assert_eq!(world.tail.last(), world.last());
                prop_assert_eq!(world.tail.purged(), world.purged);
                for index in world.model.keys() {
                    // What was truncated and appended again waits for both.
                    prop_assert!(world.written(*index) || !world.tail.is_durable(*index));
                }
            }
            world.write(usize::MAX);
            prop_assert!(world.model.keys().all(|index| world.tail.is_durable(*index)));
            prop_assert!(world.tail.held.len() <= 3);
        }
    }
}
