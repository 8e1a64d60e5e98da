//! Waiting for the first of two things.
//!
//! openraft's own `select2` is an async block, which keeps each of its futures twice: as it was given and as it is awaited. Nested
//! three deep, as a poll is, that made 150 kB to be moved about for each call. This one holds them in place.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use openraft_rt::Select2;
use pin_project_lite::pin_project;

pin_project! {
    /// See [`select2`].
    pub struct Selecting<A, B> {
        #[pin]
        first: A,
        #[pin]
        second: B,
    }
}

/// The result of what is ready first; of `first`, if both are. The other one is dropped with this future.
pub fn select2<A: Future, B: Future>(first: A, second: B) -> Selecting<A, B> {
    Selecting { first, second }
}

impl<A: Future, B: Future> Future for Selecting<A, B> {
    type Output = Select2<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(result) = this.first.poll(context) {
            return Poll::Ready(Select2::First(result));
        }
        this.second.poll(context).map(Select2::Second)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::Waker;

    use super::*;

    fn poll<A: Future<Output = i32>, B: Future<Output = i32>>(first: A, second: B) -> Option<(bool, i32)> {
        match std::pin::pin!(select2(first, second)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Select2::First(result)) => Some((true, result)),
            Poll::Ready(Select2::Second(result)) => Some((false, result)),
            Poll::Pending => None,
        }
    }

    #[test]
    fn the_first_is_asked_first() {
        assert_eq!(poll(ready(1), ready(2)), Some((true, 1)));
        assert_eq!(poll(pending(), ready(2)), Some((false, 2)));
        assert_eq!(poll(pending(), pending()), None);
    }

    #[test]
    fn it_is_no_larger_than_what_it_waits_for() {
        let large = || async {
            let bytes = [0u8; 10_000];
            pending::<()>().await;
            assert_eq!(bytes[0], 0);
        };
        let selecting = select2(large(), large());
        assert!(size_of_val(&selecting) < 20_100, "{}", size_of_val(&selecting));
    }
}
