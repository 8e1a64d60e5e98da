//! Search attributes: which exist, which a client may set, and whether values have their type.
//!
//! Values stay as the client encoded them; only the type is added to their metadata, since SDKs decode by it.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes};
use mainstay_api::temporal::enums::v1::IndexedValueType as Type;
use prost::Message;
use serde_json::Value;

use crate::status::{Answer, invalid};

const KEYS_MAX: usize = 100;
const VALUE_SIZE_MAX: usize = 2 << 10;
const TOTAL_SIZE_MAX: usize = 40 << 10;

/// Attributes that only the server sets.
pub(crate) const SYSTEM: [(&str, Type); 22] = [
    ("CloseTime", Type::Datetime),
    ("ExecutionDuration", Type::Int),
    ("ExecutionStatus", Type::Keyword),
    ("ExecutionTime", Type::Datetime),
    ("HistoryLength", Type::Int),
    ("HistorySizeBytes", Type::Int),
    ("ParentRunId", Type::Keyword),
    ("ParentWorkflowId", Type::Keyword),
    ("RootRunId", Type::Keyword),
    ("RootWorkflowId", Type::Keyword),
    ("RunId", Type::Keyword),
    ("StartTime", Type::Datetime),
    ("StateTransitionCount", Type::Int),
    ("TaskQueue", Type::Keyword),
    ("TemporalExternalPayloadCount", Type::Int),
    ("TemporalExternalPayloadSizeBytes", Type::Int),
    ("TemporalUsedWorkerDeploymentVersions", Type::KeywordList),
    ("TemporalWorkerDeployment", Type::Keyword),
    ("TemporalWorkerDeploymentVersion", Type::Keyword),
    ("TemporalWorkflowVersioningBehavior", Type::Keyword),
    ("WorkflowId", Type::Keyword),
    ("WorkflowType", Type::Keyword),
];

/// Attributes that exist in every namespace and that clients may set.
pub(crate) const PREDEFINED: [(&str, Type); 11] = [
    ("BatcherNamespace", Type::Keyword),
    ("BatcherUser", Type::Keyword),
    ("BinaryChecksums", Type::KeywordList),
    ("BuildIds", Type::KeywordList),
    ("TemporalChangeVersion", Type::KeywordList),
    ("TemporalNamespaceDivision", Type::Keyword),
    ("TemporalPauseInfo", Type::KeywordList),
    ("TemporalReportedProblems", Type::KeywordList),
    ("TemporalSchedulePaused", Type::Bool),
    ("TemporalScheduledById", Type::Keyword),
    ("TemporalScheduledStartTime", Type::Datetime),
];

/// Checks what a client sets and adds each value's type; null and empty lists mean "not set".
pub(crate) fn normalise(attributes: &mut Option<SearchAttributes>, namespace: &NamespaceRecord) -> Answer<()> {
    let Some(all) = attributes else { return Ok(()) };
    let count = all.indexed_fields.len();
    if count > KEYS_MAX {
        return Err(invalid(format!("number of search attributes {count} exceeds limit {KEYS_MAX}")));
    }
    let mut kept = BTreeMap::new();
    for (name, mut value) in std::mem::take(&mut all.indexed_fields) {
        let kind = type_of(&name, namespace)?;
        if !check_value(&name, kind, &value)? {
            continue;
        }
        value.metadata.insert("type".into(), Bytes::from_static(type_name(kind).as_bytes()));
        kept.insert(name, value);
    }
    all.indexed_fields = kept;
    if let Some((name, value)) = all.indexed_fields.iter().find(|(_, value)| value.data.len() > VALUE_SIZE_MAX) {
        let size = value.data.len();
        return Err(invalid(format!("search attribute {name} value size {size} exceeds size limit {VALUE_SIZE_MAX}")));
    }
    let total = all.encoded_len();
    if total > TOTAL_SIZE_MAX {
        return Err(invalid(format!("total size of search attributes {total} exceeds size limit {TOTAL_SIZE_MAX}")));
    }
    if all.indexed_fields.is_empty() {
        *attributes = None;
    }
    Ok(())
}

/// The type of an attribute that a client may set.
fn type_of(name: &str, namespace: &NamespaceRecord) -> Answer<Type> {
    if SYSTEM.iter().any(|(system, _)| *system == name) {
        return Err(invalid(format!("{name} attribute can't be set in SearchAttributes")));
    }
    let predefined = PREDEFINED.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let custom = || namespace.search_attributes.get(name).and_then(|kind| Type::try_from(*kind).ok());
    predefined.or_else(custom).ok_or_else(|| {
        invalid(format!("Namespace {} has no mapping defined for search attribute {name}", namespace.name))
    })
}

/// Whether there is a value.
///
/// # Errors
/// If it has not the attribute's type.
fn check_value(name: &str, kind: Type, payload: &Payload) -> Answer<bool> {
    let encoding = payload.metadata.get("encoding").map(Bytes::as_ref).unwrap_or_default();
    if encoding == b"binary/null" {
        return Ok(false);
    }
    let refuse = |shown: String| {
        let kind = type_name(kind);
        Err(invalid(format!("invalid value for search attribute {name} of type {kind}: {shown}")))
    };
    let Ok(value) = serde_json::from_slice::<Value>(&payload.data) else {
        return refuse("value from <payload that is not JSON>".into());
    };
    let scalar = match &value {
        Value::Null => return Ok(false),
        Value::Array(items) if items.is_empty() => return Ok(false),
        Value::Array(items) if items.len() == 1 && kind != Type::KeywordList => &items[0],
        other => other,
    };
    if fits(kind, scalar) { Ok(true) } else { refuse(shown(&value)) }
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

/// A type as metadata and error texts spell it.
pub(crate) fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::Text => "Text",
        Type::Int => "Int",
        Type::Double => "Double",
        Type::Bool => "Bool",
        Type::Datetime => "Datetime",
        Type::KeywordList => "KeywordList",
        Type::Keyword => "Keyword",
        Type::Unspecified => "Unspecified",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::status_of;

    fn set(name: &str, json: &str) -> Result<Option<SearchAttributes>, String> {
        let kinds = [("I", Type::Int), ("K", Type::Keyword), ("L", Type::KeywordList), ("T", Type::Datetime)];
        let namespace = NamespaceRecord {
            name: "ns".into(),
            search_attributes: kinds.map(|(name, kind)| (name.to_string(), kind as i32)).into(),
            ..NamespaceRecord::default()
        };
        let metadata = [("encoding".to_string(), Bytes::from_static(b"json/plain"))].into();
        let value = Payload { metadata, data: json.as_bytes().to_vec().into(), ..Payload::default() };
        let mut all = Some(SearchAttributes { indexed_fields: [(name.to_string(), value)].into() });
        match normalise(&mut all, &namespace) {
            Ok(()) => Ok(all),
            Err(refusal) => Err(status_of(&refusal).message().to_string()),
        }
    }

    #[test]
    fn values_have_their_type() {
        let typed = set("I", "42").unwrap().unwrap();
        assert_eq!(typed.indexed_fields["I"].metadata["type"], "Int");
        assert_eq!(set("I", "4.0").unwrap_err(), "invalid value for search attribute I of type Int: 4");
        assert_eq!(
            set("K", r#"["a","b"]"#).unwrap_err(),
            "invalid value for search attribute K of type Keyword: [a b]"
        );
        assert!(set("K", r#"["one"]"#).is_ok());
        assert_eq!(set("L", "[1]").unwrap_err(), "invalid value for search attribute L of type KeywordList: [1]");
        assert_eq!(
            set("T", "\"yesterday\"").unwrap_err(),
            "invalid value for search attribute T of type Datetime: yesterday"
        );
        assert_eq!(set("X", "1").unwrap_err(), "Namespace ns has no mapping defined for search attribute X");
        assert_eq!(set("WorkflowId", "1").unwrap_err(), "WorkflowId attribute can't be set in SearchAttributes");
    }

    #[test]
    fn null_and_empty_lists_are_not_set() {
        assert_eq!(set("I", "null").unwrap(), None);
        assert_eq!(set("L", "[]").unwrap(), None);
    }

    #[test]
    fn sizes_are_bounded() {
        let long = format!("\"{}\"", "x".repeat(2100));
        assert_eq!(set("K", &long).unwrap_err(), "search attribute K value size 2102 exceeds size limit 2048");
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
