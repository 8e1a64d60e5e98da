//! How a run says which invariant did not hold.
//!
//! A violation is a panic of the task that saw it: that ends the simulation at the very moment. Its text begins with the
//! invariant's name in brackets, so that a minimised run can be held against the first one.

use std::fmt;

/// What must hold in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// What the server acknowledged is in the final histories, once.
    AcknowledgedEffects,
    /// Every history obeys the grammar of events.
    EventGrammar,
    /// A worker never acts on events that are later different.
    HistoryIsStable,
    /// An attempt of an activity is handed out once.
    SingleStart,
    /// Nothing fires before its time.
    NeverEarly,
    /// A token of the past is refused.
    StaleTokensRefused,
    /// Client operations on one workflow id have an order that explains every answer.
    Linearizable,
    /// Mutable state is what its history says, and every index row has an owner.
    StateFollowsHistory,
    /// Lists and counts say what the histories say.
    ListsFollowHistories,
    /// A query sees every signal that was acknowledged before it was asked.
    FreshQueries,
    /// A run's result is what its history says.
    ResultFollowsHistory,
    /// After the last fault everything completes.
    EverythingCompletes,
    /// What was shown is shown again after a power loss.
    NothingForgotten,
    /// The server never answers what tells of a fault inside it.
    NoInternalErrors,
    /// A node stops itself only for a reason that the disk gave.
    NoNeedlessStop,
    /// A full disk refuses commands; it does not stop the node.
    FullDiskRefuses,
    /// Replicas are equal at equal positions.
    ReplicasAgree,
    /// A child starts once, ends as its parent is told, and its parent's end does to it what was agreed.
    ChildrenFollowParents,
    /// A signal or cancel request from one workflow to another arrives once if its sender is told so, and else never.
    ExternalRequestsArriveOnce,
    /// An acknowledged update is in the history, once, as it was told; a rejected one is not.
    UpdatesAreKept,
    /// A schedule acts at each of its times, once, and not early.
    SchedulesActOnce,
    /// Retries and cron schedules begin runs in order, not early, and no more often than they may.
    ChainsFollowPolicies,
    /// Each slot is one shard's, by the table, by what shards say, and by their rows.
    SlotsHaveOneShard,
    /// A batch job ends, and does to each workflow once what it says.
    JobsEnd,
}

impl Invariant {
    /// As printed.
    #[must_use]
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Ends the run.
///
/// # Panics
/// Always.
pub fn violated(invariant: Invariant, detail: impl fmt::Display) -> ! {
    panic!("[{invariant}] {detail}")
}

/// Ends the run if something does not hold.
///
/// # Panics
/// If it does not.
pub fn hold(holds: bool, invariant: Invariant, detail: impl FnOnce() -> String) {
    if !holds {
        violated(invariant, detail());
    }
}

/// The invariant that a run's last words name, or `panic` for other ones.
#[must_use]
pub fn kind(reason: &str) -> &str {
    let named = reason.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    match named {
        Some((name, _)) => name,
        None if reason.starts_with("no end after") => "over-time",
        None => "panic",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_names_its_invariant() {
        assert_eq!(Invariant::NeverEarly.name(), "never-early");
        assert_eq!(kind("[never-early] a timer"), "never-early");
        assert_eq!(kind("index out of bounds"), "panic");
    }
}
