//! A cluster of more nodes than a shard has replicas: each shard is at some of the nodes, every node answers for all of them, and replicas
//! move while clients go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay_api::admin::{GetClusterStatusResponse, MoveShardRequest};
use mainstay_node::{Node, Service};
use mainstay_runtime_tokio::TokioRuntime;

use crate::cluster::{Cluster, events, namespace, start_workflow};
use crate::splits::{check, look, work};

const SETTLED_WITHIN: Duration = Duration::from_secs(90);
const SHARDS: usize = 4;

/// Waits until nothing moves and nothing is to be moved, and every replica has all.
async fn settled(node: &Node<TokioRuntime>, shards: usize) -> GetClusterStatusResponse {
    let begun = Instant::now();
    loop {
        let status = node.cluster_status().await;
        let is_placed = status.replicas.len() == shards && status.replicas.iter().all(|known| known.placed);
        let held = |node: &mainstay_api::admin::NodeStatus| node.groups.iter().all(|one| one.voter || one.group == 0);
        if is_placed && status.next_move.is_empty() && status.nodes.iter().all(held) {
            return status;
        }
        assert!(begun.elapsed() < SETTLED_WITHIN, "it does not settle: {status:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Replicas of shards by node.
fn loads(status: &GetClusterStatusResponse) -> BTreeMap<u64, usize> {
    let mut loads = BTreeMap::new();
    for id in status.replicas.iter().flat_map(|known| &known.nodes) {
        *loads.entry(*id).or_default() += 1;
    }
    loads
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_nodes_get_their_share_and_nobody_notices() {
    let mut cluster = Cluster::new(3).await;
    let (done, ends) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let client = |at: usize| tokio::spawn(work(cluster.node(at).clone(), at, done.clone(), ends.clone()));
    let clients: Vec<_> = (0..3).map(client).collect();
    let lists = tokio::spawn(look(cluster.node(1).clone(), done.clone(), ends.clone()));
    cluster.join(3, 4).await;
    // The new node answers for what it has no replica of.
    let newer = tokio::spawn(look(cluster.node(3).clone(), done.clone(), ends.clone()));
    let status = settled(cluster.node(3), SHARDS).await;
    assert_eq!(loads(&status), BTreeMap::from([(1, 3), (2, 3), (3, 3), (4, 3)]), "{status:#?}");
    let known = status.replicas[0].clone();
    let to = (1..=4u64).find(|id| !known.nodes.contains(id)).expect("one has none");
    let (from, to) = (format!("node-{}", known.nodes[0]), format!("node-{to}"));
    let request = MoveShardRequest { shard: 1, from: from.clone(), to: to.clone() };
    let before = done.load(Ordering::Acquire);
    cluster.node(0).move_shard(request.clone()).await.expect("is decided");
    let status = settled(cluster.node(0), SHARDS).await;
    assert!(status.replicas[0].reason.contains(&format!("from {from} to {to}")), "{:?}", status.replicas[0]);
    let again = cluster.node(0).move_shard(request).await.expect_err("is done");
    assert!(again.to_string().contains("has no replica"), "{again}");
    assert!(done.load(Ordering::Acquire) > before, "work goes on");
    ends.store(true, Ordering::Release);
    let mut numbers = Vec::new();
    for client in clients {
        numbers.push(client.await.expect("every call succeeded"));
    }
    assert!(lists.await.expect("every list was whole") > 10 && newer.await.expect("every list was whole") > 10);
    for at in 0..4 {
        check(&cluster, at, &numbers).await;
    }
    // What is not held is gone from the disk.
    for at in 0..4 {
        for known in &status.replicas {
            let rows = cluster.rows(at, known.group);
            assert_eq!(
                rows > 1,
                known.nodes.contains(&(at as u64 + 1)),
                "{rows} rows of shard {} at {at}",
                known.group
            );
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_replicas_survive_two_deaths() {
    let mut cluster = Cluster::with_replicas(5, 5).await;
    for number in 0..20 {
        start_workflow(cluster.node(number % 5), &format!("w-{number}")).await;
    }
    let status = cluster.node(4).cluster_status().await;
    assert!(status.nodes.iter().all(|node| node.groups.len() == SHARDS + 1 && node.groups.iter().all(|one| one.voter)));
    assert!(status.replicas.is_empty() && status.replicas_per_shard == 5, "{status:#?}");
    cluster.kill(0).await;
    cluster.kill(2).await;
    for number in 0..20 {
        assert_eq!(events(cluster.node(3), &format!("w-{number}")).await, 2);
        start_workflow(cluster.node(1), &format!("v-{number}")).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_kept_through_deaths_and_splits() {
    let mut cluster = Cluster::new(3).await;
    for number in 0..40 {
        start_workflow(cluster.node(number % 3), &format!("w-{number}")).await;
    }
    cluster.join(3, 4).await;
    cluster.join(4, 5).await;
    // While replicas move, every node dies once.
    for at in 0..5 {
        cluster.kill(at).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.restart(at).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let status = settled(cluster.node(2), SHARDS).await;
    assert!(loads(&status).values().all(|load| (2..=3).contains(load)), "{status:#?}");
    let request = mainstay_api::admin::SplitShardRequest { shard: 2 };
    let begun = Instant::now();
    while let Err(error) = cluster.node(4).split_shard(request).await {
        assert!(begun.elapsed() < SETTLED_WITHIN, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    crate::splits::until_done(cluster.node(3)).await;
    settled(cluster.node(3), SHARDS + 1).await;
    for at in 0..5 {
        for number in 0..40 {
            assert_eq!(events(cluster.node(at), &format!("w-{number}")).await, 2, "w-{number} at {at}");
        }
        let counted = cluster.node(at).count(namespace(cluster.node(at)), String::new()).await.expect("counts").count;
        assert_eq!(counted, 40);
    }
    cluster.stop().await;
}
