//! Payloads as the JSON that they hold.
//!
//! `[1, "two"]` stands for two payloads whose encoding is `json/plain`; `null` for one whose encoding is `binary/null`; and an object
//! with `_protoMessageType` for one whose encoding is `json/protobuf`. Everything else is written, and can always be given, as what
//! it is: an object of `metadata` and `data`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, Value as Field};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::read::is_base64;

const PAYLOAD: &str = "temporal.api.common.v1.Payload";
const PAYLOADS: &str = "temporal.api.common.v1.Payloads";
const ENCODING: &str = "encoding";
const MESSAGE_TYPE: &str = "messageType";
const MESSAGE_TYPE_KEY: &str = "_protoMessageType";
const PLAIN: &[u8] = b"json/plain";
const PROTOBUF: &[u8] = b"json/protobuf";
const NULL: &[u8] = b"binary/null";

/// Which messages have a shorthand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Payload,
    Payloads,
}

impl Kind {
    pub(super) fn of(message: &MessageDescriptor) -> Option<Self> {
        match message.full_name() {
            PAYLOAD => Some(Self::Payload),
            PAYLOADS => Some(Self::Payloads),
            _ => None,
        }
    }
}

/// What a payload holds, if that can be written instead of it.
pub(super) enum Held<'a> {
    /// As it stands.
    Text(&'a str),
    /// With the type of its message added.
    Object(Map<String, Value>),
}

impl Held<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            // Writing into memory does not fail.
            Self::Object(object) => drop(serde_json::to_writer(out, object)),
        }
    }
}

/// What a message of [`Kind::Payload`] holds; none if the shorthand would lose something.
pub(super) fn held(payload: &DynamicMessage) -> Option<Held<'_>> {
    let (mut metadata, mut data): (Option<&Field>, &[u8]) = (None, &[]);
    for (field, value) in payload.fields() {
        match (field.name(), value) {
            ("metadata", value) => metadata = Some(value),
            ("data", Field::Bytes(bytes)) => data = bytes,
            _ => return None,
        }
    }
    let metadata = metadata?.as_map()?;
    let value = |key: &str| metadata.get(&MapKey::String(key.into())).and_then(Field::as_bytes);
    match (value(ENCODING)?.as_ref(), metadata.len()) {
        (NULL, 1) if data.is_empty() => Some(Held::Text("null")),
        (PLAIN, 1) => Some(Held::Text(serde_json::from_slice::<&RawValue>(data).ok()?.get())),
        (PROTOBUF, 2) => {
            let kind = std::str::from_utf8(value(MESSAGE_TYPE)?).ok().filter(|kind| !kind.is_empty())?;
            let mut object: Map<String, Value> = serde_json::from_slice(data).ok()?;
            object.insert(MESSAGE_TYPE_KEY.into(), kind.into());
            Some(Held::Object(object))
        }
        _ => None,
    }
}

/// Makes the JSON of a [`Kind::Payload`] canonical. `eager` takes every value for what the payload shall hold that does not look
/// exactly like a payload; otherwise every object is a payload that has no other fields than one.
pub(super) fn expand_payload(value: &mut Value, eager: bool) {
    let is_payload = if eager { looks_like_payload(value) } else { may_be_payload(value) };
    if is_payload {
        return;
    }
    let (encoding, kind) = match value {
        Value::Null => {
            *value = json!({"metadata": {ENCODING: STANDARD.encode(NULL)}});
            return;
        }
        Value::Object(object) => match object.get(MESSAGE_TYPE_KEY).and_then(Value::as_str) {
            Some(kind) if !kind.is_empty() => {
                let kind = kind.to_owned();
                object.remove(MESSAGE_TYPE_KEY);
                (PROTOBUF, Some(kind))
            }
            _ => (PLAIN, None),
        },
        _ => (PLAIN, None),
    };
    let mut metadata = json!({ENCODING: STANDARD.encode(encoding)});
    if let Some(kind) = kind {
        metadata[MESSAGE_TYPE] = STANDARD.encode(kind).into();
    }
    *value = json!({"metadata": metadata, "data": STANDARD.encode(value.to_string())});
}

/// Makes the JSON of a [`Kind::Payloads`] canonical.
pub(super) fn expand_payloads(value: &mut Value, eager: bool) {
    if let Value::Array(payloads) = value {
        payloads.iter_mut().for_each(|payload| expand_payload(payload, eager));
        *value = json!({"payloads": std::mem::take(payloads)});
    } else if let Some(Value::Array(payloads)) = value.get_mut("payloads") {
        payloads.iter_mut().for_each(|payload| expand_payload(payload, eager));
    }
}

/// An object of nothing but fields of a payload.
fn may_be_payload(value: &Value) -> bool {
    let Value::Object(object) = value else { return false };
    object.keys().all(|name| ["metadata", "data", "externalPayloads", "external_payloads"].contains(&name.as_str()))
}

/// An object of nothing but metadata with an encoding, and data unless the encoding needs none.
fn looks_like_payload(value: &Value) -> bool {
    let Value::Object(object) = value else { return false };
    let Some(Value::Object(metadata)) = object.get("metadata") else { return false };
    let Some(encoding) = metadata.get(ENCODING) else { return false };
    let is_bytes = |value: &Value| value.as_str().is_some_and(is_base64);
    metadata.values().all(is_bytes)
        && match object.get("data") {
            Some(data) => object.len() == 2 && is_bytes(data),
            None => object.len() == 1 && *encoding == STANDARD.encode(NULL),
        }
}
