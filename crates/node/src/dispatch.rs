//! Tasks meet pollers: the glue between task rows, waiting calls and the pure matching engine.
//!
//! Everything here is memory: a task row is offered again after a restart, a poller polls again. A task that was given to a poller
//! whose call ended before it could propose the start is offered again.
//!
//! In a cluster each queue has one node that owns it (`owners`), and only there tasks meet pollers: what is offered here for a queue of
//! another goes to the outbox. An owner offers what it gave to a poller again, if its leader does not say in time that it is gone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use mainstay_api::log::started_task;
use mainstay_api::peer::{Offer, Offers, QueryOffer, SpeculativeKey, SpeculativeOffer, offer::What};
use mainstay_api::record::{TaskRow, task_row};
use mainstay_base::{Duration, Timestamp};
use mainstay_engine::Error;
use mainstay_matching::{
    Event, Fairness, Limits, Matching, Output, Poller, PollerId, QueueInfo, QueueKey, QueueKind, Reservation, Task,
    TaskId,
};
use tokio::sync::{Notify, oneshot};

use crate::clock::Now;
use crate::lock;
use crate::measure::Queues;
use crate::offers::Outbox;
use crate::owners::Owners;
use crate::queries::Question;
use crate::wire;

/// What was given to a poller must be started within this time, or is offered again.
const START_WITHIN: Duration = Duration::from_nanos(5_000_000_000);

/// A fairness weight is kept between these.
const WEIGHT_MIN: f32 = 0.001;
const WEIGHT_MAX: f32 = 1_000.0;

/// What a poller was given.
#[derive(Clone)]
pub(crate) enum Given {
    /// A task row of a shard.
    Row { group: u32, row: TaskRow },
    /// A query that wants a worker.
    Question(Arc<Question>),
    /// A query whose asker waits at another node.
    Distant(QueryOffer),
    /// A workflow task that is in the memory of its leader, this node or another.
    Speculative(SpeculativeOffer),
    /// A task that was started for this poll in the entry that made it.
    Started(Box<started_task::Task>),
}

/// A query that was offered: as a task here, or to another node.
pub(crate) struct Asked {
    task: TaskId,
    owner: u64,
}

impl Given {
    fn task(&self, id: TaskId, sticky: bool, weights: Option<&Weights>, now: Timestamp) -> Task {
        match self {
            Self::Row { row, .. } => {
                let created = Timestamp::from_nanos(row.created_ns);
                Task { id, priority: row.priority, created, sticky, query: false, fairness: fairness(row, weights) }
            }
            Self::Question(_) | Self::Distant(_) => {
                Task { id, priority: 0, created: now, sticky, query: true, fairness: Fairness::default() }
            }
            Self::Speculative(_) | Self::Started(_) => {
                Task { id, priority: 0, created: now, sticky, query: false, fairness: Fairness::default() }
            }
        }
    }

    /// The same, for another node.
    pub(crate) fn offer(&self, queue: &QueueKey, sticky: bool, me: u64) -> Offer {
        let (group, what) = match self {
            Self::Row { group, row } => (*group, What::Row(row.clone())),
            Self::Question(question) => (0, What::Query(question.offer(me, sticky))),
            Self::Distant(query) => (0, What::Query(query.clone())),
            Self::Speculative(offer) => (0, What::Speculative(offer.clone())),
            // It was started for a poll here.
            Self::Started(_) => return Offer::default(),
        };
        Offer { group, what: Some(what), queue: Some(wire::queue(queue)) }
    }
}

/// Fairness weights that people set for a queue, by key.
pub(crate) type Weights = BTreeMap<String, f32>;

/// Whose turn a row takes: its key's share is what people set, or what the task itself says.
fn fairness(row: &TaskRow, weights: Option<&Weights>) -> Fairness {
    if row.fairness_key.is_empty() {
        return Fairness::default();
    }
    let mut hasher = DefaultHasher::new();
    row.fairness_key.hash(&mut hasher);
    let own = if row.fairness_weight > 0.0 { row.fairness_weight } else { 1.0 };
    let weight = weights.and_then(|weights| weights.get(&row.fairness_key)).copied().unwrap_or(own);
    let weight_thousandths = (weight.clamp(WEIGHT_MIN, WEIGHT_MAX) * 1_000.0) as u32;
    Fairness { key: hasher.finish().max(1), weight_thousandths }
}

/// A task that matching holds, and the queue it is in.
struct Offered {
    given: Given,
    queue: QueueKey,
    sticky: bool,
    created: Timestamp,
}

#[derive(Default)]
struct Held {
    offered: HashMap<TaskId, Offered>,
    by_row: HashMap<(u32, u64), TaskId>,
    by_speculative: HashMap<SpeculativeKey, TaskId>,
    /// Speculative tasks of this node that other nodes hold in queues that they own, by id.
    lent: HashMap<u64, SpeculativeOffer>,
    /// Queries of other nodes' askers, by id.
    by_query: HashMap<String, TaskId>,
    pollers: HashMap<PollerId, Waiter>,
    /// Rows that pollers have and that are not known to be started.
    unstarted: HashMap<(u32, u64), (TaskRow, QueueKey)>,
    /// When those are offered again, earliest first.
    unstarted_until: VecDeque<(Timestamp, (u32, u64))>,
    last_id: u64,
}

/// A poll that waits.
struct Waiter {
    /// None: the worker said that it goes, so there is nothing to wait for.
    sender: oneshot::Sender<Option<Given>>,
    queue: QueueKey,
}

struct Inner {
    matching: Matching,
    held: Held,
    weights: HashMap<QueueKey, Weights>,
    /// What the last tick answered.
    armed: Option<Timestamp>,
    owners: Owners,
    /// The latest epoch as of which another node offered something.
    heard_epoch: u64,
    /// Whether there are other nodes.
    clustered: bool,
    /// The task that is being offered: if it is matched now, a poller was there first.
    offering: Option<TaskId>,
}

/// Matching, with its callers.
pub(crate) struct Dispatch {
    inner: Mutex<Inner>,
    /// Offers for the owners of queues elsewhere.
    pub(crate) outbox: Outbox,
    pub(crate) queues: Queues,
    /// Rung when the next deadline is earlier than what the last tick answered.
    pub(crate) deadline_moved: Notify,
}

/// A waiting poll. Dropping it ends the poll; what it was given and did not take is offered again.
pub(crate) struct WaitingPoll<'a> {
    dispatch: &'a Dispatch,
    id: PollerId,
    receiver: oneshot::Receiver<Option<Given>>,
    now: Now,
}

impl Dispatch {
    /// `clustered`: there are, or may be, other nodes.
    pub(crate) fn new(me: u64, clustered: bool, queues: Queues) -> Self {
        let inner = Inner {
            matching: Matching::new(Limits::default()),
            held: Held::default(),
            weights: HashMap::new(),
            armed: None,
            owners: Owners::alone(me),
            heard_epoch: 0,
            clustered,
            offering: None,
        };
        Self { inner: Mutex::new(inner), outbox: Outbox::default(), queues, deadline_moved: Notify::new() }
    }

    /// Who owns which queue, as far as is known here.
    pub(crate) fn owners(&self) -> Owners {
        lock(&self.inner).owners.clone()
    }

    /// Takes up another division of the queues: tasks and pollers of queues that other nodes own are let go.
    ///
    /// A node that starts again learns the epochs that it missed one after the other, and leaders that know the last one have offered
    /// their rows to it by then, once. So nothing is let go until it knows the latest epoch that it has heard of.
    pub(crate) fn set_owners(&self, owners: Owners, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if owners.epoch < inner.heard_epoch {
            self.outbox.clear(owners.epoch);
            inner.owners = owners;
            return;
        }
        let Inner { matching, held, .. } = &mut *inner;
        let gone: Vec<TaskId> =
            held.offered.iter().filter(|(_, offered)| !owners.is_mine(&offered.queue)).map(|(id, _)| *id).collect();
        let mut outputs = Vec::new();
        for task in gone {
            held.forget(task);
            outputs.extend(matching.handle(Event::Retract { task }, now));
        }
        let gone: Vec<PollerId> =
            held.pollers.iter().filter(|(_, waiter)| !owners.is_mine(&waiter.queue)).map(|(id, _)| *id).collect();
        for poller in gone {
            held.pollers.remove(&poller);
            outputs.extend(matching.handle(Event::EndPoll { poller }, now));
        }
        held.unstarted.retain(|_, (_, queue)| owners.is_mine(queue));
        self.outbox.clear(owners.epoch);
        inner.owners = owners;
        self.carry_out(&mut inner, outputs, now);
    }

    /// Another node's leaders have tasks for queues that this node owns, as of their epoch. Answers whose stickiness was in vain.
    pub(crate) fn receive(&self, offers: Offers, now: Timestamp) {
        let mut inner = lock(&self.inner);
        let old = offers.epoch < inner.owners.epoch;
        inner.heard_epoch = inner.heard_epoch.max(offers.epoch);
        for offer in offers.offers {
            let queue = offer.queue.map(wire::own_queue);
            match (offer.what, queue) {
                (Some(What::Gone(sequence)), _) => self.retract_here(&mut inner, offer.group, sequence, now),
                (Some(What::QueryGone(id)), _) => {
                    if let Some(task) = inner.held.by_query.remove(&id) {
                        self.retract(&mut inner, task, now);
                    }
                }
                // Offered again to who owns the queue now.
                (_, Some(queue)) if old && !inner.owners.is_mine(&queue) => {}
                (Some(What::Row(row)), Some(queue)) => {
                    let (group, key) = (offer.group, (offer.group, row.sequence));
                    // If a poller has it, it was given back, or a new leader does not know; then it is refused to the second.
                    inner.held.unstarted.remove(&key);
                    if !inner.held.by_row.contains_key(&key) {
                        let sticky = row.sticky && row.task_queue == queue.name;
                        self.hold_here(&mut inner, Given::Row { group, row }, queue, sticky, now);
                    }
                }
                (Some(What::Query(query)), Some(queue)) => {
                    let sticky = query.sticky;
                    self.hold_here(&mut inner, Given::Distant(query), queue, sticky, now);
                }
                (Some(What::SpeculativeGone(key)), _) => self.retract_speculative_here(&mut inner, key, now),
                (Some(What::Speculative(offer)), Some(queue)) => {
                    let key = offer.key.unwrap_or_default();
                    if !inner.held.by_speculative.contains_key(&key) {
                        let sticky = is_sticky(&offer, &queue);
                        self.hold_here(&mut inner, Given::Speculative(offer), queue, sticky, now);
                    }
                }
                (Some(What::StickyUnavailable(_)) | None, _) | (_, None) => {}
            }
        }
    }

    /// Offers a task row in its own queue. Ignored if it is held already.
    pub(crate) fn offer_row(&self, group: u32, row: TaskRow, now: Timestamp) {
        let queue = queue_of(&row, &row.task_queue);
        self.offer(Given::Row { group, row }, queue, now);
    }

    /// Offers a query in a queue.
    pub(crate) fn offer_question(
        &self,
        question: Arc<Question>,
        queue: QueueKey,
        sticky: bool,
        now: Timestamp,
    ) -> Asked {
        let mut inner = lock(&self.inner);
        let owner = inner.owners.of(&queue);
        let task = self.hold(&mut inner, Given::Question(question), queue, sticky, now);
        Asked { task, owner }
    }

    /// Offers a speculative task in its own queue. Ignored if it is held already.
    pub(crate) fn offer_speculative(&self, offer: SpeculativeOffer, now: Timestamp) {
        let queue = queue_of_speculative(&offer, &offer.task_queue);
        self.offer(Given::Speculative(offer), queue, now);
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
        if let Given::Speculative(offer) = &given {
            let key = offer.key.unwrap_or_default();
            if inner.held.by_speculative.contains_key(&key) {
                return;
            }
            if key.node == inner.owners.me() {
                if inner.owners.is_mine(&queue) {
                    inner.held.lent.remove(&key.id);
                } else {
                    inner.held.lent.insert(key.id, offer.clone());
                }
            }
        }
        // A sticky task that is offered to its normal queue waits there for anybody.
        let sticky = match &given {
            Given::Row { row, .. } => row.sticky && row.task_queue == queue.name,
            Given::Speculative(offer) => is_sticky(offer, &queue),
            Given::Question(_) | Given::Distant(_) | Given::Started(_) => false,
        };
        self.hold(inner, given, queue, sticky, now);
    }

    /// Holds a task in a queue, or sends it to the node that owns the queue.
    fn hold(&self, inner: &mut Inner, given: Given, queue: QueueKey, sticky: bool, now: Timestamp) -> TaskId {
        if inner.clustered && !inner.owners.is_mine(&queue) {
            self.outbox.push(inner.owners.of(&queue), given.offer(&queue, sticky, inner.owners.me()));
            return 0;
        }
        self.hold_here(inner, given, queue, sticky, now)
    }

    /// Holds a task in a queue, and matches it if a poller waits there.
    fn hold_here(&self, inner: &mut Inner, given: Given, queue: QueueKey, sticky: bool, now: Timestamp) -> TaskId {
        let id = inner.held.next_id();
        let task = given.task(id, sticky, inner.weights.get(&queue), now);
        match &given {
            Given::Row { group, row } => drop(inner.held.by_row.insert((*group, row.sequence), id)),
            Given::Distant(query) => drop(inner.held.by_query.insert(query.id.clone(), id)),
            Given::Speculative(offer) => drop(inner.held.by_speculative.insert(offer.key.unwrap_or_default(), id)),
            Given::Question(_) | Given::Started(_) => {}
        }
        let measured = self.queues.of(&queue, sticky);
        let has_pollers = inner.matching.has_recent_poller(&queue, now);
        inner.held.offered.insert(id, Offered { given, queue: queue.clone(), sticky, created: task.created });
        let outputs = inner.matching.handle(Event::Offer { queue, task }, now);
        measured.offered(!outputs.is_empty(), has_pollers);
        inner.offering = Some(id);
        self.carry_out(inner, outputs, now);
        inner.offering = None;
        id
    }

    /// The row is gone: it was started, or its cause ended.
    pub(crate) fn retract_row(&self, group: u32, row: &TaskRow, now: Timestamp) {
        let mut inner = lock(&self.inner);
        self.retract_here(&mut inner, group, row.sequence, now);
        if inner.clustered {
            let normal = (row.sticky && !row.normal_queue.is_empty()).then_some(&row.normal_queue);
            let queues = [Some(&row.task_queue), normal].into_iter().flatten().map(|name| queue_of(row, name));
            self.tell_owners(&inner, queues, group, &What::Gone(row.sequence));
        }
    }

    /// Tells the other nodes that own one of a task's queues what became of it.
    fn tell_owners(&self, inner: &Inner, queues: impl Iterator<Item = QueueKey>, group: u32, what: &What) {
        let mut owners: Vec<u64> = queues.map(|queue| inner.owners.of(&queue)).collect();
        owners.dedup();
        for owner in owners.into_iter().filter(|owner| *owner != inner.owners.me()) {
            self.outbox.push(owner, Offer { group, what: Some(what.clone()), queue: None });
        }
    }

    fn retract_here(&self, inner: &mut Inner, group: u32, sequence: u64, now: Timestamp) {
        if let Some(task) = inner.held.by_row.remove(&(group, sequence)) {
            self.retract(inner, task, now);
        }
        if inner.clustered {
            inner.held.unstarted.remove(&(group, sequence));
        }
    }

    /// A speculative task of this node is gone: it became a normal one, or is of no use any more.
    pub(crate) fn retract_speculative(&self, id: u64, now: Timestamp) {
        let mut inner = lock(&self.inner);
        let key = SpeculativeKey { node: inner.owners.me(), id };
        self.retract_speculative_here(&mut inner, key, now);
        if let Some(lent) = inner.held.lent.remove(&id) {
            let queues = [&lent.task_queue, &lent.normal_queue].map(|name| queue_of_speculative(&lent, name));
            self.tell_owners(&inner, queues.into_iter(), 0, &What::SpeculativeGone(key));
        }
    }

    /// A poller has a speculative task of this node.
    pub(crate) fn started_speculative(&self, id: u64) {
        lock(&self.inner).held.lent.remove(&id);
    }

    fn retract_speculative_here(&self, inner: &mut Inner, key: SpeculativeKey, now: Timestamp) {
        if let Some(task) = inner.held.by_speculative.remove(&key) {
            self.retract(inner, task, now);
        }
    }

    /// Takes a task out of its queue; answers whether no poller had taken it.
    fn retract(&self, inner: &mut Inner, task: TaskId, now: Timestamp) -> bool {
        let held = inner.held.offered.remove(&task).is_some();
        let outputs = inner.matching.handle(Event::Retract { task }, now);
        self.carry_out(inner, outputs, now);
        held
    }

    /// Takes a query back; answers whether no poller had taken it, as far as is known here.
    pub(crate) fn retract_question(&self, asked: &Asked, question: &Question, now: Timestamp) -> bool {
        let mut inner = lock(&self.inner);
        if asked.owner != inner.owners.me() {
            let what = Some(What::QueryGone(question.id.clone()));
            self.outbox.push(asked.owner, Offer { group: 0, what, queue: None });
            return true;
        }
        self.retract(&mut inner, asked.task, now)
    }

    /// Begins to poll a queue.
    pub(crate) fn poll(&self, queue: QueueKey, mut poller: Poller, now: Now) -> WaitingPoll<'_> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = lock(&self.inner);
        let id = inner.held.next_id();
        poller.id = id;
        inner.held.pollers.insert(id, Waiter { sender, queue: queue.clone() });
        let outputs = inner.matching.handle(Event::Poll { queue, poller }, now());
        self.carry_out(&mut inner, outputs, now());
        drop(inner);
        WaitingPoll { dispatch: self, id, receiver, now }
    }

    /// Gives back what a poller took and could not start.
    pub(crate) fn give_back(&self, given: Given, now: Timestamp) {
        match given {
            Given::Row { group, row } => {
                lock(&self.inner).held.unstarted.remove(&(group, row.sequence));
                self.offer_row(group, row, now);
            }
            Given::Speculative(offer) => self.offer_speculative(offer, now),
            // A started one times out: it may be with the worker already.
            Given::Question(_) | Given::Distant(_) | Given::Started(_) => {}
        }
    }

    /// Takes a poll out of its queue, for a task that is about to be made there.
    pub(crate) fn reserve(&self, queue: &QueueKey, now: Timestamp) -> Option<Reservation> {
        lock(&self.inner).matching.reserve(queue, now)
    }

    /// Gives a reserved poll the task that was started for it.
    pub(crate) fn fulfil(&self, reservation: &Reservation, task: started_task::Task, now: Timestamp) {
        let mut inner = lock(&self.inner);
        inner.matching.fulfil(reservation, now);
        if let Some(waiter) = inner.held.pollers.remove(&reservation.poller().id) {
            // If the poll has just ended, the task times out like any whose worker is gone.
            let _ = waiter.sender.send(Some(Given::Started(Box::new(task))));
        }
    }

    /// There was no task for a reserved poll: it waits again, unless it has ended.
    pub(crate) fn release(&self, reservation: Reservation, now: Timestamp) {
        let mut inner = lock(&self.inner);
        if inner.held.pollers.contains_key(&reservation.poller().id) {
            let outputs = inner.matching.release(reservation, now);
            self.carry_out(&mut inner, outputs, now);
        }
    }

    /// The worker behind a queue is gone: its polls are answered empty.
    pub(crate) fn unload(&self, queue: QueueKey, now: Timestamp) {
        let mut inner = lock(&self.inner);
        for (_, waiter) in inner.held.pollers.extract_if(|_, waiter| waiter.queue == queue) {
            // If the poll has just ended, nobody waits for an answer.
            let _ = waiter.sender.send(None);
        }
        let outputs = inner.matching.handle(Event::Unload { queue }, now);
        self.carry_out(&mut inner, outputs, now);
    }

    /// The queue's rate was set by people, or no longer is.
    pub(crate) fn set_rate(&self, queue: QueueKey, per_second: Option<f64>, now: Timestamp) {
        let mut inner = lock(&self.inner);
        let outputs = inner.matching.handle(Event::SetRate { queue, per_second }, now);
        self.carry_out(&mut inner, outputs, now);
    }

    /// The queue's fairness weights were set by people; tasks that wait keep their turns.
    pub(crate) fn set_weights(&self, queue: QueueKey, weights: Weights) {
        lock(&self.inner).weights.insert(queue, weights);
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
        while let Some((_, key)) = inner.held.unstarted_until.front().copied().filter(|(until, _)| *until <= now) {
            inner.held.unstarted_until.pop_front();
            if let Some((row, queue)) = inner.held.unstarted.remove(&key) {
                self.offer_locked(&mut inner, Given::Row { group: key.0, row }, queue, now);
            }
        }
        inner.armed = inner.next_deadline();
        inner.armed
    }

    /// How many tasks wait in a queue, and how long the oldest has.
    pub(crate) fn backlog(&self, queue: &QueueKey, now: Timestamp) -> (usize, Duration) {
        let inner = lock(&self.inner);
        (inner.matching.backlog_count(queue), inner.matching.backlog_age(queue, now))
    }

    /// Queues, tasks and pollers in memory.
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        let inner = lock(&self.inner);
        (inner.matching.queue_count(), inner.matching.task_count(), inner.matching.poller_count())
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
                    let waiter = inner.held.pollers.remove(&poller);
                    let lost = match waiter {
                        Some(waiter) => waiter.sender.send(Some(offered.given.clone())).is_err(),
                        None => true,
                    };
                    if lost {
                        self.offer_locked(inner, offered.given, offered.queue, now);
                    } else {
                        let at_once = inner.offering == Some(task);
                        self.queues.of(&offered.queue, offered.sticky).matched(now - offered.created, at_once);
                        if inner.clustered {
                            inner.held.given(offered, now);
                        }
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
                        Given::Started(_) => {}
                        Given::Distant(query) => {
                            let what = Some(What::StickyUnavailable(query.id));
                            self.outbox.push(query.node, Offer { group: 0, what, queue: None });
                        }
                        Given::Speculative(offer) => {
                            let queue = queue_of_speculative(&offer, &offer.normal_queue);
                            self.offer_locked(inner, Given::Speculative(offer), queue, now);
                        }
                    }
                }
            }
        }
        let next = inner.next_deadline();
        // A tick itself must not ring: it would wake its own caller for ever.
        if next.is_some_and(|next| inner.armed.is_none_or(|armed| next < armed)) {
            self.deadline_moved.notify_one();
        }
    }
}

impl Inner {
    fn next_deadline(&self) -> Option<Timestamp> {
        let unstarted = self.held.unstarted_until.front().map(|(until, _)| *until);
        [self.matching.next_deadline(), unstarted].into_iter().flatten().min()
    }
}

impl Held {
    /// A poller has it.
    fn given(&mut self, offered: Offered, now: Timestamp) {
        if let Given::Row { group, row } = offered.given {
            let key = (group, row.sequence);
            self.unstarted.insert(key, (row, offered.queue));
            self.unstarted_until.push_back((now + START_WITHIN, key));
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn forget(&mut self, task: TaskId) -> Option<Offered> {
        let offered = self.offered.remove(&task)?;
        match &offered.given {
            Given::Row { group, row } => drop(self.by_row.remove(&(*group, row.sequence))),
            Given::Distant(query) => drop(self.by_query.remove(&query.id)),
            Given::Speculative(offer) => drop(self.by_speculative.remove(&offer.key.unwrap_or_default())),
            Given::Question(_) | Given::Started(_) => {}
        }
        Some(offered)
    }
}

fn queue_of(row: &TaskRow, name: &str) -> QueueKey {
    let kind = if row.kind() == task_row::Kind::Activity { QueueKind::Activity } else { QueueKind::Workflow };
    QueueKey { namespace_id: row.namespace_id.clone(), name: name.to_string(), kind }
}

fn queue_of_speculative(offer: &SpeculativeOffer, name: &str) -> QueueKey {
    QueueKey { namespace_id: offer.namespace_id.clone(), name: name.to_string(), kind: QueueKind::Workflow }
}

/// Whether a speculative task that waits in a queue waits for the worker that has its run in memory.
fn is_sticky(offer: &SpeculativeOffer, queue: &QueueKey) -> bool {
    offer.sticky && offer.task_queue == queue.name
}

impl WaitingPoll<'_> {
    /// Resolves when a task was found, or none is to be waited for any more.
    ///
    /// # Errors
    /// The queue has another owner now.
    pub(crate) async fn given(&mut self) -> Result<Option<Given>, Error> {
        (&mut self.receiver).await.map_err(|_| Error::Moved)
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
        if let Ok(Some(given)) = self.receiver.try_recv() {
            self.dispatch.give_back(given, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::record::{ClusterRecord, MemberRecord};

    use super::*;

    fn owners(epoch: u64, live: &[u64]) -> Owners {
        let members = live.iter().map(|id| MemberRecord { node_id: *id, alive: true, ..MemberRecord::default() });
        Owners::new(4, &ClusterRecord { epoch, members: members.collect() })
    }

    #[test]
    fn what_is_offered_as_of_a_later_epoch_stays_until_that_is_known() {
        let dispatch = Dispatch::new(4, true, Queues::new(Arc::default()));
        let now = Timestamp::from_nanos(1);
        let all = owners(3, &[1, 4]);
        let key = |number| QueueKey { namespace_id: "n".into(), name: format!("q{number}"), kind: QueueKind::Activity };
        let queue = (0..).map(key).find(|queue| all.is_mine(queue)).expect("one of all queues");
        let row = TaskRow {
            kind: task_row::Kind::Activity as i32,
            namespace_id: queue.namespace_id.clone(),
            task_queue: queue.name.clone(),
            sequence: 7,
            ..TaskRow::default()
        };
        let offer = Given::Row { group: 1, row }.offer(&queue, false, 1);
        // The node was dead for an epoch, and learns that it was while a leader already knows that it lives.
        dispatch.set_owners(owners(1, &[1, 4]), now);
        dispatch.receive(Offers { epoch: 3, offers: vec![offer] }, now);
        dispatch.set_owners(owners(2, &[1]), now);
        dispatch.set_owners(all, now);
        assert_eq!(dispatch.held().1, 1);
        dispatch.set_owners(owners(4, &[1]), now);
        assert_eq!(dispatch.held().1, 0);
    }
}
