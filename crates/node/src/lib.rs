//! A node: shards, consensus, matching, routing and what only a leader remembers. The simulator runs this, whole.

pub mod service;

pub use service::Service;
