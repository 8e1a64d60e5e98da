//! Replicas that are too far behind get the whole state from another, whatever happens meanwhile.

use crate::common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::cluster::{Client, Cluster, Ledger};
use mainstay_base::Prng;
use mainstay_consensus::Config;

/// A log that is purged at once.
fn short_log() -> Config {
    Config { keep_entries: 5, hold_entries: 0, ..Config::default() }
}

async fn write(cluster: &Cluster, ledger: &Ledger, name: u64, count: u64) {
    for number in 0..count {
        let data = format!("{name}.{number}");
        let index = cluster.propose(&data).await;
        ledger.acknowledged(index, data.into());
    }
}

/// Purges the logs, and waits until a leader's reaches beyond an index. What is being sent to a dead node is purged when that has
/// failed.
async fn compact(cluster: &Cluster, leader: u64, beyond: u64) {
    cluster.compact().await;
    for _ in 0..500 {
        if cluster.group(leader).metrics().purged > Some(beyond) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the log is not purged: {:?}", cluster.group(leader).metrics());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_missed_the_log_is_rebuilt_under_load() {
    let mut cluster = Cluster::of(4, 3, short_log()).await;
    let ledger = Ledger::default();
    write(&cluster, &ledger, 100, 20).await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let behind = leader % 3 + 1;
    cluster.kill(behind).await;
    write(&cluster, &ledger, 101, 300).await;
    compact(&cluster, leader, 200).await;

    let nodes: Vec<_> = cluster.running.values().cloned().collect();
    let client = Client::start(102, nodes, ledger.clone());
    cluster.start(behind).await;
    // A new replica needs it, too.
    cluster.start(4).await;
    cluster.group(leader).add_learner(4, cluster.wires.address(leader, 4)).await.expect("adds");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.stop().await;
    let rows = cluster.agree().await;
    ledger.check(&rows);
    assert_eq!(cluster.group(4).metrics().snapshot, cluster.group(4).durable().expect("reads"));

    // What was installed is durable, and goes on from the log.
    cluster.kill(behind).await;
    cluster.kill(4).await;
    cluster.start(behind).await;
    cluster.start(4).await;
    assert_eq!(cluster.agree().await, rows);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_replaced_by_a_new_replica() {
    let mut cluster = Cluster::of(4, 3, short_log()).await;
    let ledger = Ledger::default();
    write(&cluster, &ledger, 1, 100).await;
    let leader = cluster.leader().await;
    compact(&cluster, leader, 50).await;
    let lost = leader % 3 + 1;
    cluster.kill(lost).await;
    cluster.wipe(lost);
    write(&cluster, &ledger, 2, 50).await;
    // It may not come back as who it was: another takes its place.
    cluster.start(4).await;
    cluster.group(leader).add_learner(4, cluster.wires.address(leader, 4)).await.expect("adds");
    let voters: BTreeSet<u64> = [1, 2, 3, 4].into_iter().filter(|id| *id != lost).collect();
    cluster.group(leader).change_voters(voters.clone()).await.expect("changes");
    write(&cluster, &ledger, 3, 10).await;
    ledger.check(&cluster.agree().await);
    assert_eq!(cluster.group(4).members().voters, voters);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_forgot_what_it_acknowledged_harms_nobody() {
    let mut cluster = Cluster::of(3, 3, Config::default()).await;
    let ledger = Ledger::default();
    write(&cluster, &ledger, 1, 50).await;
    cluster.agree().await;
    let leader = cluster.leader().await;
    let lost = leader % 3 + 1;
    cluster.kill(lost).await;
    cluster.wipe(lost);
    // It comes back under its old name, which whoever decides about names must prevent.
    cluster.start(lost).await;
    write(&cluster, &ledger, 2, 50).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    write(&cluster, &ledger, 3, 10).await;
    assert!(cluster.group(leader).is_leader(), "the leader goes on");
    assert!(cluster.group(lost).machine().all().is_empty(), "it is not rebuilt under its old name");
    cluster.kill(lost).await;
    ledger.check(&cluster.agree().await);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_during_an_install_do_no_harm() {
    let mut cluster = Cluster::of(3, 3, short_log()).await;
    let ledger = Ledger::default();
    let mut random = Prng::new(7);
    write(&cluster, &ledger, 0, 20).await;
    for round in 1..12 {
        let leader = cluster.leader().await;
        let behind = leader % 3 + 1;
        cluster.kill(behind).await;
        write(&cluster, &ledger, round, 60).await;
        let written = cluster.group(leader).metrics().last.expect("was written");
        compact(&cluster, leader, written - 30).await;
        cluster.start(behind).await;
        // At some moment of it, or before, or after.
        tokio::time::sleep(Duration::from_micros(random.below(500_000))).await;
        let kept = |random: &mut Prng, most| usize::try_from(random.below(most)).expect("small");
        let (log, state) = (kept(&mut random, 3), kept(&mut random, 6));
        cluster.kill_keeping(behind, log, state).await;
        cluster.start(behind).await;
        ledger.check(&cluster.agree().await);
    }
    cluster.stop().await;
}
