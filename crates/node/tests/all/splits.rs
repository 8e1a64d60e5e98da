//! A shard is split while clients and workers go on: no call fails, nothing is lost, and lists show each workflow once all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mainstay_api::admin::SplitShardRequest;
use mainstay_api::log::{self, command::Op};
use mainstay_api::record::split_record::Phase;
use mainstay_api::temporal::command::v1::{self as commands, command::Attributes};
use mainstay_api::temporal::common::v1::{ActivityType, WorkflowType};
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_node::{Node, Service};
use mainstay_runtime_tokio::TokioRuntime;

use crate::cluster::{Cluster, close, command, complete, events, execute, namespace, start_workflow};

const WAIT: Duration = Duration::from_secs(20);
const DONE_WITHIN: Duration = Duration::from_secs(90);

/// A queue for each client, so that it is given what it started.
fn queue(client: usize) -> Option<TaskQueue> {
    Some(TaskQueue { name: format!("q{client}"), ..TaskQueue::default() })
}

async fn start(node: &Node<TokioRuntime>, client: usize, workflow_id: &str) {
    let request = api::StartWorkflowExecutionRequest {
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "t".into() }),
        task_queue: queue(client),
        request_id: workflow_id.into(),
        ..Default::default()
    };
    execute(node, workflow_id, Op::StartWorkflow(log::StartWorkflow { request: Some(request) })).await;
}

async fn workflow_task(node: &Node<TokioRuntime>, client: usize, commands: Vec<commands::Command>) {
    let request = api::PollWorkflowTaskQueueRequest { task_queue: queue(client), ..Default::default() };
    let task = node.poll_workflow_task(namespace(node), request, WAIT).await;
    complete(node, task.expect("polls").expect("a task within the time"), commands).await;
}

async fn activity(node: &Node<TokioRuntime>, client: usize) {
    let request = api::PollActivityTaskQueueRequest { task_queue: queue(client), ..Default::default() };
    let task = node.poll_activity_task(namespace(node), request, WAIT).await;
    let token = task.expect("polls").expect("a task within the time").token.expect("a token");
    let workflow_id = token.workflow_id.clone();
    let target = log::ActivityTarget { target: Some(log::activity_target::Target::Token(token)) };
    let done = log::CompleteActivity { target: Some(target), ..Default::default() };
    execute(node, &workflow_id, Op::CompleteActivity(done)).await;
}

fn schedule_activity(client: usize) -> Vec<commands::Command> {
    let attributes = commands::ScheduleActivityTaskCommandAttributes {
        activity_id: "a".into(),
        activity_type: Some(ActivityType { name: "t".into() }),
        task_queue: queue(client),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        schedule_to_close_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}

/// Workflows with an activity each, one after the other at one node, until it is told to end. Every call must succeed.
pub(crate) async fn work(node: Node<TokioRuntime>, client: usize, done: Arc<AtomicU32>, ends: Arc<AtomicBool>) -> u32 {
    let mut number = 0;
    while !ends.load(Ordering::Acquire) {
        start(&node, client, &format!("{client}-{number}")).await;
        workflow_task(&node, client, schedule_activity(client)).await;
        activity(&node, client).await;
        workflow_task(&node, client, close()).await;
        number += 1;
        done.fetch_add(1, Ordering::AcqRel);
    }
    number
}

/// What a list shows is never less than what was started before it, and no workflow is there twice.
pub(crate) async fn look(node: Node<TokioRuntime>, done: Arc<AtomicU32>, ends: Arc<AtomicBool>) -> u32 {
    let mut looks = 0;
    while !ends.load(Ordering::Acquire) {
        let before = done.load(Ordering::Acquire) as usize;
        let listed = listed(&node, "ExecutionStatus = 'Completed'").await;
        assert!(listed >= before, "{listed} of {before} are listed");
        let counted = node.count(namespace(&node), "ExecutionStatus = 'Completed'".into()).await.expect("counts").count;
        assert!(counted as usize >= before, "{counted} of {before} are counted");
        looks += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    looks
}

async fn listed(node: &Node<TokioRuntime>, filter: &str) -> usize {
    let mut ids = std::collections::BTreeSet::new();
    let mut token = Vec::new();
    loop {
        let page = node.list(namespace(node), filter.into(), 100, token).await.expect("lists");
        for row in page.executions {
            let id = row.execution.expect("has an id").workflow_id;
            assert!(ids.insert(id.clone()), "{id} is listed twice");
        }
        token = page.next_page_token;
        if token.is_empty() {
            return ids.len();
        }
    }
}

async fn phase(node: &Node<TokioRuntime>) -> Option<Phase> {
    node.cluster_status().await.splits.last().map(|split| split.phase())
}

async fn until(node: &Node<TokioRuntime>, wanted: Phase) {
    let begun = Instant::now();
    while phase(node).await.is_none_or(|phase| phase < wanted) {
        assert!(begun.elapsed() < DONE_WITHIN, "{:?}", node.cluster_status().await.splits);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn until_done(node: &Node<TokioRuntime>) {
    until(node, Phase::Done).await;
}

pub(crate) async fn check(cluster: &Cluster, at: usize, numbers: &[u32]) {
    let node = cluster.node(at);
    for (client, number) in numbers.iter().enumerate() {
        for number in 0..*number {
            assert_eq!(events(node, &format!("{client}-{number}")).await, 11, "{client}-{number}");
        }
    }
    let all = numbers.iter().sum::<u32>() as usize;
    assert_eq!(listed(node, "").await, all);
    let counted = node.count(namespace(node), String::new()).await.expect("counts").count;
    assert_eq!(counted as usize, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_split_and_nobody_notices() {
    let cluster = Cluster::new(3).await;
    let (done, ends) = (Arc::<AtomicU32>::default(), Arc::<AtomicBool>::default());
    let client = |at: usize| tokio::spawn(work(cluster.node(at).clone(), at, done.clone(), ends.clone()));
    let clients: Vec<_> = (0..3).map(client).collect();
    let lists = tokio::spawn(look(cluster.node(1).clone(), done.clone(), ends.clone()));
    while done.load(Ordering::Acquire) < 30 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let split = cluster.node(2).split_shard(SplitShardRequest { shard: 2 }).await.expect("is decided").split;
    let split = split.expect("is told");
    assert_eq!((split.source, split.target, split.from, split.to), (2, 5, 6_144, 8_192));
    let refused = cluster.node(0).split_shard(SplitShardRequest { shard: 1 }).await.expect_err("one at a time");
    assert!(refused.to_string().contains("shard 2 is being split"), "{refused}");
    until(cluster.node(0), Phase::Served).await;
    let served = done.load(Ordering::Acquire);
    until(cluster.node(0), Phase::Done).await;
    assert!(done.load(Ordering::Acquire) > served + 20, "work goes on");
    // The new shard can be split, too.
    let again = cluster.node(1).split_shard(SplitShardRequest { shard: 5 }).await.expect("is decided").split;
    assert_eq!(again.map(|split| (split.target, split.from)), Some((6, 7_168)));
    let begun = Instant::now();
    while cluster.node(1).cluster_status().await.splits.len() < 2 || phase(cluster.node(1)).await != Some(Phase::Done) {
        assert!(begun.elapsed() < DONE_WITHIN, "the second split does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ends.store(true, Ordering::Release);
    let mut numbers = Vec::new();
    for client in clients {
        numbers.push(client.await.expect("every call succeeded"));
    }
    assert!(lists.await.expect("every list was whole") > 10);
    for at in 0..3 {
        check(&cluster, at, &numbers).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_goes_on_when_leaders_die() {
    let mut cluster = Cluster::new(3).await;
    let mut numbers = Vec::new();
    for client in 0..2 {
        for number in 0..20 {
            start_workflow(cluster.node(client), &format!("{client}-{number}")).await;
        }
        numbers.push(20);
    }
    cluster.node(0).split_shard(SplitShardRequest { shard: 3 }).await.expect("is decided");
    for at in [0, 1, 2] {
        cluster.kill(at).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.restart(at).await;
    }
    until(cluster.node(1), Phase::Served).await;
    cluster.kill(1).await;
    cluster.restart(1).await;
    until(cluster.node(1), Phase::Done).await;
    for (client, number) in numbers.iter().enumerate() {
        for number in 0..*number {
            assert_eq!(events(cluster.node(2), &format!("{client}-{number}")).await, 2, "{client}-{number}");
        }
    }
    for at in 0..3 {
        assert_eq!(listed(cluster.node(at), "").await, 40);
    }
    cluster.stop().await;
}
