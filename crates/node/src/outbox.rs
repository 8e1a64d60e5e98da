//! Delivery of messages between shards: what a shard's outbox holds is proposed at the destination, and what came of it at the source.
//!
//! The rows are the truth; memory holds only their ids, by destination, as apply tells of them. All messages between one pair of shards
//! travel in order, in batches, one batch at a time, and go on for ever until they are acknowledged: a proposal whose fate is unknown
//! is made again, and the engine's `messages` says why nothing is executed twice. Floors ride on the next batch of
//! the pair, or go alone after a pause.
//!
//! It knows nothing of what messages mean, and reaches shards only through the node's one way of proposing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use mainstay_api::log::{
    AcknowledgeMessages, AcknowledgedMessage, Command, DeliverMessages, MessageFloor, command::Op, reply,
};
use mainstay_api::record::EntityMessage;
use mainstay_engine::{EntityKey, Error, MessageId};
use mainstay_runtime::{Instant, Runtime};
use prost::Message;
use tokio::sync::Notify;

use crate::lock;
use crate::measure::message_operation;
use crate::node::Node;

/// Messages, bytes of messages and floors of one batch at most. A larger message travels alone.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_FLOORS: usize = 1_024;
/// What is settled is told after this pause if nothing else is.
const FLOORS_AFTER: Duration = Duration::from_secs(10);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The outbox of one shard, as far as delivery must know it.
#[derive(Default)]
pub(crate) struct Outbox {
    channels: Mutex<BTreeMap<u32, Channel>>,
    added: Notify,
}

/// Messages to one group.
#[derive(Default)]
struct Channel {
    /// By sequence, then source slot: the order of delivery.
    pending: BTreeSet<(u64, u16)>,
    slots: BTreeMap<u16, SourceSlot>,
    /// Floors that the destination has not been told.
    floors: BTreeMap<u16, u64>,
    /// A task delivers.
    busy: bool,
}

#[derive(Default)]
struct SourceSlot {
    pending: BTreeSet<u64>,
    /// The highest sequence that was settled.
    settled: u64,
}

impl Channel {
    /// Whether there is something to deliver.
    fn wants(&self, tell_floors: bool) -> bool {
        !self.pending.is_empty() || (tell_floors && !self.floors.is_empty())
    }

    fn add(&mut self, id: MessageId) {
        self.pending.insert((id.sequence, id.source_slot));
        self.slots.entry(id.source_slot).or_default().pending.insert(id.sequence);
    }

    fn remove(&mut self, id: MessageId) {
        if !self.pending.remove(&(id.sequence, id.source_slot)) {
            return;
        }
        let Some(slot) = self.slots.get_mut(&id.source_slot) else { return };
        slot.pending.remove(&id.sequence);
        slot.settled = slot.settled.max(id.sequence);
        let floor = slot.pending.first().copied().unwrap_or(slot.settled + 1);
        self.floors.insert(id.source_slot, floor);
        if slot.pending.is_empty() {
            self.slots.remove(&id.source_slot);
        }
    }
}

/// What is proposed at once.
struct Batch {
    ids: Vec<MessageId>,
    floors: Vec<MessageFloor>,
}

impl Outbox {
    /// Forgets all, when this node begins to lead the shard or no longer does.
    pub(crate) fn clear(&self) {
        for channel in lock(&self.channels).values_mut() {
            *channel = Channel { busy: channel.busy, ..Channel::default() };
        }
    }

    /// The shard has a message for an entity of this group.
    pub(crate) fn added(&self, id: MessageId, group: u32) {
        lock(&self.channels).entry(group).or_default().add(id);
        self.added.notify_one();
    }

    /// The shard has it no more.
    pub(crate) fn removed(&self, id: MessageId) {
        lock(&self.channels).values_mut().for_each(|channel| channel.remove(id));
    }

    /// The groups for which a delivery must begin; each is busy from now on.
    fn begin(&self, tell_floors: bool) -> Vec<u32> {
        let mut begun = Vec::new();
        for (group, channel) in lock(&self.channels).iter_mut() {
            if channel.wants(tell_floors) && !channel.busy {
                channel.busy = true;
                begun.push(*group);
            }
        }
        begun
    }

    /// What goes to a group next. With nothing to say the delivery ends.
    fn next(&self, group: u32, tell_floors: bool) -> Option<Batch> {
        let mut channels = lock(&self.channels);
        let channel = channels.get_mut(&group)?;
        if !channel.wants(tell_floors) {
            channel.busy = false;
            return None;
        }
        let id = |(sequence, source_slot): &(u64, u16)| MessageId { source_slot: *source_slot, sequence: *sequence };
        let floor =
            |(slot, sequence): (&u16, &u64)| MessageFloor { source_slot: u32::from(*slot), sequence: *sequence };
        Some(Batch {
            ids: channel.pending.iter().take(BATCH_MESSAGES).map(id).collect(),
            floors: channel.floors.iter().take(BATCH_FLOORS).map(floor).collect(),
        })
    }

    /// The destination knows these floors.
    fn told(&self, group: u32, floors: &[MessageFloor]) {
        let mut channels = lock(&self.channels);
        let Some(channel) = channels.get_mut(&group) else { return };
        let is = |floor: &MessageFloor, slot: &u16, sequence: &u64| {
            floor.source_slot == u32::from(*slot) && floor.sequence == *sequence
        };
        channel.floors.retain(|slot, sequence| !floors.iter().any(|floor| is(floor, slot, sequence)));
    }
}

/// Delivers the messages of a shard for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>, source: u32) {
    let mut tell_floors = false;
    while !node.is_stopped() {
        let Some(outbox) = node.board().outboxes.get(source as usize) else { return };
        let added = outbox.added.notified();
        for destination in outbox.begin(tell_floors) {
            drop(R::spawn(drain(node.clone(), source, destination, tell_floors)));
        }
        tell_floors = node.within(R::Instant::now() + FLOORS_AFTER, added).await.is_none();
    }
}

/// Delivers to one group until nothing is left.
async fn drain<R: Runtime>(node: Node<R>, source: u32, destination: u32, tell_floors: bool) {
    let mut backoff = BACKOFF_FIRST;
    while !node.is_stopped() {
        let Some(outbox) = node.board().outboxes.get(source as usize) else { return };
        let Some(batch) = outbox.next(destination, tell_floors) else { return };
        match exchange(&node, source, destination, batch).await {
            Ok(()) => {
                backoff = BACKOFF_FIRST;
                continue;
            }
            Err(error) => tracing::warn!(
                component = "outbox",
                "shard-id" = source,
                destination,
                %error,
                "messages were not delivered, and will be tried again"
            ),
        }
        // Whatever it was, only another try can tell: the message must arrive.
        node.rest_until(R::Instant::now() + backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// One batch there, its outcomes back.
async fn exchange<R: Runtime>(node: &Node<R>, source: u32, destination: u32, batch: Batch) -> Result<(), Error> {
    let messages = read(node, source, &batch.ids)?;
    let ids: Vec<(u32, u64)> = messages.iter().map(|message| (message.source_slot, message.sequence)).collect();
    if ids.is_empty() && batch.floors.is_empty() {
        return Ok(());
    }
    let senders = messages.iter().map(|message| EntityKey {
        namespace_id: message.source_namespace_id.clone(),
        workflow_id: message.source_workflow_id.clone(),
    });
    let senders: BTreeSet<EntityKey> = senders.collect();
    let operations: Vec<_> = messages.iter().map(|message| message_operation(message.body.as_ref())).collect();
    let (begun, tasks) = (R::Instant::now(), &node.board().meter.tasks);
    let floors = batch.floors.clone();
    let deliver = Op::DeliverMessages(DeliverMessages { floors, messages });
    let reply = node.propose(destination, Command { op: Some(deliver), ..Command::default() }).await;
    if reply.is_err() {
        operations.iter().for_each(|operation| tasks.failed(operation));
    }
    let reply = reply?;
    if let Some(outbox) = node.board().outboxes.get(source as usize) {
        outbox.told(destination, &batch.floors);
    }
    let Some(reply::Reply::MessageOutcomes(answered)) = reply.reply else {
        return Err(Error::Internal("a delivery was answered with something else than outcomes".into()));
    };
    if ids.is_empty() {
        return Ok(());
    }
    // No outcome: another shard serves the destination, or will soon. The table tells where to ask next.
    let moved = answered.outcomes.iter().any(|outcome| outcome.outcome.is_none());
    let outcomes = ids.into_iter().zip(answered.outcomes).filter(|(_, outcome)| outcome.outcome.is_some());
    let messages: Vec<_> = outcomes
        .map(|((source_slot, sequence), outcome)| AcknowledgedMessage { source_slot, sequence, outcome: Some(outcome) })
        .collect();
    if messages.is_empty() {
        return Err(Error::Moved);
    }
    let acknowledge = Op::AcknowledgeMessages(AcknowledgeMessages { messages });
    let mut command = Command { op: Some(acknowledge), ..Command::default() };
    node.board().updates.attach_of(&mut command, &senders);
    node.propose(source, command).await?;
    let took = R::Instant::now() - begun;
    operations.iter().for_each(|operation| tasks.done(operation, took, None));
    if moved { Err(Error::Moved) } else { Ok(()) }
}

/// The messages themselves, as far as they fit one batch and still exist.
fn read<R: Runtime>(node: &Node<R>, source: u32, ids: &[MessageId]) -> Result<Vec<EntityMessage>, Error> {
    let shard = node.shard(source)?;
    let (mut messages, mut bytes) = (Vec::with_capacity(ids.len()), 0);
    for id in ids {
        let Some(message) = shard.message(*id).map_err(crate::unreadable)? else {
            // Settled while the rows were taken up.
            if let Some(outbox) = node.board().outboxes.get(source as usize) {
                outbox.removed(*id);
            }
            continue;
        };
        bytes += message.encoded_len();
        if bytes > BATCH_BYTES && !messages.is_empty() {
            break;
        }
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(source_slot: u16, sequence: u64) -> MessageId {
        MessageId { source_slot, sequence }
    }

    fn floors(batch: &Batch) -> Vec<(u32, u64)> {
        batch.floors.iter().map(|floor| (floor.source_slot, floor.sequence)).collect()
    }

    #[test]
    fn a_floor_never_passes_a_message_that_is_pending() {
        let outbox = Outbox::default();
        for sequence in [10, 20, 30] {
            outbox.added(id(7, sequence), 1);
        }
        assert_eq!(outbox.begin(false), [1]);
        assert_eq!(outbox.begin(false), [0; 0], "one delivery at a time");
        let batch = outbox.next(1, false).expect("three are pending");
        assert_eq!((batch.ids.len(), floors(&batch)), (3, vec![]));
        outbox.removed(id(7, 20));
        outbox.removed(id(7, 30));
        assert_eq!(floors(&outbox.next(1, false).expect("one is pending")), [(7, 10)]);
        outbox.removed(id(7, 10));
        assert!(outbox.next(1, false).is_none(), "the delivery ends");
        assert_eq!(outbox.begin(true), [1], "what is settled is told in the end");
        let last = outbox.next(1, true).expect("floors are left");
        assert_eq!(floors(&last), [(7, 31)]);
        outbox.told(1, &last.floors);
        assert!(outbox.next(1, true).is_none());
    }

    #[test]
    fn a_batch_is_bounded_and_in_order() {
        let outbox = Outbox::default();
        for sequence in (0..1_000).rev() {
            outbox.added(id((sequence % 3) as u16, sequence), 2);
        }
        let batch = outbox.next(2, false).expect("many are pending");
        let sequences: Vec<u64> = batch.ids.iter().map(|id| id.sequence).collect();
        assert_eq!(sequences, (0..BATCH_MESSAGES as u64).collect::<Vec<_>>());
    }
}
