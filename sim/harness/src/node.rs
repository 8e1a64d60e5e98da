//! A Mainstay node in the simulated world: a process that can die, on a disk that stays.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mainstay_node::{Config, Node, Stores};
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_runtime::{Crash, Disk, FATAL, Handle, NodeHandle, SimRuntime, trace};

/// Where frontends listen.
pub const PORT: u16 = 7233;

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
}

impl SimNode {
    /// Boots a node with an empty disk.
    #[must_use]
    pub fn boot(number: u8, config: Config) -> Self {
        let name = format!("node{number}");
        let address = SocketAddr::new(IpAddr::from([10, 0, 0, number]), PORT);
        let disk = Disk::new();
        let (own_disk, own_name) = (disk.clone(), name.clone());
        let start = move || process(own_name.clone(), own_disk.clone(), config.clone(), address);
        let machine = Handle::current();
        let machine = machine.create_node().name(&name).ip(address.ip()).restart_on_panic_matching(FATAL).init(start);
        Self { name, handle: machine.build(), disk, address }
    }

    /// Kills the process; the disk loses what the draw says. Its tasks are gone after the next pause of the caller.
    pub fn crash(&self, crash: Crash) {
        trace::event(format!("{}: {crash:?} crash", self.name));
        Handle::current().kill(self.handle.id());
        self.disk.crash(crash);
    }

    /// Starts a new process on the same disk.
    pub async fn restart(&self) {
        // Tasks of the old process are dropped before time passes.
        SimRuntime::sleep(Duration::from_millis(1)).await;
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
}

/// What the `mainstay` binary does, without its command line.
async fn process(name: String, disk: Arc<Disk>, config: Config, address: SocketAddr) {
    let (log, state) = disk.open();
    let node = match Node::<SimRuntime>::start(config, Stores { log, state }).await {
        Ok(node) => node,
        Err(error) => SimRuntime::fatal(&format!("{name} did not start: {error}")),
    };
    let listener = match SimRuntime::bind(address).await {
        Ok(listener) => listener,
        Err(error) => SimRuntime::fatal(&format!("{name} cannot listen: {error}")),
    };
    trace::event(format!("{name}: serves"));
    mainstay_frontend::serve::<SimRuntime, _>(
        listener,
        node,
        mainstay_frontend::Config::default(),
        std::future::pending(),
    )
    .await;
}
