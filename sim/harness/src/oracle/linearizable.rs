//! Client operations on one workflow id have an order that explains every answer.
//!
//! The order must put an operation behind every one that was answered before it was asked. The model knows the current run of the
//! id and whether it is open; a run that ends by itself does so at any moment, as its final history says. Unanswered operations
//! may have happened at any later moment, or not at all. The search tries the operations that change the model in every order;
//! those that only look are placed as soon as their answer is right, which never spoils anything.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_api::temporal::enums::v1::{
    WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};

use super::Run;
use crate::journal::{Call, Entry, Outcome};
use crate::violation::{Invariant, violated};

/// Searches an order for each workflow id.
///
/// # Panics
/// If there is none.
pub fn check(entries: &[Entry], runs: &[Run]) {
    let mut by_workflow: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_workflow.entry(&entry.workflow_id).or_default().push(entry);
    }
    for (workflow_id, entries) in by_workflow {
        let runs: Vec<&Run> = runs.iter().filter(|run| run.execution.workflow_id == workflow_id).collect();
        let search = Search::new(&entries, &runs);
        if let Err(best) = search.run() {
            let mut told: Vec<String> = Vec::new();
            for (place, entry) in entries.iter().enumerate() {
                told.push(format!("  {} {entry}", if best.contains(&place) { "placed" } else { "open  " }));
            }
            for run in runs {
                told.push(format!(
                    "  run {} by {:?} reset {:?}: {:?}",
                    run.execution.run_id, run.starter, run.reset, run.fate
                ));
            }
            violated(Invariant::Linearizable, format!("no order explains {workflow_id}:\n{}", told.join("\n")));
        }
    }
}

/// What the model knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    current: Option<usize>,
    open: bool,
}

type Placed = BTreeSet<usize>;

struct Search<'a> {
    entries: &'a [&'a Entry],
    runs: &'a [&'a Run],
    index: BTreeMap<&'a str, usize>,
}

impl<'a> Search<'a> {
    fn new(entries: &'a [&'a Entry], runs: &'a [&'a Run]) -> Self {
        let index = runs.iter().enumerate().map(|(place, run)| (run.execution.run_id.as_str(), place)).collect();
        Self { entries, runs, index }
    }

    /// The best that was reached, if there is no order.
    fn run(&self) -> Result<(), Placed> {
        let mut stack = vec![(Placed::new(), State { current: None, open: false })];
        let mut known = BTreeSet::new();
        let mut best = Placed::new();
        while let Some((mut placed, state)) = stack.pop() {
            self.look(&mut placed, state);
            if self.entries.iter().enumerate().all(|(n, entry)| entry.returned.is_none() || placed.contains(&n)) {
                return Ok(());
            }
            if !known.insert((placed.clone(), state)) {
                continue;
            }
            if placed.len() > best.len() {
                best = placed.clone();
            }
            stack.extend(self.ends(state).map(|next| (placed.clone(), next)));
            for place in self.eligible(&placed) {
                for next in self.changes(state, self.entries[place]) {
                    let mut more = placed.clone();
                    more.insert(place);
                    stack.push((more, next));
                }
            }
        }
        Err(best)
    }

    /// Operations that may come next: none that was answered before they were asked is left out.
    fn eligible(&self, placed: &Placed) -> Vec<usize> {
        let open = || self.entries.iter().enumerate().filter(|(place, _)| !placed.contains(place));
        let first = open().filter_map(|(_, entry)| entry.returned).min();
        open().filter(|(_, entry)| first.is_none_or(|first| entry.invoked <= first)).map(|(place, _)| place).collect()
    }

    /// Places everything that looks and is right.
    fn look(&self, placed: &mut Placed, state: State) {
        loop {
            let right: Vec<usize> =
                self.eligible(placed).into_iter().filter(|place| self.is_right(state, self.entries[*place])).collect();
            if right.is_empty() {
                return;
            }
            placed.extend(right);
        }
    }

    /// The current run ends by itself.
    fn ends(&self, state: State) -> Option<State> {
        let fate = &self.runs[state.current.filter(|_| state.open)?].fate;
        if matches!(fate.status, Status::Terminated | Status::Running) {
            return None;
        }
        let successor = fate.successor.as_deref().and_then(|run| self.index.get(run).copied());
        Some(State { current: successor.or(state.current), open: successor.is_some() })
    }

    /// Whether an answer that changes nothing is right now.
    fn is_right(&self, state: State, entry: &Entry) -> bool {
        let is_current =
            |run_id: &String| state.current.is_some() && state.current == self.index.get(run_id.as_str()).copied();
        match (&entry.call, &entry.outcome) {
            (_, Outcome::Refused(_)) => true,
            (Call::Start { conflict, reuse, signal }, outcome) => match outcome {
                // The same request again finds its run, open or closed; another one uses an open run.
                Outcome::Run { run_id, .. } if is_current(run_id) => {
                    let own = state.current.and_then(|run| self.starter(run)) == Some(&entry.label);
                    own || (state.open && (*conflict == Conflict::UseExisting || signal.is_some()))
                }
                Outcome::AlreadyStarted { run_id } => is_current(run_id) && !self.allows(state, *conflict, *reuse),
                _ => false,
            },
            (Call::Reset, Outcome::Run { run_id, .. }) => is_current(run_id),
            (Call::Reset, Outcome::NotFound) => true,
            (Call::Signal { .. }, Outcome::Done) => state.open || self.tried_before(entry),
            // A run that is over needs no cancelling.
            (Call::Cancel, Outcome::Done) => state.current.is_some(),
            (Call::Signal { .. } | Call::Cancel | Call::Terminate, Outcome::NotFound) => !state.open,
            (Call::Describe, Outcome::NotFound) => state.current.is_none(),
            (Call::Describe, Outcome::Status { run_id, status }) => {
                let fate = state.current.map(|run| self.runs[run].fate.status);
                is_current(run_id)
                    && if state.open {
                        matches!(status, Status::Running | Status::Paused)
                    } else {
                        fate == Some(*status)
                    }
            }
            _ => false,
        }
    }

    /// Who started a run; a run that was reset keeps the request of the one that it comes from.
    fn starter(&self, run: usize) -> Option<&String> {
        let mut run = self.runs[run];
        while let Some((base, _)) = &run.reset {
            run = self.runs[*self.index.get(base.as_str())?];
        }
        run.starter.as_ref()
    }

    /// Whether another try of the same operation came first: its effect is this one's.
    fn tried_before(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|other| other.label == entry.label && other.invoked < entry.invoked)
    }

    /// Whether the policies let a new run begin.
    fn allows(&self, state: State, conflict: Conflict, reuse: Reuse) -> bool {
        let Some(run) = state.current.map(|run| self.runs[run]) else { return true };
        if state.open {
            return conflict == Conflict::TerminateExisting;
        }
        match reuse {
            Reuse::RejectDuplicate => false,
            Reuse::AllowDuplicateFailedOnly => !matches!(run.fate.status, Status::Completed | Status::ContinuedAsNew),
            _ => true,
        }
    }

    /// The models that an operation may lead to, if it changes something.
    fn changes(&self, state: State, entry: &Entry) -> Vec<State> {
        match (&entry.call, &entry.outcome) {
            (Call::Start { conflict, reuse, .. }, outcome) => {
                let begun = |run: usize| self.runs[run].starter.as_ref() == Some(&entry.label);
                let ends = !state.open || self.is_terminated(state, None);
                if !ends || !self.allows(state, *conflict, *reuse) {
                    return Vec::new();
                }
                self.becomes(state, outcome, begun)
            }
            (Call::Reset, outcome) => {
                let begun = |run: usize| {
                    let reset = self.runs[run].reset.as_ref();
                    reset.is_some_and(|(_, reason)| reason.contains(&entry.label))
                };
                if state.current.is_none() || (state.open && !self.is_terminated(state, None)) {
                    return Vec::new();
                }
                self.becomes(state, outcome, begun)
            }
            (Call::Terminate, Outcome::Done | Outcome::Unknown) if self.is_terminated(state, Some(&entry.label)) => {
                vec![State { open: false, ..state }]
            }
            _ => Vec::new(),
        }
    }

    /// A new run begins: the one that was answered, or any that this operation can have begun.
    fn becomes(&self, state: State, outcome: &Outcome, begun: impl Fn(usize) -> bool) -> Vec<State> {
        let candidates: Vec<usize> = match outcome {
            Outcome::Run { run_id, .. } => self.index.get(run_id.as_str()).copied().into_iter().collect(),
            Outcome::Unknown => (0..self.runs.len()).collect(),
            _ => Vec::new(),
        };
        let new = candidates.into_iter().filter(|run| state.current != Some(*run) && begun(*run));
        new.map(|run| State { current: Some(run), open: true }).collect()
    }

    /// Whether the open run is one that a client terminates: this operation, or (none) one that begins another run.
    fn is_terminated(&self, state: State, label: Option<&str>) -> bool {
        let Some(fate) = state.current.filter(|_| state.open).map(|run| &self.runs[run].fate) else { return false };
        fate.status == Status::Terminated && label.is_none_or(|label| fate.reason == label)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oracle::Fate;
    use mainstay_api::temporal::common::v1::WorkflowExecution;

    fn run(run_id: &str, starter: &str, status: Status, reason: &str) -> Run {
        Run {
            execution: WorkflowExecution { workflow_id: "w".into(), run_id: run_id.into() },
            raw: Vec::new(),
            events: Vec::new(),
            starter: Some(starter.into()),
            reset: None,
            fate: Fate { status, reason: reason.into(), successor: None },
        }
    }

    fn entry(label: &str, from: u64, to: Option<u64>, call: Call, outcome: Outcome) -> Entry {
        let returned = to.map(Duration::from_secs);
        let (label, workflow_id) = (label.into(), "w".into());
        Entry { label, workflow_id, call, invoked: Duration::from_secs(from), returned, outcome }
    }

    fn start() -> Call {
        Call::Start { conflict: Conflict::Fail, reuse: Reuse::AllowDuplicate, signal: None }
    }

    fn ok(run_id: &str) -> Outcome {
        Outcome::Run { run_id: run_id.into(), fresh: true }
    }

    fn explains(entries: &[Entry], runs: &[Run]) -> bool {
        let (entries, runs): (Vec<_>, Vec<_>) = (entries.iter().collect(), runs.iter().collect());
        Search::new(&entries, &runs).run().is_ok()
    }

    #[test]
    fn an_unanswered_terminate_may_explain_a_second_start() {
        let runs = [run("1", "a", Status::Terminated, "t"), run("2", "b", Status::Completed, "")];
        let first = entry("a", 1, Some(2), start(), ok("1"));
        let unknown = entry("t", 3, None, Call::Terminate, Outcome::Unknown);
        let second = entry("b", 4, Some(5), start(), ok("2"));
        assert!(explains(&[first.clone(), unknown, second.clone()], &runs));
        assert!(!explains(&[first, second], &runs), "nobody terminated the first run");
    }

    #[test]
    fn a_read_of_the_past_is_found() {
        let runs = [run("1", "a", Status::Terminated, "t")];
        let begun = entry("a", 1, Some(2), start(), ok("1"));
        let ended = entry("t", 3, Some(4), Call::Terminate, Outcome::Done);
        let status = |status| Outcome::Status { run_id: "1".into(), status };
        let read = |from, to, found| entry("d", from, Some(to), Call::Describe, status(found));
        assert!(explains(&[begun.clone(), ended.clone(), read(3, 4, Status::Running)], &runs));
        assert!(explains(&[begun.clone(), ended.clone(), read(5, 6, Status::Terminated)], &runs));
        assert!(!explains(&[begun, ended, read(5, 6, Status::Running)], &runs));
    }

    #[test]
    fn two_starts_cannot_both_find_nothing() {
        let runs = [run("1", "a", Status::Running, ""), run("2", "b", Status::Running, "")];
        let first = entry("a", 1, Some(4), start(), ok("1"));
        let second = entry("b", 2, Some(3), start(), ok("2"));
        assert!(!explains(&[first, second], &runs));
    }
}
