//! What a run showed, as a table for people and as one line of JSON for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::load::Measured;
use crate::process::Memory;
use crate::{Lists, Options, Pages, Writes};

/// The outcome of a run.
#[derive(Debug)]
pub struct Report {
    activities: u32,
    clients: usize,
    elapsed: Duration,
    /// Ascending.
    latencies: Vec<Duration>,
    wrong: u64,
    errors: BTreeMap<String, u64>,
    server_cpu: Option<Duration>,
    memory: Option<Memory>,
    writes: Writes,
    lists: Lists,
    pages: Pages,
}

impl Report {
    pub(crate) fn new(
        options: &Options,
        measured: Measured,
        server_cpu: Option<Duration>,
        memory: Option<Memory>,
    ) -> Self {
        let mut latencies = measured.latencies;
        latencies.sort_unstable();
        Self {
            activities: options.activities,
            clients: options.clients,
            elapsed: measured.elapsed,
            latencies,
            wrong: measured.wrong,
            errors: measured.errors,
            server_cpu,
            memory,
            writes: Writes::default(),
            lists: Lists::default(),
            pages: Pages::default(),
        }
    }

    pub(crate) fn with_writes(self, writes: Writes) -> Self {
        Self { writes, ..self }
    }

    pub(crate) fn with_lists(self, lists: Lists) -> Self {
        Self { lists, ..self }
    }

    pub(crate) fn with_pages(self, pages: Pages) -> Self {
        Self { pages, ..self }
    }

    /// Workflows that completed with the right result.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.latencies.len()
    }

    /// Whether something completed and nothing went wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.completed() > 0 && self.wrong == 0 && self.errors.is_empty()
    }

    fn rate(&self) -> f64 {
        self.completed() as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// In milliseconds; 0 if nothing completed.
    fn quantile(&self, per_mille: usize) -> f64 {
        quantile_ms(&self.latencies, per_mille)
    }

    fn cpu_ms_per_workflow(&self) -> Option<f64> {
        self.server_cpu.filter(|_| self.completed() > 0).map(|cpu| milliseconds(cpu) / self.completed() as f64)
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> String {
        let optional = |value: Option<String>| value.unwrap_or_else(|| "null".into());
        let errors: u64 = self.errors.values().sum();
        format!(
            "{{\"activities\":{},\"clients\":{},\"seconds\":{:.3},\"completed\":{},\"per_second\":{:.2},\"p50_ms\":{:.2},\
             \"p90_ms\":{:.2},\"p99_ms\":{:.2},\"max_ms\":{:.2},\"errors\":{errors},\"wrong\":{},\
             \"server_cpu_ms_per_workflow\":{},\"server_rss_bytes\":{},\"server_rss_peak_bytes\":{}}}",
            self.activities,
            self.clients,
            self.elapsed.as_secs_f64(),
            self.completed(),
            self.rate(),
            self.quantile(500),
            self.quantile(900),
            self.quantile(990),
            self.quantile(1000),
            self.wrong,
            optional(self.cpu_ms_per_workflow().map(|ms| format!("{ms:.3}"))),
            optional(self.memory.map(|memory| memory.now.to_string())),
            optional(self.memory.map(|memory| memory.peak.to_string())),
        )
    }
}

pub(crate) fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        writeln!(f, "load       {} clients, {} activities each, {seconds:.1} s", self.clients, self.activities)?;
        writeln!(f, "completed  {} workflows, {:.1} per second", self.completed(), self.rate())?;
        let [p50, p90, p99, max] = [500, 900, 990, 1000].map(|per_mille| self.quantile(per_mille));
        writeln!(f, "latency    p50 {p50:.1} ms, p90 {p90:.1} ms, p99 {p99:.1} ms, max {max:.1} ms")?;
        if let Some(cpu) = self.cpu_ms_per_workflow() {
            writeln!(f, "server     {cpu:.2} ms of CPU per workflow")?;
        }
        if let Some(memory) = self.memory {
            let (now, peak) = (mebibytes(memory.now), mebibytes(memory.peak));
            writeln!(f, "memory     {now:.0} MiB resident, {peak:.0} MiB at most")?;
        }
        if self.wrong > 0 {
            writeln!(f, "wrong      {} results", self.wrong)?;
        }
        for (what, times) in &self.errors {
            writeln!(f, "error      {times} times {what}")?;
        }
        write!(f, "{}{}{}", self.writes, self.lists, self.pages)
    }
}

/// A quantile of ascending times, in milliseconds.
pub(crate) fn quantile_ms(took: &[Duration], per_mille: usize) -> f64 {
    let last = took.len().saturating_sub(1);
    took.get(last * per_mille / 1000).map_or(0.0, |took| milliseconds(*took))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(latencies: Vec<u64>) -> Report {
        Report {
            activities: 3,
            clients: 1,
            elapsed: Duration::from_secs(2),
            latencies: latencies.into_iter().map(Duration::from_millis).collect(),
            wrong: 0,
            errors: BTreeMap::new(),
            server_cpu: Some(Duration::from_millis(300)),
            memory: None,
            writes: Writes::default(),
            lists: Lists::default(),
            pages: Pages::default(),
        }
    }

    #[test]
    fn quantiles_and_rates() {
        let report = report((1..=100).collect());
        assert_eq!((report.quantile(500), report.quantile(1000)), (50.0, 100.0));
        assert!(report.json().contains("\"per_second\":50.00"), "{}", report.json());
        assert!(report.json().contains("\"server_cpu_ms_per_workflow\":3.000,\"server_rss_bytes\":null"));
        assert!(report.is_good());
    }

    #[test]
    fn nothing_completed_is_not_good_and_divides_by_nothing() {
        let report = report(vec![]);
        assert!(!report.is_good());
        assert_eq!(report.quantile(990), 0.0);
        assert!(report.json().contains("\"server_cpu_ms_per_workflow\":null"));
        assert!(report.to_string().contains("completed  0 workflows"));
    }
}
