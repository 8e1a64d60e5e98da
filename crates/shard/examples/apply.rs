//! Log entries per second that one shard applies, on one core over a state in memory, with the digest of its rows.
//!
//! ```text
//! cargo run --release -p mainstay-shard --example apply [-- --smoke]
//! ```
//! Beside the engine's work this counts what a log costs: decoding entries, keys, indexes, one batch of rows for some entries. The
//! entries are worked out by a conversation with one shard, and applied to another: only that is measured.

#[path = "../../engine/examples/conversation/mod.rs"]
#[allow(dead_code)]
mod conversation;

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::{Command, Entry, PutNamespace, Reply, command::Op};
use mainstay_api::record::TaskRow;
use mainstay_shard::{Effect, Shard, command_id};
use mainstay_storage::MemoryState;
use prost::Message;

use conversation::{Partner, Step, Talk, namespace, processor_time};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Workflows whose entries are applied before the shard is emptied.
const TOGETHER: usize = 500;
/// Entries in one batch, as under load.
const BATCH: usize = 16;

/// The shard that a conversation is with.
struct Partnered(Shard);

fn fresh() -> Shard {
    let shard = Shard::new(1, Arc::new(MemoryState::default()));
    let op = Op::PutNamespace(PutNamespace { namespace: Some(namespace()) });
    let step = Step { log_index: 1, command: Command { op: Some(op), ..Command::default() } };
    shard.apply(&[encoded(&step)], mark(&step)).expect("memory does not fail");
    shard
}

fn encoded(step: &Step) -> (u64, Bytes) {
    let (seed_high, seed_low) = step.seed();
    let entry = Entry {
        command_id: command_id(step.now_ns(), step.log_index),
        now_ns: step.now_ns(),
        seed_high,
        seed_low,
        version: 1,
        command: Some(step.command.clone()),
        ..Entry::default()
    };
    (step.log_index, entry.encode_to_vec().into())
}

/// The position that is stored with a batch.
fn mark(step: &Step) -> Bytes {
    Bytes::copy_from_slice(&step.log_index.to_be_bytes())
}

impl Partner for Partnered {
    fn apply(&mut self, step: &Step) -> (Reply, Vec<TaskRow>) {
        let applied = self.0.apply(&[encoded(step)], mark(step)).expect("memory does not fail");
        let applied = applied.into_iter().next().expect("one entry, one outcome");
        let added = applied.effects.into_iter().filter_map(|effect| match effect {
            Effect::TaskAdded(row) => Some(row),
            _ => None,
        });
        (applied.reply.expect("accepted"), added.collect())
    }
}

fn main() {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let count = if smoke { 1_000 } else { 20_000 };
    let (mut entries, mut seconds, mut digest) = (0, 0.0, 0);
    for first in (0..count).step_by(TOGETHER) {
        let mut talk = Talk::new(Partnered(fresh()), first as u64 * 7 + 1);
        (first..first + TOGETHER).for_each(|at| talk.short_workflow(&format!("wf-{at}")));
        let log: Vec<(u64, Bytes)> = talk.steps.iter().map(encoded).collect();
        let last = talk.steps.last().map(mark).unwrap_or_default();
        let shard = fresh();
        let began = processor_time();
        for batch in log.chunks(BATCH) {
            shard.apply(batch, last.clone()).expect("memory does not fail");
        }
        seconds += (processor_time() - began).as_secs_f64();
        entries += log.len();
        let made = shard.digest().expect("memory does not fail");
        assert_eq!(made, talk.partner.0.digest().expect("memory does not fail"), "other batches gave other rows");
        digest ^= made;
    }
    let each = seconds * 1e6 / entries as f64;
    println!(
        "short workflows: {entries} entries, {:.0} per second, {each:.2} us each, digest {digest:016x}",
        entries as f64 / seconds
    );
}
