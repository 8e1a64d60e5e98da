//! The way between nodes: one connection for each peer and direction, many calls in flight on it, small messages written together.
//!
//! Raft uses it for its groups, and so does the node for what it says to other nodes; each has a service number and a [`Handler`].
//! A call that was not sent is told apart from one whose outcome is unknown, since only the first may be repeated blindly. Who
//! may connect is decided by the hello: the cluster must be the same, the node must be the one that was meant, and whoever uses
//! this crate may refuse more ([`Peers::admit_by`]). What the messages mean is not known here.

mod frame;
mod link;
mod serve;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use mainstay_runtime::{AsyncRuntime, Instant, Runtime};
use tokio::sync::{Notify, Semaphore};

use crate::router::Router;
use crate::{clock, quiet};
use link::Link;

pub(crate) use frame::FRAME_BYTES_MAX;

/// Bytes of one call or answer: what a frame holds, without its header.
pub const BODY_BYTES_MAX: usize = FRAME_BYTES_MAX - 64;
/// The service number of Raft. Others are free for whoever uses this crate.
pub const RAFT_SERVICE: u16 = 1;
/// The service number of greetings, the only one that a node without a cluster may call ([`Peers::call_address`]).
pub const GREETING_SERVICE: u16 = 2;

/// Frames that wait to be written on one connection.
const QUEUE_FRAMES: usize = 1024;
/// Bytes of them, in units of [`QUEUE_UNIT`].
const QUEUE_UNITS: u32 = 64 << 10;
const QUEUE_UNIT: usize = 1 << 10;
/// Bytes of small frames that are written together.
const WRITE_BYTES: usize = 256 << 10;
/// Calls of one connection that may be under way.
const CALLS_MAX: usize = 4096;
/// Connections to this node; more are closed at once.
const CONNECTIONS_MAX: usize = 1024;
/// A connection must be made and greeted within this time.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Waits between attempts to connect.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_LAST: Duration = Duration::from_millis(500);
/// How often each side of a connection gives a sign of life.
const PING_EVERY: Duration = Duration::from_millis(500);
/// How long people are told of something.
const NOTICE_FOR: Duration = Duration::from_secs(60);
const NOTICES_MAX: usize = 64;
/// A connection on which nothing was heard for so long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// The future of an answer, or of a refusal in a sentence.
pub type Answer = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>>;

/// What answers the calls of one service.
pub trait Handler: Send + Sync + 'static {
    /// Answers a call of node `from`. Calls of one node come in the order in which it made them, and each future is polled once
    /// before the next call comes; so what is done before its first wait happens in that order.
    fn handle(&self, from: u64, body: Bytes) -> Answer;
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The call was not sent: nothing happened.
    #[error("the node cannot be reached: {0}")]
    Unreachable(String),
    /// The call was sent, and no answer came in time: whether it happened is not known.
    #[error("no answer came in time; whether the call was carried out is not known")]
    TimedOut,
    /// The call was sent, and the connection broke: whether it happened is not known.
    #[error("the connection broke before the answer came: {0}; whether the call was carried out is not known")]
    Lost(String),
    /// The other node said no, in these words.
    #[error("{0}")]
    Refused(String),
}

/// How a node introduces itself on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The node that connects; 0 if it has no id yet.
    pub from: u64,
    /// The node that it means; 0 for whoever is there.
    pub to: u64,
    /// Which life of its data directory the node has: an id whose disk was lost comes back with another one. 0 if not told.
    pub incarnation: u64,
    /// The cluster's id.
    pub cluster: String,
}

/// Decides whether a node may connect; a refusal is a sentence.
pub type Admission = Arc<dyn Fn(&Hello) -> Result<(), String> + Send + Sync>;

/// Closes once, and wakes everyone who waits for that.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn close(&self) {
        self.0.close();
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Resolves when it is closed.
    pub async fn closed(&self) {
        // There is never a permit.
        let _closed = self.0.acquire().await;
    }
}

pub(crate) struct Inner<R: Runtime> {
    me: u64,
    cluster: Mutex<String>,
    incarnation: AtomicU64,
    links: Mutex<BTreeMap<u64, Arc<Link<R>>>>,
    handlers: Mutex<BTreeMap<u16, Arc<dyn Handler>>>,
    admission: Mutex<Option<Admission>>,
    heard: Mutex<BTreeMap<u64, R::Instant>>,
    stopped: Gate,
    router: Arc<Router>,
    /// Whether offers to be quiet are made, and the clock runs.
    offers: AtomicBool,
    /// Rung when a node is found to be out of reach.
    broken: Arc<Notify>,
    /// Nodes that are not welcome any more, and why.
    banned: Mutex<BTreeMap<u64, String>>,
    /// What the last node said that refused this one.
    refusal: Mutex<Option<String>>,
    notices: Mutex<Notices<R>>,
}

/// Sentences about what happened lately, and when.
type Notices<R> = BTreeMap<String, <R as AsyncRuntime>::Instant>;

/// Does not keep the peers.
pub(crate) struct WeakPeers<R: Runtime>(Weak<Inner<R>>);

impl<R: Runtime> WeakPeers<R> {
    /// The peers, if they still are and were not stopped.
    pub fn upgrade(&self) -> Option<Peers<R>> {
        self.0.upgrade().filter(|inner| !inner.stopped.is_closed()).map(Peers)
    }
}

impl<R: Runtime> Clone for WeakPeers<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// All peers of a node. Clones are handles of the same one.
pub struct Peers<R: Runtime>(Arc<Inner<R>>);

impl<R: Runtime> Clone for Peers<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Runtime> Peers<R> {
    /// A node without peers yet. A hello with another cluster id is refused, but for greetings. The id is empty as long as the node is
    /// part of no cluster.
    #[must_use]
    pub fn new(me: u64, cluster: String) -> Self {
        let router = Arc::<Router>::default();
        let peers = Self(Arc::new(Inner {
            me,
            cluster: Mutex::new(cluster),
            incarnation: AtomicU64::new(0),
            links: Mutex::default(),
            handlers: Mutex::default(),
            admission: Mutex::default(),
            heard: Mutex::default(),
            stopped: Gate::new(),
            router: router.clone(),
            offers: AtomicBool::new(false),
            broken: Arc::default(),
            banned: Mutex::default(),
            refusal: Mutex::default(),
            notices: Mutex::default(),
        }));
        peers.register(RAFT_SERVICE, router);
        peers
    }

    /// This node's id.
    #[must_use]
    pub fn me(&self) -> u64 {
        self.0.me
    }

    /// This node is part of a cluster now.
    pub fn set_cluster(&self, cluster: String) {
        *lock(&self.0.cluster) = cluster;
    }

    /// What this node's hellos say of the life of its data directory, from the next connection on.
    pub fn set_incarnation(&self, incarnation: u64) {
        self.0.incarnation.store(incarnation, Ordering::Relaxed);
    }

    /// Asks `admission` about every node that connects from now on, after the cluster and the meant node were found right.
    pub fn admit_by(&self, admission: Admission) {
        *lock(&self.0.admission) = Some(admission);
    }

    /// Sets where a node is: `host:port`. May change while running; a connection to the old address is then closed.
    pub fn set_address(&self, node: u64, address: String) {
        if self.0.stopped.is_closed() || node == self.0.me {
            return;
        }
        let mut links = lock(&self.0.links);
        if links.get(&node).is_some_and(|link| link.address() == address) {
            return;
        }
        let link = Link::start(Arc::downgrade(&self.0), node, address);
        if let Some(old) = links.insert(node, link) {
            old.close();
        }
    }

    /// Where a node is, as it was last set.
    #[must_use]
    pub fn address(&self, node: u64) -> Option<String> {
        lock(&self.0.links).get(&node).map(|link| link.address().to_owned())
    }

    /// Closes the connection to a node and forgets where it is.
    pub fn forget(&self, node: u64) {
        if let Some(link) = lock(&self.0.links).remove(&node) {
            link.close();
        }
        lock(&self.0.heard).remove(&node);
    }

    /// Forgets a node for good: it is told this sentence whenever it connects, and is not answered.
    pub fn ban(&self, node: u64, reason: &str) {
        self.forget(node);
        lock(&self.0.banned).insert(node, reason.to_owned());
    }

    /// What the last node said that refused a connection from this one, if one ever did.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        lock(&self.0.refusal).clone()
    }

    /// Remembers something that people should hear of.
    pub fn note(&self, sentence: String) {
        let mut notices = lock(&self.0.notices);
        let now = R::Instant::now();
        notices.retain(|_, at| now - *at < NOTICE_FOR);
        if notices.len() < NOTICES_MAX {
            notices.insert(sentence, now);
        }
    }

    /// What was noted within the last minute.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let now = R::Instant::now();
        lock(&self.0.notices).iter().filter(|(_, at)| now - **at < NOTICE_FOR).map(|(said, _)| said.clone()).collect()
    }

    /// Answers peers that connect to this listener, until it is stopped.
    pub fn serve(&self, listener: R::Listener) {
        drop(R::spawn(serve::accept(self.clone(), listener)));
    }

    /// Sets what answers a service's calls.
    pub fn register(&self, service: u16, handler: Arc<dyn Handler>) {
        lock(&self.0.handlers).insert(service, handler);
    }

    /// Calls a node's service and waits for the answer, at most for `within`.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn call(&self, node: u64, service: u16, body: Bytes, within: Duration) -> Result<Bytes, PeerError> {
        let link = lock(&self.0.links).get(&node).cloned();
        match link {
            Some(link) => link.call(service, body, within).await,
            None => Err(PeerError::Unreachable(format!("the address of node {node} is not known"))),
        }
    }

    /// Calls a service of whatever node of this cluster is at an address, on a connection of its own. For a node that does not
    /// know its peers' ids yet. Answers the other node's id, too.
    ///
    /// # Errors
    /// See [`PeerError`].
    pub async fn call_address(
        &self,
        address: &str,
        service: u16,
        body: Bytes,
        within: Duration,
    ) -> Result<(u64, Bytes), PeerError> {
        link::call_once(&self.0, address, service, body, within).await
    }

    /// When something was last heard from a node, on any connection.
    #[must_use]
    pub fn last_heard(&self, node: u64) -> Option<R::Instant> {
        lock(&self.0.heard).get(&node).copied()
    }

    /// Closes all connections and stops listening. Calls from now on fail.
    pub fn stop(&self) {
        self.0.stopped.close();
        let links = std::mem::take(&mut *lock(&self.0.links));
        links.values().for_each(|link| link.close());
    }

    /// Whether the last attempt to connect to a node failed, so that calls to it are refused.
    #[must_use]
    pub fn is_unreachable(&self, node: u64) -> bool {
        lock(&self.0.links).get(&node).is_some_and(|link| link.is_down())
    }

    /// Nodes that cannot be reached though they once could, and for how long nothing was heard of them.
    pub(crate) fn unreachable(&self) -> Vec<(u64, Duration)> {
        let down: Vec<u64> =
            lock(&self.0.links).iter().filter(|(_, link)| link.is_down()).map(|(node, _)| *node).collect();
        let heard = lock(&self.0.heard);
        let now = R::Instant::now();
        down.into_iter().filter_map(|node| heard.get(&node).map(|heard| (node, now - *heard))).collect()
    }

    pub(crate) fn broken(&self) -> Arc<Notify> {
        self.0.broken.clone()
    }

    pub(crate) fn stopping(&self) -> Gate {
        self.0.stopped.clone()
    }

    pub(crate) fn downgrade(&self) -> WeakPeers<R> {
        WeakPeers(Arc::downgrade(&self.0))
    }

    /// From now on has offers to be quiet made for the node's groups, and their clock run.
    pub(crate) fn make_offers(&self) {
        if !self.0.offers.swap(true, Ordering::Relaxed) {
            drop(R::spawn(quiet::run(self.downgrade())));
            drop(R::spawn(clock::run(self.downgrade())));
        }
    }

    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.0.router
    }
}

impl<R: Runtime> Inner<R> {
    fn hello(&self, to: u64) -> Hello {
        let incarnation = self.incarnation.load(Ordering::Relaxed);
        Hello { from: self.me, to, incarnation, cluster: lock(&self.cluster).clone() }
    }

    fn is_member(&self, hello: &Hello) -> bool {
        hello.cluster == *lock(&self.cluster)
    }

    fn stranger(&self, hello: &Hello) -> String {
        let (from, other, own) = (hello.from, &hello.cluster, lock(&self.cluster).clone());
        format!("node {from} belongs to cluster {other:?}, and this is a node of cluster {own:?}")
    }

    /// Whether a node may connect.
    fn admits(&self, hello: &Hello) -> Result<(), String> {
        if let Some(reason) = lock(&self.banned).get(&hello.from).filter(|_| self.is_member(hello)) {
            return Err(reason.clone());
        }
        // Who does not mean this node by its id wants to know who is here, and may do nothing else.
        if !self.is_member(hello) && hello.to != 0 {
            return Err(self.stranger(hello));
        }
        if hello.to != 0 && hello.to != self.me {
            return Err(format!("node {} is meant, and this is node {}", hello.to, self.me));
        }
        if hello.from == self.me && self.me != 0 && hello.to != 0 {
            return Err(format!("this is node {} itself", self.me));
        }
        let admission = lock(&self.admission).clone();
        admission.map_or(Ok(()), |admission| admission(hello))
    }

    fn is_banned(&self, node: u64) -> bool {
        lock(&self.banned).contains_key(&node)
    }

    fn refused(&self, reason: &str) {
        *lock(&self.refusal) = Some(reason.to_owned());
    }

    fn handler(&self, service: u16) -> Option<Arc<dyn Handler>> {
        lock(&self.handlers).get(&service).cloned()
    }

    fn heard(&self, node: u64) {
        if node != 0 {
            lock(&self.heard).insert(node, R::Instant::now());
        }
    }
}
