//! Groups in which nothing happens become quiet, and wake when something does.

use crate::common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::cluster::{Cluster, Ledger};
use mainstay_consensus::Config;

fn soon() -> Config {
    Config { quiet_after: Some(Duration::from_millis(500)), ..Config::default() }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(15), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn all_quiet(cluster: &Cluster) {
    until("the group is not quiet", || cluster.running.values().all(|node| node.group.is_quiet())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_group_is_quiet_and_keeps_its_leader() {
    let cluster = Cluster::of(3, 3, soon()).await;
    let ledger = Ledger::default();
    let leader = cluster.leader().await;
    let term = cluster.group(leader).leadership().term;
    for round in 0..3 {
        all_quiet(&cluster).await;
        // Longer than any lease or election.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(cluster.group(leader).is_quiet());
        cluster.group(leader).read_index().await.expect("a quiet leader can read");
        assert!(cluster.group(leader).is_quiet(), "a read does not wake it");
        let data = Bytes::from(round.to_string());
        let index = cluster.group(leader).propose(data.clone()).await.expect("a proposal wakes it");
        ledger.acknowledged(index, data);
        assert!(!cluster.group(leader).is_quiet());
        assert_eq!(cluster.group(leader).leadership().term, term, "nobody else stood for election");
    }
    ledger.check(&cluster.agree().await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_leader_that_dies_is_replaced() {
    let mut cluster = Cluster::of(3, 3, soon()).await;
    let mut gaps = Vec::new();
    for round in 0..3 {
        cluster.propose(&round.to_string()).await;
        all_quiet(&cluster).await;
        let leader = cluster.leader().await;
        let killed = Instant::now();
        cluster.kill(leader).await;
        cluster.leader_but(leader).await;
        gaps.push(killed.elapsed());
        cluster.propose(&format!("after {round}")).await;
        cluster.start(leader).await;
    }
    println!("failovers took {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(4)), "{gaps:?}");
    assert_eq!(cluster.agree().await.len(), 6);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_keeps_the_others_awake_and_does_them_no_harm() {
    let cluster = Cluster::of(3, 3, soon()).await;
    cluster.propose("first").await;
    all_quiet(&cluster).await;
    let leader = cluster.leader().await;
    let term = cluster.group(leader).leadership().term;
    let other = leader % 3 + 1;
    cluster.wires.isolate(other, true);
    until("the leader sleeps on", || !cluster.group(leader).is_quiet()).await;
    cluster.propose("second").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.wires.isolate(other, false);
    cluster.propose("third").await;
    assert_eq!(cluster.agree().await.len(), 3);
    all_quiet(&cluster).await;
    assert_eq!(cluster.group(leader).leadership().term, term, "who was cut off did not disturb the leader");
    cluster.stop().await;
}
