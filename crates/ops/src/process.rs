//! Figures of the process itself, from the system and from tokio.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};

/// Ticks of a second in `/proc`: what Linux shows to programs on every platform.
const TICKS: f64 = 100.0;
const KIB: f64 = 1024.0;

/// Says that the process began.
pub(crate) fn started(version: &str, api_version: &str) {
    counter!("restarts", "service_name" => "server").increment(1);
    let labels = [("build_version", version.to_owned()), ("server_version", api_version.to_owned())];
    gauge!("build_information", &labels).set(1.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    gauge!("process_start_time_seconds").set(now);
}

/// Sets the gauges to what is true now. What the system does not tell stays away.
pub(crate) fn measure() {
    if let Some(status) = Status::read() {
        gauge!("memory_allocated").set(status.resident);
        gauge!("memory_heap").set(status.anonymous);
        gauge!("memory_heapinuse").set(status.anonymous);
        gauge!("memory_stack").set(status.stack);
        gauge!("process_resident_memory_bytes").set(status.resident);
        gauge!("process_threads").set(status.threads);
    }
    if let Some(seconds) = cpu_seconds() {
        // A gauge by its type, since counters are integers here; it only rises all the same.
        gauge!("process_cpu_seconds_total").set(seconds);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(files.count() as f64);
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        gauge!("num_goroutines").set(runtime.metrics().num_alive_tasks() as f64);
    }
}

#[derive(Default)]
struct Status {
    resident: f64,
    anonymous: f64,
    stack: f64,
    threads: f64,
}

impl Status {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/status").ok()?;
        let mut status = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let number = || value.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or_default();
            match name {
                "VmRSS" => status.resident = number() * KIB,
                "RssAnon" => status.anonymous = number() * KIB,
                "VmStk" => status.stack = number() * KIB,
                "Threads" => status.threads = number(),
                _ => {}
            }
        }
        Some(status)
    }
}

/// Of all threads, in user and in kernel mode.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is a name in parentheses, which may hold anything.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Some((field(11)? + field(12)?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let status = Status::read().expect("Linux tells");
        assert!(status.resident > 1e5 && status.threads >= 1.0);
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}
