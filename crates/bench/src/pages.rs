//! How long pages of the web interface take on what the server holds, without the time of a browser: each asked many times, one after the
//! other.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Options;

/// A page is asked this often, but not longer than [`ASKED_FOR`].
const TIMES: usize = 50;
const ASKED_FOR: Duration = Duration::from_secs(10);

/// One page and its answers.
#[derive(Debug)]
struct Answers {
    path: String,
    bytes: usize,
    /// Ascending.
    took: Vec<Duration>,
}

/// What the server needed for pages.
#[derive(Debug, Default)]
pub struct Pages(Vec<Answers>);

/// Asks for all pages of the interface at this address.
pub(crate) async fn measure(address: &str, options: &Options) -> Result<Pages, String> {
    let namespace = format!("/namespaces/{}", options.namespace);
    let kind = crate::load::workflow_type(options, 0);
    let paths = [
        "/namespaces".to_string(),
        "/cluster".to_string(),
        format!("{namespace}/workflows"),
        format!("{namespace}/workflows?query=WorkflowType%3D%27{kind}%27%20AND%20ExecutionStatus%3D%27Completed%27"),
        format!("{namespace}/workflows?query=ExecutionStatus%3D%27Running%27"),
        format!("{namespace}/workflows?query=TaskQueue%3D%27none%27"),
        format!("{namespace}/counts"),
        format!("{namespace}/schedules"),
        format!("{namespace}/batches"),
        format!("{namespace}/task-queues"),
    ];
    let stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driven = tokio::spawn(connection);
    let mut all = Vec::new();
    for path in paths {
        all.push(ask(&mut sender, address, path).await?);
    }
    driven.abort();
    Ok(Pages(all))
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, address: &str, path: String) -> Result<Answers, String> {
    let mut answers = Answers { path, bytes: 0, took: Vec::new() };
    let began = Instant::now();
    while answers.took.len() < TIMES && began.elapsed() < ASKED_FOR {
        let request = Request::get(&answers.path).header(header::HOST, address).body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        sender.ready().await.map_err(|error| format!("{}: {error}", answers.path))?;
        let asked = Instant::now();
        let answer = sender.send_request(request).await.map_err(|error| format!("{}: {error}", answers.path))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| format!("{}: {error}", answers.path))?;
        answers.took.push(asked.elapsed());
        answers.bytes = body.to_bytes().len();
        if status != StatusCode::OK {
            return Err(format!("{}: {status}", answers.path));
        }
    }
    answers.took.sort_unstable();
    Ok(answers)
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Answers { path, bytes, took } in &self.0 {
            let [p50, p99] = [500, 990].map(|per_mille| crate::report::quantile_ms(took, per_mille));
            writeln!(f, "page   p50 {p50:8.2} ms, p99 {p99:8.2} ms, {bytes:7} bytes: {path}")?;
        }
        Ok(())
    }
}
