//! One run from its boot to its verdict.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use mainstay_runtime::{AsyncRuntime, Runtime};
use mainstay_sim_node::SimNode;
use mainstay_sim_runtime::{Crash, Outcome, Settings, SimRuntime, fatals, run, trace};

use crate::client::Client;
use crate::coverage;
use crate::fault::Kind;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::operation::Operation;
use crate::oracle::{self, Run};
use crate::performer::Performer;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::settle::{End, go_on, listed, settle};
use crate::shape::Shape;
use crate::violation::{Invariant, hold, violated};
use crate::wire_mutant;
use crate::world::World;

/// After the last fault, everything completes within this time; later by as much as a clock was ahead, since what was dated by it waits.
const PATIENCE: Duration = Duration::from_secs(240);
/// What is paused when clients have worked for so long after the last fault goes on.
const GOES_ON_AFTER: Duration = Duration::from_secs(60);

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

impl Report {
    /// Of a run that ends here, as a node refuses to go on.
    fn stopped(self) -> Self {
        Self { stopped: true, coverage: coverage::take(), ..self }
    }
}

/// Plays a shape.
#[must_use]
pub fn play(shape: &Shape, print: bool) -> Outcome<Report> {
    play_with(shape, print, false)
}

/// Plays a shape, and keeps what travelled on the network if it is told to.
#[must_use]
pub fn play_with(shape: &Shape, print: bool, messages: bool) -> Outcome<Report> {
    let shape = shape.clone();
    let settings = Settings { messages, ..shape.settings(print) };
    let mut outcome = run(&settings, {
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
    SimRuntime::sleep(shape.rest).await;
    trace::event("no more faults");
    ledger.promises().quiet_since = SimRuntime::wall_clock();
    let mut report = Report { faults: shape.faults.len(), ..Report::default() };
    let done = async {
        let mut clients = pin!(join_all(working));
        // An update of a workflow that is paused waits, and its client with it.
        let ended = match SimRuntime::timeout(GOES_ON_AFTER, &mut clients).await {
            Ok(ended) => ended,
            Err(_) => {
                go_on(&world, &ledger).await;
                clients.await
            }
        };
        ended.into_iter().for_each(|client| client.expect("the client lives"));
        trace::event("all clients are done");
        settle(&world, &ledger).await
    };
    let Some(mut end) = patiently(&shape, done).await else {
        return report.stopped();
    };
    if verify(&shape, &world, &ledger, &journal, &end).await.is_none() {
        return report.stopped();
    }
    // What was shown is still there after another power loss.
    for node in world.nodes.iter().filter(|node| node.is_up()) {
        node.crash(Crash::Power);
        node.restart().await;
    }
    let Some(again) = patiently(&shape, settle(&world, &ledger)).await else {
        return report.stopped();
    };
    let (runs, mut again) = (std::mem::take(&mut end.runs), again.runs);
    again.sort_by(|a, b| a.execution.run_id.cmp(&b.execution.run_id));
    let mut before: Vec<&Run> = runs.iter().collect();
    before.sort_by(|a, b| a.execution.run_id.cmp(&b.execution.run_id));
    let same = before.len() == again.len() && before.iter().zip(&again).all(|(a, b)| a.raw == b.raw);
    hold(same, Invariant::NothingForgotten, || "histories changed over a power loss".into());
    report.runs = runs.len();
    report.events = runs.iter().map(|run| run.events.len()).sum();
    report.tries = journal.all().len();
    report.coverage = coverage::take();
    report
}

/// Waits, but not for ever. None if a node refuses to go on and may.
async fn patiently<T>(shape: &Shape, work: impl Future<Output = T>) -> Option<T> {
    let (work, patience) = (pin!(work), pin!(SimRuntime::sleep(PATIENCE + shape.ahead())));
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

/// Asks every oracle. None if a node refuses to go on when lists are read from it, and may.
async fn verify(shape: &Shape, world: &World, ledger: &Arc<Ledger>, journal: &Arc<Journal>, end: &End) -> Option<()> {
    let runs = &end.runs[..];
    for run in runs {
        if let Err(offence) = oracle::event_grammar::check(&run.events) {
            show(run);
            violated(Invariant::EventGrammar, format!("{:?}: {offence}", run.execution));
        }
        result_follows_history(run);
    }
    oracle::acknowledged_effects::check(ledger, &journal.all(), runs);
    oracle::linearizable::check(&journal.all(), runs);
    // Servers whose clocks jumped tell other times.
    let quiet_since = ledger.promises().quiet_since;
    let told = ledger.promises().tolerance == oracle::never_early::TOLERANCE;
    oracle::children::check(runs, told.then_some(quiet_since));
    oracle::external::check(runs);
    oracle::chains::check(ledger, runs);
    oracle::updates::check(ledger, runs);
    let apart = if world.nodes.len() > 1 { ledger.promises().tolerance } else { Duration::ZERO };
    oracle::schedules::check(ledger, runs, apart);
    oracle::jobs::check(&end.jobs, runs, told);
    let client = Client::new(&world.addresses(), 0, "reader");
    let copies = runs.to_vec();
    let checking = world.clients.spawn(async move {
        let listed = listed(&client).await;
        oracle::lists_follow_histories::check(&client, &listed, &copies).await;
    });
    patiently(shape, checking).await?.expect("the reader lives");
    let nodes: Vec<&SimNode> = world.nodes.iter().filter(|node| node.is_up()).collect();
    oracle::replicas_agree::check(&nodes, world.groups()).await;
    nodes.iter().for_each(|node| oracle::slots::check(ledger, node, world.shards));
    let mut stored = 0;
    for group in 1..world.groups() {
        let holders = oracle::replicas_agree::holders(group, &nodes);
        let scanned: Vec<_> =
            holders.iter().map(|node| oracle::state_follows_history::check(&node.disk, group)).collect();
        // They are equal, as was just shown.
        stored += scanned.first().copied().unwrap_or_default();
    }
    hold(stored == runs.len(), Invariant::ListsFollowHistories, || {
        format!("{stored} runs are stored and {} listed", runs.len())
    });
    Some(())
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
