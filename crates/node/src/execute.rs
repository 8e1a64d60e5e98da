//! The way of one command: routed, admitted, stamped, proposed, answered by apply.

use std::sync::atomic::Ordering;

use mainstay_api::log::{Command, Entry, Reply, command::Op};
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_engine::{EntityKey, Error};
use mainstay_runtime::Runtime;
use prost::Message;

use crate::node::Node;

/// Feature version that entries are stamped with.
const VERSION: u32 = 1;

/// The entity that a command is for.
pub(crate) fn entity_of(command: &Command) -> EntityKey {
    EntityKey { namespace_id: command.namespace_id.clone(), workflow_id: command.workflow_id.clone() }
}

impl<R: Runtime> Node<R> {
    /// Replicates a command in the shard of its entity.
    pub(crate) async fn run_command(&self, command: Command) -> Result<Reply, Error> {
        self.admit(&command)?;
        let group = self.route(&entity_of(&command));
        self.ensure_namespace(group, &command.namespace_id).await?;
        self.propose(group, command).await
    }

    /// Refuses what would grow a store that is full. What makes room goes on.
    fn admit(&self, command: &Command) -> Result<(), Error> {
        let frees = matches!(command.op, Some(Op::Delete(_) | Op::Terminate(_) | Op::ResetSticky(_)));
        if frees || self.0.room.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(Error::ResourceExhausted {
            cause: ResourceExhaustedCause::PersistenceStorageLimit,
            message: "the server's disk is full: no new work is accepted until there is room".into(),
        })
    }

    /// Stamps a command and proposes it to a group.
    pub(crate) async fn propose(&self, group: u32, command: Command) -> Result<Reply, Error> {
        let seed = R::random();
        let entry = Entry {
            // A node that is alone never proposes anything twice.
            command_id: bytes::Bytes::new(),
            may_repeat: false,
            now_ns: self.now().as_nanos(),
            seed_high: (seed >> 64) as u64,
            seed_low: seed as u64,
            version: VERSION,
            command: Some(command),
        };
        let entry = entry.encode_to_vec();
        // Once in the log, and once in the state.
        self.0.room.fetch_sub(2 * entry.len() as i64, Ordering::Relaxed);
        let proposed = self.group(group)?.propose(entry.into()).await;
        proposed.unwrap_or_else(|error| Err(refusal(&error)))
    }
}

fn refusal(error: &mainstay_consensus::Error) -> Error {
    use mainstay_consensus::Error as E;
    match error {
        E::Busy { .. } => Error::ResourceExhausted {
            cause: ResourceExhaustedCause::SystemOverloaded,
            message: format!("the server is busy: {error}"),
        },
        E::NotLeader { .. } | E::Unknown | E::NoQuorum | E::Stopped => Error::Unavailable(error.to_string()),
        E::TooLarge { .. } => Error::InvalidArgument(error.to_string()),
        E::Storage(_) | E::Settings(_) | E::Members(_) => Error::Internal(error.to_string()),
    }
}
