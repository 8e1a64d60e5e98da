//! Advice to workers that scale their polls: one fewer after a long wait, one more while tasks wait or come faster than they go.

use mainstay_base::{Duration, Timestamp};

use crate::limiter::{Limiter, Ready};

/// A poll that waited this long could have been spared.
const IDLE: Duration = Duration::from_nanos(1_000_000_000);
/// A backlog older than this wants another poll.
const BACKLOG_AGE: Duration = Duration::from_nanos(200_000_000);
/// So does a queue to which tasks come this much faster than they go.
const ADD_FACTOR: f64 = 1.2;
/// Advice to poll more is given at most this often.
const PER_SECOND: f64 = 10.0;

/// What a queue looks like when one of its polls is answered.
pub struct Pressure {
    pub backlog_age: Duration,
    pub add_rate: f64,
    pub dispatch_rate: f64,
}

/// Keeps advice from coming too fast.
pub struct Advisor(Limiter);

impl Advisor {
    pub fn new(now: Timestamp) -> Self {
        let mut limiter = Limiter::new();
        limiter.set(Some(PER_SECOND), now);
        Self(limiter)
    }

    /// By how many polls a worker should change what it does: −1, 0 or 1.
    pub fn advise(&mut self, waited: Duration, pressure: &Pressure, now: Timestamp) -> i32 {
        if waited >= IDLE {
            return -1;
        }
        let growing = pressure.dispatch_rate > 0.0 && pressure.add_rate > ADD_FACTOR * pressure.dispatch_rate;
        if !(pressure.backlog_age > BACKLOG_AGE || growing) || self.0.ready(now) != Ready::Now {
            return 0;
        }
        self.0.spend(now);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressure(age_ms: i64, add_rate: f64, dispatch_rate: f64) -> Pressure {
        Pressure { backlog_age: Duration::from_nanos(age_ms * 1_000_000), add_rate, dispatch_rate }
    }

    #[test]
    fn idle_polls_are_spared_and_backlogs_want_more() {
        let now = Timestamp::from_nanos(0);
        let mut advisor = Advisor::new(now);
        let brief = Duration::from_nanos(1);
        assert_eq!(advisor.advise(IDLE, &pressure(999, 9.0, 1.0), now), -1);
        assert_eq!(advisor.advise(brief, &pressure(200, 1.0, 1.0), now), 0);
        assert_eq!(advisor.advise(brief, &pressure(201, 1.0, 1.0), now), 1);
        assert_eq!(advisor.advise(brief, &pressure(0, 1.3, 1.0), now), 1);
    }

    #[test]
    fn more_polls_are_wanted_at_most_ten_times_a_second() {
        let now = Timestamp::from_nanos(0);
        let mut advisor = Advisor::new(now);
        let given: i32 = (0..50).map(|_| advisor.advise(Duration::ZERO, &pressure(500, 0.0, 0.0), now)).sum();
        assert_eq!(given, 10);
    }
}
