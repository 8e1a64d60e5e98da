//! Whether a search attribute's value has its type. Values stay as they were encoded.

use bytes::Bytes;
use mainstay_api::temporal::common::v1::Payload;
use mainstay_api::temporal::enums::v1::IndexedValueType as Type;
use serde_json::Value;

/// Checks a value; answers whether there is one. Null and an empty list are none, and fit every type.
///
/// # Errors
/// The value as error texts show it.
pub(crate) fn check(kind: Type, payload: &Payload) -> Result<bool, String> {
    if payload.metadata.get("encoding").map(Bytes::as_ref) == Some(b"binary/null") {
        return Ok(false);
    }
    let Ok(value) = serde_json::from_slice::<Value>(&payload.data) else {
        return Err("value from <payload that is not JSON>".into());
    };
    let scalar = match &value {
        Value::Null => return Ok(false),
        Value::Array(items) if items.is_empty() => return Ok(false),
        Value::Array(items) if items.len() == 1 && kind != Type::KeywordList => &items[0],
        other => other,
    };
    if fits(kind, scalar) { Ok(true) } else { Err(shown(&value)) }
}

fn fits(kind: Type, value: &Value) -> bool {
    match kind {
        Type::Text | Type::Keyword => value.is_string(),
        Type::KeywordList => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
        Type::Int => value.is_i64(),
        Type::Double => value.is_number(),
        Type::Bool => value.is_boolean(),
        Type::Datetime => value.as_str().is_some_and(is_time),
        Type::Unspecified => false,
    }
}

/// RFC 3339, as strictly as Go reads it.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| -> Option<u32> {
        let part = bytes.get(from..to)?;
        if part.iter().all(u8::is_ascii_digit) { std::str::from_utf8(part).ok()?.parse().ok() } else { None }
    };
    let mark = |at: usize, expected: u8| bytes.get(at) == Some(&expected);
    let day_and_time = || -> Option<bool> {
        let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
        let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
        let marks = mark(4, b'-') && mark(7, b'-') && mark(10, b'T') && mark(13, b':') && mark(16, b':');
        let date = (1..=12).contains(&month) && day >= 1 && day <= days_of(year, month);
        Some(marks && date && hour < 24 && minute < 60 && second < 60)
    };
    if day_and_time() != Some(true) {
        return false;
    }
    let mut at = 19;
    if mark(at, b'.') {
        let fraction = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    match bytes.get(at) {
        Some(b'Z') => at + 1 == bytes.len(),
        Some(b'+' | b'-') => {
            let (hours, minutes) = (digits(at + 1, at + 3), digits(at + 4, at + 6));
            mark(at + 3, b':')
                && at + 6 == bytes.len()
                && hours.is_some_and(|h| h < 24)
                && minutes.is_some_and(|m| m < 60)
        }
        _ => false,
    }
}

fn days_of(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A JSON value as Go prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string()),
        Value::Null => "<nil>".into(),
        Value::Bool(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Payload {
        Payload { data: json.as_bytes().to_vec().into(), ..Payload::default() }
    }

    #[test]
    fn values_have_their_type() {
        assert_eq!(check(Type::Int, &value("42")), Ok(true));
        assert_eq!(check(Type::Int, &value("4.0")), Err("4".into()));
        assert_eq!(check(Type::Keyword, &value(r#"["one"]"#)), Ok(true));
        assert_eq!(check(Type::Keyword, &value(r#"["a","b"]"#)), Err("[a b]".into()));
        assert_eq!(check(Type::KeywordList, &value("[1]")), Err("[1]".into()));
        assert_eq!(check(Type::Datetime, &value("\"yesterday\"")), Err("yesterday".into()));
        assert_eq!(check(Type::Bool, &value("null")), Ok(false));
    }

    #[test]
    fn times_are_rfc_3339() {
        for good in ["2024-01-02T03:04:05Z", "2011-03-04T07:06:07.5+02:00", "2024-02-29T00:00:00.123456789Z"] {
            assert!(is_time(good), "{good}");
        }
        for bad in [
            "2012-06-01",
            "2012-06-01T00:00:00",
            "2012-06-01T00:00:00z",
            "2023-02-29T00:00:00Z",
            "",
            "2024-01-02T03:04:05.Z",
        ] {
            assert!(!is_time(bad), "{bad}");
        }
    }
}
