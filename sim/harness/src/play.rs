//! One run from its boot to its verdict.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{Crash, Outcome, SimRuntime, fatals, run, trace};

use crate::client::Client;
use crate::coverage;
use crate::decide::Progress;
use crate::fault::Kind;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::operation::Operation;
use crate::oracle::{self, Run};
use crate::performer::Performer;
use crate::plan::Plan;
use crate::shape::Shape;
use crate::violation::{Invariant, hold, violated};
use crate::wire_mutant;
use crate::world::World;

/// After the last fault, everything completes within this time.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Runs of workflows.
    pub runs: usize,
    /// Events in their histories.
    pub events: usize,
    /// Tries of client operations.
    pub tries: usize,
    /// Faults on the way.
    pub faults: usize,
    /// Whether a node refused to go on with what was damaged.
    pub stopped: bool,
    /// Which faults met which capabilities.
    pub coverage: coverage::Table,
}

/// Plays a shape.
#[must_use]
pub fn play(shape: &Shape, print: bool) -> Outcome<Report> {
    let shape = shape.clone();
    let mut outcome = run(&shape.settings(print), {
        let shape = shape.clone();
        move || cluster(shape)
    });
    if outcome.result.is_ok()
        && let Some(needless) = outcome.fatals.iter().find_map(|fatal| needless(&shape, &fatal.reason))
    {
        outcome.result = Err(needless);
    }
    outcome
}

/// A node may stop itself when its disk fails, and only then.
fn needless(shape: &Shape, reason: &str) -> Option<String> {
    let failing = shape.faults.iter().any(|fault| matches!(fault.kind, Kind::DiskError(_)));
    if reason.contains("the store is full") {
        return Some(format!("[{}] {reason}", Invariant::FullDiskRefuses));
    }
    let excused = (failing && reason.contains("the medium does not answer"))
        || (shape.beyond && reason.contains("checksum"))
        // A task of a process that is dead already.
        || reason.contains("the process that opened this store is dead");
    (!excused).then(|| format!("[{}] {reason}", Invariant::NoNeedlessStop))
}

async fn cluster(shape: Shape) -> Report {
    let Shape { shards, clients, .. } = &shape;
    trace::event(format!("{} operations, {} faults, {shards} shards", shape.operations.len(), shape.faults.len()));
    wire_mutant::choose(shape.mutant);
    let ledger = Arc::new(Ledger::default());
    ledger.promises().tolerance = oracle::never_early::TOLERANCE + shape.believed_jump();
    let journal = Arc::new(Journal::default());
    let world = World::boot(&shape, &ledger);
    let addresses = world.addresses();
    let mut working = Vec::new();
    for number in 0..*clients {
        let own: Vec<Operation> = shape.operations.iter().filter(|it| it.client == number).cloned().collect();
        let performer = Performer::new(&addresses, number, &journal, &ledger);
        working.push(world.clients.spawn(performer.perform(own)));
    }
    join_all(shape.faults.iter().map(|fault| fault.strike(&world))).await;
    trace::event("no more faults");
    let mut report = Report { faults: shape.faults.len(), ..Report::default() };
    let done = async {
        for client in working {
            client.await.expect("the client lives");
        }
        settle(&world).await
    };
    let Some(mut runs) = patiently(&shape, done).await else {
        report.stopped = true;
        report.coverage = coverage::take();
        return report;
    };
    verify(&world, &ledger, &journal, &runs).await;
    // What was shown is still there after another power loss.
    for node in &world.nodes {
        node.crash(Crash::Power);
        node.restart().await;
    }
    let Some(mut again) = patiently(&shape, settle(&world)).await else {
        report.stopped = true;
        report.coverage = coverage::take();
        return report;
    };
    runs.sort_by(|a, b| a.execution.run_id.cmp(&b.execution.run_id));
    again.sort_by(|a, b| a.execution.run_id.cmp(&b.execution.run_id));
    let same = runs.len() == again.len() && runs.iter().zip(&again).all(|(a, b)| a.raw == b.raw);
    hold(same, Invariant::NothingForgotten, || "histories changed over a power loss".into());
    report.runs = runs.len();
    report.events = runs.iter().map(|run| run.events.len()).sum();
    report.tries = journal.all().len();
    report.coverage = coverage::take();
    report
}

/// Waits, but not for ever. None if a node refuses to go on and may.
async fn patiently<T>(shape: &Shape, work: impl Future<Output = T>) -> Option<T> {
    let (work, patience) = (pin!(work), pin!(SimRuntime::sleep(PATIENCE)));
    if let Either::Left((done, _)) = select(work, patience).await {
        return Some(done);
    }
    let last = fatals().pop();
    // What is damaged may stay out of reach for ever.
    if shape.beyond {
        return None;
    }
    violated(Invariant::EverythingCompletes, format!("not everything completed; the last stop: {last:?}"))
}

/// Waits until nothing is open, and reads every history.
async fn settle(world: &World) -> Vec<Run> {
    let client = Client::new(&world.addresses(), 0, "reader");
    let reading = world.clients.spawn(async move {
        let mut told = 0;
        loop {
            let open = client.list("ExecutionStatus = 'Running'").await;
            let open = open.unwrap_or_else(|status| panic!("a list was refused: {status:?}"));
            if open.is_empty() {
                break;
            }
            told += 1;
            if told % 60 == 0 {
                trace::event(format!("still open: {:?}", open.iter().map(|it| &it.execution).collect::<Vec<_>>()));
            }
            SimRuntime::sleep(Duration::from_millis(500)).await;
        }
        let mut runs = Vec::new();
        for listed in listed(&client).await {
            let execution = listed.execution.unwrap_or_default();
            let raw = client.history(&execution).await;
            let raw = raw.unwrap_or_else(|status| panic!("the history of {execution:?}: {status:?}"));
            runs.push(Run::of(execution, raw));
        }
        runs
    });
    reading.await.expect("the reader lives")
}

async fn listed(client: &Client) -> Vec<WorkflowExecutionInfo> {
    client.list("").await.unwrap_or_else(|status| panic!("a list was refused: {status:?}"))
}

/// Asks every oracle.
async fn verify(world: &World, ledger: &Arc<Ledger>, journal: &Arc<Journal>, runs: &[Run]) {
    for run in runs {
        if let Err(offence) = oracle::event_grammar::check(&run.events) {
            show(run);
            violated(Invariant::EventGrammar, format!("{:?}: {offence}", run.execution));
        }
        result_follows_history(run);
    }
    oracle::acknowledged_effects::check(ledger, &journal.all(), runs);
    oracle::linearizable::check(&journal.all(), runs);
    let client = Client::new(&world.addresses(), 0, "reader");
    let copies = runs.to_vec();
    let checking = world.clients.spawn(async move {
        let listed = listed(&client).await;
        oracle::lists_follow_histories::check(&client, &listed, &copies).await;
    });
    checking.await.expect("the reader lives");
    oracle::replicas_agree::check(&world.nodes, world.groups).await;
    for node in &world.nodes {
        let scanned = oracle::state_follows_history::check(&node.disk, world.groups);
        hold(scanned == runs.len(), Invariant::ListsFollowHistories, || {
            format!("{}: {scanned} runs are stored and {} listed", node.name, runs.len())
        });
    }
}

fn show(run: &Run) {
    for event in &run.events {
        trace::event(format!("{} {:?} {:?}", event.event_id, event.event_type(), event.attributes));
    }
}

/// An activity answered what it always answers, and the result is what the activities answered.
fn result_follows_history(run: &Run) {
    use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
    let progress = Progress::of(&run.events);
    for (id, answer) in progress.answers() {
        hold(answer == Plan::answer(id), Invariant::ResultFollowsHistory, || {
            format!("activity {id} of {:?} answered {answer}", run.execution)
        });
    }
    if let Some(Event::WorkflowExecutionCompletedEventAttributes(it)) =
        run.events.last().and_then(|event| event.attributes.as_ref())
    {
        let result = crate::client::text(it.result.as_ref());
        hold(result == progress.result(), Invariant::ResultFollowsHistory, || {
            format!("{:?} has the result {result} instead of {}", run.execution, progress.result())
        });
    }
}
