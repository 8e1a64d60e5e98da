//! StartTimer and CancelTimer.

use mainstay_api::record::UserTimerRecord;
use mainstay_api::temporal::command::v1::{CancelTimerCommandAttributes, Command, StartTimerCommandAttributes};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_api::temporal::history::v1::{TimerCanceledEventAttributes, TimerStartedEventAttributes};
use mainstay_base::limits;

use super::{Checked, Completion, Rejection};
use crate::convert::nanos;
use crate::event::Attributes;
use crate::timers;

pub(super) fn start(c: &mut Completion<'_, '_>, command: &Command, a: &StartTimerCommandAttributes) -> Checked<()> {
    let bad = |text: String| Rejection::Bad(Cause::BadStartTimerAttributes, text);
    if a.timer_id.is_empty() {
        return Err(bad("TimerId is not set on StartTimerCommand.".into()));
    }
    check_length(Cause::BadStartTimerAttributes, "StartTimerCommand", &a.timer_id)?;
    let span = nanos(a.start_to_fire_timeout.as_ref());
    if span < 0 {
        let text = "An invalid StartToFireTimeout is set on StartTimerCommand: negative duration.";
        return Err(bad(format!("{text} TimerId={}", a.timer_id)));
    }
    if timers::pending(c.tx, c.run, &a.timer_id)?.is_some() {
        let text =
            format!("invalid history builder state for action: add-timer-started-event, TimerID: {}", a.timer_id);
        return Err(Rejection::Bad(Cause::StartTimerDuplicateId, text));
    }
    let attributes = TimerStartedEventAttributes {
        timer_id: a.timer_id.clone(),
        start_to_fire_timeout: a.start_to_fire_timeout,
        workflow_task_completed_event_id: c.completed_event_id,
    };
    let started_event_id = c.write(command, Attributes::TimerStartedEventAttributes(attributes));
    let due_ns = c.tx.now().saturating_add(span);
    timers::add(c.tx, c.run, &UserTimerRecord { timer_id: a.timer_id.clone(), started_event_id, due_ns });
    Ok(())
}

/// A timer whose firing the worker has not seen yet can still be cancelled: then it never fired.
pub(super) fn cancel(c: &mut Completion<'_, '_>, command: &Command, a: &CancelTimerCommandAttributes) -> Checked<()> {
    if a.timer_id.is_empty() {
        let text = "TimerId is not set on CancelTimerCommand.";
        return Err(Rejection::Bad(Cause::BadCancelTimerAttributes, text.into()));
    }
    check_length(Cause::BadCancelTimerAttributes, "CancelTimerCommand", &a.timer_id)?;
    let started_event_id = match timers::pending(c.tx, c.run, &a.timer_id)? {
        Some(pending) => {
            timers::remove_rows(c.tx, c.run, &pending);
            c.run.record.timer_count -= 1;
            pending.started_event_id
        }
        None => {
            let taken = c.run.take_buffered_fire(c.tx, &a.timer_id)?.ok_or_else(|| {
                let text = "invalid history builder state for action: add-timer-canceled-event";
                Rejection::Bad(Cause::BadCancelTimerAttributes, format!("{text}, TimerID: {}", a.timer_id))
            })?;
            c.unseen &= c.run.record.buffered_count > 0;
            taken
        }
    };
    let attributes = TimerCanceledEventAttributes {
        timer_id: a.timer_id.clone(),
        started_event_id,
        workflow_task_completed_event_id: c.completed_event_id,
        identity: c.identity.clone(),
    };
    c.write(command, Attributes::TimerCanceledEventAttributes(attributes));
    Ok(())
}

fn check_length(cause: Cause, command: &str, timer_id: &str) -> Checked<()> {
    let length = timer_id.chars().count();
    if length <= limits::ID_LENGTH_MAX {
        return Ok(());
    }
    let text = format!(
        "TimerId on {command} exceeds length limit. TimerId={timer_id} Length={length} Limit={}",
        limits::ID_LENGTH_MAX
    );
    Err(Rejection::Bad(cause, text))
}
