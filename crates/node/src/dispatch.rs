//! Tasks meet pollers: the glue between task rows, waiting calls and the pure matching engine.
//!
//! Everything here is memory: a task row is offered again after a restart, a poller polls again. A task that was given to a poller
//! whose call ended before it could propose the start is offered again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mainstay_api::record::{TaskRow, task_row};
use mainstay_base::{Duration, Timestamp};
use mainstay_matching::{
    Event, Limits, Matching, Output, Poller, PollerId, QueueInfo, QueueKey, QueueKind, Task, TaskId,
};
use tokio::sync::{Notify, oneshot};

use crate::lock;
use crate::queries::Question;

/// What a poller was given.
#[derive(Clone)]
pub(crate) enum Given {
    /// A task row of a shard.
    Row { group: u32, row: TaskRow },
    /// A query that wants a worker.
    Question(Arc<Question>),
}

impl Given {
    fn task(&self, id: TaskId, sticky: bool, now: Timestamp) -> Task {
        match self {
            Self::Row { row, .. } => {
                let created = Timestamp::from_nanos(row.created_ns);
                Task { id, priority: row.priority, created, sticky, query: false }
            }
            Self::Question(_) => Task { id, priority: 0, created: now, sticky, query: true },
        }
    }
}

/// A task that matching holds, and the queue it is in.
struct Offered {
    given: Given,
    queue: QueueKey,
}

#[derive(Default)]
struct Held {
    offered: HashMap<TaskId, Offered>,
    by_row: HashMap<(u32, u64), TaskId>,
    pollers: HashMap<PollerId, oneshot::Sender<Given>>,
    last_id: u64,
}

struct Inner {
    matching: Matching,
    held: Held,
    /// What the last tick answered.
    armed: Option<Timestamp>,
}

/// Matching, with its callers.
pub(crate) struct Dispatch {
    inner: Mutex<Inner>,
    /// Rung when the next deadline is earlier than what the last tick answered.
    pub(crate) deadline_moved: Notify,
}

/// A waiting poll. Dropping it ends the poll; what it was given and did not take is offered again.
pub(crate) struct WaitingPoll<'a> {
    dispatch: &'a Dispatch,
    id: PollerId,
    receiver: oneshot::Receiver<Given>,
    now: fn() -> Timestamp,
}

impl Dispatch {
    pub(crate) fn new() -> Self {
        let inner = Inner { matching: Matching::new(Limits::default()), held: Held::default(), armed: None };
        Self { inner: Mutex::new(inner), deadline_moved: Notify::new() }
    }

    /// Offers a task row in its own queue. Ignored if it is held already.
    pub(crate) fn offer_row(&self, group: u32, row: TaskRow, now: Timestamp) {
        let queue = queue_of(&row, &row.task_queue);
        self.offer(Given::Row { group, row }, queue, now);
    }

    /// Offers a query in a queue; answers its task id, to retract it.
    pub(crate) fn offer_question(
        &self,
        question: Arc<Question>,
        queue: QueueKey,
        sticky: bool,
        now: Timestamp,
    ) -> TaskId {
        let mut inner = lock(&self.inner);
        self.hold(&mut inner, Given::Question(question), queue, sticky, now)
    }

    fn offer(&self, given: Given, queue: QueueKey, now: Timestamp) {
        let mut inner = lock(&self.inner);
        self.offer_locked(&mut inner, given, queue, now);
    }

    fn offer_locked(&self, inner: &mut Inner, given: Given, queue: QueueKey, now: Timestamp) {
        if let Given::Row { group, row } = &given
            && inner.held.by_row.contains_key(&(*group, row.sequence))
        {
            return;
        }
        // A sticky task that is offered to its normal queue waits there for anybody.
        let sticky = matches!(&given, Given::Row { row, .. } if row.sticky && row.task_queue == queue.name);
        self.hold(inner, given, queue, sticky, now);
    }

    /// Holds a task in a queue, and matches it if a poller waits there.
    fn hold(&self, inner: &mut Inner, given: Given, queue: QueueKey, sticky: bool, now: Timestamp) -> TaskId {
        let id = inner.held.next_id();
        let task = given.task(id, sticky, now);
        if let Given::Row { group, row } = &given {
            inner.held.by_row.insert((*group, row.sequence), id);
        }
        inner.held.offered.insert(id, Offered { given, queue: queue.clone() });
        let outputs = inner.matching.handle(Event::Offer { queue, task }, now);
        self.carry_out(inner, outputs, now);
        id
    }

    /// The row is gone: it was started, or its cause ended.
    pub(crate) fn retract_row(&self, group: u32, sequence: u64, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if let Some(id) = inner.held.by_row.remove(&(group, sequence)) {
            inner.held.offered.remove(&id);
            let outputs = inner.matching.handle(Event::Retract { task: id }, now);
            self.carry_out(&mut inner, outputs, now);
        }
    }

    /// Takes a query back; answers whether no poller had taken it.
    pub(crate) fn retract_question(&self, id: TaskId, now: Timestamp) -> bool {
        let mut inner = lock(&self.inner);
        let held = inner.held.offered.remove(&id).is_some();
        let outputs = inner.matching.handle(Event::Retract { task: id }, now);
        self.carry_out(&mut inner, outputs, now);
        held
    }

    /// Begins to poll a queue.
    pub(crate) fn poll(&self, queue: QueueKey, mut poller: Poller, now: fn() -> Timestamp) -> WaitingPoll<'_> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = lock(&self.inner);
        let id = inner.held.next_id();
        poller.id = id;
        inner.held.pollers.insert(id, sender);
        let outputs = inner.matching.handle(Event::Poll { queue, poller }, now());
        self.carry_out(&mut inner, outputs, now());
        drop(inner);
        WaitingPoll { dispatch: self, id, receiver, now }
    }

    /// Gives back what a poller took and could not start.
    pub(crate) fn give_back(&self, given: Given, now: Timestamp) {
        if let Given::Row { group, row } = given {
            self.offer_row(group, row, now);
        }
    }

    /// The worker behind a queue is gone.
    pub(crate) fn unload(&self, queue: QueueKey, now: Timestamp) {
        let mut inner = lock(&self.inner);
        let outputs = inner.matching.handle(Event::Unload { queue }, now);
        self.carry_out(&mut inner, outputs, now);
    }

    /// The queue's rate was set by people, or no longer is.
    pub(crate) fn set_rate(&self, queue: QueueKey, per_second: Option<f64>, now: Timestamp) {
        let mut inner = lock(&self.inner);
        let outputs = inner.matching.handle(Event::SetRate { queue, per_second }, now);
        self.carry_out(&mut inner, outputs, now);
    }

    /// By how many polls a worker should change what it does, after a poll that waited this long.
    pub(crate) fn advise(&self, queue: &QueueKey, waited: Duration, now: Timestamp) -> i32 {
        lock(&self.inner).matching.advise(queue, waited, now)
    }

    /// Time passed; answers when it matters next.
    pub(crate) fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        let mut inner = lock(&self.inner);
        let outputs = inner.matching.handle(Event::Tick, now);
        self.carry_out(&mut inner, outputs, now);
        inner.armed = inner.matching.next_deadline();
        inner.armed
    }

    pub(crate) fn describe(&self, queue: &QueueKey, now: Timestamp) -> QueueInfo {
        lock(&self.inner).matching.describe(queue, now)
    }

    pub(crate) fn has_recent_poller(&self, queue: &QueueKey, now: Timestamp) -> bool {
        lock(&self.inner).matching.has_recent_poller(queue, now)
    }

    fn carry_out(&self, inner: &mut Inner, outputs: Vec<Output>, now: Timestamp) {
        for output in outputs {
            match output {
                Output::Match { task, poller } => {
                    let Some(offered) = inner.held.forget(task) else { continue };
                    let sender = inner.held.pollers.remove(&poller);
                    let lost = match sender {
                        Some(sender) => sender.send(offered.given.clone()).is_err(),
                        None => true,
                    };
                    if lost {
                        self.offer_locked(inner, offered.given, offered.queue, now);
                    }
                }
                Output::StickyUnavailable { task } => {
                    let Some(offered) = inner.held.forget(task) else { continue };
                    match offered.given {
                        Given::Row { group, row } => {
                            let queue = queue_of(&row, &row.normal_queue);
                            self.offer_locked(inner, Given::Row { group, row }, queue, now);
                        }
                        Given::Question(question) => question.sticky_unavailable(),
                    }
                }
            }
        }
        let next = inner.matching.next_deadline();
        // A tick itself must not ring: it would wake its own caller for ever.
        if next.is_some_and(|next| inner.armed.is_none_or(|armed| next < armed)) {
            self.deadline_moved.notify_one();
        }
    }
}

impl Held {
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn forget(&mut self, task: TaskId) -> Option<Offered> {
        let offered = self.offered.remove(&task)?;
        if let Given::Row { group, row } = &offered.given {
            self.by_row.remove(&(*group, row.sequence));
        }
        Some(offered)
    }
}

fn queue_of(row: &TaskRow, name: &str) -> QueueKey {
    let kind = if row.kind() == task_row::Kind::Activity { QueueKind::Activity } else { QueueKind::Workflow };
    QueueKey { namespace_id: row.namespace_id.clone(), name: name.to_string(), kind }
}

impl WaitingPoll<'_> {
    /// Resolves when a task was found.
    pub(crate) async fn given(&mut self) -> Option<Given> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for WaitingPoll<'_> {
    fn drop(&mut self) {
        let now = (self.now)();
        let mut inner = lock(&self.dispatch.inner);
        if inner.held.pollers.remove(&self.id).is_some() {
            let outputs = inner.matching.handle(Event::EndPoll { poller: self.id }, now);
            self.dispatch.carry_out(&mut inner, outputs, now);
        }
        drop(inner);
        self.receiver.close();
        if let Ok(given) = self.receiver.try_recv() {
            self.dispatch.give_back(given, now);
        }
    }
}
