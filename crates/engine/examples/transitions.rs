//! Transitions per second of the engine alone, on one core over rows in memory, with a digest of all rows written.
//!
//! ```text
//! cargo run --release -p mainstay-engine --example transitions [-- --smoke]
//! ```
//! Commands are first worked out by a conversation with the engine, as clients and workers would hold it, and then applied again to
//! equal rows: only that is measured, and it must give equal rows. Besides the throughput of short workflows it prints how the
//! cost of a transition grows with the length of a history and with the number of pending activities: it should not.

mod conversation;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::Reply;
use mainstay_api::record::{EntityMessage, MessageOutcome, NamespaceRecord, TaskRow, TimerRow};
use mainstay_base::{RunId, Timestamp};
use mainstay_engine::{Change, Context, EntityKey, Fault, MessageId, Outcome, Row, Store, Table, apply};
use xxhash_rust::xxh3::Xxh3;

use conversation::{Partner, Step, activity, marker, namespace, processor_time};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Workflows that are in memory together: few, so that this measures the engine and not the memory.
const TOGETHER: usize = 20;
/// Started, completed, marker, scheduled.
const EVENTS_PER_TURN: usize = 4;
const TURNS: usize = 300;
/// Parts that are measured on their own.
const PARTS: usize = 10;

/// Microseconds for each transition: of all, and of the part that was least disturbed by what else the machine does.
struct Cost {
    mean: f64,
    best: f64,
}

type Talk = conversation::Talk<Rows>;
type EntityRows = BTreeMap<Row, Bytes>;

/// The rows of all workflows. Index rows are the shard's concern and are not kept.
#[derive(Clone)]
struct Rows {
    entities: HashMap<String, EntityRows>,
    namespace: Arc<NamespaceRecord>,
}

/// What the engine sees of one workflow.
struct View<'a> {
    rows: &'a EntityRows,
    namespace: &'a Arc<NamespaceRecord>,
}

impl Store for View<'_> {
    fn get(&self, _: &EntityKey, row: &Row) -> Result<Option<Bytes>, Fault> {
        Ok(self.rows.get(row).cloned())
    }

    fn scan(
        &self,
        _: &EntityKey,
        table: Table,
        run: Option<RunId>,
        from: &[u8],
        visit: &mut dyn FnMut(&[u8], Bytes) -> bool,
    ) -> Result<(), Fault> {
        let first = Row { table, run, id: from.to_vec() };
        for (row, value) in self.rows.range(first..) {
            if row.table != table || row.run != run || !visit(&row.id, value.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn namespace(&self, _: &str) -> Result<Option<Arc<NamespaceRecord>>, Fault> {
        Ok(Some(Arc::clone(self.namespace)))
    }

    fn has_timer(&self, _: &TimerRow) -> Result<bool, Fault> {
        Ok(false)
    }

    fn message(&self, _: MessageId) -> Result<Option<EntityMessage>, Fault> {
        Ok(None)
    }

    fn outcome(&self, _: MessageId) -> Result<Option<MessageOutcome>, Fault> {
        Ok(None)
    }

    fn floor(&self, _: u16) -> Result<u64, Fault> {
        Ok(0)
    }
}

impl Partner for Rows {
    /// One transition: the engine's work, and its rows written.
    fn apply(&mut self, step: &Step) -> (Reply, Vec<TaskRow>) {
        let workflow_id = &step.command.workflow_id;
        if !self.entities.contains_key(workflow_id) {
            self.entities.insert(workflow_id.clone(), EntityRows::new());
        }
        let rows = self.entities.get_mut(workflow_id).expect("just added");
        let (high, low) = step.seed();
        let context = Context {
            now: Timestamp::from_nanos(step.now_ns()),
            seed: u128::from(high) << 64 | u128::from(low),
            log_index: step.log_index,
            version: 1,
            ..Context::default()
        };
        let view = View { rows, namespace: &self.namespace };
        let Outcome { reply, changes, .. } = apply(&context, &view, &step.command).expect("memory does not fail");
        let mut offered = Vec::new();
        for change in changes {
            match change {
                Change::Put { row, value, .. } => drop(rows.insert(row, value)),
                Change::Delete { row, .. } => drop(rows.remove(&row)),
                Change::AddTask(row) => offered.push(row),
                _ => {}
            }
        }
        (reply.expect("accepted"), offered)
    }
}

impl Rows {
    fn new() -> Self {
        Self { entities: HashMap::new(), namespace: Arc::new(namespace()) }
    }

    /// Measures these steps, in parts.
    fn measure(&mut self, steps: &[Step]) -> Cost {
        let mut cost = Cost { mean: 0.0, best: f64::MAX };
        for part in steps.chunks(steps.len().div_ceil(PARTS)) {
            let began = processor_time();
            for step in part {
                self.apply(step);
            }
            let micros = (processor_time() - began).as_secs_f64() * 1e6;
            cost.mean += micros / steps.len() as f64;
            cost.best = cost.best.min(micros / part.len() as f64);
        }
        cost
    }

    fn digest(&self, hash: &mut Xxh3) {
        let ordered: BTreeMap<_, _> = self.entities.iter().collect();
        for (row, value) in ordered.into_values().flatten() {
            hash.update(&[row.table as u8]);
            hash.update(&row.id);
            hash.update(value);
        }
    }
}

/// Measures what is said, on rows as they are before.
fn measured(talk: &mut Talk, say: impl FnOnce(&mut Talk)) -> Cost {
    let mut rows = talk.partner.clone();
    talk.steps.clear();
    say(talk);
    let cost = rows.measure(&talk.steps);
    assert!(rows.entities == talk.partner.entities, "the same commands gave other rows");
    cost
}

/// Workflows of one activity: seven transitions each.
fn short_workflows(count: usize) {
    let (mut hash, mut transitions, mut micros, mut best) = (Xxh3::new(), 0, 0.0, f64::MAX);
    for first in (0..count).step_by(TOGETHER) {
        let mut talk = Talk::new(Rows::new(), first as u64 * 7);
        let cost = measured(&mut talk, |talk| {
            (first..first + TOGETHER).for_each(|at| talk.short_workflow(&format!("wf-{at}")));
        });
        talk.partner.digest(&mut hash);
        transitions += talk.steps.len();
        micros += cost.mean * talk.steps.len() as f64;
        best = best.min(cost.best);
    }
    let (each, digest) = (micros / transitions as f64, hash.digest());
    let (all, undisturbed) = (1e6 / each, 1e6 / best);
    println!("short workflows: {transitions} transitions, {each:.2} us each, {all:.0} per second");
    println!(
        "the least disturbed of them: {best:.2} us each, {undisturbed:.0} per second; digest of all rows {digest:016x}"
    );
}

/// A cost as a multiple of the first of its series.
fn grown(first: &mut f64, each: f64) -> f64 {
    if *first == 0.0 {
        *first = each;
    }
    each / *first
}

/// One run whose history grows: each task leaves a marker and asks for another.
fn long_history(targets: &[usize]) {
    let mut talk = Talk::new(Rows::new(), 0);
    talk.start("wf");
    let (mut first, mut events) = (0.0, 2);
    let mut turns = |talk: &mut Talk, count: usize| {
        for _ in 0..count {
            talk.poll();
            talk.complete("wf", vec![marker()]);
            events += EVENTS_PER_TURN;
        }
        events
    };
    for &target in targets {
        while turns(&mut talk, 1) < target {
            talk.steps.clear();
        }
        let each = measured(&mut talk, |talk| {
            turns(talk, TURNS);
        })
        .best;
        let growth = grown(&mut first, each);
        println!("history of {target} events: {each:.2} us each, {growth:.2} times the first");
    }
}

/// Many activities pending in one run: the cost of running one more.
fn many_pending(counts: &[usize]) {
    let mut first = 0.0;
    for &pending in counts {
        let mut talk = Talk::new(Rows::new(), 0);
        talk.start("wf");
        talk.poll();
        talk.complete("wf", (0..pending).map(activity).collect());
        let each = measured(&mut talk, |talk| {
            for at in 0..TURNS {
                talk.run_activity();
                talk.poll();
                talk.complete("wf", vec![activity(10_000 + at)]);
            }
        })
        .best;
        let growth = grown(&mut first, each);
        println!("{pending} pending activities: {each:.2} us each, {growth:.2} times the first");
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--smoke") {
        short_workflows(2_000);
        long_history(&[10, 5_000]);
        many_pending(&[1, 1_000]);
        return;
    }
    short_workflows(20_000);
    long_history(&[10, 1_000, 10_000, 50_000]);
    many_pending(&[1, 10, 100, 1_000, 2_000]);
}
