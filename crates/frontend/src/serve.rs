//! Connections: accepting them, speaking HTTP/2 on each, and letting them go.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use tokio::sync::mpsc;
use tonic::body::Body;

use crate::Config;
use crate::closing::{Closing, either};
use crate::router::Router;
use crate::timer::Host;
use crate::transport::expect_http2;

/// A client that does not finish HTTP/2's preface in this time is dropped.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(20);
/// After a failed accept (too many open files) the loop rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const HEADER_LIST_SIZE_MAX: u32 = 64 << 10;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Serves until `stop` is ready; then long polls answer empty, clients are told to go, and what is left is dropped after
/// `Config::shutdown_timeout`.
pub async fn serve<R, S>(listener: R::Listener, service: S, config: Config, stop: impl Future<Output = ()> + Send)
where
    R: Runtime,
    S: Service,
{
    serve_router::<R, S>(listener, Router::new(service, config), stop).await;
}

/// As [`serve`], for a router that others call as well.
pub async fn serve_router<R, S>(listener: R::Listener, router: Router<R, S>, stop: impl Future<Output = ()> + Send)
where
    R: Runtime,
    S: Service,
{
    let Config { shutdown_timeout, streams_max, .. } = *router.config();
    let (closing, over) = (router.closing().clone(), Closing::default());
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let connections = Connections { router, closing: closing.clone(), over: over.clone(), streams_max, open };
    let _ = either(accept_all(listener, connections), stop).await;
    closing.begin();
    let _ = either(all_closed.recv(), R::sleep(shutdown_timeout)).await;
    over.begin();
}

/// What every connection needs. Each holds a sender: the channel ends when the last connection has.
struct Connections<R: Runtime, S: Service> {
    router: Router<R, S>,
    /// Finish what is open.
    closing: Closing,
    /// Drop what is open.
    over: Closing,
    streams_max: u32,
    open: mpsc::Sender<Infallible>,
}

impl<R: Runtime, S: Service> Clone for Connections<R, S> {
    fn clone(&self) -> Self {
        Self {
            router: self.router.clone(),
            closing: self.closing.clone(),
            over: self.over.clone(),
            streams_max: self.streams_max,
            open: self.open.clone(),
        }
    }
}

async fn accept_all<R: Runtime, S: Service>(mut listener: R::Listener, connections: Connections<R, S>) {
    loop {
        let Ok((stream, _peer)) = R::accept(&mut listener).await else {
            R::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let connections = connections.clone();
        drop(R::spawn(async move {
            let over = connections.over.clone();
            over.unless(converse(stream, connections)).await;
        }));
    }
}

async fn converse<R: Runtime, S: Service>(stream: R::Stream, connections: Connections<R, S>) {
    let Connections { router, closing, streams_max, open, .. } = connections;
    let preface = either(expect_http2(stream), R::sleep(PREFACE_TIMEOUT));
    let Some(Some(Ok(Some(stream)))) = closing.unless(preface).await else { return };
    let host = Host::<R>::new();
    let connection = http2::Builder::new(host.clone())
        .timer(host)
        .auto_date_header(false)
        .keep_alive_interval(Some(KEEP_ALIVE_INTERVAL))
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(streams_max)
        .max_header_list_size(HEADER_LIST_SIZE_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(stream), Exchange(router));
    let mut connection = pin!(connection);
    // Errors of a connection are the client's affair: it went away, or does not speak HTTP/2.
    if closing.unless(connection.as_mut()).await.is_none() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
    drop(open);
}

/// One connection's requests.
struct Exchange<R: Runtime, S: Service>(Router<R, S>);

impl<R: Runtime, S: Service> hyper::service::Service<http::Request<Incoming>> for Exchange<R, S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let router = self.0.clone();
        Box::pin(async move { Ok(router.handle(request.map(Body::new)).await) })
    }
}
