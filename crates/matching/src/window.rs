//! How many events there were per second, over the last thirty seconds, in six buckets of five.

use mainstay_base::Timestamp;

const BUCKET_NANOS: i64 = 5_000_000_000;
const BUCKETS: i64 = 6;
const SECOND: f64 = 1e9;

/// Counts events into buckets of time; old buckets are reused.
pub struct Window {
    since: Timestamp,
    /// The newest bucket's number: time divided by its width.
    newest: i64,
    counts: [u64; BUCKETS as usize],
}

impl Window {
    pub fn new(now: Timestamp) -> Self {
        Self { since: now, newest: number(now), counts: [0; BUCKETS as usize] }
    }

    pub fn count(&mut self, now: Timestamp) {
        let number = number(now).max(self.newest);
        for old in (self.newest + 1)..=number.min(self.newest + BUCKETS) {
            self.counts[slot(old)] = 0;
        }
        // A jump past all buckets cleared all of them; which one is the newest only matters modulo their number.
        self.newest = number;
        self.counts[slot(number)] += 1;
    }

    /// Events per second; a window younger than thirty seconds is measured over its life, but at least a second.
    pub fn rate(&self, now: Timestamp) -> f64 {
        let number = number(now).max(self.newest);
        let live = (self.newest - BUCKETS + 1).max(number - BUCKETS + 1)..=self.newest;
        let total: u64 = live.map(|bucket| self.counts[slot(bucket)]).sum();
        let age = (now - self.since).as_nanos() as f64 / SECOND;
        total as f64 / age.clamp(1.0, (BUCKET_NANOS * BUCKETS) as f64 / SECOND)
    }
}

fn number(at: Timestamp) -> i64 {
    at.as_nanos().div_euclid(BUCKET_NANOS)
}

fn slot(number: i64) -> usize {
    number.rem_euclid(BUCKETS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_rate_follows_the_last_thirty_seconds() {
        let mut window = Window::new(at(1_000));
        assert_eq!(window.rate(at(1_000)), 0.0);
        for second in 1_000..1_060 {
            window.count(at(second));
            window.count(at(second));
        }
        assert!((window.rate(at(1_059)) - 2.0).abs() < 0.01, "{}", window.rate(at(1_059)));
        assert!(window.rate(at(1_074)) < 1.1);
        assert_eq!(window.rate(at(1_100)), 0.0);
        window.count(at(2_000));
        assert_eq!(window.rate(at(2_000)), 1.0 / 30.0);
    }

    #[test]
    fn time_may_go_back() {
        let mut window = Window::new(at(100));
        window.count(at(50));
        assert_eq!(window.rate(at(50)), 1.0);
    }
}
