//! A Mainstay cluster in a simulated world, with workers and clients that speak gRPC to it, and checks of what it promised.
//!
//! The node and its frontend are the product's own; everything around them is here. `node` starts, crashes and restarts them;
//! `channel` and `client` are how anything reaches them; `plan` says what a workflow does and `worker` does it; `ledger` keeps what
//! was acknowledged, `history` what a history must look like, `scenario` puts them together. Nothing here looks into a node: what
//! cannot be seen from outside is not checked.

pub mod channel;
pub mod client;
pub mod history;
pub mod ledger;
pub mod node;
pub mod plan;
pub mod scenario;
pub mod worker;

pub use scenario::{Report, Scenario, play};
