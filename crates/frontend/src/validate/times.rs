//! Durations in requests: never negative, never absurd.

use prost_types::Duration;

/// Larger ones are cut to this (a hundred years).
const SECONDS_MAX: i64 = 100 * 365 * 24 * 3600;

/// Checks a duration and cuts it to what the server can add to a time.
///
/// # Errors
/// What is wrong, for the caller to say of which field.
pub(crate) fn normalise(value: &mut Option<Duration>) -> Result<(), &'static str> {
    let Some(duration) = value else { return Ok(()) };
    if duration.seconds < 0 || duration.nanos < 0 {
        let mixed = (duration.seconds > 0 && duration.nanos < 0) || (duration.seconds < 0 && duration.nanos > 0);
        return Err(if mixed { "seconds and nanos have different signs" } else { "negative duration" });
    }
    if duration.seconds >= SECONDS_MAX {
        *duration = Duration { seconds: SECONDS_MAX, nanos: 0 };
    }
    if duration.nanos >= 1_000_000_000 {
        duration.seconds += i64::from(duration.nanos / 1_000_000_000);
        duration.nanos %= 1_000_000_000;
    }
    Ok(())
}

/// Whether a duration is there and not zero.
pub(crate) fn is_set(value: Option<&Duration>) -> bool {
    value.is_some_and(|d| d.seconds != 0 || d.nanos != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_is_refused_and_huge_is_cut() {
        assert_eq!(normalise(&mut Some(Duration { seconds: -1, nanos: 0 })), Err("negative duration"));
        assert_eq!(normalise(&mut None), Ok(()));
        let mut huge = Some(Duration { seconds: i64::MAX, nanos: 5 });
        assert_eq!(normalise(&mut huge), Ok(()));
        assert_eq!(huge, Some(Duration { seconds: SECONDS_MAX, nanos: 0 }));
    }
}
