//! The HTTP/JSON API beside the gRPC port: its flags, its socket, its task.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use mainstay_http::{Backend, Config, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::cli::IgnoredDev;
use crate::serve::not_bound;

/// Flags of both start commands.
#[derive(Debug, Default, Args)]
pub struct HttpFlags {
    /// Port of the HTTP/JSON API. Default: one that is free for start-dev, none for start.
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<u16>,
    /// Names by which the HTTP API may be called besides IP addresses and localhost, as flow.example.com or *.example.com;
    /// * is any. Others are refused, since they may be a web page's trick. Separated by commas.
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    pub http_allowed_hosts: Vec<String>,
}

/// What the flags come to.
#[derive(Debug)]
pub struct HttpSettings {
    pub listen: SocketAddr,
    pub allowed_hosts: Vec<String>,
    pub codec_endpoint: String,
    /// The files of a web interface to serve as well.
    pub ui_assets: Option<PathBuf>,
    /// Whether to print where it listens: somebody who chose no port does not look for it.
    pub announce: bool,
}

impl HttpSettings {
    /// Of `server start-dev`, where port 0 and no port mean any that is free.
    pub fn dev(flags: HttpFlags, ip: IpAddr, ui: &IgnoredDev) -> Self {
        Self {
            listen: SocketAddr::new(ip, flags.http_port.unwrap_or_default()),
            allowed_hosts: flags.http_allowed_hosts,
            codec_endpoint: ui.ui_codec_endpoint.clone().unwrap_or_default(),
            ui_assets: ui.ui_asset_path.clone().map(PathBuf::from),
            announce: flags.http_port.is_some(),
        }
    }

    /// Of `server start`, where port 0 and no port mean none. `advertised` is the name of this node for others.
    pub fn start(flags: HttpFlags, ip: IpAddr, advertised: Option<String>) -> Option<Self> {
        let port = flags.http_port.filter(|port| *port != 0)?;
        Some(Self {
            listen: SocketAddr::new(ip, port),
            allowed_hosts: flags.http_allowed_hosts.into_iter().chain(advertised).collect(),
            codec_endpoint: String::new(),
            ui_assets: None,
            announce: true,
        })
    }
}

/// A socket that nobody serves yet.
pub struct Http {
    listener: TcpListener,
    config: Config,
    announce: bool,
    address: SocketAddr,
}

impl Http {
    /// Listens, before anything else is touched: a port in use is then no harm.
    pub async fn bind(settings: &HttpSettings) -> Result<Self, Failure> {
        let failed = |error| format!("the HTTP API: {}", not_bound(settings.listen, &error));
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let config = Config {
            allowed_hosts: settings.allowed_hosts.clone(),
            codec_endpoint: settings.codec_endpoint.clone(),
            ui_assets: settings.ui_assets.clone(),
            ..Config::default()
        };
        Ok(Self { listener, config, announce: settings.announce, address })
    }

    /// Serves in a task of its own, which ends a while after `stop`.
    pub fn spawn(self, backend: impl Backend, stop: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        if self.announce {
            println!("Temporal HTTP:    {}", self.address);
        }
        tracing::info!(address = %self.address, "the HTTP API is ready");
        tokio::spawn(serve(self.listener, backend, self.config, stop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_any_port_for_development_and_none_otherwise() {
        let ip = IpAddr::from([127, 0, 0, 1]);
        let flags = |http_port| HttpFlags { http_port, http_allowed_hosts: vec!["a".into()] };
        let dev = HttpSettings::dev(flags(None), ip, &IgnoredDev::default());
        assert_eq!((dev.listen.port(), dev.announce), (0, false));
        let dev = HttpSettings::dev(flags(Some(7)), ip, &IgnoredDev::default());
        assert_eq!((dev.listen.port(), dev.announce), (7, true));
        assert!(HttpSettings::start(flags(None), ip, None).is_none());
        assert!(HttpSettings::start(flags(Some(0)), ip, None).is_none());
        let start = HttpSettings::start(flags(Some(7)), ip, Some("node-1".into())).expect("a port is given");
        assert_eq!(start.allowed_hosts, ["a", "node-1"]);
    }
}
