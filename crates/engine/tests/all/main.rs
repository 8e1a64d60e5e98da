//! One binary for all tests of this crate, since each one more would be compiled and linked with everything below it.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod golden;
mod limits;
mod property;
mod reserved;
mod schedules;
mod transient;
mod wide_tree;
