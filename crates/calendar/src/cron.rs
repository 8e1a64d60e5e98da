//! Workflow cron: five fields, or `@hourly` and its like, or `@every <duration>`, after an optional `CRON_TZ=Zone`.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// How far ahead the next time is looked for.
const SEARCH_DAYS_MAX: i32 = 5 * 366;
const SECONDS_PER_DAY: i64 = 86_400;

/// A cron expression that cannot be read, and which part of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid CronSchedule. {0}")]
pub struct CronError(String);

/// A parsed cron expression.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    zone: TimeZone,
    rule: Rule,
}

#[derive(Clone, Debug)]
enum Rule {
    /// Every so many seconds after the previous time.
    Every(i64),
    Fields(Fields),
}

/// Bit sets of the values that match.
#[derive(Clone, Copy, Debug)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

/// One field's bounds and names.
struct Field {
    name: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: &MONTHS },
    Field { name: "day of week", low: 0, high: 7, names: &WEEKDAYS },
];

impl CronSchedule {
    /// Reads an expression.
    ///
    /// # Errors
    /// Names the field and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let text = text.trim();
        let (zone, rest) = match text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ=")) {
            Some(tail) => {
                let (name, rest) = tail.split_once(' ').ok_or_else(|| CronError("nothing follows the zone".into()))?;
                let zone = TimeZone::get(name).map_err(|_| CronError(format!("unknown time zone {name}")))?;
                (zone, rest.trim())
            }
            None => (TimeZone::UTC, text),
        };
        Ok(Self { zone, rule: parse_rule(rest)? })
    }

    /// The first matching time after this one, both in seconds since the epoch. None if there is none within five years.
    /// Local times that daylight saving skips do not exist and do not match.
    pub fn next_after(&self, unix_seconds: i64) -> Option<i64> {
        match &self.rule {
            Rule::Every(seconds) => unix_seconds.checked_add(*seconds),
            Rule::Fields(fields) => self.search(fields, unix_seconds),
        }
    }

    fn search(&self, fields: &Fields, after: i64) -> Option<i64> {
        let start = Timestamp::from_second(after).ok()?;
        let mut date = self.zone.to_datetime(start).date();
        for _ in 0..SEARCH_DAYS_MAX {
            if fields.matches_date(date)
                && let Some(found) = self.search_day(fields, date, after)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn search_day(&self, fields: &Fields, date: Date, after: i64) -> Option<i64> {
        let mut best: Option<i64> = None;
        for hour in (0..24i8).filter(|h| fields.hours >> h & 1 == 1) {
            for minute in (0..60i8).filter(|m| fields.minutes >> m & 1 == 1) {
                let ambiguous = self.zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
                if matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. }) {
                    continue;
                }
                let second = ambiguous.compatible().ok()?.as_second();
                if second > after && best.is_none_or(|b| second < b) {
                    best = Some(second);
                }
            }
            if best.is_some_and(|b| b - after < SECONDS_PER_DAY / 24) {
                break;
            }
        }
        best
    }
}

impl Fields {
    /// If both day fields are restricted, either may match; otherwise both must.
    fn matches_date(&self, date: Date) -> bool {
        if self.months >> date.month() & 1 == 0 {
            return false;
        }
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().to_sunday_zero_offset() & 1 == 1;
        if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }
}

/// The fields that a nickname like `@daily` stands for; any other text as it is.
pub(crate) fn without_nickname(text: &str) -> &str {
    match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        other => other,
    }
}

fn parse_rule(text: &str) -> Result<Rule, CronError> {
    if let Some(span) = text.strip_prefix("@every ") {
        let seconds = parse_span(span.trim()).ok_or_else(|| CronError(format!("bad duration {span}")))?;
        return Ok(Rule::Every(seconds.max(1)));
    }
    let parts: Vec<&str> = without_nickname(text).split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = parts.as_slice() else {
        return Err(CronError(format!("expected 5 fields, found {}", parts.len())));
    };
    let weekday_bits = parse_field(&FIELDS[4], weekdays)?;
    Ok(Rule::Fields(Fields {
        minutes: parse_field(&FIELDS[0], minutes)?,
        hours: parse_field(&FIELDS[1], hours)?,
        days: parse_field(&FIELDS[2], days)?,
        months: parse_field(&FIELDS[3], months)?,
        // Sunday is 0 and 7.
        weekdays: weekday_bits | (weekday_bits >> 7 & 1),
        any_day: is_any(days),
        any_weekday: is_any(weekdays),
    }))
}

fn is_any(text: &str) -> bool {
    text.starts_with('*') || text.starts_with('?')
}

fn parse_field(field: &Field, text: &str) -> Result<u64, CronError> {
    let mut bits = 0;
    for part in text.split(',') {
        bits |= parse_part(field, part)?;
    }
    Ok(bits)
}

fn parse_part(field: &Field, part: &str) -> Result<u64, CronError> {
    let bad = || CronError(format!("bad {}: {part}", field.name));
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, step.parse::<u8>().ok().filter(|s| *s > 0).ok_or_else(bad)?),
        None => (part, 1),
    };
    let top = if field.names.len() == 7 { 6 } else { field.high };
    let (low, high) = if range == "*" || range == "?" {
        (field.low, top)
    } else if let Some((low, high)) = range.split_once('-') {
        (parse_value(field, low).ok_or_else(bad)?, parse_value(field, high).ok_or_else(bad)?)
    } else {
        let value = parse_value(field, range).ok_or_else(bad)?;
        (value, if part.contains('/') { top } else { value })
    };
    if low < field.low || high > field.high || low > high {
        return Err(bad());
    }
    Ok((low..=high).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value))
}

fn parse_value(field: &Field, text: &str) -> Option<u8> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let lower = text.to_ascii_lowercase();
    let at = field.names.iter().position(|name| *name == lower)?;
    Some(at as u8 + if field.names.len() == 12 { 1 } else { 0 })
}

/// A duration like `1h30m`, in whole seconds.
fn parse_span(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0f64, String::new());
    let mut chars = text.chars().peekable();
    if text.is_empty() {
        return None;
    }
    while let Some(ch) = chars.next() {
        if ch.is_ascii_digit() || ch == '.' {
            number.push(ch);
            continue;
        }
        let unit = match ch {
            'h' => 3600.0,
            'm' if chars.peek() == Some(&'s') => {
                chars.next();
                0.001
            }
            'm' => 60.0,
            's' => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        number.clear();
    }
    if number.is_empty() { Some(total as i64) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, from: &str) -> String {
        let after: Timestamp = from.parse().expect("a time");
        let schedule = CronSchedule::parse(expression).expect("parses");
        let found = schedule.next_after(after.as_second()).expect("has a next time");
        Timestamp::from_second(found).expect("in range").to_string()
    }

    #[test]
    fn fields() {
        assert_eq!(next("*/15 * * * *", "2026-01-01T00:01:00Z"), "2026-01-01T00:15:00Z");
        assert_eq!(next("0 0 1 1 *", "2026-01-01T00:00:00Z"), "2027-01-01T00:00:00Z");
        assert_eq!(next("30 8 * * MON-FRI", "2026-11-27T09:00:00Z"), "2026-11-30T08:30:00Z");
        assert_eq!(next("0 0 29 2 *", "2026-01-01T00:00:00Z"), "2028-02-29T00:00:00Z");
        assert_eq!(next("0 12 * * 7", "2026-11-25T00:00:00Z"), "2026-11-29T12:00:00Z");
    }

    #[test]
    fn either_day_field_matches_when_both_are_restricted() {
        assert_eq!(next("0 0 13 * FRI", "2026-11-01T00:00:00Z"), "2026-11-06T00:00:00Z");
    }

    #[test]
    fn descriptors_and_spans() {
        assert_eq!(next("@hourly", "2026-01-01T00:01:00Z"), "2026-01-01T01:00:00Z");
        assert_eq!(next("@every 1h30m", "2026-01-01T00:00:00Z"), "2026-01-01T01:30:00Z");
    }

    #[test]
    fn zones_and_daylight_saving() {
        assert_eq!(next("CRON_TZ=Europe/Berlin 0 9 * * *", "2026-01-01T00:00:00Z"), "2026-01-01T08:00:00Z");
        // 02:30 does not exist on the day the clocks go forward.
        assert_eq!(next("CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-29T00:00:00Z"), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn bad_expressions_name_the_field() {
        for (text, field) in
            [("61 * * * *", "minute"), ("* * * 13 *", "month"), ("* * * * x", "day of week"), ("x", "5 fields")]
        {
            let error = CronSchedule::parse(text).expect_err("is bad").to_string();
            assert!(error.starts_with("invalid CronSchedule.") && error.contains(field), "{error}");
        }
        assert!(CronSchedule::parse("CRON_TZ=Nowhere/X * * * * *").is_err());
    }
}
