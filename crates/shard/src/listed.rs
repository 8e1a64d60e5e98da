//! Lists as rows: each row in list order, what leads to it (the runs of a workflow id, the postings of its values), and counters.
//!
//! All of it is written with the change that causes it, so an answer is never behind. Postings and counters are taken from the old row
//! and the new one, which is why the old one is read.
//!
//! Counters are kept for ranges of [`SLOTS_COUNTED`] slots: a shard that is split between two of them takes its counters along.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_api::record::{ListSpace as Space, VisibilityRecord};
use mainstay_base::Slot;
use mainstay_storage::{StateView, StorageError};
use mainstay_visibility::index;
use prost::Message;

use crate::corrupt;
use crate::index::{ListPosition, ListSpace};
use crate::keys::{Keys, after};
use crate::overlay::Overlay;

/// Slots that share counters.
pub(crate) const SLOTS_COUNTED: u16 = 256;

/// Lists a row, instead of the one that is listed of its run.
pub(crate) fn put(overlay: &mut Overlay<'_>, row: &VisibilityRecord) -> Result<(), StorageError> {
    let keys = overlay.keys;
    let pointer = keys.listed(&row.namespace_id, &row.run_id);
    let place = keys.list_row(row);
    let old = take(overlay, &pointer, Some(&place))?;
    overlay.put(pointer, place.clone().into());
    overlay.put(place, row.encode_to_vec().into());
    if row.space() == Space::Unspecified {
        overlay.put(keys.listed_run_of_workflow(row), Bytes::new());
    }
    reindex(overlay, old.as_ref(), Some(row))
}

/// Lists a run no longer.
pub(crate) fn remove(overlay: &mut Overlay<'_>, row: &VisibilityRecord) -> Result<(), StorageError> {
    let keys = overlay.keys;
    let pointer = keys.listed(&row.namespace_id, &row.run_id);
    let old = take(overlay, &pointer, None)?;
    overlay.delete(pointer);
    overlay.delete(keys.listed_run_of_workflow(row));
    reindex(overlay, old.as_ref(), None)
}

/// The row that a pointer leads to. It is removed, unless it is at `place`, where another is about to be written.
fn take(
    overlay: &mut Overlay<'_>,
    pointer: &[u8],
    place: Option<&[u8]>,
) -> Result<Option<VisibilityRecord>, StorageError> {
    let Some(old) = overlay.value(pointer)? else { return Ok(None) };
    let row = overlay.value(&old)?.map(VisibilityRecord::decode).transpose();
    let row = row.map_err(|e| corrupt("a list row", e))?;
    if place != Some(old.as_ref()) {
        overlay.delete(old.to_vec());
    }
    Ok(row)
}

/// Changes postings and counters from those of one row to those of another.
fn reindex(
    overlay: &mut Overlay<'_>,
    old: Option<&VisibilityRecord>,
    new: Option<&VisibilityRecord>,
) -> Result<(), StorageError> {
    let keys = overlay.keys;
    let of = |row: Option<&VisibilityRecord>| row.map(|row| posting_keys(keys, row)).unwrap_or_default();
    let (before, now) = (of(old), of(new));
    before.difference(&now).for_each(|key| overlay.delete(key.clone()));
    now.difference(&before).for_each(|key| overlay.put(key.clone(), Bytes::new()));
    let counter =
        |row: Option<&VisibilityRecord>| row.filter(|row| index::is_counted(row)).map(|row| counter(keys, row));
    let (before, now) = (counter(old), counter(new));
    if before != now {
        before.map_or(Ok(()), |key| add(overlay, key, -1))?;
        now.map_or(Ok(()), |key| add(overlay, key, 1))?;
    }
    Ok(())
}

pub(crate) fn posting_keys(keys: Keys, row: &VisibilityRecord) -> BTreeSet<Vec<u8>> {
    let space = ListSpace::of(row);
    let at = ListPosition::of(row);
    let key =
        |posting: Vec<u8>| keys.posting(&keys.postings(&row.namespace_id, space, &posting), at.time_ns, &at.run_id);
    index::postings(row).into_iter().map(key).collect()
}

pub(crate) fn counter(keys: Keys, row: &VisibilityRecord) -> Vec<u8> {
    let slot = Slot::of(&row.namespace_id, &row.workflow_id).get();
    keys.counter(&row.namespace_id, slot / SLOTS_COUNTED, row.status)
}

/// Changes a counter; one that is zero has no row.
fn add(overlay: &mut Overlay<'_>, key: Vec<u8>, change: i64) -> Result<(), StorageError> {
    let count = overlay.value(&key)?.map_or(Ok(0), |value| number(&value))?.saturating_add(change);
    if count > 0 {
        overlay.put(key, Bytes::copy_from_slice(&count.to_be_bytes()));
    } else {
        overlay.delete(key);
    }
    Ok(())
}

fn number(value: &[u8]) -> Result<i64, StorageError> {
    let bytes = <[u8; 8]>::try_from(value).map_err(|e| corrupt("a counter", e))?;
    Ok(i64::from_be_bytes(bytes))
}

/// How many workflow executions of a namespace have each status.
pub(crate) fn counts(keys: Keys, view: &dyn StateView, namespace_id: &str) -> Result<BTreeMap<i32, i64>, StorageError> {
    let from = keys.counters(namespace_id);
    let mut counts = BTreeMap::new();
    let mut failed = None;
    view.scan(&from, &after(&from), &mut |key, value| match number(value) {
        Ok(count) => {
            *counts.entry(key.last().copied().map_or(0, i32::from)).or_default() += count;
            true
        }
        Err(error) => {
            failed = Some(error);
            false
        }
    })?;
    failed.map_or(Ok(counts), Err)
}
