//! The cluster's members, as rows of the metadata group: who they are, where they are reached, who is alive.
//!
//! The epoch rises with every change that others must act on, so that two nodes with the same epoch agree on everything.

use mainstay_api::log::PutMember;
use mainstay_api::record::{ClusterRecord, MemberRecord};
use mainstay_storage::StorageError;
use prost::Message;

use crate::apply::Effect;
use crate::overlay::Overlay;
use crate::{Shard, decode_or_default};

/// What the row is called if it does not decode.
const WHAT: &str = "the members";

/// Sets a member. None if that changes nothing, or another incarnation of it was expected.
pub(crate) fn put(overlay: &mut Overlay<'_>, put: &PutMember) -> Result<Option<Effect>, StorageError> {
    let key = overlay.keys.members();
    let mut cluster = decode_or_default(WHAT, overlay.value(&key)?)?;
    if !change(&mut cluster, put) {
        return Ok(None);
    }
    overlay.put(key, cluster.encode_to_vec().into());
    Ok(Some(Effect::MembersChanged(Box::new(cluster))))
}

fn change(cluster: &mut ClusterRecord, put: &PutMember) -> bool {
    let Some(mut member) = put.member.clone() else { return false };
    let place = cluster.members.binary_search_by_key(&member.node_id, |known| known.node_id);
    let known = place.ok().and_then(|at| cluster.members.get(at));
    let incarnation = known.map_or(0, |known| known.incarnation);
    match known {
        Some(known) if put.sets_wishes => {
            let MemberRecord { drained, leaving, .. } = member;
            member = MemberRecord { drained, leaving, ..known.clone() };
        }
        // A node that does not know what is wanted of it does not undo it.
        Some(known) => (member.drained, member.leaving) = (known.drained, known.leaving),
        None if put.sets_wishes => return false,
        None => {}
    }
    if known == Some(&member) || (put.expected_incarnation != 0 && put.expected_incarnation != incarnation) {
        return false;
    }
    match place {
        Ok(at) => cluster.members.splice(at..=at, [member]).for_each(drop),
        Err(at) => cluster.members.insert(at, member),
    }
    cluster.epoch += 1;
    true
}

impl Shard {
    /// The members of the cluster, as this group's log says.
    ///
    /// # Errors
    /// If the store fails or holds bytes that do not decode.
    pub fn members(&self) -> Result<ClusterRecord, StorageError> {
        decode_or_default(WHAT, self.store().get(&self.keys().members())?)
    }
}

/// The members that lead groups and own task queues: those that live and are wanted for it. All that live, if there are no others.
pub fn working(cluster: &ClusterRecord) -> Vec<&MemberRecord> {
    let wanted: Vec<&MemberRecord> = live(cluster).filter(|member| !member.drained && !member.leaving).collect();
    if wanted.is_empty() { live(cluster).collect() } else { wanted }
}

/// The members that are alive.
pub fn live(cluster: &ClusterRecord) -> impl Iterator<Item = &MemberRecord> {
    cluster.members.iter().filter(|member| member.alive && !member.removed)
}
