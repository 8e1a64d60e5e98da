//! The machine against a model that keeps plain lists and looks at everything each time.

use std::collections::BTreeMap;

use mainstay_base::{Duration, Timestamp};
use mainstay_matching::{Event, Fairness, Limits, Matching, Output, Poller, QueueKey, QueueKind, Task};
use proptest::prelude::*;

const QUEUES: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Offer { queue: u8, id: u8, priority: i32, created: u8, sticky: bool, query: bool },
    Retract(u8),
    Poll { queue: u8, id: u8, rate: Option<f64> },
    EndPoll(u8),
    Unload(u8),
    SetRate { queue: u8, pause: bool },
    Pass(u32),
}

fn step(rates: Vec<Option<f64>>) -> impl Strategy<Value = Step> {
    let queue = 0..QUEUES;
    let offer = (queue.clone(), any::<u8>(), 0..6, any::<u8>(), any::<bool>(), any::<bool>()).prop_map(
        |(queue, id, priority, created, sticky, query)| Step::Offer { queue, id, priority, created, sticky, query },
    );
    let poll = (queue.clone(), any::<u8>(), proptest::sample::select(rates));
    prop_oneof![
        6 => offer,
        2 => any::<u8>().prop_map(Step::Retract),
        6 => poll.prop_map(|(queue, id, rate)| Step::Poll { queue, id, rate }),
        2 => any::<u8>().prop_map(Step::EndPoll),
        1 => queue.clone().prop_map(Step::Unload),
        1 => (queue, any::<bool>()).prop_map(|(queue, pause)| Step::SetRate { queue, pause }),
        3 => (0u32..20_000).prop_map(Step::Pass),
        1 => (200_000u32..400_000).prop_map(Step::Pass),
    ]
}

fn key(queue: u8) -> QueueKey {
    let kind = if queue == 0 { QueueKind::Workflow } else { QueueKind::Activity };
    QueueKey { namespace_id: "n".into(), name: format!("q{queue}"), kind }
}

fn event(step: &Step) -> Event {
    match *step {
        Step::Offer { queue, id, priority, created, sticky, query } => {
            let created = Timestamp::from_nanos(created as i64);
            Event::Offer {
                queue: key(queue),
                task: Task { id: id as u64, priority, created, sticky, query, fairness: Fairness::default() },
            }
        }
        Step::Retract(id) => Event::Retract { task: id as u64 },
        Step::Poll { queue, id, rate } => {
            let identity = format!("w{}", id % 7);
            let poller = Poller { id: id as u64, identity, rate_per_second: rate, build_id: None };
            Event::Poll { queue: key(queue), poller }
        }
        Step::EndPoll(id) => Event::EndPoll { poller: id as u64 },
        Step::Unload(queue) => Event::Unload { queue: key(queue) },
        Step::SetRate { queue, pause } => Event::SetRate { queue: key(queue), per_second: pause.then_some(0.0) },
        Step::Pass(_) => Event::Tick,
    }
}

#[derive(Default)]
struct Naive {
    tasks: Vec<(QueueKey, Task)>,
    pollers: Vec<(QueueKey, u64)>,
    seen: BTreeMap<QueueKey, Timestamp>,
    paused: BTreeMap<QueueKey, bool>,
    paused_by_people: BTreeMap<QueueKey, bool>,
}

impl Naive {
    fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Output> {
        let mut out = Vec::new();
        self.rest(now, &mut out);
        match event {
            Event::Offer { queue, task } => {
                if !self.tasks.iter().any(|(_, held)| held.id == task.id) {
                    self.tasks.push((queue, task));
                }
            }
            Event::Retract { task } => self.tasks.retain(|(_, held)| held.id != task),
            Event::Poll { queue, poller } => {
                if !self.pollers.iter().any(|(_, id)| *id == poller.id) {
                    self.seen.insert(queue.clone(), now);
                    let pause = queue.kind == QueueKind::Activity && poller.rate_per_second == Some(0.0);
                    self.paused.insert(queue.clone(), pause);
                    self.pollers.push((queue, poller.id));
                }
            }
            Event::EndPoll { poller } => {
                if let Some((queue, _)) = self.pollers.iter().find(|(_, id)| *id == poller) {
                    self.seen.insert(queue.clone(), now);
                }
                self.pollers.retain(|(_, id)| *id != poller);
            }
            Event::Unload { queue } => {
                self.pollers.retain(|(at, _)| *at != queue);
                self.seen.remove(&queue);
            }
            Event::SetRate { queue, per_second } => {
                self.paused_by_people.insert(queue, per_second == Some(0.0));
            }
            Event::Tick => {}
        }
        self.rest(now, &mut out);
        out
    }

    fn recent(&self, queue: &QueueKey, now: Timestamp) -> bool {
        let waits = self.pollers.iter().any(|(at, _)| at == queue);
        waits || self.seen.get(queue).is_some_and(|at| *at + Duration::from_secs(10) > now)
    }

    fn rest(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let place = |task: &Task| (if task.priority == 0 { 3 } else { task.priority }, task.created, task.id);
        self.tasks.sort_by_key(|(_, task)| place(task));
        while let Some((t, p)) = self.tasks.iter().enumerate().find_map(|(t, (queue, _))| {
            let paused = [&self.paused, &self.paused_by_people].iter().any(|p| p.get(queue) == Some(&true));
            let p = self.pollers.iter().position(|(at, _)| at == queue && !paused)?;
            Some((t, p))
        }) {
            let (queue, task) = self.tasks.remove(t);
            let (_, poller) = self.pollers.remove(p);
            self.seen.insert(queue, now);
            out.push(Output::Match { task: task.id, poller });
        }
        while let Some(t) = self.tasks.iter().position(|(queue, task)| task.sticky && !self.recent(queue, now)) {
            out.push(Output::StickyUnavailable { task: self.tasks.remove(t).1.id });
        }
    }
}

fn sorted(mut outputs: Vec<Output>) -> Vec<Output> {
    outputs.sort();
    outputs
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(vec![None, None, Some(0.0)]), 1..300)) {
        let mut machine = Matching::new(Limits::default());
        let mut model = Naive::default();
        let mut now = Timestamp::from_nanos(1_000_000_000_000);
        for step in &steps {
            if let Step::Pass(millis) = step {
                now = now + Duration::from_millis(*millis as i64);
            }
            // Queues are independent, so outputs of several queues in one call have no order among them.
            prop_assert_eq!(sorted(machine.handle(event(step), now)), sorted(model.handle(event(step), now)), "{:?}", step);
            prop_assert_eq!(machine.task_count(), model.tasks.len());
            prop_assert_eq!(machine.poller_count(), model.pollers.len());
            for queue in (0..QUEUES).map(key) {
                prop_assert_eq!(machine.has_recent_poller(&queue, now), model.recent(&queue, now));
                let backlog = model.tasks.iter().filter(|(at, task)| *at == queue && !task.query);
                let oldest = backlog.clone().map(|(_, task)| now - task.created).max().unwrap_or_default();
                let info = machine.describe(&queue, now);
                prop_assert_eq!((info.backlog_count as usize, info.backlog_age), (backlog.count(), oldest));
            }
            prop_assert!(machine.next_deadline().is_none_or(|at| at > now));
        }
    }

    #[test]
    fn rates_hold_and_deadlines_are_enough(
        steps in prop::collection::vec(step(vec![Some(0.5), Some(4.0)]), 1..200),
    ) {
        let mut machine = Matching::new(Limits::default());
        let start = Timestamp::from_nanos(1_000_000_000_000);
        let mut now = start;
        let mut matches = 0;
        for step in &steps {
            if let Step::Pass(millis) = step {
                now = now + Duration::from_millis(*millis as i64);
            }
            // Queue 0 has no rate; leave it out.
            if !matches!(step, Step::Offer { queue: 0, .. } | Step::Poll { queue: 0, .. } | Step::SetRate { .. }) {
                matches += machine.handle(event(step), now).iter().filter(|o| matches!(o, Output::Match { .. })).count();
            }
            let elapsed = (now - start).as_nanos() as f64 / 1e9;
            let most = (4.0 + elapsed * 4.0) * (QUEUES - 1) as f64;
            prop_assert!(matches as f64 <= most + 1.0, "{} matches in {} s", matches, elapsed);
        }
        // Ticks at the deadlines alone serve all that can be served, and in the end forget every idle queue.
        let mut ticks = 0;
        while let Some(at) = machine.next_deadline() {
            now = now.max(at);
            machine.handle(Event::Tick, now);
            ticks += 1;
            prop_assert!(ticks < 2_000);
        }
        for queue in (1..QUEUES).map(key) {
            let waiting = machine.has_recent_poller(&queue, now + Duration::from_secs(100));
            prop_assert!(!(waiting && machine.describe(&queue, now).backlog_count > 0));
        }
    }
}
