//! Specs in one form: calendars and cron strings become structured calendars and intervals, and everything is checked.
//!
//! What is stored is the canonical form; what is shown has the defaults of its ranges filled in besides.

use mainstay_api::temporal::schedule::v1::{CalendarSpec, IntervalSpec, Range, ScheduleSpec, StructuredCalendarSpec};
use prost_types::Duration;

use crate::{cron, fields, span};

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const COMMENT_LENGTH_MAX: usize = 200;
const CONFLICTING_ZONES: &str = "conflicting timezone names";

/// A spec that cannot be read, and why, in Temporal's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid schedule spec: {0}")]
pub struct SpecError(pub(crate) String);

impl From<String> for SpecError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// What a cron string stands for.
struct Cron {
    calendar: Option<StructuredCalendarSpec>,
    interval: Option<IntervalSpec>,
    /// Empty if the string names no zone.
    zone: String,
}

/// The canonical form of a spec.
///
/// # Errors
/// The first thing that is wrong.
#[allow(deprecated)]
pub fn canonical(spec: &ScheduleSpec) -> Result<ScheduleSpec, SpecError> {
    let mut spec = spec.clone();
    for calendar in std::mem::take(&mut spec.calendar) {
        spec.structured_calendar.push(fields::parse(&calendar)?);
    }
    for calendar in std::mem::take(&mut spec.exclude_calendar) {
        spec.exclude_structured_calendar.push(fields::parse(&calendar)?);
    }
    let mut zone: Option<String> = None;
    for text in std::mem::take(&mut spec.cron_string) {
        let cron = parse_cron(&text)?;
        // All strings must agree, also on naming no zone.
        if zone.as_ref().is_some_and(|zone| *zone != cron.zone) {
            return Err(SpecError(CONFLICTING_ZONES.into()));
        }
        zone = Some(cron.zone);
        spec.structured_calendar.extend(cron.calendar);
        spec.interval.extend(cron.interval);
    }
    if let Some(zone) = zone.filter(|zone| !zone.is_empty()) {
        if !(spec.timezone_name.is_empty() || spec.timezone_name == zone) || !spec.timezone_data.is_empty() {
            return Err(SpecError(CONFLICTING_ZONES.into()));
        }
        spec.timezone_name = zone;
    }
    spec.structured_calendar.iter().chain(&spec.exclude_structured_calendar).try_for_each(check_calendar)?;
    spec.interval.iter().try_for_each(check_interval)?;
    Ok(spec)
}

/// Fills in the ends and steps that ranges leave out, as a spec is shown.
pub fn show_defaults(spec: &mut ScheduleSpec) {
    let calendars = spec.structured_calendar.iter_mut().chain(&mut spec.exclude_structured_calendar);
    for calendar in calendars {
        for ranges in ranges_mut(calendar) {
            for range in ranges {
                range.end = range.end.max(range.start);
                range.step = range.step.max(1);
            }
        }
    }
}

fn ranges_mut(calendar: &mut StructuredCalendarSpec) -> [&mut Vec<Range>; 7] {
    let c = calendar;
    [&mut c.second, &mut c.minute, &mut c.hour, &mut c.day_of_month, &mut c.month, &mut c.year, &mut c.day_of_week]
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    let mut rest = text.trim();
    let mut zone = String::new();
    if let Some(named) = rest.strip_prefix("CRON_TZ=").or_else(|| rest.strip_prefix("TZ=")) {
        let (name, fields) = named.split_once(' ').ok_or("CronString has time zone but no fields")?;
        zone = name.to_string();
        rest = fields;
    }
    let (rest, comment) = rest.split_once('#').unwrap_or((rest, ""));
    let rest = rest.trim();
    if rest.starts_with("@every") {
        return Ok(Cron { calendar: None, interval: Some(parse_every(rest)?), zone });
    }
    let parts: Vec<&str> = cron::without_nickname(rest).split_whitespace().collect();
    let (second, year, five) = match parts.as_slice() {
        five if five.len() == 5 => ("", "", five),
        [five @ .., year] if five.len() == 5 => ("", *year, five),
        [second, five @ .., year] if five.len() == 5 => (*second, *year, five),
        _ => return Err("CronString does not have 5-7 fields".into()),
    };
    let at = |index: usize| five.get(index).copied().unwrap_or_default().to_string();
    let calendar = CalendarSpec {
        second: second.into(),
        minute: at(0),
        hour: at(1),
        day_of_month: at(2),
        month: at(3),
        day_of_week: at(4),
        year: year.into(),
        comment: comment.trim().into(),
    };
    Ok(Cron { calendar: Some(fields::parse(&calendar)?), interval: None, zone })
}

/// `@every SPAN`, or `@every SPAN/PHASE`.
fn parse_every(text: &str) -> Result<IntervalSpec, String> {
    let (_, every) = text.split_once(' ').ok_or("CronString does not have interval after @every")?;
    let (interval, phase) = match every.split_once('/') {
        Some((interval, phase)) => (interval, Some(phase)),
        None => (every, None),
    };
    let read = |text: &str| span::parse(text.trim()).map(proto_duration);
    Ok(IntervalSpec { interval: Some(read(interval)?), phase: phase.map(read).transpose()? })
}

fn check_calendar(calendar: &StructuredCalendarSpec) -> Result<(), SpecError> {
    let mut wrong: Vec<String> = Vec::new();
    let mut check = |name: &str, ranges: &[Range], (low, high): (i32, i32)| {
        for range in ranges {
            if !(low..=high).contains(&range.start) {
                wrong.push(format!("{name} Start is not in range [{low}-{high}]"));
            }
            if range.end != 0 && (range.end < range.start || range.end > high) {
                wrong.push(format!("{name} End is before Start or not in range [{low}-{high}]"));
            }
            if range.step < 0 {
                wrong.push(format!("{name} has invalid Step"));
            }
        }
    };
    check("Second", &calendar.second, (0, 59));
    check("Minute", &calendar.minute, (0, 59));
    check("Hour", &calendar.hour, (0, 23));
    check("DayOfMonth", &calendar.day_of_month, (1, 31));
    check("Month", &calendar.month, (1, 12));
    check("Year", &calendar.year, fields::YEARS);
    check("DayOfWeek", &calendar.day_of_week, (0, 6));
    if calendar.comment.len() > COMMENT_LENGTH_MAX {
        wrong.push("comment is too long".into());
    }
    if wrong.is_empty() { Ok(()) } else { Err(SpecError(format!("invalid calendar spec: {}", wrong.join(", ")))) }
}

fn check_interval(interval: &IntervalSpec) -> Result<(), SpecError> {
    let (length, phase) = (nanos(interval.interval.as_ref()), nanos(interval.phase.as_ref()));
    let wrong = if length < NANOS_PER_SECOND {
        "interval is too small"
    } else if phase < 0 {
        "phase is negative"
    } else if phase >= length {
        "phase cannot be greater than Interval"
    } else {
        return Ok(());
    };
    Err(SpecError(wrong.into()))
}

/// A duration in nanoseconds; none is zero.
pub(crate) fn nanos(duration: Option<&Duration>) -> i64 {
    duration.map_or(0, |d| d.seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(i64::from(d.nanos)))
}

fn proto_duration(nanos: i64) -> Duration {
    Duration { seconds: nanos / NANOS_PER_SECOND, nanos: (nanos % NANOS_PER_SECOND) as i32 }
}
