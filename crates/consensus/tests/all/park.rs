//! A node that is no member any more gives up its state, keeps its log and votes, and gets a state again when it comes back.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mainstay_consensus::Config;

use crate::common::cluster::Cluster;

const WITHIN: Duration = Duration::from_secs(20);

/// Node 4 votes in the place of `old`, which leaves the group.
async fn replace(cluster: &Cluster, leader: u64, old: u64) {
    let group = cluster.group(leader);
    group.add_learner(4, cluster.wires.address(leader, 4)).await.expect("adds");
    let begun = Instant::now();
    while cluster.group(4).metrics().applied < group.metrics().applied {
        assert!(begun.elapsed() < WITHIN, "it does not catch up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let voters: BTreeSet<u64> = (1..=4).filter(|id| *id != old).collect();
    group.change_voters(voters).await.expect("changes");
}

async fn until_trusted(cluster: &Cluster, id: u64) {
    let begun = Instant::now();
    while let Some(reason) = cluster.group(id).fenced() {
        assert!(begun.elapsed() < WITHIN, "node {id} is still fenced: {reason}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn comes_back(config: Config, purges: bool) {
    let mut cluster = Cluster::of(4, 3, config).await;
    cluster.start(4).await;
    for number in 0..60 {
        cluster.propose(&format!("before {number}")).await;
    }
    let leader = cluster.leader().await;
    let old = leader % 3 + 1;
    replace(&cluster, leader, old).await;
    assert!(cluster.group(old).machine().all().len() > 50);
    cluster.group(old).park().await.expect("parks");
    cluster.group(old).park().await.expect("is parked already");
    assert!(cluster.group(old).machine().all().is_empty(), "nothing is left");
    assert!(cluster.group(old).is_parked() && cluster.group(old).fenced().is_some());
    for number in 0..60 {
        cluster.propose(&format!("without {old}: {number}")).await;
    }
    if purges {
        cluster.compact().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // It does not forget that it is parked.
    cluster.kill(old).await;
    cluster.start(old).await;
    assert!(cluster.group(old).is_parked() && cluster.group(old).machine().all().is_empty());
    for number in 0..10 {
        cluster.propose(&format!("and then {number}")).await;
    }
    let leader = cluster.leader().await;
    cluster.group(leader).add_learner(old, cluster.wires.address(leader, old)).await.expect("adds");
    cluster.group(old).unpark();
    until_trusted(&cluster, old).await;
    for number in 0..10 {
        cluster.propose(&format!("again with {old}: {number}")).await;
    }
    assert!(cluster.agree().await.len() >= 140);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_replica_comes_back() {
    comes_back(Config::default(), false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_replica_comes_back_though_the_log_begins_later() {
    comes_back(Config { keep_entries: 5, hold_entries: 0, ..Config::default() }, true).await;
}
