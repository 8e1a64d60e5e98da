//! The property that everything else rests on: a seed decides every byte and every nanosecond of a run.
//!
//! No production code runs here: an HTTP/2 echo service, clients, a crash, a partition, disks and clocks. It also touches what
//! libraries touch behind one's back: the order of a standard hash map, the system's clock, channels and timers that race.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_runtime::{
    Crash, Disk, Handle, HyperExecutor, HyperTimer, NetSim, Outcome, Settings, SimRuntime, draw, run, set_clock, trace,
};
use mainstay_storage::LogOp;
use openraft_rt::Watch;
use openraft_rt::watch::{WatchReceiver, WatchSender};

type WatchOf<T> = <<SimRuntime as AsyncRuntime>::Watch as Watch>::Sender<T>;

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 7000))
}

/// Writes the request to the log, syncs, answers how many entries the log holds.
async fn echo(request: Request<Incoming>, disk: Arc<Disk>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (log, _) = disk.open();
    let first = log.bounds(1).expect("reads").last.map_or(0, |last| last + 1);
    let size = body.len();
    log.write(&[LogOp::Append { group: 1, first, entries: vec![body] }]).expect("writes");
    let _ = SimRuntime::disk(move || log.sync()).await;
    Ok(Response::new(Full::from(format!("{first} {size}"))))
}

async fn serve(disk: Arc<Disk>) {
    let mut listener = SimRuntime::bind(address()).await.expect("binds");
    trace::event(format!("up at {:?}", SimRuntime::wall_clock()));
    while let Ok((stream, _)) = SimRuntime::accept(&mut listener).await {
        let disk = disk.clone();
        let service = service_fn(move |request| echo(request, disk.clone()));
        SimRuntime::spawn(async move {
            let mut http = hyper::server::conn::http2::Builder::new(HyperExecutor);
            http.timer(HyperTimer).keep_alive_interval(Some(Duration::from_secs(1)));
            let ended = http.serve_connection(TokioIo::new(stream), service).await;
            trace::event(format!("connection ended {}", ended.is_ok()));
        });
    }
}

/// Asks `count` times on one connection, reconnecting as needed.
async fn ask(client: u64, count: u64, progress: Arc<WatchOf<u64>>) {
    let mut sender = None;
    let mut done = 0;
    while done < count {
        let Some(open) = &mut sender else {
            SimRuntime::sleep(Duration::from_millis(50)).await;
            let Ok(stream) = SimRuntime::connect(address()).await else { continue };
            let mut http = hyper::client::conn::http2::Builder::new(HyperExecutor);
            http.timer(HyperTimer).keep_alive_interval(Some(Duration::from_millis(700)));
            http.keep_alive_timeout(Duration::from_millis(900));
            let Ok((opened, connection)) = http.handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await else {
                continue;
            };
            SimRuntime::spawn(async move { drop(connection.await) });
            sender = Some(opened);
            continue;
        };
        let body = Full::from(Bytes::from(vec![7; draw(0..3000) as usize]));
        let request = Request::post("http://echo/").body(body).expect("a request");
        match SimRuntime::timeout(Duration::from_secs(2), open.send_request(request)).await {
            Ok(Ok(response)) => {
                let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                trace::event(format!("client {client}: {}", String::from_utf8_lossy(&body)));
                done += 1;
                progress.send_if_modified(|total| {
                    *total += 1;
                    true
                });
            }
            other => {
                trace::event(format!("client {client}: no answer, {}", other.is_err()));
                sender = None;
            }
        }
    }
}

async fn scenario() -> u64 {
    let disk = Disk::new();
    let own = disk.clone();
    let handle = Handle::current();
    let server = handle.create_node().name("server").ip(address().ip()).init(move || serve(own.clone())).build();
    let clients = handle.create_node().name("clients").ip([10, 0, 0, 2].into()).build();
    set_clock(server.id(), 300_000_000, 50);
    let (progress, mut seen) = <SimRuntime as AsyncRuntime>::Watch::channel(0_u64);
    let progress = Arc::new(progress);
    let asking: Vec<_> = (0..5).map(|client| clients.spawn(ask(client, 20, progress.clone()))).collect();
    while *seen.borrow_watched() < 30 {
        seen.changed().await.expect("the sender lives");
    }
    trace::event("crash");
    handle.kill(server.id());
    disk.crash(Crash::Power);
    SimRuntime::sleep(Duration::from_millis(draw(1..2000))).await;
    handle.restart(server.id());
    SimRuntime::sleep(Duration::from_millis(500)).await;
    trace::event("partition");
    NetSim::current().clog_link(server.id(), clients.id());
    SimRuntime::sleep(Duration::from_secs(3)).await;
    NetSim::current().unclog_link(server.id(), clients.id());
    for client in asking {
        client.await.expect("the client ends");
    }
    let map: HashMap<u64, u64> = (0..64).map(|n| (n, n)).collect();
    trace::event(format!("{:?} {:?}", map.keys().collect::<Vec<_>>(), std::time::SystemTime::now()));
    *seen.borrow_watched()
}

fn once(seed: u64) -> Outcome<u64> {
    let outcome = run(&Settings::new(seed), scenario);
    assert_eq!(outcome.result, Ok(100), "seed {seed}");
    outcome
}

#[test]
fn the_same_seed_gives_the_same_trace_in_one_process() {
    for seed in 1..=5 {
        let (first, second) = (once(seed), once(seed));
        assert_eq!(first.trace.events, second.trace.events, "seed {seed}");
        assert_eq!(first.trace.hash, second.trace.hash, "seed {seed}");
    }
}

#[test]
fn other_seeds_give_other_traces() {
    let hashes: std::collections::BTreeSet<u128> = (1..=5).map(|seed| once(seed).trace.hash).collect();
    assert_eq!(hashes.len(), 5);
}

/// Run again in a child process, this test prints the hash; the parent compares.
#[test]
fn the_same_seed_gives_the_same_trace_in_two_processes() {
    const CHILD: &str = "MAINSTAY_SIM_CHILD";
    let hash = once(11).trace.hash;
    if std::env::var_os(CHILD).is_some() {
        println!("hash={hash:032x}");
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().expect("this test's file"))
        .args(["--exact", "the_same_seed_gives_the_same_trace_in_two_processes", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("the child runs");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains(&format!("hash={hash:032x}")), "{said}");
}

#[test]
fn a_panic_is_the_outcome_and_names_its_place() {
    let outcome = run(&Settings::new(1), || async {
        SimRuntime::sleep(Duration::from_secs(1)).await;
        assert_eq!(1, 2, "arithmetic");
    });
    let reason = outcome.result.expect_err("it panicked");
    assert!(reason.contains("arithmetic") && reason.contains("same_seed_same_trace.rs"), "{reason}");
}

#[test]
fn a_node_that_stops_itself_dies_alone_and_comes_back() {
    let outcome = run(&Settings::new(1), || async {
        let handle = Handle::current();
        let node = handle.create_node().name("n").restart_on_panic_matching(mainstay_sim_runtime::FATAL);
        let starts = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let own = starts.clone();
        let _node = node
            .init(move || {
                let start = own.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                async move {
                    if start == 0 {
                        SimRuntime::fatal("the disk is gone");
                    }
                    SimRuntime::sleep(Duration::from_secs(100)).await;
                }
            })
            .build();
        SimRuntime::sleep(Duration::from_secs(20)).await;
        starts.load(std::sync::atomic::Ordering::Relaxed)
    });
    assert_eq!(outcome.result, Ok(2));
    assert_eq!(outcome.fatals.len(), 1);
    assert_eq!(outcome.fatals[0].reason, "the disk is gone");
}
