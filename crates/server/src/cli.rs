//! The command line. `server start-dev` takes every flag of `temporal server start-dev`, since SDKs and scripts pass them; those
//! that mean nothing here are accepted and said so.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::http::HttpFlags;
use crate::ops::OpsFlags;
use crate::query::QueryFlags;
use crate::telemetry::LogFlags;

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
    #[command(flatten)]
    pub log: LogFlags,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
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
    /// Lists, counts or exports the workflows of a running server that match a filter.
    Query(QueryFlags),
    /// Puts load on a running server and reports its rate, latencies and costs.
    Bench(BenchArguments),
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Runs a cluster on this machine, one process for each node, until Ctrl-C.
    Dev(ClusterDev),
    /// Shows the nodes of a cluster and what each of them leads.
    Status(Asked),
    /// The same, as a table that is kept up to date with --watch.
    Nodes(Watched),
    /// Shows the shards of a cluster: who leads, who votes, how far each replica is.
    Shards(Watched),
    /// Says what is wrong with a cluster, and what to do about it. Fails if something is.
    Check(Asked),
    /// Waits until a node that was started has a replica of everything.
    Add(MemberFlags),
    /// Waits until a node votes, or says why it cannot.
    Promote(MemberFlags),
    /// Takes a node out of the cluster for good.
    Remove(Remove),
    /// Takes a node out of the cluster, and another gets its votes.
    Replace(Replace),
    /// Hands over everything that a node leads, and keeps it so.
    Drain(MemberFlags),
    /// Ends a drain.
    Resume(MemberFlags),
    /// Makes a new shard that takes over half of a shard's slots, while both serve.
    SplitShard(SplitShard),
    /// Moves a shard's replica from one node to another, while the shard serves.
    MoveShard(MoveShard),
}

/// Flags of the commands about one member.
#[derive(Debug, Args)]
pub struct MemberFlags {
    /// The node's name.
    pub node: String,
    /// Where a node of the cluster listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7233")]
    pub address: String,
    /// How many seconds to wait until it is done.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait_s: u64,
}

/// Flags of `cluster split-shard`.
#[derive(Debug, Args)]
pub struct SplitShard {
    /// The shard's number, as `cluster shards` shows it.
    pub shard: u32,
    /// Where a node of the cluster listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7233")]
    pub address: String,
    /// How many seconds to wait until it is done.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait_s: u64,
}

/// Flags of `cluster move-shard`.
#[derive(Debug, Args)]
pub struct MoveShard {
    /// The shard's number, as `cluster shards` shows it.
    pub shard: u32,
    /// The node that has a replica now.
    #[arg(long, value_name = "NODE")]
    pub from: String,
    /// The node that is to have it.
    #[arg(long, value_name = "NODE")]
    pub to: String,
    /// Where a node of the cluster listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7233")]
    pub address: String,
    /// How many seconds to wait until it is done.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait_s: u64,
}

/// Flags of `cluster remove`.
#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    pub member: MemberFlags,
    /// Removes it though the rest cannot lose another node. Needs --cluster.
    #[arg(long, requires = "cluster")]
    pub force_quorum_loss: bool,
    /// The id of the cluster, as `cluster status` shows it.
    #[arg(long, value_name = "ID")]
    pub cluster: Option<String>,
}

/// Flags of `cluster replace`.
#[derive(Debug, Args)]
pub struct Replace {
    #[command(flatten)]
    pub member: MemberFlags,
    /// The node that takes its place; it is part of the cluster already.
    #[arg(long, value_name = "NODE")]
    pub by: String,
}

/// Flags of `cluster nodes` and `cluster shards`.
#[derive(Debug, Args)]
pub struct Watched {
    #[command(flatten)]
    pub asked: Asked,
    /// Shows it again every second until Ctrl-C.
    #[arg(long, short = 'w')]
    pub watch: bool,
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
    /// Port of the first node's gRPC API. The others have the next ones; for each other nodes use ports 100 above,
    /// for metrics 300 above.
    #[arg(long, short = 'p', default_value_t = 7233)]
    pub port: u16,
    /// No web interface. Otherwise each node has one, on a port 1000 above that of its gRPC API.
    #[arg(long)]
    pub headless: bool,
    #[command(flatten)]
    pub new: NewCluster,
}

/// Which node is asked.
#[derive(Debug, Args)]
pub struct Asked {
    /// Where a node of the cluster listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7233")]
    pub address: String,
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Starts a server for development: one node on this machine, ready within a second.
    StartDev(Box<StartDev>),
    /// Starts a node that keeps its data in a directory.
    Start(Box<Start>),
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
    #[command(flatten)]
    pub ops: OpsFlags,
    /// No web interface.
    #[arg(long)]
    pub headless: bool,
    #[command(flatten)]
    pub ui: Ui,
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
    pub ui_asset_path: Option<String>,
    #[arg(long, hide = true)]
    pub ui_disable_news_fetch: bool,
    #[arg(long, hide = true)]
    pub sqlite_pragma: Vec<String>,
}

impl IgnoredDev {
    /// The names of those that were given and that a user might miss.
    pub fn given(&self) -> Vec<&'static str> {
        let given = [("--sqlite-pragma", !self.sqlite_pragma.is_empty())];
        given.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

/// Flags of the web interface.
#[derive(Clone, Debug, Default, Args)]
pub struct Ui {
    /// Port of the web interface. Default: that of the gRPC API and 1000 for start-dev; none for start.
    #[arg(long)]
    pub ui_port: Option<u16>,
    /// Address of the web interface. Default: that of the gRPC API.
    #[arg(long, value_name = "ADDRESS")]
    pub ui_ip: Option<String>,
    /// Path below which the web interface is, as /mainstay.
    #[arg(long, value_name = "PATH", default_value = "")]
    pub ui_public_path: String,
    /// A codec server that browsers ask to decode payloads.
    #[arg(long, value_name = "URL", default_value = "")]
    pub ui_codec_endpoint: String,
    /// A name, besides localhost and IP addresses, at which browsers may open the web interface. Repeatable.
    #[arg(long, value_name = "NAME")]
    pub ui_allowed_host: Vec<String>,
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
    #[command(flatten)]
    pub new: NewCluster,
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
    #[command(flatten)]
    pub ui: Ui,
    #[command(flatten)]
    pub ops: OpsFlags,
}

/// What a new data directory or cluster begins with. What is there already stays as it is.
#[derive(Debug, Args)]
pub struct NewCluster {
    /// Shards to begin with. They can be split later: mainstay cluster split-shard.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub shards: u32,
    /// Replicas of each shard in a cluster of as many nodes or more: 3 or 5.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub replicas: u32,
}

/// How much of the disk a server may take.
#[derive(Debug, Default, Args)]
pub struct Disk {
    /// Most bytes that the data may take, as 500MiB or 20GB. Beyond it new work is refused, while reads and deletes go on.
    /// Default: all of the disk but a reserve.
    #[arg(long, value_name = "SIZE")]
    pub disk_budget: Option<ByteSize>,
}

/// Workflows in a closed loop, or something else.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArguments {
    #[command(subcommand)]
    pub what: Option<BenchCommand>,
    #[command(flatten)]
    pub options: mainstay_bench::Options,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Many schedules: their creation, their cost at rest, and a minute in which many of them act.
    Schedules(mainstay_bench::schedules::ScheduleOptions),
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
        assert_eq!((global.log.log_level, global.log.log_format), (Some(LogLevel::Warn), LogFormat::Pretty));
        assert_eq!((dev.port, dev.namespace, dev.ip.as_str()), (7, vec!["n".to_owned()], "127.0.0.1"));
        assert_eq!(dev.dynamic_config_value.len(), 2);
        assert_eq!(dev.ui.ui_port, Some(8));
    }

    #[test]
    fn what_people_type_is_accepted() {
        let (_, dev) =
            dev("mainstay --log-level DEBUG server start-dev -f d -n a -n b -p 1 --http-port 2 --metrics-port 3 \
            --headless --ui-ip h --ui-public-path p --ui-asset-path p --ui-codec-endpoint e --ui-disable-news-fetch \
            --sqlite-pragma a=b --log-config --color never");
        assert_eq!((dev.namespace.len(), dev.headless, dev.log_config), (2, true, true));
        assert_eq!(dev.http.http_port, Some(2));
        assert_eq!(dev.ignored.given(), ["--sqlite-pragma"]);
    }
}
