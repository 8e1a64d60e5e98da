//! The HTTP/JSON API: Temporal's services for whoever has no gRPC.
//!
//! It transcodes. A request that matches a route of `routes.txt` becomes a message by its descriptor, goes through the same router
//! as every gRPC call (no socket between), and the answer becomes JSON. So validation, limits, deadlines and metrics are those of
//! [`mainstay_frontend`], and this crate knows no RPC by name but one: the history that can be downloaded as a stream.
//!
//! A request passes `serve` (connection), `guard` (who may ask from where), `handler` (what is asked), `routes` and `query` (path to
//! message), `json` (text to message and back), `call` (the services), and `problem` when something is refused.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod assets;
mod call;
mod dialect;
mod guard;
mod handler;
mod history;
mod json;
mod openapi;
mod problem;
mod query;
mod routes;
mod serve;
mod settings;

pub use call::Backend;
pub use dialect::Dialect;
pub use handler::Handler;
pub use serve::serve;

use std::path::PathBuf;
use std::time::Duration;

/// Most bytes that the body of a request may have, as for a message of gRPC.
pub const BODY_SIZE_MAX: usize = 4 << 20;

/// What can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names besides IP addresses and `localhost` by which browsers and clients may call the server; `*` stands for any text.
    /// Another name in a request's `Host` may be an attacker's that was made to lead here (DNS rebinding).
    pub allowed_hosts: Vec<String>,
    /// How long open requests may take after the stop signal.
    pub shutdown_timeout: Duration,
    /// Where the web interface has payloads decoded; empty for nowhere.
    pub codec_endpoint: String,
    /// The files of a web interface, served where no route is.
    pub ui_assets: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allowed_hosts: Vec::new(),
            shutdown_timeout: Duration::from_secs(2),
            codec_endpoint: String::new(),
            ui_assets: None,
        }
    }
}
