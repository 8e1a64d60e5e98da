//! A worker's answers to updates: protocol messages that accept, reject or complete one (reference §2.10).
//!
//! A ProtocolMessage command gives a message its place among the other commands; what no command names comes after all of them.
//! An acceptance and a response become events and the row of the update; a rejection leaves nothing behind, and who waits for it is
//! told by the leader. Which updates the worker was sent is in the leader's memory and comes with the command.

use mainstay_api::record::{UpdateRecord, WorkflowTaskRecord};
use mainstay_api::temporal::enums::v1::WorkflowTaskFailedCause as Cause;
use mainstay_api::temporal::history::v1::{
    WorkflowExecutionUpdateAcceptedEventAttributes, WorkflowExecutionUpdateCompletedEventAttributes,
};
use mainstay_api::temporal::protocol::v1::Message;
pub(crate) use mainstay_api::temporal::update::v1::Request;
use mainstay_api::temporal::update::v1::{Acceptance, Rejection as UpdateRejection, Response};
use mainstay_api::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest;
use mainstay_base::limits;
use prost::Message as _;

use super::{Checked, Completion, Rejection};
use crate::event::Attributes;
use crate::run::Run;
use crate::store::Fault;
use crate::transaction::Transaction;
use crate::updates::{find, id_of, put};

const PACKAGE: &str = "temporal.api.update.v1.";

/// What a message says.
enum Body {
    Acceptance(Acceptance),
    Rejection(UpdateRejection),
    Response(Response),
}

impl Body {
    /// As error texts name it.
    fn name(&self) -> &'static str {
        match self {
            Self::Acceptance(_) => "*update.Acceptance",
            Self::Rejection(_) => "*update.Rejection",
            Self::Response(_) => "*update.Response",
        }
    }
}

/// Where an update is when a message for it comes.
enum State {
    Unknown,
    /// The worker was sent it; of one that a reset brought back, history knows the request.
    Sent(UpdateRecord),
    Accepted(UpdateRecord),
    Completed,
}

fn bad<T>(text: String) -> Checked<T> {
    Err(Rejection::Bad(Cause::BadUpdateWorkflowExecutionMessage, text))
}

/// The message that a command names.
pub(super) fn take_named(c: &mut Completion<'_, '_>, id: &str) -> Checked<()> {
    if id.is_empty() {
        return bad("MessageID is not set on ProtocolMessageCommand.".into());
    }
    let Some(at) = c.messages.iter().position(|message| message.id == id) else {
        return bad(format!("ProtocolMessageCommand referenced absent message ID {id}"));
    };
    let message = c.messages.remove(at);
    take(c, &message)
}

/// The messages that no command named. A run that a command closed takes none.
pub(super) fn take_rest(c: &mut Completion<'_, '_>) -> Checked<()> {
    for message in std::mem::take(&mut c.messages) {
        if c.run.is_open() {
            take(c, &message)?;
        }
    }
    Ok(())
}

fn take(c: &mut Completion<'_, '_>, message: &Message) -> Checked<()> {
    let id = message.protocol_instance_id.as_str();
    let body = body_of(c.tx, message)?;
    let state = state_of(c, id)?;
    match (body, state) {
        (Body::Acceptance(acceptance), State::Sent(record)) => {
            let sent = c.sent.iter().find(|request| id_of(Some(request)) == id).cloned();
            // What a reset brought back is in its Admitted event.
            let request = sent.filter(|_| record.admitted_event_id == 0);
            accept(c, id, acceptance, request, record);
        }
        // The leader forgot it, the worker did not: the message brings it back.
        (Body::Acceptance(mut acceptance), State::Unknown) if acceptance.accepted_request.is_some() => {
            let request = acceptance.accepted_request.take();
            accept(c, id, acceptance, request, UpdateRecord::default());
        }
        (Body::Response(response), State::Accepted(record)) => complete(c, id, response, record),
        (Body::Rejection(_), State::Sent(_)) => {}
        (Body::Rejection(rejection), State::Unknown) if rejection.rejected_request.is_some() => {}
        (_, State::Unknown) => {
            let why = "This is most likely a transient error which will be resolved automatically by retries";
            return bad(format!("update {id} wasn't found on the server. {why}"));
        }
        (body, state) => {
            let state = match state {
                State::Accepted(_) => "Accepted",
                State::Completed => "Completed",
                State::Sent(_) | State::Unknown => "Sent",
            };
            let what = format!("invalid state transition attempted for Update {id}");
            return bad(format!("{what}: received {} message while in state {state}", body.name()));
        }
    }
    Ok(())
}

fn body_of(tx: &Transaction<'_>, message: &Message) -> Checked<Body> {
    let any = message.body.clone().unwrap_or_default();
    let kind = any.type_url.rsplit('/').next().unwrap_or_default();
    let cause = Cause::BadUpdateWorkflowExecutionMessage;
    super::check_size(tx, cause, any.encoded_len(), &format!("Message type {kind}"))?;
    let value = any.value.as_slice();
    let decoded = match kind.strip_prefix(PACKAGE) {
        Some("Acceptance") => Acceptance::decode(value).map(Body::Acceptance),
        Some("Rejection") => UpdateRejection::decode(value).map(Body::Rejection),
        Some("Response") => Response::decode(value).map(Body::Response),
        _ => return bad(format!("unsupported protocol message {kind}")),
    };
    decoded.or_else(|error| bad(format!("message {} does not decode: {error}", message.id)))
}

fn state_of(c: &Completion<'_, '_>, id: &str) -> Result<State, Fault> {
    let known = find(c.tx, c.run, id)?;
    Ok(match known {
        Some(record) if record.completed_event_id != 0 => State::Completed,
        Some(record) if record.accepted_event_id != 0 => State::Accepted(record),
        Some(record) => State::Sent(record),
        None if c.sent.iter().any(|request| id_of(Some(request)) == id) => State::Sent(UpdateRecord::default()),
        None => State::Unknown,
    })
}

fn accept(
    c: &mut Completion<'_, '_>,
    id: &str,
    acceptance: Acceptance,
    accepted_request: Option<Request>,
    mut record: UpdateRecord,
) {
    let attributes = WorkflowExecutionUpdateAcceptedEventAttributes {
        protocol_instance_id: id.to_string(),
        accepted_request_message_id: acceptance.accepted_request_message_id,
        accepted_request_sequencing_event_id: acceptance.accepted_request_sequencing_event_id,
        accepted_request,
    };
    record.accepted_event_id =
        c.run.write(c.tx, Attributes::WorkflowExecutionUpdateAcceptedEventAttributes(attributes));
    if record.admitted_event_id == 0 {
        c.run.record.update_count += 1;
    }
    c.run.record.open_update_count += 1;
    put(c.tx, c.run, id, &record);
}

fn complete(c: &mut Completion<'_, '_>, id: &str, response: Response, mut record: UpdateRecord) {
    let attributes = WorkflowExecutionUpdateCompletedEventAttributes {
        meta: response.meta,
        accepted_event_id: record.accepted_event_id,
        outcome: response.outcome,
    };
    record.completed_event_id =
        c.run.write(c.tx, Attributes::WorkflowExecutionUpdateCompletedEventAttributes(attributes));
    record.completed_batch_event_id = c.run.batch_event_id();
    c.run.record.open_update_count -= 1;
    put(c.tx, c.run, id, &record);
}

/// Whether a speculative task can be dropped: the worker did nothing but reject updates, and has seen nothing with it that it
/// would miss, or can go back.
pub(super) fn leaves_no_trace(
    tx: &Transaction<'_>,
    run: &Run,
    task: &WorkflowTaskRecord,
    request: &RespondWorkflowTaskCompletedRequest,
) -> Result<bool, Fault> {
    if task.speculative_id == 0 {
        return Ok(false);
    }
    for message in &request.messages {
        let accepted = find(tx, run, &message.protocol_instance_id)?.is_some_and(|known| known.accepted_event_id != 0);
        if accepted || !matches!(body_of(tx, message), Ok(Body::Rejection(_))) {
            return Ok(false);
        }
    }
    // Behind the last start comes its Completed event; what its commands added counts as new, as with the reference server.
    let new_events = task.scheduled_event_id - run.record.last_completed_started_event_id - 2;
    let can_go_back = request.capabilities.as_ref().is_some_and(|c| c.discard_speculative_workflow_task_with_events);
    Ok(request.commands.is_empty()
        && !request.force_create_new_workflow_task
        && (new_events <= 0 || (can_go_back && new_events <= limits::SPECULATIVE_EVENTS_MAX)))
}
