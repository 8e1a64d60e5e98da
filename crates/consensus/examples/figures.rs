//! Measures what consensus itself costs: a log in memory, a machine that does nothing.
//!
//! `cargo run --release -p mainstay-consensus --example figures`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::{Config, Entry, Group, Log, Machine, StateRange};
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

    fn range(&self) -> StateRange {
        StateRange { store: Arc::new(MemoryState::default()), from: vec![0], to: vec![1], mark: vec![0] }
    }

    fn replaced(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

type Groups = Vec<Group<TokioRuntime, Nothing>>;

async fn start(count: u32) -> Result<(Log<TokioRuntime>, Groups), mainstay_consensus::Error> {
    let log = Log::start(Arc::new(MemoryLog::default()));
    let mut starting = Vec::new();
    for id in 0..count {
        let log = log.clone();
        starting.push(tokio::spawn(Group::start(id, 1, log, Arc::new(Nothing), Config::default(), None)));
    }
    let mut groups = Vec::new();
    for group in starting {
        match group.await {
            Ok(group) => groups.push(group?),
            Err(_) => return Err(mainstay_consensus::Error::Stopped),
        }
    }
    Ok((log, groups))
}

async fn propose(proposers: usize, groups: u32) -> Result<(), mainstay_consensus::Error> {
    let (log, groups) = start(groups).await?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let before = log.figures();
    let (begun, cpu_before) = (Instant::now(), cpu());
    let tasks: Vec<_> = (0..proposers)
        .map(|number| {
            let (group, stop, done) = (groups[number % groups.len()].clone(), stop.clone(), done.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) && group.propose(Bytes::from_static(&[7; 200])).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
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
        "{} groups, {proposers} proposers: {:.0} entries/s, {:.0} syncs/s, {:.1} entries a sync, {:.1} µs of processor an entry",
        groups.len(),
        entries as f64 / seconds,
        syncs as f64 / seconds,
        entries as f64 / syncs as f64,
        cpu_spent as f64 / entries as f64
    );
    Ok(())
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), mainstay_consensus::Error> {
    let begun = Instant::now();
    let idle = start(5).await?;
    println!("5 groups start in {:?} with {} syncs, {:?} of processor", begun.elapsed(), idle.0.figures().syncs, cpu());
    let (before, span) = (cpu(), Duration::from_secs(10));
    tokio::time::sleep(span).await;
    println!("idle: {:.2} % of a core", (cpu() - before).as_secs_f64() / span.as_secs_f64() * 100.0);
    for (proposers, groups) in [(1, 1), (64, 1), (64, 4)] {
        propose(proposers, groups).await?;
    }
    Ok(())
}
