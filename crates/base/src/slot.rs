//! Hash slots: the fixed grain in which entities are spread over shards. A shard is a range of slots.

use xxhash_rust::xxh3::xxh3_64;

/// Slots in every cluster, for ever. Shards are ranges of them and can be moved and split; this number cannot.
pub const SLOT_COUNT: u16 = 16_384;

const _: () = assert!(SLOT_COUNT.is_power_of_two());

/// A hash slot in `0..SLOT_COUNT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of an entity: XXH3 of the namespace id, a zero byte and the entity's id. Frozen: stored keys depend on it.
    pub fn of(namespace_id: &str, entity_id: &str) -> Self {
        let mut text = Vec::with_capacity(namespace_id.len() + 1 + entity_id.len());
        text.extend_from_slice(namespace_id.as_bytes());
        text.push(0);
        text.extend_from_slice(entity_id.as_bytes());
        Self((xxh3_64(&text) & u64::from(SLOT_COUNT - 1)) as u16)
    }

    /// The slot's number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_spread_over_the_slots() {
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..10_000 {
            let slot = Slot::of("namespace", &format!("workflow-{i}"));
            assert!(slot.get() < SLOT_COUNT);
            seen.insert(slot);
        }
        assert!(seen.len() > 7_000, "{} slots for 10,000 ids", seen.len());
    }

    #[test]
    fn the_boundary_between_namespace_and_id_counts() {
        assert_ne!(Slot::of("a", "bc"), Slot::of("ab", "c"));
    }
}
