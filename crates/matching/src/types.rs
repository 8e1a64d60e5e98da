//! The words in which callers speak to [`crate::Matching`]: queues, tasks, pollers, events, outputs.

use mainstay_base::{Duration, Timestamp};

/// A task's number: unique among all tasks held, chosen by the caller.
pub type TaskId = u64;
/// A poller's number: unique among all pollers waiting, chosen by the caller.
pub type PollerId = u64;

/// What a queue's tasks are for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QueueKind {
    /// Workflow tasks and queries.
    Workflow,
    /// Activity tasks; only these queues obey the rate that pollers ask for.
    Activity,
}

/// Names one queue.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueueKey {
    /// The namespace's id, not its name.
    pub namespace_id: String,
    /// The queue's name, normal or sticky.
    pub name: String,
    /// Workflow and activity queues of one name are two queues.
    pub kind: QueueKind,
}

/// Something a poller can be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Task {
    /// The task's number.
    pub id: TaskId,
    /// 1 is first, 5 is last, 0 means the default of 3.
    pub priority: i32,
    /// When it was created: its place among tasks of one priority.
    pub created: Timestamp,
    /// Its queue is one worker's sticky queue: it must not wait for a worker that is gone.
    pub sticky: bool,
    /// A query: it has no row, so it is no part of the backlog.
    pub query: bool,
    /// Whose turn it takes among tasks of one priority.
    pub fairness: Fairness,
}

/// Among whom a queue is shared fairly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fairness {
    /// The key's hash; 0 is no key.
    pub key: u64,
    /// The key's share, in thousandths of the usual one.
    pub weight_thousandths: u32,
}

impl Default for Fairness {
    fn default() -> Self {
        Self { key: 0, weight_thousandths: 1_000 }
    }
}

/// One waiting poll of a worker.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Poller {
    /// The poll's number.
    pub id: PollerId,
    /// The worker's identity, as shown to people.
    pub identity: String,
    /// The rate that the worker asks for the whole queue; the last poll decides, and 0 means pause.
    pub rate_per_second: Option<f64>,
    /// The worker's build id, as shown to people.
    pub build_id: Option<String>,
}

/// What happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A task wants a poller. A task that is already held is ignored.
    Offer {
        /// The queue.
        queue: QueueKey,
        /// The task.
        task: Task,
    },
    /// A task no longer wants a poller. Unknown tasks are ignored.
    Retract {
        /// The task.
        task: TaskId,
    },
    /// A poll arrived. A poller that already waits is ignored.
    Poll {
        /// The queue.
        queue: QueueKey,
        /// The poller.
        poller: Poller,
    },
    /// A poll ended unanswered. Unknown pollers are ignored.
    EndPoll {
        /// The poller.
        poller: PollerId,
    },
    /// The queue's worker shut down: its pollers and their traces are forgotten, its sticky tasks become unavailable.
    Unload {
        /// The queue.
        queue: QueueKey,
    },
    /// The queue's rate was set by people, or is no longer: then that of its workers counts.
    SetRate {
        /// The queue.
        queue: QueueKey,
        /// Tasks per second; 0 means pause.
        per_second: Option<f64>,
    },
    /// Time passed.
    Tick,
}

/// What the caller must do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Output {
    /// Give the task to the poller; neither is held any more.
    Match {
        /// The task.
        task: TaskId,
        /// The poller.
        poller: PollerId,
    },
    /// The worker of a sticky queue is gone; the task is held no more and should be offered to its normal queue.
    StickyUnavailable {
        /// The task.
        task: TaskId,
    },
}

/// How long things are remembered. [`Default`] is Temporal's choice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A sticky queue whose last poller left longer ago than this is unavailable.
    pub sticky_window: Duration,
    /// A poller is described this long after its last poll.
    pub poller_history: Duration,
    /// An empty queue without pollers is forgotten after this.
    pub queue_idle: Duration,
    /// Identities remembered for one queue; the oldest is dropped first.
    pub identities_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sticky_window: Duration::from_secs(10),
            poller_history: Duration::from_secs(300),
            queue_idle: Duration::from_secs(300),
            identities_max: 1_000,
        }
    }
}

/// One worker identity that polled a queue.
#[derive(Clone, PartialEq, Debug)]
pub struct PollerInfo {
    /// The worker's identity.
    pub identity: String,
    /// When it last began, ended or was answered a poll.
    pub last_access: Timestamp,
    /// The rate it last asked for.
    pub rate_per_second: Option<f64>,
    /// Its build id.
    pub build_id: Option<String>,
}

/// A queue as shown to people.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct QueueInfo {
    /// Who polled in the last five minutes, latest first.
    pub pollers: Vec<PollerInfo>,
    /// Tasks waiting, without queries.
    pub backlog_count: i64,
    /// Age of the oldest of them; zero without backlog.
    pub backlog_age: Duration,
    /// Count and age of the backlog of each priority that has one.
    pub backlog_by_priority: Vec<(i32, i64, Duration)>,
    /// Tasks offered per second, over the last 30 s.
    pub add_rate: f64,
    /// Tasks matched per second, over the last 30 s.
    pub dispatch_rate: f64,
    /// The rate limit in force.
    pub rate_limit: Option<f64>,
    /// Whether people set it; else the last worker did.
    pub rate_set_by_people: bool,
}
