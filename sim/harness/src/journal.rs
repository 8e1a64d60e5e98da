//! What clients asked, when, and what they were told: the input of the check for linearizability, and what a failure prints.
//!
//! Each try of a call is an entry of its own: an unanswered one may have its effect at any later time, or never.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mainstay_api::temporal::enums::v1::{WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy};
use mainstay_sim_runtime::trace;

/// A call that concerns one workflow id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Start, by itself or with a signal.
    Start {
        /// What if a run is open.
        conflict: WorkflowIdConflictPolicy,
        /// What if one is closed.
        reuse: WorkflowIdReusePolicy,
        /// The signal that comes with it, if one does.
        signal: Option<String>,
    },
    /// Signal the current run.
    Signal {
        /// Name and request id.
        name: String,
    },
    /// Ask the current run to cancel itself.
    Cancel,
    /// End the current run.
    Terminate,
    /// Read the current run's status.
    Describe,
    /// Begin the current run again from an early point.
    Reset,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody knows.
    Unknown,
    /// It was done.
    Done,
    /// A run was started, or (`fresh` false) an open one was used.
    Run {
        /// The run.
        run_id: String,
        /// Whether the server says that it started it.
        fresh: bool,
    },
    /// There is a run that forbids it.
    AlreadyStarted {
        /// That run.
        run_id: String,
    },
    /// The current run.
    Status {
        /// The run.
        run_id: String,
        /// Its status.
        status: WorkflowExecutionStatus,
    },
    /// There is no run that it could concern.
    NotFound,
    /// Refused for a reason that has to do with the run's inside.
    Refused(String),
}

/// One try.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Names the operation; tries of one operation share it, and with it their request id.
    pub label: String,
    /// Whom it concerns.
    pub workflow_id: String,
    /// What is asked.
    pub call: Call,
    /// When.
    pub invoked: Duration,
    /// When it was answered; none if it was not.
    pub returned: Option<Duration>,
    /// What was answered.
    pub outcome: Outcome,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let returned = self.returned.map_or("never".into(), |at| format!("{:.6}", at.as_secs_f64()));
        let invoked = self.invoked.as_secs_f64();
        write!(f, "{} {invoked:.6}..{returned} {:?} -> {:?}", self.label, self.call, self.outcome)
    }
}

/// All tries of a run.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Vec<Entry>>);

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins; the answer is its place.
    pub fn invoke(&self, label: &str, workflow_id: &str, call: Call) -> usize {
        let mut entries = self.entries();
        let (label, workflow_id) = (label.into(), workflow_id.into());
        let invoked = trace::now();
        entries.push(Entry { label, workflow_id, call, invoked, returned: None, outcome: Outcome::Unknown });
        entries.len() - 1
    }

    /// It is answered.
    pub fn answer(&self, place: usize, outcome: Outcome) {
        if outcome == Outcome::Unknown {
            return;
        }
        let now = trace::now();
        if let Some(entry) = self.entries().get_mut(place) {
            entry.returned = Some(now);
            entry.outcome = outcome;
            trace::event(format!("{}: {entry}", entry.workflow_id));
        }
    }

    /// The tries so far.
    #[must_use]
    pub fn all(&self) -> Vec<Entry> {
        self.entries().clone()
    }
}
