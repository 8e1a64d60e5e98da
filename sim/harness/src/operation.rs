//! What clients do: operations drawn before the run begins, so that a failure can be tried again with fewer of them.

use std::time::Duration;

use mainstay_api::temporal::enums::v1::{WorkflowIdConflictPolicy, WorkflowIdReusePolicy};
use mainstay_base::Prng;

use crate::plan::Plan;
use crate::updates::Wish;

/// The id of a workflow of the pool.
#[must_use]
pub fn workflow_id(number: u64) -> String {
    format!("workflow-{number}")
}

/// What follows a run by itself, beyond what its plan says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// Nothing.
    #[default]
    Nothing,
    /// Another try, when it fails.
    Retry,
    /// Another run at the next time of a cron schedule, until the execution times out.
    Cron,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Starts a workflow.
    Start {
        /// What it does.
        plan: Plan,
        /// What if a run is open.
        conflict: WorkflowIdConflictPolicy,
        /// What if one is closed.
        reuse: WorkflowIdReusePolicy,
        /// Whether a signal comes with it.
        signal: bool,
        /// What follows a run.
        follow: Follow,
    },
    /// Signals it.
    Signal,
    /// Signals it many times at once.
    Storm {
        /// How many times.
        count: u64,
    },
    /// Asks it to cancel itself.
    Cancel,
    /// Ends it.
    Terminate,
    /// Asks it how many signals it got.
    Query,
    /// Reads its status.
    Describe,
    /// Lists and counts what is open and closed.
    List,
    /// Reads its history to the last event, waiting for that.
    Watch,
    /// Begins it again from its first completed task.
    Reset,
    /// Looks at the task queue.
    DescribeTaskQueue,
    /// Sends an update.
    Update {
        /// What becomes of it.
        wish: Wish,
        /// Whether its completion is waited for; else its acceptance.
        to_the_end: bool,
    },
    /// Makes a schedule.
    Schedule {
        /// Seconds between its times.
        interval: u64,
        /// How often it acts.
        count: u64,
        /// It is paused at once, for so long.
        pause: Option<Duration>,
    },
    /// Begins a batch job that signals or cancels.
    Batch {
        /// All that is open, or one workflow.
        all: bool,
        /// It cancels.
        cancels: bool,
    },
    /// Pauses the workflow's activities for a while.
    PauseActivities {
        /// How long.
        pause: Duration,
    },
    /// Splits a shard.
    Split {
        /// Which.
        shard: u32,
    },
    /// Pauses the workflow for a while.
    PauseWorkflow {
        /// How long.
        pause: Duration,
    },
    /// Starts the workflow with an update, or updates its open run.
    UpdateWithStart {
        /// What a new run does.
        plan: Plan,
        /// What becomes of the update.
        wish: Wish,
        /// Whether its completion is waited for; else its acceptance.
        to_the_end: bool,
    },
    /// Starts a workflow of its own and deletes it.
    Delete {
        /// How long the workflow waits before it ends by itself.
        millis: u64,
        /// When it is deleted: open or closed.
        pause: Duration,
    },
}

/// How a call is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One try.
    Once,
    /// Tries until an answer stands.
    Insist,
    /// Two tries at once.
    Twice,
    /// Another try after this time, whatever the first answer was.
    Late(Duration),
}

/// One thing that a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name: unique in the run, and kept when others are taken away.
    pub label: String,
    /// Who does it; a client does one thing after another.
    pub client: usize,
    /// When, at the earliest.
    pub at: Duration,
    /// To which workflow.
    pub workflow: u64,
    /// What.
    pub action: Action,
    /// How.
    pub manner: Manner,
}

impl Action {
    /// As the coverage table names it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start { follow: Follow::Retry, .. } => "start-with-retries",
            Self::Start { follow: Follow::Cron, .. } => "start-cron",
            Self::Start { signal: true, .. } => "signal-with-start",
            Self::Start { .. } => "start",
            Self::Signal => "signal",
            Self::Storm { .. } => "signal-storm",
            Self::Cancel => "cancel",
            Self::Terminate => "terminate",
            Self::Query => "query",
            Self::Describe => "describe",
            Self::List => "list",
            Self::Watch => "watch-history",
            Self::Reset => "reset",
            Self::DescribeTaskQueue => "describe-task-queue",
            Self::Update { .. } => "update",
            Self::Schedule { .. } => "schedule",
            Self::Batch { .. } => "batch",
            Self::PauseActivities { .. } => "pause-activities",
            Self::Split { .. } => "split-shard",
            Self::PauseWorkflow { .. } => "pause-workflow",
            Self::UpdateWithStart { .. } => "update-with-start",
            Self::Delete { .. } => "delete-workflow",
        }
    }

    fn start(prng: &mut Prng) -> Self {
        let conflict = match prng.below(4) {
            0 => WorkflowIdConflictPolicy::UseExisting,
            1 => WorkflowIdConflictPolicy::TerminateExisting,
            _ => WorkflowIdConflictPolicy::Fail,
        };
        let signal = prng.below(6) == 0;
        let reuse = match prng.below(6) {
            0 => WorkflowIdReusePolicy::RejectDuplicate,
            1 => WorkflowIdReusePolicy::AllowDuplicateFailedOnly,
            _ => WorkflowIdReusePolicy::AllowDuplicate,
        };
        // A signal that comes along has to go somewhere.
        let forbidden = signal && conflict == WorkflowIdConflictPolicy::Fail;
        let conflict = if forbidden { WorkflowIdConflictPolicy::UseExisting } else { conflict };
        let follow = match prng.below(8) {
            0 => Follow::Retry,
            1 => Follow::Cron,
            _ => Follow::Nothing,
        };
        Self::Start { plan: Plan::draw(prng), conflict, reuse, signal, follow }
    }

    fn wish(prng: &mut Prng) -> Wish {
        match prng.below(6) {
            0 => Wish::Reject,
            1 => Wish::Fail,
            2 | 3 => Wish::Later(Duration::from_millis(1 + prng.below(3000))),
            _ => Wish::Now,
        }
    }

    fn draw(prng: &mut Prng) -> Self {
        match prng.below(128) {
            100..110 => Self::Update { wish: Self::wish(prng), to_the_end: prng.below(2) == 0 },
            110 => {
                let pause = (prng.below(3) == 0).then(|| Duration::from_millis(prng.below(5000)));
                Self::Schedule { interval: 1 + prng.below(4), count: 1 + prng.below(4), pause }
            }
            111 | 112 => Self::Batch { all: prng.below(2) == 0, cancels: prng.below(4) == 0 },
            113..116 => Self::PauseActivities { pause: Duration::from_millis(prng.below(3000)) },
            116..120 => Self::PauseWorkflow { pause: Duration::from_millis(prng.below(3000)) },
            120..124 => {
                let plan = Plan::draw(prng);
                Self::UpdateWithStart { plan, wish: Self::wish(prng), to_the_end: prng.below(2) == 0 }
            }
            124..128 => {
                let (millis, pause) = (1 + prng.below(4000), Duration::from_millis(prng.below(4000)));
                Self::Delete { millis, pause }
            }
            0..38 => Self::start(prng),
            38..60 => Self::Signal,
            60..62 => Self::Storm { count: 10 + prng.below(60) },
            62..66 => Self::Cancel,
            66..70 => Self::Terminate,
            70..79 => Self::Query,
            79..89 => Self::Describe,
            89..92 => Self::List,
            92..95 => Self::Watch,
            95..=98 => Self::Reset,
            _ => Self::DescribeTaskQueue,
        }
    }
}

impl Operation {
    /// Operations of some clients over some time, on few enough workflows that they meet.
    #[must_use]
    pub fn draw(prng: &mut Prng, count: u64, clients: u64, workflows: u64, span: Duration) -> Vec<Self> {
        let mut operations: Vec<Self> = (0..count)
            .map(|number| Self {
                label: format!("op-{number}"),
                client: prng.below(clients) as usize,
                at: Duration::from_micros(prng.below(span.as_micros() as u64)),
                workflow: prng.below(workflows),
                action: Action::draw(prng),
                manner: match prng.below(20) {
                    0..6 => Manner::Once,
                    6 | 7 => Manner::Twice,
                    8 => Manner::Late(Duration::from_millis(prng.below(5000))),
                    _ => Manner::Insist,
                },
            })
            .collect();
        operations.sort_by_key(|operation| operation.at);
        operations
    }
}
