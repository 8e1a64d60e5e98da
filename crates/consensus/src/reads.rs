//! Linearizable reads: whoever reads must know that this node still led when it was asked, and must see what was committed then.
//!
//! One round of heartbeats confirms it for all readers that waited when the round began; the next round takes those that came
//! meanwhile. There is no lease: clocks are not trusted.

use std::sync::{Arc, Mutex, PoisonError};

use mainstay_runtime::Runtime;
use openraft::errors::{Fatal, LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use tokio::sync::oneshot;

use crate::group::Inner;
use crate::{Error, Group, Machine};

/// Readers that wait for the next round.
#[derive(Default)]
pub(crate) struct Readers(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: Vec<oneshot::Sender<Result<(), Error>>>,
    /// Whether somebody does rounds.
    busy: bool,
}

impl<R: Runtime, M: Machine> Group<R, M> {
    /// Returns when everything that was committed before the call is applied here, if this node leads: what is read from the
    /// machine after it is up to date. A single voter answers at once.
    ///
    /// # Errors
    /// [`Error::NotLeader`]; [`Error::NoQuorum`] if this node cannot know whether it leads.
    pub async fn read_index(&self) -> Result<(), Error> {
        if self.is_alone() {
            let leading = self.leadership().leading;
            return if leading { Ok(()) } else { Err(Error::NotLeader { leader: self.leader() }) };
        }
        let (tell, told) = oneshot::channel();
        let start = {
            let mut waiting = self.0.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.next.push(tell);
            !std::mem::replace(&mut waiting.busy, true)
        };
        if start {
            // On its own, so that it goes on when this reader goes away.
            drop(R::spawn(rounds(self.0.clone())));
        }
        told.await.unwrap_or(Err(Error::Stopped))
    }
}

/// Does rounds until nobody waits.
async fn rounds<R: Runtime, M: Machine>(group: Arc<Inner<R, M>>) {
    loop {
        let readers = {
            let mut waiting = group.readers.0.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.busy = !waiting.next.is_empty();
            std::mem::take(&mut waiting.next)
        };
        if readers.is_empty() {
            return;
        }
        let result = round(&group).await;
        for reader in readers {
            let _gone = reader.send(result.clone());
        }
    }
}

async fn round<R: Runtime, M: Machine>(group: &Inner<R, M>) -> Result<(), Error> {
    match group.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
            Err(Error::NotLeader { leader: to.leader_id })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(Error::NoQuorum),
        Err(RaftError::Fatal(Fatal::Stopped)) => Err(Error::Stopped),
        Err(RaftError::Fatal(fatal)) => group.log.health().fatal(&fatal.to_string()),
    }
}
