//! A compiled spec: when a schedule acts. The union of its calendars and intervals, minus what is excluded, within start and
//! end, each time moved later by its jitter.

use jiff::tz::TimeZone;
use mainstay_api::temporal::schedule::v1::{IntervalSpec, ScheduleSpec};
use mainstay_base::{Prng, Timestamp};

use crate::canonical::{SpecError, canonical, nanos};
use crate::civil::Calendar;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const NANOS_PER_MILLI: i64 = 1_000_000;
/// Excluded stretches that are skipped in the search of one time; beyond, there is none.
const SKIPS_MAX: usize = 20_000;
/// 2101-01-01: schedules end with the year 2100.
const END_OF_TIME_SECONDS: i64 = 4_133_980_800;

/// One time of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// As the spec says, in whole seconds. Ids are made from it.
    pub nominal: Timestamp,
    /// With jitter.
    pub actual: Timestamp,
}

/// A spec that can be asked for times.
#[derive(Clone, Debug)]
pub struct Spec {
    zone: TimeZone,
    calendars: Vec<Calendar>,
    excluded: Vec<Calendar>,
    /// Length and phase in seconds.
    intervals: Vec<(i64, i64)>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    jitter_ns: i64,
}

impl Spec {
    /// Compiles a spec.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn compile(spec: &ScheduleSpec) -> Result<Self, SpecError> {
        let spec = canonical(spec)?;
        let time = |at: prost_types::Timestamp| Timestamp::from_parts(at.seconds, at.nanos);
        Ok(Self {
            zone: zone(&spec)?,
            calendars: spec.structured_calendar.iter().map(Calendar::new).collect(),
            excluded: spec.exclude_structured_calendar.iter().map(Calendar::new).collect(),
            intervals: spec.interval.iter().map(in_seconds).collect(),
            start: spec.start_time.map(time),
            end: spec.end_time.map(time),
            jitter_ns: nanos(spec.jitter.as_ref()),
        })
    }

    /// The first time whose nominal second is after this one. `seed` tells the jitter of one schedule from another's.
    pub fn next_after(&self, after: Timestamp, seed: u64) -> Option<Occurrence> {
        let mut second = after.to_parts().0;
        if let Some(start) = self.start.filter(|start| after < *start) {
            // The second of the start itself belongs to the range.
            let (seconds, nanos) = start.to_parts();
            second = seconds - i64::from(nanos == 0);
        }
        for _ in 0..SKIPS_MAX {
            let nominal = self.next_raw(second)?;
            let at = Timestamp::from_parts(nominal, 0);
            if self.end.is_some_and(|end| at > end) || nominal >= END_OF_TIME_SECONDS {
                return None;
            }
            let covered = self.excluded.iter().map(|calendar| calendar.covers(&self.zone, nominal)).max();
            match covered {
                Some(span) if span > 0 => second = nominal + span - 1,
                _ => return Some(Occurrence { nominal: at, actual: self.jittered(nominal, seed) }),
            }
        }
        None
    }

    /// The first second after this one that a calendar or an interval names.
    fn next_raw(&self, after: i64) -> Option<i64> {
        let by_calendar = self.calendars.iter().filter_map(|calendar| calendar.next(&self.zone, after));
        let by_interval = self.intervals.iter().filter_map(|(length, phase)| {
            let periods = (after - phase).div_euclid(*length).checked_add(1)?;
            periods.checked_mul(*length)?.checked_add(*phase)
        });
        by_calendar.chain(by_interval).min()
    }

    /// A nominal time with its jitter, which never reaches beyond the next nominal time. Frozen: replicas must agree on it.
    fn jittered(&self, nominal: i64, seed: u64) -> Timestamp {
        let mut bound_ns = self.jitter_ns;
        if bound_ns >= NANOS_PER_MILLI
            && let Some(following) = self.next_raw(nominal)
        {
            bound_ns = bound_ns.min((following - nominal).saturating_mul(NANOS_PER_SECOND));
        }
        let millis = u64::try_from(bound_ns / NANOS_PER_MILLI).unwrap_or(0);
        let mut prng = Prng::new((u128::from(seed) << 64) | u128::from(nominal.unsigned_abs()));
        let jitter_ns = prng.below(millis) as i64 * NANOS_PER_MILLI;
        Timestamp::from_nanos(Timestamp::from_parts(nominal, 0).as_nanos().saturating_add(jitter_ns))
    }
}

fn in_seconds(interval: &IntervalSpec) -> (i64, i64) {
    let seconds = |duration: Option<&prost_types::Duration>| nanos(duration) / NANOS_PER_SECOND;
    (seconds(interval.interval.as_ref()).max(1), seconds(interval.phase.as_ref()).max(0))
}

fn zone(spec: &ScheduleSpec) -> Result<TimeZone, SpecError> {
    if !spec.timezone_data.is_empty() {
        let malformed = |_| SpecError("malformed time zone information".into());
        return TimeZone::tzif(&spec.timezone_name, &spec.timezone_data).map_err(malformed);
    }
    match spec.timezone_name.as_str() {
        "" | "UTC" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| SpecError(format!("unknown time zone {name}"))),
    }
}

/// A time as RFC 3339 writes it, in universal time and whole seconds: what ids of scheduled workflows end with.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.to_parts().0).map(|at| at.to_string()).unwrap_or_default()
}
