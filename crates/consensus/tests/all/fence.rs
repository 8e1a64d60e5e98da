//! A replica whose rows are wrong is found by comparing, fences itself and is rebuilt, whoever leads; nothing acknowledged is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::{Comparison, Config};
use mainstay_storage::{MemoryState, StateBatch, StateStore, StateView};

use crate::common::cluster::{Cluster, GROUP};

const WITHIN: Duration = Duration::from_secs(10);

/// Changes one row behind the replica's back.
fn flip(state: &MemoryState) {
    let mut row = None;
    let scanned = state.scan(&[GROUP, b'r'], &[GROUP, b's'], &mut |key, _| {
        row = Some(key.to_vec());
        false
    });
    scanned.expect("memory is readable");
    let mut batch = StateBatch::new();
    batch.put(row.expect("there are rows"), Bytes::from_static(b"flipped"));
    state.write(batch).expect("writes");
}

async fn compare(cluster: &Cluster) -> (u64, Comparison) {
    let begun = Instant::now();
    loop {
        let leader = cluster.leader().await;
        match cluster.group(leader).compare(WITHIN).await {
            Ok(found) if found.silent.is_empty() => return (leader, found),
            other => assert!(begun.elapsed() < 3 * WITHIN, "{other:?}"),
        }
    }
}

async fn trusted(cluster: &Cluster, id: u64) {
    let begun = Instant::now();
    while let Some(reason) = cluster.group(id).fenced() {
        assert!(begun.elapsed() < WITHIN, "node {id} is still fenced: {reason}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_differs_is_rebuilt() {
    let cluster = Cluster::of(3, 3, Config::default()).await;
    let all = BTreeSet::from([1, 2, 3]);
    for number in 0..30 {
        cluster.propose(&format!("before {number}")).await;
    }
    let (leader, found) = compare(&cluster).await;
    assert_eq!((&found.agree, found.differ.len()), (&all, 0), "{found:?}");
    let follower = leader % 3 + 1;
    for wrong in [follower, leader] {
        let sound = cluster.agree().await;
        flip(&cluster.disks[&wrong].state);
        let (_, found) = compare(&cluster).await;
        assert_eq!(found.differ, BTreeSet::from([wrong]));
        // It goes on meanwhile.
        for number in 0..10 {
            cluster.propose(&format!("without {wrong}: {number}")).await;
        }
        trusted(&cluster, wrong).await;
        let rebuilt = cluster.agree().await;
        assert_eq!(rebuilt[..sound.len()], sound);
        assert_eq!(rebuilt.len(), sound.len() + 10);
        assert_eq!(compare(&cluster).await.1.agree, all);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_outlives_its_process() {
    let mut cluster = Cluster::of(3, 3, Config::default()).await;
    for number in 0..30 {
        cluster.propose(&format!("before {number}")).await;
    }
    let sound = cluster.agree().await;
    let leader = cluster.leader().await;
    let (wrong, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // Without a majority nobody can rebuild it.
    cluster.kill(other).await;
    flip(&cluster.disks[&wrong].state);
    assert!(cluster.group(wrong).fence("a test says so"));
    cluster.kill(leader).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.kill_keeping(wrong, usize::MAX, usize::MAX).await;
    cluster.start(wrong).await;
    assert!(cluster.group(wrong).fenced().is_some(), "it is still not trusted");
    cluster.start(leader).await;
    cluster.start(other).await;
    trusted(&cluster, wrong).await;
    assert_eq!(cluster.agree().await[..sound.len()], sound);
    cluster.stop().await;
}
