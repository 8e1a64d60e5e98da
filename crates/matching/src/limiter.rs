//! A queue's rate limit: a token bucket in integer nanoseconds, holding at most one second's worth of tokens.
//!
//! The bucket is kept as the moment up to which tokens are spent. A task may go when that moment is no later than now plus
//! what may be spent ahead; then the moment moves by one interval. So it refills without being touched.

use mainstay_base::{Duration, Timestamp};

const SECOND: i64 = 1_000_000_000;

/// What the last poller asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Rate {
    Unlimited,
    Paused,
    /// Nanoseconds for one task, and how far ahead of now tokens may be spent.
    Every {
        interval: i64,
        ahead: i64,
    },
}

/// When a task may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    Now,
    At(Timestamp),
    /// Not until the rate changes.
    Never,
}

pub struct Limiter {
    asked: Option<f64>,
    rate: Rate,
    spent_until: Timestamp,
}

impl Limiter {
    pub fn new() -> Self {
        Self { asked: None, rate: Rate::Unlimited, spent_until: Timestamp::from_nanos(i64::MIN) }
    }

    /// The rate in force, as it was asked for.
    pub fn asked(&self) -> Option<f64> {
        self.asked
    }

    /// Sets the rate. A rate that is no number, or negative, counts as none.
    pub fn set(&mut self, per_second: Option<f64>, now: Timestamp) {
        let per_second = per_second.filter(|rate| *rate >= 0.0);
        if per_second == self.asked {
            return;
        }
        self.asked = per_second;
        self.rate = match per_second {
            None => Rate::Unlimited,
            Some(0.0) => Rate::Paused,
            Some(rate) => {
                let interval = ((SECOND as f64 / rate) as i64).max(1);
                Rate::Every { interval, ahead: (SECOND - interval).max(0) }
            }
        };
        self.clip(now);
    }

    pub fn ready(&self, now: Timestamp) -> Ready {
        match self.rate {
            Rate::Unlimited => Ready::Now,
            Rate::Paused => Ready::Never,
            Rate::Every { interval, ahead } => {
                let at = self.spent_until + Duration::from_nanos(-ahead);
                // A clock that went back must not stretch the wait beyond one interval.
                let at = at.min(now + Duration::from_nanos(interval));
                if at <= now { Ready::Now } else { Ready::At(at) }
            }
        }
    }

    /// Spends one token.
    pub fn spend(&mut self, now: Timestamp) {
        if let Rate::Every { interval, .. } = self.rate {
            self.spent_until = self.spent_until.max(now) + Duration::from_nanos(interval);
            self.clip(now);
        }
    }

    /// Never owes more than one interval beyond the bucket: a slow rate from before must not delay a fast one.
    fn clip(&mut self, now: Timestamp) {
        if let Rate::Every { interval, ahead } = self.rate {
            self.spent_until = self.spent_until.min(now + Duration::from_nanos(ahead.saturating_add(interval)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    /// Tasks let through from `from` to `to` in steps of one millisecond.
    fn passed(limiter: &mut Limiter, from: i64, to: i64) -> usize {
        let mut count = 0;
        for millis in from..to {
            while limiter.ready(at(millis)) == Ready::Now && count < 100_000 {
                limiter.spend(at(millis));
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_second_of_burst_and_then_the_rate() {
        let mut limiter = Limiter::new();
        limiter.set(Some(10.0), at(0));
        assert_eq!(passed(&mut limiter, 0, 1), 10);
        assert_eq!(limiter.ready(at(1)), Ready::At(at(100)));
        assert_eq!(passed(&mut limiter, 1, 10_000), 99);
    }

    #[test]
    fn slow_rates_have_no_burst() {
        let mut limiter = Limiter::new();
        limiter.set(Some(0.5), at(0));
        assert_eq!(passed(&mut limiter, 0, 10_000), 5);
    }

    #[test]
    fn zero_pauses_and_none_lifts() {
        let mut limiter = Limiter::new();
        limiter.set(Some(0.0), at(0));
        assert_eq!(limiter.ready(at(1_000_000)), Ready::Never);
        limiter.set(None, at(1));
        assert_eq!(limiter.ready(at(1)), Ready::Now);
        limiter.set(Some(f64::NAN), at(1));
        assert_eq!(limiter.ready(at(1)), Ready::Now);
    }

    #[test]
    fn a_faster_rate_is_felt_at_once_and_a_clock_may_go_back() {
        let mut limiter = Limiter::new();
        limiter.set(Some(0.000_001), at(0));
        limiter.spend(at(0));
        assert_eq!(limiter.ready(at(0)), Ready::At(at(1_000_000_000)));
        limiter.set(Some(100.0), at(1));
        assert_eq!(limiter.ready(at(1)), Ready::At(at(11)));
        assert_eq!(limiter.ready(at(-5_000)), Ready::At(at(-4_990)));
    }
}
