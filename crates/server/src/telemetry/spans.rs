//! Spans as OTLP writes them, what a caller says of its own (W3C's `traceparent`), and which traces are kept.

use std::hash::{BuildHasher, RandomState};

use crate::Failure;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Export {
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub name: String,
    #[prost(int32, tag = "6")]
    pub kind: i32,
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start: u64,
    #[prost(fixed64, tag = "8")]
    pub end: u64,
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    pub status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, tag = "3")]
    pub code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Integer(i64),
}

impl AnyValue {
    pub fn text(text: &str) -> Self {
        Self { value: Some(Value::Text(text.to_owned())) }
    }

    pub fn integer(number: i64) -> Self {
        Self { value: Some(Value::Integer(number)) }
    }
}

const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const ERROR: i32 = 2;

/// The number of a kind of span.
pub fn kind(name: &str) -> i32 {
    if name == "server" { SERVER } else { INTERNAL }
}

/// The status of a span that failed.
pub fn failed(message: &str) -> Status {
    Status { message: message.to_owned(), code: ERROR }
}

/// 128 random bits. Ids need to be different, not secret.
pub fn random() -> [u8; 16] {
    let half = || RandomState::new().hash_one(std::time::Instant::now());
    ((u128::from(half()) << 64) | u128::from(half()).max(1)).to_be_bytes()
}

/// The span that a span belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    pub trace_id: Vec<u8>,
    pub span_id: Vec<u8>,
    pub sampled: bool,
}

impl Parent {
    pub fn new(trace_id: &[u8], span_id: &[u8], sampled: bool) -> Self {
        Self { trace_id: trace_id.to_vec(), span_id: span_id.to_vec(), sampled }
    }

    /// Reads `VERSION-TRACE-SPAN-FLAGS`; what is malformed counts as absent.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_first_version = version == "00";
        if version.len() != 2 || version == "ff" || (is_first_version && parts.next().is_some()) {
            return None;
        }
        let (trace_id, span_id, flags) = (hex(trace, 16)?, hex(span, 8)?, hex(flags, 1)?);
        let is_empty = |id: &[u8]| id.iter().all(|byte| *byte == 0);
        if is_empty(&trace_id) || is_empty(&span_id) {
            return None;
        }
        Some(Self { trace_id, span_id, sampled: flags.first()? & 1 == 1 })
    }
}

fn hex(text: &str, bytes: usize) -> Option<Vec<u8>> {
    let is_hex = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if text.len() != 2 * bytes || !is_hex {
        return None;
    }
    (0..bytes).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

/// Which traces are kept: of those that begin here, and whether a caller's decision counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    ratio: f64,
    follows_parent: bool,
}

impl Sampler {
    /// By OpenTelemetry's names.
    pub fn of(name: Option<&str>, argument: Option<&str>) -> Result<Self, Failure> {
        let name = name.unwrap_or("parentbased_always_on");
        let follows_parent = name.starts_with("parentbased_");
        let ratio = match name.trim_start_matches("parentbased_") {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => {
                let ratio = argument.unwrap_or("1").parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.ok_or("OTEL_TRACES_SAMPLER_ARG is not a number between 0 and 1")?
            }
            _ => return Err(format!("OTEL_TRACES_SAMPLER={name} is not known here")),
        };
        Ok(Self { ratio, follows_parent })
    }

    pub fn samples_root(&self, trace_id: &[u8]) -> bool {
        // The same half of the id as other implementations take, so that they decide alike.
        let half = trace_id.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.ratio >= 1.0 || ((half >> 1) as f64) < self.ratio * 2f64.powi(63)
    }

    pub fn samples_child(&self, parent_sampled: bool, trace_id: &[u8]) -> bool {
        if self.follows_parent { parent_sampled } else { self.samples_root(trace_id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_span_is_read() {
        let parent = Parent::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").expect("reads");
        assert_eq!((parent.trace_id[0], parent.span_id[7], parent.sampled), (0x0a, 0x31, true));
        for wrong in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(Parent::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn samplers_have_their_standard_names() {
        let kept = |name: &str, argument: &str| {
            let sampler = Sampler::of(Some(name), Some(argument)).expect("is known");
            (0..1_000).filter(|_| sampler.samples_root(&random())).count()
        };
        assert_eq!((kept("always_on", ""), kept("always_off", "")), (1_000, 0));
        assert!((100..400).contains(&kept("parentbased_traceidratio", "0.25")));
        assert!(Sampler::of(Some("traceidratio"), Some("2")).is_err());
        assert!(Sampler::of(Some("jaeger_remote"), None).is_err());
        assert!(!Sampler::of(None, None).expect("is known").samples_child(false, &random()));
    }
}
