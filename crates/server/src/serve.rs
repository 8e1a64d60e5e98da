//! One server from start to stop: socket, data directory, stores, node, frontend; and back in the opposite order.
//!
//! The socket comes first, so that a port in use leaves the data untouched, and clients that connect while the node starts wait
//! in its queue. A stop is bounded: what does not end in time is left to the next start, which recovers from a crash anyway.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mainstay_base::RunId;
use mainstay_base::limits::BLOB_SIZE_MAX;
use mainstay_frontend as frontend;
use mainstay_node::{Config, Node};
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_runtime_tokio::TokioRuntime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::Failure;
use crate::data_directory::{DataDirectory, Identity};
use crate::http::Http;
use crate::ops::Ops;
use crate::settings::{ClusterSettings, Settings};
use crate::{cluster, stores, telemetry};

/// How long calls in progress may go on after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(2);
/// How long the node may take to stop after them.
const NODE_STOP: Duration = Duration::from_secs(2);
/// How long tasks and threads may take to end after that.
const REST: Duration = Duration::from_millis(500);

/// Runs a server until SIGINT or SIGTERM.
pub fn run(settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings.log, settings.cluster.as_ref().map(|cluster| cluster.name.as_str()));
    settings.remarks.iter().for_each(|remark| tracing::info!("{remark}"));
    let mut runtime = TokioRuntime::new(workers());
    let outcome = runtime.block_on(serve(settings));
    let (done, wait) = mpsc::channel();
    thread::spawn(move || {
        drop(runtime);
        let _ = done.send(());
    });
    let _ = wait.recv_timeout(REST);
    // Only now are the stores closed, and write no more into a directory that is to go.
    outcome.map(DataDirectory::close)
}

fn workers() -> usize {
    thread::available_parallelism().map_or(2, usize::from).clamp(2, 8)
}

/// Answers the data directory once nothing is served from it any more.
async fn serve(settings: Settings) -> Result<DataDirectory, Failure> {
    let stop = stop_signal(settings.stop_with_stdin).map_err(|error| format!("signals cannot be handled: {error}"))?;
    let listener = TokioRuntime::bind(settings.listen).await.map_err(|error| not_bound(settings.listen, &error))?;
    let address = TokioRuntime::local_address(&listener).map_err(|error| error.to_string())?;
    let http = match &settings.http {
        Some(http) => Some(Http::bind(http).await?),
        None => None,
    };
    let ui_socket = match &settings.ui {
        Some(ui) => Some(ui.bind().await?),
        None => None,
    };
    let ops = match settings.ops {
        Some(listen) => Some(Ops::open(listen, stop.clone()).await?),
        None => None,
    };
    let data = open_data(&settings)?;
    let stores = stores::open(&data)?;
    let config = config(&settings, &data);
    // In a cluster, who greets for the node stays for as long as it runs.
    let (listener, node, _forming) = match &settings.cluster {
        None => {
            let node = Node::<TokioRuntime>::start(config, stores).await;
            (listener, node.map_err(|error| format!("the node does not start: {error}"))?, None)
        }
        Some(cluster) => {
            // There are other nodes: clients had better go there than wait here.
            drop(listener);
            let told = advertised(cluster, address);
            tokio::select! {
                biased;
                () = asked(stop.clone()) => return Err("stopped before the node was part of its cluster".into()),
                started = cluster::start(cluster, told, &data, stores, config) => {
                    let (node, forming) = started?;
                    let listener = TokioRuntime::bind(address).await.map_err(|error| not_bound(address, &error))?;
                    (listener, node, Some(forming))
                }
            }
        }
    };

    println!("Temporal Server:  {address}");
    ui_socket.iter().for_each(|socket| println!("Temporal UI:      {}", socket.address()));
    if let Some(ops) = &ops {
        ops.watch(node.clone());
        println!("Temporal Metrics: http://{}/metrics", ops.address());
    }
    tracing::info!(%address, cluster = mainstay_node::Service::cluster_id(&node), "ready");

    let limits = frontend::Config {
        shutdown_timeout: DRAIN,
        address: address.to_string(),
        blob_size_max: settings.dynamic.blob_size_max.unwrap_or(BLOB_SIZE_MAX),
        workflow_pause: settings.dynamic.workflow_pause,
        slow_call: settings.log.slow,
        traced_per_second: settings.log.traced_per_second,
        ..frontend::Config::default()
    };
    let router = frontend::Router::<TokioRuntime, _>::new(node.clone(), limits);
    let http = http.map(|http| http.spawn(router.clone(), asked(stop.clone())));
    let ui = ui_socket.map(|socket| socket.serve(router.clone(), asked(stop.clone())));
    frontend::serve_router(listener, router, asked(stop)).await;
    if let Some(http) = http {
        // It ends by itself, as long after the stop signal as the calls above.
        let _ = http.await;
    }
    ui.into_iter().for_each(|pages| pages.abort());
    tokio::select! {
        biased;
        () = node.stop() => {}
        () = TokioRuntime::sleep(NODE_STOP) => tracing::warn!("the node did not stop in time; the next start recovers"),
    }
    if let Some(ops) = ops {
        ops.close().await;
    }
    drop(node);
    Ok(data)
}

/// Where clients reach the node, as other nodes and people are told.
fn advertised(cluster: &ClusterSettings, listen: SocketAddr) -> String {
    match &cluster.advertise {
        Some((host, _)) => format!("{host}:{}", listen.port()),
        None => listen.to_string(),
    }
}

/// Why nothing can listen there, and what to do.
pub fn not_bound(address: SocketAddr, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program; stop it, or choose another port")
        }
        io::ErrorKind::AddrNotAvailable => format!("{address} is not an address of this machine; choose one that is"),
        io::ErrorKind::PermissionDenied => format!("this user may not listen on {address}; choose a port above 1023"),
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// A v4 UUID.
fn new_cluster_id() -> String {
    RunId::from_random(TokioRuntime::random()).to_string()
}

fn open_data(settings: &Settings) -> Result<DataDirectory, Failure> {
    let Settings { shards, replicas, .. } = *settings;
    let alone = Identity { cluster_id: new_cluster_id(), node_id: 1, shards, replicas, ..Identity::default() };
    let new = match &settings.cluster {
        None => alone,
        Some(cluster) => {
            Identity { cluster_id: String::new(), node_id: cluster::new_node_id(), name: cluster.name.clone(), ..alone }
        }
    };
    match &settings.data {
        Some(path) => DataDirectory::open(path, &new),
        None => DataDirectory::temporary(&new.cluster_id, &new),
    }
}

fn config(settings: &Settings, data: &DataDirectory) -> Config {
    let identity = data.identity();
    Config {
        cluster_id: identity.cluster_id.clone(),
        shards: identity.shards,
        budget: settings.budget,
        namespaces: settings.namespaces.clone(),
        search_attributes: settings.search_attributes.clone(),
        suggest_from: settings.dynamic.suggest_from,
        blob_size_max: settings.dynamic.blob_size_max.map_or(0, |max| max as u64),
        ..Config::default()
    }
}

/// Turns true at the first SIGINT or SIGTERM. The second ends the process at once.
/// With `stdin` also when that ends.
fn stop_signal(stdin: bool) -> io::Result<watch::Receiver<bool>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (stop, asked) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = either(&mut interrupt, &mut terminate) => {}
            () = stdin_ends(stdin) => {}
        }
        let _ = stop.send(true);
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(1);
    });
    Ok(asked)
}

/// Resolves when whoever started this process is gone; never if that is not wanted.
async fn stdin_ends(wanted: bool) {
    if !wanted {
        std::future::pending::<()>().await;
    }
    let (tell, told) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = tell.send(());
    });
    let _ = told.await;
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        biased;
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}

async fn asked(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the runtime.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_a_uuid() {
        let id = new_cluster_id();
        let parts: Vec<_> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "4");
        assert!(["8", "9", "a", "b"].contains(&&id[19..20]));
        assert_ne!(id, new_cluster_id());
    }
}
