//! Protobuf messages as short text, both ways: text format in which `5s` is a duration, `+3s` a time since the script's start, and
//! `R1` a run.

use std::collections::BTreeMap;

use mainstay_api::DESCRIPTOR_SET;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use super::machine::EPOCH_NS;

/// Names of runs, in order of appearance.
#[derive(Default)]
pub struct Names {
    runs: BTreeMap<String, String>,
}

/// Fields that only repeat what is known or differ without meaning.
const HIDDEN: [&str; 4] = ["task_id", "version", "history_size_bytes", "state_transition_count"];

pub struct Texts {
    pool: DescriptorPool,
    pub names: Names,
}

impl Names {
    /// A run's short name.
    pub fn run(&mut self, id: &str) -> String {
        let next = format!("R{}", self.runs.len() + 1);
        self.runs.entry(id.to_string()).or_insert(next).clone()
    }

    /// The run with this short name.
    pub fn id(&self, name: &str) -> Option<String> {
        self.runs.iter().find(|(_, n)| n.as_str() == name).map(|(id, _)| id.clone())
    }

    /// Text in which every UUID is a run's short name.
    pub fn shorten(&mut self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.char_indices().map(|(i, _)| i).find(|i| is_uuid(&rest[*i..])) {
            out.push_str(&rest[..at]);
            out.push_str(&self.run(&rest[at..at + 36]));
            rest = &rest[at + 36..];
        }
        out.push_str(rest);
        out
    }
}

fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 36
        && bytes[..36].iter().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

impl Texts {
    pub fn new() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("own descriptors decode");
        Self { pool, names: Names::default() }
    }

    /// A message from text.
    pub fn parse<M: Message + Default>(&self, kind: &str, text: &str) -> M {
        let descriptor = self.pool.get_message_by_name(kind).unwrap_or_else(|| panic!("no message {kind}"));
        let text = self.long(text);
        let message = DynamicMessage::parse_text_format(descriptor, &text)
            .unwrap_or_else(|e| panic!("{kind} does not parse: {e}\n{text}"));
        M::decode(message.encode_to_vec().as_slice()).expect("a dynamic message decodes as the static one")
    }

    /// Spells durations (`: 5s`, `: 200ms`) and run names out.
    fn long(&self, text: &str) -> String {
        let mut words = Vec::new();
        for word in text.split(' ') {
            let number = |unit: &str| word.strip_suffix(unit).and_then(|n| n.parse::<i64>().ok());
            words.push(match (number("ms"), number("s")) {
                (Some(n), _) => format!("{{ seconds: {} nanos: {} }}", n / 1000, n % 1000 * 1_000_000),
                (None, Some(n)) => format!("{{ seconds: {n} }}"),
                _ => match word.strip_prefix("@").and_then(|name| self.names.id(name)) {
                    Some(id) => format!("\"{id}\""),
                    None => word.to_string(),
                },
            });
        }
        words.join(" ")
    }

    /// A static message as text.
    pub fn show<M: Message>(&mut self, kind: &str, message: &M) -> String {
        let descriptor = self.pool.get_message_by_name(kind).unwrap_or_else(|| panic!("no message {kind}"));
        let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).expect("decodes");
        self.fields(&dynamic)
    }

    fn fields(&mut self, message: &DynamicMessage) -> String {
        let mut parts = Vec::new();
        for (field, value) in message.fields() {
            if HIDDEN.contains(&field.name()) || field.name() == "event_time" {
                continue;
            }
            if matches!(field.name(), "event_id" | "event_type") && message.descriptor().name() == "HistoryEvent" {
                continue;
            }
            let of_event = field.name().ends_with("_event_attributes");
            let text = self.value(value);
            parts.push(if of_event {
                text.trim_matches(['{', '}']).trim().to_string()
            } else {
                format!("{}:{text}", field.name())
            });
        }
        parts.join(" ")
    }

    fn value(&mut self, value: &Value) -> String {
        match value {
            Value::Message(m) => self.message(m),
            Value::List(items) => {
                let items: Vec<String> = items.iter().map(|item| self.value(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Map(entries) => {
                let mut items: Vec<String> =
                    entries.iter().map(|(key, item)| format!("{key:?}={}", self.value(item))).collect();
                items.sort();
                format!("<{}>", items.join(", "))
            }
            Value::String(text) => format!("{:?}", self.names.shorten(text)),
            Value::Bytes(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
            Value::EnumNumber(n) => n.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::I32(n) => n.to_string(),
            Value::I64(n) => n.to_string(),
            Value::U32(n) => n.to_string(),
            Value::U64(n) => n.to_string(),
            Value::F32(n) => n.to_string(),
            Value::F64(n) => n.to_string(),
        }
    }

    fn message(&mut self, message: &DynamicMessage) -> String {
        let number = |name: &str| match message.get_field_by_name(name).as_deref() {
            Some(Value::I64(n)) => *n,
            Some(Value::I32(n)) => i64::from(*n),
            _ => 0,
        };
        match message.descriptor().full_name() {
            "google.protobuf.Duration" => span(number("seconds") * 1_000_000_000 + number("nanos")),
            "google.protobuf.Timestamp" => {
                since_start(number("seconds").saturating_mul(1_000_000_000) + number("nanos"))
            }
            _ => format!("{{{}}}", self.fields(message)),
        }
    }
}

/// A span in seconds, or milliseconds if it has a fraction.
pub fn span(ns: i64) -> String {
    if ns % 1_000_000_000 == 0 { format!("{}s", ns / 1_000_000_000) } else { format!("{}ms", ns / 1_000_000) }
}

/// A time as the span since the script began.
pub fn since_start(ns: i64) -> String {
    format!("+{}", span(ns.saturating_sub(EPOCH_NS)))
}
