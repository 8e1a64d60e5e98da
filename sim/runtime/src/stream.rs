//! Byte streams over madsim's network, with every byte in the trace.
//!
//! madsim sends an empty packet for each flush of an empty buffer. HTTP/2 flushes whenever it is polled, so two peers would wake
//! each other for ever; a stream therefore flushes only after a write. Half-closed connections do not exist here.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use madsim::net::{TcpListener, TcpStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::trace::{self, Way};
use crate::world;

/// What a reset of the connection reaches of one of its ends.
#[derive(Debug, Default)]
pub(crate) struct Line {
    broken: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Line {
    /// The end finds its connection reset.
    pub(crate) fn cut(&self) {
        self.broken.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.wake();
        }
    }

    fn check(&self) -> io::Result<()> {
        if self.broken.load(Ordering::Relaxed) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

/// One end of a simulated connection.
pub struct Stream {
    inner: TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    /// Whether something was written since the last flush.
    dirty: bool,
    line: Arc<Line>,
}

impl Stream {
    fn new(inner: TcpStream) -> io::Result<Self> {
        let (local, peer) = (inner.local_addr()?, inner.peer_addr()?);
        let line = Arc::default();
        world::opened(&line);
        Ok(Self { inner, local, peer, dirty: false, line })
    }

    /// Connects; a partition refuses at once.
    ///
    /// # Errors
    /// If nobody listens there, or no link is up.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.check()?;
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if polled.is_pending() {
            *self.line.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        }
        if polled.is_ready() {
            let bytes = &buffer.filled()[filled..];
            trace::wire(self.local, self.peer, if bytes.is_empty() { Way::Closed } else { Way::Read }, bytes);
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line.check()?;
        self.dirty = true;
        trace::wire(self.local, self.peer, Way::Written, bytes);
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::take(&mut self.dirty) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// A listening socket of a simulated node.
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on an address of the current node.
    ///
    /// # Errors
    /// If the address is taken or is another node's.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self(TcpListener::bind(address).await?))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Never.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next connection.
    ///
    /// # Errors
    /// If the node is gone.
    pub async fn accept(&mut self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = self.0.accept().await?;
        Ok((Stream::new(stream)?, peer))
    }
}
