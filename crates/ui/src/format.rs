//! Times, spans, sizes and names as people read them.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use maud::{Markup, html};

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Nanoseconds since 1970.
pub fn nanos(time: &prost_types::Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanos))
}

/// The time of this machine, which is the server's.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// RFC 3339 with milliseconds, in UTC.
pub fn rfc3339(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    format!("{time:.3}")
}

/// A time as the page's script finds it: relative at first, exact on demand.
pub fn time(nanos: Option<i64>) -> Markup {
    let Some(nanos) = nanos.filter(|nanos| *nanos != 0) else { return html! { span.muted { "–" } } };
    html! { time datetime=(rfc3339(nanos)) { (ago(nanos, now())) } }
}

pub fn time_of(time: Option<&prost_types::Timestamp>) -> Markup {
    self::time(time.map(nanos))
}

/// `3m ago`, `in 2h`.
pub fn ago(nanos: i64, now: i64) -> String {
    let distance = now.saturating_sub(nanos);
    let seconds = distance.unsigned_abs() / 1_000_000_000;
    if seconds == 0 {
        return "now".into();
    }
    let words = coarse(i64::try_from(seconds).unwrap_or(i64::MAX));
    if distance < 0 { format!("in {words}") } else { format!("{words} ago") }
}

fn coarse(seconds: i64) -> String {
    match seconds {
        ..MINUTE => format!("{seconds}s"),
        MINUTE..HOUR => format!("{}m", seconds / MINUTE),
        HOUR..DAY => format!("{}h", seconds / HOUR),
        _ => format!("{}d", seconds / DAY),
    }
}

/// A span in its two largest units; below a minute with a fraction.
pub fn span(nanos: i64) -> String {
    let nanos = nanos.max(0);
    let seconds = nanos / 1_000_000_000;
    match seconds {
        0 if nanos < 1_000_000 => format!("{} µs", nanos / 1_000),
        0 => format!("{} ms", nanos / 1_000_000),
        1..10 => format!("{:.2} s", nanos as f64 / 1e9),
        10..MINUTE => format!("{:.1} s", nanos as f64 / 1e9),
        MINUTE..HOUR => format!("{}m {:02}s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{}h {:02}m", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{}d {:02}h", seconds / DAY, seconds % DAY / HOUR),
    }
}

pub fn span_of(duration: Option<&prost_types::Duration>) -> Option<String> {
    let duration = duration.filter(|duration| duration.seconds != 0 || duration.nanos != 0)?;
    Some(span(duration.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(duration.nanos))))
}

/// `12,345`.
pub fn count(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

pub fn bytes(number: i64) -> String {
    match number {
        ..1024 => format!("{number} B"),
        1024..1_048_576 => format!("{:.1} KiB", number as f64 / 1024.0),
        _ => format!("{:.1} MiB", number as f64 / 1_048_576.0),
    }
}

/// `WORKFLOW_EXECUTION_STATUS_TIMED_OUT` without its prefix as `Timed out`.
pub fn enum_words(name: &str, prefix: &str) -> String {
    let lower = name.trim_start_matches(prefix).replace('_', " ").to_ascii_lowercase();
    let mut letters = lower.chars();
    letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

/// `workflowTaskCompletedEventId` or `WorkflowTaskCompleted` as `Workflow task completed event id`.
pub fn words(name: &str) -> String {
    let mut text = String::new();
    for (at, letter) in name.chars().enumerate() {
        match letter {
            '_' => text.push(' '),
            _ if at == 0 => text.extend(letter.to_uppercase()),
            _ if letter.is_ascii_uppercase() => text.extend([' ', letter.to_ascii_lowercase()]),
            _ => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn spans_have_two_units() {
        let spans = [(0, "0 µs"), (1_500_000, "1 ms"), (SECOND * 3 / 2, "1.50 s"), (12 * SECOND, "12.0 s")];
        let longer = [(61 * SECOND, "1m 01s"), (3_661 * SECOND, "1h 01m"), (90_000 * SECOND, "1d 01h")];
        for (nanos, words) in spans.into_iter().chain(longer) {
            assert_eq!(span(nanos), words);
        }
    }

    #[test]
    fn distances_have_one() {
        assert_eq!(ago(0, 5 * SECOND), "5s ago");
        assert_eq!(ago(7_200 * SECOND, 0), "in 2h");
        assert_eq!(ago(1, 2), "now");
    }

    #[test]
    fn numbers_have_groups() {
        assert_eq!(count(0), "0");
        assert_eq!(count(-1_234_567), "-1,234,567");
        assert_eq!(count(999), "999");
    }

    #[test]
    fn names_become_words() {
        assert_eq!(enum_words("A_B_TIMED_OUT", "A_B_"), "Timed out");
        assert_eq!(words("ActivityTaskScheduled"), "Activity task scheduled");
        assert_eq!(words("startedEventId"), "Started event id");
        assert_eq!(rfc3339(1_500_000_000), "1970-01-01T00:00:01.500Z");
    }
}
