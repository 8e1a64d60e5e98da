//! Three nodes in one process, over real sockets and stores in memory: any node serves any call, and any one may die.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay_api::log::{self, ActivityTarget, Command, CompleteActivity, StartWorkflow, activity_target, command::Op};
use mainstay_api::record::MemberRecord;
use mainstay_api::temporal::command::v1::{self as commands, command::Attributes};
use mainstay_api::temporal::common::v1::{ActivityType, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, QueryResultType};
use mainstay_api::temporal::query::v1::WorkflowQuery;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_consensus::Peers;
use mainstay_node::service::{HistoryQuery, Namespace, WorkflowTask};
use mainstay_node::{Clustering, Config, Node, REPLICAS, Service, Stores};
use mainstay_runtime::Runtime;
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_storage::{MemoryLog, MemoryState, StateBatch, StateStore, StateView};

use crate::faulty::{Damage, Faulty};

const WAIT: Duration = Duration::from_secs(20);

struct Host {
    id: u64,
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
    damage: Damage,
    address: std::net::SocketAddr,
    node: Option<Node<TokioRuntime>>,
}

pub(crate) struct Cluster {
    hosts: Vec<Host>,
    founders: Vec<MemberRecord>,
    replicas: u32,
}

impl Cluster {
    pub(crate) async fn new(size: u64) -> Self {
        Self::with_replicas(size, REPLICAS).await
    }

    /// With so many replicas of each shard.
    pub(crate) async fn with_replicas(size: u64, replicas: u32) -> Self {
        let mut hosts = Vec::new();
        let mut listeners = Vec::new();
        let mut founders = Vec::new();
        for number in 1..=size {
            let listener = TokioRuntime::bind("127.0.0.1:0".parse().expect("an address")).await.expect("binds");
            let address = TokioRuntime::local_address(&listener).expect("is bound");
            founders.push(member(number, &address.to_string(), number));
            listeners.push(listener);
            let (log, state) = (Arc::<MemoryLog>::default(), Arc::<MemoryState>::default());
            hosts.push(Host { id: number, log, state, damage: Damage::default(), address, node: None });
        }
        let mut cluster = Self { hosts, founders, replicas };
        let mut starting = Vec::new();
        for (at, listener) in listeners.into_iter().enumerate() {
            starting.push(tokio::spawn(cluster.start_node(at, listener, at as u64 + 1)));
        }
        for (host, started) in cluster.hosts.iter_mut().zip(starting) {
            host.node = Some(started.await.expect("does not panic"));
        }
        cluster
    }

    fn start_node(
        &self,
        at: usize,
        listener: <TokioRuntime as Runtime>::Listener,
        incarnation: u64,
    ) -> impl Future<Output = Node<TokioRuntime>> + use<> {
        let host = &self.hosts[at];
        let id = host.id;
        let peers = Peers::new(id, "c".into());
        for founder in &self.founders {
            peers.set_address(founder.node_id, founder.peer_address.clone());
        }
        let name = format!("node-{}", at + 1);
        let member = MemberRecord { name, ..member(id, &host.address.to_string(), incarnation) };
        let clustering = Clustering { peers: peers.clone(), member, founders: self.founders.clone() };
        let state = Faulty { disk: host.state.clone(), damage: host.damage.clone() };
        let stores = Stores { log: host.log.clone(), state: Arc::new(state) };
        let config = Config { cluster_id: "c".into(), replicas: self.replicas, ..Config::default() };
        async move {
            peers.serve(listener);
            Node::start_in(config, stores, clustering).await.expect("starts")
        }
    }

    pub(crate) fn node(&self, at: usize) -> &Node<TokioRuntime> {
        self.hosts[at].node.as_ref().expect("runs")
    }

    /// Rows that a node has of a group.
    pub(crate) fn rows(&self, at: usize, group: u32) -> usize {
        let mut count = 0;
        let scanned = self.hosts[at].state.scan(&group.to_be_bytes(), &(group + 1).to_be_bytes(), &mut |_, _| {
            count += 1;
            true
        });
        scanned.expect("memory is readable");
        count
    }

    /// Without a word to the others.
    pub(crate) async fn kill(&mut self, at: usize) {
        self.hosts[at].node.take().expect("runs").halt().await;
        self.hosts[at].log.crash();
        self.hosts[at].state.crash();
    }

    pub(crate) async fn restart(&mut self, at: usize) {
        let listener = loop {
            match TokioRuntime::bind(self.hosts[at].address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        let node = self.start_node(at, listener, 100 + at as u64).await;
        self.hosts[at].node = Some(node);
    }

    /// A node that was not there before, or that has lost everything but its name.
    pub(crate) async fn join(&mut self, at: usize, id: u64) {
        let listener = TokioRuntime::bind("127.0.0.1:0".parse().expect("an address")).await.expect("binds");
        let address = TokioRuntime::local_address(&listener).expect("is bound");
        let (log, state) = (Arc::<MemoryLog>::default(), Arc::<MemoryState>::default());
        let host = Host { id, log, state, damage: Damage::default(), address, node: None };
        if at < self.hosts.len() {
            self.hosts[at] = host;
        } else {
            self.hosts.push(host);
        }
        let node = self.start_node(at, listener, id).await;
        self.hosts[at].node = Some(node);
    }

    /// Waits until these nodes are the voters of all groups.
    async fn voters(&self, asked: usize, wanted: &[u64]) {
        let begun = Instant::now();
        loop {
            let status = self.node(asked).cluster_status().await;
            let votes = |node: &&mainstay_api::admin::NodeStatus| {
                !node.groups.is_empty() && node.groups.iter().all(|group| group.voter)
            };
            let voters: Vec<u64> =
                status.nodes.iter().filter(votes).filter_map(|node| Some(node.member.as_ref()?.node_id)).collect();
            if wanted.iter().all(|id| voters.contains(id)) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "{wanted:?} do not vote: {status:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) async fn stop(mut self) {
        for host in &mut self.hosts {
            if let Some(node) = host.node.take() {
                node.halt().await;
            }
        }
    }

    /// Which node leads most groups.
    async fn busiest(&self) -> usize {
        let asked = self.hosts.iter().position(|host| host.node.is_some()).expect("one runs");
        let status = self.node(asked).cluster_status().await;
        let leads = |node: &mainstay_api::admin::NodeStatus| node.groups.iter().filter(|group| group.leads).count();
        let busiest = status.nodes.iter().max_by_key(|node| leads(node)).expect("there are nodes");
        busiest.member.as_ref().expect("is known").node_id as usize - 1
    }
}

fn member(id: u64, address: &str, incarnation: u64) -> MemberRecord {
    MemberRecord {
        node_id: id,
        name: format!("node-{id}"),
        peer_address: address.into(),
        incarnation,
        alive: true,
        ..MemberRecord::default()
    }
}

fn queue() -> Option<TaskQueue> {
    Some(TaskQueue { name: "q".into(), ..TaskQueue::default() })
}

fn execution(workflow_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }
}

pub(crate) fn namespace(node: &Node<TokioRuntime>) -> Namespace {
    node.namespace("default").expect("the default namespace")
}

pub(crate) async fn execute(node: &Node<TokioRuntime>, workflow_id: &str, op: Op) -> log::Reply {
    let command = Command {
        namespace_id: namespace(node).id.clone(),
        workflow_id: workflow_id.into(),
        op: Some(op),
        ..Default::default()
    };
    node.execute(command).await.expect("is accepted")
}

pub(crate) async fn start_workflow(node: &Node<TokioRuntime>, workflow_id: &str) {
    let request = api::StartWorkflowExecutionRequest {
        namespace: "default".into(),
        workflow_id: workflow_id.into(),
        workflow_type: Some(WorkflowType { name: "t".into() }),
        task_queue: queue(),
        request_id: format!("start {workflow_id}"),
        ..Default::default()
    };
    execute(node, workflow_id, Op::StartWorkflow(StartWorkflow { request: Some(request) })).await;
}

async fn workflow_task(node: &Node<TokioRuntime>) -> WorkflowTask {
    let request = api::PollWorkflowTaskQueueRequest { task_queue: queue(), ..Default::default() };
    let task = node.poll_workflow_task(namespace(node), request, WAIT).await;
    task.expect("polls").expect("a task within the time")
}

pub(crate) async fn complete(node: &Node<TokioRuntime>, task: WorkflowTask, commands: Vec<commands::Command>) {
    let request = api::RespondWorkflowTaskCompletedRequest { commands, ..Default::default() };
    node.complete_workflow_task(namespace(node), task.token, request).await.expect("completes");
}

async fn do_activity(node: &Node<TokioRuntime>) {
    let request = api::PollActivityTaskQueueRequest { task_queue: queue(), ..Default::default() };
    let task = node.poll_activity_task(namespace(node), request, WAIT).await;
    let token = task.expect("polls").expect("a task within the time").token.expect("a token");
    let workflow_id = token.workflow_id.clone();
    let target = ActivityTarget { target: Some(activity_target::Target::Token(token)) };
    let done = CompleteActivity { target: Some(target), ..Default::default() };
    execute(node, &workflow_id, Op::CompleteActivity(done)).await;
}

fn schedule_activity() -> Vec<commands::Command> {
    let attributes = commands::ScheduleActivityTaskCommandAttributes {
        activity_id: "a".into(),
        activity_type: Some(ActivityType { name: "t".into() }),
        task_queue: queue(),
        start_to_close_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        schedule_to_close_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        schedule_to_start_timeout: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
}

pub(crate) fn close() -> Vec<commands::Command> {
    let attributes = commands::CompleteWorkflowExecutionCommandAttributes::default();
    command(CommandType::CompleteWorkflowExecution, Attributes::CompleteWorkflowExecutionCommandAttributes(attributes))
}

pub(crate) fn command(kind: CommandType, attributes: Attributes) -> Vec<commands::Command> {
    vec![commands::Command { command_type: kind as i32, attributes: Some(attributes), ..Default::default() }]
}

async fn closed(node: Node<TokioRuntime>, workflow_id: &str) -> usize {
    let query = HistoryQuery {
        execution: execution(workflow_id),
        close_event_only: true,
        wait_new_event: true,
        timeout: WAIT,
        ..HistoryQuery::default()
    };
    node.history(namespace(&node), query).await.expect("reads").history.events.len()
}

pub(crate) async fn events(node: &Node<TokioRuntime>, workflow_id: &str) -> usize {
    let query = HistoryQuery { execution: execution(workflow_id), ..HistoryQuery::default() };
    node.history(namespace(node), query).await.expect("reads").history.events.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_serves_any_call() {
    let cluster = Cluster::new(3).await;
    for number in 0..6 {
        let node = |step: usize| cluster.node((number + step) % 3);
        let id = format!("w{number}");
        start_workflow(node(0), &id).await;
        let waits = tokio::spawn(closed(node(2).clone(), Box::leak(id.clone().into_boxed_str())));
        let task = workflow_task(node(1)).await;
        complete(node(2), task, schedule_activity()).await;
        do_activity(node(0)).await;
        let task = workflow_task(node(2)).await;
        complete(node(1), task, close()).await;
        assert_eq!(waits.await.expect("does not panic"), 1);
        for asked in 0..3 {
            assert_eq!(events(node(asked), &id).await, 11);
            let described = node(asked).describe(namespace(node(asked)), execution(&id)).await.expect("describes");
            assert_eq!(described.workflow_execution_info.expect("has facts").history_length, 11);
        }
    }
    for asked in 0..3 {
        let node = cluster.node(asked);
        let page = node.list(namespace(node), String::new(), 100, Vec::new()).await.expect("lists");
        assert_eq!(page.executions.len(), 6);
        let unknown = node.describe(namespace(node), execution("nobody")).await.expect_err("is not there");
        assert!(matches!(unknown, mainstay_engine::Error::NotFound(_)), "{unknown:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_finds_its_worker_at_any_node() {
    let cluster = Cluster::new(3).await;
    start_workflow(cluster.node(0), "w").await;
    let task = workflow_task(cluster.node(1)).await;
    complete(cluster.node(1), task, Vec::new()).await;
    for number in 0..3 {
        let (asker, worker) = (cluster.node(number).clone(), cluster.node((number + 1) % 3).clone());
        let asked = tokio::spawn(async move {
            let query = WorkflowQuery { query_type: "q".into(), ..WorkflowQuery::default() };
            let request =
                api::QueryWorkflowRequest { execution: Some(execution("w")), query: Some(query), ..Default::default() };
            asker.query(namespace(&asker), request, WAIT).await
        });
        let task = workflow_task(&worker).await;
        assert_eq!(task.response.query.as_ref().map(|query| query.query_type.as_str()), Some("q"));
        let request = api::RespondQueryTaskCompletedRequest {
            completed_type: QueryResultType::Answered as i32,
            ..Default::default()
        };
        worker.answer_query(namespace(&worker), task.token, request).await.expect("is heard");
        asked.await.expect("does not panic").expect("is answered");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_node_may_die() {
    let mut cluster = Cluster::new(3).await;
    for round in 0..3 {
        let before = format!("before {round}");
        start_workflow(cluster.node(0), &before).await;
        let task = workflow_task(cluster.node(1)).await;
        complete(cluster.node(1), task, schedule_activity()).await;
        let dies = cluster.busiest().await;
        let (one, other) = ((dies + 1) % 3, (dies + 2) % 3);
        // Calls under way when it dies are answered by the next leader.
        let waits = tokio::spawn(closed(cluster.node(one).clone(), Box::leak(before.clone().into_boxed_str())));
        let polls = cluster.node(one).clone();
        let polled = tokio::spawn(async move { do_activity(&polls).await });
        cluster.kill(dies).await;
        let died = Instant::now();
        let during = format!("during {round}");
        start_workflow(cluster.node(other), &during).await;
        let took = died.elapsed();
        assert!(took < Duration::from_secs(5), "a start took {took:?} after the leader died");
        polled.await.expect("the activity is done");
        let mut left = vec![before.clone(), during.clone()];
        while !left.is_empty() {
            let task = workflow_task(cluster.node(other)).await;
            left.retain(|id| *id != task.token.workflow_id);
            complete(cluster.node(one), task, close()).await;
        }
        assert_eq!(waits.await.expect("does not panic"), 1);
        assert_eq!(events(cluster.node(one), &before).await, 11);
        cluster.restart(dies).await;
        assert_eq!(events(cluster.node(dies), &during).await, 5);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_stop_is_hardly_noticed() {
    let mut cluster = Cluster::new(3).await;
    start_workflow(cluster.node(0), "first").await;
    let leaves = cluster.busiest().await;
    let stays = cluster.node((leaves + 1) % 3).clone();
    let before = slowest_start(&stays, "before").await;
    let node = cluster.hosts[leaves].node.take().expect("runs");
    node.stop().await;
    let after = slowest_start(&stays, "after").await;
    // An election takes longer than that; how long a start takes is the disk's matter.
    assert!(after < before + Duration::from_millis(500), "a start took {after:?}, and {before:?} before the stop");
    cluster.stop().await;
}

/// How long the slowest of some starts takes.
async fn slowest_start(node: &Node<TokioRuntime>, prefix: &str) -> Duration {
    let mut slowest = Duration::ZERO;
    for number in 0..8 {
        let began = Instant::now();
        start_workflow(node, &format!("{prefix} {number}")).await;
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_comes_back_as_another() {
    let mut cluster = Cluster::new(3).await;
    start_workflow(cluster.node(0), "w").await;
    cluster.kill(1).await;
    cluster.join(1, 12).await;
    cluster.voters(0, &[1, 3, 12]).await;
    // Now it counts: without it there would be no majority.
    cluster.kill(2).await;
    start_workflow(cluster.node(1), "v").await;
    for id in ["w", "v"] {
        assert_eq!(events(cluster.node(1), id).await, 2);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_later_and_serves() {
    let mut cluster = Cluster::new(3).await;
    start_workflow(cluster.node(0), "w").await;
    cluster.join(3, 4).await;
    let task = workflow_task(cluster.node(3)).await;
    complete(cluster.node(3), task, close()).await;
    assert_eq!(events(cluster.node(3), "w").await, 5);
    let page = cluster.node(3).list(namespace(cluster.node(3)), String::new(), 10, Vec::new()).await.expect("lists");
    assert_eq!(page.executions.len(), 1);
    cluster.stop().await;
}

/// Waits until the replicas of every group agree, as their leaders find.
async fn agree(cluster: &Cluster) {
    let begun = Instant::now();
    let mut left: Vec<u32> = (0..5).collect();
    while !left.is_empty() {
        let mut still = Vec::new();
        for group in left {
            let mut agreed = false;
            for host in &cluster.hosts {
                let node = host.node.as_ref().expect("runs");
                agreed |= node.compare_replicas(group, Duration::from_secs(5)).await == Some(true);
            }
            if !agreed {
                still.push(group);
            }
        }
        left = still;
        assert!(begun.elapsed() < Duration::from_secs(60), "the replicas of {left:?} do not agree");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_replica_is_rebuilt_and_nobody_notices() {
    let cluster = Cluster::new(3).await;
    let mut started = 0;
    for round in 0..3 {
        let at = cluster.busiest().await;
        for group in 1..5_u32 {
            // Entities of one shard after the other, at a node that leads some of them.
            let damage = &cluster.hosts[at].damage;
            damage.begin([&group.to_be_bytes()[..], &[1]].concat());
            let begun = Instant::now();
            while damage.is_there() {
                assert!(begun.elapsed() < WAIT, "the replica of shard {group} is not rebuilt");
                started += 1;
                start_workflow(cluster.node(started % 3), &format!("{round} {started}")).await;
            }
        }
    }
    for asked in 0..3 {
        let node = cluster.node(asked);
        let page = node.list(namespace(node), String::new(), 1000, Vec::new()).await.expect("lists");
        assert_eq!(page.executions.len(), started.min(1000));
    }
    agree(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_differs_is_found_and_rebuilt() {
    let cluster = Cluster::new(3).await;
    // So many that each of the four shards has some, wherever the namespace's id puts them: 20 leave one without in one run of 80.
    for number in 0..100 {
        start_workflow(cluster.node(number % 3), &format!("w{number}")).await;
    }
    agree(&cluster).await;
    for at in 0..3 {
        // A byte of some row of each shard is another, here only.
        let state = &cluster.hosts[at].state;
        for group in 1..5_u32 {
            let (mut changed, from) = (None, [&group.to_be_bytes()[..], &[1]].concat());
            let to = [&group.to_be_bytes()[..], &[2]].concat();
            let scanned = state.scan(&from, &to, &mut |key, value| {
                let mut value = value.to_vec();
                value.push(0);
                changed = Some((key.to_vec(), value));
                false
            });
            scanned.expect("memory is readable");
            let (key, value) = changed.expect("there are rows");
            let mut batch = StateBatch::new();
            batch.put(key, value);
            state.write(batch).expect("writes");
        }
        agree(&cluster).await;
    }
    for asked in 0..3 {
        assert_eq!(events(cluster.node(asked), "w7").await, 2);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_says_so_soon() {
    let mut cluster = Cluster::new(3).await;
    start_workflow(cluster.node(0), "w").await;
    cluster.kill(1).await;
    cluster.kill(2).await;
    let node = cluster.node(0);
    let begun = Instant::now();
    let described = node.describe(namespace(node), execution("w")).await;
    let took = begun.elapsed();
    assert!(
        matches!(&described, Err(mainstay_engine::Error::Unavailable(said)) if said.contains("majority")),
        "{described:?}"
    );
    assert!(took < Duration::from_secs(6), "it took {took:?}");
    cluster.restart(1).await;
    assert_eq!(events(cluster.node(0), "w").await, 2);
    cluster.stop().await;
}
