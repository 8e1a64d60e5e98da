//! From JSON to a message.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

use super::shorthand::{self, expand_payload, expand_payloads};

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A message of a type, from its JSON. `eager`: see [`crate::Dialect::reads_shorthand`].
///
/// # Errors
/// What is wrong with the text, as a sentence for its author.
pub(crate) fn read(message: MessageDescriptor, text: &[u8], eager: bool) -> Result<DynamicMessage, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| format!("invalid JSON: {error}"))?;
    expand(&mut value, &message, eager);
    DynamicMessage::deserialize(message, value).map_err(|error| format!("invalid request: {error}"))
}

/// Bytes from base64 of either alphabet, with padding or without; none if it is not base64.
pub(crate) fn from_base64(text: &str) -> Option<Bytes> {
    let url = text.contains(['-', '_']);
    let decoded = if url { BASE64_URL.decode(text) } else { BASE64.decode(text) };
    decoded.ok().map(Bytes::from)
}

pub(super) fn is_base64(text: &str) -> bool {
    from_base64(text).is_some()
}

/// Replaces what is shorthand by what it stands for, all the way down. The depth is bounded by the JSON parser's.
fn expand(value: &mut Value, message: &MessageDescriptor, eager: bool) {
    match shorthand::Kind::of(message) {
        Some(shorthand::Kind::Payload) => return expand_payload(value, eager),
        Some(shorthand::Kind::Payloads) => return expand_payloads(value, eager),
        None if message.full_name().starts_with("google.protobuf.") => return,
        None => {}
    }
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let field = message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name));
        if let Some(field) = field {
            expand_field(value, &field, eager);
        }
    }
}

fn expand_field(value: &mut Value, field: &FieldDescriptor, eager: bool) {
    let Kind::Message(message) = field.kind() else { return };
    match value {
        // A field that is null is not set; an element cannot be missing, so a null there is what it is.
        Value::Null => {}
        Value::Object(entries) if field.is_map() => {
            let Kind::Message(message) = message.map_entry_value_field().kind() else { return };
            entries.values_mut().for_each(|value| expand(value, &message, eager));
        }
        Value::Array(elements) if field.is_list() => {
            elements.iter_mut().for_each(|value| expand(value, &message, eager));
        }
        _ if field.is_map() || field.is_list() => {}
        _ => expand(value, &message, eager),
    }
}
