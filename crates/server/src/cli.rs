//! The command line. `server start-dev` takes every flag of `temporal server start-dev`, since SDKs and scripts pass them; those
//! that mean nothing here are accepted and said so.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::http::HttpFlags;

/// A durable-execution server that speaks Temporal's API.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, propagate_version = true, infer_subcommands = false)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that stand before or after the command.
#[derive(Debug, Args)]
pub struct Global {
    /// What to log to stderr. Default: warn for start-dev, info for start.
    #[arg(long, global = true, value_enum, ignore_case = true)]
    pub log_level: Option<LogLevel>,
    /// How log lines look.
    #[arg(long, global = true, value_enum, ignore_case = true, default_value = "text")]
    pub log_format: LogFormat,
    #[command(flatten)]
    pub ignored: IgnoredGlobal,
}

/// Flags that the `temporal` CLI takes everywhere and that say nothing about a server.
#[derive(Debug, Args)]
pub struct IgnoredGlobal {
    #[arg(long, global = true, hide = true)]
    pub color: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub env: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub env_file: Option<String>,
    #[arg(long, short = 'o', global = true, hide = true)]
    pub output: Option<String>,
    #[arg(long, global = true, hide = true)]
    pub time_format: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
    Pretty,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a server.
    Server {
        #[command(subcommand)]
        command: ServerCommand,
    },
    /// Runs and shows clusters.
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Puts load on a running server and reports its rate, latencies and costs.
    Bench(mainstay_bench::Options),
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Runs a cluster on this machine, one process for each node, until Ctrl-C.
    Dev(ClusterDev),
    /// Shows the nodes of a cluster and what each of them leads.
    Status(ClusterStatus),
}

/// Flags of `cluster dev`.
#[derive(Debug, Args)]
pub struct ClusterDev {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// The directory that keeps the data of all nodes. Without it, everything is gone when the cluster stops.
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: Option<PathBuf>,
    /// Port of the first node's gRPC API. The others have the next ones; for each other nodes use ports 100 above.
    #[arg(long, short = 'p', default_value_t = 7233)]
    pub port: u16,
}

/// Flags of `cluster status`.
#[derive(Debug, Args)]
pub struct ClusterStatus {
    /// Where a node of the cluster listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7233")]
    pub address: String,
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Starts a server for development: one node on this machine, ready within a second.
    StartDev(Box<StartDev>),
    /// Starts a node that keeps its data in a directory.
    Start(Start),
}

/// Flags of `server start-dev`.
#[derive(Debug, Default, Args)]
pub struct StartDev {
    /// The directory that keeps the data. Without it, everything is gone when the server stops.
    #[arg(long, short = 'f', value_name = "DIRECTORY")]
    pub db_filename: Option<PathBuf>,
    /// A namespace to create besides `default`. Repeatable.
    #[arg(long, short = 'n')]
    pub namespace: Vec<String>,
    /// Port of the gRPC API.
    #[arg(long, short = 'p', default_value_t = 7233)]
    pub port: u16,
    /// Address to listen on.
    #[arg(long, default_value = "localhost")]
    pub ip: String,
    /// A search attribute of the default namespace, as Name=Type. Repeatable.
    /// Types: Text, Keyword, Int, Double, Bool, Datetime, KeywordList.
    #[arg(long, value_name = "NAME=TYPE")]
    pub search_attribute: Vec<String>,
    /// A setting of Temporal's dynamic configuration, as KEY=JSON. Unknown ones are ignored. Repeatable.
    #[arg(long, value_name = "KEY=JSON")]
    pub dynamic_config_value: Vec<String>,
    #[command(flatten)]
    pub http: HttpFlags,
    #[command(flatten)]
    pub disk: Disk,
    /// No web interface (there is none so far).
    #[arg(long)]
    pub headless: bool,
    /// Logs the settings at the start.
    #[arg(long)]
    pub log_config: bool,
    #[command(flatten)]
    pub ignored: IgnoredDev,
}

/// Flags without a meaning here, so far or for ever.
#[derive(Debug, Default, Args)]
pub struct IgnoredDev {
    #[arg(long, hide = true)]
    pub metrics_port: Option<u16>,
    #[arg(long, hide = true)]
    pub ui_port: Option<u16>,
    #[arg(long, hide = true)]
    pub ui_ip: Option<String>,
    #[arg(long, hide = true)]
    pub ui_public_path: Option<String>,
    #[arg(long, hide = true)]
    pub ui_asset_path: Option<String>,
    #[arg(long, hide = true)]
    pub ui_codec_endpoint: Option<String>,
    #[arg(long, hide = true)]
    pub ui_disable_news_fetch: bool,
    #[arg(long, hide = true)]
    pub sqlite_pragma: Vec<String>,
}

impl IgnoredDev {
    /// The names of those that were given and that a user might miss.
    pub fn given(&self) -> Vec<&'static str> {
        let given = [
            ("--metrics-port", self.metrics_port.is_some()),
            ("--ui-port", self.ui_port.is_some()),
            ("--sqlite-pragma", !self.sqlite_pragma.is_empty()),
        ];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

/// Flags of `server start`.
#[derive(Debug, Args)]
pub struct Start {
    /// The directory that keeps the data; created if it does not exist.
    #[arg(long, value_name = "DIRECTORY")]
    pub data_dir: PathBuf,
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7233")]
    pub listen: String,
    /// The node's name, unique in its cluster and kept for ever. With it, --peer-listen and --join a node is part of a cluster.
    #[arg(long, value_name = "NAME", requires = "peer_listen")]
    pub node_name: Option<String>,
    /// Address and port to listen on for the other nodes.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "node_name")]
    pub peer_listen: Option<String>,
    /// The host, or host and peer port, at which the others and clients reach this node. Default: as it listens.
    #[arg(long, value_name = "HOST[:PORT]", requires = "peer_listen")]
    pub advertise: Option<String>,
    /// Where the other nodes listen for each other, separated by commas; this node may be among them.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', requires = "peer_listen")]
    pub join: Vec<String>,
    /// How many nodes a new cluster begins with.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=5))]
    pub bootstrap_expect: u32,
    /// Stops when stdin ends, as with whoever started it.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
    /// Allows an address that other machines can reach. There is no TLS and no authentication yet.
    #[arg(long)]
    pub insecure: bool,
    #[command(flatten)]
    pub http: HttpFlags,
    #[command(flatten)]
    pub disk: Disk,
}

/// How much of the disk a server may take.
#[derive(Debug, Default, Args)]
pub struct Disk {
    /// Most bytes that the data may take, as 500MiB or 20GB. Beyond it new work is refused, while reads and deletes go on.
    /// Default: all of the disk but a reserve.
    #[arg(long, value_name = "SIZE")]
    pub disk_budget: Option<ByteSize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn dev(flags: &str) -> (Global, StartDev) {
        let cli = Cli::try_parse_from(flags.split(' ')).expect("parses");
        let Command::Server { command: ServerCommand::StartDev(dev) } = cli.command else { panic!("start-dev") };
        (cli.global, *dev)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_sdks_pass_is_accepted() {
        let (global, dev) = dev("mainstay server start-dev --port 7 --namespace n --ip 127.0.0.1 --log-format pretty \
            --log-level warn --dynamic-config-value frontend.enableServerVersionCheck=false \
            --dynamic-config-value frontend.enableUpdateWorkflowExecution=true --db-filename F --ui-port 8 \
            --search-attribute A=Keyword");
        assert_eq!((global.log_level, global.log_format), (Some(LogLevel::Warn), LogFormat::Pretty));
        assert_eq!((dev.port, dev.namespace, dev.ip.as_str()), (7, vec!["n".to_owned()], "127.0.0.1"));
        assert_eq!(dev.dynamic_config_value.len(), 2);
        assert_eq!(dev.ignored.given(), ["--ui-port"]);
    }

    #[test]
    fn what_people_type_is_accepted() {
        let (_, dev) =
            dev("mainstay --log-level DEBUG server start-dev -f d -n a -n b -p 1 --http-port 2 --metrics-port 3 \
            --headless --ui-ip h --ui-public-path p --ui-asset-path p --ui-codec-endpoint e --ui-disable-news-fetch \
            --sqlite-pragma a=b --log-config --color never");
        assert_eq!((dev.namespace.len(), dev.headless, dev.log_config), (2, true, true));
        assert_eq!(dev.http.http_port, Some(2));
    }
}
