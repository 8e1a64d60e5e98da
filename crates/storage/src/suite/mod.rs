//! What every form of the two stores must do. For tests: a store that does otherwise makes these functions panic.
//!
//! [`log()`] and [`state()`] walk through each operation once, on an empty store. [`log_script`] and [`state_script`] run any list of
//! steps, crashes among them, against a model; the steps are plain numbers, so that a property test can draw and shrink them.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod log;
mod state;

pub use log::{LogSubject, log, log_script};
pub use state::{StateSubject, state, state_script};

/// One step of a script: what to do, and two numbers that choose where and how much.
pub type Step = (u8, u8, u8);
