//! The seam through which everything above the state machines reaches the world: time, network, disk waits, randomness, tasks.
//!
//! One adapter runs on tokio, another on the simulator; the code between knows neither. It extends openraft's `AsyncRuntime`
//! (spawn, sleep, channels, locks). An adapter's `Instant` is an integer type of its own, so that a clock can drift.

mod select;

pub use openraft_rt::{AsyncRuntime, Instant, OptionalSend, Select2};
pub use select::{Selecting, select2};

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use mainstay_base::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};

/// What the host gives to a node.
pub trait Runtime: AsyncRuntime<JoinError: Send> + Send + Sync + Sized + 'static {
    /// A connected byte stream.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// A listening socket.
    type Listener: Send + Sync + 'static;

    /// Listens; port 0 picks a free one.
    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;
    /// Where a listener listens.
    fn local_address(listener: &Self::Listener) -> io::Result<SocketAddr>;
    /// The next connection.
    fn accept(listener: &mut Self::Listener) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
    /// The socket addresses that `host:port` stands for. Without names of its own a runtime knows only addresses in digits.
    fn resolve(address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        let parsed = address.parse().map(|address| vec![address]);
        async move { parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error)) }
    }
    /// Connects, without a time-out of its own.
    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The wall clock of this node. May jump; only proposals are stamped with it.
    fn wall_clock() -> Timestamp;
    /// 128 random bits, for seeds and ids. Never used inside apply.
    fn random() -> u128;

    /// Runs something that waits for the disk (an fsync, a flush) away from the async workers.
    fn disk<T, F>(operation: F) -> impl Future<Output = T> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static;

    /// Stops this node at once: it can no longer keep its promises (a failed fsync, a corrupt record).
    fn fatal(reason: &str) -> !;
}
