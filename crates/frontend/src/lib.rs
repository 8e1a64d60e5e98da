//! The frontend: everything between a socket and a node.
//!
//! It serves Temporal's gRPC services: it knows HTTP/2, deadlines, limits, what a valid request is, how tokens look outside, and which
//! status an error becomes. It knows no state: whatever needs some is asked of [`mainstay_node::Service`]. A request passes
//! `serve` (connection), `router` (which service, deadline, transport errors), `workflow_service` or `operator` (validation by
//! `validate`, then one call of the node), and `status` on the way back.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod admin;
mod closing;
mod deadline;
mod health;
mod log;
mod measure;
mod operator;
mod page_token;
mod reflection;
mod router;
mod serve;
mod status;
mod timer;
mod token;
mod trace;
mod transport;
mod validate;
mod workflow_service;

pub use router::Router;
pub use serve::{serve, serve_router};
pub use status::{Refusal, status_of};

use std::time::Duration;

/// The version that clients are told. SDKs gate features on it.
pub const SERVER_VERSION: &str = "1.32.0";

/// What can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Longest wait of a poll for a task.
    pub poll_timeout: Duration,
    /// Longest wait of a history long poll.
    pub history_timeout: Duration,
    /// How long a query may take if the caller sets no deadline.
    pub query_timeout: Duration,
    /// Longest wait for a stage of an update; a caller who waits longer asks again.
    pub update_timeout: Duration,
    /// How long open calls may take after the stop signal.
    pub shutdown_timeout: Duration,
    /// Streams that one connection may have open.
    pub streams_max: u32,
    /// Name of the store that GetClusterInfo shows. The web UI offers lists by query only for stores whose names it knows.
    pub store_name: String,
    /// Where this frontend is: what a server that is alone gives as the owner of its task queues.
    pub address: String,
    /// How large payloads, headers and failures may be, in bytes.
    pub blob_size_max: usize,
    /// Whether workflows can be paused.
    pub workflow_pause: bool,
    /// Calls traced in a second besides those that their callers trace, if traces are exported.
    pub traced_per_second: u32,
    /// Calls that take longer are logged, but for those that wait for something.
    pub slow_call: Option<Duration>,
    /// Number of shards that GetClusterInfo shows.
    pub shard_count: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            poll_timeout: Duration::from_secs(60),
            history_timeout: Duration::from_secs(20),
            query_timeout: Duration::from_secs(10),
            update_timeout: Duration::from_secs(20),
            shutdown_timeout: Duration::from_secs(3),
            streams_max: 10_000,
            store_name: "sqlite".into(),
            address: String::new(),
            blob_size_max: mainstay_base::limits::BLOB_SIZE_MAX,
            workflow_pause: false,
            traced_per_second: 100,
            slow_call: None,
            shard_count: 1,
        }
    }
}
