//! Payloads as people read them. What only a codec server can read is marked for the page's script, which asks it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mainstay_api::temporal::common::v1::{Payload, Payloads};
use maud::{Markup, html};

/// More of one payload is cut off; the JSON view has it whole.
const SHOWN_MAX: usize = 16 << 10;

/// A payload by what can be said about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Null,
    /// JSON, indented.
    Json(String),
    Text(String),
    /// Bytes in base64, and how many there are.
    Bytes(String, usize),
    /// Of an encoding that is not ours to read: its name, and the payload in proto JSON.
    Encoded(String, String),
}

/// Reads a payload by its encoding.
pub fn read(encoding: &str, data: &[u8], proto_json: impl FnOnce() -> String) -> Shown {
    match encoding {
        "binary/null" => Shown::Null,
        "json/plain" | "json/protobuf" => match serde_json::from_slice::<serde_json::Value>(data) {
            Ok(value) => Shown::Json(serde_json::to_string_pretty(&value).unwrap_or_default()),
            Err(_) => plain(data),
        },
        "binary/plain" | "" => plain(data),
        _ => Shown::Encoded(encoding.to_owned(), proto_json()),
    }
}

fn plain(data: &[u8]) -> Shown {
    let readable = |text: &&str| !text.is_empty() && text.chars().all(|c| !c.is_control() || c.is_whitespace());
    match std::str::from_utf8(data).ok().filter(readable) {
        Some(text) => Shown::Text(text.to_owned()),
        None => Shown::Bytes(STANDARD.encode(data), data.len()),
    }
}

pub fn of(payload: &Payload) -> Shown {
    let encoding = payload.metadata.get("encoding").map(|name| String::from_utf8_lossy(name).into_owned());
    read(&encoding.unwrap_or_default(), &payload.data, || proto_json(payload))
}

/// As a codec server takes it.
fn proto_json(payload: &Payload) -> String {
    let metadata: serde_json::Map<String, serde_json::Value> =
        payload.metadata.iter().map(|(name, value)| (name.clone(), STANDARD.encode(value).into())).collect();
    serde_json::json!({ "metadata": metadata, "data": STANDARD.encode(&payload.data) }).to_string()
}

impl Shown {
    /// On one line, for tables.
    pub fn line(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Json(text) => match serde_json::from_str::<serde_json::Value>(text) {
                Ok(serde_json::Value::String(word)) => word,
                Ok(value) => value.to_string(),
                Err(_) => text.clone(),
            },
            Self::Text(text) => text.clone(),
            Self::Bytes(text, _) => text.clone(),
            Self::Encoded(encoding, _) => format!("({encoding})"),
        }
    }

    pub fn markup(&self) -> Markup {
        match self {
            Self::Null => html! { pre.payload { span.muted { "null" } } },
            Self::Json(text) | Self::Text(text) => html! { pre.payload { (cut(text)) } },
            Self::Bytes(text, size) => html! {
                pre.payload { span.muted { (size) " bytes, base64 " } (cut(text)) }
            },
            Self::Encoded(encoding, json) => html! {
                pre.payload.encoded data-payload=[(json.len() <= SHOWN_MAX).then_some(json)] {
                    span.muted { "encoded as " (encoding) ", " (json.len()) " bytes" }
                }
            },
        }
    }
}

fn cut(text: &str) -> Markup {
    let end = text.floor_char_boundary(SHOWN_MAX);
    html! {
        (&text[..end])
        @if end < text.len() { span.muted { " … " (text.len() - end) " more bytes, see JSON" } }
    }
}

/// Each payload of a list, one below the other.
pub fn all(payloads: Option<&Payloads>) -> Markup {
    let payloads = payloads.map(|all| all.payloads.as_slice()).unwrap_or_default();
    html! {
        @if payloads.is_empty() { span.muted { "none" } }
        @for payload in payloads { (of(payload).markup()) }
    }
}

/// What a person typed, as the input of a signal, update or query: nothing, JSON, or else a string.
pub fn typed(text: &str) -> Option<Payloads> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let value = serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.to_owned()));
    let payload = Payload {
        metadata: [("encoding".to_owned(), "json/plain".into())].into(),
        data: serde_json::to_vec(&value).unwrap_or_default().into(),
        ..Payload::default()
    };
    Some(Payloads { payloads: vec![payload] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(encoding: &str, data: &[u8]) -> Shown {
        let metadata = [("encoding".to_owned(), encoding.to_owned().into())].into();
        of(&Payload { metadata, data: data.to_vec().into(), ..Payload::default() })
    }

    #[test]
    fn each_encoding_is_read() {
        assert_eq!(shown("binary/null", b""), Shown::Null);
        assert_eq!(shown("json/plain", b"{\"a\":[1]}"), Shown::Json("{\n  \"a\": [\n    1\n  ]\n}".into()));
        assert_eq!(shown("json/plain", b"{broken"), Shown::Text("{broken".into()));
        assert_eq!(shown("binary/plain", &[0, 255]), Shown::Bytes("AP8=".into(), 2));
        let Shown::Encoded(name, json) = shown("binary/encrypted", b"x") else { panic!("encoded") };
        assert_eq!(
            (name.as_str(), json.as_str()),
            ("binary/encrypted", r#"{"data":"eA==","metadata":{"encoding":"YmluYXJ5L2VuY3J5cHRlZA=="}}"#)
        );
    }

    #[test]
    fn hostile_payloads_are_escaped_and_cut() {
        let page = shown("json/plain", br#""<script>alert(1)</script>""#).markup().into_string();
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"), "{page}");
        let quoted = shown("x\" onmouseover=\"alert(1)", b"x").markup().into_string();
        assert!(!quoted.contains("\" onmouseover"), "{quoted}");
        let long = shown("binary/plain", "ü".repeat(SHOWN_MAX).as_bytes()).markup().into_string();
        assert!(long.len() < 2 * SHOWN_MAX && long.contains("more bytes"));
    }

    #[test]
    fn what_is_typed_is_json_or_a_string() {
        let text =
            |typed: Option<Payloads>| typed.map(|all| String::from_utf8_lossy(&all.payloads[0].data).into_owned());
        assert_eq!(text(typed(" ")), None);
        assert_eq!(text(typed("{\"a\": 1}")).as_deref(), Some("{\"a\":1}"));
        assert_eq!(text(typed("a word")).as_deref(), Some("\"a word\""));
    }
}
