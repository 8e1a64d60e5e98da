//! Nothing fires before its time: true time, less the tolerance that clocks are allowed.
//!
//! A worker cannot see the server's moment; but a timer is wanted no later than its request is sent, and it fired no later than a
//! worker is told.

use std::time::Duration;

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
use mainstay_sim_runtime::trace;

use crate::ledger::Ledger;
use crate::violation::{Invariant, hold};

/// What a clock may be ahead of true time.
pub const TOLERANCE: Duration = Duration::from_millis(500);

/// Holds the timers that a worker is shown as fired against the moments when they were wanted.
///
/// # Panics
/// If one fired early.
pub fn timers(ledger: &Ledger, execution: &WorkflowExecution, events: &[HistoryEvent]) {
    let promises = ledger.promises();
    for event in events {
        let Some(Event::TimerFiredEventAttributes(fired)) = event.attributes.as_ref() else { continue };
        let key = (execution.run_id.clone(), fired.timer_id.clone());
        let Some(due) = promises.timers.get(&key) else { continue };
        let early = due.saturating_sub(trace::now() + promises.tolerance);
        hold(early.is_zero(), Invariant::NeverEarly, || {
            format!("timer {} of {execution:?} fired {early:?} before {due:?}, tolerance included", fired.timer_id)
        });
    }
}
