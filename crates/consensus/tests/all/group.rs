//! One node's groups: start, propose, resume, compact, stop, and what is refused.

use crate::common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::Rows;
use mainstay_consensus::{Config, Error, Group, Log, index_of_mark};
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_storage::{LogOp, LogStore, MemoryLog, MemoryState, StateStore, StorageError};

type Rt = TokioRuntime;

#[derive(Default)]
struct Disks {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
}

impl Disks {
    async fn start(&self, config: Config) -> Result<Group<Rt, Rows>, Error> {
        self.start_as(1, config).await
    }

    async fn start_as(&self, node: u64, config: Config) -> Result<Group<Rt, Rows>, Error> {
        let machine = Arc::new(Rows::new(7, self.state.clone()));
        Group::start(7, node, Log::start(self.log.clone()), machine, config, None).await
    }
}

async fn propose(group: &Group<Rt, Rows>, count: u32) {
    for number in 0..count {
        group.propose(Bytes::from(number.to_string())).await.expect("a leader accepts");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_proposed_is_applied_in_order_and_survives_a_stop() {
    let disks = Disks::default();
    let group = disks.start(Config::default()).await.expect("starts");
    propose(&group, 50).await;
    let rows = group.machine().all();
    assert_eq!(rows.len(), 50);
    assert!(rows.iter().zip(0..).all(|((_, data), number)| data[..] == *number.to_string().as_bytes()));
    assert!(group.is_leader());
    let term = group.metrics().term;
    group.stop().await;
    assert_eq!(group.propose(Bytes::new()).await, Err(Error::Stopped));
    assert_eq!(disks.log.unsynced(), 0, "a stop leaves nothing to lose");

    disks.state.crash();
    let group = disks.start(Config::default()).await.expect("starts again");
    assert_eq!(group.machine().all(), rows, "the state is made again from the log");
    assert!(group.metrics().term > term);
    propose(&group, 1).await;
    assert_eq!(group.machine().all().len(), 51);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_after_two_terms_without_commands_works() {
    let disks = Disks::default();
    for expected in 1..5 {
        let group = disks.start(Config::default()).await.expect("starts");
        assert_eq!(group.metrics().term, expected);
        group.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_purges_behind_what_is_durable_and_no_further() {
    let disks = Disks::default();
    let config = Config { keep_entries: 10, ..Config::default() };
    let group = disks.start(config.clone()).await.expect("starts");
    propose(&group, 300).await;
    group.compact().await.expect("compacts");
    assert_eq!(group.metrics().snapshot, None, "nothing is durable yet");
    disks.state.flush().expect("flushes");
    let durable = group.durable().expect("reads").expect("is there");
    assert_eq!(
        Some(durable),
        index_of_mark(disks.state.get_persisted(b"\x07m\0\0\0\0\0\0\0\0").expect("reads").expect("is there"))
            .expect("is a mark")
    );
    propose(&group, 100).await;
    group.compact().await.expect("compacts");
    assert_eq!(group.metrics().snapshot, Some(durable));
    for _ in 0..1000 {
        if group.metrics().purged.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(group.metrics().purged, Some(durable - 10));
    group.stop().await;
    assert_eq!(disks.log.bounds(7).expect("reads").purged, Some(durable - 10));

    disks.state.crash();
    let group = disks.start(config).await.expect("starts from the purged log");
    assert_eq!(group.machine().all().len(), 400);
    assert_eq!(group.metrics().snapshot, Some(durable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_proposals_shares_syncs_and_has_a_limit() {
    let disks = Disks::default();
    let log = Log::<Rt>::start(disks.log.clone());
    let machine = Arc::new(Rows::new(7, disks.state.clone()));
    let config = Config { max_pending: 500, ..Config::default() };
    let group = Group::start(7, 1, log.clone(), machine, config, None).await.expect("starts");
    let before = log.figures();
    let tasks: Vec<_> = (0..500)
        .map(|number| {
            let group = group.clone();
            tokio::spawn(async move { group.propose(Bytes::from(format!("{number}"))).await })
        })
        .collect();
    for task in tasks {
        task.await.expect("does not panic").expect("is accepted");
    }
    assert_eq!(group.machine().all().len(), 500);
    assert!(log.figures().syncs - before.syncs < 250, "{:?}", log.figures());

    let tight = Config { max_pending: 0, ..Config::default() };
    group.stop().await;
    let group = disks.start(tight).await.expect("starts");
    assert_eq!(group.propose(Bytes::new()).await, Err(Error::Busy { pending: 0, limit: 0 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_group_still_takes_proposals() {
    let disks = Disks::default();
    let group = disks.start(Config::default()).await.expect("starts");
    // Longer than any of openraft's leases.
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    propose(&group, 1).await;
    assert!(group.is_leader());
}

fn corrupt<T>(result: Result<T, Error>, reason: &str) {
    match result {
        Err(Error::Storage(StorageError::Corrupt(found))) => assert!(found.contains(reason), "{found}"),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("started"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_do_not_belong_together_are_refused() {
    let disks = Disks::default();
    let config = Config { keep_entries: 0, ..Config::default() };
    let group = disks.start(config.clone()).await.expect("starts");
    propose(&group, 200).await;
    disks.state.flush().expect("flushes");
    group.compact().await.expect("compacts");
    group.stop().await;

    let without_log = Disks { log: Arc::default(), state: disks.state.clone() };
    corrupt(without_log.start(config.clone()).await, "is the log lost");
    let without_state = Disks { log: disks.log.clone(), state: Arc::default() };
    corrupt(without_state.start(config.clone()).await, "is it an old copy");
    corrupt(disks.start_as(2, config.clone()).await, "belongs to nodes [1]");
    disks.start(config).await.expect("starts with both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_log_is_refused() {
    let disks = Disks::default();
    let group = disks.start(Config::default()).await.expect("starts");
    propose(&group, 3).await;
    group.stop().await;
    let next = disks.log.bounds(7).expect("reads").last.expect("is there") + 1;
    let garbage = LogOp::Append { group: 7, first: next, entries: vec![Bytes::from_static(b"\x01garbage")] };
    disks.log.write(&[garbage]).expect("writes");
    corrupt(disks.start(Config::default()).await, "log entry: too short");
}
