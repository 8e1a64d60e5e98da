//! Log lines, to stderr: stdout belongs to the banner.

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::cli::{LogFormat, LogLevel};

/// Installs logging for the process.
pub fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Never => return,
    };
    // The Raft library and the HTTP stack call much a warning or information that is daily life.
    let quiet = if level == LevelFilter::DEBUG { Level::INFO } else { Level::ERROR };
    let targets = ["openraft", "h2", "hyper", "tonic", "tower"].map(|target| (target, LevelFilter::from_level(quiet)));
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.compact().with_ansi(false).boxed(),
        LogFormat::Pretty => lines.compact().with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
    };
    let filter = Targets::new().with_default(level).with_targets(targets);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    // It fails only if logging is installed already.
    let _ = tracing::subscriber::set_global_default(subscriber);
}
