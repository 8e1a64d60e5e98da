//! Spans to an OpenTelemetry collector: OTLP over HTTP, protobuf, one request for a batch.
//!
//! Off unless an endpoint is given, by `--otlp-endpoint` or the standard variables; then nothing here exists and spans are never made.
//! It is for a collector beside the server: no TLS. The wire format is five messages, so they are written here; the libraries for it
//! are a dozen crates that change together.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use prost::Message;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::spans::{
    self, AnyValue, Export, KeyValue, Parent, Resource, ResourceSpans, Sampler, Scope, ScopeSpans, Span,
};
use crate::Failure;

/// Spans that wait for a batch; more are lost.
const WAITING: usize = 8_192;
const BATCH: usize = 512;
const LONGEST_ANSWER: u64 = 64 << 10;

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct OtlpSettings {
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    resource: BTreeMap<String, String>,
    sampler: Sampler,
    delay: Duration,
    timeout: Duration,
}

impl OtlpSettings {
    /// From the flag and the environment; none if neither names a collector.
    pub fn of(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Failure> {
        if env("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let base = |url: String| format!("{}/v1/traces", url.trim_end_matches('/'));
        let url = flag.map(|url| base(url.to_owned()));
        let url = url.or_else(|| env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"));
        let Some(url) = url.or_else(|| env("OTEL_EXPORTER_OTLP_ENDPOINT").map(base)) else { return Ok(None) };
        let wrong =
            || format!("the OTLP endpoint {url} is not http://HOST:PORT; a collector beside the server needs no TLS");
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = rest.split_once('/').ok_or_else(wrong)?;
        let pairs = |name: &str| {
            let text = env(name).unwrap_or_default();
            let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
            pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect::<Vec<_>>()
        };
        let mut resource: BTreeMap<_, _> = pairs("OTEL_RESOURCE_ATTRIBUTES").into_iter().collect();
        let name = env("OTEL_SERVICE_NAME").or_else(|| resource.remove("service.name"));
        resource.insert("service.name".into(), name.unwrap_or_else(|| "mainstay".into()));
        resource.insert("service.version".into(), env!("CARGO_PKG_VERSION").into());
        let millis = |name: &str, default| {
            Duration::from_millis(env(name).and_then(|value| value.parse().ok()).unwrap_or(default))
        };
        Ok(Some(Self {
            host: if host.contains(':') { host.into() } else { format!("{host}:80") },
            path: format!("/{path}"),
            headers: pairs("OTEL_EXPORTER_OTLP_HEADERS"),
            resource,
            sampler: Sampler::of(env("OTEL_TRACES_SAMPLER").as_deref(), env("OTEL_TRACES_SAMPLER_ARG").as_deref())?,
            delay: millis("OTEL_BSP_SCHEDULE_DELAY", 5_000),
            timeout: millis("OTEL_EXPORTER_OTLP_TIMEOUT", 10_000),
        }))
    }
}

/// Makes spans of the server's own ones.
pub struct Otlp {
    sampler: Sampler,
    sender: SyncSender<Span>,
}

impl Otlp {
    /// Starts the exporter's thread, which lives as long as the process.
    pub fn start(settings: &OtlpSettings, node: Option<&str>) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let mut settings = settings.clone();
        if let Some(node) = node {
            settings.resource.insert("service.instance.id".into(), node.to_owned());
        }
        let sampler = settings.sampler;
        std::thread::spawn(move || export(&settings, &receiver));
        Self { sampler, sender }
    }
}

/// A span under way.
struct Open {
    span: Span,
    sampled: bool,
    traceparent: Option<String>,
}

impl Visit for Open {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "traceparent" => self.traceparent = Some(value.to_owned()),
            "otel.name" => self.span.name = value.to_owned(),
            "otel.kind" => self.span.kind = spans::kind(value),
            "error" => self.span.status = Some(spans::failed(value)),
            _ if value.is_empty() => {}
            name => self.add(name, AnyValue::text(value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), AnyValue::integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), AnyValue::integer(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

impl Open {
    fn add(&mut self, name: &str, value: AnyValue) {
        self.span.attributes.push(KeyValue { key: name.to_owned(), value: Some(value) });
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Otlp {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut open = Open {
            span: Span { name: span.name().to_owned(), start: nanos(), kind: spans::kind(""), ..Span::default() },
            sampled: true,
            traceparent: None,
        };
        attributes.record(&mut open);
        let parent = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            let open = extensions.get::<Open>()?;
            Some((Parent::new(&open.span.trace_id, &open.span.span_id, open.sampled), true))
        });
        let parent = parent.or_else(|| Some((Parent::read(open.traceparent.as_deref()?)?, false)));
        open.span.span_id = spans::random()[..8].to_vec();
        match parent {
            Some((parent, is_own)) => {
                open.span.trace_id = parent.trace_id;
                open.span.parent_span_id = parent.span_id;
                open.sampled = if is_own {
                    parent.sampled
                } else {
                    self.sampler.samples_child(parent.sampled, &open.span.trace_id)
                };
            }
            None => {
                open.span.trace_id = spans::random().to_vec();
                open.sampled = self.sampler.samples_root(&open.span.trace_id);
            }
        }
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>() {
            values.record(open);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(mut open) = open.filter(|open| open.sampled) {
            open.span.end = nanos();
            // A collector that does not keep up costs spans, not calls.
            let _full = self.sender.try_send(open.span);
        }
    }
}

fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Sends batches for ever.
fn export(settings: &OtlpSettings, receiver: &Receiver<Span>) {
    while let Ok(first) = receiver.recv() {
        let (mut batch, until) = (vec![first], Instant::now() + settings.delay);
        while batch.len() < BATCH {
            match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(span) => batch.push(span),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let count = batch.len();
        if let Err(error) = post(settings, &request(settings, batch)) {
            tracing::warn!(component = "tracing", %error, lost = count, "spans were not exported");
        }
    }
}

fn request(settings: &OtlpSettings, spans: Vec<Span>) -> Vec<u8> {
    let pair = |(key, value): (&String, &String)| KeyValue { key: key.clone(), value: Some(AnyValue::text(value)) };
    let scope = Scope { name: "mainstay".into(), version: env!("CARGO_PKG_VERSION").into() };
    let resource = Resource { attributes: settings.resource.iter().map(pair).collect() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    Export { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }.encode_to_vec()
}

fn post(settings: &OtlpSettings, body: &[u8]) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let address = settings.host.to_socket_addrs().map_err(failed)?.next().ok_or("the collector's name is not known")?;
    let mut stream = TcpStream::connect_timeout(&address, settings.timeout).map_err(failed)?;
    stream.set_read_timeout(Some(settings.timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(settings.timeout)).map_err(failed)?;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\nconnection: close\r\n",
        settings.path,
        settings.host,
        body.len()
    );
    for (name, value) in &settings.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(body)).map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).map_err(failed)?;
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    let accepted = line.split(' ').nth(1).is_some_and(|code| code.starts_with('2'));
    if accepted { Ok(()) } else { Err(format!("the collector answered {line:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_variables_are_read() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        assert!(OtlpSettings::of(None, env(&[])).expect("reads").is_none());
        let read = OtlpSettings::of(
            None,
            env(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
                ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=s"),
            ]),
        );
        let read = read.expect("reads").expect("is on");
        assert_eq!((read.host.as_str(), read.path.as_str()), ("c:4318", "/v1/traces"));
        assert_eq!((read.resource["service.name"].as_str(), read.resource["a"].as_str()), ("s", "b"));
        assert!(OtlpSettings::of(Some("https://c"), env(&[])).is_err());
        let off = env(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"), ("OTEL_SDK_DISABLED", "TRUE")]);
        assert!(OtlpSettings::of(None, off).expect("reads").is_none());
    }
}
