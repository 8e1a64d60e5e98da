//! A Mainstay cluster in a simulated world: nodes, clients and workers over real gRPC bytes, faults, and what must hold afterwards.
//!
//! [`Shape::draw`] draws what a run consists of, [`play()`] plays it. The world itself (network, disks, clocks, one seed) is
//! `mainstay-sim-runtime`.

mod activities;
mod channel;
mod client;
mod commands;
pub mod coverage;
mod decide;
pub mod fault;
mod journal;
mod ledger;
pub mod minimize;
mod mutant;
mod operation;
mod oracle;
pub mod page;
mod performer;
mod plan;
mod play;
mod progress;
pub mod report;
mod settle;
mod shape;
mod store_mutant;
mod updates;
pub mod violation;
mod wire_mutant;
mod worker;
mod world;

pub use mutant::Mutant;
pub use play::{Report, play, play_with};
pub use shape::{Scenario, Shape};
