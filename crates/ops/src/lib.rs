//! What people and machines that look after a server ask over HTTP: metrics, and whether it lives and is ready.
//!
//! It owns the recorder behind the `metrics` facade, the list of all metrics ([`registry`]), and four routes. It knows nothing of what
//! a node is: whoever runs one tells by [`Host`].

pub mod page;
mod process;
mod recorder;
pub mod registry;
mod serve;

pub use recorder::{Recorder, install};
pub use serve::{Check, Host, Readiness, Version, serve};
