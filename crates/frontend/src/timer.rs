//! hyper's view of time and tasks, made from the runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay_runtime::{Instant, Runtime};

/// Spawns hyper's tasks and gives it time.
///
/// hyper wants `std`'s instants. It gets an origin plus what the runtime's clock says has passed since: only differences are
/// ever used, so the origin's own value means nothing and the runtime's clock stays the only one.
#[derive(Debug)]
pub(crate) struct Host<R: Runtime> {
    origin: std::time::Instant,
    begun: R::Instant,
}

impl<R: Runtime> Clone for Host<R> {
    fn clone(&self) -> Self {
        Self { origin: self.origin, begun: self.begun }
    }
}

impl<R: Runtime> Host<R> {
    pub(crate) fn new() -> Self {
        Self { origin: std::time::Instant::now(), begun: R::Instant::now() }
    }
}

impl<R, F> hyper::rt::Executor<F> for Host<R>
where
    R: Runtime,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(R::spawn(task));
    }
}

impl<R: Runtime> hyper::rt::Timer for Host<R> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Mutex::new(Box::pin(R::sleep(duration)))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> std::time::Instant {
        self.origin + self.begun.elapsed()
    }
}

/// The mutex only makes it `Sync`; it is never contended.
struct Sleep<F>(Mutex<Pin<Box<F>>>);

impl<F: Future<Output = ()>> Future for Sleep<F> {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context)
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Sleep for Sleep<F> {}
