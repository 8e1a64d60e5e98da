//! Messages between entities: how one tells another something exactly once, wherever the two live.
//!
//! An entity never changes another in its own transition. It puts a message into its shard's outbox; the leader proposes it to
//! the destination's shard ([`deliver`]), then proposes what came of it to the source's ([`acknowledge`]), which applies the
//! outcome and removes the message. Either proposal may be lost or repeated, by leaders old and new, and messages inside one shard
//! travel the same way.
//!
//! **Why once.** A message's id is its source's hash slot and a sequence that grows with the source's log. The destination keeps the
//! outcome of each message that it executed, and answers a repeated one with it. It forgets outcomes only below the source slot's
//! *floor*, which comes with a later delivery: the lowest sequence among the slot's messages to this shard that are still in the
//! outbox, or one past the last that was. Since new messages get higher sequences than all before, a floor only rises, also if
//! an old leader tells an old one. What is below the floor was acknowledged, so a late copy of it is dropped unexecuted. Outcomes thus
//! outlive the entities that they are about and end with the source's floor. They are kept by source slot: a shard that is split
//! copies them to both halves, where those of the other half's entities are never asked for and end the same way.
//!
//! **Withdrawing.** What was sent cannot be unsent, only replaced under its id: then the one that arrives first is executed, and the
//! outcome tells which it was. A message that its own entry put into the outbox was seen by nobody, and is just removed.
//!
//! This file knows ids and outcomes; what a message means is in `children`, `external` and `schedule`.

use std::collections::BTreeMap;

use mainstay_api::log::{self, Reply, reply};
use mainstay_api::record::{Done, EntityMessage, MessageOutcome, entity_message::Body, message_outcome::Outcome};

use crate::run::Run;
use crate::store::{EntityKey, MessageId};
use crate::transaction::Transaction;
use crate::{Answer, Error, Stop, children, empty, end_oversized, external, reply_of, schedule};

/// Where a message goes, and why.
pub(crate) struct Address<'a> {
    pub(crate) namespace_id: &'a str,
    pub(crate) workflow_id: &'a str,
    /// The event that caused it, or 0.
    pub(crate) initiated_event_id: i64,
}

/// Which life of the entity at hand sends a message.
pub(crate) struct Sender<'a> {
    pub(crate) run_id: &'a str,
}

/// Puts a message of this run into the outbox; answers its sequence.
pub(crate) fn send(tx: &mut Transaction<'_>, run: &Run, to: &Address<'_>, body: Body) -> u64 {
    let id = tx.next_message_id();
    let message = message(tx, &sender(run), id, to, body);
    tx.put_message(message);
    id.sequence
}

/// Puts a message of an entity that is no workflow into the outbox.
pub(crate) fn send_from(tx: &mut Transaction<'_>, from: &Sender<'_>, to: &Address<'_>, body: Body) {
    let id = tx.next_message_id();
    let message = message(tx, from, id, to, body);
    tx.put_message(message);
}

/// Takes a message of this run back: removes it if nobody can have seen it, else puts another in its place.
pub(crate) fn replace(tx: &mut Transaction<'_>, run: &Run, sequence: u64, to: &Address<'_>, body: Body) {
    let id = MessageId { source_slot: tx.slot(), sequence };
    if tx.is_own_message(id) {
        tx.remove_message(id);
    } else {
        let message = message(tx, &sender(run), id, to, body);
        tx.put_message(message);
    }
}

fn sender(run: &Run) -> Sender<'_> {
    Sender { run_id: &run.record.run_id }
}

fn message(tx: &Transaction<'_>, from: &Sender<'_>, id: MessageId, to: &Address<'_>, body: Body) -> EntityMessage {
    EntityMessage {
        source_slot: u32::from(id.source_slot),
        sequence: id.sequence,
        source_namespace_id: tx.entity.namespace_id.clone(),
        source_workflow_id: tx.entity.workflow_id.clone(),
        source_run_id: from.run_id.to_string(),
        namespace_id: to.namespace_id.to_string(),
        workflow_id: to.workflow_id.to_string(),
        initiated_event_id: to.initiated_event_id,
        body: Some(body),
    }
}

/// The outcome that says nothing but that the message was executed.
pub(crate) fn done() -> MessageOutcome {
    MessageOutcome { outcome: Some(Outcome::Done(Done {})) }
}

fn id(source_slot: u32, sequence: u64) -> Answer<MessageId> {
    let source_slot = u16::try_from(source_slot).map_err(|_| Error::invalid("there is no such slot"))?;
    Ok(MessageId { source_slot, sequence })
}

/// Messages to entities of this shard. Those that were executed before are answered as then.
pub(crate) fn deliver(tx: &mut Transaction<'_>, command: &log::DeliverMessages) -> Answer<Reply> {
    let floors = raise_floors(tx, &command.floors)?;
    let mut outcomes = vec![done(); command.messages.len()];
    let mut new: BTreeMap<EntityKey, BTreeMap<MessageId, usize>> = BTreeMap::new();
    for (at, message) in command.messages.iter().enumerate() {
        let id = id(message.source_slot, message.sequence)?;
        let floor = floors.get(&id.source_slot).copied().unwrap_or(0).max(tx.floor(id.source_slot)?);
        if let Some(outcome) = tx.outcome(id)?.filter(|_| id.sequence >= floor) {
            outcomes[at] = outcome;
        } else if id.sequence >= floor {
            let entity =
                EntityKey { namespace_id: message.namespace_id.clone(), workflow_id: message.workflow_id.clone() };
            new.entry(entity).or_default().insert(id, at);
        }
    }
    for (entity, messages) in new {
        tx.switch(entity);
        for (id, at) in messages {
            let outcome = receive(tx, &command.messages[at])?;
            tx.put_outcome(id, outcome.clone());
            outcomes[at] = outcome;
        }
        end_oversized(tx)?;
    }
    Ok(reply_of(reply::Reply::MessageOutcomes(log::MessageOutcomes { outcomes })))
}

fn raise_floors(tx: &mut Transaction<'_>, floors: &[log::MessageFloor]) -> Answer<BTreeMap<u16, u64>> {
    let mut raised = BTreeMap::new();
    for floor in floors {
        let floor = id(floor.source_slot, floor.sequence)?;
        if floor.sequence > tx.floor(floor.source_slot)? {
            tx.raise_floor(floor);
            raised.insert(floor.source_slot, floor.sequence);
        }
    }
    Ok(raised)
}

/// Executes one message at its destination. A refusal is an outcome too: whatever one message meets, the others go on.
fn receive(tx: &mut Transaction<'_>, message: &EntityMessage) -> Answer<MessageOutcome> {
    let outcome = match &message.body {
        Some(Body::StartChild(start)) => children::start(tx, message, start),
        Some(Body::ReleaseChild(release)) => children::release(tx, release),
        Some(Body::CloseChild(close)) => children::parent_closed(tx, message, close),
        Some(Body::ChildClosed(closed)) => children::closed(tx, message, closed),
        Some(Body::SignalExternal(signal)) => external::signal(tx, message, signal),
        Some(Body::CancelExternal(cancel)) => external::request_cancel(tx, message, cancel),
        Some(Body::StartScheduled(start)) => schedule::start_workflow(tx, start),
        Some(Body::StopScheduled(stop)) => schedule::stop_workflow(tx, stop),
        Some(Body::ScheduledClosed(closed)) => schedule::workflow_closed(tx, closed),
        // Executed before the start that it stands for: that is never executed now.
        Some(Body::WithdrawStart(_)) | None => Ok(done()),
    };
    match outcome {
        Err(Stop::Refused(_)) => Ok(done()),
        outcome => outcome,
    }
}

/// Outcomes of messages that this shard sent. What is no longer in the outbox was acknowledged before.
pub(crate) fn acknowledge(tx: &mut Transaction<'_>, command: &log::AcknowledgeMessages) -> Answer<Reply> {
    let mut settled: BTreeMap<EntityKey, BTreeMap<MessageId, (EntityMessage, MessageOutcome)>> = BTreeMap::new();
    for acknowledged in &command.messages {
        let id = id(acknowledged.source_slot, acknowledged.sequence)?;
        let Some(message) = tx.message(id)? else { continue };
        let source = EntityKey {
            namespace_id: message.source_namespace_id.clone(),
            workflow_id: message.source_workflow_id.clone(),
        };
        let outcome = acknowledged.outcome.clone().unwrap_or_default();
        settled.entry(source).or_default().insert(id, (message, outcome));
    }
    for (source, messages) in settled {
        tx.switch(source);
        for (id, (message, outcome)) in messages {
            tx.remove_message(id);
            settle(tx, &message, &outcome)?;
        }
        end_oversized(tx)?;
    }
    Ok(empty())
}

/// Tells the source what came of its message.
fn settle(tx: &mut Transaction<'_>, message: &EntityMessage, outcome: &MessageOutcome) -> Answer<()> {
    let Some(outcome) = &outcome.outcome else { return Ok(()) };
    let settled = match &message.body {
        Some(Body::StartChild(start)) => children::start_answered(tx, message, start, outcome),
        Some(Body::WithdrawStart(withdrawn)) => children::withdrawal_answered(tx, message, withdrawn, outcome),
        Some(Body::SignalExternal(signal)) => external::signal_answered(tx, message, signal, outcome),
        Some(Body::CancelExternal(cancel)) => external::cancel_answered(tx, message, cancel, outcome),
        Some(Body::StartScheduled(start)) => schedule::start_answered(tx, message, start, outcome),
        Some(Body::ReleaseChild(_) | Body::CloseChild(_) | Body::ChildClosed(_)) => Ok(()),
        Some(Body::StopScheduled(_) | Body::ScheduledClosed(_)) | None => Ok(()),
    };
    match settled {
        Err(Stop::Refused(_)) => Ok(()),
        settled => settled,
    }
}

/// The run of the entity at hand with this id, if it exists and is open.
pub(crate) fn open_run(tx: &Transaction<'_>, run_id: &str) -> Answer<Option<Run>> {
    match Run::load(tx, run_id) {
        Ok(run) => Ok(Some(run).filter(Run::is_open)),
        Err(Stop::Refused(_)) => Ok(None),
        Err(broken) => Err(broken),
    }
}

/// Whether this run is a child of the run that sent the message: as recorded, not of one that it was reset to.
pub(crate) fn is_child_of(tx: &Transaction<'_>, run: &Run, message: &EntityMessage) -> bool {
    if !run.record.is_child {
        return false;
    }
    let d = run.details(tx);
    d.parent_namespace_id == message.source_namespace_id
        && d.parent_workflow_id == message.source_workflow_id
        && d.parent_run_id == message.source_run_id
}
