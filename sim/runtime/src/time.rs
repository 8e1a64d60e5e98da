//! Monotonic time as each node sees it: an integer of its own that may run fast or slow against true (simulated) time.
//!
//! Timers follow the node's clock. A sleep lasts at least one millisecond, as on tokio.

use std::fmt;
use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::{trace, world};

const MILLION: i128 = 1_000_000;

/// A moment of the monotonic clock of the node that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimInstant(u64);

impl openraft_rt::Instant for SimInstant {
    fn now() -> Self {
        let elapsed = trace::now().as_nanos() as i128;
        // An hour of past: code may subtract from an early moment.
        let hour = 3_600_000_000_000;
        Self((hour + elapsed + elapsed * i128::from(world::drift_ppm()) / MILLION) as u64)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for SimInstant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

impl Sub<Duration> for SimInstant {
    type Output = Self;
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(span)))
    }
}

impl SubAssign<Duration> for SimInstant {
    fn sub_assign(&mut self, span: Duration) {
        *self = *self - span;
    }
}

impl Sub for SimInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// How much true time passes while the current node's clock shows `span`.
fn true_span(span: Duration) -> Duration {
    // Far deadlines are cut: the world ends long before, and an addition must not overflow.
    let span = span.min(Duration::from_secs(100 * 365 * 86_400)).as_nanos() as i128;
    let span = span * MILLION / (MILLION + i128::from(world::drift_ppm()));
    Duration::from_nanos(span as u64)
}

/// Waits. Unlike madsim's own, it arms one timer however often it is polled, and wakes nobody once it is dropped: most deadlines are
/// given up before they pass, and a task that ended is freed then, not at its last deadline.
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    inner: madsim::time::Sleep,
    armed: Option<Arc<Alarm>>,
}

/// Who is to be woken by an armed timer.
#[derive(Default)]
struct Alarm(Mutex<Option<Waker>>);

impl Alarm {
    fn set(&self, waker: Option<Waker>) -> Option<Waker> {
        std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), waker)
    }

    fn wakes(&self, waker: &Waker) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(|own| own.will_wake(waker))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        if let Some(waker) = self.set(None) {
            waker.wake();
        }
    }
}

impl Sleep {
    /// A span of the current node's clock from now.
    pub fn of(span: Duration) -> Self {
        Self { inner: madsim::time::sleep(true_span(span)), armed: None }
    }

    /// To a moment of the current node's clock.
    pub fn until(deadline: SimInstant) -> Self {
        Self::of(deadline - <SimInstant as openraft_rt::Instant>::now())
    }

    /// An exact span of true time, also below a millisecond: hardware is not bound to a timer's grain.
    pub(crate) fn exact(span: Duration) -> Self {
        let mut inner = madsim::time::sleep(span);
        let deadline = madsim::time::TimeHandle::current().now_instant() + span;
        Pin::new(&mut inner).reset(deadline);
        Self { inner, armed: None }
    }
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.inner.is_elapsed() {
            return Poll::Ready(());
        }
        if let Some(alarm) = &self.armed {
            if !alarm.wakes(context.waker()) {
                drop(alarm.set(Some(context.waker().clone())));
            }
            return Poll::Pending;
        }
        let alarm = Arc::new(Alarm(Mutex::new(Some(context.waker().clone()))));
        self.armed = Some(alarm.clone());
        Pin::new(&mut self.inner).poll(&mut Context::from_waker(&Waker::from(alarm)))
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(alarm) = self.armed.take() {
            drop(alarm.set(None));
        }
    }
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

pin_project_lite::pin_project! {
    /// A future with a deadline. The future is asked first.
    pub struct Timeout<F> {
        #[pin]
        pub(crate) future: F,
        pub(crate) sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(context) {
            return Poll::Ready(Ok(value));
        }
        Pin::new(this.sleep).poll(context).map(|()| Err(Elapsed))
    }
}
