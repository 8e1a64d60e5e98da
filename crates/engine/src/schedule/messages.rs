//! What schedules and the workflows that they start tell each other: each message as its receiver sees it.
//!
//! A run keeps who waits for its close, and each run of a chain hands that on to the next; the last one reports.

use mainstay_api::record::{
    EntityMessage, MessageOutcome, ScheduleStop, ScheduledBy, ScheduledClosed, ScheduledStarted, StartScheduled,
    StopScheduled, child_closed::Close, entity_message::Body, message_outcome::Outcome,
};
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{
    WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use mainstay_api::temporal::workflowservice::v1::{
    RequestCancelWorkflowExecutionRequest, TerminateWorkflowExecutionRequest,
};

use crate::convert::given;
use crate::messages::{self, Address, Sender, done};
use crate::run::Run;
use crate::start::{self, Existing, Policies};
use crate::transaction::Transaction;
use crate::{Answer, ScheduleNote, Stop, cancellation, workflow_task};

use super::Schedule;

impl Schedule {
    /// Puts a message to a workflow into the outbox.
    pub(super) fn send(&self, tx: &mut Transaction<'_>, workflow_id: &str, body: Body) {
        let namespace_id = tx.entity.namespace_id.clone();
        let to = Address { namespace_id: &namespace_id, workflow_id, initiated_event_id: 0 };
        let from = Sender { run_id: &self.record.run_id };
        messages::send_from(tx, &from, &to, body);
    }
}

/// At the workflow: begin.
pub(crate) fn start_workflow(tx: &mut Transaction<'_>, message: &StartScheduled) -> Answer<MessageOutcome> {
    let request = given(&message.request);
    let policies = Policies { reuse: Reuse::AllowDuplicate, conflict: Conflict::Fail };
    let id = tx.new_run_id();
    let run_id = match start::resolve(tx, &request.request_id, &policies) {
        Ok(Existing::Repeated(run, _)) => run.record.run_id.clone(),
        // Another workflow has the id: the action is dropped.
        Err(Stop::Refused(_)) => return Ok(done()),
        Err(broken) => return Err(broken),
        Ok(_) => {
            let mut run = start::new_run(tx, &request, id, false);
            run.record.scheduled_by = message.by.clone();
            run.make_current(tx);
            workflow_task::wake(tx, &mut run)?;
            run.save(tx);
            id.to_string()
        }
    };
    Ok(MessageOutcome { outcome: Some(Outcome::ScheduledStarted(ScheduledStarted { run_id })) })
}

/// At the workflow: make way. The chain's current run is meant.
pub(crate) fn stop_workflow(tx: &mut Transaction<'_>, message: &StopScheduled) -> Answer<MessageOutcome> {
    let execution = WorkflowExecution { workflow_id: tx.entity.workflow_id.clone(), run_id: String::new() };
    match message.stop() {
        ScheduleStop::Unspecified => {}
        ScheduleStop::Cancel => {
            let request = RequestCancelWorkflowExecutionRequest {
                workflow_execution: Some(execution),
                first_execution_run_id: message.first_run_id.clone(),
                reason: "cancelled by schedule overlap policy".into(),
                identity: message.identity.clone(),
                ..RequestCancelWorkflowExecutionRequest::default()
            };
            cancellation::request_cancel(tx, &request)?;
        }
        ScheduleStop::Terminate => {
            let request = TerminateWorkflowExecutionRequest {
                workflow_execution: Some(execution),
                first_execution_run_id: message.first_run_id.clone(),
                reason: "terminated by schedule overlap policy".into(),
                identity: message.identity.clone(),
                ..TerminateWorkflowExecutionRequest::default()
            };
            cancellation::terminate(tx, &request)?;
        }
    }
    Ok(done())
}

/// At the workflow: the last run of a chain closed. Tells the schedule that waits for it, if one does.
pub(crate) fn report(tx: &mut Transaction<'_>, run: &Run, by: ScheduledBy, status: Status, close: &Close) {
    let (result, failure) = match close {
        Close::Completed(attributes) => (attributes.result.clone(), None),
        Close::Failed(attributes) => (None, attributes.failure.clone()),
        _ => (None, None),
    };
    let entity_id = by.entity_id.clone();
    let namespace_id = tx.entity.namespace_id.clone();
    let to = Address { namespace_id: &namespace_id, workflow_id: &entity_id, initiated_event_id: 0 };
    let closed = ScheduledClosed { by: Some(by), status: status as i32, result, failure };
    messages::send(tx, run, &to, Body::ScheduledClosed(closed));
}

/// At the schedule: a workflow that it waits for closed.
pub(crate) fn workflow_closed(tx: &mut Transaction<'_>, closed: &ScheduledClosed) -> Answer<MessageOutcome> {
    let by = given(&closed.by);
    let Some(mut schedule) = alive(tx, &by.schedule_run_id)? else { return Ok(done()) };
    schedule.closed(by.number, closed);
    schedule.go_on(tx)?;
    schedule.save(tx);
    Ok(done())
}

/// At the schedule: what came of a start.
pub(crate) fn start_answered(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    start: &StartScheduled,
    outcome: &Outcome,
) -> Answer<()> {
    let Some(mut schedule) = alive(tx, &message.source_run_id)? else { return Ok(()) };
    let run_id = match outcome {
        Outcome::ScheduledStarted(started) => Some(started.run_id.as_str()),
        _ => None,
    };
    if run_id.is_none() {
        tx.note_schedule(ScheduleNote::ActionFailed);
    }
    schedule.start_answered(tx.now(), start.number, run_id);
    schedule.go_on(tx)?;
    schedule.save(tx);
    Ok(())
}

/// The schedule of the entity at hand, in the life that a message belongs to.
fn alive(tx: &Transaction<'_>, run_id: &str) -> Answer<Option<Schedule>> {
    Ok(Schedule::find(tx)?.filter(|schedule| !schedule.is_closed() && schedule.record.run_id == run_id))
}
