//! Times of schedule specs against an independent computation, and against times that a reference server gave.

use jiff::Timestamp as Instant;
use jiff::tz::{AmbiguousOffset, TimeZone};
use mainstay_api::temporal::schedule::v1::{CalendarSpec, IntervalSpec, Range, ScheduleSpec, StructuredCalendarSpec};
use mainstay_base::Timestamp;
use mainstay_calendar::{Spec, canonical};
use proptest::prelude::*;

const ZONES: [&str; 5] = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"];
const QUARTER: i64 = 900;
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn at(text: &str) -> Timestamp {
    let instant: Instant = text.parse().expect("a time");
    Timestamp::from_parts(instant.as_second(), 0)
}

fn seconds(spec: &Spec, from: i64, to: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let mut after = Timestamp::from_parts(from, 0);
    while let Some(next) = spec.next_after(after, 7).filter(|next| next.nominal.to_parts().0 <= to) {
        found.push(next.nominal.to_parts().0);
        after = next.nominal;
    }
    found
}

fn shown(spec: &ScheduleSpec, from: &str, to: &str) -> Vec<String> {
    let spec = Spec::compile(spec).expect("compiles");
    let times = seconds(&spec, at(from).to_parts().0, at(to).to_parts().0);
    times.into_iter().map(|second| Instant::from_second(second).expect("in range").to_string()).collect()
}

fn cron(texts: &[&str]) -> ScheduleSpec {
    ScheduleSpec { cron_string: texts.iter().map(ToString::to_string).collect(), ..ScheduleSpec::default() }
}

/// Whether a calendar with these values matches a second, from the zone's rules read the other way round.
fn naive(calendar: &StructuredCalendarSpec, zone: &TimeZone, second: i64) -> bool {
    let instant = Instant::from_second(second).expect("in range");
    let local = zone.to_datetime(instant);
    let chosen = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { .. } => true,
        // East of Greenwich the second pass counts, west of it the first.
        AmbiguousOffset::Fold { before, after } => {
            let counted = if before.seconds() > 0 { after } else { before };
            zone.to_offset(instant) == counted
        }
        AmbiguousOffset::Gap { .. } => panic!("a real instant is in no gap"),
    };
    let any = |ranges: &[Range], value: i32| {
        ranges.iter().any(|r| (r.start..=r.end).contains(&value) && (value - r.start) % r.step == 0)
    };
    chosen
        && any(&calendar.second, i32::from(local.second()))
        && any(&calendar.minute, i32::from(local.minute()))
        && any(&calendar.hour, i32::from(local.hour()))
        && any(&calendar.day_of_month, i32::from(local.day()))
        && any(&calendar.month, i32::from(local.month()))
        && any(&calendar.day_of_week, i32::from(local.weekday().to_sunday_zero_offset()))
        && (calendar.year.is_empty() || any(&calendar.year, i32::from(local.year())))
}

fn ranges(low: i32, high: i32) -> impl Strategy<Value = Vec<Range>> {
    let range = (low..=high, low..=high, 1..=7).prop_map(|(a, b, step)| Range { start: a.min(b), end: a.max(b), step });
    proptest::collection::vec(range, 1..3)
}

fn calendars() -> impl Strategy<Value = StructuredCalendarSpec> {
    let minute = prop_oneof![Just(vec![Range { start: 0, end: 0, step: 1 }]), ranges(0, 59)];
    (minute, ranges(0, 23), ranges(1, 31), ranges(1, 12), ranges(0, 6)).prop_map(|(minute, hour, days, month, week)| {
        StructuredCalendarSpec {
            second: vec![Range { start: 0, end: 0, step: 1 }],
            minute,
            hour,
            day_of_month: days,
            month,
            day_of_week: week,
            ..StructuredCalendarSpec::default()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn calendars_give_what_a_scan_of_every_minute_gives(
        calendar in calendars(), excluded in proptest::option::of(calendars()), zone in 0..ZONES.len(),
        // Days around both changes of the clocks of a year, and others.
        from in prop_oneof![Just(1_774_500_000i64), Just(1_793_000_000), Just(1_772_700_000), Just(1_775_000_000), 0..4_000_000_000i64],
    ) {
        let from = from - from % 60;
        let name = ZONES[zone];
        let zone = TimeZone::get(name).expect("is bundled");
        let spec = ScheduleSpec {
            structured_calendar: vec![calendar.clone()],
            exclude_structured_calendar: excluded.clone().into_iter().collect(),
            timezone_name: name.into(),
            ..ScheduleSpec::default()
        };
        let to = from + 9 * DAY;
        let matches = |second: i64| {
            // An exclusion counts by local time alone.
            let local = |calendar: &StructuredCalendarSpec| {
                let fixed = TimeZone::fixed(zone.to_offset(Instant::from_second(second).expect("in range")));
                naive(calendar, &fixed, second)
            };
            naive(&calendar, &zone, second) && !excluded.as_ref().is_some_and(local)
        };
        let expected: Vec<i64> = (from + 60..=to).step_by(60).filter(|second| matches(*second)).collect();
        prop_assert_eq!(seconds(&Spec::compile(&spec).expect("compiles"), from, to), expected);
    }

    #[test]
    fn intervals_are_aligned_to_the_epoch(length in 1..10_000i64, phase in 0..10_000i64, from in 0..4_000_000_000i64) {
        let phase = phase % length;
        let proto = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let interval = vec![IntervalSpec { interval: proto(length), phase: proto(phase) }];
        let spec = Spec::compile(&ScheduleSpec { interval, ..ScheduleSpec::default() }).expect("compiles");
        let next = spec.next_after(Timestamp::from_parts(from, 999), 0).expect("goes on").nominal.to_parts().0;
        prop_assert!(next > from && next <= from + length);
        prop_assert_eq!(next.rem_euclid(length), phase);
    }

    #[test]
    fn jitter_is_bounded_by_itself_and_by_the_next_time(jitter in 1..10_000i64, seed: u64) {
        let spec = ScheduleSpec {
            jitter: Some(prost_types::Duration { seconds: jitter, nanos: 0 }),
            ..cron(&["0 * * * *"])
        };
        let spec = Spec::compile(&spec).expect("compiles");
        let mut after = Timestamp::from_parts(1_000_000, 0);
        for _ in 0..20 {
            let next = spec.next_after(after, seed).expect("goes on");
            let late = (next.actual - next.nominal).as_nanos();
            prop_assert!(late >= 0 && late < jitter.min(HOUR) * 1_000_000_000);
            after = next.actual;
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9a-z*/,@# =-]{0,12}", field in "[0-9a-z*/,-]{0,8}") {
        let calendar = vec![CalendarSpec { day_of_week: field.clone(), month: field, ..CalendarSpec::default() }];
        let _ = canonical(&ScheduleSpec { calendar, ..cron(&[&text]) });
    }
}

#[test]
fn ten_years_in_five_zones() {
    let times = ["30 2 * * *", "0 9 * * 1-5", "15 1 29 2 *", "45 23 31 * *"];
    for name in ZONES {
        let zone = TimeZone::get(name).expect("is bundled");
        for text in times {
            let spec = ScheduleSpec { timezone_name: name.into(), ..cron(&[text]) };
            let calendar = canonical(&spec).expect("is good").structured_calendar.remove(0);
            let (from, to) = (1_735_689_600, 1_735_689_600 + 3_653 * DAY);
            let expected: Vec<i64> = (from + QUARTER..=to)
                .step_by(QUARTER as usize)
                .filter(|second| naive(&calendar, &zone, *second))
                .collect();
            assert!(!expected.is_empty());
            assert_eq!(seconds(&Spec::compile(&spec).expect("compiles"), from, to), expected, "{text} in {name}");
        }
    }
}

#[test]
fn around_a_change_of_the_clocks() {
    let calendar = vec![CalendarSpec { hour: "2".into(), minute: "30".into(), ..CalendarSpec::default() }];
    let berlin = ScheduleSpec { calendar, timezone_name: "Europe/Berlin".into(), ..ScheduleSpec::default() };
    let spring = shown(&berlin, "2011-03-26T00:00:00Z", "2011-03-29T00:00:00Z");
    assert_eq!(spring, ["2011-03-26T01:30:00Z", "2011-03-28T00:30:00Z"]);
    let autumn = shown(&berlin, "2011-10-29T12:00:00Z", "2011-10-31T12:00:00Z");
    assert_eq!(autumn, ["2011-10-30T01:30:00Z", "2011-10-31T01:30:00Z"]);
}

#[test]
fn day_fields_of_a_cron_string_must_both_match() {
    assert_eq!(
        shown(&cron(&["0 0 13 * FRI"]), "2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z"),
        ["2026-02-13T00:00:00Z", "2026-03-13T00:00:00Z", "2026-11-13T00:00:00Z"]
    );
}

#[test]
fn start_and_end_are_inclusive() {
    let bound = |text: &str| Some(prost_types::Timestamp { seconds: at(text).to_parts().0, nanos: 0 });
    let spec = ScheduleSpec {
        start_time: bound("2050-01-01T02:00:00Z"),
        end_time: bound("2050-01-01T04:00:00Z"),
        ..cron(&["@every 1h"])
    };
    assert_eq!(shown(&spec, "2050-01-01T00:00:00Z", "2050-01-02T00:00:00Z").len(), 3);
}

#[test]
fn what_never_comes_is_found_out() {
    for text in ["0 0 30 2 *", "0 0 1 1 * 2020"] {
        assert_eq!(Spec::compile(&cron(&[text])).expect("compiles").next_after(at("2026-01-01T00:00:00Z"), 0), None);
    }
    let all =
        vec![CalendarSpec { second: "*".into(), minute: "*".into(), hour: "*".into(), ..CalendarSpec::default() }];
    #[allow(deprecated)]
    let excluded = ScheduleSpec { exclude_calendar: all, ..cron(&["@every 1s"]) };
    assert_eq!(Spec::compile(&excluded).expect("compiles").next_after(at("2026-01-01T00:00:00Z"), 0), None);
}

#[test]
fn zones_must_be_known_and_agree() {
    let text = |spec: &ScheduleSpec| Spec::compile(spec).expect_err("is bad").to_string();
    let zone = ScheduleSpec { timezone_name: "No/Where".into(), ..ScheduleSpec::default() };
    assert_eq!(text(&zone), "Invalid schedule spec: unknown time zone No/Where");
    let data = ScheduleSpec { timezone_data: b"xx".to_vec().into(), ..ScheduleSpec::default() };
    assert_eq!(text(&data), "Invalid schedule spec: malformed time zone information");
    let two = cron(&["CRON_TZ=Europe/Berlin 0 9 * * *", "CRON_TZ=Asia/Tokyo 0 9 * * *"]);
    assert_eq!(text(&two), "Invalid schedule spec: conflicting timezone names");
}
