//! The port of metrics and probes. It opens before the data does, so that a long recovery can be seen, and tells the `ops` crate
//! about the node once there is one.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use clap::Args;
use mainstay_frontend::SERVER_VERSION;
use mainstay_node::Node;
use mainstay_ops::{Check, Host, Readiness, Recorder, Version};
use mainstay_runtime_tokio::TokioRuntime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::serve::not_bound;

/// Flags of either start command.
#[derive(Clone, Debug, Default, Args)]
pub struct OpsFlags {
    /// Port of /metrics, /livez, /readyz and /version, at the address of the gRPC API.
    /// Default: a free one for start-dev, none for start.
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,
}

impl OpsFlags {
    /// Where `start-dev` listens.
    pub fn dev(&self, ip: IpAddr) -> Option<SocketAddr> {
        Some(SocketAddr::new(ip, self.metrics_port.unwrap_or(0)))
    }

    /// Where `start` listens, if it does.
    pub fn start(&self, ip: IpAddr) -> Option<SocketAddr> {
        self.metrics_port.map(|port| SocketAddr::new(ip, port))
    }
}

/// The open port.
pub struct Ops {
    address: SocketAddr,
    told: Arc<Told>,
    served: JoinHandle<()>,
}

impl Ops {
    /// Installs the recorder and serves. What was not recorded before is not recorded at all, so this comes first.
    pub async fn open(listen: SocketAddr, stop: watch::Receiver<bool>) -> Result<Self, Failure> {
        let listener = TcpListener::bind(listen).await.map_err(|error| not_bound(listen, &error))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let recorder = mainstay_ops::install()?;
        let told = Arc::new(Told { node: OnceLock::new(), stop });
        let served = tokio::spawn(run(listener, recorder, Arc::clone(&told)));
        Ok(Self { address, told, served })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this node is measured, and asked whether it is ready.
    pub fn watch(&self, node: Node<TokioRuntime>) {
        let _first = self.told.node.set(node);
    }

    /// Closes the port, and lets go of the node.
    pub async fn close(self) {
        self.served.abort();
        let _ended = self.served.await;
    }
}

async fn run(listener: TcpListener, recorder: Recorder, told: Arc<Told>) {
    if let Err(error) = mainstay_ops::serve(listener, recorder, told, std::future::pending()).await {
        tracing::error!(%error, component = "ops", "the metrics port ended");
    }
}

/// What the port can be asked.
struct Told {
    node: OnceLock<Node<TokioRuntime>>,
    stop: watch::Receiver<bool>,
}

impl Told {
    fn checks(&self) -> Vec<Check> {
        let stopping = self.stop.borrow().then(|| "the server is stopping".to_owned());
        let Some(node) = self.node.get() else {
            let starting =
                "the node has not started yet: it opens its data, recovers, or looks for the others".to_owned();
            return vec![Check { name: "node".into(), problem: Some(starting) }];
        };
        let own = Check { name: "node".into(), problem: stopping };
        let groups = node.readiness().into_iter().map(|group| Check {
            name: if group.group == 0 { "metadata".into() } else { format!("shard {}", group.group) },
            problem: group.problem,
        });
        std::iter::once(own).chain(groups).collect()
    }
}

impl Host for Told {
    fn measure(&self) {
        if let Some(node) = self.node.get() {
            node.measure();
        }
    }

    fn readiness(&self) -> Pin<Box<dyn Future<Output = Readiness> + Send + '_>> {
        Box::pin(async { Readiness { checks: self.checks() } })
    }

    fn version(&self) -> Version {
        Version { version: env!("CARGO_PKG_VERSION"), server_version: SERVER_VERSION }
    }
}
