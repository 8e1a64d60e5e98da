//! Which faults met which capabilities: a pair that never met is a gap, and the table shows it as a zero.
//!
//! A run counts, for each use of a capability, every fault that lasts at that moment, or `none`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// How often each pair of a fault and a capability met.
pub type Table = BTreeMap<(String, String), u64>;

#[derive(Default)]
struct Counter {
    lasting: Vec<&'static str>,
    table: Table,
}

thread_local! {
    static COUNTER: RefCell<Counter> = RefCell::default();
}

/// A fault begins.
pub fn begins(fault: &'static str) {
    COUNTER.with_borrow_mut(|counter| counter.lasting.push(fault));
}

/// A fault ends.
pub fn ends(fault: &'static str) {
    COUNTER.with_borrow_mut(|counter| {
        if let Some(place) = counter.lasting.iter().position(|lasting| *lasting == fault) {
            counter.lasting.remove(place);
        }
    });
}

/// A capability is used.
pub fn met(capability: &'static str) {
    COUNTER.with_borrow_mut(|counter| {
        let lasting = if counter.lasting.is_empty() { vec!["none"] } else { counter.lasting.clone() };
        for fault in lasting {
            *counter.table.entry((fault.into(), capability.into())).or_default() += 1;
        }
    });
}

/// What the run on this thread counted; the next one begins at zero.
#[must_use]
pub fn take() -> Table {
    COUNTER.take().table
}

/// Adds a table to another.
pub fn add(sum: &mut Table, table: &Table) {
    for (pair, count) in table {
        *sum.entry(pair.clone()).or_default() += count;
    }
}

/// The table as text: a line for each capability, a column for each fault. `faults` are shown even if they never struck.
#[must_use]
pub fn show(table: &Table, faults: &[&str]) -> String {
    let mut columns: Vec<&str> = vec!["none"];
    columns.extend(faults);
    let capabilities: BTreeSet<&str> = table.keys().map(|(_, capability)| capability.as_str()).collect();
    let mut text = format!("{:<22}", "capability");
    for fault in &columns {
        text.push_str(&format!("{fault:>14}"));
    }
    for capability in capabilities {
        text.push_str(&format!("\n{capability:<22}"));
        for fault in &columns {
            let count = table.get(&((*fault).to_string(), capability.to_string())).copied().unwrap_or_default();
            text.push_str(&format!("{count:>14}"));
        }
    }
    text
}
