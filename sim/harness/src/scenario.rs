//! Scenarios: what is started, what breaks, and what must hold in the end.
//!
//! The seed decides twice: a generator of its own draws the shape of a scenario (workflows, crashes), so that the shape does not
//! depend on how tasks interleave; everything else is drawn by the world as it goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
use mainstay_base::Prng;
use mainstay_node::Config;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{Crash, Handle, NodeHandle, Outcome, Settings, SimRuntime, run, set_clock, trace};

use crate::client::{Client, decode, text};
use crate::history;
use crate::ledger::Ledger;
use crate::node::SimNode;
use crate::plan::Plan;
use crate::worker;

/// After the last fault, everything completes within this time.
const PATIENCE: Duration = Duration::from_secs(180);

/// The scenarios by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// One node, one workflow with an activity and a timer, one crash.
    Smallest,
    /// One node, some workflows and signals, crashes at drawn moments.
    Crashes,
    /// As `crashes`, on a disk that does not sync. It must fail: a simulator that cannot tell would be of no use.
    LyingDisk,
}

/// What a scenario came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Workflows that completed.
    pub workflows: usize,
    /// Events in their histories.
    pub events: usize,
    /// Crashes on the way.
    pub crashes: usize,
}

/// A crash, after a pause since the last one.
#[derive(Clone, Copy, Debug)]
struct Outage {
    after: Duration,
    down: Duration,
    crash: Crash,
}

#[derive(Clone, Debug)]
struct Shape {
    shards: u32,
    plans: Vec<Plan>,
    signals: u64,
    pollers: usize,
    outages: Vec<Outage>,
    clock_offset_nanos: i64,
    loss: f64,
    lying_disk: bool,
}

impl Shape {
    fn draw(scenario: Scenario, seed: u64) -> Self {
        let mut prng = Prng::new(u128::from(seed));
        let outage = |prng: &mut Prng, longest: u64| Outage {
            after: Duration::from_micros(1 + prng.below(longest * 1000)),
            down: Duration::from_millis(1 + prng.below(3000)),
            crash: if prng.below(2) == 0 { Crash::Power } else { Crash::Process },
        };
        match scenario {
            Scenario::Smallest => Self {
                shards: 4,
                plans: vec!["a300f0;t2000".parse().unwrap_or(Plan(Vec::new()))],
                signals: 0,
                pollers: 1,
                outages: vec![outage(&mut prng, 2500)],
                clock_offset_nanos: 0,
                loss: 0.0,
                lying_disk: false,
            },
            Scenario::Crashes | Scenario::LyingDisk => Self {
                shards: 1 + prng.below(4) as u32,
                plans: (0..1 + prng.below(12)).map(|_| Plan::draw(&mut prng)).collect(),
                signals: prng.below(20),
                pollers: 1 + prng.below(4) as usize,
                outages: (0..1 + prng.below(5)).map(|_| outage(&mut prng, 6000)).collect(),
                clock_offset_nanos: prng.below(400_000_000) as i64 - 200_000_000,
                loss: if prng.below(4) == 0 { 0.01 } else { 0.0 },
                lying_disk: scenario == Scenario::LyingDisk,
            },
        }
    }
}

/// Plays a scenario with a seed.
#[must_use]
pub fn play(scenario: Scenario, seed: u64, print: bool) -> Outcome<Report> {
    let shape = Shape::draw(scenario, seed);
    let settings = Settings { print, loss: shape.loss, ..Settings::new(seed) };
    run(&settings, move || cluster(shape))
}

async fn cluster(shape: Shape) -> Report {
    trace::event(format!("{} workflows, {} outages, {} shards", shape.plans.len(), shape.outages.len(), shape.shards));
    let cluster_id = "00000000-0000-4000-8000-000000000001".into();
    let node = SimNode::boot(1, Config { cluster_id, shards: shape.shards, ..Config::default() });
    set_clock(node.handle.id(), shape.clock_offset_nanos, 0);
    if shape.lying_disk {
        node.disk.lie();
    }
    let handle = Handle::current();
    let machine = |name: &str, last: u8| handle.create_node().name(name).ip([10, 0, 1, last].into()).build();
    let (workers, clients) = (machine("workers", 1), machine("clients", 2));
    let ledger = Arc::new(Ledger::default());
    worker::start(&workers, node.address, "worker", shape.pollers, &ledger);
    let client = Client::new(node.address, "client");
    let running: Vec<_> = (0..).zip(shape.plans.clone()).map(|(n, plan)| launch(&clients, &client, n, plan)).collect();
    let signals = clients.spawn(signal(client.clone(), shape.signals, shape.plans.len() as u64, ledger.clone()));
    for outage in &shape.outages {
        SimRuntime::sleep(outage.after).await;
        node.crash(outage.crash);
        SimRuntime::sleep(outage.down).await;
        node.restart().await;
    }
    trace::event("no more faults");
    let mut executions = Vec::new();
    for (workflow, plan) in running.into_iter().zip(&shape.plans) {
        let done = SimRuntime::timeout(PATIENCE, workflow).await;
        let Ok(done) = done else { panic!("a workflow did not complete: {plan}") };
        executions.push(done.expect("the client lives"));
    }
    let _ = SimRuntime::timeout(PATIENCE, signals).await;
    let histories = settle(&clients, &client, &ledger, &executions, &shape.plans).await;
    // What was shown is still there after another power loss.
    node.crash(Crash::Power);
    node.restart().await;
    let again = settle(&clients, &client, &ledger, &executions, &shape.plans).await;
    assert!(histories == again, "histories changed over a crash");
    let events = histories.iter().map(Vec::len).sum();
    Report { workflows: executions.len(), events, crashes: shape.outages.len() + 1 }
}

type Running = <SimRuntime as AsyncRuntime>::JoinHandle<WorkflowExecution>;

/// Starts a workflow and waits for its end.
fn launch(clients: &NodeHandle, client: &Client, number: u64, plan: Plan) -> Running {
    let client = client.clone();
    clients.spawn(async move {
        // Workflows start one after another, into the faults.
        SimRuntime::sleep(Duration::from_millis(200 * number)).await;
        let workflow_id = workflow_id(number);
        let started = client.start(&workflow_id, &plan).await;
        let run_id = started.unwrap_or_else(|status| panic!("{workflow_id} was refused: {status:?}"));
        let execution = WorkflowExecution { workflow_id: workflow_id.clone(), run_id };
        let event = client.close_event(&execution).await;
        let event = event.unwrap_or_else(|status| panic!("{workflow_id}: no close event: {status:?}"));
        match event.attributes.as_ref() {
            Some(Event::WorkflowExecutionCompletedEventAttributes(it)) => {
                assert_eq!(text(it.result.as_ref()), plan.result(), "{workflow_id} has another result");
            }
            other => panic!("{workflow_id} ended with {other:?}"),
        }
        trace::event(format!("{workflow_id}: completed"));
        execution
    })
}

fn workflow_id(number: u64) -> String {
    format!("workflow-{number}")
}

/// Signals drawn workflows; those that are over or not begun refuse.
async fn signal(client: Client, count: u64, workflows: u64, ledger: Arc<Ledger>) {
    for number in 0..count {
        SimRuntime::sleep(Duration::from_millis(mainstay_sim_runtime::draw(1..1000))).await;
        let workflow_id = workflow_id(mainstay_sim_runtime::draw(0..workflows));
        let name = format!("signal-{number}");
        match client.signal(&workflow_id, &name).await {
            Ok(()) => ledger.signaled(&workflow_id, &name),
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => panic!("{name} to {workflow_id}: {status:?}"),
        }
    }
}

/// Reads everything back from a client's machine and checks it; answers the encoded histories.
async fn settle(
    clients: &NodeHandle,
    client: &Client,
    ledger: &Arc<Ledger>,
    executions: &[WorkflowExecution],
    plans: &[Plan],
) -> Vec<Vec<Bytes>> {
    let (client, ledger) = (client.clone(), ledger.clone());
    let (executions, plans) = (executions.to_vec(), plans.to_vec());
    let reading = clients.spawn(async move {
        let mut histories = Vec::new();
        for (execution, plan) in executions.iter().zip(&plans) {
            histories.push(check_run(&client, &ledger, execution, plan).await);
        }
        check_lists(&client, executions.len()).await;
        histories
    });
    match SimRuntime::timeout(PATIENCE, reading).await {
        Ok(histories) => histories.expect("the client lives"),
        Err(_) => panic!("histories could not be read"),
    }
}

async fn check_run(client: &Client, ledger: &Ledger, execution: &WorkflowExecution, plan: &Plan) -> Vec<Bytes> {
    let raw = client.history(execution).await;
    let raw = raw.unwrap_or_else(|status| panic!("the history of {execution:?}: {status:?}"));
    let events = decode(Some(&RawHistory { events: raw.clone() }));
    let offence = history::check(&events).and_then(|()| ledger.check(execution, &raw, &events));
    if let Err(offence) = offence {
        for event in &events {
            trace::event(format!("{} {:?} {:?}", event.event_id, event.event_type(), event.attributes));
        }
        panic!("{execution:?} ({plan}): {offence}");
    }
    let described = client.describe(execution).await;
    let described = described.unwrap_or_else(|status| panic!("describe {execution:?}: {status:?}"));
    assert!(described.pending_activities.is_empty(), "{execution:?} is closed and has pending activities");
    let info = described.workflow_execution_info.unwrap_or_default();
    assert_eq!(info.status(), WorkflowExecutionStatus::Completed, "{execution:?}");
    assert_eq!(info.history_length, events.len() as i64, "length of the history of {execution:?}");
    raw
}

/// Lists and counts follow the histories; they may be a moment behind.
async fn check_lists(client: &Client, workflows: usize) {
    for (query, expected) in
        [("", workflows), ("ExecutionStatus = 'Completed'", workflows), ("ExecutionStatus = 'Running'", 0)]
    {
        for attempt in 0.. {
            let found = client.count(query).await.unwrap_or_else(|status| panic!("{query:?}: {status:?}"));
            if found == (expected as i64, expected) {
                break;
            }
            assert!(attempt < 20, "{query:?} finds {found:?} instead of {expected}");
            SimRuntime::sleep(Duration::from_millis(200)).await;
        }
    }
}
