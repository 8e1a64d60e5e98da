//! Connections: HTTP/1.1, and HTTP/2 for clients that begin with it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use crate::call::Backend;
use crate::handler::Handler;
use crate::{Config, handler};

/// Connections that are served at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;
/// A client that has not sent a request's head in this time is dropped.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failed accept (too many open files) the loop rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const STREAMS_MAX: u32 = 256;
const HEADER_LIST_SIZE_MAX: u32 = 64 << 10;

/// Serves until `stop` is ready; then what is open may end within `Config::shutdown_timeout`.
pub async fn serve<B: Backend>(listener: TcpListener, backend: B, config: Config, stop: impl Future<Output = ()>) {
    let shutdown_timeout = config.shutdown_timeout;
    let handler = Handler::new(backend, config);
    let (stopping, stopped) = watch::channel(false);
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut stop = pin!(stop);
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { break };
        let stream = tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => {
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (handler, stopped, open) = (handler.clone(), stopped.clone(), open.clone());
        tokio::spawn(async move {
            converse(stream, handler, stopped).await;
            drop((permit, open));
        });
    }
    drop((listener, open));
    let _ = stopping.send(true);
    let _ = timeout(shutdown_timeout, all_closed.recv()).await;
}

async fn converse<B: Backend>(stream: TcpStream, handler: Handler<B>, mut stopped: watch::Receiver<bool>) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_SIZE_MAX);
    let service = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<handler::Answer, Infallible>(handler.handle(request).await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    // Errors of a connection are the client's affair.
    tokio::select! {
        biased;
        () = asked(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        _ = connection.as_mut() => {}
    }
}

async fn asked(stopped: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the server.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
