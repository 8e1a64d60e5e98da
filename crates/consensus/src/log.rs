//! A node's one log writer: takes what is queued, writes it as one batch, syncs once, and tells everyone who waited, in order.
//!
//! While a batch is on its way to the disk the next one gathers. Operations are written in the order in which they were queued, so
//! that none is ever durable before an earlier one; what a group knows to be committed is only a hint, so a later one of the same
//! batch replaces it and alone it causes no sync.

use std::collections::BTreeSet;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::{LogOp, LogStore, StorageError};
use tokio::sync::mpsc;

use crate::group_log::GroupLog;
use crate::health::Health;
use crate::measure::LogMeter;
use crate::queue::{Item, Queue, Queued};

/// Operations, and bytes of them, in one batch.
const BATCH_OPERATIONS: usize = 1024;
const BATCH_BYTES: u64 = 16 << 20;

/// The log of a node. Clones are handles of the same one; its writer ends with the last of them.
pub struct Log<R: Runtime> {
    store: Arc<dyn LogStore>,
    queue: Queue,
    counters: Arc<Counters>,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Clone for Log<R> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            queue: self.queue.clone(),
            counters: self.counters.clone(),
            runtime: PhantomData,
        }
    }
}

#[derive(Default)]
struct Counters {
    syncs: AtomicU64,
    operations: AtomicU64,
    bytes: AtomicU64,
}

/// What the writer did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFigures {
    /// Batches written, each with one sync.
    pub syncs: u64,
    /// Operations in them.
    pub operations: u64,
    /// Bytes of entries and values in them.
    pub bytes: u64,
}

impl<R: Runtime> Log<R> {
    /// Starts the writer. Nothing else may write to this store.
    pub fn start(store: Arc<dyn LogStore>) -> Self {
        let (queue, receiver) = Queue::new();
        let counters = Arc::<Counters>::default();
        drop(R::spawn(Writer::<R>::new(store.clone(), receiver, counters.clone()).run()));
        Self { store, queue, counters, runtime: PhantomData }
    }

    /// Returns when everything queued before is durable.
    ///
    /// # Errors
    /// If the writer has ended.
    // Not an `async fn`: with the log borrowed in it, the compiler does not find the future of a caller to be `Send`.
    pub fn barrier(&self) -> impl Future<Output = Result<(), StorageError>> + Send + use<R> {
        let queue = self.queue.clone();
        async move { queue.barrier().await }
    }

    /// What the writer did so far.
    #[must_use]
    pub fn figures(&self) -> LogFigures {
        LogFigures {
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            operations: self.counters.operations.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
        }
    }

    /// Opens a group's log.
    pub(crate) async fn open(&self, group: u32, health: Arc<Health>) -> Result<Arc<GroupLog>, StorageError> {
        // After a kill the store may hold what was never synced. It is synced before anything is applied from it; and what an
        // earlier run of the group in this process queued is written.
        self.barrier().await?;
        let (store, queue) = (self.store.clone(), self.queue.clone());
        R::disk(move || GroupLog::open(group, store, queue, health)).await
    }
}

struct Writer<R> {
    store: Arc<dyn LogStore>,
    receiver: mpsc::Receiver<Queued>,
    counters: Arc<Counters>,
    meter: LogMeter,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime> Writer<R> {
    fn new(store: Arc<dyn LogStore>, receiver: mpsc::Receiver<Queued>, counters: Arc<Counters>) -> Self {
        Self { store, receiver, counters, meter: LogMeter::new(), runtime: PhantomData }
    }

    async fn run(mut self) {
        let mut batch = Vec::new();
        while let Some(first) = self.receiver.recv().await {
            batch.push(first);
            self.gather(&mut batch);
            keep_last_commits(&mut batch);
            if batch.iter().any(|queued| !queued.item.is_lazy()) {
                self.write(std::mem::take(&mut batch)).await;
            }
        }
    }

    /// Adds what is queued already, up to a bound.
    fn gather(&mut self, batch: &mut Vec<Queued>) {
        let bytes = |queued: &Queued| queued.item.op.as_ref().map_or(0, LogOp::size);
        let mut size: u64 = batch.iter().map(bytes).sum();
        while batch.len() < BATCH_OPERATIONS && size < BATCH_BYTES {
            let Ok(queued) = self.receiver.try_recv() else {
                return;
            };
            size += bytes(&queued);
            batch.push(queued);
        }
    }

    async fn write(&self, mut batch: Vec<Queued>) {
        let ops: Vec<LogOp> = batch.iter_mut().filter_map(|queued| queued.item.op.take()).collect();
        let (count, bytes) = (ops.len() as u64, ops.iter().map(LogOp::size).sum());
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.operations.fetch_add(count, Ordering::Relaxed);
        self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        let begun = R::Instant::now();
        let store = self.store.clone();
        let written = R::disk(move || {
            if !ops.is_empty() {
                store.write(&ops)?;
            }
            store.sync()
        });
        if let Err(error) = written.await {
            R::fatal(&format!("the log cannot be written: {error}"));
        }
        self.meter.synced(count, bytes, R::Instant::now() - begun);
        for Queued { item: Item { group, done, .. }, room } in batch {
            if let Some((group, number)) = group {
                group.done(number);
            }
            done.tell();
            drop(room);
        }
    }
}

/// Of each group's commit marks only the last is of use.
fn keep_last_commits(batch: &mut Vec<Queued>) {
    let mut seen = BTreeSet::new();
    let mut keep: Vec<bool> = Vec::with_capacity(batch.len());
    for queued in batch.iter().rev() {
        keep.push(!matches!(&queued.item.op, Some(LogOp::Committed { group, .. }) if !seen.insert(*group)));
    }
    let mut keep = keep.into_iter().rev();
    batch.retain(|_| keep.next().unwrap_or(true));
}
