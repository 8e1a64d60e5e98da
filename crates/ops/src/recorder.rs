//! The recorder: every metric with its buckets and its help, rendered as Prometheus text.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::registry::{Kind, METRICS, Metric};

/// A handle of the process's recorder.
#[derive(Clone)]
pub struct Recorder(PrometheusHandle);

/// Makes a recorder, and makes it the process's. To be called once, before anything makes handles.
///
/// # Errors
/// If there is one already.
pub fn install() -> Result<Recorder, String> {
    let recorder = builder().map_err(|error| error.to_string())?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    METRICS.iter().for_each(describe);
    Ok(Recorder(handle))
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Some(buckets) = metric.kind.buckets() {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    Ok(builder)
}

fn describe(metric: &Metric) {
    let (name, help) = (metric.name, metric.help);
    match metric.kind {
        Kind::Counter => describe_counter!(name, Unit::Count, help),
        Kind::Gauge => describe_gauge!(name, Unit::Count, help),
        Kind::Seconds | Kind::Sizes | Kind::Counts => describe_histogram!(name, Unit::Count, help),
    }
}

impl Recorder {
    /// All metrics as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves what histograms gathered into their buckets. To be called every few seconds, or a server that nobody scrapes grows.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }
}
