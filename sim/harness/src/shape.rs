//! The shape of a run: everything that is drawn before it begins.
//!
//! The seed decides twice: a generator of its own draws the shape (machines, clocks, faults, operations), so that the shape does
//! not depend on how tasks interleave; everything else is drawn by the world as it goes. A shape can be made smaller and played
//! again with the same seed.

use std::time::Duration;

use mainstay_base::Prng;
use mainstay_sim_runtime::Settings;

use crate::fault::{Fault, Kind};
use crate::mutant::Mutant;
use crate::operation::{Action, Manner, Operation};
use crate::worker::Habits;

/// A run that takes longer than this spins. Long, since the machine may have other work.
const PATIENCE: Duration = Duration::from_secs(600);

/// The scenarios by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One workflow with an activity and a timer, one crash.
    Smallest,
    /// Work and crashes.
    Crashes,
    /// Work and every fault that a server must bear.
    Faults,
    /// As `faults`, over minutes, so that the state is flushed and the log purged between them.
    Long,
    /// As `faults`, with damage that one node cannot bear: then it may stop, but nothing wrong is ever served.
    Damage,
    /// Work without faults.
    Calm,
    /// As `faults`, on three or five nodes.
    Cluster,
    /// As `calm`, on three nodes.
    CalmCluster,
    /// As `long`, on three nodes, so that some of them have to be sent the whole state.
    LongCluster,
    /// Three nodes on which nothing happens for ten minutes.
    Idle,
}

/// What is drawn before a run begins.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The seed.
    pub seed: u64,
    /// Shards of the cluster.
    pub shards: u32,
    /// For each node: its wall clock's distance from true time in nanoseconds, and the drift of its clocks in parts of a million.
    pub clocks: Vec<(i64, i64)>,
    /// How many of the nodes, the last ones, are not there at the beginning.
    pub joiners: usize,
    /// Share of packets that are lost.
    pub loss: f64,
    /// Most latency of a packet.
    pub latency: Duration,
    /// How workers behave.
    pub habits: Habits,
    /// Clients.
    pub clients: usize,
    /// How long nothing happens before the end.
    pub rest: Duration,
    /// What breaks.
    pub faults: Vec<Fault>,
    /// What clients do.
    pub operations: Vec<Operation>,
    /// Whether more is damaged than the server promises to bear.
    pub beyond: bool,
    /// How nodes flush their state and purge their log, if not as usual.
    pub purges: Option<Purges>,
    /// A deliberate bug.
    pub mutant: Option<Mutant>,
}

/// How a node flushes its state and purges its log.
#[derive(Clone, Copy, Debug)]
pub struct Purges {
    /// How often.
    pub every: Duration,
    /// Entries of a group that are left.
    pub keep: u64,
    /// Entries that are left beyond those for a node that lags.
    pub hold: u64,
}

impl Shape {
    /// The shape that a seed gives a scenario.
    #[must_use]
    pub fn draw(scenario: Scenario, seed: u64) -> Self {
        let mut prng = Prng::new(u128::from(seed));
        let prng = &mut prng;
        match scenario {
            Scenario::Smallest => Self::smallest(prng, seed),
            Scenario::Calm => Self::of(prng, seed, Duration::from_secs(12)),
            Scenario::CalmCluster => Self::of(prng, seed, Duration::from_secs(12)).on(prng, 3),
            Scenario::Idle => {
                let shape = Self::of(prng, seed, Duration::from_secs(1)).on(prng, 3);
                Self { operations: Vec::new(), rest: Duration::from_secs(600), ..shape }
            }
            Scenario::Cluster => {
                let nodes = if prng.below(4) == 0 { 5 } else { 3 };
                let mut shape = Self::of(prng, seed, Duration::from_secs(15)).on(prng, nodes);
                let count = 1 + prng.below(8);
                shape.faults = Fault::draw(prng, count, nodes, Duration::from_secs(15));
                shape.change_members(prng, nodes, Duration::from_secs(12));
                if prng.below(2) == 0 {
                    shape.purge(prng);
                }
                if prng.below(2) == 0 {
                    shape.split(prng, nodes, Duration::from_secs(12));
                }
                shape
            }
            Scenario::Crashes => {
                let mut shape = Self::of(prng, seed, Duration::from_secs(12));
                shape.faults = (0..1 + prng.below(5)).map(|_| Fault::crash(prng, Duration::from_secs(12))).collect();
                shape.faults.sort_by_key(|fault| fault.at);
                shape
            }
            Scenario::Faults => {
                let mut shape = Self::of(prng, seed, Duration::from_secs(15));
                let count = 1 + prng.below(7);
                shape.faults = Fault::draw(prng, count, shape.clocks.len(), Duration::from_secs(15));
                shape
            }
            Scenario::Long => {
                let span = Duration::from_secs(150);
                let mut shape = Self::of(prng, seed, span);
                let count = 1 + prng.below(15);
                shape.faults = Fault::draw(prng, count, shape.clocks.len(), span);
                shape.purge(prng);
                shape
            }
            Scenario::LongCluster => {
                let span = Duration::from_secs(60);
                let mut shape = Self::of(prng, seed, span).on(prng, 3);
                let count = 1 + prng.below(12);
                shape.faults = Fault::draw(prng, count, 3, span);
                shape.change_members(prng, 3, span);
                shape.purge(prng);
                if prng.below(2) == 0 {
                    shape.split(prng, 3, span);
                }
                shape
            }
            Scenario::Damage => {
                let mut shape = Self::of(prng, seed, Duration::from_secs(15));
                let count = 1 + prng.below(3);
                shape.faults = Fault::draw(prng, count, shape.clocks.len(), Duration::from_secs(10));
                let at = Duration::from_micros(prng.below(12_000_000));
                let kind = if prng.below(2) == 0 { Kind::DamagedLog } else { Kind::DamagedState };
                let damage = Fault { at, lasts: Duration::from_millis(1), node: 0, kind };
                // A crash behind it: what is damaged is read at a start.
                let after = Fault {
                    at: at + Duration::from_millis(prng.below(2000)),
                    ..Fault::crash(prng, at.max(Duration::from_secs(1)))
                };
                shape.faults.extend([damage, after]);
                shape.faults.sort_by_key(|fault| fault.at);
                shape.beyond = true;
                shape
            }
        }
    }

    fn of(prng: &mut Prng, seed: u64, span: Duration) -> Self {
        let clients = 1 + prng.below(5);
        let workflows = 1 + prng.below(8);
        let often = |prng: &mut Prng, most: u64| if prng.below(2) == 0 { 0 } else { prng.below(most) };
        let habits = Habits {
            pollers: 1 + prng.below(4) as usize,
            forgets: often(prng, 50),
            fails: often(prng, 50),
            confuses: often(prng, 100),
            sticky: prng.below(3) != 0,
        };
        let count = 20 + prng.below(100);
        let slowest = if prng.below(4) == 0 { 40 } else { 4 };
        Self {
            seed,
            shards: 1 + prng.below(4) as u32,
            clocks: vec![Self::clock(prng)],
            joiners: 0,
            loss: if prng.below(5) == 0 { 0.01 } else { 0.0 },
            latency: Duration::from_millis(1 + prng.below(slowest)),
            habits,
            clients: clients as usize,
            rest: Duration::ZERO,
            faults: Vec::new(),
            operations: Operation::draw(prng, count, clients, workflows, span),
            beyond: false,
            purges: None,
            mutant: None,
        }
    }

    /// The log is purged soon, and leaves little.
    fn purge(&mut self, prng: &mut Prng) {
        let every = Duration::from_millis(500 + prng.below(6000));
        // Often none are left: only then does a purge that goes too far matter.
        let mut entries = || if prng.below(2) == 0 { 0 } else { prng.below(60) };
        let (keep, hold) = (entries(), entries());
        self.purges = Some(Purges { every, keep, hold });
    }

    /// The same on more nodes.
    fn on(mut self, prng: &mut Prng, nodes: usize) -> Self {
        self.clocks = (0..nodes).map(|_| Self::clock(prng)).collect();
        self
    }

    /// A disk is lost in some runs, a node joins in others, and both in a few.
    fn change_members(&mut self, prng: &mut Prng, nodes: usize, span: Duration) {
        let at = |prng: &mut Prng| Duration::from_micros(prng.below(span.as_micros() as u64));
        if prng.below(4) == 0 {
            let lasts = Duration::from_millis(100 + prng.below(4000));
            let node = prng.below(nodes as u64) as usize;
            self.faults.push(Fault { at: at(prng), lasts, node, kind: Kind::LostDisk });
        }
        if prng.below(5) == 0 {
            self.clocks.push(Self::clock(prng));
            self.joiners = 1;
            self.faults.push(Fault { at: at(prng), lasts: Duration::from_secs(1), node: nodes, kind: Kind::Join });
        }
        self.faults.sort_by_key(|fault| fault.at);
    }

    /// A shard or two are split, often with something that breaks on the way.
    fn split(&mut self, prng: &mut Prng, nodes: usize, span: Duration) {
        for number in 0..1 + prng.below(2) {
            let at = Duration::from_micros(prng.below(span.as_micros() as u64));
            // The second may be of what the first split off.
            let shard = 1 + prng.below(u64::from(self.shards) + number) as u32;
            self.operations.push(Operation {
                label: format!("split-{number}"),
                // Nobody else waits for it.
                client: self.clients,
                at,
                workflow: 0,
                action: Action::Split { shard },
                manner: Manner::Insist,
            });
            if prng.below(2) == 0 {
                let fault = Fault::on_the_way(prng, nodes);
                self.faults.push(Fault { at: at + Duration::from_micros(prng.below(3_000_000)), ..fault });
            }
        }
        self.clients += 1;
        self.operations.sort_by_key(|operation| operation.at);
        self.faults.sort_by_key(|fault| fault.at);
    }

    /// Wall clocks differ by less than the servers promise to bear.
    fn clock(prng: &mut Prng) -> (i64, i64) {
        (prng.below(400_000_000) as i64 - 200_000_000, prng.below(401) as i64 - 200)
    }

    fn smallest(prng: &mut Prng, seed: u64) -> Self {
        let plan = "a300f0;t2000!c".parse();
        let action = plan.map(|plan| Action::Start {
            plan,
            conflict: Default::default(),
            reuse: Default::default(),
            signal: false,
            follow: Default::default(),
        });
        let start = |action| Operation {
            label: "op-0".into(),
            client: 0,
            at: Duration::ZERO,
            workflow: 0,
            action,
            manner: Manner::Insist,
        };
        Self {
            shards: 4,
            clocks: vec![(0, 0)],
            joiners: 0,
            loss: 0.0,
            latency: Duration::from_millis(3),
            habits: Habits { pollers: 1, ..Habits::default() },
            clients: 1,
            rest: Duration::ZERO,
            operations: action.into_iter().map(start).collect(),
            faults: vec![Fault::crash(prng, Duration::from_millis(2500))],
            seed,
            beyond: false,
            purges: None,
            mutant: None,
        }
    }

    /// What the simulated world is given.
    #[must_use]
    pub fn settings(&self, print: bool) -> Settings {
        let latency = Duration::from_micros(200)..self.latency;
        Settings { print, loss: self.loss, latency, patience: PATIENCE, ..Settings::new(self.seed) }
    }

    /// How long what was dated by a clock that was ahead may wait for its time.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        let jumps = self.faults.iter().filter_map(|fault| match fault.kind {
            Kind::ClockJump(millis) => u64::try_from(millis).ok(),
            _ => None,
        });
        Duration::from_millis(jumps.sum())
    }

    /// How far a wall clock may be ahead of true time at a start, beyond its usual distance: a node that starts after a jump can
    /// only believe its clock.
    #[must_use]
    pub fn believed_jump(&self) -> Duration {
        let jumps = self.faults.iter().filter_map(|fault| match fault.kind {
            Kind::ClockJump(millis) => Some(millis.unsigned_abs()),
            _ => None,
        });
        Duration::from_millis(jumps.sum())
    }
}
