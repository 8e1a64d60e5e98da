//! Signals and cancel requests from one workflow to another: the pending item of the sender, and what the target does.
//! (Reference §2.8, §2.16.)

use mainstay_api::record::{
    CancelExternal, EntityMessage, ExternalRecord, MessageOutcome, SignalExternal, entity_message::Body,
    message_outcome::Outcome,
};
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{
    CancelExternalWorkflowExecutionFailedCause as CancelCause,
    SignalExternalWorkflowExecutionFailedCause as SignalCause,
};
use mainstay_api::temporal::history::v1::{
    ExternalWorkflowExecutionCancelRequestedEventAttributes, ExternalWorkflowExecutionSignaledEventAttributes,
    RequestCancelExternalWorkflowExecutionFailedEventAttributes,
    RequestCancelExternalWorkflowExecutionInitiatedEventAttributes as CancelInitiated,
    SignalExternalWorkflowExecutionFailedEventAttributes,
    SignalExternalWorkflowExecutionInitiatedEventAttributes as SignalInitiated,
};
use mainstay_base::limits;

use crate::cancellation::{self, CancelRequest};
use crate::convert::given;
use crate::event::Attributes;
use crate::messages::{self, Address, done, is_child_of, open_run};
use crate::run::Run;
use crate::signals::{self, Signal};
use crate::store::{MessageId, Table};
use crate::transaction::{Transaction, numbered};
use crate::workflow_task;
use crate::{Answer, Stop, lifecycle};

// What the sender does.

/// Sends the signal that an Initiated event describes.
#[allow(deprecated)]
pub(crate) fn send_signal(tx: &mut Transaction<'_>, run: &mut Run, initiated_event_id: i64, a: &SignalInitiated) {
    let execution = given(&a.workflow_execution);
    let signal = SignalExternal {
        run_id: execution.run_id.clone(),
        signal_name: a.signal_name.clone(),
        input: a.input.clone(),
        header: a.header.clone(),
        request_id: tx.prng.request_id().to_string(),
        control: a.control.clone(),
        child_workflow_only: a.child_workflow_only,
    };
    send(tx, run, &execution.workflow_id, initiated_event_id, Body::SignalExternal(signal));
    run.record.external_signal_count += 1;
}

/// Sends the cancel request that an Initiated event describes.
pub(crate) fn send_cancel(tx: &mut Transaction<'_>, run: &mut Run, initiated_event_id: i64, a: &CancelInitiated) {
    let execution = given(&a.workflow_execution);
    let cancel = CancelExternal {
        run_id: execution.run_id.clone(),
        request_id: tx.prng.request_id().to_string(),
        reason: a.reason.clone(),
        child_workflow_only: a.child_workflow_only,
    };
    send(tx, run, &execution.workflow_id, initiated_event_id, Body::CancelExternal(cancel));
    run.record.external_cancel_count += 1;
}

fn send(tx: &mut Transaction<'_>, run: &Run, workflow_id: &str, initiated_event_id: i64, body: Body) {
    let cancel = matches!(body, Body::CancelExternal(_));
    let namespace_id = tx.entity.namespace_id.clone();
    let to = Address { namespace_id: &namespace_id, workflow_id, initiated_event_id };
    let sequence = messages::send(tx, run, &to, body);
    let pending = ExternalRecord { initiated_event_id, sequence, cancel };
    tx.put(numbered(Table::External, run.id, initiated_event_id), &pending);
}

/// Drops what a closing run has not heard the outcome of: what was not delivered yet never is, as with the reference server.
pub(crate) fn drop_pending(tx: &mut Transaction<'_>, run: &mut Run) -> Answer<()> {
    for pending in tx.scan_records::<ExternalRecord>(Table::External, run.id)? {
        let id = MessageId { source_slot: tx.slot(), sequence: pending.sequence };
        tx.remove_message(id);
        tx.delete(numbered(Table::External, run.id, pending.initiated_event_id));
    }
    run.record.external_signal_count = 0;
    run.record.external_cancel_count = 0;
    Ok(())
}

/// The run whose item was answered, if it still waits for that; the item is removed.
fn answered(tx: &mut Transaction<'_>, message: &EntityMessage) -> Answer<Option<Run>> {
    let Some(mut run) = open_run(tx, &message.source_run_id)? else { return Ok(None) };
    let row = numbered(Table::External, run.id, message.initiated_event_id);
    let Some(pending) = tx.get::<ExternalRecord>(&row)? else { return Ok(None) };
    tx.delete(row);
    let count =
        if pending.cancel { &mut run.record.external_cancel_count } else { &mut run.record.external_signal_count };
    *count -= 1;
    Ok(Some(run))
}

fn record(tx: &mut Transaction<'_>, mut run: Run, attributes: Attributes) -> Answer<()> {
    run.add(tx, attributes);
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(())
}

#[allow(deprecated)]
pub(crate) fn signal_answered(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    signal: &SignalExternal,
    outcome: &Outcome,
) -> Answer<()> {
    let Some(run) = answered(tx, message)? else { return Ok(()) };
    let namespace = tx.namespace()?.name.clone();
    let target = WorkflowExecution { workflow_id: message.workflow_id.clone(), run_id: signal.run_id.clone() };
    let attributes = if let Outcome::SignalFailed(cause) = outcome {
        Attributes::SignalExternalWorkflowExecutionFailedEventAttributes(
            SignalExternalWorkflowExecutionFailedEventAttributes {
                cause: *cause,
                workflow_task_completed_event_id: 0,
                namespace,
                namespace_id: message.namespace_id.clone(),
                workflow_execution: Some(target),
                initiated_event_id: message.initiated_event_id,
                control: signal.control.clone(),
            },
        )
    } else {
        Attributes::ExternalWorkflowExecutionSignaledEventAttributes(ExternalWorkflowExecutionSignaledEventAttributes {
            initiated_event_id: message.initiated_event_id,
            namespace,
            namespace_id: message.namespace_id.clone(),
            workflow_execution: Some(target),
            control: signal.control.clone(),
        })
    };
    record(tx, run, attributes)
}

pub(crate) fn cancel_answered(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    cancel: &CancelExternal,
    outcome: &Outcome,
) -> Answer<()> {
    let Some(run) = answered(tx, message)? else { return Ok(()) };
    let namespace = tx.namespace()?.name.clone();
    let target = WorkflowExecution { workflow_id: message.workflow_id.clone(), run_id: cancel.run_id.clone() };
    let attributes = if let Outcome::CancelFailed(cause) = outcome {
        Attributes::RequestCancelExternalWorkflowExecutionFailedEventAttributes(
            RequestCancelExternalWorkflowExecutionFailedEventAttributes {
                cause: *cause,
                namespace,
                namespace_id: message.namespace_id.clone(),
                workflow_execution: Some(target),
                initiated_event_id: message.initiated_event_id,
                ..RequestCancelExternalWorkflowExecutionFailedEventAttributes::default()
            },
        )
    } else {
        Attributes::ExternalWorkflowExecutionCancelRequestedEventAttributes(
            ExternalWorkflowExecutionCancelRequestedEventAttributes {
                initiated_event_id: message.initiated_event_id,
                namespace,
                namespace_id: message.namespace_id.clone(),
                workflow_execution: Some(target),
            },
        )
    };
    record(tx, run, attributes)
}

// What the target does.

/// The run that is meant. A workflow cannot mean itself.
fn target(tx: &Transaction<'_>, message: &EntityMessage, run_id: &str) -> Answer<Option<Run>> {
    let itself =
        message.namespace_id == message.source_namespace_id && message.workflow_id == message.source_workflow_id;
    if itself {
        return Ok(None);
    }
    match Run::load(tx, run_id) {
        Ok(run) => Ok(Some(run)),
        Err(Stop::Refused(_)) => Ok(None),
        Err(broken) => Err(broken),
    }
}

pub(crate) fn signal(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    signal: &SignalExternal,
) -> Answer<MessageOutcome> {
    let failed = |cause: SignalCause| MessageOutcome { outcome: Some(Outcome::SignalFailed(cause as i32)) };
    let not_found = failed(SignalCause::ExternalWorkflowExecutionNotFound);
    let Some(mut run) = target(tx, message, &signal.run_id)? else { return Ok(not_found) };
    if run.seen_signal(tx, &signal.request_id)? {
        return Ok(done());
    }
    if !run.is_open() || (signal.child_workflow_only && !is_child_of(tx, &run, message)) {
        return Ok(not_found);
    }
    if run.record.signal_count >= limits::SIGNALS_MAX {
        return Ok(failed(SignalCause::SignalCountLimitExceeded));
    }
    let signal = Signal {
        name: signal.signal_name.clone(),
        input: signal.input.clone(),
        identity: lifecycle::HISTORY_SERVICE.into(),
        header: signal.header.clone(),
        request_id: signal.request_id.clone(),
        links: Vec::new(),
        sender: Some(sender(message)),
    };
    signals::add(tx, &mut run, signal)?;
    workflow_task::wake(tx, &mut run)?;
    run.save(tx);
    Ok(done())
}

/// Cancelling a closed run, or one that was asked before, is a success without effect.
pub(crate) fn request_cancel(
    tx: &mut Transaction<'_>,
    message: &EntityMessage,
    cancel: &CancelExternal,
) -> Answer<MessageOutcome> {
    let cause = CancelCause::ExternalWorkflowExecutionNotFound as i32;
    let not_found = MessageOutcome { outcome: Some(Outcome::CancelFailed(cause)) };
    let Some(mut run) = target(tx, message, &cancel.run_id)? else { return Ok(not_found) };
    if !run.is_open() {
        return Ok(done());
    }
    if cancel.child_workflow_only && !is_child_of(tx, &run, message) {
        return Ok(not_found);
    }
    let request = CancelRequest::of_workflow(message, cancel.reason.clone(), cancel.request_id.clone());
    if cancellation::add_request(tx, &mut run, request)? {
        run.save(tx);
    }
    Ok(done())
}

/// The workflow that sent a message.
pub(crate) fn sender(message: &EntityMessage) -> WorkflowExecution {
    WorkflowExecution { workflow_id: message.source_workflow_id.clone(), run_id: message.source_run_id.clone() }
}
