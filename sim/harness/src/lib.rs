//! A Mainstay cluster in a simulated world: nodes, clients and workers over real gRPC bytes, faults, and what must hold afterwards.
//!
//! [`Shape::draw`] draws what a run consists of, [`play()`] plays it. The world itself (network, disks, clocks, one seed) is
//! `mainstay-sim-runtime`.

mod activities;
mod channel;
mod client;
pub mod coverage;
mod decide;
pub mod fault;
mod journal;
mod ledger;
pub mod minimize;
mod operation;
mod oracle;
pub mod page;
mod performer;
mod plan;
mod play;
pub mod report;
mod shape;
pub mod violation;
mod wire_mutant;
mod worker;
mod world;

pub use mainstay_sim_node::Mutant;
pub use play::{Report, play};
pub use shape::{Scenario, Shape};
