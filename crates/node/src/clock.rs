//! The time that entries are stamped with: the wall clock, held to the pace of the monotonic one.
//!
//! A wall clock jumps when somebody sets it, and timers must neither fire an hour early for that nor stand still for an hour. So the
//! stamps follow the monotonic clock and close the distance to the wall clock slowly: half a second in each second forward, a tenth
//! of a second in each second back. Only a start believes the wall clock, and never less than what the log has seen; nor does a
//! node that begins to lead a group tell less than what that group's log has.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_base::Timestamp;
use mainstay_runtime::{Instant, Runtime};

use crate::lock;

/// Of the time that passed: what is gained on a wall clock that is ahead, and given up to one that is behind.
const GAIN_DIVISOR: i64 = 2;
const LOSS_DIVISOR: i64 = 10;

/// Tells the time, to those who do not know the runtime.
pub(crate) type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A node's.
pub(crate) struct Clock<R: Runtime>(Mutex<Reading<R>>);

/// The last time that was told, and when.
struct Reading<R: Runtime> {
    at: R::Instant,
    now_ns: i64,
}

impl<R: Runtime> Clock<R> {
    /// A clock that begins with the wall clock.
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Reading { at: R::Instant::now(), now_ns: R::wall_clock().as_nanos() }))
    }

    /// The time now: never less than before.
    pub(crate) fn now(&self) -> Timestamp {
        let (at, wall_ns) = (R::Instant::now(), R::wall_clock().as_nanos());
        let mut last = lock(&self.0);
        last.now_ns = step(last.now_ns, at.saturating_duration_since(last.at), wall_ns);
        last.at = at;
        Timestamp::from_nanos(last.now_ns)
    }

    /// The clock, for those who do not know the runtime.
    pub(crate) fn reader(self: &Arc<Self>) -> Now {
        let clock = Arc::clone(self);
        Arc::new(move || clock.now())
    }

    /// The log has seen this time.
    pub(crate) fn at_least(&self, ns: i64) {
        let mut last = lock(&self.0);
        last.now_ns = last.now_ns.max(ns);
    }
}

/// The time after a span, with a wall clock that shows this.
fn step(now_ns: i64, passed: Duration, wall_ns: i64) -> i64 {
    let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
    let steady = now_ns.saturating_add(passed);
    if wall_ns >= steady {
        wall_ns.min(steady.saturating_add(passed / GAIN_DIVISOR))
    } else {
        wall_ns.max(steady.saturating_sub(passed / LOSS_DIVISOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const HOUR: i64 = 3_600 * SECOND;

    fn after(seconds: u64, now_ns: i64, wall_ns: i64) -> i64 {
        step(now_ns, Duration::from_secs(seconds), wall_ns)
    }

    #[test]
    fn a_wall_clock_that_runs_well_is_told_as_it_is() {
        assert_eq!(after(1, 0, SECOND), SECOND);
        assert_eq!(after(1, 0, SECOND + 7), SECOND + 7);
        assert_eq!(after(1, 0, SECOND - 7), SECOND - 7);
    }

    #[test]
    fn a_jump_is_followed_slowly() {
        assert_eq!(after(1, 0, HOUR), SECOND + SECOND / 2);
        assert_eq!(after(1, 0, -HOUR), SECOND - SECOND / 10);
        assert_eq!(after(0, 5, HOUR), 5);
        assert_eq!(after(0, 5, -HOUR), 5);
    }

    #[test]
    fn it_arrives() {
        assert_eq!(after(10_000, 0, HOUR + 10_000 * SECOND), HOUR + 10_000 * SECOND);
    }
}
