//! What is read back from disks and heard from peers: a checksum stands before each, and still no parser may fall over.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::{Command, Entry, PutNamespace, StartWorkflow, command::Op};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::WorkflowType;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_consensus::parsers;
use mainstay_shard::{ListSpace, Shard};
use mainstay_storage::{MemoryState, StateBatch, StateStore, StateView, StorageError};
use prost::Message;

use super::{Target, shape};

fn said<T>(answer: Result<T, StorageError>) -> String {
    answer.map_or_else(|error| shape(&error.to_string()), |_| "whole".into())
}

/// Log entries, votes, log ids and marks, as the consensus layer keeps them; and frames and calls of peers.
pub struct Entries;

impl Target for Entries {
    fn name(&self) -> &'static str {
        "log-record"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut blank = vec![1];
        blank.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
        let kinds = [&[0][..], &[1, 7, 7], &[2, 0, 0, 0, 1]];
        kinds.iter().map(|kind| [blank.as_slice(), kind].concat()).collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let bytes = Bytes::copy_from_slice(input);
        let answers: Vec<String> = parsers::all().iter().map(|(_, parse)| said(parse(bytes.clone()))).collect();
        if let Ok(entry) = Entry::decode(input) {
            let _ = format!("{entry:?}");
        }
        Ok(answers.join("; "))
    }
}

/// A shard in which one row is garbage: two bytes choose the row, the rest takes the place of its value.
pub struct Records;

impl Target for Records {
    fn name(&self) -> &'static str {
        "state-record"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let rows = rows(&filled());
        let seed = |(number, (_, value)): (usize, &(Vec<u8>, Vec<u8>))| {
            [&(number as u16).to_be_bytes()[..], value.as_slice()].concat()
        };
        rows.iter().enumerate().map(seed).collect()
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        let Some((number, value)) = input.split_first_chunk::<2>() else { return Ok("nothing".into()) };
        let store = filled();
        let rows = rows(&store);
        let (key, _) = &rows[usize::from(u16::from_be_bytes(*number)) % rows.len()];
        let mut batch = StateBatch::new();
        batch.put(key.clone(), Bytes::copy_from_slice(value));
        store.write(batch).map_err(|error| error.to_string())?;
        let shard = Shard::new(1, store);
        let read = [
            said(shard.applied()),
            said(shard.now()),
            said(shard.rows(&mut |_, _, _| {})),
            said(shard.tasks(&mut |_| true)),
            said(shard.timers_from(i64::MIN, &mut |_| true)),
            said(shard.messages(&mut |_| true)),
            said(shard.namespaces(&mut |_| true)),
            said(shard.list("n", ListSpace::Open, None, &mut |_| true)),
            said(shard.list("n", ListSpace::Closed, None, &mut |_| true)),
        ];
        let applied = [signal(), start(), terminate()].map(|op| said(apply(&shard, 100, op)));
        Ok([read.join("; "), applied.join("; ")].join(" | "))
    }
}

fn rows(store: &MemoryState) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let _ = store.scan(&[], &[0xff; 8], &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        true
    });
    rows
}

/// A shard with an open workflow.
fn filled() -> Arc<MemoryState> {
    let store = Arc::new(MemoryState::default());
    let shard = Shard::new(1, store.clone());
    let namespace = NamespaceRecord { id: "n".into(), name: "default".into(), revision: 1, ..Default::default() };
    let ops = [Op::PutNamespace(PutNamespace { namespace: Some(namespace) }), start(), signal()];
    for (index, op) in (1..).zip(ops) {
        let _ = apply(&shard, index, op);
    }
    store
}

fn apply(shard: &Shard, index: u64, op: Op) -> Result<(), StorageError> {
    let command = Command { namespace_id: "n".into(), workflow_id: "w".into(), op: Some(op), ..Default::default() };
    let entry = Entry {
        now_ns: index as i64 * 1_000_000_000,
        seed_low: index,
        version: 1,
        command: Some(command),
        ..Entry::default()
    };
    shard.apply(&[(index, entry.encode_to_vec().into())], Bytes::from_static(b"mark")).map(drop)
}

fn start() -> Op {
    Op::StartWorkflow(StartWorkflow {
        request: Some(api::StartWorkflowExecutionRequest {
            workflow_id: "w".into(),
            workflow_type: Some(WorkflowType { name: "t".into() }),
            task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
            ..Default::default()
        }),
    })
}

fn signal() -> Op {
    Op::SignalWorkflow(api::SignalWorkflowExecutionRequest {
        signal_name: "s".into(),
        request_id: "r".into(),
        ..Default::default()
    })
}

fn terminate() -> Op {
    Op::Terminate(api::TerminateWorkflowExecutionRequest::default())
}
