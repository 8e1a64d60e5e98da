//! Values as a filter writes them: numbers, strings, times, durations, names of a status.

use jiff::civil::{Date, Time, date};
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;

/// A value that a row is compared with.
#[derive(Clone, PartialEq, Debug)]
pub enum Literal {
    Text(String),
    Int(i64),
    Double(f64),
    Bool(bool),
    /// Microseconds since the epoch: what visibility keeps of a time.
    Time(i64),
}

impl Literal {
    /// As error texts show it.
    pub fn show(&self) -> String {
        match self {
            Self::Text(text) => format!("'{}'", text.replace('\'', "''")),
            Self::Int(value) | Self::Time(value) => value.to_string(),
            Self::Double(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }
}

/// A number without quotes; `None` for what is no number.
pub fn number(text: &str) -> Option<Literal> {
    let int = text.parse().ok().map(Literal::Int);
    int.or_else(|| text.parse().ok().filter(|value: &f64| value.is_finite()).map(Literal::Double))
}

/// Nanoseconds to what visibility keeps of a time.
pub fn micros(nanos: i64) -> i64 {
    nanos.div_euclid(1_000)
}

/// A time in RFC 3339, exactly: capital letters, seconds and a zone are required. Gives microseconds since the epoch.
pub fn time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| -> Option<i64> {
        let part = bytes.get(from..to)?;
        part.iter().all(u8::is_ascii_digit).then(|| text.get(from..to)?.parse().ok())?
    };
    let is = |at: usize, byte: u8| (bytes.get(at) == Some(&byte)).then_some(());
    for (at, byte) in [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')] {
        is(at, byte)?;
    }
    let day = Date::new(digits(0, 4)? as i16, digits(5, 7)? as i8, digits(8, 10)? as i8).ok()?;
    let clock = Time::new(digits(11, 13)? as i8, digits(14, 16)? as i8, digits(17, 19)? as i8, 0).ok()?;
    let mut at = 19;
    let mut fraction = 0;
    if matches!(bytes.get(at), Some(b'.' | b',')) {
        let length = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        let kept = &text[at + 1..at + 1 + length.min(6)];
        fraction = format!("{kept:0<6}").parse().ok()?;
        at += 1 + length;
    }
    let offset = match bytes.get(at)? {
        b'Z' if bytes.len() == at + 1 => 0,
        sign @ (b'+' | b'-') if bytes.len() == at + 6 => {
            is(at + 3, b':')?;
            let (hours, minutes) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
            let seconds = (hours <= 24 && minutes < 60).then_some(hours * 3_600 + minutes * 60)?;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    let days = day.duration_since(date(1970, 1, 1)).as_secs();
    let seconds = i64::from(clock.hour()) * 3_600 + i64::from(clock.minute()) * 60 + i64::from(clock.second());
    Some((days + seconds - offset) * 1_000_000 + fraction)
}

/// A duration in nanoseconds: a number of them, `1h30m` with units from `ns` to `d`, or `hh:mm:ss`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<i64, &'static str> {
    if let Ok(nanos) = text.parse() {
        return Ok(nanos);
    }
    units(text).map_or_else(|| clock(text), Ok)
}

fn units(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let mut total = 0f64;
    let mut whole = 0i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (amount, tail) = rest.split_at(length);
        let unit_length = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_length);
        let scale: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return None,
        };
        // Whole amounts stay exact.
        match amount.parse::<i64>() {
            Ok(amount) => whole = whole.checked_add(amount.checked_mul(scale)?)?,
            Err(_) => total += amount.parse::<f64>().ok()? * scale as f64,
        }
        rest = tail;
    }
    let nanos = whole.checked_add(total as i64)?;
    Some(if negative { -nanos } else { nanos })
}

fn clock(text: &str) -> Result<i64, &'static str> {
    const INVALID: &str = "invalid duration";
    let mut parts = text.splitn(3, ':');
    let mut next = |is_last: bool| -> Option<i64> {
        let part = parts.next()?.trim_start_matches(' ');
        let sign = usize::from(part.starts_with(['-', '+']));
        let end = part[sign..].find(|c: char| !c.is_ascii_digit()).map_or(part.len(), |at| at + sign);
        // What follows the seconds is ignored.
        if end < part.len() && !is_last { None } else { part[..end].parse().ok() }
    };
    let (hours, minutes, seconds) =
        (next(false).ok_or(INVALID)?, next(false).ok_or(INVALID)?, next(true).ok_or(INVALID)?);
    if hours < 0 {
        return Err("invalid duration: hours must be positive number");
    }
    if !(0..60).contains(&minutes) {
        return Err("invalid duration: minutes must be from 0 to 59");
    }
    if !(0..60).contains(&seconds) {
        return Err("invalid duration: seconds must be from 0 to 59");
    }
    let total = hours.saturating_mul(3_600).saturating_add(minutes * 60 + seconds);
    Ok(total.saturating_mul(1_000_000_000))
}

/// The short name of a status: `TimedOut`.
pub fn status_name(status: Status) -> String {
    let long = status.as_str_name();
    let words = long.strip_prefix("WORKFLOW_EXECUTION_STATUS_").unwrap_or(long).split('_');
    words.map(|word| word[..1].to_string() + &word[1..].to_lowercase()).collect()
}

/// A status by its short or its long name.
pub fn status(text: &str) -> Option<Status> {
    let short = || (0..=16).filter_map(|n| Status::try_from(n).ok()).find(|status| status_name(*status) == text);
    Status::from_str_name(text).or_else(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_nothing_else() {
        assert_eq!(time("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(time("2011-03-04T07:06:07.5+02:00"), Some(1_299_215_167_500_000));
        assert_eq!(time("2013-03-04T05:06:07.123456789Z"), Some(1_362_373_567_123_456));
        assert_eq!(time("1969-12-31T23:59:59.999999-00:30"), Some(1_800_000_000 - 1));
        assert_eq!(time("9999-12-31T23:59:59Z"), Some(253_402_300_799_000_000));
        for wrong in [
            "2012-06-01",
            "2012-06-01T00:00:00",
            "2012-06-01 00:00:00Z",
            "2012-06-01T00:00Z",
            "2012-06-01T00:00:00z",
            "2012-02-30T00:00:00Z",
            "2012-06-01T24:00:00Z",
            "2012-06-01T00:00:00.Z",
            "2012-06-01T00:00:00Zx",
            "2012-06-01T00:00:00+0200",
            "2012-06-01T00:00:00+02:é",
            "+012-06-01T00:00:00Z",
            "yesterday",
            "",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_in_three_forms() {
        const HOUR: i64 = 3_600_000_000_000;
        let right = [
            ("1h", HOUR),
            ("1h30m", HOUR + HOUR / 2),
            ("-1.5h", -HOUR - HOUR / 2),
            ("1d", 24 * HOUR),
            ("400ms", 400_000_000),
            ("01:30:00", HOUR + HOUR / 2),
            ("24:00:00", 24 * HOUR),
            ("3600000000000", HOUR),
            ("-5", -5),
        ];
        for (text, nanos) in right {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        for wrong in ["1:00", "PT1H", "x", "", "-", "1h é", "é"] {
            assert_eq!(duration(wrong), Err("invalid duration"), "{wrong}");
        }
        assert_eq!(duration("00:99:00"), Err("invalid duration: minutes must be from 0 to 59"));
    }

    #[test]
    fn statuses_have_two_names() {
        assert_eq!(status("TimedOut"), Some(Status::TimedOut));
        assert_eq!(status("ContinuedAsNew"), Some(Status::ContinuedAsNew));
        assert_eq!(status("WORKFLOW_EXECUTION_STATUS_RUNNING"), Some(Status::Running));
        assert_eq!(status("running"), None);
        assert_eq!(status_name(Status::Unspecified), "Unspecified");
    }
}
