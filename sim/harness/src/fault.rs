//! What breaks, when, and for how long: drawn before the run begins, so that a failure can be tried again with fewer of them.

use std::time::Duration;

use mainstay_base::Prng;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_node::{RESERVE_BYTES, USUAL_DISK};
use mainstay_sim_runtime::{Crash, NetSim, NodeId, SimRuntime, draw, reset_connections, trace};

use crate::coverage;
use crate::world::World;

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node dies, and starts again afterwards.
    Crash(Crash),
    /// A node dies in the middle of a disk operation, this many from now.
    CrashInDisk(u64, Crash),
    /// A node dies, starts, dies again while it starts (after so many microseconds), and starts again.
    CrashInStart(u64),
    /// Every operation on a disk takes up to seconds.
    StalledDisk,
    /// Every operation on a disk takes some tens of milliseconds.
    SlowDisk,
    /// An operation of a disk fails, this many from now.
    DiskError(u64),
    /// A disk has so little room left that no command is admitted.
    FullDisk,
    /// A bit of a stored entry turns. More than one node can stand alone.
    DamagedLog,
    /// A bit of a stored row turns. More than one node can stand alone.
    DamagedState,
    /// Packets between a node and all others are held back: from it, to it, or both ways.
    Partition {
        /// From the node.
        from: bool,
        /// To the node.
        to: bool,
    },
    /// Packets between a node and one other node, so many places further, are held back.
    NodeLink(usize),
    /// Packets between the workers and a node are held back.
    WorkerLink,
    /// Packets are lost, so many in a thousand.
    Loss(u64),
    /// Packets take up to half a second.
    SlowNetwork,
    /// Connections of a node are reset again and again, this share in percent.
    Resets(u64),
    /// A node's process stands still.
    Pause,
    /// A node's wall clock jumps by this many milliseconds and stays there.
    ClockJump(i64),
    /// The workers die, and others start afterwards.
    WorkersDie,
    /// A machine dies with its disk, and comes back with an empty one, as another member of its cluster.
    LostDisk,
    /// A node that was not there before joins its cluster.
    Join,
}

/// All names that [`Kind::name`] gives.
pub const NAMES: &[&str] = &[
    "crash",
    "crash-in-disk",
    "crash-in-start",
    "stalled-disk",
    "slow-disk",
    "disk-error",
    "full-disk",
    "damage",
    "partition",
    "node-link",
    "worker-link",
    "loss",
    "slow-network",
    "resets",
    "pause",
    "clock-jump",
    "workers-die",
    "lost-disk",
    "join",
];

/// A fault: from a moment on, for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// Which node.
    pub node: usize,
    /// What breaks.
    pub kind: Kind,
}

impl Kind {
    /// As the coverage table names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash(_) => "crash",
            Self::CrashInDisk(..) => "crash-in-disk",
            Self::CrashInStart(_) => "crash-in-start",
            Self::StalledDisk => "stalled-disk",
            Self::SlowDisk => "slow-disk",
            Self::DiskError(_) => "disk-error",
            Self::FullDisk => "full-disk",
            Self::DamagedLog | Self::DamagedState => "damage",
            Self::Partition { .. } => "partition",
            Self::NodeLink(_) => "node-link",
            Self::WorkerLink => "worker-link",
            Self::Loss(_) => "loss",
            Self::SlowNetwork => "slow-network",
            Self::Resets(_) => "resets",
            Self::Pause => "pause",
            Self::ClockJump(_) => "clock-jump",
            Self::WorkersDie => "workers-die",
            Self::LostDisk => "lost-disk",
            Self::Join => "join",
        }
    }

    fn crash(prng: &mut Prng) -> Crash {
        if prng.below(2) == 0 { Crash::Power } else { Crash::Process }
    }

    /// The kind with this number, below [`Kind::COUNT`].
    fn draw(prng: &mut Prng, number: usize) -> Self {
        match number {
            0 => Self::Crash(Self::crash(prng)),
            1 => Self::CrashInDisk(1 + prng.below(120), Self::crash(prng)),
            2 => Self::CrashInStart(prng.below(40_000)),
            3 => Self::StalledDisk,
            4 => Self::SlowDisk,
            5 => Self::DiskError(1 + prng.below(300)),
            6 => Self::FullDisk,
            7 => match prng.below(3) {
                0 => Self::Partition { from: true, to: false },
                1 => Self::Partition { from: false, to: true },
                _ => Self::Partition { from: true, to: true },
            },
            8 => Self::WorkerLink,
            9 => Self::Loss(1 + prng.below(100)),
            10 => Self::SlowNetwork,
            11 => Self::Resets(20 + prng.below(81)),
            12 => Self::Pause,
            13 => {
                let size = [300, 3_000, 30_000, 3_600_000][prng.below(4) as usize];
                let size = 1 + prng.below(size) as i64;
                Self::ClockJump(if prng.below(2) == 0 { size } else { -size })
            }
            14 => Self::NodeLink(1 + prng.below(4) as usize),
            _ => Self::WorkersDie,
        }
    }

    /// Kinds that [`Kind::draw`] knows.
    pub const COUNT: usize = 16;
}

impl Fault {
    /// A crash within a time.
    #[must_use]
    pub fn crash(prng: &mut Prng, within: Duration) -> Self {
        Self { kind: Kind::Crash(Kind::crash(prng)), ..Self::plain(prng, within) }
    }

    /// What a change of the cluster should bear: a node that dies, stands still, or is cut off.
    #[must_use]
    pub fn on_the_way(prng: &mut Prng, nodes: usize) -> Self {
        let number = [0, 0, 1, 1, 3, 7, 12, 14][prng.below(8) as usize];
        let kind = Kind::draw(prng, number);
        Self { kind, node: prng.below(nodes as u64) as usize, ..Self::plain(prng, Duration::from_secs(1)) }
    }

    fn plain(prng: &mut Prng, within: Duration) -> Self {
        let at = Duration::from_micros(1 + prng.below(within.as_micros() as u64));
        let lasts = Duration::from_millis(1 + prng.below(3000));
        Self { at, lasts, node: 0, kind: Kind::Pause }
    }

    /// Faults of some kinds within a time: each kind has a weight of its own, so that runs differ in character.
    #[must_use]
    pub fn draw(prng: &mut Prng, count: u64, nodes: usize, within: Duration) -> Vec<Self> {
        let weights: Vec<u64> = (0..Kind::COUNT).map(|_| [0, 0, 1, 1, 4][prng.below(5) as usize]).collect();
        let sum: u64 = weights.iter().sum();
        let mut faults: Vec<Self> = (0..if sum == 0 { 0 } else { count })
            .map(|_| {
                let mut place = prng.below(sum);
                let number = weights.iter().position(|weight| {
                    let here = place < *weight;
                    place = place.saturating_sub(*weight);
                    here
                });
                let kind = Kind::draw(prng, number.unwrap_or_default());
                let plain = Self::plain(prng, within);
                // Some last long enough for keep-alives and deadlines to act.
                let lasts = if prng.below(4) == 0 { plain.lasts * 6 } else { plain.lasts };
                Self { lasts, kind, node: prng.below(nodes as u64) as usize, ..plain }
            })
            .collect();
        faults.sort_by_key(|fault| fault.at);
        faults
    }

    /// Waits for its time, breaks, and mends.
    pub async fn strike(self, world: &World) {
        SimRuntime::sleep(self.at.saturating_sub(trace::now())).await;
        trace::event(format!("fault: {:?} at node {} for {:?}", self.kind, self.node, self.lasts));
        coverage::begins(self.kind.name());
        self.begin(world).await;
        self.last(world).await;
        self.end(world).await;
        coverage::ends(self.kind.name());
        trace::event(format!("fault over: {:?}", self.kind));
    }

    /// Waits until it is over. Resets come again and again: whoever lost an answer asks again, under the same id.
    async fn last(&self, world: &World) {
        let over = trace::now() + self.lasts;
        while let Kind::Resets(percent) = self.kind
            && trace::now() < over
        {
            SimRuntime::sleep(Duration::from_millis(draw(20..400))).await;
            reset_connections(world.nodes[self.node].handle.id(), percent);
        }
        SimRuntime::sleep(over.saturating_sub(trace::now())).await;
    }

    async fn begin(&self, world: &World) {
        let node = &world.nodes[self.node];
        match self.kind {
            Kind::Crash(crash) => world.kill(node, crash),
            Kind::CrashInDisk(operations, crash) => node.disk.set_trap(Some(operations), crash),
            Kind::CrashInStart(micros) => {
                node.crash(Crash::Power);
                node.restart().await;
                SimRuntime::sleep(Duration::from_micros(micros)).await;
                world.kill(node, if draw(0..2) == 0 { Crash::Power } else { Crash::Process });
            }
            Kind::StalledDisk => node.slow(Duration::from_millis(100)..Duration::from_secs(3)),
            Kind::SlowDisk => node.slow(Duration::from_millis(5)..Duration::from_millis(60)),
            Kind::DiskError(operations) => node.disk.set_failure(Some(operations)),
            // The node sees it within a second; what comes meanwhile fits into the reserve.
            Kind::FullDisk => node.disk.set_room(Some(RESERVE_BYTES)),
            Kind::DamagedLog => drop(node.disk.damage_log(world.groups())),
            Kind::DamagedState => drop(node.disk.damage_state()),
            Kind::Partition { from, to } => world.cut(node.handle.id(), &world.others(self.node), from, to),
            Kind::NodeLink(further) => {
                world.cut(node.handle.id(), &world.another(self.node, further), true, true);
            }
            Kind::WorkerLink => world.cut(node.handle.id(), &[world.workers.id()], true, true),
            Kind::Loss(per_mille) => network(|config| config.packet_loss_rate = per_mille as f64 / 1000.0),
            Kind::SlowNetwork => {
                network(|config| config.send_latency = Duration::from_millis(1)..Duration::from_millis(500));
            }
            Kind::Resets(percent) => reset_connections(node.handle.id(), percent),
            Kind::Pause => node.pause(),
            Kind::ClockJump(millis) => node.jump(millis),
            Kind::WorkersDie => world.kill_workers(),
            Kind::LostDisk => node.lose_disk(),
            Kind::Join => node.restart().await,
        }
    }

    async fn end(&self, world: &World) {
        let node = &world.nodes[self.node];
        match self.kind {
            Kind::Crash(_) | Kind::CrashInStart(_) | Kind::LostDisk => node.restart().await,
            Kind::CrashInDisk(_, crash) => node.disk.set_trap(None, crash),
            Kind::StalledDisk | Kind::SlowDisk => node.slow(USUAL_DISK),
            Kind::DiskError(_) => node.disk.set_failure(None),
            Kind::FullDisk => node.disk.set_room(None),
            Kind::Partition { from, to } => world.mend(node.handle.id(), &world.others(self.node), from, to),
            Kind::NodeLink(further) => {
                world.mend(node.handle.id(), &world.another(self.node, further), true, true);
            }
            Kind::WorkerLink => world.mend(node.handle.id(), &[world.workers.id()], true, true),
            Kind::Loss(_) => network(|config| config.packet_loss_rate = world.loss),
            Kind::SlowNetwork => network(|config| config.send_latency = world.latency.clone()),
            Kind::Pause => node.resume(),
            Kind::WorkersDie => world.restart_workers(),
            Kind::DamagedLog | Kind::DamagedState | Kind::Resets(_) | Kind::ClockJump(_) | Kind::Join => {}
        }
    }
}

fn network(change: impl FnOnce(&mut mainstay_sim_runtime::NetConfig)) {
    NetSim::current().update_config(|config| change(config));
}

/// Holds back, or lets pass, what goes from a node to others and back.
pub(crate) fn links(node: NodeId, others: &[NodeId], from: bool, to: bool, change: impl Fn(&NetSim, NodeId, NodeId)) {
    let net = NetSim::current();
    for other in others {
        if from {
            change(&net, node, *other);
        }
        if to {
            change(&net, *other, node);
        }
    }
}
