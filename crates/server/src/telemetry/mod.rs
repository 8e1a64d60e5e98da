//! Log lines, to stderr: stdout belongs to the banner. One line an event, never a payload, and no storm: see `repeats`. And spans
//! to a collector, if there is one: see `otlp`.

mod line;
mod otlp;
mod repeats;
mod spans;

use std::io::{IsTerminal, Write};
use std::time::{Duration, SystemTime};

use clap::Args;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::Failure;
use crate::cli::{LogFormat, LogLevel};
use line::{Fields, Style};
use otlp::{Otlp, OtlpSettings};
use repeats::{Repeats, Verdict};

/// The target of spans that are traces; no other span is exported, and no line is made of them.
const TRACE: &str = "mainstay::trace";

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct LogFlags {
    /// What to log to stderr. Default: warn for start-dev, info for start.
    #[arg(long, global = true, value_enum, ignore_case = true)]
    pub log_level: Option<LogLevel>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, ignore_case = true, default_value = "text")]
    pub log_format: LogFormat,
    /// Levels of single modules, as mainstay_node=debug,openraft=info. Also MAINSTAY_LOG_FILTER.
    #[arg(long, global = true, value_name = "MODULE=LEVEL,...")]
    pub log_filter: Option<String>,
    /// Calls that take longer are logged, long polls apart; 0 for none.
    #[arg(long, global = true, value_name = "MILLISECONDS", default_value_t = 2_000)]
    pub log_slow_ms: u64,
    /// Where an OpenTelemetry collector takes traces by HTTP, as http://127.0.0.1:4318. Also OTEL_EXPORTER_OTLP_ENDPOINT.
    #[arg(long, global = true, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Calls traced in a second besides those that their callers trace, which all are.
    #[arg(long, global = true, value_name = "CALLS", default_value_t = 100)]
    pub otlp_calls_per_second: u32,
}

/// How a server logs.
#[derive(Clone, Debug)]
pub struct LogSettings {
    level: LogLevel,
    format: LogFormat,
    targets: Targets,
    /// Calls that take longer are logged.
    pub slow: Option<Duration>,
    /// None for no traces.
    otlp: Option<OtlpSettings>,
    /// Calls traced in a second that nobody else traces.
    pub traced_per_second: u32,
}

impl LogFlags {
    /// What the flags say, with the level that a command has by itself.
    pub fn settings(&self, level: LogLevel) -> Result<LogSettings, Failure> {
        self.settings_in(level, |name| std::env::var(name).ok())
    }

    /// The same in an environment: `value` tells what a variable holds.
    pub fn settings_in(&self, level: LogLevel, value: impl Fn(&str) -> Option<String>) -> Result<LogSettings, Failure> {
        let filter = self.log_filter.clone().or_else(|| value("MAINSTAY_LOG_FILTER"));
        let text = filter.unwrap_or_default();
        let targets = text.parse::<Targets>();
        let targets = targets.map_err(|error| format!("--log-filter {text} is not MODULE=LEVEL,...: {error}"))?;
        let slow = Some(Duration::from_millis(self.log_slow_ms)).filter(|slow| !slow.is_zero());
        let otlp = OtlpSettings::of(self.otlp_endpoint.as_deref(), value)?;
        let (level, format) = (self.log_level.unwrap_or(level), self.log_format);
        Ok(LogSettings { level, format, targets, slow, otlp, traced_per_second: self.otlp_calls_per_second })
    }
}

/// Installs logging for the process. `node` is the node's name in its cluster.
pub fn start(settings: &LogSettings, node: Option<&str>) {
    let level = match settings.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Never => LevelFilter::OFF,
    };
    let style = match settings.format {
        LogFormat::Json => Style::Json,
        LogFormat::Text => Style::Text { colour: false },
        LogFormat::Pretty => Style::Text { colour: std::io::stderr().is_terminal() },
    };
    // The Raft library and the HTTP stack call much a warning or information that is daily life.
    let quiet = if level == LevelFilter::DEBUG { Level::INFO } else { Level::ERROR };
    let quiet = ["openraft", "h2", "hyper", "tonic", "tower"].map(|target| (target, LevelFilter::from_level(quiet)));
    let own = settings.targets.iter().map(|(target, level)| (target.to_owned(), level));
    let filter = Targets::new().with_default(level).with_targets(quiet).with_targets(own);
    let filter = filter.with_target(TRACE, LevelFilter::OFF);
    let lines = Lines { style, node: node.map(str::to_owned), repeats: Repeats::default() };
    let traces = settings.otlp.as_ref().map(|otlp| Otlp::start(otlp, node));
    let traces = traces.map(|traces| traces.with_filter(Targets::new().with_target(TRACE, LevelFilter::INFO)));
    let subscriber = tracing_subscriber::registry().with(traces).with(lines.with_filter(filter));
    // It fails only if logging is installed already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("something that is not text");
        tracing::error!(error = what, at, component = "process", "panic");
    }));
}

/// Writes each event as a line.
struct Lines {
    style: Style,
    node: Option<String>,
    repeats: Repeats,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let now = SystemTime::now();
        let repeated = match self.repeats.ask(event.metadata().callsite(), now) {
            Verdict::Write { repeated } => repeated,
            Verdict::Drop => return,
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(node) = &self.node {
            fields.add_text("node", node);
        }
        if repeated > 0 {
            fields.add_number("repeated", repeated);
        }
        let line = fields.line(event.metadata(), now, self.style);
        // Nobody could be told that stderr is gone.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}
