//! The way of one command: routed, admitted, stamped, proposed, answered by apply.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::log::{Command, Entry, Reply, command::Op};
use mainstay_api::peer::{Execute, call};
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_base::RunId;
use mainstay_engine::{Call, EntityKey, Error};
use mainstay_runtime::{Instant, Runtime};
use prost::Message;
use tracing::{Instrument, Span};

use crate::node::{METADATA_GROUP, Node};
use crate::slots::Place;

/// Feature version that entries are stamped with.
const VERSION: u32 = 1;
/// The target of spans that are traces.
const TRACE: &str = "mainstay::trace";

/// The entity that a command is for.
pub(crate) fn entity_of(command: &Command) -> EntityKey {
    EntityKey { namespace_id: command.namespace_id.clone(), workflow_id: command.workflow_id.clone() }
}

/// The run that a client's or worker's call is about, if its refusal may be news to who waits for the run.
struct Subject {
    entity: EntityKey,
    /// Empty: the current run.
    run_id: String,
    call: Call,
}

fn subject(command: &Command) -> Option<Subject> {
    let (call, run_id) = mainstay_engine::subject(command.op.as_ref()?)?;
    Some(Subject { entity: entity_of(command), run_id: run_id.to_string(), call })
}

/// What a command is known by when it is proposed more than once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proposal {
    /// Empty if it may be applied twice, or is never proposed again.
    pub(crate) command_id: Bytes,
    /// An earlier proposal of it may be in the log.
    pub(crate) may_repeat: bool,
}

impl<R: Runtime> Node<R> {
    /// Replicates a command in the shard of its entity.
    pub(crate) async fn run_command(&self, command: Command) -> Result<Reply, Error> {
        self.admit(&command)?;
        let place = Place::of(&entity_of(&command));
        self.propose(place, command).await
    }

    /// A new command's proposal.
    pub(crate) fn first_proposal(&self, op: Option<&Op>) -> Proposal {
        // Applied twice these do what they did once: rows that are gone are skipped, a start knows its poll again, and so does an
        // entity its messages.
        let harmless = matches!(
            op,
            Some(Op::FireTimers(_) | Op::PutNamespace(_) | Op::PutMember(_))
                | Some(Op::StartWorkflowTask(_) | Op::StartActivityTask(_))
                | Some(Op::DeliverMessages(_) | Op::AcknowledgeMessages(_))
                | Some(Op::PutReplicas(_) | Op::PutSplit(_) | Op::HoldSlots(_) | Op::DropSlots(_))
                | Some(Op::BeginArrival(_) | Op::ImportRows(_) | Op::EndArrival(_))
        );
        if self.is_alone() || harmless {
            return Proposal::default();
        }
        let command_id = mainstay_shard::command_id(self.now().as_nanos(), R::random() as u64);
        Proposal { command_id, may_repeat: false }
    }

    /// Tells those who wait for a run that a call about it was refused.
    fn note_refusal(&self, group: u32, subject: &Subject, error: &Error) {
        if !subject.call.drops_memory(error) {
            return;
        }
        let current = || self.shard(group).ok()?.execution(&subject.entity).ok().flatten();
        let run = match subject.run_id.as_str() {
            "" => current().map(|execution| execution.current_run_id),
            id => Some(id.to_string()),
        };
        if let Some(run) = run.and_then(|run| run.parse().ok()) {
            self.drop_memory(&subject.entity, run);
        }
    }

    /// What this node keeps of a run in memory is dropped, and who waits for the run is told.
    pub(crate) fn drop_memory(&self, entity: &EntityKey, run: RunId) {
        if let Some(void) = self.board().updates.drop_memory(entity, run) {
            self.board().dispatch.retract_speculative(void, self.now());
        }
        self.board().waits.refused(entity, run);
    }

    /// Refuses what would grow a store that is full. What makes room goes on.
    pub(crate) fn admit(&self, command: &Command) -> Result<(), Error> {
        let frees = matches!(command.op, Some(Op::Delete(_) | Op::Terminate(_) | Op::ResetSticky(_)));
        if frees || self.0.room.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(Error::ResourceExhausted {
            cause: ResourceExhaustedCause::PersistenceStorageLimit,
            message: "the server's disk is full: no new work is accepted until there is room".into(),
        })
    }

    /// Proposes a command to the group of a place, wherever its leader is.
    pub(crate) async fn propose(&self, place: impl Into<Place> + Send, command: Command) -> Result<Reply, Error> {
        let (place, first) = (place.into(), self.first_proposal(command.op.as_ref()));
        if self.is_alone() {
            return self.propose_here(self.group_at(place), command, first).await;
        }
        let asked = || Execute { command: Some(command.clone()), command_id: first.command_id.clone() };
        self.at_leader(
            place,
            Duration::ZERO,
            || call::Call::Execute(asked()),
            |may_repeat| {
                let proposal = Proposal { may_repeat, ..first.clone() };
                Box::pin(self.propose_here(self.group_at(place), command.clone(), proposal))
            },
        )
        .await
    }

    /// Stamps a command and proposes it to a group that this node leads.
    pub(crate) async fn propose_here(&self, group: u32, command: Command, proposal: Proposal) -> Result<Reply, Error> {
        if !command.namespace_id.is_empty() && group != METADATA_GROUP {
            self.ensure_namespace(group, &command.namespace_id).await?;
        }
        if let Some(Op::DeliverMessages(delivery)) = &command.op {
            let namespaces: BTreeSet<&str> = delivery.messages.iter().map(|m| m.namespace_id.as_str()).collect();
            for namespace_id in namespaces {
                match self.ensure_namespace(group, namespace_id).await {
                    // Apply answers for a namespace that is gone.
                    Ok(()) | Err(Error::NamespaceNotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        self.stamp_and_propose(group, command, proposal).await
    }

    /// Everything that needs the command is done before it waits: its future holds the encoded entry alone.
    pub(crate) fn stamp_and_propose(
        &self,
        group: u32,
        mut command: Command,
        proposal: Proposal,
    ) -> impl Future<Output = Result<Reply, Error>> + Send {
        self.board().updates.attach(&mut command);
        let reserved = self.reserve(&mut command);
        let subject = if self.board().waits.is_empty() { None } else { subject(&command) };
        let measured = self.board().meter.commands.begin(command.op.as_ref());
        let begun = R::Instant::now();
        let entry = self.stamped(command, proposal);
        // Once in the log, and once in the state.
        self.0.room.fetch_sub(2 * entry.len() as i64, Ordering::Relaxed);
        // A part of a call that is traced, and nothing else.
        let is_traced = Span::current().metadata().is_some_and(|metadata| metadata.target() == TRACE);
        let span = match is_traced {
            true => tracing::info_span!(target: TRACE, "propose", "shard-id" = group, bytes = entry.len()),
            false => Span::none(),
        };
        async move {
            let consensus = self.group(group)?;
            let outcome = match reserved {
                None => self.answered(group, consensus.propose(entry).instrument(span).await, subject),
                Some(reserved) => {
                    // Pollers wait for this too: it must not end with its caller.
                    let (node, consensus) = (self.clone(), consensus.clone());
                    let proposed = async move {
                        let mut answer = node.answered(group, consensus.propose(entry).await, subject);
                        reserved.settle(answer.as_mut().ok());
                        answer
                    };
                    let proposed = R::spawn(proposed.instrument(span)).await;
                    proposed.unwrap_or_else(|_| Err(Error::Unavailable("the server is shutting down".into())))
                }
            };
            measured.ended(R::Instant::now() - begun, outcome.as_ref().err());
            outcome
        }
    }

    /// The log entry of a command: with the time and the randomness that apply may use.
    fn stamped(&self, command: Command, proposal: Proposal) -> Bytes {
        let seed = R::random();
        let entry = Entry {
            command_id: proposal.command_id,
            may_repeat: proposal.may_repeat,
            now_ns: self.now().as_nanos(),
            seed_high: (seed >> 64) as u64,
            seed_low: seed as u64,
            version: VERSION,
            command: Some(command),
            suggest_from: self.config().suggest_from,
            blob_size_max: self.config().blob_size_max,
        };
        entry.encode_to_vec().into()
    }

    fn answered(
        &self,
        group: u32,
        proposed: Result<Result<Reply, Error>, mainstay_consensus::Error>,
        subject: Option<Subject>,
    ) -> Result<Reply, Error> {
        if let (Ok(Err(error)), Some(subject)) = (&proposed, subject) {
            self.note_refusal(group, &subject, error);
        }
        proposed.unwrap_or_else(|error| Err(refusal(&error, self.is_alone())))
    }
}

/// `alone`: there is no other node that could be asked.
fn refusal(error: &mainstay_consensus::Error, alone: bool) -> Error {
    use mainstay_consensus::Error as E;
    match error {
        E::Busy { .. } => Error::ResourceExhausted {
            cause: ResourceExhaustedCause::SystemOverloaded,
            message: format!("the server is busy: {error}"),
        },
        E::TooLarge { .. } => Error::invalid(error.to_string()),
        E::NotLeader { .. } | E::Unknown | E::Stopped | E::NoQuorum | E::Members(_) if alone => {
            Error::Unavailable(error.to_string())
        }
        E::NotLeader { .. } | E::Unknown | E::Stopped | E::NoQuorum | E::Members(_) => Error::Moved,
        E::Storage(_) | E::Settings(_) => Error::Internal(error.to_string()),
    }
}
