//! Slots and shards: the table names one shard for each slot, that shard and no other says that it serves it, and no shard has rows of
//! slots that it does not serve.

use mainstay_base::{SLOT_COUNT, Slot};
use mainstay_shard::{ListSpace, Placement, Serving, Shard, slot_of_row, slot_of_task, slot_of_timer};
use mainstay_sim_node::SimNode;
use mainstay_sim_runtime::Disk;

use crate::ledger::Ledger;
use crate::oracle::replicas_agree::holders;
use crate::violation::{Invariant, hold};

const LISTS: [ListSpace; 4] = [ListSpace::Open, ListSpace::Closed, ListSpace::Schedules, ListSpace::Batches];

/// The table of a cluster with so many first shards, as a node's disk has it.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn table(disk: &Disk, shards: u32) -> Placement {
    let splits = Shard::new(0, disk.state()).splits();
    Placement::of(shards, &splits.unwrap_or_else(|error| panic!("the splits cannot be read: {error}")))
}

/// Holds the table of a node that is at rest against its shards' rows.
///
/// # Panics
/// If they differ.
pub fn check(ledger: &Ledger, node: &SimNode, shards: u32) {
    let disk = &node.disk;
    let table = table(disk, shards);
    must(table.under_way().is_none(), || format!("a split is under way: {:?}", table.splits()));
    for target in &ledger.promises().splits {
        must(table.shards() >= *target, || {
            format!("shard {target} was promised, of {} that there are", table.shards())
        });
    }
    // What has no replica here says nothing here.
    let held = (1..=table.shards()).filter(|number| !holders(*number, &[node]).is_empty());
    let all: Vec<(u32, Shard)> = held.map(|number| (number, Shard::new(number, disk.state()))).collect();
    let serving: Vec<(u32, Serving)> = all
        .iter()
        .map(|(number, shard)| (*number, shard.serving().expect("what a shard serves can be read")))
        .collect();
    for slot in 0..SLOT_COUNT {
        let of_table = table.group_of(slot);
        for (number, serving) in &serving {
            // A shard serves whatever it is asked for but what it gave away; the first ones are never asked for others'.
            let asked = *number == of_table || serving.has_left(slot);
            must(!asked || serving.serves(slot) == (*number == of_table), || {
                format!("slot {slot} is of shard {of_table}, and {number} says {serving:?}")
            });
        }
    }
    for (number, shard) in &all {
        rows(*number, shard, &table);
    }
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::SlotsHaveOneShard, detail);
}

/// Every row of a shard is of a slot that the table says it serves.
fn rows(number: u32, shard: &Shard, table: &Placement) {
    let own = |slot: u16, what: &dyn Fn() -> String| {
        let of = table.group_of(slot);
        must(of == number, || format!("shard {number} has {} of slot {slot}, which is shard {of}'s", what()));
        true
    };
    let read = shard.rows(&mut |entity, row, _| {
        own(Slot::of(&entity.namespace_id, &entity.workflow_id).get(), &|| format!("{row:?} of {entity:?}"));
    });
    read.expect("rows can be read");
    let read = shard.tasks(&mut |row| own(slot_of_task(&row), &|| format!("{row:?}")));
    read.expect("tasks can be read");
    let read = shard.timers_from(i64::MIN, &mut |row| own(slot_of_timer(&row), &|| format!("{row:?}")));
    read.expect("timers can be read");
    let read = shard.messages(&mut |message| own(message.source_slot as u16, &|| format!("{message:?}")));
    read.expect("messages can be read");
    let mut namespaces = Vec::new();
    let read = shard.namespaces(&mut |namespace| {
        namespaces.push(namespace.id);
        true
    });
    read.expect("namespaces can be read");
    for (namespace, space) in namespaces.iter().flat_map(|id| LISTS.map(|space| (id, space))) {
        let read = shard.list(namespace, space, None, &mut |row| own(slot_of_row(&row), &|| format!("{row:?}")));
        read.expect("lists can be read");
    }
}
