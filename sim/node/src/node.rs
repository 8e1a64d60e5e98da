//! A Mainstay node in the simulated world: a process that can die, on a disk that stays.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mainstay_api::record::MemberRecord;
use mainstay_consensus::Peers;
use mainstay_node::{Clustering, Config, Node, StartError, Stores};
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_runtime::{
    Crash, Disk, FATAL, Handle, Listener, NodeHandle, SimRuntime, close_sockets, set_clock, set_disk_delay, trace,
};
use mainstay_storage::{Budget, LogStore, StateStore};

/// Where frontends listen.
pub const PORT: u16 = 7233;
/// Where nodes listen for each other.
pub const PEER_PORT: u16 = 7234;
/// What a node keeps free of its disk.
pub const RESERVE_BYTES: u64 = 1 << 20;
/// How long an operation of a healthy disk takes.
pub const USUAL_DISK: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(2);

/// What stands between a node and its stores: a deliberate bug.
pub trait Around: Send + Sync {
    /// The log with the bug.
    fn log(&self, log: Arc<dyn LogStore>) -> Arc<dyn LogStore>;
    /// The state with the bug.
    fn state(&self, state: Arc<dyn StateStore>) -> Arc<dyn StateStore>;
}

/// What all nodes of a cluster have in common.
#[derive(Clone)]
pub struct Cluster {
    /// How many found it; one is alone for ever.
    pub size: u8,
    /// How each is set up.
    pub config: Config,
    /// What stands between them and their stores, if anything does.
    pub around: Option<Arc<dyn Around>>,
}

impl Cluster {
    fn address(number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([10, 0, 0, number]), port)
    }

    fn member(number: u8, node_id: u64, incarnation: u64) -> MemberRecord {
        MemberRecord {
            node_id,
            name: format!("node{number}"),
            peer_address: Self::address(number, PEER_PORT).to_string(),
            address: Self::address(number, PORT).to_string(),
            incarnation,
            alive: true,
            ..MemberRecord::default()
        }
    }

    fn founders(&self) -> Vec<MemberRecord> {
        (1..=self.size).map(|number| Self::member(number, u64::from(number), u64::from(number))).collect()
    }
}

/// One node and its disk.
pub struct SimNode {
    /// Its name in traces.
    pub name: String,
    /// The simulated machine.
    pub handle: NodeHandle,
    /// What survives its crashes.
    pub disk: Arc<Disk>,
    /// Where its frontend listens.
    pub address: SocketAddr,
    /// Whether a process runs, as far as the faults decide it.
    up: Cell<bool>,
    clock: Cell<(i64, i64)>,
    /// Its id in the cluster, which its disk remembers: another one after a disk was lost.
    id: Arc<AtomicU64>,
}

impl SimNode {
    /// Boots a node with an empty disk. Its clocks: the wall clock's distance from true time in nanoseconds, and the drift of both
    /// in parts of a million.
    #[must_use]
    pub fn boot(number: u8, cluster: &Cluster, clock: (i64, i64)) -> Self {
        let name = format!("node{number}");
        let address = Cluster::address(number, PORT);
        let disk = Disk::new();
        let (own_disk, own_cluster) = (disk.clone(), Arc::new(cluster.clone()));
        let id = Arc::new(AtomicU64::new(u64::from(number)));
        let own_id = id.clone();
        let start = move || process((number, own_id.load(Ordering::Relaxed)), own_disk.clone(), own_cluster.clone());
        let machine = Handle::current();
        let machine = machine.create_node().name(&name).ip(address.ip()).restart_on_panic_matching(FATAL).init(start);
        let handle = machine.build();
        set_clock(handle.id(), clock.0, clock.1);
        Self { name, handle, disk, address, up: Cell::new(true), clock: Cell::new(clock), id }
    }

    /// Kills the process; the disk loses what the draw says. Its tasks are gone after the next pause of the caller.
    pub fn crash(&self, crash: Crash) {
        trace::event(format!("{}: {crash:?} crash", self.name));
        self.up.set(false);
        Handle::current().kill(self.handle.id());
        self.disk.crash(crash);
    }

    /// The machine dies and its disk with it: the next process has an empty one, and joins as another node of the same name.
    pub fn lose_disk(&self) {
        self.crash(Crash::Power);
        self.disk.lose();
        self.id.fetch_add(100, Ordering::Relaxed);
    }

    /// Starts a new process on the same disk.
    pub async fn restart(&self) {
        // One that had stopped itself before the crash may have been started again by its supervisor.
        if !self.up.get() {
            Handle::current().kill(self.handle.id());
        }
        // Tasks of the old process are dropped before time passes.
        SimRuntime::sleep(Duration::from_millis(1)).await;
        if self.up.replace(true) {
            return;
        }
        trace::event(format!("{}: restart", self.name));
        Handle::current().restart(self.handle.id());
    }

    /// Whether a process runs, or will after it stopped itself.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Lets the process freeze, as a stopped virtual machine does.
    pub fn pause(&self) {
        trace::event(format!("{}: pause", self.name));
        Handle::current().pause(self.handle.id());
    }

    /// Ends the freeze.
    pub fn resume(&self) {
        trace::event(format!("{}: resume", self.name));
        Handle::current().resume(self.handle.id());
    }

    /// Its id in the cluster now.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// How long its disk takes from now on.
    pub fn slow(&self, delay: Range<Duration>) {
        set_disk_delay(self.handle.id(), delay);
    }

    /// Its wall clock jumps.
    pub fn jump(&self, millis: i64) {
        let (offset, drift) = self.clock.get();
        let offset = offset + millis * 1_000_000;
        self.clock.set((offset, drift));
        set_clock(self.handle.id(), offset, drift);
    }
}

/// What the `mainstay` binary does, without its command line.
async fn process((number, id): (u8, u64), disk: Arc<Disk>, cluster: Arc<Cluster>) {
    close_sockets();
    let (log, state) = disk.open();
    let stores = match &cluster.around {
        Some(around) => Stores { log: around.log(log), state: around.state(state) },
        None => Stores { log, state },
    };
    let node = match start(number, id, &cluster, stores).await {
        Ok(node) => node,
        Err(error) => SimRuntime::fatal(&format!("node{number} did not start: {error}")),
    };
    let listener = listen(number, PORT).await;
    trace::event(format!("node{number}: serves"));
    let settings = mainstay_frontend::Config { workflow_pause: true, ..mainstay_frontend::Config::default() };
    mainstay_frontend::serve::<SimRuntime, _>(listener, node, settings, std::future::pending()).await;
}

/// How often, a millisecond apart.
const LISTEN_TRIES: u32 = 100;

/// A process that follows another at once finds its sockets not closed yet: the tasks of the old one end when they are polled next.
async fn listen(number: u8, port: u16) -> Listener {
    let mut tries = 0;
    loop {
        match SimRuntime::bind(Cluster::address(number, port)).await {
            Ok(listener) => return listener,
            Err(error) if tries == LISTEN_TRIES => SimRuntime::fatal(&format!("node{number} cannot listen: {error}")),
            Err(_) => tries += 1,
        }
        SimRuntime::sleep(Duration::from_millis(1)).await;
    }
}

async fn start(number: u8, id: u64, cluster: &Cluster, stores: Stores) -> Result<Node<SimRuntime>, StartError> {
    let budget = Budget { max_bytes: None, reserve_bytes: RESERVE_BYTES };
    let config = Config { budget, ..cluster.config.clone() };
    if cluster.size == 1 {
        return Node::start(config, stores).await;
    }
    let member = Cluster::member(number, id, (SimRuntime::random() as u64).max(1));
    let founders = cluster.founders();
    let peers = Peers::new(id, config.cluster_id.clone());
    for founder in &founders {
        peers.set_address(founder.node_id, founder.peer_address.clone());
    }
    peers.serve(listen(number, PEER_PORT).await);
    Node::start_in(config, stores, Clustering { peers, member, founders }).await
}
