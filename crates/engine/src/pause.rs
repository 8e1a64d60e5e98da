//! PauseWorkflowExecution and UnpauseWorkflowExecution. (Reference §2.29.)
//!
//! A paused run stays open: signals, timers and answers of running activities are recorded, and a workflow task that a worker has may
//! complete. But nothing is dispatched: a workflow task that nobody took is ended, no activity starts. Unpausing makes up for all of it in
//! one transition. A request id is only compared with that of the pause that lasts. (Recorded of server 1.32.)

use mainstay_api::log::Reply;
use mainstay_api::record::{ActivityRecord, WorkflowPause};
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_api::temporal::history::v1::{
    WorkflowExecutionPausedEventAttributes, WorkflowExecutionUnpausedEventAttributes,
};
use mainstay_api::temporal::workflowservice::v1::{PauseWorkflowExecutionRequest, UnpauseWorkflowExecutionRequest};

use crate::event::Attributes;
use crate::run::Run;
use crate::store::Table;
use crate::transaction::Transaction;
use crate::{Answer, Error, activities, activity_operations, empty, workflow_task};

/// Whether nothing of the run may be dispatched.
pub(crate) fn is_paused(run: &Run) -> bool {
    run.record.status() == Status::Paused
}

pub(crate) fn pause(tx: &mut Transaction<'_>, request: &PauseWorkflowExecutionRequest) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &request.run_id)?;
    if let Some(pause) = &run.record.pause {
        let same = !request.request_id.is_empty() && pause.request_id == request.request_id;
        let refused = || Error::FailedPrecondition("workflow is already paused.".into());
        return if same { Ok(empty()) } else { Err(refused().into()) };
    }
    workflow_task::end_unstarted(tx, &mut run);
    let attributes = WorkflowExecutionPausedEventAttributes {
        identity: request.identity.clone(),
        reason: request.reason.clone(),
        request_id: request.request_id.clone(),
    };
    take_paused(&mut run, tx.now(), &attributes);
    run.add(tx, Attributes::WorkflowExecutionPausedEventAttributes(attributes));
    each_unstarted(tx, &run, |tx, run, activity| {
        activities::withdraw(tx, run, activity);
        activities::arm(tx, run, activity);
    })?;
    changed(tx, run)
}

pub(crate) fn unpause(tx: &mut Transaction<'_>, request: &UnpauseWorkflowExecutionRequest) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &request.run_id)?;
    if run.record.pause.is_none() {
        return Err(Error::FailedPrecondition("workflow is not paused.".into()).into());
    }
    let attributes = WorkflowExecutionUnpausedEventAttributes {
        identity: request.identity.clone(),
        reason: request.reason.clone(),
        request_id: request.request_id.clone(),
    };
    take_unpaused(&mut run);
    run.add(tx, Attributes::WorkflowExecutionUnpausedEventAttributes(attributes));
    each_unstarted(tx, &run, |tx, run, activity| {
        if activity.pause.is_none() {
            activity_operations::dispatch_at(tx, run, activity, activity.attempt_scheduled_ns);
        }
    })?;
    workflow_task::wake(tx, &mut run)?;
    changed(tx, run)
}

/// What the event means for the run; also when a history is read again.
pub(crate) fn take_paused(run: &mut Run, at: i64, event: &WorkflowExecutionPausedEventAttributes) {
    run.record.status = Status::Paused as i32;
    run.record.pause = Some(WorkflowPause {
        time_ns: at,
        identity: event.identity.clone(),
        reason: event.reason.clone(),
        request_id: event.request_id.clone(),
    });
}

pub(crate) fn take_unpaused(run: &mut Run) {
    run.record.status = Status::Running as i32;
    run.record.pause = None;
}

fn changed(tx: &mut Transaction<'_>, mut run: Run) -> Answer<Reply> {
    activity_operations::show_paused(tx, &mut run)?;
    run.mark_listed();
    run.make_current(tx);
    run.save(tx);
    Ok(empty())
}

fn each_unstarted<'a>(
    tx: &mut Transaction<'a>,
    run: &Run,
    change: impl Fn(&mut Transaction<'a>, &Run, &mut ActivityRecord),
) -> Answer<()> {
    for mut activity in tx.scan_records::<ActivityRecord>(Table::Activity, run.id)? {
        if activity.started_ns == 0 {
            change(tx, run, &mut activity);
            activities::put(tx, run, &activity);
        }
    }
    Ok(())
}
