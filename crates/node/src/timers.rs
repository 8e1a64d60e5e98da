//! Timers: one task per shard sleeps until the earliest row of its timer index is due, then proposes to fire what is.
//!
//! Whether a row still exists and is due is decided by apply. The index is read from where the last read ended: below that, only
//! rows that were added since can be, and apply tells of those. Only the leader's task does anything.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_api::log::{Command, FireTimers, command::Op};
use mainstay_api::record::TimerRow;
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::slot_of_timer;

use crate::measure::{self, timer_operation};
use crate::node::Node;
use crate::pace::Pace;

/// Runs that one entry fires, at least and at most.
const RUNS: [usize; 2] = [32, 256];
const ROWS_MAX: usize = 1_024;
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// Clocks may jump, so a sleep is never longer than this.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// Fires the timers of a shard for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>, group: u32) {
    let mut floor_ns = i64::MIN;
    let mut pace = Pace::from_most(RUNS[0], RUNS[1]);
    while !node.is_stopped() {
        let Some(alarm) = node.board().alarms.get(group as usize) else { return };
        // From here on apply reports every added row; then the index is read.
        alarm.armed_ns.store(i64::MAX, Ordering::Release);
        floor_ns = floor_ns.min(alarm.lowest_ns.swap(i64::MAX, Ordering::AcqRel));
        let wait = match step(&node, group, &mut floor_ns, &mut pace).await {
            Ok(Step::Fired) => continue,
            Ok(Step::Idle(next_ns)) => {
                alarm.armed_ns.store(next_ns, Ordering::Release);
                until(&node, next_ns)
            }
            Err(error) => {
                tracing::warn!(component = "timers", "shard-id" = group, %error, "timers did not fire, and will be tried again");
                RETRY_AFTER
            }
        };
        if alarm.lowest_ns.load(Ordering::Acquire) < alarm.armed_ns.load(Ordering::Acquire) {
            continue;
        }
        let _woken = node.within(R::Instant::now() + wait, alarm.earlier.notified()).await;
    }
}

enum Step {
    Fired,
    /// Nothing is due before this time.
    Idle(i64),
}

async fn step<R: Runtime>(node: &Node<R>, group: u32, floor_ns: &mut i64, pace: &mut Pace) -> Result<Step, Error> {
    if !node.board().leads(group) {
        return Ok(Step::Idle(i64::MAX));
    }
    let shard = node.shard(group)?;
    let now_ns = node.now().as_nanos().max(shard.now().map_err(crate::unreadable)?);
    let mut rows: Vec<TimerRow> = Vec::new();
    let mut runs = 0;
    let mut next_ns = i64::MAX;
    let serving = node.board().slots.serving(group);
    let visit = &mut |row: TimerRow| {
        if !serving.serves_all() && !serving.serves(slot_of_timer(&row)) {
            return true;
        }
        next_ns = row.due_ns;
        if row.due_ns > now_ns || rows.len() >= ROWS_MAX {
            return false;
        }
        let same_run = rows.last().is_some_and(|last| last.run_id == row.run_id);
        runs += usize::from(!same_run);
        let fits = runs <= pace.size();
        if fits {
            rows.push(row);
        }
        fits
    };
    shard.timers_from(*floor_ns, visit).map_err(crate::unreadable)?;
    if rows.is_empty() {
        *floor_ns = next_ns;
        return Ok(Step::Idle(next_ns));
    }
    *floor_ns = rows.first().map_or(*floor_ns, |row| row.due_ns);
    let due: Vec<_> = rows.iter().map(|row| (timer_operation(row.kind()), row.due_ns)).collect();
    let command = Command { op: Some(Op::FireTimers(FireTimers { rows })), ..Command::default() };
    let (begun, tasks) = (R::Instant::now(), &node.board().meter.tasks);
    if let Err(error) = node.propose(group, command).await {
        due.iter().for_each(|(operation, _)| tasks.failed(operation));
        return Err(error);
    }
    let (took, now_ns) = (R::Instant::now() - begun, node.now().as_nanos());
    if runs > pace.size() {
        pace.took(took);
    }
    for (operation, due_ns) in due {
        tasks.done(operation, took, measure::span(now_ns - due_ns));
    }
    Ok(Step::Fired)
}

fn until<R: Runtime>(node: &Node<R>, next_ns: i64) -> Duration {
    let nanos = next_ns.saturating_sub(node.now().as_nanos()).max(0);
    Duration::from_nanos(nanos.unsigned_abs()).min(SLEEP_MAX)
}

/// Lets matching see time pass: rate limits refill, sticky queues lose their workers.
pub(crate) async fn run_matching<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        let next = node.board().dispatch.tick(node.now());
        let wait = next.map_or(SLEEP_MAX, |next| until(&node, next.as_nanos()));
        let moved = node.board().dispatch.deadline_moved.notified();
        let _woken = node.within(R::Instant::now() + wait, moved).await;
    }
}
