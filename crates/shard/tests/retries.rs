//! Commands that the server proposes twice: applied once, answered twice, and forgotten in the end.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_api::log::{Command, Entry, PutMember, PutNamespace, Reply, StartWorkflow, command::Op};
use mainstay_api::record::{MemberRecord, NamespaceRecord};
use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::Error;
use mainstay_shard::{Effect, KEPT_NS, Shard, command_id};
use mainstay_storage::{MemoryState, StateStore};
use prost::Message;

const SECOND: i64 = 1_000_000_000;

struct Host {
    store: Arc<MemoryState>,
    shard: Shard,
    index: u64,
}

impl Host {
    fn new() -> Self {
        let store = Arc::new(MemoryState::default());
        let mut host = Self { shard: Shard::new(1, store.clone()), store, index: 0 };
        let namespace = NamespaceRecord { id: "n".into(), name: "default".into(), revision: 1, ..Default::default() };
        let put = Op::PutNamespace(PutNamespace { namespace: Some(namespace) });
        host.apply(1, Bytes::new(), false, put).0.expect("is kept");
        host
    }

    fn apply(&mut self, now: i64, command_id: Bytes, may_repeat: bool, op: Op) -> (Result<Reply, Error>, Vec<Effect>) {
        self.index += 1;
        let command = Command { namespace_id: "n".into(), workflow_id: "w".into(), op: Some(op), ..Default::default() };
        let entry = Entry {
            command_id,
            may_repeat,
            now_ns: now * SECOND,
            seed_low: self.index,
            version: 1,
            command: Some(command),
            ..Entry::default()
        };
        let batch = [(self.index, entry.encode_to_vec().into())];
        let mut applied = self.shard.apply(&batch, Bytes::from_static(b"mark")).expect("applies");
        let one = applied.remove(0);
        (one.reply, one.effects)
    }

    fn outcomes(&self) -> usize {
        let mut count = 0;
        let (from, to) = ([0, 0, 0, 1, 30], [0, 0, 0, 1, 31]);
        let visit = &mut |_: &[u8], _: &[u8]| {
            count += 1;
            true
        };
        mainstay_storage::StateView::scan(self.store.as_ref(), &from, &to, visit).expect("scans");
        count
    }
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

fn terminate() -> Op {
    let execution = WorkflowExecution { workflow_id: "w".into(), run_id: String::new() };
    Op::Terminate(api::TerminateWorkflowExecutionRequest { workflow_execution: Some(execution), ..Default::default() })
}

fn id(now: i64, random: u64) -> Bytes {
    command_id(now * SECOND, random)
}

#[test]
fn a_retry_is_answered_as_the_first_time_and_does_nothing() {
    let mut host = Host::new();
    let (started, effects) = host.apply(2, id(2, 1), false, start());
    assert!(!effects.is_empty());
    let (again, effects) = host.apply(3, id(2, 1), true, start());
    assert_eq!(again, started);
    assert!(effects.is_empty());

    host.apply(4, id(4, 2), true, terminate()).0.expect("terminates");
    host.apply(5, id(4, 2), true, terminate()).0.expect("repeats the first answer");
    let refused = host.apply(6, id(6, 3), false, terminate()).0;
    assert!(matches!(refused, Err(Error::NotFound(_))), "another command is refused: {refused:?}");
    assert_eq!(host.apply(7, id(6, 3), true, terminate()).0, refused, "refusals are repeated too");
}

#[test]
fn outcomes_survive_a_restart() {
    let mut host = Host::new();
    let started = host.apply(2, id(2, 1), false, start()).0;
    host.store.flush().expect("flushes");
    host.store.crash();
    host.shard = Shard::new(1, host.store.clone());
    assert_eq!(host.apply(3, id(2, 1), true, start()).0, started);
}

#[test]
fn old_outcomes_are_forgotten() {
    let mut host = Host::new();
    for number in 0..200 {
        let now = 2 + number as i64 / 10;
        let _refused = host.apply(now, id(now, number), false, terminate());
    }
    assert_eq!(host.outcomes(), 200);
    let later = 30 + KEPT_NS / SECOND;
    for number in 0..80 {
        let _refused = host.apply(later, Bytes::new(), false, terminate()).0.expect_err("there is no workflow");
        assert!(host.outcomes() >= 200_usize.saturating_sub(64 * (1 + number / 16)));
    }
    assert_eq!(host.outcomes(), 0);
}

#[test]
fn members_are_set_and_counted() {
    let mut host = Host::new();
    let member = |node_id, alive| {
        let member = MemberRecord { node_id, incarnation: node_id * 10, alive, ..MemberRecord::default() };
        PutMember { member: Some(member), ..PutMember::default() }
    };
    let epochs: Vec<u64> = [(2, true), (1, true), (1, true), (2, false)]
        .into_iter()
        .map(|(node, alive)| {
            let _applied = host.apply(2, Bytes::new(), false, Op::PutMember(member(node, alive)));
            host.shard.members().expect("reads").epoch
        })
        .collect();
    assert_eq!(epochs, [1, 2, 2, 3]);
    let stale = PutMember { expected_incarnation: 5, ..member(1, false) };
    let (_, effects) = host.apply(2, Bytes::new(), false, Op::PutMember(stale));
    assert!(effects.is_empty());
    let members = host.shard.members().expect("reads");
    assert_eq!(mainstay_shard::live(&members).map(|member| member.node_id).collect::<Vec<_>>(), [1]);

    let drained = MemberRecord { node_id: 1, drained: true, ..MemberRecord::default() };
    let wish = PutMember { member: Some(drained), sets_wishes: true, ..PutMember::default() };
    let _applied = host.apply(2, Bytes::new(), false, Op::PutMember(wish));
    let _applied = host.apply(2, Bytes::new(), false, Op::PutMember(member(1, false)));
    let members = host.shard.members().expect("reads");
    let one = members.members.first().expect("is kept");
    assert!(
        one.drained && !one.alive && one.incarnation == 10,
        "a node's own word keeps what is wanted of it: {one:?}"
    );
}
