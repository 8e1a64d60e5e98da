//! Mutable state is what its history says, and every task and timer row has an owner: a scan of the rows, from the disk; at the end, and
//! whenever a node is dead, since what a dead one left is the state at some entry, in the middle of everything.
//!
//! The check itself is the engine's own test support, which makes state anew from history and knows nothing of how the engine works.

use std::collections::BTreeMap;

use mainstay_api::record::{EntityMessage, RunDetails, entity_message::Body};
use mainstay_base::Slot;
use mainstay_engine::{EntityKey, Store, Table};
use mainstay_shard::{ListSpace, Placement, Shard};
use mainstay_sim_runtime::Disk;

use self::store::{MemStore, message_id, task_key, timer_key};
use crate::violation::{Invariant, hold};

#[allow(dead_code, missing_docs, clippy::unwrap_used, clippy::collapsible_match)]
#[path = "../../../../crates/engine/tests/support/rebuild.rs"]
mod rebuild;
#[allow(dead_code, missing_docs, clippy::unwrap_used)]
#[path = "../../../../crates/engine/tests/support/store.rs"]
mod store;

/// What is no problem if the parent's shard, which may be at another place of its log, has the message.
const ELSEWHERE: &str = "a child waits for its parent, and no message will tell it anything";

/// Holds the rows of a shard on a disk against the histories there; answers how many runs there are.
///
/// # Panics
/// If they differ.
pub fn check(disk: &Disk, group: u32) -> usize {
    let (store, problems) = load(&Shard::new(group, disk.state()));
    let problems: Vec<String> = problems.into_iter().chain(rebuild::check_all(&store)).collect();
    hold(problems.is_empty(), Invariant::StateFollowsHistory, || format!("group {group}: {}", problems.join("; ")));
    store.rows.keys().map(|entity| store.runs(entity).len()).sum()
}

/// The same of what a dead node left. Shards in the middle of a split are left out: they have rows that are not theirs; and so are those
/// in the middle of another replica's state.
///
/// # Panics
/// If they differ, or a message that began a child is not remembered where it was executed, so that another copy of it begins one more.
pub fn check_dead(disk: &Disk, table: &Placement) {
    let mut stores = BTreeMap::new();
    for group in 1..=table.shards() {
        let shard = Shard::new(group, disk.state());
        if is_being_replaced(disk, group) || !shard.serving().is_ok_and(|serving| serving.serves_all()) {
            continue;
        }
        let (store, problems) = load(&shard);
        let found = rebuild::check_all(&store).into_iter().filter(|problem| !problem.ends_with(ELSEWHERE));
        let problems: Vec<String> = problems.into_iter().chain(found).collect();
        hold(problems.is_empty(), Invariant::StateFollowsHistory, || {
            format!("group {group} of a dead node: {}", problems.join("; "))
        });
        stores.insert(group, (shard, store));
    }
    for message in stores.values().flat_map(|(_, store)| store.messages.values()) {
        let entity = EntityKey { namespace_id: message.namespace_id.clone(), workflow_id: message.workflow_id.clone() };
        let group = table.group_of(Slot::of(&entity.namespace_id, &entity.workflow_id).get());
        let Some((shard, store)) = stores.get(&group) else { continue };
        let id = message_id(message);
        let remembers = |rows: &dyn Store| {
            rows.floor(id.source_slot).is_ok_and(|floor| floor > id.sequence)
                || rows.outcome(id).is_ok_and(|outcome| outcome.is_some())
        };
        let began = matches!(message.body, Some(Body::StartChild(_))) && has_child_of(store, &entity, message);
        hold(!began || shard.read(remembers), Invariant::ChildrenFollowParents, || {
            format!("group {group} has begun the child of {message:?}, and does not remember it")
        });
    }
}

/// Whether the node died while it put another replica's rows in the place of its own: its start does that again, as the mark says that
/// `consensus` writes.
fn is_being_replaced(disk: &Disk, group: u32) -> bool {
    let mark = [&[0xff; 4][..], &group.to_be_bytes(), &[0; 9]].concat();
    !disk.state().get(&mark).is_ok_and(|mark| mark.is_none())
}

fn has_child_of(store: &MemStore, entity: &EntityKey, message: &EntityMessage) -> bool {
    store.runs(entity).into_iter().any(|run| {
        let details: Option<RunDetails> = store.record(entity, Table::RunDetails, Some(run), &[]);
        details.is_some_and(|it| {
            it.parent_run_id == message.source_run_id && it.parent_initiated_event_id == message.initiated_event_id
        })
    })
}

fn load(shard: &Shard) -> (MemStore, Vec<String>) {
    let mut store = MemStore::default();
    let mut problems = Vec::new();
    let read = shard.rows(&mut |entity, row, value| {
        store.rows.entry(entity).or_default().insert(row, value);
    });
    problems.extend(read.err().map(|error| error.to_string()));
    let read = shard.tasks(&mut |row| store.tasks.insert(task_key(&row), row).is_none());
    problems.extend(read.err().map(|error| error.to_string()));
    let read = shard.timers_from(i64::MIN, &mut |row| store.timers.insert(timer_key(&row), row).is_none());
    problems.extend(read.err().map(|error| error.to_string()));
    let read = shard.messages(&mut |message| store.messages.insert(message_id(&message), message).is_none());
    problems.extend(read.err().map(|error| error.to_string()));
    let read = shard.namespaces(&mut |namespace| store.namespaces.insert(namespace.id.clone(), namespace).is_none());
    problems.extend(read.err().map(|error| error.to_string()));
    for namespace in store.namespaces.keys().cloned().collect::<Vec<_>>() {
        let read = shard.list(&namespace, ListSpace::Schedules, None, &mut |row| {
            store.visibility.insert((row.namespace_id.clone(), row.run_id.clone()), row).is_none()
        });
        problems.extend(read.err().map(|error| error.to_string()));
    }
    (store, problems)
}
