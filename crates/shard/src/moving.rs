//! Rows on their way from a shard to the one that takes over some of its slots: found, taken in, and removed.
//!
//! What is moved are the rows of entities, tasks, timers, lists and the outbox. What leads to a list's row (postings, pointers, counters)
//! is made again by the target, and taken back by the source, as when the row is written. What belongs to no slot is copied
//! whole and never removed: namespaces, outcomes and floors of messages, outcomes of commands.
//!
//! The source's replica and the target's on one node are compared, and what differs is sent. So it does not matter how much was copied
//! before, by whom, or where they stopped: comparing again goes on from there, and a comparison that finds nothing is the proof that
//! all is there.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_api::log::{DropSlots, ImportRows, ImportedRow};
use mainstay_api::record::{NamespaceRecord, SlotsLeft, TaskRow, TimerRow, VisibilityRecord};
use mainstay_storage::StorageError;

use crate::apply::Effect;
use crate::keys;
use crate::overlay::Overlay;
use crate::serving::{Serving, slot_of_row, slot_of_task, slot_of_timer};
use crate::{Shard, corrupt, decode, listed};

/// Rows that one comparison looks at, and bytes that it finds, at most; but one row more.
const LOOKED_AT_MAX: usize = 4_000;
const BYTES_MAX: usize = 512 << 10;
/// Rows that one entry looks at when it removes some.
const DROP_LOOKED_AT_MAX: usize = 20_000;

/// The rows of some slots within the keys of a shard, which are without its number here.
#[derive(Clone, Copy, Debug)]
struct Slots {
    from: u16,
    to: u16,
}

/// Some keys, in order.
struct Section {
    from: Vec<u8>,
    to: Vec<u8>,
    /// Whether the target has exactly these rows in the end; else it has at least them.
    is_exact: bool,
}

impl Slots {
    fn of(from: u32, to: u32) -> Result<Self, StorageError> {
        let slot = |slot: u32| u16::try_from(slot).map_err(|error| corrupt("a slot", error));
        Ok(Self { from: slot(from)?, to: slot(to)? })
    }

    /// What is to be moved, in the order of keys.
    fn sections(self) -> [Section; 9] {
        let by_slot = |space: u8| {
            let key = |slot: u16| [&[space][..], &slot.to_be_bytes()].concat();
            Section { from: key(self.from), to: key(self.to), is_exact: true }
        };
        let whole = |space: u8, is_exact| Section { from: vec![space], to: vec![space + 1], is_exact };
        [
            by_slot(keys::ENTITY),
            whole(keys::TASK, true),
            whole(keys::TIMER, true),
            whole(keys::LIST, true),
            whole(keys::NAMESPACE, false),
            by_slot(keys::OUTBOX),
            whole(keys::MESSAGE_OUTCOME, false),
            whole(keys::MESSAGE_FLOOR, false),
            whole(keys::OUTCOME, false),
        ]
    }

    /// Whether a row of a section is of these slots.
    fn has(self, key: &[u8], value: &[u8]) -> Result<bool, StorageError> {
        let slot = match key.first().copied() {
            Some(keys::TASK) => slot_of_task(&decode::<TaskRow>(WHAT, value)?),
            Some(keys::TIMER) => slot_of_timer(&decode::<TimerRow>(WHAT, value)?),
            Some(keys::LIST) => slot_of_row(&decode::<VisibilityRecord>(WHAT, value)?),
            // The range of keys says it.
            _ => return Ok(true),
        };
        Ok((self.from..self.to).contains(&slot))
    }
}

/// What a row is called that does not decode.
const WHAT: &str = "a row that moves";

/// Is shown rows, and answers whether to go on.
type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StorageError> + 'a;

/// How two shards differ in a part of the rows that move.
#[derive(Debug, Default)]
pub struct Differences {
    /// What makes the target like the source.
    pub rows: Vec<ImportedRow>,
    /// How many of them change what the target must have exactly.
    pub exact: usize,
    /// Where to go on; none at the end.
    pub next: Option<Vec<u8>>,
}

impl Shard {
    /// Compares the rows of some slots with those of the shard that takes them over, behind a position (at first an empty one).
    ///
    /// # Errors
    /// If a store fails or holds bytes that do not decode.
    pub fn differences(&self, target: &Self, slots: (u32, u32), position: &[u8]) -> Result<Differences, StorageError> {
        let slots = Slots::of(slots.0, slots.1)?;
        let mut found = Differences::default();
        let (mut looked_at, mut bytes) = (0, 0);
        for section in slots.sections() {
            let from = section.from.max(position.to_vec());
            if from >= section.to {
                continue;
            }
            let (mut rows, mut last) = (BTreeMap::new(), None);
            self.scan_rows(&from, &section.to, &mut |key, value| {
                looked_at += 1;
                if slots.has(key, value)? {
                    bytes += key.len() + value.len();
                    rows.insert(key.to_vec(), Bytes::copy_from_slice(value));
                }
                let go_on = looked_at < LOOKED_AT_MAX && bytes < BYTES_MAX;
                last = (!go_on).then(|| after_key(key));
                Ok(go_on)
            })?;
            let until = last.as_ref().unwrap_or(&section.to);
            let mut gone = Vec::new();
            target.scan_rows(&from, until, &mut |key, value| {
                match rows.get(key) {
                    Some(same) if same == value => drop(rows.remove(key)),
                    None if section.is_exact => gone.push(ImportedRow { key: key.to_vec().into(), value: None }),
                    _ => {}
                }
                Ok(true)
            })?;
            if section.is_exact {
                found.exact += gone.len() + rows.len();
            }
            found.rows.extend(gone);
            let put = |(key, value): (Vec<u8>, Bytes)| ImportedRow { key: key.into(), value: Some(value) };
            found.rows.extend(rows.into_iter().map(put));
            if last.is_some() {
                found.next = last;
                return Ok(found);
            }
        }
        Ok(found)
    }

    /// Visits rows by keys without the shard's number, until `visit` answers false.
    fn scan_rows(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), StorageError> {
        let mut failed = None;
        let number = self.keys().number();
        let (from, to) = ([&number, from].concat(), [&number, to].concat());
        self.store().scan(&from, &to, &mut |key, value| {
            visit(key.get(number.len()..).unwrap_or_default(), value).unwrap_or_else(|error| {
                failed = Some(error);
                false
            })
        })?;
        failed.map_or(Ok(()), Err)
    }
}

/// The first key behind one.
fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Takes rows in. Those that come again, or from somebody who does not copy any more, are skipped.
pub(crate) fn import(
    overlay: &mut Overlay<'_>,
    serving: &mut Serving,
    import: &ImportRows,
) -> Result<Vec<Effect>, StorageError> {
    let mut effects = Vec::new();
    if !serving.takes_from(import.session) || import.number != serving.0.number + 1 {
        return Ok(effects);
    }
    serving.0.number = import.number;
    serving.write(overlay);
    for row in &import.rows {
        let key = [&overlay.keys.number()[..], &row.key].concat();
        match (row.key.first().copied(), &row.value) {
            (Some(keys::LIST), Some(value)) => listed::put(overlay, &decode(WHAT, value)?)?,
            (Some(keys::LIST), None) => unlist(overlay, &key)?,
            (Some(keys::NAMESPACE), Some(value)) => {
                let record: NamespaceRecord = decode(WHAT, value)?;
                overlay.put_namespace(&record);
                effects.push(Effect::NamespacePut(Box::new(record)));
            }
            (Some(_), Some(value)) => overlay.put(key, value.clone()),
            (Some(_), None) => overlay.delete(key),
            (None, _) => return Err(corrupt(WHAT, "it has no key")),
        }
    }
    Ok(effects)
}

/// Removes a list's row and what leads to it. It may be gone: its run is listed elsewhere now.
fn unlist(overlay: &mut Overlay<'_>, key: &[u8]) -> Result<(), StorageError> {
    let Some(value) = overlay.value(key)? else { return Ok(()) };
    listed::remove(overlay, &decode(WHAT, &value)?)
}

/// Removes some rows of the slots that were given to a shard.
pub(crate) fn drop_some(
    overlay: &mut Overlay<'_>,
    serving: &mut Serving,
    drop_slots: &DropSlots,
) -> Result<(), StorageError> {
    let is_meant = |left: &&mut SlotsLeft| left.target == drop_slots.target && !left.dropped;
    let Some(left) = serving.0.left.iter_mut().find(is_meant) else { return Ok(()) };
    let slots = Slots::of(left.from, left.to)?;
    let number = overlay.keys.number();
    let (mut looked_at, mut going, mut failed) = (0, Vec::new(), None);
    let mut stopped = None;
    for section in slots.sections().into_iter().filter(|section| section.is_exact) {
        let from = section.from.max(left.position.to_vec());
        if from >= section.to || stopped.is_some() {
            continue;
        }
        overlay.visit(
            &[&number, from.as_slice()].concat(),
            &[&number, section.to.as_slice()].concat(),
            &mut |key, value| {
                looked_at += 1;
                let rest = key.get(number.len()..).unwrap_or_default();
                match slots.has(rest, &value) {
                    Ok(true) => going.push(key.to_vec()),
                    Ok(false) => {}
                    Err(error) => failed = Some(error),
                }
                let go_on = going.len() < drop_slots.rows_max as usize && looked_at < DROP_LOOKED_AT_MAX;
                stopped = (!go_on).then(|| after_key(rest));
                go_on && failed.is_none()
            },
        )?;
    }
    if let Some(error) = failed {
        return Err(error);
    }
    left.dropped = stopped.is_none();
    left.position = stopped.unwrap_or_default().into();
    for key in going {
        if key.get(number.len()) == Some(&keys::LIST) {
            unlist(overlay, &key)?;
        } else {
            overlay.delete(key);
        }
    }
    serving.write(overlay);
    Ok(())
}
