//! How long a caller waits: the `grpc-timeout` header, and what is left of it for a long poll.

use std::time::Duration;

use http::HeaderMap;

use crate::status::{Answer, precondition};

/// Polls with less time than this are refused.
const POLL_TIMEOUT_MIN: Duration = Duration::from_secs(2);
/// Kept back of the caller's time, so that an empty answer reaches it before its own clock ends the call.
const MARGIN: Duration = Duration::from_secs(1);

/// What the caller gave; none for a caller that waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Budget(pub(crate) Option<Duration>);

impl Budget {
    /// Reads the header; a malformed one counts as absent.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?)))
    }

    /// How long a poll for a task may block.
    ///
    /// # Errors
    /// If the caller waits too shortly for any poll.
    pub(crate) fn for_poll(self, longest: Duration) -> Answer<Duration> {
        match self.0 {
            Some(given) if given < POLL_TIMEOUT_MIN => Err(precondition("Context timeout is too short.")),
            _ => Ok(self.within(longest)),
        }
    }

    /// At most `longest`, and a margin less than the caller waits.
    pub(crate) fn within(self, longest: Duration) -> Duration {
        self.0.map_or(longest, |given| given.saturating_sub(MARGIN.min(given / 2)).min(longest))
    }

    /// The caller's time, or a default; a little less, so that the answer can say what was waited for.
    pub(crate) fn or(self, default: Duration) -> Duration {
        self.0.map_or(default, |given| given.saturating_sub(Duration::from_millis(50).min(given / 10)))
    }
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count.saturating_mul(3600)),
        "M" => Duration::from_secs(count.saturating_mul(60)),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_eight_digits_and_a_unit() {
        assert_eq!(parse("10S"), Some(Duration::from_secs(10)));
        assert_eq!(parse("99999999n"), Some(Duration::from_nanos(99_999_999)));
        assert_eq!(parse("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "S", "10", "123456789S", "-1S", "+1S", "1x", "1µ", "é"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_poll_ends_a_second_before_its_caller() {
        let longest = Duration::from_secs(60);
        assert_eq!(Budget(None).for_poll(longest).unwrap(), longest);
        assert_eq!(Budget(Some(Duration::from_secs(10))).for_poll(longest).unwrap(), Duration::from_secs(9));
        assert!(Budget(Some(Duration::from_millis(1999))).for_poll(longest).is_err());
        assert_eq!(Budget(Some(Duration::from_secs(1))).within(longest), Duration::from_millis(500));
    }
}
