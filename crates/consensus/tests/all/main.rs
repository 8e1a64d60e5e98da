//! One binary for all tests of this crate, since each one more would be compiled and linked with everything below it.

#[path = "../common/mod.rs"]
mod common;

mod cluster;
mod crash;
mod fence;
mod group;
mod park;
mod peers;
mod quiet;
mod snapshot;
