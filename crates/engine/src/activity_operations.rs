//! What people do to pending activities from outside: pause, unpause, reset, and change of options. (Reference §2.6.)
//!
//! None of it writes an event: history shows what workflow code decided, and these are decisions of operators. A running attempt is
//! never taken from its worker; it learns from its next heartbeat what was asked. An attempt that nobody took loses its task row, or
//! gets a new one. One command names one activity, all of a type, or all; it applies to each of them or to none.

use std::collections::BTreeSet;

use mainstay_api::log::{
    OperateActivities, Reply, operate_activities as log, operate_activities::Operation, operate_activities::Which,
    reply,
};
use mainstay_api::record::{ActivityPause, ActivityRecord};
use mainstay_api::temporal::activity::v1::ActivityOptions;
use mainstay_api::temporal::common::v1::{Priority, RetryPolicy};
use mainstay_api::temporal::enums::v1::TaskQueueKind;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;

use crate::activities::{self, Described, Timeouts};
use crate::convert::{duration, given, nanos};
use crate::field_mask::Mask;
use crate::retry;
use crate::run::Run;
use crate::store::Table;
use crate::transaction::Transaction;
use crate::{Answer, Error, empty, reply_of, search_attributes};

const NO_SUCH_ACTIVITY: &str =
    "Can't find pending activity with such ID. Invalid activityID or activity already completed";

/// Applies one operation to the activities that it names.
pub(crate) fn operate(tx: &mut Transaction<'_>, command: &OperateActivities) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &command.run_id)?;
    let mut reply = empty();
    let mut shows = false;
    for mut activity in chosen(tx, &run, command.which.as_ref())? {
        let was_paused = activity.pause.is_some();
        match &command.operation {
            Some(Operation::Pause(how)) => pause(tx, &run, &mut activity, how, &command.identity)?,
            Some(Operation::Unpause(how)) => unpause(tx, &run, &mut activity, how),
            Some(Operation::Reset(how)) => reset(tx, &run, &mut activity, how),
            Some(Operation::UpdateOptions(how)) => {
                let options = update_options(tx, &run, &mut activity, how)?;
                reply = reply_of(reply::Reply::ActivityOptions(options));
            }
            None => return Err(Error::Unimplemented("this operation is of a newer version".into()).into()),
        }
        shows |= activity.pause.is_some() != was_paused;
        activities::put(tx, &run, &activity);
    }
    if shows {
        // As recorded: a paused activity that ends is listed until another is paused or unpaused.
        show_paused(tx, &mut run)?;
    }
    run.save(tx);
    Ok(reply)
}

/// The pending activities that a command names, at least one.
fn chosen(tx: &Transaction<'_>, run: &Run, which: Option<&Which>) -> Answer<Vec<ActivityRecord>> {
    let found = match which {
        Some(Which::Id(id)) => activities::by_id(tx, run, id)?.into_iter().collect(),
        Some(Which::Type(kind)) => {
            let mut all: Vec<ActivityRecord> = tx.scan_records(Table::Activity, run.id)?;
            all.retain(|activity| activity.activity_type == *kind);
            all
        }
        Some(Which::All(true)) => tx.scan_records(Table::Activity, run.id)?,
        Some(Which::All(false)) | None => Vec::new(),
    };
    if found.is_empty() { Err(Error::not_found(NO_SUCH_ACTIVITY).into()) } else { Ok(found) }
}

/// Lists what is paused, the run or types of activities, in the run's search attributes.
pub(crate) fn show_paused(tx: &Transaction<'_>, run: &mut Run) -> Answer<()> {
    let all: Vec<ActivityRecord> = tx.scan_records(Table::Activity, run.id)?;
    let kinds = all.iter().filter(|a| a.pause.is_some()).map(|a| a.activity_type.as_str());
    let kinds: BTreeSet<&str> = kinds.collect();
    let mut paused: Vec<String> = kinds.into_iter().map(|kind| format!("property:activityType={kind}")).collect();
    if let Some(pause) = &run.record.pause {
        paused.push(format!("Workflow:{}", tx.entity.workflow_id));
        paused.push(format!("Reason:{}", pause.reason));
    }
    search_attributes::set_paused(tx, run, &paused);
    Ok(())
}

fn pause(
    tx: &mut Transaction<'_>,
    run: &Run,
    activity: &mut ActivityRecord,
    how: &log::Pause,
    identity: &str,
) -> Answer<()> {
    if let Some(pause) = &activity.pause {
        let same = !how.request_id.is_empty() && pause.request_id == how.request_id;
        return if same { Ok(()) } else { Err(Error::FailedPrecondition("activity is already paused".into()).into()) };
    }
    activity.pause = Some(ActivityPause {
        time_ns: tx.now(),
        identity: identity.to_string(),
        reason: how.reason.clone(),
        request_id: how.request_id.clone(),
    });
    if activity.started_ns == 0 {
        activities::withdraw(tx, run, activity);
    }
    activities::arm(tx, run, activity);
    Ok(())
}

fn unpause(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord, how: &log::Unpause) {
    if activity.pause.take().is_none() {
        return;
    }
    if how.reset_attempts {
        activity.attempt = 1;
    }
    if how.reset_heartbeat {
        forget_heartbeat(activity);
    }
    if activity.started_ns == 0 {
        dispatch_within(tx, run, activity, how.jitter_ns);
    }
}

/// This attempt counts as the first again. A running one goes on; if it was another than the first, its token no longer fits.
fn reset(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord, how: &log::Reset) {
    activity.attempt = 1;
    activities::withdraw(tx, run, activity);
    if !how.keep_paused {
        activity.pause = None;
    }
    if how.restore_options
        && let Some(original) = activity.original_options.clone()
    {
        set_options(activity, &original);
    }
    if activity.started_ns != 0 {
        activity.was_reset = true;
        activity.reset_heartbeat |= how.reset_heartbeat;
        activities::arm(tx, run, activity);
        return;
    }
    if how.reset_heartbeat {
        forget_heartbeat(activity);
    }
    if activity.pause.is_none() {
        dispatch_within(tx, run, activity, how.jitter_ns);
    }
}

pub(crate) fn forget_heartbeat(activity: &mut ActivityRecord) {
    activity.heartbeat_details = None;
    activity.last_heartbeat_ns = 0;
}

/// Makes an attempt that nobody took dispatchable, now or at a random moment within `jitter`.
fn dispatch_within(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord, jitter: i64) {
    let wait = tx.prng.below(u64::try_from(jitter).unwrap_or(0)) as i64;
    dispatch_at(tx, run, activity, tx.now().saturating_add(wait));
}

pub(crate) fn dispatch_at(tx: &mut Transaction<'_>, run: &Run, activity: &mut ActivityRecord, at: i64) {
    activities::withdraw(tx, run, activity);
    // It counts as dispatched anew; why its last attempt failed is not kept.
    activity.last_failure = None;
    activity.attempt_scheduled_ns = at.max(tx.now());
    if at <= tx.now() {
        activities::dispatch(tx, run, activity);
    }
    activities::arm(tx, run, activity);
}

/// Changes options; what waits for a worker or for its retry waits anew by the new ones.
fn update_options(
    tx: &mut Transaction<'_>,
    run: &Run,
    activity: &mut ActivityRecord,
    how: &log::UpdateOptions,
) -> Answer<ActivityOptions> {
    let changed = if how.restore_original {
        let mut original = activity.original_options.clone().unwrap_or_else(|| options(activity));
        original.task_queue = original.task_queue.map(|queue| TaskQueue { kind: 0, ..queue });
        original
    } else {
        let mut merged = options(activity);
        merge(&mut merged, &given(&how.options), &Mask::of(how.mask.as_ref()))?;
        adjusted(activity, merged)?
    };
    activity.original_options.get_or_insert(options(activity));
    let at = if activities::is_backing_off(run, activity) { activity.attempt_scheduled_ns } else { tx.now() };
    // Its task row is in the queue of the old options.
    activities::withdraw(tx, run, activity);
    set_options(activity, &changed);
    if activity.started_ns != 0 || activities::is_held(run, activity) {
        activities::arm(tx, run, activity);
    } else if activity.attempt > 1 {
        // By the attempt to come, as with the reference server: one step longer than the first time, and also for one that waits for a
        // worker already.
        let interval = retry::interval(&given(&activity.retry_policy), activity.attempt);
        dispatch_at(tx, run, activity, activity.last_attempt_complete_ns.saturating_add(interval));
    } else {
        dispatch_at(tx, run, activity, at);
    }
    Ok(changed)
}

/// The options as they are now.
fn options(activity: &ActivityRecord) -> ActivityOptions {
    let queue = activity.task_queue.clone();
    ActivityOptions {
        task_queue: Some(TaskQueue { name: queue, kind: TaskQueueKind::Normal as i32, ..TaskQueue::default() }),
        schedule_to_close_timeout: duration(activity.schedule_to_close_ns),
        schedule_to_start_timeout: duration(activity.schedule_to_start_ns),
        start_to_close_timeout: duration(activity.start_to_close_ns),
        heartbeat_timeout: duration(activity.heartbeat_ns),
        retry_policy: activity.retry_policy.clone().map(without_error_types),
        priority: activity.priority.clone(),
        ..ActivityOptions::default()
    }
}

/// A retry policy as descriptions and operators see it: which errors are final is not theirs to see or change.
pub(crate) fn without_error_types(policy: RetryPolicy) -> RetryPolicy {
    RetryPolicy { non_retryable_error_types: Vec::new(), ..policy }
}

fn set_options(activity: &mut ActivityRecord, options: &ActivityOptions) {
    activity.task_queue.clone_from(&given(&options.task_queue).name);
    activity.schedule_to_close_ns = nanos(options.schedule_to_close_timeout.as_ref());
    activity.schedule_to_start_ns = nanos(options.schedule_to_start_timeout.as_ref());
    activity.start_to_close_ns = nanos(options.start_to_close_timeout.as_ref());
    activity.heartbeat_ns = nanos(options.heartbeat_timeout.as_ref());
    let final_errors = activity.retry_policy.take().unwrap_or_default().non_retryable_error_types;
    let policy = options.retry_policy.clone();
    activity.retry_policy = policy.map(|policy| RetryPolicy { non_retryable_error_types: final_errors, ..policy });
    activity.priority.clone_from(&options.priority);
}

/// Takes from `from` the fields that the mask names; other names mean nothing.
fn merge(into: &mut ActivityOptions, from: &ActivityOptions, mask: &Mask) -> Answer<()> {
    let missing = |what: &str| Error::invalid(format!("{what} is not provided"));
    if mask.has("task_queue.name") || mask.has("task_queue") {
        let queue = from.task_queue.as_ref().ok_or_else(|| missing("TaskQueue"))?;
        into.task_queue.get_or_insert_default().name.clone_from(&queue.name);
    }
    for (name, into, from) in [
        ("schedule_to_close_timeout", &mut into.schedule_to_close_timeout, &from.schedule_to_close_timeout),
        ("schedule_to_start_timeout", &mut into.schedule_to_start_timeout, &from.schedule_to_start_timeout),
        ("start_to_close_timeout", &mut into.start_to_close_timeout, &from.start_to_close_timeout),
        ("heartbeat_timeout", &mut into.heartbeat_timeout, &from.heartbeat_timeout),
    ] {
        if mask.has(name) {
            *into = *from;
        }
    }
    if mask.has_under("retry_policy") {
        let from = from.retry_policy.as_ref().ok_or_else(|| missing("RetryPolicy"))?;
        merge_retry_policy(into.retry_policy.get_or_insert_default(), from, mask);
    }
    if mask.has_under("priority") {
        merge_priority(&mut into.priority, from.priority.as_ref(), mask);
    }
    Ok(())
}

fn merge_retry_policy(into: &mut RetryPolicy, from: &RetryPolicy, mask: &Mask) {
    if mask.has("retry_policy") {
        into.clone_from(from);
    }
    if mask.has("retry_policy.initial_interval") {
        into.initial_interval = from.initial_interval;
    }
    if mask.has("retry_policy.backoff_coefficient") {
        into.backoff_coefficient = from.backoff_coefficient;
    }
    if mask.has("retry_policy.maximum_interval") {
        into.maximum_interval = from.maximum_interval;
    }
    if mask.has("retry_policy.maximum_attempts") {
        into.maximum_attempts = from.maximum_attempts;
    }
}

/// Takes a priority, or the fields of it that the mask names.
pub(crate) fn merge_priority(into: &mut Option<Priority>, from: Option<&Priority>, mask: &Mask) {
    if mask.has("priority") {
        *into = from.cloned();
    }
    let from = from.cloned().unwrap_or_default();
    if mask.has("priority.priority_key") {
        into.get_or_insert_default().priority_key = from.priority_key;
    }
    if mask.has("priority.fairness_key") {
        into.get_or_insert_default().fairness_key = from.fairness_key;
    }
    if mask.has("priority.fairness_weight") {
        into.get_or_insert_default().fairness_weight = from.fairness_weight;
    }
}

/// Checks merged options as those of a command are checked, and fills and caps them.
fn adjusted(activity: &ActivityRecord, mut options: ActivityOptions) -> Answer<ActivityOptions> {
    let timeouts = Timeouts {
        schedule_to_close: nanos(options.schedule_to_close_timeout.as_ref()),
        schedule_to_start: nanos(options.schedule_to_start_timeout.as_ref()),
        start_to_close: nanos(options.start_to_close_timeout.as_ref()),
        heartbeat: nanos(options.heartbeat_timeout.as_ref()),
    };
    let described = Described {
        id: &activity.activity_id,
        kind: &activity.activity_type,
        task_queue: &given(&options.task_queue).name,
        retry_policy: options.retry_policy.as_ref(),
        timeouts,
    };
    described.check().map_err(Error::InvalidArgument)?;
    let timeouts = timeouts.normalised(0);
    options.schedule_to_close_timeout = duration(timeouts.schedule_to_close);
    options.schedule_to_start_timeout = duration(timeouts.schedule_to_start);
    options.start_to_close_timeout = duration(timeouts.start_to_close);
    options.heartbeat_timeout = duration(timeouts.heartbeat);
    options.retry_policy = Some(retry::with_defaults(options.retry_policy.as_ref()));
    Ok(options)
}
