//! The routes: `/metrics`, `/livez`, `/readyz`, `/healthz`, `/version`.
//!
//! A process that answers lives; it is ready when its host says so. `/healthz` is the older name of `/readyz`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::process;
use crate::recorder::Recorder;

/// How often histograms are put in order if nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Who is asked.
pub trait Host: Send + Sync + 'static {
    /// Sets gauges that are only set when somebody looks. May block for some milliseconds.
    fn measure(&self);

    /// Whether the server can do its work now.
    fn readiness(&self) -> Pin<Box<dyn Future<Output = Readiness> + Send + '_>>;

    /// What runs.
    fn version(&self) -> Version;
}

/// Whether a server can do its work, and why not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// All that was looked at.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: String,
    /// What is wrong with it; none if nothing is.
    pub problem: Option<String>,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Mainstay's own.
    pub version: &'static str,
    /// Of the Temporal server whose API it speaks.
    pub server_version: &'static str,
}

#[derive(Clone)]
struct Ops {
    recorder: Recorder,
    host: Arc<dyn Host>,
}

/// Serves on a socket until `stop` is ready.
///
/// # Errors
/// If the socket cannot be served.
pub async fn serve(
    listener: tokio::net::TcpListener,
    recorder: Recorder,
    host: Arc<dyn Host>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let version = host.version();
    process::started(version.version, version.server_version);
    let upkeep = tokio::spawn(keep_up(recorder.clone()));
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { text(StatusCode::OK, "ok\n") }))
        .route("/readyz", get(ready))
        .route("/healthz", get(ready))
        .route("/version", get(version_of))
        .with_state(Ops { recorder, host });
    let served = axum::serve(listener, router);
    let ended = served.with_graceful_shutdown(stop).await;
    upkeep.abort();
    ended
}

async fn keep_up(recorder: Recorder) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        let recorder = recorder.clone();
        // Away from the async workers: there may be much to put in order.
        let _ = tokio::task::spawn_blocking(move || recorder.upkeep()).await;
    }
}

async fn metrics(State(ops): State<Ops>) -> Response {
    let rendered = tokio::task::spawn_blocking(move || {
        ops.host.measure();
        process::measure();
        ops.recorder.render()
    });
    match rendered.await {
        Ok(body) => ([(header::CONTENT_TYPE, PROMETHEUS)], body).into_response(),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be rendered\n"),
    }
}

async fn ready(State(ops): State<Ops>, RawQuery(query): RawQuery) -> Response {
    let readiness = ops.host.readiness().await;
    let is_ready = readiness.checks.iter().all(|check| check.problem.is_none());
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
    text(status, &told(&readiness, is_ready, verbose))
}

fn told(readiness: &Readiness, is_ready: bool, verbose: bool) -> String {
    let mut lines = String::new();
    for check in &readiness.checks {
        match &check.problem {
            None if verbose => lines += &format!("[+] {} ok\n", check.name),
            None => {}
            Some(problem) => lines += &format!("[-] {}: {problem}\n", check.name),
        }
    }
    lines + if is_ready { "ready\n" } else { "not ready\n" }
}

async fn version_of(State(ops): State<Ops>) -> Response {
    let Version { version, server_version } = ops.host.version();
    let body = format!("{{\"name\":\"mainstay\",\"version\":\"{version}\",\"serverVersion\":\"{server_version}\"}}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn text(status: StatusCode, body: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body.to_owned()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_always_and_the_rest_when_asked() {
        let check = |name: &str, problem: Option<&str>| Check { name: name.into(), problem: problem.map(Into::into) };
        let readiness = Readiness { checks: vec![check("a", None), check("b", Some("no leader"))] };
        assert_eq!(told(&readiness, false, false), "[-] b: no leader\nnot ready\n");
        assert_eq!(told(&readiness, false, true), "[+] a ok\n[-] b: no leader\nnot ready\n");
        assert_eq!(told(&Readiness::default(), true, true), "ready\n");
    }
}
