//! One structured calendar in one time zone: which local times it names, and the instants that they are.
//!
//! A local time that the clocks skip is no instant. One that comes twice is one instant: the second in zones east of
//! Greenwich, the first in zones west of it, as the reference server has it.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use mainstay_api::temporal::schedule::v1::{Range, StructuredCalendarSpec};

use crate::fields::YEARS;

/// Bit sets of the values that match; for years, bit 0 is the first of [`YEARS`].
#[derive(Clone, Debug)]
pub(crate) struct Calendar {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// None: every year.
    years: Option<u128>,
}

/// Hour, minute, second.
type Clock = (u32, u32, u32);

const ALL_SIXTY: u64 = (1 << 60) - 1;

impl Calendar {
    pub(crate) fn new(spec: &StructuredCalendarSpec) -> Self {
        let years = (!spec.year.is_empty()).then(|| {
            values(&spec.year)
                .filter(|year| (YEARS.0..=YEARS.1).contains(year))
                .fold(0, |bits, year| bits | 1 << (year - YEARS.0))
        });
        Self {
            seconds: bits(&spec.second),
            minutes: bits(&spec.minute),
            hours: bits(&spec.hour),
            days: bits(&spec.day_of_month),
            months: bits(&spec.month),
            weekdays: bits(&spec.day_of_week),
            years,
        }
    }

    /// The first instant after this one, both in seconds since the epoch.
    pub(crate) fn next(&self, zone: &TimeZone, after: i64) -> Option<i64> {
        let local = local(zone, after)?;
        // In the first of two passes through an hour, earlier local times may still come in the second.
        let behind = instant(zone, local).unwrap_or(after).saturating_sub(after).max(0);
        let mut from = local.checked_sub(jiff::SignedDuration::from_secs(behind)).ok()?;
        loop {
            let found = self.next_local(from)?;
            if let Some(second) = instant(zone, found).filter(|second| *second > after) {
                return Some(second);
            }
            from = found.checked_add(jiff::SignedDuration::from_secs(1)).ok()?;
        }
    }

    /// For how many seconds from this instant on, but not beyond its local hour, the calendar matches every second; 0 if it does not match.
    pub(crate) fn covers(&self, zone: &TimeZone, second: i64) -> i64 {
        let Some(at) = local(zone, second).filter(|at| self.matches(*at)) else { return 0 };
        if self.seconds != ALL_SIXTY {
            return 1;
        }
        let (minute, second_of) = (i64::from(at.minute()), i64::from(at.second()));
        let span = if self.minutes == ALL_SIXTY { 3_600 - minute * 60 - second_of } else { 60 - second_of };
        let offset = |second| Timestamp::from_second(second).map(|at| zone.to_offset(at)).ok();
        if offset(second) == offset(second + span) { span } else { 1 }
    }

    fn matches(&self, at: DateTime) -> bool {
        has(self.hours, at.hour() as u32)
            && has(self.minutes, at.minute() as u32)
            && has(self.seconds, at.second() as u32)
            && self.has_year(at.year())
            && has(self.months, at.month() as u32)
            && self.has_day(at.date())
    }

    fn has_year(&self, year: i16) -> bool {
        let Some(years) = self.years else { return true };
        u32::try_from(i32::from(year) - YEARS.0).is_ok_and(|at| at < u128::BITS && years >> at & 1 == 1)
    }

    fn has_day(&self, date: Date) -> bool {
        has(self.days, date.day() as u32) && has(self.weekdays, date.weekday().to_sunday_zero_offset() as u32)
    }

    /// The first matching local time that is not before this one.
    fn next_local(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut clock = (from.hour() as u32, from.minute() as u32, from.second() as u32);
        while i32::from(date.year()) <= YEARS.1 {
            let jump = if !self.has_year(date.year()) {
                Some(first_of_year(date)?)
            } else {
                match next_bit(self.months, date.month() as u32) {
                    None => Some(first_of_year(date)?),
                    Some(month) if month != date.month() as u32 => Date::new(date.year(), month as i8, 1).ok(),
                    Some(_) => None,
                }
            };
            if let Some(jump) = jump {
                (date, clock) = (jump, (0, 0, 0));
                continue;
            }
            if self.has_day(date)
                && let Some((hour, minute, second)) = self.next_clock(clock)
            {
                return Some(date.at(hour as i8, minute as i8, second as i8, 0));
            }
            (date, clock) = (date.tomorrow().ok()?, (0, 0, 0));
        }
        None
    }

    fn next_clock(&self, (hour, minute, second): Clock) -> Option<Clock> {
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = next_bit(self.seconds, second)
            {
                return Some((hour, minute, second));
            }
            if let (Some(minute), Some(second)) = (next_bit(self.minutes, minute + 1), next_bit(self.seconds, 0)) {
                return Some((hour, minute, second));
            }
        }
        Some((next_bit(self.hours, hour + 1)?, next_bit(self.minutes, 0)?, next_bit(self.seconds, 0)?))
    }
}

/// The local time of an instant.
fn local(zone: &TimeZone, second: i64) -> Option<DateTime> {
    Timestamp::from_second(second).ok().map(|at| zone.to_datetime(at))
}

/// The instant of a local time, in seconds since the epoch; none if the clocks skip it.
pub(crate) fn instant(zone: &TimeZone, at: DateTime) -> Option<i64> {
    let offset = |second: i64| {
        let at = Timestamp::from_second(second).ok()?;
        Some(i64::from(zone.to_offset(at).seconds()))
    };
    // Looks the offset up as if the local time were universal time, then where that leads.
    let naive = at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let guess = naive - offset(naive)?;
    let second = naive - offset(guess)?;
    (second + offset(second)? == naive).then_some(second)
}

fn first_of_year(date: Date) -> Option<Date> {
    Date::new(date.year().checked_add(1)?, 1, 1).ok()
}

fn values(ranges: &[Range]) -> impl Iterator<Item = i32> + '_ {
    ranges.iter().flat_map(|range| {
        let step = usize::try_from(range.step).unwrap_or(1).max(1);
        (range.start..=range.end.max(range.start)).step_by(step)
    })
}

fn bits(ranges: &[Range]) -> u64 {
    values(ranges).filter(|value| (0..64).contains(value)).fold(0, |bits, value| bits | 1 << value)
}

fn has(bits: u64, at: u32) -> bool {
    at < u64::BITS && bits >> at & 1 == 1
}

/// The lowest set bit from `at` on.
fn next_bit(bits: u64, at: u32) -> Option<u32> {
    let rest = bits.checked_shr(at)?;
    (rest != 0).then(|| at + rest.trailing_zeros())
}
