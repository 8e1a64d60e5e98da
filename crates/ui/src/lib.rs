//! The web interface in the binary: pages for people, made on the server.
//!
//! It knows HTML, what a browser may be trusted with, and how to draw a history. It knows no state and no rule of the server: it is
//! a client of Temporal's gRPC services, like any SDK, only that its calls do not leave the process ([`Server`]). So validation,
//! limits and error texts are those of the API.
//!
//! A request passes `guard` (which host, which origin, the form's secret), a page in `pages` (asks `api`, answers markup),
//! and `shell` (what every page has around it). A failure is a `problem::Problem` and becomes a page, too. Lists, forms and
//! links work without scripts; the modules in `assets/` add live updates, keys, relative times and codec servers.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod assets;
mod events;
mod format;
mod guard;
mod json;
mod link;
mod live;
mod pages;
mod payload;
mod problem;
mod query;
mod shell;
mod timeline;
mod visitor;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use tokio::net::TcpListener;

pub use api::{Answer, Call, Server};

use api::Api;

/// What can be set.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the pages are below the root, as `/ui`; empty for the root itself.
    pub public_path: String,
    /// Names of hosts at which browsers may reach the pages, besides `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// A codec server that browsers ask to decode payloads, unless they chose another.
    pub codec_endpoint: String,
    /// The product's version, as shown.
    pub version: String,
}

/// What every handler shares.
pub(crate) struct Ui {
    pub(crate) api: Api,
    pub(crate) config: Config,
}

/// Serves pages until `stop` is ready; what is open then is dropped with the runtime.
pub async fn serve(listener: TcpListener, server: Arc<dyn Server>, config: Config, stop: impl Future<Output = ()>) {
    let app = router(server, config);
    tokio::select! {
        biased;
        () = stop => {}
        _ = async { axum::serve(listener, app).await } => {}
    }
}

/// All routes, behind the guard.
pub fn router(server: Arc<dyn Server>, config: Config) -> Router {
    let base = link::public_path(&config.public_path);
    let ui = Arc::new(Ui { api: Api::new(server), config: Config { public_path: base.clone(), ..config } });
    let routes = pages::routes().route("/assets/{version}/{name}", get(assets::asset)).fallback(problem::no_such_page);
    let routes =
        if base.is_empty() { routes } else { Router::new().nest(&base, routes).fallback(problem::no_such_page) };
    routes
        .layer(from_fn_with_state(ui.clone(), problem::as_page))
        .layer(from_fn_with_state(ui.clone(), guard::admit))
        .with_state(ui)
}
