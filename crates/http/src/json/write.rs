//! From a message to JSON.
//!
//! Names are camelCase, enums their names, 64-bit integers strings, bytes base64, times RFC 3339, durations seconds with `s`. What
//! is not set is not written. Keys of maps are sorted, so that equal messages have equal JSON.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage, Value};

use super::indent::indented;
use super::shorthand::{self, held};
use crate::Dialect;

/// Deeper messages are left out. No request gets such in: gRPC's decoder stops at 100 levels.
const DEPTH_MAX: usize = 200;
/// What RFC 3339 can say: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A message in a dialect.
pub(crate) fn write(message: &DynamicMessage, dialect: Dialect) -> Vec<u8> {
    let mut writer = Writer { out: Vec::new(), shorthand: dialect.shorthand, depth: 0 };
    writer.message(message);
    if dialect.pretty { indented(&writer.out) } else { writer.out }
}

struct Writer {
    out: Vec<u8>,
    shorthand: bool,
    depth: usize,
}

impl Writer {
    fn message(&mut self, message: &DynamicMessage) {
        if self.depth >= DEPTH_MAX {
            return self.raw("{}");
        }
        self.depth += 1;
        let descriptor = message.descriptor();
        match descriptor.full_name().strip_prefix("google.protobuf.") {
            Some(name) => self.well_known(name, message),
            None if self.shorthand && self.shortly(message) => {}
            None => self.object(message, None),
        }
        self.depth -= 1;
    }

    /// `first` is what comes before the fields.
    fn object(&mut self, message: &DynamicMessage, first: Option<&str>) {
        let mut separator = '{';
        if let Some(url) = first {
            self.raw("{\"@type\":");
            self.string(url);
            separator = ',';
        }
        for (field, value) in message.fields() {
            self.out.push(separator as u8);
            separator = ',';
            self.string(field.json_name());
            self.out.push(b':');
            self.field(&field, value);
        }
        self.raw(if separator == '{' { "{}" } else { "}" });
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value) {
        match value {
            Value::List(elements) => {
                self.out.push(b'[');
                for (at, element) in elements.iter().enumerate() {
                    self.comma(at);
                    self.value(&field.kind(), element);
                }
                self.out.push(b']');
            }
            Value::Map(entries) => {
                let Kind::Message(entry) = field.kind() else { return self.raw("{}") };
                let kind = entry.map_entry_value_field().kind();
                let mut sorted: Vec<(String, &Value)> = entries.iter().map(|(key, value)| (name(key), value)).collect();
                sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
                self.out.push(b'{');
                for (at, (key, value)) in sorted.into_iter().enumerate() {
                    self.comma(at);
                    self.string(&key);
                    self.out.push(b':');
                    self.value(&kind, value);
                }
                self.out.push(b'}');
            }
            _ => self.value(&field.kind(), value),
        }
    }

    fn value(&mut self, kind: &Kind, value: &Value) {
        match value {
            Value::Bool(value) => self.raw(if *value { "true" } else { "false" }),
            Value::I32(value) => self.display(value),
            Value::U32(value) => self.display(value),
            Value::I64(value) => self.display(format_args!("\"{value}\"")),
            Value::U64(value) => self.display(format_args!("\"{value}\"")),
            Value::F32(value) => self.float(f64::from(*value), value),
            Value::F64(value) => self.float(*value, value),
            Value::String(text) => self.string(text),
            Value::Bytes(bytes) => {
                // Base64 has no character that JSON escapes.
                self.out.push(b'"');
                let begin = self.out.len();
                self.out.resize(begin + bytes.len().div_ceil(3) * 4, 0);
                // The room is exactly what it takes.
                let _ = STANDARD.encode_slice(bytes, &mut self.out[begin..]);
                self.out.push(b'"');
            }
            Value::EnumNumber(number) => match kind {
                Kind::Enum(kind) => match kind.get_value(*number) {
                    Some(value) => self.string(value.name()),
                    None => self.display(number),
                },
                _ => self.display(number),
            },
            Value::Message(message) => self.message(message),
            // Lists and maps are a field's, not a value's.
            Value::List(_) | Value::Map(_) => self.raw("null"),
        }
    }

    fn well_known(&mut self, name: &str, message: &DynamicMessage) {
        match name {
            "Timestamp" => {
                let (seconds, nanos) = time_of(message);
                let seconds = seconds.clamp(*SECONDS.start(), *SECONDS.end());
                self.display(format_args!(
                    "\"{}\"",
                    prost_types::Timestamp { seconds, nanos: nanos.clamp(0, 999_999_999) }
                ));
            }
            "Duration" => {
                let (seconds, nanos) = time_of(message);
                self.display(format_args!("\"{}\"", prost_types::Duration { seconds, nanos }));
            }
            "Any" => self.any(message),
            _ => {
                let begin = self.out.len();
                // What cannot be said, as a mask of a path that does not survive its change to camelCase, is left out.
                if serde_json::to_writer(&mut self.out, message).is_err() {
                    self.out.truncate(begin);
                    self.raw("null");
                }
            }
        }
    }

    fn any(&mut self, any: &DynamicMessage) {
        let (url, value) = (any.get_field_by_number(1), any.get_field_by_number(2));
        let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let value = value.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
        if url.is_empty() && value.is_empty() {
            return self.raw("{}");
        }
        let name = url.rsplit('/').next().unwrap_or_default();
        let packed = any.descriptor().parent_pool().get_message_by_name(name);
        match packed.and_then(|message| DynamicMessage::decode(message, value.clone()).ok()) {
            Some(message) if !name.starts_with("google.protobuf.") => {
                self.depth += 1;
                if self.depth < DEPTH_MAX {
                    self.object(&message, Some(url))
                } else {
                    self.raw("{}")
                }
                self.depth -= 1;
            }
            _ => {
                self.raw("{\"@type\":");
                self.string(url);
                self.raw(",\"value\":");
                self.value(&Kind::Bytes, &Value::Bytes(value));
                self.raw("}");
            }
        }
    }

    /// Whether the message was written as shorthand.
    fn shortly(&mut self, message: &DynamicMessage) -> bool {
        match shorthand::Kind::of(&message.descriptor()) {
            Some(shorthand::Kind::Payload) => {
                let Some(held) = held(message) else { return false };
                held.write(&mut self.out);
            }
            Some(shorthand::Kind::Payloads) => {
                let payloads = message.get_field_by_number(1);
                let payloads = payloads.as_deref().and_then(Value::as_list).unwrap_or_default();
                let held: Option<Vec<_>> = payloads.iter().map(|payload| held(payload.as_message()?)).collect();
                let Some(held) = held else { return false };
                self.out.push(b'[');
                for (at, held) in held.iter().enumerate() {
                    self.comma(at);
                    held.write(&mut self.out);
                }
                self.out.push(b']');
            }
            None => return false,
        }
        true
    }

    fn comma(&mut self, at: usize) {
        if at > 0 {
            self.out.push(b',');
        }
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // Writing into memory does not fail.
        let _ = write!(self.out, "{value}");
    }

    /// `shown` has the digits of the width that the value has.
    fn float(&mut self, value: f64, shown: impl std::fmt::Debug) {
        match value {
            value if value.is_nan() => self.raw("\"NaN\""),
            f64::INFINITY => self.raw("\"Infinity\""),
            f64::NEG_INFINITY => self.raw("\"-Infinity\""),
            value if value.fract() == 0.0 && value.abs() < 1e15 => self.display(value),
            _ => self.display(format_args!("{shown:?}")),
        }
    }

    fn string(&mut self, text: &str) {
        // Writing into memory does not fail.
        drop(serde_json::to_writer(&mut self.out, text));
    }
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn time_of(message: &DynamicMessage) -> (i64, i32) {
    let field = |number| message.get_field_by_number(number);
    let seconds = field(1).and_then(|value| value.as_i64()).unwrap_or_default();
    let nanos = field(2).and_then(|value| value.as_i32()).unwrap_or_default();
    (seconds, nanos)
}
