//! Mutable state is what its history says, and every task and timer row has an owner: a scan of the rows, from the disk.
//!
//! The check itself is the engine's own test support, which makes state anew from history and knows nothing of how the engine works.

use mainstay_shard::{ListSpace, Shard};
use mainstay_sim_runtime::Disk;

use self::store::{MemStore, message_id, task_key, timer_key};
use crate::violation::{Invariant, hold};

#[allow(dead_code, missing_docs, clippy::unwrap_used, clippy::collapsible_match)]
#[path = "../../../../crates/engine/tests/support/rebuild.rs"]
mod rebuild;
#[allow(dead_code, missing_docs, clippy::unwrap_used)]
#[path = "../../../../crates/engine/tests/support/store.rs"]
mod store;

/// Holds the rows of every shard on a disk against the histories there; answers how many runs there are.
///
/// # Panics
/// If they differ.
pub fn check(disk: &Disk, groups: u32) -> usize {
    let mut runs = 0;
    for group in 1..groups {
        let (store, problems) = load(&Shard::new(group, disk.state()));
        let problems: Vec<String> = problems.into_iter().chain(rebuild::check_all(&store)).collect();
        hold(problems.is_empty(), Invariant::StateFollowsHistory, || format!("group {group}: {}", problems.join("; ")));
        runs += store.rows.keys().map(|entity| store.runs(entity).len()).sum::<usize>();
    }
    runs
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
