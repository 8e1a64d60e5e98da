//! The [`Runtime`] trait on madsim: what a simulated node sees of the world.
//!
//! Channels are tokio's, which need no runtime, but for the watch channel: tokio's picks its wake-up order with a generator that
//! is global to the process, so openraft's simulated one stands in. Blocking work runs inline: there is one thread.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mainstay_base::Timestamp;
use mainstay_runtime::{AsyncRuntime, OptionalSend, Runtime};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot};

use crate::tasks::Task;
use crate::{Elapsed, Listener, SimInstant, Sleep, Stream, Timeout, world};

/// The simulated world as a runtime.
#[derive(Debug)]
pub struct SimRuntime;

/// Random numbers out of the run's seed.
pub struct Rng(madsim::rand::GlobalRng);

impl rand::TryRng for Rng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(rand08::RngCore::next_u32(&mut self.0))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(rand08::RngCore::next_u64(&mut self.0))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rand08::RngCore::fill_bytes(&mut self.0, bytes);
        Ok(())
    }
}

impl AsyncRuntime for SimRuntime {
    type JoinError = madsim::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = madsim::task::JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = Rng;
    type Mpsc = TokioMpsc;
    type Watch = openraft_rt_sim::SimWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        madsim::task::spawn(Task::new(future))
    }

    fn sleep(span: Duration) -> Sleep {
        Sleep::of(span)
    }

    fn sleep_until(deadline: SimInstant) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(span: Duration, future: F) -> Timeout<F> {
        Timeout { future, sleep: Sleep::of(span) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: SimInstant, future: F) -> Timeout<F> {
        Timeout { future, sleep: Sleep::until(deadline) }
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Rng {
        Rng(madsim::rand::thread_rng())
    }

    fn new(_threads: usize) -> Self {
        Self
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        madsim::runtime::Runtime::new().block_on(future)
    }

    async fn spawn_blocking<F, T>(operation: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(operation())
    }
}

impl Runtime for SimRuntime {
    type Stream = Stream;
    type Listener = Listener;

    async fn bind(address: SocketAddr) -> io::Result<Listener> {
        Listener::bind(address).await
    }

    fn local_address(listener: &Listener) -> io::Result<SocketAddr> {
        listener.local_address()
    }

    async fn accept(listener: &mut Listener) -> io::Result<(Stream, SocketAddr)> {
        listener.accept().await
    }

    async fn connect(address: SocketAddr) -> io::Result<Stream> {
        Stream::connect(address).await
    }

    fn wall_clock() -> Timestamp {
        world::wall_clock()
    }

    fn random() -> u128 {
        madsim::rand::random()
    }

    /// Half of the drawn time passes before and half after: a crash between finds the work done and nobody told.
    async fn disk<T, F>(operation: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let delay = world::disk_delay();
        Sleep::exact(delay / 2).await;
        let done = operation();
        Sleep::exact(delay / 2).await;
        done
    }

    fn fatal(reason: &str) -> ! {
        world::fatal(reason)
    }
}
