//! What one caller sees: order, rates, sticky queues, forgetting, and size.

use mainstay_base::{Duration, Timestamp};
use mainstay_matching::{Event, Fairness, Limits, Matching, Output, Poller, QueueKey, QueueKind, Task};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_nanos(millis * 1_000_000)
}

fn queue(name: &str, kind: QueueKind) -> QueueKey {
    QueueKey { namespace_id: "n".into(), name: name.into(), kind }
}

fn task(id: u64) -> Task {
    Task { id, priority: 0, created: at(id as i64), sticky: false, query: false, fairness: Fairness::default() }
}

fn poller(id: u64) -> Poller {
    Poller { id, identity: format!("worker-{}", id % 3), ..Poller::default() }
}

fn offer(queue: &QueueKey, task: Task) -> Event {
    Event::Offer { queue: queue.clone(), task }
}

fn poll(queue: &QueueKey, poller: Poller) -> Event {
    Event::Poll { queue: queue.clone(), poller }
}

fn pair(task: u64, poller: u64) -> Output {
    Output::Match { task, poller }
}

#[test]
fn priority_then_age_then_id_and_the_longest_waiting_poller_first() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Workflow);
    let tasks = [(1, 4, 0), (2, 0, 9), (3, 3, 5), (4, 1, 99), (5, 3, 5), (6, 77, 0), (7, -4, 100)];
    for (id, priority, created) in tasks {
        m.handle(offer(&q, Task { priority, created: at(created), ..task(id) }), at(1));
    }
    let got: Vec<_> = (10..17).flat_map(|id| m.handle(poll(&q, poller(id)), at(2))).collect();
    let wanted = [4, 7, 3, 5, 2, 1, 6].into_iter().zip(10..).map(|(t, p)| pair(t, p)).collect::<Vec<_>>();
    assert_eq!(got, wanted);
    for id in 20..23 {
        assert_eq!(m.handle(poll(&q, poller(id)), at(3)), []);
    }
    m.handle(Event::EndPoll { poller: 20 }, at(4));
    assert_eq!(m.handle(offer(&q, task(30)), at(5)), [pair(30, 21)]);
    assert_eq!(m.handle(offer(&q, task(31)), at(5)), [pair(31, 22)]);
    assert_eq!((m.task_count(), m.poller_count()), (0, 0));
}

#[test]
fn repeats_and_strangers_are_ignored() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Workflow);
    m.handle(offer(&q, task(1)), at(1));
    m.handle(offer(&q, task(1)), at(1));
    m.handle(Event::Retract { task: 9 }, at(1));
    m.handle(Event::EndPoll { poller: 9 }, at(1));
    m.handle(Event::Unload { queue: queue("other", QueueKind::Workflow) }, at(1));
    assert_eq!(m.task_count(), 1);
    m.handle(Event::Retract { task: 1 }, at(1));
    assert_eq!(m.handle(poll(&q, poller(1)), at(1)), []);
    assert_eq!(m.handle(poll(&q, poller(1)), at(1)), []);
    assert_eq!(m.handle(offer(&q, task(1)), at(1)), [pair(1, 1)]);
    assert_eq!(m.handle(offer(&q, task(2)), at(1)), []);
}

#[test]
fn kinds_and_namespaces_do_not_mix() {
    let mut m = Matching::new(Limits::default());
    let other = QueueKey { namespace_id: "m".into(), ..queue("q", QueueKind::Workflow) };
    m.handle(poll(&queue("q", QueueKind::Activity), poller(1)), at(1));
    m.handle(poll(&other, poller(2)), at(1));
    assert_eq!(m.handle(offer(&queue("q", QueueKind::Workflow), task(1)), at(1)), []);
    assert_eq!(m.queue_count(), 3);
}

#[test]
fn a_rate_delays_and_its_deadline_tells_until_when() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Activity);
    for id in 0..30 {
        m.handle(offer(&q, task(id)), at(0));
    }
    let slow = |id| poll(&q, Poller { rate_per_second: Some(10.0), ..poller(id) });
    let burst: usize = (0..20).map(|id| m.handle(slow(id), at(0)).len()).sum();
    assert_eq!(burst, 10);
    assert_eq!(m.next_deadline(), Some(at(100)));
    assert_eq!(m.handle(Event::Tick, at(99)), []);
    assert_eq!(m.handle(Event::Tick, at(100)), [pair(10, 10)]);
    assert_eq!(m.next_deadline(), Some(at(200)));
    assert_eq!(m.describe(&q, at(100)).rate_limit, Some(10.0));
    // The last poll decides: 0 pauses, none lifts the limit.
    m.handle(poll(&q, Poller { rate_per_second: Some(0.0), ..poller(50) }), at(101));
    assert_eq!(m.next_deadline(), None);
    assert_eq!(m.handle(Event::Tick, at(100_000)), []);
    assert_eq!(m.handle(poll(&q, poller(51)), at(100_001)).len(), 11);
}

#[test]
fn a_workflow_queue_has_no_rate() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Workflow);
    m.handle(offer(&q, task(1)), at(0));
    let paused = Poller { rate_per_second: Some(0.0), ..poller(1) };
    assert_eq!(m.handle(poll(&q, paused), at(0)), [pair(1, 1)]);
}

#[test]
fn a_sticky_task_waits_only_for_a_worker_seen_lately() {
    let mut m = Matching::new(Limits::default());
    let q = queue("sticky", QueueKind::Workflow);
    let sticky = |id| offer(&q, Task { sticky: true, ..task(id) });
    let gone = |task| Output::StickyUnavailable { task };
    assert_eq!(m.handle(sticky(1), at(0)), [gone(1)]);
    m.handle(poll(&q, poller(1)), at(1_000));
    assert_eq!(m.handle(sticky(2), at(2_000)), [pair(2, 1)]);
    assert!(m.has_recent_poller(&q, at(11_999)));
    assert!(!m.has_recent_poller(&q, at(12_000)));
    assert_eq!(m.handle(sticky(3), at(3_000)), []);
    assert_eq!(m.handle(offer(&q, task(4)), at(3_000)), []);
    assert_eq!(m.next_deadline(), Some(at(12_000)));
    assert_eq!(m.handle(Event::Tick, at(12_000)), [gone(3)]);
    assert_eq!(m.task_count(), 1);
    // A poll that waits keeps the queue alive however long it waits.
    assert_eq!(m.handle(poll(&q, poller(2)), at(20_000)), [pair(4, 2)]);
    m.handle(poll(&q, poller(3)), at(20_000));
    assert_eq!(m.handle(sticky(5), at(79_000)), [pair(5, 3)]);
    // A worker that shut down is gone at once.
    assert_eq!(m.handle(sticky(6), at(79_001)), []);
    assert_eq!(m.handle(Event::Unload { queue: q.clone() }, at(79_002)), [gone(6)]);
    assert!(m.describe(&q, at(79_002)).pollers.is_empty());
}

#[test]
fn unload_drops_waiting_pollers_and_keeps_ordinary_tasks() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Activity);
    m.handle(poll(&q, Poller { rate_per_second: Some(0.0), ..poller(1) }), at(0));
    m.handle(offer(&q, task(1)), at(0));
    assert_eq!(m.handle(Event::Unload { queue: q.clone() }, at(1)), []);
    assert_eq!((m.task_count(), m.poller_count()), (1, 0));
    assert_eq!(m.handle(poll(&q, poller(1)), at(2)), [pair(1, 1)]);
}

#[test]
fn a_description_counts_backlog_rates_and_pollers() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Workflow);
    m.handle(offer(&q, Task { query: true, created: at(0), ..task(1) }), at(1_000));
    m.handle(offer(&q, Task { created: at(900), ..task(2) }), at(1_000));
    m.handle(offer(&q, Task { created: at(500), priority: 5, ..task(3) }), at(1_000));
    let info = m.describe(&q, at(3_000));
    assert_eq!((info.backlog_count, info.backlog_age), (2, Duration::from_millis(2_500)));
    assert_eq!((info.add_rate, info.dispatch_rate), (1.0, 0.0));
    assert_eq!(m.backlog_count(&q), 2);
    for id in 1..=5 {
        m.handle(poll(&q, Poller { build_id: Some(format!("b{id}")), ..poller(id) }), at(4_000 + id as i64));
    }
    let info = m.describe(&q, at(5_000));
    assert_eq!((info.backlog_count, info.backlog_age, info.dispatch_rate), (0, Duration::ZERO, 0.5));
    let seen: Vec<_> = info.pollers.iter().map(|p| (p.identity.as_str(), p.build_id.as_deref())).collect();
    assert_eq!(seen, [("worker-2", Some("b5")), ("worker-1", Some("b4")), ("worker-0", Some("b3"))]);
    assert_eq!(info.pollers[0].last_access, at(4_005));
    assert_eq!(m.describe(&q, at(304_004)).pollers.len(), 2);
    assert_eq!(m.describe(&q, at(400_000)).pollers.len(), 0);
    assert_eq!(m.describe(&queue("none", QueueKind::Workflow), at(0)).backlog_count, 0);
}

#[test]
fn idle_queues_and_many_identities_are_forgotten() {
    let mut m = Matching::new(Limits { identities_max: 10, ..Limits::default() });
    for id in 0..1_000 {
        let q = queue(&format!("q{id}"), QueueKind::Workflow);
        m.handle(poll(&q, poller(id)), at(id as i64));
        m.handle(Event::EndPoll { poller: id }, at(id as i64));
    }
    assert_eq!(m.queue_count(), 1_000);
    m.handle(Event::Tick, at(300_499));
    assert_eq!(m.queue_count(), 500);
    m.handle(Event::Tick, at(400_000));
    assert_eq!((m.queue_count(), m.next_deadline()), (0, None));
    let q = queue("q", QueueKind::Workflow);
    for id in 0..100 {
        m.handle(poll(&q, Poller { identity: format!("w{id}"), ..poller(id) }), at(400_000));
    }
    assert_eq!(m.describe(&q, at(400_000)).pollers.len(), 10);
}

/// Large enough that anything linear per event would never end.
#[test]
fn a_million_tasks_in_one_queue() {
    const TASKS: u64 = 1_000_000;
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Activity);
    for id in 0..TASKS {
        m.handle(offer(&q, Task { priority: (id % 5) as i32 + 1, ..task(id) }), at(0));
    }
    for id in (0..TASKS).step_by(4) {
        m.handle(Event::Retract { task: id }, at(1));
    }
    assert_eq!(m.describe(&q, at(2)).backlog_count, 750_000);
    let served: usize = (0..750_000).map(|id| m.handle(poll(&q, poller(id)), at(3)).len()).sum();
    assert_eq!((served, m.task_count()), (750_000, 0));
}

/// As many pollers: they leave from the middle of the line.
#[test]
fn two_hundred_thousand_pollers_at_one_queue() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Workflow);
    for id in 0..200_000 {
        m.handle(poll(&q, poller(id)), at(0));
    }
    for id in 50_000..200_000 {
        m.handle(Event::EndPoll { poller: id }, at(1));
    }
    let got: Vec<_> = (0..50_000).flat_map(|id| m.handle(offer(&q, task(id)), at(2))).collect();
    assert_eq!(got, (0..50_000).map(|id| pair(id, id)).collect::<Vec<_>>());
}

#[test]
fn keys_share_a_queue_by_their_weights_within_a_priority() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Activity);
    let fair = |id, key, weight_thousandths| Task { fairness: Fairness { key, weight_thousandths }, ..task(id) };
    for id in 0..6 {
        m.handle(offer(&q, fair(id, 1, 1_000)), at(1));
    }
    for id in 6..8 {
        m.handle(offer(&q, fair(id, 2, 1_000)), at(1));
    }
    m.handle(offer(&q, Task { priority: 1, ..fair(8, 1, 1_000) }), at(1));
    let got: Vec<_> = (10..19).flat_map(|id| m.handle(poll(&q, poller(id)), at(2))).collect();
    let wanted = [8, 0, 6, 1, 7, 2, 3, 4, 5].into_iter().zip(10..).map(|(t, p)| pair(t, p)).collect::<Vec<_>>();
    assert_eq!(got, wanted);
}

#[test]
fn a_backlog_is_told_by_priority() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Workflow);
    m.handle(offer(&q, Task { priority: 1, created: at(500), ..task(1) }), at(500));
    m.handle(offer(&q, Task { created: at(200), ..task(2) }), at(500));
    m.handle(offer(&q, Task { created: at(300), ..task(3) }), at(500));
    m.handle(offer(&q, Task { query: true, ..task(4) }), at(500));
    let info = m.describe(&q, at(1_000));
    let ms = |n: i64| Duration::from_nanos(n * 1_000_000);
    assert_eq!(info.backlog_by_priority, [(1, 1, ms(500)), (3, 2, ms(800))]);
    m.handle(Event::Retract { task: 1 }, at(1_000));
    assert_eq!(m.describe(&q, at(1_000)).backlog_by_priority.len(), 1);
}

#[test]
fn a_reserved_poller_is_out_of_its_line_until_it_is_fulfilled_or_released() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Activity);
    assert!(m.reserve(&q, at(0)).is_none(), "nobody waits");
    for id in 1..4 {
        m.handle(poll(&q, poller(id)), at(1));
    }
    let first = m.reserve(&q, at(2)).expect("one waits");
    let second = m.reserve(&q, at(2)).expect("one waits");
    assert_eq!((first.poller().id, second.poller().id, m.poller_count()), (1, 2, 1));
    m.fulfil(&second, at(3));
    assert_eq!(m.release(first, at(3)), []);
    // It has its old place, before the third.
    assert_eq!(m.handle(offer(&q, task(30)), at(4)), [pair(30, 1)]);
    let third = m.reserve(&q, at(5)).expect("one waits");
    assert_eq!(m.handle(offer(&q, task(31)), at(6)), []);
    assert!(m.reserve(&q, at(6)).is_none(), "a task waits already");
    assert_eq!(m.release(third, at(7)), [pair(31, 3)]);
    let described = m.describe(&q, at(8));
    assert_eq!((described.backlog_count, m.task_count(), m.poller_count()), (0, 0, 0));
    assert!(described.dispatch_rate > 0.0);
}

#[test]
fn a_queue_with_a_rate_reserves_nobody() {
    let mut m = Matching::new(Limits::default());
    let q = queue("q", QueueKind::Activity);
    m.handle(poll(&q, Poller { rate_per_second: Some(1.0), ..poller(1) }), at(1));
    assert!(m.reserve(&q, at(2)).is_none());
    m.handle(poll(&q, poller(2)), at(3));
    assert!(m.reserve(&q, at(4)).is_some());
}
