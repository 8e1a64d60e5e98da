//! A gRPC channel over the simulated network: one HTTP/2 connection, opened when needed, to the next node when one does not answer.
//!
//! Every failure of the wire is UNAVAILABLE, whichever layer noticed it: a caller can tell what the server said from what
//! happened on the way.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_runtime::{HyperExecutor, HyperTimer, SimRuntime, trace};
use tokio::sync::Mutex;
use tonic::Status;
use tonic::body::Body;

use crate::wire_mutant;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// One connection to a frontend; clones share it.
#[derive(Clone)]
pub struct Channel {
    addresses: Arc<[SocketAddr]>,
    /// Which of them is tried next.
    turn: Arc<AtomicUsize>,
    connection: Arc<Mutex<Option<SendRequest<Body>>>>,
}

fn unavailable(what: &str, error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("{what}: {error}"))
}

impl Channel {
    /// Connects on the first call.
    #[must_use]
    pub fn new(addresses: &[SocketAddr], first: usize) -> Self {
        Self { addresses: addresses.into(), turn: Arc::new(AtomicUsize::new(first)), connection: Arc::default() }
    }

    async fn sender(&self) -> Result<SendRequest<Body>, Status> {
        let mut connection = self.connection.lock().await;
        if let Some(sender) = connection.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = self.addresses[turn % self.addresses.len()];
        let connecting = SimRuntime::timeout(CONNECT_TIMEOUT, SimRuntime::connect(address)).await;
        let stream = connecting.map_err(|e| unavailable("connect", e))?.map_err(|e| unavailable("connect", e))?;
        let mut http = Builder::new(HyperExecutor);
        http.timer(HyperTimer).keep_alive_interval(KEEP_ALIVE_INTERVAL).keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        let handshake = http.keep_alive_while_idle(true).handshake(TokioIo::new(stream)).await;
        let (sender, driver) = handshake.map_err(|e| unavailable("handshake", e))?;
        drop(SimRuntime::spawn(async move {
            let ended = driver.await;
            trace::event(format!("connection ended: {ended:?}"));
        }));
        *connection = Some(sender.clone());
        Ok(sender)
    }
}

impl Channel {
    /// Sends one request.
    pub(crate) async fn send(self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let mut sender = self.sender().await?;
        sender.ready().await.map_err(|e| unavailable("connection", e))?;
        let response = sender.send_request(request).await.map_err(|e| unavailable("call", e))?;
        Ok(response.map(|body| Body::new(body.map_err(|e| unavailable("answer", e)))))
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let channel = self.clone();
        match wire_mutant::chosen() {
            Some(mutant) => Box::pin(wire_mutant::call(channel, mutant, request)),
            None => Box::pin(channel.send(request)),
        }
    }
}
