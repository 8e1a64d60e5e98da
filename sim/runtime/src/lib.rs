//! The world that a simulated cluster lives in: time, network, disks, clocks and randomness, all drawn from one seed.
//!
//! [`SimRuntime`] gives them to production code through the same trait as tokio does. [`run`] makes one world on a fresh thread,
//! and answers with a hash of every byte and event in it: two runs of one seed must agree. What lives in the world (nodes,
//! workers, checks) is not known here.

#[cfg(not(madsim))]
compile_error!("the simulator is built under `--cfg madsim`: run cargo inside `sim/`, or use `cargo xtask sim`");

mod disk;
pub mod http;
mod runtime;
mod stream;
mod tasks;
mod time;
pub mod trace;
mod world;

pub use disk::{Crash, Disk};
pub use http::{HyperExecutor, HyperTimer};
pub use runtime::{Rng, SimRuntime};
pub use stream::{Listener, Stream};
pub use time::{Elapsed, SimInstant, Sleep, Timeout};
pub use world::{
    FATAL, Fatal, Outcome, Settings, close_sockets, draw, fatals, reset_connections, run, set_clock, set_disk_delay,
};

/// Nodes, links and their faults: madsim's own handles.
pub use madsim::net::{Config as NetConfig, NetSim};
pub use madsim::runtime::{Handle, NodeHandle};
pub use madsim::task::{NodeId, yield_now};
