//! Matching: which waiting poller gets which task, of every task queue that one node serves.
//!
//! A pure state machine: events and the time go in, matches come out. It knows queues, priorities, rate limits, sticky queues
//! and who polled lately. It does not know what a task is, where its row lives, or how a poller is answered: tasks and pollers
//! are numbers that the caller chose. Nothing here is durable; after a restart the caller offers its tasks again.
//!
//! Order: a lower priority number first, then fair turns where tasks name fairness keys, then the time a task was created, then its id. Among pollers the one that has waited
//! longest is served first. Every event costs a logarithm of what is held, plus what it puts out.

mod fairness;
mod limiter;
mod pollers;
mod queue;
mod scaling;
mod types;
mod window;

pub use types::{
    Event, Fairness, Limits, Output, Poller, PollerId, PollerInfo, QueueInfo, QueueKey, QueueKind, Task, TaskId,
};

use std::collections::{BTreeMap, BTreeSet};

use mainstay_base::{Duration, Timestamp};

use queue::{Order, Queue};

/// A queue's number: short where its key would be copied into every index.
type QueueNumber = u64;

/// A queue, its key, and the deadline it is filed under.
struct Slot {
    key: QueueKey,
    queue: Queue,
    due: Option<Timestamp>,
}

/// A poller that was taken out of its line for a task which is about to be made. It goes back by [`Matching::release`], unless its
/// poll has ended meanwhile.
#[derive(Debug)]
pub struct Reservation {
    queue: QueueKey,
    place: u64,
    poller: Poller,
}

impl Reservation {
    /// Who was reserved.
    pub fn poller(&self) -> &Poller {
        &self.poller
    }
}

/// All queues of one node.
pub struct Matching {
    limits: Limits,
    numbers: BTreeMap<QueueKey, QueueNumber>,
    slots: BTreeMap<QueueNumber, Slot>,
    /// Where each held task is.
    tasks: BTreeMap<TaskId, (QueueNumber, Order)>,
    /// Where each waiting poller is: its queue, and its place in the line.
    pollers: BTreeMap<PollerId, (QueueNumber, u64)>,
    /// Rates that people set; they outlive the queue's other memory.
    rates: BTreeMap<QueueKey, f64>,
    due: BTreeSet<(Timestamp, QueueNumber)>,
    next_number: QueueNumber,
    next_place: u64,
}

impl Matching {
    /// No queues yet: a queue begins with its first task or poller.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            numbers: BTreeMap::new(),
            slots: BTreeMap::new(),
            tasks: BTreeMap::new(),
            pollers: BTreeMap::new(),
            rates: BTreeMap::new(),
            due: BTreeSet::new(),
            next_number: 0,
            next_place: 0,
        }
    }

    /// Applies one event. What was due by `now` happens first, whatever the event is.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Output> {
        let mut out = Vec::new();
        self.run_due(now, &mut out);
        match event {
            Event::Offer { queue, task } => self.offer(queue, task, now, &mut out),
            Event::Retract { task } => self.retract(task, now, &mut out),
            Event::Poll { queue, poller } => self.poll(queue, poller, now, &mut out),
            Event::EndPoll { poller } => self.end_poll(poller, now, &mut out),
            Event::Unload { queue } => self.unload(&queue, now, &mut out),
            Event::SetRate { queue, per_second } => self.set_rate(queue, per_second, now, &mut out),
            Event::Tick => {}
        }
        out
    }

    /// Takes the poller that has waited longest out of its line, for a task that is about to be made; none if no poller waits, if
    /// tasks wait before that one, or if the queue has a rate, which must be asked when the task is there.
    pub fn reserve(&mut self, queue: &QueueKey, now: Timestamp) -> Option<Reservation> {
        let number = *self.numbers.get(queue)?;
        let slot = self.slots.get_mut(&number)?;
        let (place, poller) = slot.queue.take_poller(&self.limits, now)?;
        self.pollers.remove(&poller.id);
        Some(Reservation { queue: queue.clone(), place, poller })
    }

    /// A reserved poller was given its task.
    pub fn fulfil(&mut self, reservation: &Reservation, now: Timestamp) {
        let number = self.open(reservation.queue.clone(), now);
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.queue.count_match(now);
        }
        self.settle(number, now, &mut Vec::new());
    }

    /// There is no task for a reserved poller: it has its old place again.
    pub fn release(&mut self, reservation: Reservation, now: Timestamp) -> Vec<Output> {
        let mut out = Vec::new();
        let Reservation { queue, place, poller } = reservation;
        let number = self.open(queue, now);
        if let Some(slot) = self.slots.get_mut(&number) {
            self.pollers.insert(poller.id, (number, place));
            slot.queue.return_poller(place, poller);
        }
        self.settle(number, now, &mut out);
        out
    }

    /// When [`Event::Tick`] is next of use; `None` until another event comes.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is known of a queue; all zero for a queue that is not held.
    pub fn describe(&self, queue: &QueueKey, now: Timestamp) -> QueueInfo {
        self.find(queue).map(|slot| slot.queue.describe(&self.limits, now)).unwrap_or_default()
    }

    /// Whether a poller waits now, or was there in the sticky window (10 s).
    pub fn has_recent_poller(&self, queue: &QueueKey, now: Timestamp) -> bool {
        self.find(queue).is_some_and(|slot| slot.queue.has_recent_poller(&self.limits, now))
    }

    /// By how many polls a worker should change what it does, after one of its polls was answered that waited this long.
    pub fn advise(&mut self, queue: &QueueKey, waited: Duration, now: Timestamp) -> i32 {
        let slot = self.numbers.get(queue).and_then(|number| self.slots.get_mut(number));
        slot.map_or(0, |slot| slot.queue.advise(waited, now))
    }

    /// Tasks that wait in a queue, queries not counted. Cheaper than [`Self::describe`].
    pub fn backlog_count(&self, queue: &QueueKey) -> usize {
        self.find(queue).map_or(0, |slot| slot.queue.backlog_count())
    }

    /// Age of the oldest of them; zero if there is none.
    pub fn backlog_age(&self, queue: &QueueKey, now: Timestamp) -> Duration {
        self.find(queue).map_or(Duration::ZERO, |slot| slot.queue.backlog_age(now))
    }

    /// Tasks held in all queues.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Pollers waiting at all queues.
    pub fn poller_count(&self) -> usize {
        self.pollers.len()
    }

    /// Queues held in memory.
    pub fn queue_count(&self) -> usize {
        self.slots.len()
    }

    fn find(&self, key: &QueueKey) -> Option<&Slot> {
        self.numbers.get(key).and_then(|number| self.slots.get(number))
    }

    fn open(&mut self, key: QueueKey, now: Timestamp) -> QueueNumber {
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.next_number;
        self.next_number += 1;
        self.numbers.insert(key.clone(), number);
        let mut queue = Queue::new(key.kind, now);
        queue.set_rate(self.rates.get(&key).copied(), now);
        self.slots.insert(number, Slot { queue, key, due: None });
        number
    }

    fn offer(&mut self, key: QueueKey, task: Task, now: Timestamp, out: &mut Vec<Output>) {
        if self.tasks.contains_key(&task.id) {
            return;
        }
        let number = self.open(key, now);
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let id = task.id;
        let order = slot.queue.add_task(task, now);
        self.tasks.insert(id, (number, order));
        self.settle(number, now, out);
    }

    fn retract(&mut self, task: TaskId, now: Timestamp, out: &mut Vec<Output>) {
        let Some((number, order)) = self.tasks.remove(&task) else { return };
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.queue.remove_task(&order, now);
        }
        self.settle(number, now, out);
    }

    fn poll(&mut self, key: QueueKey, poller: Poller, now: Timestamp, out: &mut Vec<Output>) {
        if self.pollers.contains_key(&poller.id) {
            return;
        }
        let number = self.open(key, now);
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let place = self.next_place;
        self.next_place += 1;
        self.pollers.insert(poller.id, (number, place));
        slot.queue.add_poller(place, poller, &self.limits, now);
        self.settle(number, now, out);
    }

    fn end_poll(&mut self, poller: PollerId, now: Timestamp, out: &mut Vec<Output>) {
        let Some((number, place)) = self.pollers.remove(&poller) else { return };
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.queue.remove_poller(place, &self.limits, now);
        }
        self.settle(number, now, out);
    }

    fn unload(&mut self, key: &QueueKey, now: Timestamp, out: &mut Vec<Output>) {
        let Some(&number) = self.numbers.get(key) else { return };
        let Some(slot) = self.slots.get_mut(&number) else { return };
        for poller in slot.queue.forget_pollers(now) {
            self.pollers.remove(&poller);
        }
        self.settle(number, now, out);
    }

    fn set_rate(&mut self, key: QueueKey, per_second: Option<f64>, now: Timestamp, out: &mut Vec<Output>) {
        let number = self.numbers.get(&key).copied();
        match per_second {
            Some(rate) => self.rates.insert(key, rate),
            None => self.rates.remove(&key),
        };
        let Some(number) = number else { return };
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.queue.set_rate(per_second, now);
        }
        self.settle(number, now, out);
    }

    fn run_due(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        while let Some(&(at, number)) = self.due.first() {
            if at > now {
                break;
            }
            self.due.pop_first();
            let Some(slot) = self.slots.get_mut(&number) else { continue };
            slot.due = None;
            if slot.queue.is_forgettable(&self.limits, now) {
                self.numbers.remove(&slot.key);
                self.slots.remove(&number);
                continue;
            }
            self.settle(number, now, out);
        }
    }

    /// Brings a queue to rest after any change: matches what may match, gives up sticky tasks, files the next deadline.
    fn settle(&mut self, number: QueueNumber, now: Timestamp, out: &mut Vec<Output>) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        while let Some((task, poller)) = slot.queue.take_match(&self.limits, now) {
            self.tasks.remove(&task);
            self.pollers.remove(&poller);
            out.push(Output::Match { task, poller });
        }
        while let Some(task) = slot.queue.take_unavailable(&self.limits, now) {
            self.tasks.remove(&task);
            out.push(Output::StickyUnavailable { task });
        }
        let due = slot.queue.deadline(&self.limits, now);
        if slot.due != due {
            if let Some(old) = slot.due {
                self.due.remove(&(old, number));
            }
            if let Some(new) = due {
                self.due.insert((new, number));
            }
            slot.due = due;
        }
    }
}
