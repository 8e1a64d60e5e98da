//! `docs/metrics.md`, made from the registry.

use std::fmt::Write;

use crate::registry::{ABSENT, METRICS, Metric, Origin};

const HEAD: &str = "# Metrics

`--metrics-port PORT` serves them at `/metrics` as Prometheus text. This page is made from `crates/ops/src/registry.rs`
(`MAINSTAY_WRITE=1 cargo test -p mainstay-ops`), and a test runs a server under a small load and compares both ways: what
is listed is there, and what is there is listed.

Names, labels and units are those of Temporal's server where the meaning is the same, so that dashboards made for it draw:
counters have no `_total`, times are in seconds. A node plays the roles `frontend`, `history` and `matching` in one process; the
label `service_name` tells which of them is meant. Ours begin with `mainstay_` and follow Prometheus' own conventions.

Labels are bounded, so that a scrape stays short: 100 namespaces, 200 workflow types and 200 task queues have series of their own, and
the first 20, 50 and 20 of them histograms of their own, which take twenty lines each; what comes later shares the value `__other__`;
sticky task queues share `__sticky__`; a namespace that does not exist is `_unknown_`. Where a scrape's own label
`namespace` collides, keep ours as `temporal_namespace`, which is what Temporal's dashboards group by:

```yaml
metric_relabel_configs:
  - source_labels: [namespace]
    target_label: temporal_namespace
```

What a shard's leader counts (outcomes of workflows, transitions, time-outs, schedules) is counted once in a cluster; sum it over
the nodes. When: *always* means that a server shows it from its start; *when it happens*, once there was a first time; *in a cluster*,
if there are other nodes; *when something fails*, hopefully never.
";

/// The page.
#[must_use]
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    for (title, origin) in [
        ("Temporal's", Origin::Temporal),
        ("Mainstay's own", Origin::Own),
        ("Of the process, by Prometheus' conventions", Origin::Process),
    ] {
        let _ = write!(text, "\n## {title}\n\n| name | kind | labels | when | meaning |\n|---|---|---|---|---|\n");
        for metric in METRICS.iter().filter(|metric| metric.origin() == origin) {
            text += &row(metric);
        }
    }
    text += "\n## What Temporal has and Mainstay has not\n\n| name | why |\n|---|---|\n";
    for (name, why) in ABSENT {
        let _ = writeln!(text, "| `{name}` | {why} |");
    }
    text
}

fn row(metric: &Metric) -> String {
    let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(" ");
    let Metric { name, kind, when, help, .. } = metric;
    format!("| `{name}` | {} | {labels} | {} | {help} |\n", kind.words(), when.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the page is. Asked for when the test runs: a build may be kept while its checkout moves.
    fn path() -> std::path::PathBuf {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
        std::path::Path::new(&folder).join("../../docs/metrics.md")
    }

    #[test]
    fn the_page_is_what_the_registry_says() {
        if std::env::var_os("MAINSTAY_WRITE").is_some() {
            std::fs::write(path(), page()).expect("the page can be written");
        }
        let written = std::fs::read_to_string(path()).expect("docs/metrics.md is there");
        assert!(written == page(), "docs/metrics.md is old: run with MAINSTAY_WRITE=1");
    }

    #[test]
    fn no_metric_is_listed_twice() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
