//! A state from another replica, kept beside this node's own until it is whole, and then put in its place.
//!
//! Everything is in the state store, which makes batches durable in order, so that a crash finds one of these:
//!
//! - parts without the *installing* mark: the transfer was not whole, or not accepted. They are thrown away at the start.
//! - the installing mark: the parts are whole, and the replica's rows are the old ones, some of the new, or all. At the start the
//!   install is done again from the parts.
//!
//! The log is purged up to the new state before the mark is removed: a state that is ahead of its log would be refused.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use mainstay_runtime::Runtime;
use mainstay_storage::{StateBatch, StorageError};
use xxhash_rust::xxh3::Xxh3;

use crate::codec::{self, Mark};
use crate::group_log::GroupLog;
use crate::log::Log;
use crate::machine::StateRange;
use crate::park;
use crate::snapshot::{self, End, Part};

/// Begins the keys of parts and marks. No machine's keys begin so.
const SPACE: [u8; 4] = [0xff; 4];
const INSTALLING: u8 = 0;
const PART: u8 = 1;
/// Why the replica is fenced.
const FENCED: u8 = 2;
/// The replica is parked.
const PARKED: u8 = 3;

fn key(group: u32, kind: u8, number: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.extend_from_slice(&SPACE);
    key.extend_from_slice(&group.to_be_bytes());
    key.push(kind);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// A state that is whole and accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Staged {
    pub parts: u64,
}

/// A state that is arriving.
pub(crate) struct Incoming {
    pub from: u64,
    pub transfer: u64,
    pub mark: Mark,
    next: u64,
    digest: Xxh3,
}

fn corrupt(why: &str) -> StorageError {
    StorageError::Corrupt(format!("a state from another replica: {why}"))
}

impl Incoming {
    pub fn new(from: u64, transfer: u64, mark: Bytes) -> Result<Self, StorageError> {
        let mark = codec::read_mark(mark)?;
        Ok(Self { from, transfer, mark, next: 0, digest: Xxh3::new() })
    }

    /// Accepts the next part: what is to be written for it.
    pub fn part(&mut self, group: u32, range: &StateRange, part: Part) -> Result<StateBatch, StorageError> {
        if part.number != self.next {
            return Err(corrupt(&format!("part {}, where {} is next", part.number, self.next)));
        }
        let own = |(key, _): &(Vec<u8>, Bytes)| *key >= range.from && *key < range.to;
        if !snapshot::rows(part.rows.clone())?.iter().all(own) {
            return Err(corrupt("rows of another group"));
        }
        self.digest.update(&part.rows);
        self.next += 1;
        let mut batch = StateBatch::new();
        batch.put(key(group, PART, part.number), part.rows);
        Ok(batch)
    }

    /// Whether everything arrived.
    pub fn end(&self, end: &End) -> Result<Staged, StorageError> {
        if (end.parts, end.digest) != (self.next, self.digest.digest()) {
            return Err(corrupt("something is missing"));
        }
        Ok(Staged { parts: end.parts })
    }
}

/// Why the replica was fenced when the process ended, if it was.
pub(crate) fn fenced(group: u32, range: &StateRange) -> Result<Option<String>, StorageError> {
    let reason = range.store.get(&key(group, FENCED, 0))?;
    Ok(reason.map(|reason| String::from_utf8_lossy(&reason).into_owned()))
}

/// Remembers, durably, that the replica is fenced.
pub(crate) fn keep_fence(group: u32, range: &StateRange, reason: &str) -> Result<(), StorageError> {
    let mut batch = StateBatch::new();
    batch.put(key(group, FENCED, 0), reason.to_owned());
    range.store.write(batch)?;
    range.store.flush()
}

/// Whether the replica was parked when the process ended.
pub(crate) fn is_parked(group: u32, range: &StateRange) -> Result<bool, StorageError> {
    Ok(range.store.get(&key(group, PARKED, 0))?.is_some())
}

/// Removes the state of a replica, but not its mark, and remembers, durably, that it is parked.
pub(crate) fn park(group: u32, range: &StateRange) -> Result<(), StorageError> {
    // First remembered: a crash in between leaves a parked replica with rows, which is parked again.
    let mut batch = StateBatch::new();
    batch.put(key(group, PARKED, 0), Bytes::from_static(b"parked"));
    range.store.write(batch)?;
    range.store.write(park::removal(range))?;
    range.store.flush()
}

/// Forgets it.
pub(crate) fn drop_fence(group: u32, range: &StateRange) -> Result<(), StorageError> {
    let mut batch = StateBatch::new();
    batch.delete(key(group, FENCED, 0));
    range.store.write(batch)
}

/// Throws away what arrived so far.
pub(crate) fn discard(group: u32) -> StateBatch {
    let mut batch = StateBatch::new();
    batch.delete_range(key(group, PART, 0), key(group, PART + 1, 0));
    batch
}

/// The install that a crash interrupted, if there is one.
pub(crate) fn interrupted(group: u32, range: &StateRange) -> Result<Option<Staged>, StorageError> {
    let Some(mark) = range.store.get(&key(group, INSTALLING, 0))? else {
        return Ok(None);
    };
    let parts = <[u8; 8]>::try_from(mark.as_ref()).map_err(|_| corrupt("its mark is damaged"))?;
    Ok(Some(Staged { parts: u64::from_be_bytes(parts) }))
}

/// Throws away what arrived for an install that was never begun, if anything did.
pub(crate) fn forget(group: u32, range: &StateRange) -> Result<(), StorageError> {
    let mut found = false;
    range.store.scan(&key(group, PART, 0), &key(group, PART + 1, 0), &mut |_, _| {
        found = true;
        false
    })?;
    if found { range.store.write(discard(group)) } else { Ok(()) }
}

/// Puts the new state in the place of a fenced replica's. Unlike [`run`] it leaves the log alone, which has all up to the new state and
/// beyond. Answers the new mark.
pub(crate) async fn rebuild<R: Runtime>(group: u32, range: StateRange, staged: Staged) -> Result<Mark, StorageError> {
    R::disk(move || {
        replace(group, &range, &staged)?;
        range.store.flush()?;
        let mark = codec::read_mark(range.store.get(&range.mark)?.ok_or_else(|| corrupt("it has no mark"))?)?;
        finish(group, &range)?;
        Ok(mark)
    })
    .await
}

/// Puts the new state in the place of the old one and purges the log up to it. Answers the new mark.
pub(crate) async fn run<R: Runtime>(
    log: &Arc<GroupLog>,
    node_log: &Log<R>,
    range: StateRange,
    staged: Staged,
) -> Result<Mark, StorageError> {
    let group = log.id();
    let own = range.clone();
    R::disk(move || {
        replace(group, &own, &staged)?;
        own.store.flush()
    })
    .await?;
    let mark = codec::read_mark(range.store.get(&range.mark)?.ok_or_else(|| corrupt("it has no mark"))?)?;
    let applied = mark.applied.ok_or_else(|| corrupt("its mark is empty"))?;
    if log.tail().purged() < Some(applied) {
        log.clone().purge(applied).await?;
        node_log.barrier().await?;
    }
    R::disk(move || finish(group, &range)).await?;
    Ok(mark)
}

/// Puts the new state in the place of the old one. A crash before [`finish`] finds it interrupted.
fn replace(group: u32, range: &StateRange, staged: &Staged) -> Result<(), StorageError> {
    let mut batch = StateBatch::new();
    let mut count = BytesMut::with_capacity(8);
    count.put_u64(staged.parts);
    batch.put(key(group, INSTALLING, 0), count.freeze());
    batch.delete_range(range.from.clone(), range.to.clone());
    range.store.write(batch)?;
    let parts: Range<u64> = 0..staged.parts;
    for number in parts {
        let part = range.store.get(&key(group, PART, number))?.ok_or_else(|| corrupt("a part is missing"))?;
        let mut batch = StateBatch::new();
        for (key, value) in snapshot::rows(part)? {
            batch.put(key, value);
        }
        range.store.write(batch)?;
    }
    Ok(())
}

/// Removes what is not needed any more.
fn finish(group: u32, range: &StateRange) -> Result<(), StorageError> {
    let mut batch = discard(group);
    batch.delete(key(group, INSTALLING, 0));
    batch.delete(key(group, FENCED, 0));
    batch.delete(key(group, PARKED, 0));
    range.store.write(batch)?;
    range.store.flush()
}

#[cfg(test)]
mod tests {
    use mainstay_storage::MemoryState;

    use super::*;
    use crate::types::LeaderId;

    const GROUP: u32 = 3;
    const PARTS: u64 = 4;

    fn range(store: &Arc<MemoryState>) -> StateRange {
        StateRange { store: store.clone(), from: b"b".to_vec(), to: b"c".to_vec(), mark: b"b".to_vec() }
    }

    fn part(number: u64, rows: &[(&str, &str)]) -> Part {
        let mut out = BytesMut::new();
        rows.iter().for_each(|(key, value)| snapshot::put_row(&mut out, key.as_bytes(), value.as_bytes()));
        Part { transfer: 1, number, rows: out.freeze() }
    }

    fn keys(store: &MemoryState) -> Vec<String> {
        use mainstay_storage::StateView;
        let mut keys = Vec::new();
        let scanned = store.scan(b"", &[0xff; 9], &mut |key, _| {
            keys.push(String::from_utf8_lossy(key).into_owned());
            true
        });
        scanned.expect("memory is readable");
        keys
    }

    /// A store with rows of this machine and of others, and all parts of a new state.
    fn staged() -> (Arc<MemoryState>, Staged) {
        let store = Arc::<MemoryState>::default();
        let mut old = StateBatch::new();
        ["a", "b1", "b9", "c"].into_iter().for_each(|key| old.put(key, "old"));
        range(&store).store.write(old).expect("writes");
        let mut incoming = Incoming::new(2, 1, codec::mark(&Mark::default())).expect("is a mark");
        for number in 0..PARTS {
            let rows = format!("b{}", number + 2);
            let batch = incoming.part(GROUP, &range(&store), part(number, &[(&rows, "new")])).expect("is next");
            range(&store).store.write(batch).expect("writes");
        }
        let end = End {
            vote: crate::types::Vote { leader_id: LeaderId { term: 1, node_id: 2 }, committed: true },
            transfer: 1,
            parts: PARTS,
            digest: incoming.digest.digest(),
        };
        let wrong = End { digest: 0, ..end.clone() };
        assert!(incoming.end(&wrong).is_err() && incoming.end(&End { parts: 3, ..end.clone() }).is_err());
        let staged = incoming.end(&end).expect("is whole");
        range(&store).store.flush().expect("flushes");
        (store, staged)
    }

    #[test]
    fn a_crash_at_any_moment_leaves_the_old_state_or_the_way_to_the_new_one() {
        for kept in 0..10 {
            let (store, staged) = staged();
            replace(GROUP, &range(&store), &staged).expect("replaces");
            store.crash_keeping(kept);
            match interrupted(GROUP, &range(&store)).expect("reads") {
                None => {
                    assert_eq!(kept, 0);
                    forget(GROUP, &range(&store)).expect("writes");
                    assert_eq!(keys(&store), ["a", "b1", "b9", "c"]);
                }
                Some(again) => {
                    assert_eq!(again, staged);
                    replace(GROUP, &range(&store), &again).expect("replaces again");
                    finish(GROUP, &range(&store)).expect("finishes");
                    store.crash();
                    assert_eq!(keys(&store), ["a", "b2", "b3", "b4", "b5", "c"]);
                    assert_eq!(interrupted(GROUP, &range(&store)), Ok(None));
                }
            }
        }
    }

    #[test]
    fn what_does_not_belong_is_refused() {
        let store = Arc::<MemoryState>::default();
        let mut incoming = Incoming::new(2, 1, codec::mark(&Mark::default())).expect("is a mark");
        assert!(incoming.part(GROUP, &range(&store), part(1, &[])).is_err(), "a gap");
        assert!(incoming.part(GROUP, &range(&store), part(0, &[("c", "another's")])).is_err());
        let cut = Part { rows: Bytes::from_static(b"\0\0\0\x09b"), ..part(0, &[]) };
        assert!(incoming.part(GROUP, &range(&store), cut).is_err());
        assert!(Incoming::new(2, 1, Bytes::from_static(b"no mark")).is_err());
    }
}
