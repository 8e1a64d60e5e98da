//! What a server needs to know, made from the flags of either start command. Everything that can be wrong with a flag is found
//! here, before anything is touched.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use bytesize::ByteSize;
use mainstay_api::temporal::enums::v1::IndexedValueType;
use mainstay_node::REPLICAS;
use mainstay_storage::Budget;

use crate::Failure;
use crate::cli::{Disk, Global, LogLevel, Start, StartDev};
use crate::dynamic_config::DynamicConfig;
use crate::http::HttpSettings;
use crate::telemetry::LogSettings;
use crate::ui::UiSettings;

const DEV_SHARDS: u32 = 4;
/// Bytes of the disk that commands never fill: what was admitted must still fit, and compaction needs room.
const RESERVE_BYTES: u64 = 256 << 20;
/// Less than this is taken by write buffers alone.
const BUDGET_LEAST_BYTES: u64 = 48 << 20;

/// Everything that a start command says.
#[derive(Debug)]
pub struct Settings {
    pub listen: SocketAddr,
    /// None for a temporary directory.
    pub data: Option<PathBuf>,
    /// Of a new data directory; an existing one keeps its own.
    pub shards: u32,
    /// Of each shard of a new cluster.
    pub replicas: u32,
    pub budget: Budget,
    pub namespaces: Vec<String>,
    /// Of the namespaces above.
    pub search_attributes: BTreeMap<String, IndexedValueType>,
    pub dynamic: DynamicConfig,
    /// None for no HTTP API.
    pub http: Option<HttpSettings>,
    pub log: LogSettings,
    /// Where metrics and probes are served; none for nowhere.
    pub ops: Option<SocketAddr>,
    /// None for a node that is alone.
    pub cluster: Option<ClusterSettings>,
    pub stop_with_stdin: bool,
    /// None for a server without a web interface.
    pub ui: Option<UiSettings>,
    /// Lines to log once logging works.
    pub remarks: Vec<String>,
}

/// What a node of a cluster needs to know besides.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    pub name: String,
    pub peer_listen: SocketAddr,
    /// Where others reach the node, if not where it listens: a host, and perhaps the peer port.
    pub advertise: Option<(String, Option<u16>)>,
    pub join: Vec<String>,
    pub expect: u32,
}

impl Settings {
    /// From the flags of `server start-dev`.
    pub fn dev(global: &Global, flags: StartDev) -> Result<Self, Failure> {
        let dynamic = DynamicConfig::parse(&flags.dynamic_config_value)?;
        let ignored = dynamic.ignored.iter();
        let mut remarks: Vec<String> =
            ignored.map(|key| format!("dynamic config value {key} is not known here and ignored")).collect();
        remarks.extend(flags.ignored.given().iter().map(|flag| format!("{flag} has no effect so far")));
        if flags.log_config {
            remarks.push(format!("{flags:?}"));
        }
        let listen = resolve(&flags.ip, flags.port)?;
        let ui = if flags.headless { None } else { Some(UiSettings::dev(&flags.ui, listen)?) };
        Ok(Self {
            listen,
            ui,
            http: Some(HttpSettings::dev(flags.http, listen.ip(), &flags.ui, &flags.ignored)),
            ops: flags.ops.dev(listen.ip()),
            data: flags.db_filename,
            shards: DEV_SHARDS,
            replicas: REPLICAS,
            budget: budget(&flags.disk)?,
            namespaces: namespaces(flags.namespace),
            search_attributes: search_attributes(&flags.search_attribute)?,
            cluster: None,
            stop_with_stdin: false,
            dynamic,
            log: global.log.settings(LogLevel::Warn)?,
            remarks,
        })
    }

    /// From the flags of `server start`.
    pub fn start(global: &Global, flags: Start) -> Result<Self, Failure> {
        let listen = address("--listen", &flags.listen)?;
        trusted("--listen", listen, flags.insecure)?;
        let cluster = cluster(&flags)?;
        let ui = UiSettings::start(&flags.ui, listen)?;
        if let Some(ui) = &ui {
            trusted("--ui-ip", ui.listen, flags.insecure)?;
        }
        let advertised = cluster.as_ref().and_then(|cluster| Some(cluster.advertise.as_ref()?.0.clone()));
        Ok(Self {
            listen,
            ui,
            http: HttpSettings::start(flags.http, listen.ip(), advertised),
            ops: flags.ops.start(listen.ip()),
            data: Some(flags.data_dir),
            shards: flags.new.shards,
            replicas: replicas(flags.new.replicas)?,
            budget: budget(&flags.disk)?,
            namespaces: namespaces(Vec::new()),
            search_attributes: BTreeMap::new(),
            cluster,
            stop_with_stdin: flags.stop_with_stdin,
            dynamic: DynamicConfig::default(),
            log: global.log.settings(LogLevel::Info)?,
            remarks: Vec::new(),
        })
    }
}

fn replicas(count: u32) -> Result<u32, Failure> {
    match count {
        3 | 5 => Ok(count),
        _ => Err(format!("--replicas {count} is not 3 or 5: three survive the loss of one node, five of two")),
    }
}

fn budget(disk: &Disk) -> Result<Budget, Failure> {
    let max_bytes = disk.disk_budget.map(|size| size.as_u64());
    match disk.disk_budget {
        Some(size) if size.as_u64() < BUDGET_LEAST_BYTES => {
            Err(format!("--disk-budget {size} is too small; give at least {}", ByteSize(BUDGET_LEAST_BYTES)))
        }
        _ => Ok(Budget { max_bytes, reserve_bytes: RESERVE_BYTES }),
    }
}

fn cluster(flags: &Start) -> Result<Option<ClusterSettings>, Failure> {
    let (Some(name), Some(peer_listen)) = (&flags.node_name, &flags.peer_listen) else { return Ok(None) };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("--node-name {name:?} may have letters, digits, '-', '_' and '.' only"));
    }
    let peer_listen = address("--peer-listen", peer_listen)?;
    trusted("--peer-listen", peer_listen, flags.insecure)?;
    let advertise = flags.advertise.as_ref().map(|text| match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => {
            let wrong = || format!("--advertise {text} is not HOST or HOST:PORT");
            port.parse().map(|port| (host.to_owned(), Some(port))).map_err(|_| wrong())
        }
        _ => Ok((text.clone(), None)),
    });
    if advertise.is_none() && peer_listen.ip().is_unspecified() {
        return Err("--peer-listen on all addresses needs --advertise: where do the other nodes reach this one?".into());
    }
    Ok(Some(ClusterSettings {
        name: name.clone(),
        peer_listen,
        advertise: advertise.transpose()?,
        join: flags.join.iter().map(|address| address.trim().to_owned()).filter(|a| !a.is_empty()).collect(),
        expect: flags.bootstrap_expect,
    }))
}

fn address(flag: &str, text: &str) -> Result<SocketAddr, Failure> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = port.parse().map_err(|_| format!("{flag} {text} is not ADDRESS:PORT"))?;
    resolve(host.trim_matches(['[', ']']), port)
}

fn trusted(flag: &str, listen: SocketAddr, insecure: bool) -> Result<(), Failure> {
    if listen.ip().is_loopback() || insecure {
        return Ok(());
    }
    Err(format!(
        "{flag} {listen} can be reached by other machines, and there is no TLS or authentication yet; \
         listen on 127.0.0.1, or add --insecure if the network is trusted"
    ))
}

fn namespaces(more: Vec<String>) -> Vec<String> {
    let mut all = vec!["default".to_owned()];
    for name in more {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// An address by name; IPv4 wins, as clients that are told `localhost` try it first.
pub fn resolve(host: &str, port: u16) -> Result<SocketAddr, Failure> {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    let best = found.iter().find(|address| address.is_ipv4()).or(found.first());
    best.copied()
        .ok_or_else(|| format!("the address {host} is not known; use an IP address of this machine, as 127.0.0.1"))
}

const TYPES: [(&str, IndexedValueType); 7] = [
    ("text", IndexedValueType::Text),
    ("keyword", IndexedValueType::Keyword),
    ("int", IndexedValueType::Int),
    ("double", IndexedValueType::Double),
    ("bool", IndexedValueType::Bool),
    ("datetime", IndexedValueType::Datetime),
    ("keywordlist", IndexedValueType::KeywordList),
];

fn search_attributes(pairs: &[String]) -> Result<BTreeMap<String, IndexedValueType>, Failure> {
    let parse = |pair: &String| {
        let (name, kind) = pair.split_once('=').filter(|(name, _)| !name.is_empty())?;
        let kind = kind.to_ascii_lowercase();
        TYPES.iter().find(|(known, _)| *known == kind).map(|(_, kind)| (name.to_owned(), *kind))
    };
    let wrong = |pair| {
        format!(
            "--search-attribute {pair} is not Name=Type with one of Text, Keyword, Int, Double, Bool, Datetime, KeywordList"
        )
    };
    pairs.iter().map(|pair| parse(pair).ok_or_else(|| wrong(pair))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_search_attributes_are_case_insensitive() {
        let given = ["A=Keyword", "B=DATETIME", "C=keywordList"].map(str::to_owned);
        let parsed = search_attributes(&given).expect("parses");
        assert_eq!(parsed["B"], IndexedValueType::Datetime);
        assert_eq!(parsed["C"], IndexedValueType::KeywordList);
        for wrong in ["A", "A=Word", "=Int"] {
            assert!(search_attributes(&[wrong.to_owned()]).is_err());
        }
    }

    #[test]
    fn default_comes_first_and_once() {
        assert_eq!(namespaces(vec!["a".into(), "default".into(), "a".into()]), ["default", "a"]);
    }

    #[test]
    fn localhost_is_ipv4() {
        assert_eq!(resolve("localhost", 1).expect("resolves").to_string(), "127.0.0.1:1");
        assert!(resolve("no such host", 1).is_err());
    }
}
