//! Which members have replicas of which shards, as rows of the metadata group.
//!
//! A shard that is not in the record has a replica at every member. Decisions about a shard are numbered, so that two who decide at one
//! time do not both succeed, and a report about an old one is told apart. Who decides, and why, is not known here.

use mainstay_api::log::PutReplicas;
use mainstay_api::record::{ReplicasRecord, ShardReplicas, SplitRecord};
use mainstay_storage::StorageError;
use prost::Message;

use crate::apply::Effect;
use crate::overlay::Overlay;
use crate::{Shard, decode_or_default, splits};

/// What the row is called if it does not decode.
const WHAT: &str = "the shards' replicas";
/// Replicas of one shard at most.
const NODES_MAX: usize = 16;

/// Takes a decision, or the report that the last one is carried out. None if it comes too late.
pub(crate) fn put(overlay: &mut Overlay<'_>, put: &PutReplicas) -> Result<Option<Effect>, StorageError> {
    let key = overlay.keys.replicas();
    let mut record = decode_or_default(WHAT, overlay.value(&key)?)?;
    let begins = put.replicas.as_ref().is_some_and(|new| !new.placed);
    let group = put.replicas.as_ref().map_or(0, |new| new.group);
    // Who leads the old shard of a split has to have the new one, too.
    if begins && splits::is_under_way(overlay, group)? {
        return Ok(None);
    }
    if !change(&mut record, put) {
        return Ok(None);
    }
    overlay.put(key, record.encode_to_vec().into());
    Ok(Some(Effect::ReplicasChanged(Box::new(record))))
}

fn change(record: &mut ReplicasRecord, put: &PutReplicas) -> bool {
    let Some(new) = put.replicas.clone() else { return false };
    let place = record.shards.binary_search_by_key(&new.group, |known| known.group);
    if new.placed {
        let known = place.ok().and_then(|at| record.shards.get_mut(at));
        let Some(known) = known.filter(|known| known.version == new.version && !known.placed) else { return false };
        known.placed = true;
        return true;
    }
    let version = place.ok().and_then(|at| record.shards.get(at)).map_or(0, |known| known.version);
    let in_order = new.nodes.windows(2).all(|two| two.first() < two.last());
    if new.version != version + 1 || new.nodes.is_empty() || new.nodes.len() > NODES_MAX || !in_order || new.group == 0
    {
        return false;
    }
    match place {
        Ok(at) => record.shards.splice(at..=at, [new]).for_each(drop),
        Err(at) => record.shards.insert(at, new),
    }
    true
}

/// A split began: its new shard has replicas where the old one has. None if those are all members.
pub(crate) fn follow_split(overlay: &mut Overlay<'_>, split: &SplitRecord) -> Result<Option<Effect>, StorageError> {
    let key = overlay.keys.replicas();
    let mut record: ReplicasRecord = decode_or_default(WHAT, overlay.value(&key)?)?;
    let Some(source) = replicas_of(&record, split.source) else { return Ok(None) };
    let reason = format!("where shard {} was when it was split", split.source);
    let target = ShardReplicas { group: split.target, version: 1, reason, by_operator: false, ..source.clone() };
    if let Err(at) = record.shards.binary_search_by_key(&split.target, |known| known.group) {
        record.shards.insert(at, target);
    }
    overlay.put(key, record.encode_to_vec().into());
    Ok(Some(Effect::ReplicasChanged(Box::new(record))))
}

/// Whether a replica of a shard is moving.
pub(crate) fn is_moving(overlay: &Overlay<'_>, group: u32) -> Result<bool, StorageError> {
    let record: ReplicasRecord = decode_or_default(WHAT, overlay.value(&overlay.keys.replicas())?)?;
    Ok(replicas_of(&record, group).is_some_and(|known| !known.placed))
}

/// What is decided about a shard; none: all members have it.
#[must_use]
pub fn replicas_of(record: &ReplicasRecord, group: u32) -> Option<&ShardReplicas> {
    let place = record.shards.binary_search_by_key(&group, |known| known.group);
    place.ok().and_then(|at| record.shards.get(at))
}

impl Shard {
    /// Which members have replicas of which shards, as this group's log says.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn replicas(&self) -> Result<ReplicasRecord, StorageError> {
        decode_or_default(WHAT, self.store().get(&self.keys().replicas())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(group: u32, version: u64, nodes: &[u64]) -> PutReplicas {
        let nodes = nodes.to_vec();
        PutReplicas { replicas: Some(ShardReplicas { group, version, nodes, ..ShardReplicas::default() }) }
    }

    fn report(group: u32, version: u64) -> PutReplicas {
        PutReplicas { replicas: Some(ShardReplicas { group, version, placed: true, ..ShardReplicas::default() }) }
    }

    #[test]
    fn of_two_decisions_at_one_time_one_counts() {
        let mut record = ReplicasRecord::default();
        assert!(change(&mut record, &decision(2, 1, &[1, 2, 3])));
        assert!(!change(&mut record, &decision(2, 1, &[1, 2, 4])), "it has been decided");
        assert!(change(&mut record, &decision(1, 1, &[2, 3, 4])));
        assert!(change(&mut record, &decision(2, 2, &[1, 3, 4])));
        assert_eq!(replicas_of(&record, 2).map(|one| one.nodes.clone()), Some(vec![1, 3, 4]));
        assert_eq!(record.shards.iter().map(|one| one.group).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(replicas_of(&record, 3), None);
    }

    #[test]
    fn a_report_is_of_the_last_decision() {
        let mut record = ReplicasRecord::default();
        assert!(!change(&mut record, &report(2, 1)), "nothing was decided");
        assert!(change(&mut record, &decision(2, 1, &[1, 2, 3])));
        assert!(change(&mut record, &decision(2, 2, &[1, 2, 4])));
        assert!(!change(&mut record, &report(2, 1)), "too late");
        assert!(change(&mut record, &report(2, 2)));
        assert!(!change(&mut record, &report(2, 2)), "known");
        assert!(change(&mut record, &decision(2, 3, &[1, 2])));
        assert_eq!(replicas_of(&record, 2).map(|one| one.placed), Some(false));
    }

    #[test]
    fn what_is_no_decision_changes_nothing() {
        let mut record = ReplicasRecord::default();
        for (group, nodes) in [(0, &[1, 2][..]), (1, &[]), (1, &[2, 1]), (1, &[1, 1]), (1, &[3; 17])] {
            assert!(!change(&mut record, &decision(group, 1, nodes)), "{group} {nodes:?}");
        }
        assert_eq!(record, ReplicasRecord::default());
    }
}
