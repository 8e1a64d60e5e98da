//! The simulated cluster of a run: nodes, the workers' machine, the clients' machine, and the links between them.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use mainstay_shard::Placement;
use mainstay_sim_node::{Cluster, Config, SimNode};
use mainstay_sim_runtime::{Crash, Handle, NetSim, NodeHandle, NodeId, trace};

use crate::fault::links;
use crate::ledger::Ledger;
use crate::mutant::Mutant;
use crate::oracle::{slots, state_follows_history};
use crate::shape::Shape;
use crate::{store_mutant, worker};

/// All machines of a run.
pub struct World {
    /// The nodes.
    pub nodes: Vec<SimNode>,
    /// The workers' machine.
    pub workers: NodeHandle,
    /// The clients' machine.
    pub clients: NodeHandle,
    /// Shards that the cluster was founded with.
    pub shards: u32,
    /// Whether more is damaged than the server promises to bear.
    pub beyond: bool,
    /// Usual latency of a packet.
    pub latency: Range<Duration>,
    /// Usual share of packets that are lost.
    pub loss: f64,
}

impl World {
    /// Boots everything.
    #[must_use]
    pub fn boot(shape: &Shape, ledger: &Arc<Ledger>) -> Self {
        let cluster_id = "00000000-0000-4000-8000-000000000001".into();
        let mut config = Config { cluster_id, shards: shape.shards, ..Config::default() };
        if let Some(purges) = shape.purges {
            config.flush_every = purges.every;
            (config.keep_entries, config.hold_entries) = (purges.keep, purges.hold);
        }
        let around = store_mutant::around(shape.mutant);
        let founders = shape.clocks.len() - shape.joiners;
        let cluster = Cluster { size: founders as u8, config, around };
        let boot = |(number, clock): (u8, &(i64, i64))| {
            let clock = if shape.mutant == Some(Mutant::FastClock) { (clock.0, 250_000) } else { *clock };
            let node = SimNode::boot(number, &cluster, clock);
            if shape.mutant == Some(Mutant::SkipLogSync) {
                node.disk.lie();
            }
            node
        };
        let nodes: Vec<SimNode> = (1..).zip(&shape.clocks).map(boot).collect();
        // A machine that nobody switched on yet.
        nodes[founders..].iter().for_each(|node| node.crash(Crash::Process));
        let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.address).collect();
        let workers = worker::boot([10, 0, 1, 1].into(), &addresses, shape.habits, ledger);
        let clients = Handle::current().create_node().name("clients").ip([10, 0, 1, 2].into()).build();
        let settings = shape.settings(false);
        Self {
            nodes,
            workers,
            clients,
            shards: shape.shards,
            beyond: shape.beyond,
            latency: settings.latency,
            loss: settings.loss,
        }
    }

    /// Where the frontends listen.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    /// Raft groups of a node, if all are at rest.
    #[must_use]
    pub fn groups(&self) -> u32 {
        let tables = self.nodes.iter().filter(|node| node.is_up());
        tables.map(|node| slots::table(&node.disk, self.shards).shards()).max().unwrap_or(self.shards) + 1
    }

    /// Whether a shard is being split, as far as any node that is up knows, or some know of fewer splits than others.
    #[must_use]
    pub fn is_split_under_way(&self) -> bool {
        let tables = self.nodes.iter().filter(|node| node.is_up()).map(|node| slots::table(&node.disk, self.shards));
        let tables: Vec<Placement> = tables.collect();
        tables.iter().any(|table| table.under_way().is_some())
            || tables.windows(2).any(|pair| pair[0].splits() != pair[1].splits())
    }

    /// A node dies, and what it leaves must be sound.
    pub fn kill(&self, node: &SimNode, crash: Crash) {
        node.crash(crash);
        if !self.beyond {
            state_follows_history::check_dead(&node.disk, &slots::table(&node.disk, self.shards));
        }
    }

    /// All machines but one node.
    #[must_use]
    pub fn others(&self, node: usize) -> Vec<NodeId> {
        let nodes = self.nodes.iter().enumerate().filter(|(number, _)| *number != node);
        nodes.map(|(_, other)| other.handle.id()).chain([self.workers.id(), self.clients.id()]).collect()
    }

    /// The node so many places further, if that is another one.
    #[must_use]
    pub fn another(&self, node: usize, further: usize) -> Vec<NodeId> {
        let other = (node + further) % self.nodes.len();
        (other != node).then(|| self.nodes[other].handle.id()).into_iter().collect()
    }

    /// Holds back packets between a machine and others.
    pub fn cut(&self, node: NodeId, others: &[NodeId], from: bool, to: bool) {
        links(node, others, from, to, NetSim::clog_link);
    }

    /// Lets them pass again.
    pub fn mend(&self, node: NodeId, others: &[NodeId], from: bool, to: bool) {
        links(node, others, from, to, NetSim::unclog_link);
    }

    /// All workers die.
    pub fn kill_workers(&self) {
        trace::event("workers die");
        Handle::current().kill(self.workers.id());
    }

    /// New ones start.
    pub fn restart_workers(&self) {
        Handle::current().restart(self.workers.id());
    }
}
