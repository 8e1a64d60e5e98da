//! Every task that a run spawned, so that what is left of them goes when the run ends.
//!
//! A task that waits for what it holds itself the other end of is held by nobody else, and would never be dropped: tokio drops what is
//! left when it stops, madsim does not. A process that runs thousands of seeds would keep them all.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

/// The future of a task, which goes before the task does if the run ends.
pub(crate) struct Held<F>(Mutex<Option<Pin<Box<F>>>>);

trait Ends: Send + Sync {
    fn end(&self);
}

impl<F: Send> Ends for Held<F> {
    fn end(&self) {
        let future = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(future);
    }
}

thread_local! {
    static LEFT: RefCell<Vec<Weak<dyn Ends>>> = const { RefCell::new(Vec::new()) };
}

/// A future that [`end_all`] ends.
pub(crate) struct Task<F>(Arc<Held<F>>);

impl<F: Send + 'static> Task<F> {
    pub fn new(future: F) -> Self {
        let held = Arc::new(Held(Mutex::new(Some(Box::pin(future)))));
        let weak: Weak<dyn Ends> = Arc::downgrade(&held) as Weak<dyn Ends>;
        LEFT.with_borrow_mut(|left| {
            // Now and then, when it would grow.
            if left.len() == left.capacity() {
                left.retain(|task| task.strong_count() > 0);
            }
            left.push(weak);
        });
        Self(held)
    }
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match &mut *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

/// Ends all tasks of this thread's run.
pub(crate) fn end_all() {
    for task in LEFT.take().iter().filter_map(Weak::upgrade) {
        task.end();
    }
}
