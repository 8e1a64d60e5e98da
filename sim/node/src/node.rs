//! A Mainstay node in the simulated world: a process that can die, on a disk that stays.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mainstay_api::record::MemberRecord;
use mainstay_consensus::Peers;
use mainstay_node::{Clustering, Config, Node, StartError, Stores};
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_runtime::{Crash, Disk, FATAL, Handle, NodeHandle, SimRuntime, set_clock, set_disk_delay, trace};
use mainstay_storage::Budget;

use crate::mutant::{self, Mutant};

/// Where frontends listen.
pub const PORT: u16 = 7233;
/// Where nodes listen for each other.
pub const PEER_PORT: u16 = 7234;
/// What a node keeps free of its disk.
pub const RESERVE_BYTES: u64 = 1 << 20;
/// How long an operation of a healthy disk takes.
pub const USUAL_DISK: Range<Duration> = Duration::from_micros(200)..Duration::from_millis(2);

/// What all nodes of a cluster have in common.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// How many found it; one is alone for ever.
    pub size: u8,
    /// How each is set up.
    pub config: Config,
    /// The deliberate bug that they have.
    pub mutant: Option<Mutant>,
}

impl Cluster {
    fn address(number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([10, 0, 0, number]), port)
    }

    fn member(number: u8, incarnation: u64) -> MemberRecord {
        MemberRecord {
            node_id: u64::from(number),
            name: format!("node{number}"),
            peer_address: Self::address(number, PEER_PORT).to_string(),
            address: Self::address(number, PORT).to_string(),
            incarnation,
            alive: true,
            ..MemberRecord::default()
        }
    }

    fn founders(&self) -> Vec<MemberRecord> {
        (1..=self.size).map(|number| Self::member(number, u64::from(number))).collect()
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
        let start = move || process(number, own_disk.clone(), own_cluster.clone());
        let machine = Handle::current();
        let machine = machine.create_node().name(&name).ip(address.ip()).restart_on_panic_matching(FATAL).init(start);
        let handle = machine.build();
        let clock = if cluster.mutant == Some(Mutant::FastClock) { (clock.0, 250_000) } else { clock };
        set_clock(handle.id(), clock.0, clock.1);
        if cluster.mutant == Some(Mutant::SkipLogSync) {
            disk.lie();
        }
        Self { name, handle, disk, address, up: Cell::new(true), clock: Cell::new(clock) }
    }

    /// Kills the process; the disk loses what the draw says. Its tasks are gone after the next pause of the caller.
    pub fn crash(&self, crash: Crash) {
        trace::event(format!("{}: {crash:?} crash", self.name));
        self.up.set(false);
        Handle::current().kill(self.handle.id());
        self.disk.crash(crash);
    }

    /// Starts a new process on the same disk.
    pub async fn restart(&self) {
        // Tasks of the old process are dropped before time passes.
        SimRuntime::sleep(Duration::from_millis(1)).await;
        if self.up.replace(true) {
            return;
        }
        trace::event(format!("{}: restart", self.name));
        Handle::current().restart(self.handle.id());
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
async fn process(number: u8, disk: Arc<Disk>, cluster: Arc<Cluster>) {
    let (log, state) = disk.open();
    let mutant = cluster.mutant;
    let stores = Stores { log: mutant::log(log, mutant), state: mutant::state(state, mutant) };
    let node = match start(number, &cluster, stores).await {
        Ok(node) => node,
        Err(error) => SimRuntime::fatal(&format!("node{number} did not start: {error}")),
    };
    let listener = match SimRuntime::bind(Cluster::address(number, PORT)).await {
        Ok(listener) => listener,
        Err(error) => SimRuntime::fatal(&format!("node{number} cannot listen: {error}")),
    };
    trace::event(format!("node{number}: serves"));
    let settings = mainstay_frontend::Config::default();
    mainstay_frontend::serve::<SimRuntime, _>(listener, node, settings, std::future::pending()).await;
}

async fn start(number: u8, cluster: &Cluster, stores: Stores) -> Result<Node<SimRuntime>, StartError> {
    let budget = Budget { max_bytes: None, reserve_bytes: RESERVE_BYTES };
    let config = Config { budget, ..cluster.config.clone() };
    if cluster.size == 1 {
        return Node::start(config, stores).await;
    }
    let member = Cluster::member(number, (SimRuntime::random() as u64).max(1));
    let founders = cluster.founders();
    let peers = Peers::new(u64::from(number), config.cluster_id.clone());
    for founder in &founders {
        peers.set_address(founder.node_id, founder.peer_address.clone());
    }
    match SimRuntime::bind(Cluster::address(number, PEER_PORT)).await {
        Ok(listener) => peers.serve(listener),
        Err(error) => SimRuntime::fatal(&format!("node{number} cannot listen for its peers: {error}")),
    }
    Node::start_in(config, stores, Clustering { peers, member, founders }).await
}
