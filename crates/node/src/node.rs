//! A node as an object: started on two stores, stopped, and started again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use mainstay_api::log::SuggestFrom;
use mainstay_api::record::{MemberRecord, NamespaceRecord};
use mainstay_api::temporal::enums::v1::{IndexedValueType, NamespaceState};
use mainstay_base::Timestamp;
use mainstay_consensus::{Group, Log, Peers};
use mainstay_engine::Error;
use mainstay_runtime::{Runtime, Select2, select2};
use mainstay_shard::{Placement, SPLITS_MAX, Shard};
use mainstay_storage::{Budget, LogStore, StateStore, StorageError};
use tokio::sync::Notify;

use crate::answer::Door;
use crate::board::Board;
use crate::clock::{Clock, Now};
use crate::damage::Guard;
use crate::machine::ShardMachine;
use crate::{
    balancer, batches, holders, keeper, leadership, members, offers, outbox, placement, reclaim, replicas, route,
    speculative, splits, timers,
};

/// The group of namespaces and cluster configuration. Shards are the groups behind it.
pub(crate) const METADATA_GROUP: u32 = 0;
/// Of a node that is alone.
const NODE_ID: u64 = 1;
/// Voters of the metadata group. Other members learn only.
pub(crate) const METADATA_VOTERS_MAX: usize = 5;
/// Replicas of a shard, all of which vote, if nothing else is said.
pub const REPLICAS: u32 = 3;
/// How long a node of a cluster looks for the others when it starts, before it serves anyhow.
const MEET_WITHIN: Duration = Duration::from_secs(20);
const DAY_NS: i64 = 86_400_000_000_000;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Stable for a data directory: a UUID.
    pub cluster_id: String,
    /// Shards of a new cluster. Must be what it was when the data directory was made.
    pub shards: u32,
    /// Replicas of each shard in a cluster of as many nodes or more; an odd number. Must be what it was when the cluster was founded.
    pub replicas: u32,
    /// How far the stores may grow.
    pub budget: Budget,
    /// Namespaces that exist after the start.
    pub namespaces: Vec<String>,
    /// Custom search attributes of those namespaces.
    pub search_attributes: BTreeMap<String, IndexedValueType>,
    /// Retention of those namespaces when they are new, in nanoseconds.
    pub retention_ns: i64,
    /// Queries that may wait for one run's workflow task.
    pub buffered_queries_max: usize,
    /// When workers are told to continue as new, if not at the default sizes.
    pub suggest_from: Option<SuggestFrom>,
    /// How large the payloads of a worker's commands may be, in bytes; 0 for the usual limit.
    pub blob_size_max: u64,
    /// The state is flushed at least this often while it changes, and then the log behind it is purged.
    pub flush_every: Duration,
    /// Entries of a group that a purge leaves, for peers that are a little behind.
    pub keep_entries: u64,
    /// Entries that it leaves beyond those for a peer that needs them, before that has to be sent the whole state.
    pub hold_entries: u64,
}

impl Default for Config {
    fn default() -> Self {
        let log = mainstay_consensus::Config::default();
        Self {
            cluster_id: String::new(),
            shards: 4,
            replicas: REPLICAS,
            budget: Budget::default(),
            namespaces: vec!["default".into()],
            search_attributes: BTreeMap::new(),
            retention_ns: DAY_NS,
            buffered_queries_max: 1,
            suggest_from: None,
            blob_size_max: 0,
            flush_every: Duration::from_secs(30),
            keep_entries: log.keep_entries,
            hold_entries: log.hold_entries,
        }
    }
}

/// What a node keeps its data in.
#[derive(Clone)]
pub struct Stores {
    /// Logs of all groups.
    pub log: Arc<dyn LogStore>,
    /// State of all groups.
    pub state: Arc<dyn StateStore>,
}

/// A node's place in a cluster.
pub struct Clustering<R: Runtime> {
    /// The way to the others; serves already.
    pub peers: Peers<R>,
    /// This node, as the others shall know it: alive, in a new incarnation.
    pub member: MemberRecord,
    /// Who founded the cluster, by name; the same on all of its members. They are the first voters of its groups.
    pub founders: Vec<MemberRecord>,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A group did not start.
    #[error("group {group} did not start: {source}")]
    Group {
        /// Its number.
        group: u32,
        /// Why.
        source: mainstay_consensus::Error,
    },
    /// The state cannot be read.
    #[error("the state cannot be read: {0}")]
    Storage(#[from] StorageError),
    /// A namespace that should exist could not be made.
    #[error("namespace {name}: {source}")]
    Namespace {
        /// Its name.
        name: String,
        /// Why.
        source: Error,
    },
}

pub(crate) struct Inner<R: Runtime> {
    config: Config,
    clustering: Option<Clustering<R>>,
    leaving: AtomicBool,
    board: Arc<Board>,
    /// As many as there may ever be; the first ones are open.
    groups: Vec<OnceLock<Group<R, ShardMachine>>>,
    open: AtomicU32,
    opening: Opening<R>,
    pub(crate) stores: Stores,
    clock: Arc<Clock<R>>,
    namespace_changes: tokio::sync::Mutex<()>,
    /// Bytes that the stores may still grow by, as far as is known; none or less: new work is refused.
    pub(crate) room: AtomicI64,
    /// Bytes that the stores took at the last look.
    pub(crate) used: AtomicU64,
    stopped: AtomicBool,
    stopping: Notify,
}

/// What it takes to open a group.
struct Opening<R: Runtime> {
    id: u64,
    settings: mainstay_consensus::Config,
    peers: Option<Peers<R>>,
    /// Of the cluster.
    founders: Vec<MemberRecord>,
    /// Shards at its founding, and replicas of each.
    shards: u32,
    replicas: usize,
    log: Log<R>,
    state: Arc<dyn StateStore>,
    board: Arc<Board>,
    now: Now,
}

impl<R: Runtime> Opening<R> {
    /// Opens a group on what the stores hold of it.
    fn group(
        &self,
        group: u32,
    ) -> Result<
        impl Future<Output = Result<Group<R, ShardMachine>, mainstay_consensus::Error>> + Send + use<R>,
        StorageError,
    > {
        let shard = Shard::new(group, Arc::clone(&self.state));
        let indexed = shard.complete_index()?;
        if indexed > 0 {
            tracing::info!(
                component = "lists",
                "shard-id" = group,
                rows = indexed,
                "an index was made of rows that had none"
            );
        }
        let machine = Arc::new(ShardMachine { group, shard, board: Arc::clone(&self.board), clock: self.now.clone() });
        let settings = mainstay_consensus::Config { founders: self.founders(group)?, ..self.settings.clone() };
        Ok(Group::start(group, self.id, self.log.clone(), machine, settings, self.peers.clone()))
    }

    /// Who votes in a group at its beginning, if this node is one of them: founders of the cluster, or what a split says. Who founded the
    /// cluster and does not vote is added by the leaders.
    fn founders(&self, group: u32) -> Result<BTreeMap<u64, String>, StorageError> {
        let voters: BTreeMap<u64, String> = if group <= self.shards {
            let voters = self.founders.iter().take(voters_max(group, self.replicas));
            voters.map(|member| (member.node_id, member.peer_address.clone())).collect()
        } else {
            let splits = Shard::new(METADATA_GROUP, Arc::clone(&self.state)).splits()?;
            let split = splits.splits.into_iter().find(|split| split.target == group);
            let voters = split.map(|split| split.voters).unwrap_or_default();
            voters.into_iter().map(|voter| (voter.node_id, voter.peer_address)).collect()
        };
        Ok(if voters.contains_key(&self.id) { voters } else { BTreeMap::new() })
    }
}

/// Who votes in a group at most.
fn voters_max(group: u32, replicas: usize) -> usize {
    if group == METADATA_GROUP { METADATA_VOTERS_MAX } else { replicas }
}

/// A node. Cheap to clone; all clones are the same node.
pub struct Node<R: Runtime>(pub(crate) Arc<Inner<R>>);

impl<R: Runtime> Clone for Node<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A node that may be gone.
pub(crate) struct WeakNode<R: Runtime>(Weak<Inner<R>>);

impl<R: Runtime> WeakNode<R> {
    pub(crate) fn upgrade(&self) -> Option<Node<R>> {
        self.0.upgrade().map(Node)
    }
}

impl<R: Runtime> Node<R> {
    /// Starts a node that is alone on what its stores hold: applies what the log has beyond the state, then serves.
    ///
    /// # Errors
    /// If a store cannot be read, or holds what this node cannot have written.
    pub async fn start(config: Config, stores: Stores) -> Result<Self, StartError> {
        let node = Self::open(config, stores, None).await?;
        for group in 0..node.group_count() {
            node.gain(group)?;
        }
        node.ensure_configured_namespaces().await?;
        node.board().has_met.store(true, Ordering::Release);
        node.begin();
        Ok(node)
    }

    /// Starts a node of a cluster. Returns once the metadata group has a leader that knows this node, or after some time without.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_in(config: Config, stores: Stores, clustering: Clustering<R>) -> Result<Self, StartError> {
        let node = Self::open(config, stores, Some(clustering)).await?;
        if let Some(peers) = node.peers() {
            peers.register(route::SERVICE, Arc::new(Door(WeakNode(Arc::downgrade(&node.0)))));
        }
        node.begin();
        for group in 0..node.group_count() {
            drop(R::spawn(leadership::follow(node.clone(), group)));
        }
        drop(R::spawn(replicas::run(node.clone())));
        drop(R::spawn(offers::run(node.clone())));
        drop(R::spawn(members::run(node.clone())));
        drop(R::spawn(members::watch(node.clone())));
        drop(R::spawn(members::balance(node.clone())));
        drop(R::spawn(placement::run(node.clone())));
        drop(R::spawn(balancer::run(node.clone())));
        drop(R::spawn(holders::run(node.clone())));
        drop(R::spawn(splits::follow(node.clone())));
        drop(R::spawn(splits::run(node.clone())));
        node.found().await?;
        drop(R::spawn(members::register(node.clone())));
        let meeting = node.clone();
        // If it takes longer it goes on while the node serves.
        let _met = R::timeout(MEET_WITHIN, R::spawn(async move { meeting.meet().await })).await;
        Ok(node)
    }

    /// Stands for election in those groups of a new cluster that it should lead; the others would wait a while before they did.
    async fn found(&self) -> Result<(), StartError> {
        for (number, group) in (0..=self.config().shards).zip(self.groups()) {
            let voters = group.members().voters;
            if members::turn_of(number, voters.iter()) == Some(&self.id()) {
                group.stand_first().await.map_err(|source| StartError::Group { group: number, source })?;
            }
        }
        Ok(())
    }

    /// Resolves when the members' record has this node, and the configured namespaces are there.
    async fn meet(&self) {
        while !self.is_stopped() {
            let known = self.board().members.now();
            let registered = known
                .members
                .iter()
                .any(|member| self.clustering().is_some_and(|clustering| clustering.member == *member));
            if registered && self.ensure_configured_namespaces().await.is_ok() {
                self.board().has_met.store(true, Ordering::Release);
                return;
            }
            R::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts the groups and fills the memory that every replica has.
    async fn open(config: Config, stores: Stores, clustering: Option<Clustering<R>>) -> Result<Self, StartError> {
        let guard = Guard::new::<R>();
        let stores = Stores { state: guard.watch(stores.state), ..stores };
        let most = config.shards + 1 + SPLITS_MAX;
        let splits = Shard::new(METADATA_GROUP, Arc::clone(&stores.state)).splits()?;
        let count = Placement::of(config.shards, &splits).shards() + 1;
        let clustered = clustering.is_some();
        let id = clustering.as_ref().map_or(NODE_ID, |clustering| clustering.member.node_id);
        let board = Arc::new(Board::new(most, config.shards, id, clustered));
        let clock = Arc::new(Clock::<R>::new());
        let opening = Opening {
            id,
            settings: mainstay_consensus::Config {
                address: clustering.as_ref().map(|one| one.member.peer_address.clone()).unwrap_or_default(),
                keep_entries: config.keep_entries,
                hold_entries: config.hold_entries,
                ..Default::default()
            },
            peers: clustering.as_ref().map(|clustering| clustering.peers.clone()),
            founders: clustering.as_ref().map(|clustering| clustering.founders.clone()).unwrap_or_default(),
            shards: config.shards,
            replicas: config.replicas as usize,
            log: Log::<R>::start(Arc::clone(&stores.log)),
            state: Arc::clone(&stores.state),
            board: Arc::clone(&board),
            now: clock.reader(),
        };
        // Together: each needs a few syncs of the log, and those that wait at one time share them.
        let mut starting = Vec::with_capacity(count as usize);
        for group in 0..count {
            starting.push(R::spawn(opening.group(group)?));
        }
        let groups: Vec<OnceLock<_>> = (0..most).map(|_| OnceLock::new()).collect();
        for ((group, place), started) in (0..).zip(&groups).zip(starting) {
            let started = started.await.unwrap_or(Err(mainstay_consensus::Error::Stopped));
            let started = started.map_err(|source| StartError::Group { group, source })?;
            let _first = place.set(started);
        }
        let inner = Inner {
            config,
            clustering,
            leaving: AtomicBool::new(false),
            board,
            groups,
            open: AtomicU32::new(count),
            opening,
            stores,
            clock,
            namespace_changes: tokio::sync::Mutex::new(()),
            room: AtomicI64::new(i64::MAX),
            used: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            stopping: Notify::new(),
        };
        let node = Self(Arc::new(inner));
        node.load()?;
        let weak = WeakNode(Arc::downgrade(&node.0));
        guard.serves(Box::new(move |group, reason| weak.upgrade().is_some_and(|node| node.fence(group, reason))));
        Ok(node)
    }

    /// Begins what goes on in the background.
    fn begin(&self) {
        (1..self.group_count()).for_each(|group| self.begin_shard(group));
        drop(R::spawn(timers::run_matching(self.clone())));
        drop(R::spawn(speculative::run(self.clone())));
        drop(R::spawn(keeper::run(self.clone())));
        drop(R::spawn(batches::run(self.clone())));
        drop(R::spawn(reclaim::run(self.clone())));
    }

    fn begin_shard(&self, group: u32) {
        drop(R::spawn(timers::run(self.clone(), group)));
        drop(R::spawn(outbox::run(self.clone(), group)));
    }

    /// Opens the next group, which came by a split.
    pub(crate) async fn open_group(&self, group: u32) -> Result<(), StartError> {
        let started = self.0.opening.group(group)?.await.map_err(|source| StartError::Group { group, source })?;
        self.0.board.load(group, &started.machine().shard)?;
        if let Some(place) = self.0.groups.get(group as usize) {
            let _first = place.set(started);
        }
        self.0.open.fetch_max(group + 1, Ordering::AcqRel);
        self.begin_shard(group);
        drop(R::spawn(leadership::follow(self.clone(), group)));
        Ok(())
    }

    /// A group's log has this time: none before it is told from here on.
    pub(crate) fn has_seen(&self, ns: i64) {
        self.0.clock.at_least(ns);
    }

    /// Fills the memory that every replica has from rows.
    fn load(&self) -> Result<(), StorageError> {
        for (group, started) in (0..).zip(self.groups()) {
            self.0.board.load(group, &started.machine().shard)?;
            self.has_seen(started.machine().shard.now()?);
            if group == METADATA_GROUP {
                self.load_queue_configurations(&started.machine().shard, self.now())?;
            }
        }
        Ok(())
    }

    async fn ensure_configured_namespaces(&self) -> Result<(), StartError> {
        let attributes = self.0.config.search_attributes.iter().map(|(name, kind)| (name.clone(), *kind as i32));
        let attributes: BTreeMap<String, i32> = attributes.collect();
        for name in self.0.config.namespaces.clone() {
            let record = match self.0.board.registry.by_name(&name) {
                None => NamespaceRecord {
                    name: name.clone(),
                    state: NamespaceState::Registered as i32,
                    retention_ns: self.0.config.retention_ns,
                    search_attributes: attributes.clone(),
                    ..NamespaceRecord::default()
                },
                Some(known) if attributes.iter().any(|(key, kind)| known.search_attributes.get(key) != Some(kind)) => {
                    let mut record = (*known).clone();
                    record.search_attributes.extend(attributes.clone());
                    record
                }
                Some(_) => continue,
            };
            let stored = self.change_namespace(record).await;
            stored.map_err(|source| StartError::Namespace { name, source })?;
        }
        Ok(())
    }

    /// Stops serving: what this node leads is handed over, background work ends, what was applied is flushed. Idempotent.
    // Not an `async fn`: the compiler would not find its future to be `Send` where it is raced against a clock.
    pub fn stop(&self) -> impl Future<Output = ()> + Send + use<R> {
        let node = self.clone();
        async move {
            node.hand_over().await;
            node.halt().await;
        }
    }

    /// Stops serving without handing anything over. Idempotent.
    pub fn halt(&self) -> impl Future<Output = ()> + Send + use<R> {
        let node = self.clone();
        async move {
            node.0.stopped.store(true, Ordering::Release);
            node.0.stopping.notify_waiters();
            if let Some(peers) = node.peers() {
                peers.stop();
            }
            for group in node.groups().cloned().collect::<Vec<_>>() {
                group.stop().await;
            }
            let state = Arc::clone(&node.0.stores.state);
            // What is lost of the state here is made again from the log.
            let _flushed = R::disk(move || state.flush()).await;
        }
    }

    /// Resolves when the node stops.
    pub(crate) async fn stopping(&self) {
        let stopping = self.0.stopping.notified();
        if !self.is_stopped() {
            stopping.await;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// Whether this node gives away what it leads, and takes up nothing new.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.leaving.load(Ordering::Acquire)
    }

    pub(crate) fn set_leaving(&self) {
        self.0.leaving.store(true, Ordering::Release);
    }

    pub(crate) fn clustering(&self) -> Option<&Clustering<R>> {
        self.0.clustering.as_ref()
    }

    pub(crate) fn peers(&self) -> Option<&Peers<R>> {
        self.clustering().map(|clustering| &clustering.peers)
    }

    /// Whether there are no other nodes, and never will be.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.clustering.is_none()
    }

    pub(crate) fn id(&self) -> u64 {
        self.clustering().map_or(NODE_ID, |clustering| clustering.member.node_id)
    }

    /// Groups that are open here.
    pub(crate) fn group_count(&self) -> u32 {
        self.0.open.load(Ordering::Acquire)
    }

    /// Voters that a group has at most.
    pub(crate) fn voters_max(&self, group: u32) -> usize {
        voters_max(group, self.replicas())
    }

    /// Replicas that a shard has where there are as many members.
    pub(crate) fn replicas(&self) -> usize {
        self.config().replicas as usize
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn board(&self) -> &Board {
        &self.0.board
    }

    pub(crate) fn namespace_changes(&self) -> &tokio::sync::Mutex<()> {
        &self.0.namespace_changes
    }

    pub(crate) fn group(&self, group: u32) -> Result<&Group<R, ShardMachine>, Error> {
        let missing = || Error::Internal(format!("there is no group {group}"));
        self.0.groups.get(group as usize).and_then(OnceLock::get).ok_or_else(missing)
    }

    /// The open groups, in order.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Group<R, ShardMachine>> {
        self.0.groups.iter().map_while(OnceLock::get)
    }

    pub(crate) fn shard(&self, group: u32) -> Result<&Shard, Error> {
        Ok(&self.group(group)?.machine().shard)
    }

    /// The time that entries are stamped with.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The same, for those who do not know the runtime.
    pub(crate) fn time(&self) -> Now {
        self.0.clock.reader()
    }

    /// Waits until a time, or until the node stops.
    pub(crate) async fn rest_until(&self, time: R::Instant) {
        let _time_is_up = R::timeout_at(time, self.stopping()).await;
    }

    /// Runs something until it ends, or the time is up, or the node stops.
    pub(crate) fn within<T, F>(&self, deadline: R::Instant, future: F) -> impl Future<Output = Option<T>> + Send
    where
        F: Future<Output = T> + Send,
        T: Send,
    {
        R::timeout_at(deadline, select2(future, self.stopping())).map(|ended| match ended {
            Ok(Select2::First(value)) => Some(value),
            Ok(Select2::Second(())) | Err(_) => None,
        })
    }
}
