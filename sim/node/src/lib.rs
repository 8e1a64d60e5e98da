//! A Mainstay node as the simulated world runs it: the production crates on the simulated runtime, started on a simulated disk.
//!
//! It is a crate of its own because all of the server's generic code is compiled here, once, and not again with every change of a
//! scenario or an oracle.

mod node;

/// How a node is set up.
pub use mainstay_node::Config;
pub use node::{Around, Cluster, RESERVE_BYTES, SimNode, USUAL_DISK};
