//! The suite of logs.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Step;
use crate::{LogBounds, LogOp, LogStore, StorageError};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Walks through the operations of a log, on groups 7 and 8, which must be empty.
pub fn log(log: &dyn LogStore) {
    appends(log);
    overwrites(log);
    refuses(log);
    purges(log);
}

fn appends(log: &dyn LogStore) {
    assert_eq!(log.bounds(7).unwrap(), LogBounds::default());
    log.write(&[
        LogOp::Append { group: 7, first: 1, entries: vec![bytes("a"), bytes("b"), bytes("c")] },
        LogOp::Append { group: 8, first: 5, entries: vec![bytes("z")] },
        LogOp::Vote { group: 7, value: bytes("v1") },
    ])
    .unwrap();
    assert_eq!(log.entries(7, 2..9).unwrap(), vec![(2, bytes("b")), (3, bytes("c"))]);
    log.sync().unwrap();
    assert_eq!(log.entries(7, 2..9).unwrap(), vec![(2, bytes("b")), (3, bytes("c"))]);
    assert_eq!(log.entries(7, 3..3).unwrap(), vec![]);
    assert_eq!(log.entries_within(7, 1..9, 2).unwrap(), vec![(1, bytes("a")), (2, bytes("b"))]);
    assert_eq!(log.entries_within(7, 1..9, 0).unwrap(), vec![(1, bytes("a"))]);
    assert_eq!(log.bounds(8).unwrap().last, Some(5));
    assert_eq!(log.bounds(8).unwrap().first, Some(5));
    assert_eq!(log.committed(7).unwrap(), None);
    assert!(log.usage().unwrap().available > 0);
}

fn overwrites(log: &dyn LogStore) {
    log.write(&[
        LogOp::Truncate { group: 7, from: 2 },
        LogOp::Append { group: 7, first: 2, entries: vec![bytes("B")] },
        LogOp::Vote { group: 7, value: bytes("v2") },
        LogOp::Committed { group: 7, value: bytes("c") },
    ])
    .unwrap();
    assert_eq!(log.entries(7, 0..u64::MAX).unwrap(), vec![(1, bytes("a")), (2, bytes("B"))]);
    assert_eq!(log.vote(7).unwrap(), Some(bytes("v2")));
    assert_eq!(log.committed(7).unwrap(), Some(bytes("c")));
    assert_eq!(log.vote(8).unwrap(), None);
}

fn refuses(log: &dyn LogStore) {
    let gap = log.write(&[
        LogOp::Vote { group: 7, value: bytes("v3") },
        LogOp::Append { group: 7, first: 4, entries: vec![bytes("d")] },
    ]);
    assert!(matches!(gap, Err(StorageError::OutOfOrder { group: 7, .. })), "{gap:?}");
    assert_eq!(log.vote(7).unwrap(), Some(bytes("v2")), "a refused batch was half written");
    log.write(&[LogOp::Append { group: 7, first: 3, entries: vec![bytes("C")] }]).unwrap();
}

fn purges(log: &dyn LogStore) {
    log.write(&[LogOp::Purge { group: 7, upto: 1, mark: bytes("m") }]).unwrap();
    let bounds = log.bounds(7).unwrap();
    assert_eq!((bounds.purged, bounds.purge_mark), (Some(1), Some(bytes("m"))));
    assert_eq!((bounds.first, bounds.last), (Some(2), Some(3)));
    assert_eq!(log.entries(7, 0..9).unwrap(), vec![(2, bytes("B")), (3, bytes("C"))]);
    log.write(&[LogOp::Purge { group: 7, upto: 9, mark: bytes("m9") }]).unwrap();
    assert_eq!(log.bounds(7).unwrap().last, Some(9));
    assert_eq!(log.entries(7, 0..20).unwrap(), vec![]);
    assert_eq!(log.entries(8, 0..9).unwrap(), vec![(5, bytes("z"))]);
    log.write(&[LogOp::Append { group: 7, first: 10, entries: vec![bytes("j")] }]).unwrap();
    log.sync().unwrap();
    assert_eq!(log.entries(7, 0..20).unwrap(), vec![(10, bytes("j"))]);
}

/// A log that a script can crash and open again.
pub trait LogSubject {
    /// The log as it is open now.
    fn store(&self) -> &dyn LogStore;
    /// Syncs through the store; a subject that wants to know what is durable notes it here.
    fn sync(&mut self) {
        self.store().sync().unwrap();
    }
    /// Loses power and opens again. At most what was not synced may be lost, as a suffix of batches; `luck` says how much.
    fn crash(&mut self, luck: u8);
}

const GROUPS: u32 = 3;

#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    entries: BTreeMap<u64, Bytes>,
    purged: Option<u64>,
    mark: Option<Bytes>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
}

type Model = BTreeMap<u32, Group>;

/// Runs a script and compares the log with a model after every step.
pub fn log_script(subject: &mut dyn LogSubject, script: &[Step]) {
    // What the log may be after a crash: as synced, then after each batch since.
    let mut history = vec![(0..GROUPS).map(|id| (id, Group::default())).collect::<Model>()];
    for (number, step) in script.iter().enumerate() {
        let current = history.last().cloned().unwrap_or_default();
        match step.0 % 10 {
            0 => {
                subject.sync();
                history = vec![current];
            }
            1 => {
                subject.crash(step.1);
                let found = read(subject.store());
                let survivor = history.iter().position(|model| *model == found);
                let survivor =
                    survivor.unwrap_or_else(|| panic!("step {number}: a crash left {found:?}, never written"));
                history = vec![history.swap_remove(survivor)];
            }
            _ => {
                let mut next = current;
                let ops = operations(&mut next, *step, number);
                subject.store().write(&ops).unwrap();
                history.push(next);
            }
        }
        assert_eq!(Some(&read(subject.store())), history.last(), "after step {number}: {step:?}");
    }
}

/// Turns a step into operations that the log must accept, and applies them to the model.
fn operations(model: &mut Model, (what, a, b): Step, number: usize) -> Vec<LogOp> {
    let id = u32::from(a) % GROUPS;
    let group = model.entry(id).or_default();
    let value = Bytes::from(format!("{number}-{a}-{b}").into_bytes());
    let last = group.entries.keys().next_back().copied().or(group.purged);
    let mut ops = Vec::new();
    match what % 10 {
        2 => {
            group.vote = Some(value.clone());
            ops.push(LogOp::Vote { group: id, value });
        }
        3 => {
            group.committed = Some(value.clone());
            ops.push(LogOp::Committed { group: id, value });
        }
        4 => {
            let upto = group.purged.unwrap_or(0) + u64::from(b % 8);
            if group.purged.is_none_or(|purged| upto > purged) {
                group.entries.retain(|index, _| *index > upto);
                (group.purged, group.mark) = (Some(upto), Some(value.clone()));
            }
            ops.push(LogOp::Purge { group: id, upto, mark: value });
        }
        5 | 6 => {
            let from = last.unwrap_or(0).saturating_sub(u64::from(b % 4)).max(group.purged.map_or(0, |p| p + 1));
            group.entries.retain(|index, _| *index < from);
            ops.push(LogOp::Truncate { group: id, from });
            if what % 10 == 6 {
                ops.push(append(group, id, from, &value, 1));
            }
        }
        _ => {
            let first = last.map_or(u64::from(b % 3), |last| last + 1);
            ops.push(append(group, id, first, &value, usize::from(b % 5)));
        }
    }
    ops
}

fn append(group: &mut Group, id: u32, first: u64, value: &Bytes, count: usize) -> LogOp {
    // A truncation may have emptied the log below `first`.
    let last = group.entries.keys().next_back().copied().or(group.purged);
    let first = last.map_or(first, |last| last + 1);
    let entries = vec![value.clone(); count];
    group.entries.extend((first..).zip(entries.iter().cloned()));
    LogOp::Append { group: id, first, entries }
}

fn read(log: &dyn LogStore) -> Model {
    let mut model = Model::new();
    for id in 0..GROUPS {
        let bounds = log.bounds(id).unwrap();
        let entries: BTreeMap<_, _> = log.entries(id, 0..u64::MAX).unwrap().into_iter().collect();
        assert_eq!(bounds.first, entries.keys().next().copied());
        assert_eq!(bounds.last, entries.keys().next_back().copied().or(bounds.purged));
        let (vote, committed) = (log.vote(id).unwrap(), log.committed(id).unwrap());
        model.insert(id, Group { entries, purged: bounds.purged, mark: bounds.purge_mark, vote, committed });
    }
    model
}
