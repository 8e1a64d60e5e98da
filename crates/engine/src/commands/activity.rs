//! ScheduleActivityTask and RequestCancelActivityTask.

use mainstay_api::log::ActivityTaskStarted;
use mainstay_api::temporal::command::v1::{Command, ScheduleActivityTaskCommandAttributes};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_api::temporal::history::v1::{
    ActivityTaskCancelRequestedEventAttributes, ActivityTaskScheduledEventAttributes,
};

use super::{Checked, Completion, Rejection, check_pending, size_of};
use crate::activities::{self, Described, Timeouts};
use crate::convert::{duration, json_payloads, nanos};
use crate::event::Attributes;
use crate::retry;
use crate::run::Run;
use crate::transaction::Transaction;
use crate::workflow_task::normal_queue;

const NOT_STARTED: &str = "\"ACTIVITY_ID_NOT_STARTED\"";

fn bad(text: impl Into<String>) -> Rejection {
    Rejection::Bad(Cause::BadScheduleActivityAttributes, text.into())
}

pub(super) fn schedule(
    c: &mut Completion<'_, '_>,
    command: &Command,
    a: &ScheduleActivityTaskCommandAttributes,
) -> Checked<()> {
    validate(a)?;
    c.check_size(
        Cause::BadScheduleActivityAttributes,
        size_of(a.input.as_ref()),
        "ScheduleActivityTaskCommandAttributes.Input",
    )?;
    check_pending(c.run.record.activity_count, "activities", Cause::PendingActivitiesLimitExceeded)?;
    if activities::by_id(c.tx, c.run, &a.activity_id)?.is_some() {
        let text = format!(
            "invalid history builder state for action: add-activitytask-scheduled-event, ActivityID: {}",
            a.activity_id
        );
        return Err(Rejection::Bad(Cause::ScheduleActivityDuplicateId, text));
    }
    let queue = a.task_queue.as_ref().map(|q| q.name.clone()).unwrap_or_default();
    let timeouts = timeouts(a).normalised(c.run.record.run_timeout_ns);
    let policy = retry::with_defaults(a.retry_policy.as_ref());
    let attributes = ActivityTaskScheduledEventAttributes {
        activity_id: a.activity_id.clone(),
        activity_type: a.activity_type.clone(),
        task_queue: normal_queue(&queue),
        header: a.header.clone(),
        input: a.input.clone(),
        schedule_to_close_timeout: duration(timeouts.schedule_to_close),
        schedule_to_start_timeout: duration(timeouts.schedule_to_start),
        start_to_close_timeout: duration(timeouts.start_to_close),
        heartbeat_timeout: duration(timeouts.heartbeat),
        workflow_task_completed_event_id: c.completed_event_id,
        retry_policy: Some(policy),
        priority: a.priority.clone(),
        ..ActivityTaskScheduledEventAttributes::default()
    };
    let mut activity = activities::scheduled(c.tx.now(), &attributes);
    activity.scheduled_event_id = c.write(command, Attributes::ActivityTaskScheduledEventAttributes(attributes));
    if a.request_eager_execution {
        c.eager.push(activity.scheduled_event_id);
    } else {
        activities::dispatch(c.tx, c.run, &mut activity);
        activities::arm(c.tx, c.run, &mut activity);
    }
    activities::add(c.tx, c.run, &activity);
    Ok(())
}

/// Starts the activities that their worker asked for, once all its commands are done: those that are still there. (Recorded.)
pub(super) fn start_eager(
    tx: &mut Transaction<'_>,
    run: &Run,
    scheduled: Vec<i64>,
    identity: &str,
) -> Checked<Vec<ActivityTaskStarted>> {
    let mut all = Vec::with_capacity(scheduled.len());
    for scheduled_event_id in scheduled {
        let Some(mut activity) = activities::by_event(tx, run, scheduled_event_id)? else { continue };
        let request_id = tx.prng.request_id().to_string();
        activities::start(tx, run, &mut activity, identity, &request_id);
        let mut started = activities::describe_started(tx, run, &activity)?;
        // What is not dispatched has no use for the workflow's priority. (Recorded.)
        started.response.get_or_insert_default().priority.clone_from(&activity.priority);
        activities::put(tx, run, &activity);
        all.push(started);
    }
    Ok(all)
}

fn timeouts(a: &ScheduleActivityTaskCommandAttributes) -> Timeouts {
    Timeouts {
        schedule_to_close: nanos(a.schedule_to_close_timeout.as_ref()),
        schedule_to_start: nanos(a.schedule_to_start_timeout.as_ref()),
        start_to_close: nanos(a.start_to_close_timeout.as_ref()),
        heartbeat: nanos(a.heartbeat_timeout.as_ref()),
    }
}

fn validate(a: &ScheduleActivityTaskCommandAttributes) -> Checked<()> {
    let described = Described {
        id: &a.activity_id,
        kind: a.activity_type.as_ref().map(|t| t.name.as_str()).unwrap_or_default(),
        task_queue: a.task_queue.as_ref().map(|q| q.name.as_str()).unwrap_or_default(),
        retry_policy: a.retry_policy.as_ref(),
        timeouts: timeouts(a),
    };
    described.check().map_err(bad)
}

/// An activity that nobody took is cancelled at once; a running one learns it from its next heartbeat.
pub(super) fn request_cancel(c: &mut Completion<'_, '_>, command: &Command, scheduled_event_id: i64) -> Checked<()> {
    let bad = |text: String| Rejection::Bad(Cause::BadRequestCancelActivityAttributes, text);
    if scheduled_event_id == 0 {
        return Err(bad("ScheduledEventId is not set on RequestCancelActivityTaskCommand.".into()));
    }
    let found = activities::by_event(c.tx, c.run, scheduled_event_id)?;
    let again = found.as_ref().is_some_and(|activity| activity.cancel_requested);
    if again || (found.is_none() && !c.run.has_buffered_close(c.tx, scheduled_event_id)?) {
        return Err(bad(format!(
            "invalid history builder state for action: add-activitytask-cancel-requested-event, ScheduledEventID: {scheduled_event_id}"
        )));
    }
    let attributes = ActivityTaskCancelRequestedEventAttributes {
        scheduled_event_id,
        workflow_task_completed_event_id: c.completed_event_id,
    };
    let event_id = c.write(command, Attributes::ActivityTaskCancelRequestedEventAttributes(attributes));
    let Some(mut activity) = found else { return Ok(()) };
    activity.cancel_requested = true;
    activity.cancel_requested_event_id = event_id;
    if activity.started_ns != 0 {
        activities::put(c.tx, c.run, &activity);
        return Ok(());
    }
    let details = json_payloads(NOT_STARTED);
    let attributes = activities::canceled_attributes(&activity, 0, Some(details), &c.identity);
    c.run.buffer(c.tx, Attributes::ActivityTaskCanceledEventAttributes(attributes));
    activities::forget(c.tx, c.run, activity);
    c.wake = true;
    Ok(())
}
