//! What hyper needs to live on the simulated runtime: tasks and timers.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use crate::Sleep;

/// Spawns hyper's tasks on the current node.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperExecutor;

impl<F> hyper::rt::Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(madsim::task::spawn(future));
    }
}

/// Times hyper's keep-alives. `Instant` is the simulated one: madsim answers for the system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl hyper::rt::Sleep for Sleep {}

impl hyper::rt::Timer for HyperTimer {
    fn sleep(&self, span: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep::of(span))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}
