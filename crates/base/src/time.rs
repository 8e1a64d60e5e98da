//! Wall-clock time and spans as integer nanoseconds, so that apply is exact and a simulated clock can drift.

use std::fmt;
use std::ops::{Add, Sub};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A point of wall-clock time: nanoseconds since the Unix epoch. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A signed span of time in nanoseconds. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(i64);

impl Timestamp {
    /// From nanoseconds since the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// From protobuf's pair. `nanos` counts forward even before the epoch.
    pub const fn from_parts(seconds: i64, nanos: i32) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos as i64))
    }

    /// Protobuf's pair: seconds, and nanoseconds in `0..1_000_000_000`.
    pub const fn to_parts(self) -> (i64, i32) {
        (self.0.div_euclid(NANOS_PER_SECOND), self.0.rem_euclid(NANOS_PER_SECOND) as i32)
    }
}

impl Duration {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// From seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// In nanoseconds.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Timestamp {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.to_parts();
        write!(f, "{seconds}.{nanos:09}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_round_trip_on_both_sides_of_the_epoch() {
        for nanos in [0, 1, -1, 1_500_000_000, -1_500_000_000, i64::MAX, i64::MIN] {
            let (seconds, rest) = Timestamp::from_nanos(nanos).to_parts();
            assert!((0..1_000_000_000).contains(&rest));
            if nanos > i64::MIN {
                assert_eq!(Timestamp::from_parts(seconds, rest).as_nanos(), nanos);
            }
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_nanos(i64::MAX);
        assert_eq!(end + Duration::from_secs(i64::MAX), end);
        assert_eq!(Timestamp::from_nanos(5) - Timestamp::from_nanos(7), Duration::from_nanos(-2));
    }
}
