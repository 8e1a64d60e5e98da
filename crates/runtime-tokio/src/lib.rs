//! The runtime seam on tokio: its timers, its tasks, its sockets, the system's clock and randomness.
//!
//! Everything that openraft knows how to ask for goes to openraft's own tokio adapter; this crate adds what a node needs beyond
//! it. Waits for the disk run on tokio's blocking threads: a round trip through them costs some 18 µs (10 more than through a
//! thread of our own), little beside the fsync, and a slow flush never holds up a sync. It knows no node, no store and no
//! configuration.

mod net;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mainstay_base::Timestamp;
use mainstay_runtime::{AsyncRuntime, OptionalSend, Runtime};
use openraft_rt_tokio::TokioRuntime as Inner;

pub use net::Listener;

/// A multi-threaded tokio. Also the marker type through which code inside it reaches it.
#[derive(Debug)]
pub struct TokioRuntime(Inner);

impl AsyncRuntime for TokioRuntime {
    type JoinError = <Inner as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Inner as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Inner as AsyncRuntime>::Sleep;
    type Instant = <Inner as AsyncRuntime>::Instant;
    type TimeoutError = <Inner as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Inner as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Inner as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <Inner as AsyncRuntime>::Mpsc;
    type Watch = <Inner as AsyncRuntime>::Watch;
    type Oneshot = <Inner as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Inner as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Inner::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Inner::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Inner::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Inner::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Inner::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Inner::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Inner::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(Inner::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    async fn spawn_blocking<F, T>(operation: F) -> io::Result<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        tokio::task::spawn_blocking(operation).await.map_err(io::Error::other)
    }
}

impl Runtime for TokioRuntime {
    type Stream = tokio::net::TcpStream;
    type Listener = Listener;

    async fn bind(address: SocketAddr) -> io::Result<Listener> {
        Listener::bind(address)
    }

    fn local_address(listener: &Listener) -> io::Result<SocketAddr> {
        listener.local_address()
    }

    async fn accept(listener: &mut Listener) -> io::Result<(Self::Stream, SocketAddr)> {
        Ok(listener.accept().await)
    }

    async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host(address).await?.collect())
    }

    async fn connect(address: SocketAddr) -> io::Result<Self::Stream> {
        net::connect(address).await
    }

    fn wall_clock() -> Timestamp {
        let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
        };
        Timestamp::from_nanos(nanos)
    }

    fn random() -> u128 {
        let mut bytes = [0; 16];
        if let Err(error) = getrandom::fill(&mut bytes) {
            Self::fatal(&format!("the system gives no random bytes: {error}"));
        }
        u128::from_ne_bytes(bytes)
    }

    async fn disk<T, F>(operation: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match tokio::task::spawn_blocking(operation).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and so is whoever waits here.
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Aborts: nothing more may reach the disk, not even through destructors at exit.
    fn fatal(reason: &str) -> ! {
        eprintln!("mainstay: fatal: {reason}");
        std::process::abort()
    }
}
