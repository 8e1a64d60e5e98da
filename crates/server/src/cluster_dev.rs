//! `cluster dev`: a cluster on this machine, one process for each node, until Ctrl-C.
//!
//! Each process is this binary with `server start`. It stops when its stdin ends, so no node outlives the command, however that ends.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_base::RunId;
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_runtime_tokio::TokioRuntime;
use tokio::signal::unix::{SignalKind, signal};

use crate::Failure;
use crate::cli::{ClusterDev, Global, LogFormat, LogLevel};
use crate::cluster_status;

/// Other nodes use ports this much above those of clients.
const PEER_PORTS: u16 = 100;
/// And web interfaces ports this much above.
const UI_PORTS: u16 = 1_000;
const METRICS_PORTS: u16 = 300;
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// One node's process.
struct Running {
    name: String,
    process: Child,
}

/// Runs a cluster until SIGINT or SIGTERM, or until one of its nodes ends by itself at the start.
pub fn run(global: &Global, flags: &ClusterDev) -> Result<(), Failure> {
    let mut runtime = TokioRuntime::new(1);
    let (path, temporary) = match &flags.data_dir {
        Some(path) => (path.clone(), false),
        None => (
            std::env::temp_dir().join(format!("mainstay-cluster-{}", RunId::from_random(TokioRuntime::random()))),
            true,
        ),
    };
    let outcome = runtime.block_on(run_in(global, flags, &path));
    if temporary {
        // It was never meant to be kept.
        let _ = std::fs::remove_dir_all(&path);
    }
    outcome
}

async fn run_in(global: &Global, flags: &ClusterDev, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| format!("signals cannot be handled: {error}");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut nodes = Vec::new();
    let started = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(false),
        _ = terminate.recv() => Ok(false),
        started = start_all(global, flags, path, &mut nodes) => started.map(|()| true),
    };
    if let Ok(true) = started {
        let status = cluster_status::ask(&address(flags, 1)).await;
        match status {
            Ok(status) => print!("{}", cluster_status::nodes(&status)),
            Err(reason) => eprintln!("mainstay: {reason}"),
        }
        if !flags.headless {
            println!("web interface of the first node: http://127.0.0.1:{}/cluster", ui_port(flags, 1));
        }
        println!("Ctrl-C stops all nodes.");
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
    stop_all(nodes);
    started.map(|_| ())
}

fn address(flags: &ClusterDev, number: u16) -> String {
    format!("127.0.0.1:{}", flags.port.saturating_add(number - 1))
}

fn peer_address(flags: &ClusterDev, number: u16) -> String {
    format!("127.0.0.1:{}", flags.port.saturating_add(PEER_PORTS).saturating_add(number - 1))
}

fn ui_port(flags: &ClusterDev, number: u16) -> u16 {
    flags.port.saturating_add(UI_PORTS).saturating_add(number - 1)
}

async fn start_all(global: &Global, flags: &ClusterDev, path: &Path, nodes: &mut Vec<Running>) -> Result<(), Failure> {
    let binary = std::env::current_exe().map_err(|error| format!("the binary cannot be found: {error}"))?;
    let join: Vec<String> = (1..=flags.nodes).map(|number| peer_address(flags, number)).collect();
    let (ready, mut waiting) = tokio::sync::mpsc::unbounded_channel();
    for number in 1..=flags.nodes {
        let name = format!("node-{number}");
        let mut command = Command::new(&binary);
        command.args(["server", "start", "--stop-with-stdin", "--node-name", &name]);
        command.arg("--data-dir").arg(node_directory(path, &name));
        command.args(["--listen", &address(flags, number), "--peer-listen", &peer_address(flags, number)]);
        command.args(["--join", &join.join(","), "--bootstrap-expect", &flags.nodes.min(5).to_string()]);
        command.args(["--shards", &flags.new.shards.to_string(), "--replicas", &flags.new.replicas.to_string()]);
        if !flags.headless {
            command.args(["--ui-port", &ui_port(flags, number).to_string()]);
        }
        command.args(["--log-level", level(global.log.log_level.unwrap_or(LogLevel::Warn))]);
        command.args(["--log-format", format(global.log.log_format)]);
        command.args(["--metrics-port", &metrics_port(flags, number).to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let lines = process.stdout.take();
        let ready = ready.clone();
        thread::spawn(move || {
            let mut line = String::new();
            let mut lines = lines.map(BufReader::new);
            let read = lines.as_mut().map(|lines| lines.read_line(&mut line));
            let _ = ready.send(matches!(read, Some(Ok(bytes)) if bytes > 0).then_some(()).ok_or(name));
            // To the end, so that the node can go on printing.
            let _ = lines.map(|mut lines| io::copy(&mut lines, &mut io::sink()));
        });
        nodes.push(Running { name: format!("node-{number}"), process });
    }
    for _ in 0..flags.nodes {
        match TokioRuntime::timeout(READY_WITHIN, waiting.recv()).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(name))) => return Err(format!("{name} ended; what it said is above")),
            Ok(None) | Err(_) => return Err("the nodes did not form a cluster in time".into()),
        }
    }
    Ok(())
}

fn metrics_port(flags: &ClusterDev, number: u16) -> u16 {
    flags.port.saturating_add(METRICS_PORTS).saturating_add(number - 1)
}

fn node_directory(path: &Path, name: &str) -> PathBuf {
    path.join(name)
}

fn format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
        LogFormat::Pretty => "pretty",
    }
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
        LogLevel::Never => "never",
    }
}

/// Ends all nodes: their stdin ends, and after a while they are killed.
fn stop_all(mut nodes: Vec<Running>) {
    for node in &mut nodes {
        drop(node.process.stdin.take());
    }
    let begun = Instant::now();
    for node in &mut nodes {
        while matches!(node.process.try_wait(), Ok(None)) {
            if begun.elapsed() > STOP_WITHIN {
                eprintln!("mainstay: {} does not stop and is killed", node.name);
                let _ = node.process.kill();
                let _ = node.process.wait();
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
