//! Some nodes with one group, in one process, on loopback: started, killed, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::{Config, Error, Group, Log as NodeLog, Peers};
use mainstay_runtime::Runtime;
use mainstay_runtime_tokio::TokioRuntime as Rt;
use mainstay_storage::{MemoryLog, MemoryState};

use super::wire::Wires;
use super::{Log, Power, Rows};

pub const GROUP: u8 = 7;

/// A process.
#[derive(Clone)]
pub struct Running {
    pub group: Group<Rt, Rows>,
    pub peers: Peers<Rt>,
    pub power: Arc<Power>,
}

/// A machine: what outlives the process.
#[derive(Default)]
pub struct Disks {
    pub log: Arc<MemoryLog>,
    pub state: Arc<MemoryState>,
}

pub struct Cluster {
    pub addresses: BTreeMap<u64, String>,
    pub wires: Wires,
    pub disks: BTreeMap<u64, Disks>,
    pub running: BTreeMap<u64, Running>,
    pub config: Config,
    /// Who lost its disks, and with them that it founded the cluster.
    lost: BTreeSet<u64>,
}

/// A port that is free, and not one of those that the system gives to connections: such a one may be gone until a node binds it.
fn free_address() -> String {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(101);
    loop {
        let port = 12_000 + first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 15_000;
        let address = format!("127.0.0.1:{port}");
        if std::net::TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

impl Cluster {
    /// Machines without processes.
    pub async fn new(nodes: u64, config: Config) -> Self {
        let addresses: BTreeMap<u64, String> = (1..=nodes).map(|id| (id, free_address())).collect();
        let wires = Wires::between(&addresses).await;
        let disks = (1..=nodes).map(|id| (id, Disks::default())).collect();
        Self { addresses, wires, disks, running: BTreeMap::new(), config, lost: BTreeSet::new() }
    }

    /// Of so many machines the first ones run, and are the voters.
    pub async fn of(nodes: u64, voters: u64, config: Config) -> Self {
        let founders = (1..=voters).map(|id| (id, String::new())).collect();
        let mut cluster = Self::new(nodes, Config { founders, ..config }).await;
        for id in 1..=voters {
            cluster.start(id).await;
        }
        cluster.running[&1].group.stand_first().await.expect("stands");
        cluster
    }

    pub async fn start(&mut self, id: u64) {
        let power = Arc::<Power>::default();
        let disks = &self.disks[&id];
        let log = NodeLog::<Rt>::start(Arc::new(Log { disk: disks.log.clone(), power: power.clone() }));
        let machine = Arc::new(Rows { group: GROUP, disk: disks.state.clone(), power: power.clone() });
        let peers = Peers::new(id, "cluster".into());
        for other in self.addresses.keys().filter(|other| **other != id) {
            peers.set_address(*other, self.wires.address(id, *other));
        }
        let address: SocketAddr = self.addresses[&id].parse().expect("is an address");
        peers.serve(Rt::bind(address).await.expect("the port is free again"));
        let mut config = self.config.clone();
        if self.lost.contains(&id) || !config.founders.contains_key(&id) {
            config.founders.clear();
        }
        let group = Group::start(GROUP.into(), id, log, machine, config, Some(peers.clone())).await;
        self.running.insert(id, Running { group: group.expect("starts"), peers, power });
    }

    /// Kills a process at once: nothing more leaves it or reaches its disks, and what was not synced is lost.
    pub async fn kill(&mut self, id: u64) {
        self.kill_keeping(id, 0, 0).await;
    }

    /// The same; of what was not synced some batches reached the disks all the same.
    pub async fn kill_keeping(&mut self, id: u64, log: usize, state: usize) {
        let Running { group, peers, power } = self.running.remove(&id).expect("runs");
        // First its voice, then its memory: what it says is on its disks.
        peers.stop();
        power.cut();
        let disks = &self.disks[&id];
        let left = power.at_once(|| (disks.log.after_crash(log), disks.state.after_crash(state)));
        self.disks.insert(id, Disks { log: Arc::new(left.0), state: Arc::new(left.1) });
        group.stop().await;
        // Its listener is free when its task has ended.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// A node loses its disks, too.
    pub fn wipe(&mut self, id: u64) {
        self.disks.insert(id, Disks::default());
        self.lost.insert(id);
    }

    /// Waits until some node leads.
    pub async fn leader(&self) -> u64 {
        self.leader_but(0).await
    }

    /// Waits until some node leads that is another than this.
    pub async fn leader_but(&self, not: u64) -> u64 {
        let begun = Instant::now();
        loop {
            let leads = |(id, node): (&u64, &Running)| (*id != not && node.group.leadership().leading).then_some(*id);
            // The one of the highest term, as an old leader may not have heard of the new one.
            if let Some(id) =
                self.running.iter().filter_map(leads).max_by_key(|id| self.running[id].group.leadership().term)
            {
                return id;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "nobody leads");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn group(&self, id: u64) -> &Group<Rt, Rows> {
        &self.running[&id].group
    }

    /// Proposes on whoever leads, until it is accepted.
    pub async fn propose(&self, data: &str) -> u64 {
        loop {
            let leader = self.leader().await;
            match self.group(leader).propose(Bytes::from(data.to_owned())).await {
                Ok(index) => return index,
                Err(Error::NotLeader { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until all running nodes have the same rows; these.
    pub async fn agree(&self) -> Vec<(u64, Bytes)> {
        let begun = Instant::now();
        loop {
            let mut all = self.running.values().map(|node| (node.group.machine().all(), node.group.metrics().last));
            let (first, last) = all.next().expect("somebody runs");
            if all.all(|(rows, other)| rows == first && last == other) {
                return first;
            }
            if begun.elapsed() > Duration::from_secs(30) {
                let states: Vec<_> = self.running.iter().map(|(id, node)| (*id, node.group.metrics())).collect();
                panic!("the nodes do not agree: {states:#?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Makes the state of all running nodes durable and purges their logs.
    pub async fn compact(&self) {
        for (id, node) in &self.running {
            mainstay_storage::StateStore::flush(&*self.disks[id].state).expect("memory can be flushed");
            node.group.compact().await.expect("compacts");
        }
    }

    pub async fn stop(self) {
        for node in self.running.values() {
            node.group.stop().await;
            node.peers.stop();
        }
    }
}

/// What clients were told.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<u64, Bytes>>>);

impl Ledger {
    pub fn acknowledged(&self, index: u64, data: Bytes) {
        let before = self.0.lock().expect("not poisoned").insert(index, data);
        assert_eq!(before, None, "one index was acknowledged twice");
    }

    pub fn len(&self) -> usize {
        self.0.lock().expect("not poisoned").len()
    }

    /// All that was acknowledged is in the rows where it was said to be, and nothing is there twice.
    pub fn check(&self, rows: &[(u64, Bytes)]) {
        let by_index: BTreeMap<u64, &Bytes> = rows.iter().map(|(index, data)| (*index, data)).collect();
        for (index, data) in &*self.0.lock().expect("not poisoned") {
            assert_eq!(by_index.get(index), Some(&data), "what was acknowledged at {index}");
        }
        let distinct: std::collections::BTreeSet<&Bytes> = rows.iter().map(|(_, data)| data).collect();
        assert_eq!(distinct.len(), rows.len(), "something happened twice");
    }
}

/// A client that proposes one thing after the other to whoever leads, until it is told to stop.
pub struct Client {
    stop: Arc<std::sync::atomic::AtomicBool>,
    task: tokio::task::JoinHandle<Told>,
}

/// How a client fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub done: u64,
    /// Proposals whose outcome it does not know.
    pub unknown: u64,
    /// The longest time without an acknowledgement.
    pub longest_gap: Duration,
}

impl Client {
    pub fn start(name: u64, nodes: Vec<Running>, ledger: Ledger) -> Self {
        let stop = Arc::<std::sync::atomic::AtomicBool>::default();
        let own = stop.clone();
        let task = tokio::spawn(async move {
            let (mut told, mut target, mut last) = (Told::default(), 0, Instant::now());
            let mut number = 0;
            while !own.load(std::sync::atomic::Ordering::Relaxed) {
                let node: &Running = &nodes[target % nodes.len()];
                let data = Bytes::from(format!("{name}.{number}"));
                let proposed = tokio::time::timeout(Duration::from_millis(500), node.group.propose(data.clone())).await;
                match proposed {
                    // A process without power tells nobody anything.
                    Ok(Ok(index)) if node.power.is_on() => {
                        ledger.acknowledged(index, data);
                        told.done += 1;
                        told.longest_gap = told.longest_gap.max(last.elapsed());
                        last = Instant::now();
                        number += 1;
                    }
                    Ok(Err(Error::NotLeader { .. } | Error::NoQuorum | Error::Busy { .. })) => {
                        target += 1;
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Ok(_) | Err(_) => {
                        told.unknown += 1;
                        number += 1;
                        target += 1;
                    }
                }
            }
            told
        });
        Self { stop, task }
    }

    pub async fn stop(self) -> Told {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.task.await.expect("a client does not panic")
    }
}
