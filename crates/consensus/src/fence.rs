//! A replica that is not trusted is fenced: it applies nothing, serves nothing, and gets its state anew from the leader.
//!
//! Its log and its votes are sound, so it stays a voter and goes on to acknowledge entries. What it does not apply meanwhile is in
//! its own log, since that is purged only behind the durable position of the state. Once another replica's rows lie whole beside
//! its own they take their place, and what comes after them is applied from the log. Until then openraft's count of applied entries
//! runs ahead of the state: whoever reads must ask here, too.
//!
//! A fenced leader hands over first. It stands for election only when nobody else was elected for a long time: its log may be the only
//! one of a majority that has everything, and then it leads until another has that, too. If no other replica may lead, the group stops,
//! and says so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use mainstay_runtime::Runtime;
use tokio::sync::Notify;

use crate::group::Inner;
use crate::peer::RAFT_SERVICE;
use crate::rpc::{self, Method};
use crate::{Group, Machine, install};

/// A failed attempt is repeated after this.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The answer to a request for the state comes when it is in place.
const REBUILD_WITHIN: Duration = Duration::from_secs(600);

/// Why a replica is not trusted that is parked.
const PARKED: &str = "this node is no member of the group";

/// Why a replica is not trusted, if it is not.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    up: AtomicBool,
    state: Mutex<State>,
    raised: Notify,
}

#[derive(Debug, Default)]
struct State {
    reason: Option<String>,
    /// Whether there is nothing to rebuild: the node is no member.
    parked: bool,
    /// The transfer that was asked for to rebuild the replica.
    transfer: Option<u64>,
}

impl Fence {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the replica is not trusted.
    pub fn raise(&self, reason: &str) {
        let mut state = self.lock();
        if state.reason.is_none() {
            state.reason = Some(reason.to_owned());
            self.up.store(true, Ordering::Release);
            self.raised.notify_one();
        }
    }

    /// It has a sound state again.
    pub fn lower(&self) {
        *self.lock() = State::default();
        self.up.store(false, Ordering::Release);
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub fn reason(&self) -> Option<String> {
        self.lock().reason.clone()
    }

    /// Resolves when it was raised since this was last awaited.
    pub async fn raised(&self) {
        self.raised.notified().await;
    }

    /// From now on the replica is not trusted, and stays so until [`Fence::unpark`].
    pub fn park(&self) {
        let mut state = self.lock();
        *state = State { reason: Some(PARKED.to_owned()), parked: true, transfer: None };
        self.up.store(true, Ordering::Release);
    }

    /// It is to be rebuilt now.
    pub fn unpark(&self) {
        if std::mem::take(&mut self.lock().parked) {
            self.raised.notify_one();
        }
    }

    pub fn is_parked(&self) -> bool {
        self.is_up() && self.lock().parked
    }

    /// Whether this is the state that was asked for.
    pub fn awaits(&self, transfer: u64) -> bool {
        self.lock().transfer == Some(transfer)
    }
}

/// A request for the state, under the number of its transfer.
pub(crate) fn request(group: u32, transfer: u64) -> Bytes {
    let mut out = rpc::head(group, Method::SendState, 8);
    out.put_u64(transfer);
    out.freeze()
}

impl<R: Runtime, M: Machine> Group<R, M> {
    /// The replica here is not trusted from now on: it is rebuilt from the leader's, after it has handed over if it leads. Without
    /// another member nothing can be done; then this answers false.
    pub fn fence(&self, reason: &str) -> bool {
        if self.0.peers.is_none() || self.is_alone() {
            return false;
        }
        self.0.fence.raise(reason);
        self.0.changes.tell();
        true
    }

    /// Why the replica here is not trusted, if it is not.
    #[must_use]
    pub fn fenced(&self) -> Option<String> {
        if self.0.fence.is_up() { self.0.fence.reason() } else { None }
    }

    /// Hands leadership to the first voter that takes it.
    async fn hand_over(&self) {
        for voter in self.members().voters {
            if voter != self.0.node && self.transfer_leader(voter).await.is_ok() {
                return;
            }
        }
    }
}

/// Rebuilds a fenced replica; ends when it is trusted again.
pub(crate) async fn rebuild<R: Runtime, M: Machine>(group: Weak<Inner<R, M>>) {
    let mut kept = false;
    loop {
        let Some(group) = group.upgrade().map(Group) else { return };
        let Some(reason) = group.fenced().filter(|_| !group.is_parked()) else { return };
        if group.is_alone() {
            group.0.log.health().fatal(&reason);
        }
        if !kept {
            kept = keep(&group, &reason).await;
        }
        let leader = group.leader().filter(|leader| *leader != group.0.node);
        if group.is_leader() {
            group.hand_over().await;
        } else if let (Some(leader), Some(peers)) = (leader, group.0.peers.clone()) {
            let transfer = R::random() as u64;
            group.0.fence.lock().transfer = Some(transfer);
            let message = request(group.0.log.id(), transfer);
            drop(group);
            // If it fails it is tried again.
            let _rebuilt = peers.call(leader, RAFT_SERVICE, message, REBUILD_WITHIN).await;
        }
        R::sleep(RETRY_AFTER).await;
    }
}

/// Makes the fence outlive the process.
async fn keep<R: Runtime, M: Machine>(group: &Group<R, M>, reason: &str) -> bool {
    let (id, range, reason) = (group.0.log.id(), group.0.machine.range(), reason.to_owned());
    let fence = group.0.fence.clone();
    let kept = R::disk(move || install::keep_fence(id, &range, &reason)).await;
    if !fence.is_up() {
        // It was rebuilt meanwhile.
        let (id, range) = (group.0.log.id(), group.0.machine.range());
        return R::disk(move || install::drop_fence(id, &range)).await.is_ok();
    }
    kept.is_ok()
}
