//! One queue: its tasks in order, its pollers in line, and what is remembered of both.
//!
//! A queue never holds a task and a poller together unless its rate limit keeps them apart. It changes only by the caller's
//! hand; the caller keeps the indexes by id and asks after every change what can be taken out.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_base::{Duration, Timestamp};

use crate::fairness::Turns;
use crate::limiter::{Limiter, Ready};
use crate::pollers::PollerHistory;
use crate::scaling::{Advisor, Pressure};
use crate::types::{Limits, Poller, PollerId, QueueInfo, QueueKind, Task, TaskId};
use crate::window::Window;

const PRIORITY_FIRST: i32 = 1;
const PRIORITY_LAST: i32 = 5;
const PRIORITY_DEFAULT: i32 = 3;
const PRIORITIES: usize = (PRIORITY_LAST - PRIORITY_FIRST + 1) as usize;

/// A task's place in its queue: priority, then turn, then age, then id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Order {
    priority: u8,
    pass: u64,
    created: Timestamp,
    id: TaskId,
}

impl Order {
    fn of(task: &Task, turns: &mut [Turns; PRIORITIES]) -> Self {
        let asked = if task.priority == 0 { PRIORITY_DEFAULT } else { task.priority };
        let priority = asked.clamp(PRIORITY_FIRST, PRIORITY_LAST) as u8;
        let turns = turns.get_mut(usize::from(priority) - 1);
        let pass = turns.map_or(0, |turns| turns.next(task.fairness));
        Self { priority, pass, created: task.created, id: task.id }
    }
}

/// What a queue must know of a task beyond its place.
#[derive(Clone, Copy)]
struct Held {
    sticky: bool,
    query: bool,
}

pub struct Queue {
    kind: QueueKind,
    tasks: BTreeMap<Order, Held>,
    turns: [Turns; PRIORITIES],
    /// Those of `tasks` that may become unavailable.
    sticky: BTreeSet<Order>,
    queries: usize,
    /// Tasks of each priority that are no queries.
    counts: [usize; PRIORITIES],
    waiting: BTreeMap<u64, Poller>,
    history: PollerHistory,
    last_poller: Option<Timestamp>,
    last_used: Timestamp,
    limiter: Limiter,
    /// Set by people; before what workers ask for.
    own_rate: Option<f64>,
    asked_rate: Option<f64>,
    advisor: Advisor,
    added: Window,
    dispatched: Window,
}

impl Queue {
    pub fn new(kind: QueueKind, now: Timestamp) -> Self {
        Self {
            kind,
            tasks: BTreeMap::new(),
            turns: Default::default(),
            sticky: BTreeSet::new(),
            queries: 0,
            counts: [0; PRIORITIES],
            waiting: BTreeMap::new(),
            history: PollerHistory::default(),
            last_poller: None,
            last_used: now,
            limiter: Limiter::new(),
            own_rate: None,
            asked_rate: None,
            advisor: Advisor::new(now),
            added: Window::new(now),
            dispatched: Window::new(now),
        }
    }

    pub fn add_task(&mut self, task: Task, now: Timestamp) -> Order {
        let order = Order::of(&task, &mut self.turns);
        self.tasks.insert(order, Held { sticky: task.sticky, query: task.query });
        if task.sticky {
            self.sticky.insert(order);
        }
        if task.query {
            self.queries += 1;
        } else {
            self.added.count(now);
            self.counts[level(&order)] += 1;
        }
        self.last_used = now;
        order
    }

    pub fn remove_task(&mut self, order: &Order, now: Timestamp) {
        self.last_used = now;
        self.drop_task(order);
    }

    fn drop_task(&mut self, order: &Order) -> Option<Held> {
        let held = self.tasks.remove(order)?;
        if held.sticky {
            self.sticky.remove(order);
        }
        if held.query {
            self.queries -= 1;
        } else {
            self.counts[level(order)] -= 1;
        }
        Some(held)
    }

    pub fn add_poller(&mut self, place: u64, poller: Poller, limits: &Limits, now: Timestamp) {
        if self.kind == QueueKind::Activity {
            self.asked_rate = poller.rate_per_second;
            self.limiter.set(self.own_rate.or(self.asked_rate), now);
        }
        self.note(&poller, limits, now);
        self.waiting.insert(place, poller);
    }

    /// Takes the poller that has waited longest, if a task that came now would be given to it at once.
    pub fn take_poller(&mut self, limits: &Limits, now: Timestamp) -> Option<(u64, Poller)> {
        if !self.tasks.is_empty() || self.limiter.asked().is_some() {
            return None;
        }
        let (place, poller) = self.waiting.pop_first()?;
        self.note(&poller, limits, now);
        Some((place, poller))
    }

    /// A poller that was taken for nothing waits again.
    pub fn return_poller(&mut self, place: u64, poller: Poller) {
        self.waiting.insert(place, poller);
    }

    /// A task came and went without being held.
    pub fn count_match(&mut self, now: Timestamp) {
        self.added.count(now);
        self.dispatched.count(now);
        self.last_used = now;
    }

    /// Sets the rate that people want, or lets workers decide again.
    pub fn set_rate(&mut self, per_second: Option<f64>, now: Timestamp) {
        self.own_rate = per_second;
        self.limiter.set(self.own_rate.or(self.asked_rate), now);
    }

    pub fn advise(&mut self, waited: Duration, now: Timestamp) -> i32 {
        let pressure = Pressure {
            backlog_age: self.backlog_age(now),
            add_rate: self.added.rate(now),
            dispatch_rate: self.dispatched.rate(now),
        };
        self.advisor.advise(waited, &pressure, now)
    }

    pub fn remove_poller(&mut self, place: u64, limits: &Limits, now: Timestamp) {
        if let Some(poller) = self.waiting.remove(&place) {
            self.note(&poller, limits, now);
        }
    }

    fn note(&mut self, poller: &Poller, limits: &Limits, now: Timestamp) {
        self.history.note(poller, limits, now);
        self.last_poller = Some(now);
        self.last_used = now;
    }

    /// Forgets who polled; returns those that still waited.
    pub fn forget_pollers(&mut self, now: Timestamp) -> Vec<PollerId> {
        self.history.clear();
        self.last_poller = None;
        self.last_used = now;
        std::mem::take(&mut self.waiting).into_values().map(|poller| poller.id).collect()
    }

    /// The next pair, if there is one and the rate allows it.
    pub fn take_match(&mut self, limits: &Limits, now: Timestamp) -> Option<(TaskId, PollerId)> {
        let order = *self.tasks.first_key_value()?.0;
        if self.waiting.is_empty() || self.limiter.ready(now) != Ready::Now {
            return None;
        }
        let (_, poller) = self.waiting.pop_first()?;
        let held = self.drop_task(&order)?;
        if let Some(turns) = self.turns.get_mut(level(&order)) {
            turns.reach(order.pass);
        }
        if !held.query {
            self.dispatched.count(now);
        }
        self.limiter.spend(now);
        self.note(&poller, limits, now);
        Some((order.id, poller.id))
    }

    /// The next sticky task whose worker is gone.
    pub fn take_unavailable(&mut self, limits: &Limits, now: Timestamp) -> Option<TaskId> {
        let order = *self.sticky.first()?;
        if self.has_recent_poller(limits, now) {
            return None;
        }
        self.drop_task(&order);
        Some(order.id)
    }

    pub fn has_recent_poller(&self, limits: &Limits, now: Timestamp) -> bool {
        !self.waiting.is_empty() || self.last_poller.is_some_and(|at| at + limits.sticky_window > now)
    }

    /// When this queue next wants attention by itself.
    pub fn deadline(&self, limits: &Limits, now: Timestamp) -> Option<Timestamp> {
        match (self.tasks.is_empty(), self.waiting.is_empty()) {
            (true, true) => Some(self.last_used + limits.queue_idle),
            (false, true) if !self.sticky.is_empty() => self.last_poller.map(|at| at + limits.sticky_window),
            (false, false) => match self.limiter.ready(now) {
                Ready::At(at) => Some(at),
                Ready::Now | Ready::Never => None,
            },
            _ => None,
        }
    }

    pub fn is_forgettable(&self, limits: &Limits, now: Timestamp) -> bool {
        self.tasks.is_empty() && self.waiting.is_empty() && self.last_used + limits.queue_idle <= now
    }

    pub fn backlog_count(&self) -> usize {
        self.tasks.len() - self.queries
    }

    pub fn describe(&self, limits: &Limits, now: Timestamp) -> QueueInfo {
        QueueInfo {
            pollers: self.history.list(limits, now),
            backlog_count: self.backlog_count() as i64,
            backlog_age: self.backlog_age(now),
            backlog_by_priority: self.backlog_by_priority(now),
            add_rate: self.added.rate(now),
            dispatch_rate: self.dispatched.rate(now),
            rate_limit: self.limiter.asked(),
            rate_set_by_people: self.own_rate.is_some(),
        }
    }

    pub fn backlog_age(&self, now: Timestamp) -> Duration {
        self.oldest().map_or(Duration::ZERO, |created| (now - created).max(Duration::ZERO))
    }

    fn backlog_by_priority(&self, now: Timestamp) -> Vec<(i32, i64, Duration)> {
        let levels = (PRIORITY_FIRST..=PRIORITY_LAST).zip(self.counts).filter(|(_, count)| *count > 0);
        let age = |priority| self.oldest_of(priority as u8).map_or(Duration::ZERO, |created| now - created);
        levels.map(|(priority, count)| (priority, count as i64, age(priority).max(Duration::ZERO))).collect()
    }

    /// Creation of the oldest task that is no query.
    fn oldest(&self) -> Option<Timestamp> {
        (PRIORITY_FIRST as u8..=PRIORITY_LAST as u8).filter_map(|priority| self.oldest_of(priority)).min()
    }

    /// The same of one priority; where turns are taken, of the task whose turn is next. Queries are few and short-lived, so stepping
    /// over them is cheap.
    fn oldest_of(&self, priority: u8) -> Option<Timestamp> {
        let start = Order { priority, pass: 0, created: Timestamp::from_nanos(i64::MIN), id: 0 };
        let mut level = self.tasks.range(start..).take_while(|(order, _)| order.priority == priority);
        level.find(|(_, held)| !held.query).map(|(order, _)| order.created)
    }
}

/// The place of an order's priority in an array of them.
fn level(order: &Order) -> usize {
    usize::from(order.priority) - 1
}
