//! One run: a fresh thread, a seed, a future to its end, and what came of it.
//!
//! Each run has its own thread because the standard library's hash keys, and the trace and settings here, are per thread.
//! A panic of any task ends the run and is its result; so does a run that makes no progress in real time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;

use madsim::net::NetSim;
use madsim::runtime::Runtime;
use madsim::task::NodeId;
use mainstay_base::Timestamp;

use crate::stream::Line;
use crate::tasks;
use crate::trace::{self, Trace};

/// Begins the panic message of a node that gave up. A node built with `restart_on_panic_matching(FATAL)` dies of it, and
/// starts again after some seconds, as under a supervisor; any other panic is a failure of the run.
pub const FATAL: &str = "the node stopped itself";

/// A node that could not keep its promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// The node.
    pub node: NodeId,
    /// Its last words.
    pub reason: String,
}

/// What a run is given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything random follows from it.
    pub seed: u64,
    /// One-way latency of a packet.
    pub latency: Range<Duration>,
    /// Share of packets that are lost, and come late by a growing pause.
    pub loss: f64,
    /// The run fails at this simulated time.
    pub limit: Duration,
    /// The run fails after this real time: something spins.
    pub patience: Duration,
    /// Show events as they happen.
    pub print: bool,
    /// Keep what travels on the network.
    pub messages: bool,
}

impl Settings {
    /// A quiet network for this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            latency: Duration::from_micros(200)..Duration::from_millis(3),
            loss: 0.0,
            limit: Duration::from_secs(3600),
            patience: Duration::from_secs(120),
            print: false,
            messages: false,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome<T> {
    /// What the scenario answered, or the panic that ended it.
    pub result: Result<T, String>,
    /// All that happened. Empty if the run spun.
    pub trace: Trace,
    /// Nodes that stopped themselves.
    pub fatals: Vec<Fatal>,
    /// Simulated time.
    pub simulated: Duration,
    /// Packets sent.
    pub packets: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    offset_nanos: i64,
    drift_ppm: i64,
}

#[derive(Debug, Default)]
struct World {
    clocks: BTreeMap<NodeId, Clock>,
    disk_delays: BTreeMap<NodeId, Range<Duration>>,
    fatals: Vec<Fatal>,
    panic: Option<String>,
    /// Ends of connections, by their node.
    lines: BTreeMap<NodeId, Vec<Weak<Line>>>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::default();
}

/// A number out of the run's seed, in `range`.
///
/// # Panics
/// If the range is empty.
#[must_use]
pub fn draw(range: Range<u64>) -> u64 {
    assert!(!range.is_empty(), "nothing to draw from");
    range.start + madsim::rand::random::<u64>() % (range.end - range.start)
}

/// Sets a node's clocks: the wall clock's distance from true time, and the rate of both against it. The rate must not change
/// while the node runs.
pub fn set_clock(node: NodeId, offset_nanos: i64, drift_ppm: i64) {
    WORLD.with_borrow_mut(|world| world.clocks.insert(node, Clock { offset_nanos, drift_ppm }));
}

/// A connection has an end on the current node.
pub(crate) fn opened(line: &Arc<Line>) {
    let node = madsim::plugin::node();
    WORLD.with_borrow_mut(|world| {
        let lines = world.lines.entry(node).or_default();
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(line));
    });
}

/// Resets a share of the connections that end on a node, in percent.
pub fn reset_connections(node: NodeId, percent: u64) {
    let lines = WORLD.with_borrow(|world| world.lines.get(&node).cloned()).unwrap_or_default();
    for line in lines.iter().filter_map(Weak::upgrade) {
        if draw(0..100) < percent {
            line.cut();
        }
    }
}

/// Closes what an earlier process of the current node left open: one that is replaced while it lives does not.
pub fn close_sockets() {
    NetSim::current().reset_node(madsim::plugin::node());
}

/// Nodes that stopped themselves so far.
#[must_use]
pub fn fatals() -> Vec<Fatal> {
    WORLD.with_borrow(|world| world.fatals.clone())
}

/// Sets how long a node's disk takes; a stall is a long one.
pub fn set_disk_delay(node: NodeId, delay: Range<Duration>) {
    WORLD.with_borrow_mut(|world| world.disk_delays.insert(node, delay));
}

fn clock() -> Clock {
    let node = madsim::plugin::node();
    WORLD.with_borrow(|world| world.clocks.get(&node).copied()).unwrap_or_default()
}

pub(crate) fn drift_ppm() -> i64 {
    clock().drift_ppm
}

pub(crate) fn wall_clock() -> Timestamp {
    let clock = clock();
    let time = madsim::time::TimeHandle::current();
    let drift = time.elapsed().as_nanos() as i128 * i128::from(clock.drift_ppm) / 1_000_000;
    let since_epoch = time.now_time().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos((since_epoch.as_nanos() as i128 + i128::from(clock.offset_nanos) + drift) as i64)
}

pub(crate) fn disk_delay() -> Duration {
    let node = madsim::plugin::node();
    let usual = Duration::from_micros(200)..Duration::from_millis(2);
    let range = WORLD.with_borrow(|world| world.disk_delays.get(&node).cloned()).unwrap_or(usual);
    Duration::from_nanos(draw(range.start.as_nanos() as u64..range.end.as_nanos() as u64))
}

pub(crate) fn fatal(reason: &str) -> ! {
    let node = madsim::plugin::node();
    trace::event(format!("node {node} stops itself: {reason}"));
    WORLD.with_borrow_mut(|world| world.fatals.push(Fatal { node, reason: reason.into() }));
    panic!("{FATAL}: {reason}")
}

/// Notes a panic's place for the outcome. Threads outside of runs panic as always.
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if madsim::runtime::Handle::try_current().is_err() {
                return usual(info);
            }
            let text = info.payload_as_str().unwrap_or("no message");
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            // The first panic is the cause; those of tasks dropped because of it are not.
            let _ = WORLD.try_with(|world| {
                if let Ok(mut world) = world.try_borrow_mut()
                    && !text.starts_with(FATAL)
                {
                    world.panic.get_or_insert(format!("{text} ({place})"));
                }
            });
        }));
    });
}

/// Runs a scenario in a world of its own.
pub fn run<T, F, S>(settings: &Settings, scenario: S) -> Outcome<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
    S: FnOnce() -> F + Send + 'static,
{
    watch_panics();
    let (sender, receiver) = channel();
    let own = settings.clone();
    let thread = std::thread::spawn(move || {
        let _ = sender.send(run_here(&own, scenario));
    });
    let failed = |reason: String| Outcome {
        result: Err(reason),
        trace: Trace { hash: 0, bytes: 0, events: Vec::new(), messages: Vec::new() },
        fatals: Vec::new(),
        simulated: Duration::ZERO,
        packets: 0,
    };
    match receiver.recv_timeout(settings.patience) {
        Ok(outcome) => {
            let _ = thread.join();
            outcome
        }
        // The thread is left to spin: nothing can stop it but the end of the process.
        Err(RecvTimeoutError::Timeout) => failed(format!("no end after {:?} of real time", settings.patience)),
        Err(RecvTimeoutError::Disconnected) => failed("the run's thread died".into()),
    }
}

fn run_here<T, F: Future<Output = T>>(settings: &Settings, scenario: impl FnOnce() -> F) -> Outcome<T> {
    let mut config = madsim::Config::default();
    config.net.send_latency = settings.latency.clone();
    config.net.packet_loss_rate = settings.loss;
    trace::begin(settings.print, settings.messages);
    WORLD.set(World::default());
    let mut runtime = Runtime::with_seed_and_config(settings.seed, config);
    runtime.set_time_limit(settings.limit);
    let run = || {
        runtime.block_on(async {
            let answer = scenario().await;
            (answer, trace::now(), NetSim::current().stat().msg_count)
        })
    };
    let ended = std::panic::catch_unwind(AssertUnwindSafe(run));
    let trace = trace::end();
    // In the world, since sockets and timers that are dropped say so there.
    let clean = || runtime.block_on(async { tasks::end_all() });
    let _panicked = std::panic::catch_unwind(AssertUnwindSafe(clean));
    let world = WORLD.take();
    match ended {
        Ok((answer, simulated, packets)) => {
            Outcome { result: Ok(answer), trace, fatals: world.fatals, simulated, packets }
        }
        Err(_) => {
            // Its tasks may panic again when dropped.
            std::mem::forget(runtime);
            let simulated = trace.events.last().map_or(Duration::ZERO, |event| event.at);
            let reason = world.panic.unwrap_or_else(|| "a panic without a message".into());
            Outcome { result: Err(reason), trace, fatals: world.fatals, simulated, packets: 0 }
        }
    }
}
