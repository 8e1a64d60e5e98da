//! Messages as canonical proto3 JSON, by their descriptors; and JSON of that kind as markup.
//!
//! So an event that is new in the API is shown without a line of code here: what is known about fields is only what a payload and a
//! failure look like.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{Markup, html};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value};

use crate::format::words;
use crate::payload::{self, Shown};

/// Levels of a message that are drawn; a chain of causes may be long.
const DEPTH_MAX: usize = 24;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(mainstay_api::DESCRIPTOR_SET).unwrap_or_default());

/// An encoded message as JSON; null if it is not of that type.
pub fn of(type_name: &str, encoded: &[u8]) -> Value {
    let message = POOL.get_message_by_name(type_name).and_then(|kind| DynamicMessage::decode(kind, encoded).ok());
    let options = SerializeOptions::new().stringify_64_bit_integers(true);
    message
        .and_then(|message| message.serialize_with_options(serde_json::value::Serializer, &options).ok())
        .unwrap_or_default()
}

/// Whatever a value is.
pub fn any(value: &Value) -> Markup {
    drawn(value, 0)
}

/// The fields of an object as a list of definitions.
pub fn fields(value: &Value) -> Markup {
    html! { @if let Some(object) = value.as_object() { (definitions(object, 0)) } }
}

fn definitions(object: &Map<String, Value>, depth: usize) -> Markup {
    html! {
        dl.fields {
            @for (name, value) in object.iter().filter(|(_, value)| !is_empty(value)) {
                dt { (words(name)) }
                dd { (drawn(value, depth)) }
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn drawn(value: &Value, depth: usize) -> Markup {
    if depth > DEPTH_MAX {
        return html! { span.muted { "… see JSON" } };
    }
    match value {
        Value::Object(object) => match payload_of(object) {
            Some(shown) => shown.markup(),
            None if object.contains_key("payloads") && object.len() == 1 => drawn(&object["payloads"], depth),
            None if object.contains_key("name") && object.len() == 1 => drawn(&object["name"], depth),
            None => definitions(object, depth + 1),
        },
        Value::Array(all) => html! { @for one in all { div.item { (drawn(one, depth + 1)) } } },
        Value::String(text) if text.contains('\n') => html! { pre.trace { (text) } },
        Value::String(text) => html! { span.value { (text) } },
        other => html! { span.value { (other.to_string()) } },
    }
}

/// A payload, if that is what an object is.
fn payload_of(object: &Map<String, Value>) -> Option<Shown> {
    let metadata = object.get("metadata")?.as_object()?;
    let bytes = |value: &Value| value.as_str().and_then(|text| STANDARD.decode(text).ok());
    let encoding = bytes(metadata.get("encoding")?)?;
    let data = object.get("data").and_then(bytes).unwrap_or_default();
    let json = || Value::Object(object.clone()).to_string();
    Some(payload::read(&String::from_utf8_lossy(&encoding), &data, json))
}

/// The value at a path of names.
pub fn at<'a>(value: &'a Value, path: &[&str]) -> &'a Value {
    path.iter().fold(value, |value, name| value.get(*name).unwrap_or(&Value::Null))
}

/// The text at a path; empty if there is none.
pub fn text<'a>(value: &'a Value, path: &[&str]) -> &'a str {
    at(value, path).as_str().unwrap_or_default()
}

/// The integer at a path, which proto JSON writes as a text if it has 64 bits.
pub fn integer(value: &Value, path: &[&str]) -> i64 {
    match at(value, path) {
        Value::String(text) => text.parse().unwrap_or_default(),
        other => other.as_i64().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use mainstay_api::temporal::common::v1::{Payload, Payloads};
    use mainstay_api::temporal::failure::v1::Failure;
    use prost::Message;

    use super::*;

    #[test]
    fn a_message_is_shown_with_its_payloads_and_causes() {
        let cause = Failure { message: "<b>inner</b>".into(), stack_trace: "a\nb".into(), ..Failure::default() };
        let failure = Failure { message: "outer".into(), cause: Some(Box::new(cause)), ..Failure::default() };
        let value = of("temporal.api.failure.v1.Failure", &failure.encode_to_vec());
        assert_eq!(text(&value, &["cause", "message"]), "<b>inner</b>");
        let page = fields(&value).into_string();
        assert!(page.contains("&lt;b&gt;inner") && page.contains("<pre class=\"trace\">"), "{page}");

        let metadata = [("encoding".to_owned(), "json/plain".into())].into();
        let payload = Payload { metadata, data: "{\"a\":1}".into(), ..Payload::default() };
        let payloads = Payloads { payloads: vec![payload] };
        let value = of("temporal.api.common.v1.Payloads", &payloads.encode_to_vec());
        assert!(fields(&value).into_string().contains("&quot;a&quot;: 1"), "{value}");
    }

    #[test]
    fn what_is_no_message_is_null() {
        assert_eq!(of("temporal.api.failure.v1.Failure", b"\xff"), Value::Null);
        assert_eq!(of("no.such.Message", b""), Value::Null);
    }
}
