//! The web interface's socket, and the way from its pages to the node: the frontend's services, without a connection.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use mainstay_node::Node;
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_ui as ui;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::cli;
use crate::serve::not_bound;
use crate::settings::resolve;

type Router = mainstay_frontend::Router<TokioRuntime, Node<TokioRuntime>>;

/// How far above the port of the gRPC API that of the web interface is, unless it is given.
const PORT_ABOVE: u16 = 1_000;

/// Where the web interface listens and what it is told.
#[derive(Clone, Debug)]
pub struct UiSettings {
    pub listen: SocketAddr,
    config: ui::Config,
}

impl UiSettings {
    /// Of a development server, which has one unless it must not.
    pub fn dev(flags: &cli::Ui, api: SocketAddr) -> Result<Self, Failure> {
        // A port that the system picks has no neighbours.
        let default = if api.port() == 0 { 0 } else { api.port().checked_add(PORT_ABOVE).unwrap_or(0) };
        Self::new(flags, api, flags.ui_port.unwrap_or(default))
    }

    /// Of any other server, which has one only on a port that is given.
    pub fn start(flags: &cli::Ui, api: SocketAddr) -> Result<Option<Self>, Failure> {
        flags.ui_port.map(|port| Self::new(flags, api, port)).transpose()
    }

    fn new(flags: &cli::Ui, api: SocketAddr, port: u16) -> Result<Self, Failure> {
        let listen = match &flags.ui_ip {
            Some(host) => resolve(host, port)?,
            None => SocketAddr::new(api.ip(), port),
        };
        let config = ui::Config {
            public_path: flags.ui_public_path.clone(),
            hosts: flags.ui_allowed_host.clone(),
            codec_endpoint: flags.ui_codec_endpoint.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(Self { listen, config })
    }

    /// Listens, so that a port in use is known before anything else begins.
    pub async fn bind(&self) -> Result<UiSocket, Failure> {
        let failed = |error| {
            format!(
                "the web interface cannot start: {}; --headless goes without it, --ui-port chooses",
                not_bound(self.listen, &error)
            )
        };
        let listener = TcpListener::bind(self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(UiSocket { listener, address, config: self.config.clone() })
    }
}

/// A socket on which pages are served once there is a node.
pub struct UiSocket {
    listener: TcpListener,
    address: SocketAddr,
    config: ui::Config,
}

impl UiSocket {
    /// What to type into a browser.
    pub fn address(&self) -> String {
        let path = self.config.public_path.trim_matches('/');
        format!("http://{}/{path}", self.address)
    }

    /// Serves pages of whatever a router answers.
    pub fn serve(self, router: Router, stop: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let server = Arc::new(InProcess(router));
        tokio::spawn(ui::serve(self.listener, server, self.config, stop))
    }
}

struct InProcess(Router);

impl ui::Server for InProcess {
    fn call(&self, request: ui::Call) -> ui::Answer {
        let router = self.0.clone();
        Box::pin(async move { router.handle(request).await })
    }
}
