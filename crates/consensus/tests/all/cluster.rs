//! Three nodes and more: election, replication, failures of leaders and links, members, hand-over, reads.

use crate::common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::cluster::{Client, Cluster, Ledger, Told};
use mainstay_consensus::{Config, Error};

fn set(ids: &[u64]) -> BTreeSet<u64> {
    ids.iter().copied().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_a_leader_and_have_the_same_log() {
    let cluster = Cluster::of(3, 3, Config::default()).await;
    let leader = cluster.leader().await;
    for number in 0..100 {
        cluster.propose(&number.to_string()).await;
    }
    assert_eq!(cluster.agree().await.len(), 100);
    cluster.group(leader).read_index().await.expect("a leader with a majority can read");
    let follower = leader % 3 + 1;
    let refused = Error::NotLeader { leader: Some(leader) };
    assert_eq!(cluster.group(follower).propose(Bytes::new()).await, Err(refused.clone()));
    assert_eq!(cluster.group(follower).read_index().await, Err(refused));
    assert_eq!(cluster.group(follower).members().voters, set(&[1, 2, 3]));
    let positions = cluster.group(leader).positions().expect("reads");
    assert_eq!(positions.peers.values().filter(|matched| **matched == positions.last).count(), 2, "{positions:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_are_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of(3, 3, Config::default()).await;
    let ledger = Ledger::default();
    let mut name = 0;
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let leader = cluster.leader().await;
        let nodes: Vec<_> = cluster.running.values().cloned().collect();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                name += 1;
                Client::start(name, nodes.clone(), ledger.clone())
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let killed = Instant::now();
        cluster.kill(leader).await;
        cluster.leader_but(leader).await;
        gaps.push(killed.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
        for client in clients {
            client.stop().await;
        }
        cluster.start(leader).await;
    }
    ledger.check(&cluster.agree().await);
    assert!(ledger.len() > 100, "only {} were acknowledged", ledger.len());
    println!("failovers took {gaps:?}");
    assert!(gaps.iter().all(|gap| *gap < Duration::from_secs(4)), "{gaps:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_serves_nobody() {
    let cluster = Cluster::of(3, 3, Config::default()).await;
    let ledger = Ledger::default();
    let old = cluster.leader().await;
    cluster.propose("before").await;
    cluster.wires.isolate(old, true);
    let orphan = tokio::spawn({
        let group = cluster.group(old).clone();
        async move { group.propose(Bytes::from_static(b"orphan")).await }
    });
    let new = cluster.leader_but(old).await;
    let written = cluster.group(new).propose(Bytes::from_static(b"after")).await.expect("the others are a majority");
    ledger.acknowledged(written, Bytes::from_static(b"after"));
    let read = cluster.group(old).read_index().await;
    assert!(matches!(read, Err(Error::NoQuorum | Error::NotLeader { .. })), "{read:?}");
    let refused = cluster.group(old).propose(Bytes::from_static(b"late")).await;
    assert!(matches!(refused, Err(Error::NotLeader { .. })), "{refused:?}");
    cluster.wires.isolate(old, false);
    assert_eq!(orphan.await.expect("does not panic"), Err(Error::Unknown));
    let rows = cluster.agree().await;
    ledger.check(&rows);
    assert!(!rows.iter().any(|(_, data)| data == "orphan" || data == "late"));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_comes_to_be_without_its_first_founder() {
    let founders = (1..=3).map(|id| (id, String::new())).collect();
    let mut cluster = Cluster::new(3, Config { founders, ..Config::default() }).await;
    for id in [2, 3] {
        cluster.start(id).await;
    }
    cluster.propose("without the first").await;
    assert_eq!(cluster.group(2).members().voters, set(&[1, 2, 3]));
    cluster.start(1).await;
    cluster.propose("with it").await;
    assert_eq!(cluster.agree().await.len(), 2);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut cluster = Cluster::of(4, 1, Config::default()).await;
    for id in 2..=4 {
        cluster.start(id).await;
    }
    let alone = cluster.group(1);
    while !alone.leadership().leading {
        alone.leadership_changed().await;
    }
    for number in 0..50 {
        cluster.propose(&format!("alone {number}")).await;
    }
    let unknown = alone.change_voters(set(&[1, 9])).await;
    assert!(matches!(unknown, Err(Error::Members(_))), "{unknown:?}");
    for id in [2, 3] {
        alone.add_learner(id, cluster.wires.address(1, id)).await.expect("adds");
    }
    alone.change_voters(set(&[1, 2, 3])).await.expect("changes");
    assert_eq!(alone.members().voters, set(&[1, 2, 3]));
    for number in 0..50 {
        cluster.propose(&format!("three {number}")).await;
    }
    // Node 3 dies for good, and node 4 takes its place.
    cluster.kill(3).await;
    let leader = cluster.leader().await;
    cluster.group(leader).add_learner(4, cluster.wires.address(1, 4)).await.expect("adds");
    cluster.group(leader).change_voters(set(&[1, 2, 4])).await.expect("changes");
    cluster.propose("replaced").await;
    assert_eq!(cluster.agree().await.len(), 101);
    assert_eq!(cluster.group(leader).members().voters, set(&[1, 2, 4]));
    assert!(cluster.group(leader).members().learners.is_empty());
    // The new one counts.
    cluster.kill(2).await;
    cluster.propose("without 2").await;
    assert_eq!(cluster.agree().await.len(), 102);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_under_load_without_a_doubt() {
    let cluster = Cluster::of(3, 3, Config::default()).await;
    cluster.leader().await;
    let ledger = Ledger::default();
    let nodes: Vec<_> = cluster.running.values().cloned().collect();
    let clients: Vec<_> = (0..8).map(|name| Client::start(name, nodes.clone(), ledger.clone())).collect();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let leader = cluster.leader().await;
        let next = leader % 3 + 1;
        cluster.group(leader).transfer_leader(next).await.expect("hands over");
        cluster.leader_but(leader).await;
    }
    let mut all = Told::default();
    for client in clients {
        let told = client.stop().await;
        all.done += told.done;
        all.unknown += told.unknown;
        all.longest_gap = all.longest_gap.max(told.longest_gap);
    }
    println!("{all:?}");
    assert_eq!(all.unknown, 0, "{all:?}");
    ledger.check(&cluster.agree().await);
    let leader = cluster.leader().await;
    let refused = cluster.group(leader).transfer_leader(9).await;
    assert!(matches!(refused, Err(Error::Members(_))), "{refused:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_survives_a_crash() {
    let mut cluster = Cluster::of(3, 3, Config::default()).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        cluster.propose(&format!("led by {leader}")).await;
        cluster.agree().await;
        let term = cluster.group(leader).leadership().term;
        for id in 1..=3 {
            cluster.kill(id).await;
        }
        for id in 1..=3 {
            cluster.wires.isolate(id, true);
            cluster.start(id).await;
            let found = cluster.group(id).metrics().term;
            assert!(found >= term, "node {id} voted in term {term} and remembers {found}");
        }
        for id in 1..=3 {
            cluster.wires.isolate(id, false);
        }
    }
    cluster.leader().await;
    assert_eq!(cluster.agree().await.len(), 2);
    cluster.stop().await;
}
