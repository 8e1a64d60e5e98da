//! Schedules: each acts as often as it says, at times of its own, once at each, and never before.
//!
//! The time that an action stands for is in its workflow's id, as `2026-11-26T04:05:06Z`.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_api::temporal::history::v1::HistoryEvent;

use super::Run;
use crate::ledger::{Ledger, MadeSchedule};
use crate::performer::jobs::scheduled_prefix;
use crate::violation::{Invariant, hold};

const DAY: i64 = 86_400;

/// Holds every schedule against the runs that it began. `apart` is how far the clocks of two nodes may be: what one schedules another
/// may begin, whose clock is behind.
///
/// # Panics
/// If it acted otherwise than it says.
pub fn check(ledger: &Ledger, runs: &[Run], apart: Duration) {
    for (id, made) in ledger.promises().schedules.clone() {
        let prefix = scheduled_prefix(&id);
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for run in runs {
            if let Some(time) = run.execution.workflow_id.strip_prefix(&prefix) {
                *times.entry(time).or_default() += 1;
                not_early(run, time, apart);
            }
        }
        one(&id, made, &times);
    }
}

fn one(id: &str, made: MadeSchedule, times: &BTreeMap<&str, usize>) {
    must(times.values().all(|count| *count == 1), || format!("{id} acted twice at one time: {times:?}"));
    let count = times.len() as u64;
    must(count == made.count || (count == 0 && !made.acknowledged), || {
        format!("{id} is to act {} times and acted {count} times: {times:?}", made.count)
    });
    let seconds: Vec<i64> = times.keys().filter_map(|time| second_of_day(time)).collect();
    must(seconds.len() == times.len(), || format!("{id} acted at times that are none: {times:?}"));
    let interval = made.interval as i64;
    let due = |pair: &[i64]| {
        let apart = (pair[1] - pair[0]).rem_euclid(DAY);
        apart == interval || (made.paused && apart % interval == 0)
    };
    must(seconds.windows(2).all(due), || format!("{id} acts each {interval} s, and acted at {times:?}"));
}

fn must(holds: bool, detail: impl FnOnce() -> String) {
    hold(holds, Invariant::SchedulesActOnce, detail);
}

/// An action's run begins no earlier than its time, by the servers' own clocks.
fn not_early(run: &Run, time: &str, apart: Duration) {
    let began = run.events.first().and_then(|event: &HistoryEvent| event.event_time.as_ref());
    let (Some(began), Some(due)) = (began, second_of_day(time)) else { return };
    let day = i128::from(DAY) * 1_000_000_000;
    let began = i128::from(began.seconds) * 1_000_000_000 + i128::from(began.nanos);
    let late = (began - i128::from(due) * 1_000_000_000 + apart.as_nanos() as i128).rem_euclid(day);
    must(late < day / 2, || {
        format!("{:?} began {} ns early, differences of clocks included", run.execution, day - late)
    });
}

/// The second of the day that a time names.
#[must_use]
pub fn second_of_day(time: &str) -> Option<i64> {
    let clock = time.strip_suffix('Z')?.split_once('T')?.1;
    let mut parts = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    Some(hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(count: u64) -> MadeSchedule {
        MadeSchedule { interval: 2, count, acknowledged: true, paused: false }
    }

    #[test]
    fn each_time_has_one_action() {
        let times = |times: &[(&'static str, usize)]| times.iter().copied().collect::<BTreeMap<_, _>>();
        one("s", made(2), &times(&[("2026-11-26T23:59:58Z", 1), ("2026-11-27T00:00:00Z", 1)]));
        let bad = [
            times(&[("2026-11-26T23:59:58Z", 1), ("2026-11-27T00:00:02Z", 1)]),
            times(&[("2026-11-26T23:59:58Z", 2), ("2026-11-27T00:00:00Z", 1)]),
            times(&[("2026-11-26T23:59:58Z", 1)]),
        ];
        for times in bad {
            assert!(std::panic::catch_unwind(|| one("s", made(2), &times)).is_err(), "{times:?}");
        }
    }
}
