//! What nodes wrote during the load, out of their metrics: entries of the log, its bytes, and how often it was made durable.

use std::fmt;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Counters of one node, or their growth.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counters {
    entries: f64,
    bytes: f64,
    fsyncs: f64,
}

/// What each node wrote, by the address of its metrics.
#[derive(Debug, Default)]
pub struct Writes {
    nodes: Vec<(String, Counters)>,
    workflows: usize,
}

/// The counters of all nodes as they are now.
pub(crate) struct Before(Vec<(String, Counters)>);

/// Reads the counters of the nodes whose metrics are at these addresses.
///
/// # Errors
/// If one does not answer, as a sentence.
pub(crate) async fn begin(addresses: &[String]) -> Result<Before, String> {
    let mut nodes = Vec::new();
    for address in addresses {
        nodes.push((address.clone(), counters(&scrape(address).await?)));
    }
    Ok(Before(nodes))
}

/// How far they have grown since, while so many workflows ran.
///
/// # Errors
/// As [`begin`].
pub(crate) async fn end(before: Before, workflows: usize) -> Result<Writes, String> {
    let mut nodes = Vec::new();
    for (address, before) in before.0 {
        let now = counters(&scrape(&address).await?);
        let grown = Counters {
            entries: now.entries - before.entries,
            bytes: now.bytes - before.bytes,
            fsyncs: now.fsyncs - before.fsyncs,
        };
        nodes.push((address, grown));
    }
    Ok(Writes { nodes, workflows })
}

async fn scrape(address: &str) -> Result<String, String> {
    let failed = |error: &dyn fmt::Display| format!("metrics at {address}: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let driven = tokio::spawn(connection);
    let request = Request::get("/metrics").header(header::HOST, address).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| failed(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(|error| failed(&error))?;
    driven.abort();
    if status != StatusCode::OK {
        return Err(failed(&status));
    }
    Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
}

fn counters(text: &str) -> Counters {
    Counters {
        entries: sum(text, "mainstay_apply_entries_total"),
        bytes: sum(text, "mainstay_log_written_bytes_total"),
        fsyncs: sum(text, "mainstay_log_fsyncs_total"),
    }
}

/// The sum of a counter over all of its labels.
fn sum(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let labels_end = rest.rfind('}').map_or(0, |at| at + 1);
        (rest.starts_with(['{', ' '])).then(|| rest[labels_end..].split_whitespace().next()?.parse::<f64>().ok())?
    });
    values.sum()
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.workflows.max(1) as f64;
        for (address, Counters { entries, bytes, fsyncs }) in &self.nodes {
            let [entries, bytes, fsyncs] = [entries / each, bytes / each, fsyncs / each];
            writeln!(
                f,
                "log        {entries:.2} entries, {bytes:.0} bytes, {fsyncs:.3} fsyncs per workflow: {address}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_their_labels() {
        let text = "# TYPE mainstay_apply_entries_total counter\n\
                    mainstay_apply_entries_total 7\n\
                    mainstay_log_written_bytes_total{disk=\"a} b\"} 5\n\
                    mainstay_log_written_bytes_total{disk=\"c\"} 6.5 1700000000\n\
                    mainstay_log_fsyncs_total_of_others 9\n";
        assert_eq!(counters(text), Counters { entries: 7.0, bytes: 11.5, fsyncs: 0.0 });
    }

    #[test]
    fn what_was_written_is_told_by_workflow() {
        let grown = Counters { entries: 30.0, bytes: 2_000.0, fsyncs: 5.0 };
        let writes = Writes { nodes: vec![("a:1".into(), grown)], workflows: 10 };
        assert_eq!(writes.to_string(), "log        3.00 entries, 200 bytes, 0.500 fsyncs per workflow: a:1\n");
    }
}
