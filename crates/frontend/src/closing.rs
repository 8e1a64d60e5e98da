//! The signal that the server is going: accepting ends, long polls answer empty, connections say goodbye.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use mainstay_runtime::{Select2, select2};
use tokio::sync::Notify;

/// Shared by everything that waits. Once begun it stays so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closing(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: AtomicBool,
    notify: Notify,
}

impl Closing {
    /// Tells all that wait.
    pub(crate) fn begin(&self) {
        self.0.begun.store(true, Ordering::Release);
        self.0.notify.notify_waiters();
    }

    /// Returns when the server begins to stop.
    pub(crate) async fn begun(&self) {
        let mut notified = pin!(self.0.notify.notified());
        // Registered before the flag is read, so that no signal falls between.
        notified.as_mut().enable();
        if !self.0.begun.load(Ordering::Acquire) {
            notified.await;
        }
    }

    /// Runs a future to its end; none if the server begins to stop before that.
    pub(crate) fn unless<T>(&self, work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        either(work, self.begun())
    }
}

/// What the first future gives, or none if the second is ready before it. The first is always asked first.
pub(crate) fn either<T>(
    work: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> impl Future<Output = Option<T>> {
    select2(work, end).map(|first| match first {
        Select2::First(result) => Some(result),
        Select2::Second(()) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_ends_when_closing_begins_before_or_after() {
        let closing = Closing::default();
        assert_eq!(closing.unless(async { 1 }).await, Some(1));
        let waiter = tokio::spawn({
            let closing = closing.clone();
            async move { closing.unless(std::future::pending::<()>()).await }
        });
        tokio::task::yield_now().await;
        closing.begin();
        assert_eq!(waiter.await.unwrap(), None);
        assert_eq!(closing.unless(std::future::pending::<()>()).await, None);
    }
}
