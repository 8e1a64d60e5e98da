//! Fields of a calendar as people write them (`9-17/4`, `mon-wed,FRI`, `*`), read into ranges.
//!
//! A range may end at Sunday as 7; here it becomes 0, since ranges that are shown count weekdays from 0 to 6.

use mainstay_api::temporal::schedule::v1::{CalendarSpec, Range, StructuredCalendarSpec};

/// Years that a calendar may name.
pub(crate) const YEARS: (i32, i32) = (2000, 2100);

/// How the values of a field may be written, besides as numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    None,
    Years,
    Months,
    Weekdays,
}

/// A field: its name in error texts, what it is when nothing is written, its bounds, and names of values.
struct Field {
    name: &'static str,
    default: &'static str,
    low: i32,
    high: i32,
    names: Names,
}

const fn field(name: &'static str, default: &'static str, (low, high): (i32, i32), names: Names) -> Field {
    Field { name, default, low, high, names }
}

const SECOND: Field = field("Second", "0", (0, 59), Names::None);
const MINUTE: Field = field("Minute", "0", (0, 59), Names::None);
const HOUR: Field = field("Hour", "0", (0, 23), Names::None);
const DAY_OF_MONTH: Field = field("DayOfMonth", "*", (1, 31), Names::None);
const MONTH: Field = field("Month", "*", (1, 12), Names::Months);
const YEAR: Field = field("Year", "*", YEARS, Names::Years);
const DAY_OF_WEEK: Field = field("DayOfWeek", "*", (0, 7), Names::Weekdays);

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// Names may be cut to this many letters.
const NAME_LENGTH_MIN: usize = 3;
const SUNDAY_AS_SEVEN: i32 = 7;

/// Reads a calendar.
///
/// # Errors
/// What is wrong with each bad field, in Temporal's words.
pub(crate) fn parse(calendar: &CalendarSpec) -> Result<StructuredCalendarSpec, String> {
    let mut wrong = Vec::new();
    let mut ranges = |field: &Field, text: &str| {
        parse_field(field, text).unwrap_or_else(|why| {
            wrong.push(why);
            Vec::new()
        })
    };
    let structured = StructuredCalendarSpec {
        second: ranges(&SECOND, &calendar.second),
        minute: ranges(&MINUTE, &calendar.minute),
        hour: ranges(&HOUR, &calendar.hour),
        day_of_month: ranges(&DAY_OF_MONTH, &calendar.day_of_month),
        month: ranges(&MONTH, &calendar.month),
        year: ranges(&YEAR, &calendar.year),
        day_of_week: ranges(&DAY_OF_WEEK, &calendar.day_of_week),
        comment: calendar.comment.clone(),
    };
    if wrong.is_empty() { Ok(structured) } else { Err(wrong.join(", ")) }
}

fn parse_field(field: &Field, text: &str) -> Result<Vec<Range>, String> {
    let text = match text.trim() {
        "" => field.default,
        text => text,
    };
    // Every year is shown as no range at all.
    if text == "*" && field.names == Names::Years {
        return Ok(Vec::new());
    }
    let mut ranges = Vec::new();
    for part in text.split(',') {
        push_part(&mut ranges, field, part)?;
    }
    Ok(ranges)
}

fn push_part(ranges: &mut Vec<Range>, field: &Field, part: &str) -> Result<(), String> {
    let (span, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("{} has too many slashes", field.name)),
        Some((span, step)) => {
            let unreadable = || format!("strconv.Atoi: parsing \"{step}\": invalid syntax");
            (span, Some(step.parse::<i32>().map_err(|_| unreadable())?))
        }
        None => (part, None),
    };
    if step.is_some_and(|step| step < 1) {
        return Err(format!("{} has invalid Step", field.name));
    }
    let (start, end) = bounds(field, span, step.is_some())?;
    let step = step.unwrap_or(1);
    if field.names == Names::Weekdays && end == SUNDAY_AS_SEVEN {
        push_through_sunday(ranges, start, step);
    } else {
        ranges.push(Range { start, end, step });
    }
    Ok(())
}

fn bounds(field: &Field, span: &str, has_step: bool) -> Result<(i32, i32), String> {
    let Field { name, low, high, .. } = field;
    if span == "*" {
        return Ok((*low, *high));
    }
    let Some((first, last)) = span.split_once('-') else {
        let start = value(field, span, *low).ok_or_else(|| format!("{name} is not in range [{low}-{high}]"))?;
        // A step alone goes on to the end of the field.
        return Ok((start, if has_step { *high } else { start }));
    };
    if last.contains('-') {
        return Err(format!("{name} has too many dashes"));
    }
    let start = value(field, first, *low).ok_or_else(|| format!("{name} Start is not in range [{low}-{high}]"))?;
    let end = value(field, last, start)
        .ok_or_else(|| format!("{name} End is before Start or not in range [{low}-{high}]"))?;
    Ok((start, end))
}

/// Adds a range that ends at 7: Sunday is 0, so it may need a range of its own.
fn push_through_sunday(ranges: &mut Vec<Range>, mut start: i32, step: i32) {
    if step == 1 && start <= 1 {
        start = 0;
    } else if (SUNDAY_AS_SEVEN - start) % step == 0 && start > 0 {
        ranges.push(Range { start: 0, end: 0, step: 1 });
    }
    if start < SUNDAY_AS_SEVEN {
        ranges.push(Range { start, end: SUNDAY_AS_SEVEN - 1, step });
    }
}

fn value(field: &Field, text: &str, low: i32) -> Option<i32> {
    let names: &[&str] = match field.names {
        Names::Months => &MONTHS,
        Names::Weekdays => &WEEKDAYS,
        Names::None | Names::Years => &[],
    };
    let lower = text.to_ascii_lowercase();
    let named = (text.len() >= NAME_LENGTH_MIN)
        .then(|| names.iter().position(|name| name.starts_with(&lower)))
        .flatten()
        .map(|at| at as i32 + i32::from(field.names == Names::Months));
    let number = named.or_else(|| text.parse().ok())?;
    (low..=field.high).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weekdays(text: &str) -> Vec<(i32, i32, i32)> {
        let calendar = CalendarSpec { day_of_week: text.into(), ..CalendarSpec::default() };
        let parsed = parse(&calendar).expect("parses");
        parsed.day_of_week.iter().map(|range| (range.start, range.end, range.step)).collect()
    }

    #[test]
    fn sunday_may_be_seven() {
        assert_eq!(weekdays("7"), [(0, 0, 1)]);
        assert_eq!(weekdays("sunday"), [(0, 0, 1)]);
        assert_eq!(weekdays("*"), [(0, 6, 1)]);
        assert_eq!(weekdays("1-7"), [(0, 6, 1)]);
        assert_eq!(weekdays("3-7"), [(0, 0, 1), (3, 6, 1)]);
        assert_eq!(weekdays("1-7/2"), [(0, 0, 1), (1, 6, 2)]);
        assert_eq!(weekdays("3-7/3"), [(3, 6, 3)]);
    }

    #[test]
    fn every_bad_field_is_named() {
        let calendar = CalendarSpec { hour: "25".into(), month: "foo".into(), ..CalendarSpec::default() };
        assert_eq!(
            parse(&calendar).expect_err("is refused"),
            "Hour is not in range [0-23], Month is not in range [1-12]"
        );
    }
}
