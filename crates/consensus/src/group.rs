//! One Raft group on this node: start, propose, compact, stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use mainstay_runtime::{Instant, Runtime, Select2, select2};
use mainstay_storage::StorageError;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::{Raft, RaftMetrics};
use tokio::sync::{Mutex, Semaphore};

use crate::applier::{Alive, Applier, read_mark};
use crate::codec::Mark;
use crate::digests::Digests;
use crate::fence::{self, Fence};
use crate::group_log::{Adapter, GroupLog};
use crate::health::Health;
use crate::install;
use crate::leadership::Changes;
use crate::measure::{ApplyMeter, GroupMeter};
use crate::members::alone;
use crate::network::Network;
use crate::peer::Peers;
use crate::quiet::Quiet;
use crate::reads::Readers;
use crate::replica::Peering;
use crate::snapshot::Transfers;
use crate::trace::Trace;
use crate::types::{Address, Command, Types};
use crate::{Config, Error, Log, Machine};

type Handle<R, M> = Raft<Types<R, <M as Machine>::Reply>, Applier<R, M>>;

/// Bytes of one proposal: a message must hold it, and others of its kind.
const PROPOSAL_BYTES_MAX: usize = 32 << 20;

/// A group of which this node has a replica. Clones are handles of the same one.
pub struct Group<R: Runtime, M: Machine>(pub(crate) Arc<Inner<R, M>>);

impl<R: Runtime, M: Machine> Clone for Group<R, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Inner<R: Runtime, M: Machine> {
    pub node: u64,
    pub raft: Handle<R, M>,
    pub machine: Arc<M>,
    node_log: Log<R>,
    pub log: Arc<GroupLog>,
    pub config: Config,
    pub peers: Option<Peers<R>>,
    pub transfers: Arc<Transfers>,
    pub fence: Arc<Fence>,
    pub digests: Arc<Digests>,
    pub changes: Arc<Changes>,
    pub readers: Readers,
    pub quiet: Arc<Quiet<R>>,
    meter: GroupMeter,
    pending: AtomicUsize,
    pending_bytes: AtomicUsize,
    /// Held while a snapshot is made.
    compacting: Mutex<()>,
    /// Closed when nothing is applied any more.
    applier: Arc<Semaphore>,
}

/// How a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The current term.
    pub term: u64,
    /// The leader, if known.
    pub leader: Option<u64>,
    /// Whether it is this node.
    pub is_leader: bool,
    /// The last index of the log.
    pub last: Option<u64>,
    /// The last index known to be committed.
    pub committed: Option<u64>,
    /// The last index applied.
    pub applied: Option<u64>,
    /// The index of the last snapshot mark.
    pub snapshot: Option<u64>,
    /// The last index purged.
    pub purged: Option<u64>,
    /// Proposals under way.
    pub pending: usize,
}

impl<R: Runtime, M: Machine> Group<R, M> {
    /// Starts group `id` on this node where it left off.
    ///
    /// Without peers the node is its only voter, from the first start on. If it is the only member, with or without peers, this returns
    /// once it leads and has applied everything that was committed before; else at once. A new group has the configured founders as
    /// its members, or else waits for a leader elsewhere that adds this node.
    ///
    /// # Errors
    /// If what is stored does not allow it: it is corrupt, log and state do not belong together, or the group is another node's.
    // Not an `async fn`: that a caller may spawn it is decided here, where the compiler can still see it.
    pub fn start(
        id: u32,
        node_id: u64,
        log: Log<R>,
        machine: Arc<M>,
        config: Config,
        peers: Option<Peers<R>>,
    ) -> impl Future<Output = Result<Self, Error>> + Send {
        Self::begin(id, node_id, log, machine, config, peers)
    }

    async fn begin(
        id: u32,
        node_id: u64,
        log: Log<R>,
        machine: Arc<M>,
        config: Config,
        peers: Option<Peers<R>>,
    ) -> Result<Self, Error> {
        let health = Arc::new(Health::new::<R>(id));
        let group_log = log.open(id, health.clone()).await?;
        let mark = recover(&group_log, &log, &machine).await?;
        check(&group_log, &mark)?;
        if peers.is_some() && group_log.is_new() && mark.applied.is_none() {
            group_log.clone().found(&config.founders).await?;
        }
        let (alive, changes) = (Arc::new(Semaphore::new(0)), Arc::<Changes>::default());
        changes.applied(mark.applied.map_or(0, |applied| applied.leader_id.term));
        let (fence, digests) = (fence_of(id, &machine)?, Arc::<Digests>::default());
        let applier = Applier {
            machine: machine.clone(),
            log: group_log.clone(),
            node_log: log.clone(),
            mark,
            changes: changes.clone(),
            meter: ApplyMeter::new(),
            fence: fence.clone(),
            digests: digests.clone(),
            skipped: None,
            _alive: Alive(alive.clone()),
        };
        let transfers = Arc::<Transfers>::default();
        let network = Network {
            group: id,
            peers: peers.clone(),
            machine: machine.clone(),
            transfers: transfers.clone(),
            snapshot_bytes_per_second: config.snapshot_bytes_per_second,
            acknowledged: BTreeMap::new(),
        };
        let settings = Arc::new(config.for_openraft(id)?);
        let raft = Raft::new(node_id, settings, network, Adapter::new(group_log.clone()), applier).await;
        let raft = raft.map_err(|fatal| start_failure(&health, &fatal))?;
        let inner = Inner {
            node: node_id,
            raft,
            machine,
            node_log: log,
            log: group_log,
            config,
            peers,
            transfers,
            fence,
            digests,
            changes,
            readers: Readers::default(),
            quiet: Arc::new(Quiet::new()),
            meter: GroupMeter::new(),
            pending: AtomicUsize::new(0),
            pending_bytes: AtomicUsize::new(0),
            compacting: Mutex::new(()),
            applier: alive,
        };
        let group = Self(Arc::new(inner));
        match group.join().await {
            Ok(()) => {
                health.serves();
                Ok(group)
            }
            Err(error) => {
                group.stop().await;
                Err(error)
            }
        }
    }

    /// Takes its part in the group: leads it if it is alone.
    async fn join(&self) -> Result<(), Error> {
        let inner = &*self.0;
        let Some(peers) = &inner.peers else {
            return self.lead(inner.node).await;
        };
        let node = inner.node;
        // Asked of openraft itself: what it publishes may not be there yet.
        let single =
            inner.raft.with_raft_state(move |state| alone(node, state.membership_state.effective().membership()));
        if single.await.map_err(|fatal| start_failure(inner.log.health(), &fatal))? {
            self.lead(node).await?;
        }
        peers.router().open(inner.log.id(), Arc::new(Peering::of(inner)));
        peers.make_offers();
        drop(R::spawn(watch(Arc::downgrade(&self.0))));
        Ok(())
    }

    /// Makes this node the leader and waits until an entry of its own term is applied, and with it all before.
    async fn lead(&self, node_id: u64) -> Result<(), Error> {
        let inner = &*self.0;
        let (raft, config) = (&inner.raft, &inner.config);
        let members = BTreeMap::from([(node_id, Address(config.address.clone()))]);
        match raft.initialize(members).await {
            // It elects itself.
            Ok(()) => inner.meter.elections.increment(1),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                let members = raft.metrics().borrow_watched().membership_config.clone();
                if !members.voter_ids().any(|id| id == node_id) {
                    let voters: Vec<_> = members.voter_ids().collect();
                    let reason =
                        format!("group {} belongs to nodes {voters:?}, and this is node {node_id}", inner.log.id());
                    return Err(StorageError::Corrupt(reason).into());
                }
                // At once: no time-out would do it.
                inner.meter.elections.increment(1);
                raft.trigger().elect(false).await.map_err(|fatal| start_failure(inner.log.health(), &fatal))?;
            }
            Err(RaftError::Fatal(fatal)) => return Err(start_failure(inner.log.health(), &fatal)),
            Err(RaftError::APIError(error)) => return Err(Error::Settings(error.to_string())),
        }
        let leads = |metrics: &RaftMetrics<Types<R, M::Reply>>| {
            let applied = metrics.last_applied.map(|applied| applied.leader_id.term);
            metrics.running_state.is_err() || (metrics.state.is_leader() && applied == Some(metrics.current_term))
        };
        let metrics = raft.wait(None).metrics(leads, "to lead").await.map_err(|_| self.ended())?;
        metrics.running_state.map_err(|fatal| start_failure(inner.log.health(), &fatal))
    }

    /// Why the group ended by itself.
    fn ended(&self) -> Error {
        self.0.log.health().first().map_or(Error::Stopped, Error::Storage)
    }

    /// Replicates an entry and applies it; the reply of apply. If the caller goes away meanwhile, it happens all the same.
    ///
    /// # Errors
    /// [`Error::NotLeader`] and [`Error::Busy`]: it was not proposed. [`Error::Unknown`], [`Error::Stopped`]: it may or may not
    /// happen.
    pub async fn propose(&self, data: Bytes) -> Result<M::Reply, Error> {
        let (bytes, begun) = (data.len(), R::Instant::now());
        let outcome = self.replicate(data).await;
        self.0.meter.proposed(bytes, R::Instant::now() - begun, &outcome);
        outcome
    }

    async fn replicate(&self, data: Bytes) -> Result<M::Reply, Error> {
        let inner = &*self.0;
        if data.len() > PROPOSAL_BYTES_MAX {
            return Err(Error::TooLarge { bytes: data.len(), limit: PROPOSAL_BYTES_MAX });
        }
        let _pending = Pending::admit(inner, data.len())?;
        self.awake().await?;
        let (trace, _traced) = Trace::current();
        match inner.raft.client_write(Command(data, trace)).await {
            Ok(response) => match response.data {
                Some(reply) => Ok(reply),
                // It was committed and will be applied, but the replica here is fenced.
                None => Err(Error::Unknown),
            },
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Err(Error::NotLeader { leader: to.leader_id })
            }
            Err(RaftError::APIError(_)) => Err(Error::Unknown),
            Err(RaftError::Fatal(Fatal::Stopped)) => Err(Error::Stopped),
            Err(RaftError::Fatal(fatal)) => inner.log.health().fatal(&fatal.to_string()),
        }
    }

    /// Something is about to happen: a quiet group that this node leads wakes, once a majority confirmed that it still leads.
    pub(crate) async fn awake(&self) -> Result<(), Error> {
        let quiet = &self.0.quiet;
        if quiet.is_asleep() && self.is_leader() {
            self.read_index().await?;
            quiet.wake();
        } else {
            quiet.touch();
        }
        Ok(())
    }

    /// Makes a snapshot mark at the machine's durable position and purges the log behind it, but for the entries that are to be
    /// kept, for all or for a peer that still needs them. Returns when the mark is made and the purge is on its way; it may have to
    /// wait for entries that are being sent.
    ///
    /// # Errors
    /// [`Error::Stopped`], or if the durable position cannot be read.
    pub async fn compact(&self) -> Result<(), Error> {
        let Inner { raft, machine, compacting, .. } = &*self.0;
        let _one = compacting.lock().await;
        let before = raft.metrics().borrow_watched().snapshot;
        if read_mark(machine.durable())?.applied > before {
            raft.trigger().snapshot().await.map_err(|_| Error::Stopped)?;
            let made =
                |metrics: &RaftMetrics<Types<R, M::Reply>>| metrics.running_state.is_err() || metrics.snapshot > before;
            raft.wait(None).metrics(made, "a snapshot mark").await.map_err(|_| Error::Stopped)?;
        }
        if let Some(upto) = self.not_needed() {
            raft.trigger().purge_log(upto).await.map_err(|_| Error::Stopped)?;
            // Asked behind it: when this is answered the purge is in the log's queue, unless it must wait for a peer.
            raft.with_raft_state(|_| ()).await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    /// The last index that nobody needs any more, if something can be purged.
    fn not_needed(&self) -> Option<u64> {
        let Inner { raft, config, transfers, node, .. } = &*self.0;
        let receiver = raft.metrics();
        let metrics = receiver.borrow_watched();
        let mark = metrics.snapshot?.index;
        let kept = mark.checked_sub(config.keep_entries)?;
        let matched = metrics.replication.iter().flatten().filter(|(id, _)| *id != node);
        let matched = matched.map(|(_, matched)| matched.map_or(0, |matched| matched.index));
        let wanted = matched.chain(transfers.floor()).min().unwrap_or(u64::MAX);
        let upto = kept.min(wanted.max(kept.saturating_sub(config.hold_entries)));
        (metrics.purged.is_none_or(|purged| purged.index < upto)).then_some(upto)
    }

    /// Stops the group. When this returns nothing is applied any more, and what was queued for the log is written.
    pub async fn stop(&self) {
        if let Some(peers) = &self.0.peers {
            peers.router().close(self.0.log.id());
        }
        // It fails only if the core has ended in another way, which is as good.
        let _ = self.0.raft.shutdown().await;
        let _ = self.0.applier.acquire().await;
        let _ = self.0.node_log.barrier().await;
    }

    /// Whether this node leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0.raft.is_leader()
    }

    /// The machine that entries are applied to.
    #[must_use]
    pub fn machine(&self) -> &Arc<M> {
        &self.0.machine
    }

    /// The index up to which the machine would be after a crash now.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn durable(&self) -> Result<Option<u64>, Error> {
        Ok(read_mark(self.0.machine.durable())?.applied.map(|applied| applied.index))
    }

    /// How the group stands.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let receiver = self.0.raft.metrics();
        let metrics = receiver.borrow_watched();
        Metrics {
            term: metrics.current_term,
            leader: metrics.current_leader,
            is_leader: metrics.state.is_leader(),
            last: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            pending: self.0.pending.load(Ordering::Relaxed),
        }
    }
}

/// The fence of a replica, as its last process left it.
fn fence_of<M: Machine>(group: u32, machine: &Arc<M>) -> Result<Arc<Fence>, StorageError> {
    let fence = Arc::<Fence>::default();
    let range = machine.range();
    if install::is_parked(group, &range)? {
        fence.park();
    } else if let Some(reason) = install::fenced(group, &range)? {
        fence.raise(&reason);
    }
    Ok(fence)
}

/// What the machine holds, after an install that a crash interrupted was done again, or what had arrived for one was thrown away.
async fn recover<R: Runtime, M: Machine>(
    group: &Arc<GroupLog>,
    log: &Log<R>,
    machine: &Arc<M>,
) -> Result<Mark, StorageError> {
    let range = machine.range();
    match install::interrupted(group.id(), &range)? {
        Some(staged) => {
            let mark = install::run::<R>(group, log, range, staged).await?;
            machine.replaced()?;
            Ok(mark)
        }
        None => {
            install::forget(group.id(), &range)?;
            read_mark(machine.applied())
        }
    }
}

/// Follows what openraft says of the group until it ends: it is awake after every change, members' addresses are told to the peers, and whoever waits for a change is woken.
async fn watch<R: Runtime, M: Machine>(group: Weak<Inner<R, M>>) {
    let Some(mut receiver) = group.upgrade().map(|group| group.raft.server_metrics()) else {
        return;
    };
    let mut leader = None;
    loop {
        {
            let Some(group) = group.upgrade() else { return };
            let (now, config) = {
                let metrics = receiver.borrow_watched();
                (metrics.current_leader, metrics.membership_config.clone())
            };
            if now.is_some() && now != leader {
                group.meter.elections.increment(1);
                leader = now;
            }
            let members = config.membership();
            // Whatever changed, it is not quiet any more.
            group.quiet.wake();
            if let Some(peers) = &group.peers {
                for (id, Address(address)) in members.nodes().filter(|(_, address)| !address.0.is_empty()) {
                    if peers.address(*id).is_none() {
                        peers.set_address(*id, address.clone());
                    }
                }
            }
            group.changes.tell();
        }
        let Some(fence) = group.upgrade().map(|group| group.fence.clone()) else { return };
        match select2(receiver.changed(), fence.raised()).await {
            Select2::First(Ok(())) => {}
            Select2::First(Err(_)) => return,
            Select2::Second(()) => drop(R::spawn(fence::rebuild(group.clone()))),
        }
    }
}

/// Refuses what log and state cannot be if both are this group's: whoever puts back an old copy of one loses acknowledged writes.
fn check(log: &GroupLog, mark: &Mark) -> Result<(), Error> {
    let purged = log.tail().purged();
    let last = log.tail().last();
    let id = log.id();
    let reason = if mark.applied < purged {
        format!(
            "group {id}: the state ends at {:?}, but the log begins after {purged:?}; is it an old copy?",
            mark.applied
        )
    } else if mark.applied > last {
        format!(
            "group {id}: the log ends at {last:?}, but the state is at {:?}; is the log lost or an old copy?",
            mark.applied
        )
    } else {
        return Ok(());
    };
    Err(StorageError::Corrupt(reason).into())
}

/// Why a group did not start: what the disk said first, else what openraft says.
fn start_failure<C: openraft::RaftTypeConfig>(health: &Health, fatal: &Fatal<C>) -> Error {
    match (health.first(), fatal) {
        (Some(error), _) => Error::Storage(error),
        (None, Fatal::Stopped) => Error::Stopped,
        (None, other) => Error::Storage(StorageError::Corrupt(other.to_string())),
    }
}

/// A proposal under way.
struct Pending<'a, R: Runtime, M: Machine>(&'a Inner<R, M>, usize);

impl<'a, R: Runtime, M: Machine> Pending<'a, R, M> {
    fn admit(inner: &'a Inner<R, M>, bytes: usize) -> Result<Self, Error> {
        let pending = inner.pending.fetch_add(1, Ordering::Relaxed);
        let pending_bytes = inner.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        // Undone when dropped.
        let admitted = Self(inner, bytes);
        if pending >= inner.config.max_pending {
            return Err(Error::Busy { pending, limit: inner.config.max_pending });
        }
        // One that is larger than the limit may go alone.
        if pending_bytes > 0 && pending_bytes.saturating_add(bytes) > inner.config.max_pending_bytes {
            return Err(Error::Busy { pending: pending_bytes, limit: inner.config.max_pending_bytes });
        }
        Ok(admitted)
    }
}

impl<R: Runtime, M: Machine> Drop for Pending<'_, R, M> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
        self.0.pending_bytes.fetch_sub(self.1, Ordering::Relaxed);
    }
}
