//! How a line looks: as JSON with the keys that pipelines made for Temporal know (`level`, `ts`, `msg`, `component`, `wf-id`, ...), or as
//! text with `key=value`. Line breaks and control characters are escaped in both, so that an event is one line whatever is in it.

use std::fmt::{Debug, Write};
use std::time::SystemTime;

use mainstay_base::Timestamp;
use mainstay_calendar::rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Level, Metadata};

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Json,
    Text { colour: bool },
}

enum Value {
    Text(String),
    /// A number or a truth value, as JSON writes it.
    Bare(String),
}

/// What an event says.
#[derive(Default)]
pub struct Fields {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Fields {
    /// Adds a text.
    pub fn add_text(&mut self, name: &'static str, text: &str) {
        self.fields.push((name, Value::Text(text.to_owned())));
    }

    /// Adds a number.
    pub fn add_number(&mut self, name: &'static str, number: u64) {
        self.fields.push((name, Value::Bare(number.to_string())));
    }

    /// The whole line.
    pub fn line(&self, metadata: &Metadata<'_>, now: SystemTime, style: Style) -> String {
        let ts = timestamp(now);
        match style {
            Style::Json => self.json(metadata, &ts),
            Style::Text { colour } => self.text(metadata, &ts, colour),
        }
    }

    fn json(&self, metadata: &Metadata<'_>, ts: &str) -> String {
        let level = metadata.level().as_str().to_ascii_lowercase();
        let mut line = format!("{{\"level\":\"{level}\",\"ts\":\"{ts}\",\"msg\":");
        quote(&mut line, &self.message);
        line += ",\"logger\":";
        quote(&mut line, metadata.target());
        for (name, value) in &self.fields {
            line.push(',');
            quote(&mut line, name);
            line.push(':');
            match value {
                Value::Text(text) => quote(&mut line, text),
                Value::Bare(text) => line += text,
            }
        }
        if let (Some(file), Some(at)) = (metadata.file(), metadata.line()) {
            line += ",\"logging-call-at\":";
            quote(&mut line, &format!("{}:{at}", file.rsplit('/').next().unwrap_or(file)));
        }
        line + "}\n"
    }

    fn text(&self, metadata: &Metadata<'_>, ts: &str, colour: bool) -> String {
        let level = *metadata.level();
        let mut line = format!("{ts} ");
        let paint = match level {
            Level::ERROR => "\x1b[31m",
            Level::WARN => "\x1b[33m",
            Level::INFO => "\x1b[32m",
            _ => "\x1b[2m",
        };
        let _ = if colour { write!(line, "{paint}{level:<5}\x1b[0m ") } else { write!(line, "{level:<5} ") };
        escape(&mut line, &self.message);
        for (name, value) in &self.fields {
            let _ = write!(line, " {name}=");
            match value {
                Value::Text(text) if is_plain(text) => line += text,
                Value::Text(text) => quote(&mut line, text),
                Value::Bare(text) => line += text,
            }
        }
        line.push('\n');
        line
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\' && c != '=';
    !text.is_empty() && text.chars().all(plain)
}

fn quote(line: &mut String, text: &str) {
    line.push('"');
    escape(line, text);
    line.push('"');
}

fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            c if c.is_control() => drop(write!(line, "\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
    }
}

fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // Milliseconds are enough, and always the same number of digits.
    let whole = rfc3339(Timestamp::from_nanos(i64::try_from(since.as_secs()).unwrap_or_default() * 1_000_000_000));
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), since.subsec_millis())
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.add_text(field.name(), value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Value::Bare(value.to_string())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Value::Bare(value.to_string())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        let value = if value.is_finite() { Value::Bare(value.to_string()) } else { Value::Text(value.to_string()) };
        self.fields.push((field.name(), value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Value::Bare(value.to_string())));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut line = String::new();
        quote(&mut line, "a\"b\\c\nd\u{1}é");
        assert_eq!(line, r#""a\"b\\c\nd\u0001é""#);
        assert!(is_plain("n-1") && !is_plain("a b") && !is_plain("") && !is_plain("a=b"));
    }

    #[test]
    fn times_have_milliseconds() {
        let at = |ms| timestamp(SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(ms));
        assert_eq!([at(0), at(1_700_000_000_007)], ["1970-01-01T00:00:00.000Z", "2023-11-14T22:13:20.007Z"]);
    }
}
