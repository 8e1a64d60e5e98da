//! Measures what consensus itself costs: logs in memory, a machine that does nothing; one node, and three on loopback.
//!
//! `cargo run --release -p mainstay-consensus --example figures`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::{Config, Entry, Error, Group, Log, Machine, Peers, StateRange};
use mainstay_runtime::Runtime;
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_storage::{MemoryLog, MemoryState, StorageError};

struct Nothing;

impl Machine for Nothing {
    type Reply = ();

    fn applied(&self) -> Result<Option<Bytes>, StorageError> {
        Ok(None)
    }

    fn durable(&self) -> Result<Option<Bytes>, StorageError> {
        Ok(None)
    }

    fn apply(&self, entries: Vec<Entry>, _: Bytes) -> Result<Vec<()>, StorageError> {
        Ok(entries.iter().filter(|entry| entry.data.is_some()).map(|_| ()).collect())
    }

    fn flush(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn digest(&self, taken: &mut dyn FnMut()) -> Result<u64, StorageError> {
        taken();
        Ok(0)
    }

    fn range(&self) -> StateRange {
        StateRange { store: Arc::new(MemoryState::default()), from: vec![0], to: vec![1], mark: vec![0] }
    }

    fn replaced(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

type Groups = Vec<Group<TokioRuntime, Nothing>>;

async fn start(count: u32) -> Result<(Log<TokioRuntime>, Groups), Error> {
    start_node(1, count, None, &BTreeMap::new()).await
}

async fn start_node(
    id: u64,
    count: u32,
    peers: Option<Peers<TokioRuntime>>,
    founders: &BTreeMap<u64, String>,
) -> Result<(Log<TokioRuntime>, Groups), Error> {
    let log = Log::start(Arc::new(MemoryLog::default()));
    let mut starting = Vec::new();
    for group in 0..count {
        let (log, peers) = (log.clone(), peers.clone());
        let config = Config { founders: founders.clone(), ..Config::default() };
        starting.push(tokio::spawn(Group::start(group, id, log, Arc::new(Nothing), config, peers)));
    }
    let mut groups = Vec::new();
    for group in starting {
        match group.await {
            Ok(group) => groups.push(group?),
            Err(_) => return Err(Error::Stopped),
        }
    }
    Ok((log, groups))
}

/// Three nodes, of which each leads about a third of the groups.
async fn start_three(count: u32) -> Result<Vec<(Log<TokioRuntime>, Groups)>, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    let mut addresses = BTreeMap::new();
    for id in 1..=3 {
        let peers = Peers::<TokioRuntime>::new(id, "figures".into());
        let listener = TokioRuntime::bind("127.0.0.1:0".parse()?).await?;
        addresses.insert(id, TokioRuntime::local_address(&listener)?.to_string());
        peers.serve(listener);
        all.push(peers);
    }
    let mut nodes = Vec::new();
    for (id, peers) in (1..).zip(&all) {
        addresses.iter().for_each(|(other, address)| peers.set_address(*other, address.clone()));
        nodes.push(start_node(id, count, Some(peers.clone()), &addresses).await?);
    }
    for group in 0..count as usize {
        nodes[group % 3].1[group].stand_first().await?;
    }
    for group in 0..count as usize {
        while !nodes[group % 3].1[group].leadership().leading {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(nodes)
}

async fn stop(nodes: Vec<(Log<TokioRuntime>, Groups)>) {
    for group in nodes.iter().flat_map(|(_, groups)| groups) {
        group.stop().await;
    }
}

async fn three(groups: u32) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let nodes = start_three(groups).await?;
    println!("three nodes with {groups} groups have leaders after {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, span) = (cpu(), Duration::from_secs(5));
    tokio::time::sleep(span).await;
    println!(
        "idle: {:.2} % of a core, all three together",
        (cpu() - before).as_secs_f64() / span.as_secs_f64() * 100.0
    );
    let leaders: Groups = (0..groups as usize).map(|group| nodes[group % 3].1[group].clone()).collect();
    for proposers in [1, 64, 256] {
        measure(proposers, &leaders, &nodes[0].0).await;
    }
    let begun = Instant::now();
    let reads = 2000;
    for _ in 0..reads {
        leaders[0].read_index().await?;
    }
    println!("a read alone takes {:?}", begun.elapsed() / reads);
    stop(nodes).await;
    Ok(())
}

async fn propose(proposers: usize, groups: u32) -> Result<(), Error> {
    let (log, groups) = start(groups).await?;
    measure(proposers, &groups, &log).await;
    Ok(())
}

async fn measure(proposers: usize, groups: &Groups, log: &Log<TokioRuntime>) {
    let (stop, done, refused) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let before = log.figures();
    let (begun, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..proposers)
        .map(|number| {
            let (group, stop) = (groups[number % groups.len()].clone(), stop.clone());
            let (done, refused) = (done.clone(), refused.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    match group.propose(Bytes::from_static(&[7; 200])).await {
                        Ok(()) => done.fetch_add(1, Ordering::Relaxed),
                        // A node that gets too little processor may lose its leadership for a while.
                        Err(_) => {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let _ = task.await;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let cpu_spent = (cpu() - cpu_before).as_micros();
    let (entries, syncs) = (done.load(Ordering::Relaxed), log.figures().syncs - before.syncs);
    println!(
        "{} groups, {proposers} proposers: {:.0} entries/s, {:.0} syncs/s, {:.1} entries a sync, {:.1} µs of processor an entry, {} refusals",
        groups.len(),
        entries as f64 / seconds,
        syncs as f64 / seconds,
        entries as f64 / syncs as f64,
        cpu_spent as f64 / entries as f64,
        refused.load(Ordering::Relaxed)
    );
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let idle = start(5).await?;
    println!("5 groups start in {:?} with {} syncs, {:?} of processor", begun.elapsed(), idle.0.figures().syncs, cpu());
    let (before, span) = (cpu(), Duration::from_secs(10));
    tokio::time::sleep(span).await;
    println!("idle: {:.2} % of a core", (cpu() - before).as_secs_f64() / span.as_secs_f64() * 100.0);
    for (proposers, groups) in [(1, 1), (64, 1), (64, 4)] {
        propose(proposers, groups).await?;
    }
    for groups in [1, 16, 64] {
        three(groups).await?;
    }
    Ok(())
}
