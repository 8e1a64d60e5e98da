//! Which shard serves which slots: the cluster's first shards are equal ranges, and each split since gave some of a shard's slots to a
//! new one. The splits are rows of the metadata group; the table is what they come to.
//!
//! A shard that is no longer asked for a slot, and one that is asked too early, know it themselves ([`crate::Serving`]): a table that
//! is behind only costs a try.

use mainstay_api::admin::ShardSlots;
use mainstay_api::log::PutSplit;
use mainstay_api::record::{SplitRecord, SplitsRecord, split_record::Phase};
use mainstay_base::SLOT_COUNT;
use mainstay_storage::StorageError;
use prost::Message;

use crate::apply::Effect;
use crate::listed::SLOTS_COUNTED;
use crate::overlay::Overlay;
use crate::{Shard, decode_or_default, replicas};

/// What the row is called if it does not decode.
const WHAT: &str = "the splits";

/// Splits of a cluster at most. Shards are not split below the slots that share counters, so there are fewer.
pub const SPLITS_MAX: u32 = (SLOT_COUNT / SLOTS_COUNTED) as u32;

/// Begins a split, or takes it one phase further. Nothing comes of what changes nothing.
pub(crate) fn put(overlay: &mut Overlay<'_>, put: &PutSplit) -> Result<Vec<Effect>, StorageError> {
    let key = overlay.keys.splits();
    let mut record = decode_or_default(WHAT, overlay.value(&key)?)?;
    let begins = |split: &SplitRecord| split.phase() == Phase::Copying;
    if let Some(split) = put.split.as_ref().filter(|split| begins(split))
        && replicas::is_moving(overlay, split.source)?
    {
        return Ok(Vec::new());
    }
    let Some(split) = put.split.as_ref().filter(|_| change(&mut record, put)) else { return Ok(Vec::new()) };
    overlay.put(key, record.encode_to_vec().into());
    let mut effects = Vec::new();
    if begins(split) {
        // Before the table has the shard: whoever opens it knows where it belongs.
        effects.extend(replicas::follow_split(overlay, split)?);
    }
    effects.push(Effect::SplitsChanged(Box::new(record)));
    Ok(effects)
}

fn change(record: &mut SplitsRecord, put: &PutSplit) -> bool {
    let Some(split) = put.split.clone() else { return false };
    if record.splits.is_empty() {
        record.shards = put.shards;
    }
    let Some(at) = split.target.checked_sub(record.shards + 1).map(|at| at as usize) else { return false };
    if at == record.splits.len() {
        let one_at_a_time = record.splits.iter().all(|known| known.phase() == Phase::Done);
        let is_new = split.phase() == Phase::Copying && split.from < split.to && split.to <= u32::from(SLOT_COUNT);
        // A group without voters would never be made.
        if one_at_a_time && is_new && !split.voters.is_empty() && at < SPLITS_MAX as usize {
            record.splits.push(split);
            return true;
        }
        return false;
    }
    let Some(known) = record.splits.get_mut(at) else { return false };
    let is_same = (known.source, known.from, known.to) == (split.source, split.from, split.to);
    if !is_same || split.phase <= known.phase {
        return false;
    }
    known.phase = split.phase;
    true
}

/// Whether a shard is being split, or is split off.
pub(crate) fn is_under_way(overlay: &Overlay<'_>, group: u32) -> Result<bool, StorageError> {
    let record: SplitsRecord = decode_or_default(WHAT, overlay.value(&overlay.keys.splits())?)?;
    let under_way = record.splits.iter().filter(|split| split.phase() != Phase::Done);
    Ok(under_way.into_iter().any(|split| split.source == group || split.target == group))
}

impl Shard {
    /// The splits of the cluster, as this group's log says.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn splits(&self) -> Result<SplitsRecord, StorageError> {
        decode_or_default(WHAT, self.store().get(&self.keys().splits())?)
    }
}

/// The shard of each slot.
#[derive(Debug)]
pub struct Placement {
    groups: Vec<u32>,
    /// Shards of the founded cluster.
    shards: u32,
    splits: Vec<SplitRecord>,
}

impl Placement {
    /// The table of a cluster that was founded with so many shards.
    #[must_use]
    pub fn of(shards: u32, record: &SplitsRecord) -> Self {
        let first = |slot: u16| 1 + u32::from(slot) * shards / u32::from(SLOT_COUNT);
        let mut groups: Vec<u32> = (0..SLOT_COUNT).map(first).collect();
        for split in record.splits.iter().filter(|split| split.phase() >= Phase::Served) {
            for group in groups.get_mut(split.from as usize..split.to as usize).unwrap_or_default() {
                *group = split.target;
            }
        }
        Self { groups, shards, splits: record.splits.clone() }
    }

    /// The table as it was before a shard served what it was split off for.
    #[must_use]
    pub fn before(&self, target: u32) -> Self {
        let mut splits = self.splits.clone();
        let split = splits.iter_mut().filter(|split| split.target == target);
        split.for_each(|split| split.phase = Phase::Copying as i32);
        Self::of(self.shards, &SplitsRecord { splits, ..SplitsRecord::default() })
    }

    /// The group that serves a slot.
    #[must_use]
    pub fn group_of(&self, slot: u16) -> u32 {
        self.groups.get(usize::from(slot)).copied().unwrap_or(1)
    }

    /// Shards of the cluster when it was founded.
    #[must_use]
    pub fn first_shards(&self) -> u32 {
        self.shards
    }

    /// Shards that exist, also one that serves nothing yet.
    #[must_use]
    pub fn shards(&self) -> u32 {
        self.shards + self.splits.len() as u32
    }

    /// The groups that serve slots.
    #[must_use]
    pub fn serving(&self) -> Vec<u32> {
        let arriving =
            |group: &u32| self.splits.iter().any(|split| split.target == *group && split.phase() == Phase::Copying);
        (1..=self.shards()).filter(|group| !arriving(group)).collect()
    }

    /// The splits, oldest first.
    #[must_use]
    pub fn splits(&self) -> &[SplitRecord] {
        &self.splits
    }

    /// The split that is under way. Meanwhile two shards may have rows of the same slots.
    #[must_use]
    pub fn under_way(&self) -> Option<&SplitRecord> {
        self.splits.iter().find(|split| split.phase() != Phase::Done)
    }

    /// The ranges of slots, in order.
    #[must_use]
    pub fn ranges(&self) -> Vec<ShardSlots> {
        let mut ranges: Vec<ShardSlots> = Vec::new();
        for (slot, group) in (0u32..).zip(&self.groups) {
            match ranges.last_mut() {
                Some(last) if last.group == *group => last.to = slot + 1,
                _ => ranges.push(ShardSlots { group: *group, from: slot, to: slot + 1 }),
            }
        }
        ranges
    }

    /// The slots that a new shard would take over from this one: the upper half, cut where counters are.
    ///
    /// # Errors
    /// A sentence that says why it cannot be split.
    pub fn half_of(&self, shard: u32) -> Result<(u32, u32), String> {
        let ranges = self.ranges();
        let Some(range) = ranges.iter().find(|range| range.group == shard) else {
            return Err(format!("there is no shard {shard}; the shards are 1 to {}", self.shards()));
        };
        let step = u32::from(SLOTS_COUNTED);
        let middle = (range.from + (range.to - range.from) / 2).next_multiple_of(step);
        if middle <= range.from || middle >= range.to {
            let slots = range.to - range.from;
            return Err(format!("shard {shard} has {slots} slots, and {step} are not split further"));
        }
        Ok((middle, range.to))
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::record::SplitVoter;

    use super::*;

    fn split(source: u32, target: u32, slots: (u32, u32), phase: Phase) -> PutSplit {
        let (from, to) = slots;
        let split = SplitRecord { source, target, from, to, phase: phase as i32, voters: vec![SplitVoter::default()] };
        PutSplit { split: Some(split), shards: 4 }
    }

    #[test]
    fn a_split_goes_through_its_phases_in_order_and_one_at_a_time() {
        let mut record = SplitsRecord::default();
        let half = Placement::of(4, &record).half_of(2).expect("can be split");
        assert_eq!(half, (6_144, 8_192));
        assert!(!change(&mut record, &split(2, 6, half, Phase::Copying)), "5 is next");
        let mut nobody = split(2, 5, half, Phase::Copying);
        nobody.split.iter_mut().for_each(|split| split.voters.clear());
        assert!(!change(&mut record, &nobody), "nobody would make it");
        assert!(change(&mut record, &split(2, 5, half, Phase::Copying)));
        assert!(!change(&mut record, &split(2, 5, half, Phase::Copying)), "it is there");
        assert!(!change(&mut record, &split(1, 6, (2_048, 4_096), Phase::Copying)), "one at a time");
        let table = Placement::of(4, &record);
        assert_eq!((table.group_of(7_000), table.shards(), table.serving()), (2, 5, vec![1, 2, 3, 4]));
        assert!(change(&mut record, &split(2, 5, half, Phase::Served)));
        let table = Placement::of(4, &record);
        assert_eq!((table.group_of(6_143), table.group_of(6_144), table.group_of(8_192)), (2, 5, 3));
        assert!(table.under_way().is_some());
        assert!(change(&mut record, &split(2, 5, half, Phase::Done)));
        assert!(!change(&mut record, &split(2, 5, half, Phase::Served)), "too late");
        assert!(change(&mut record, &split(5, 6, (7_168, 8_192), Phase::Copying)));
        assert_eq!(Placement::of(4, &record).ranges().len(), 5);
    }

    #[test]
    fn shards_are_split_down_to_what_shares_counters() {
        let mut record = SplitsRecord::default();
        for target in 2.. {
            let table = Placement::of(1, &record);
            let widest = table.ranges().into_iter().max_by_key(|range| range.to - range.from).expect("there is one");
            let Ok((from, to)) = table.half_of(widest.group) else { break };
            let split = SplitRecord { source: widest.group, target, from, to, phase: 3, voters: Vec::new() };
            record.splits.push(split);
        }
        assert_eq!(record.splits.len() as u32 + 1, SPLITS_MAX);
        let table = Placement::of(1, &record);
        assert!(table.half_of(1).expect_err("is refused").contains("256 slots"));
        assert!(table.half_of(99).expect_err("is refused").ends_with("the shards are 1 to 64"));
    }
}
