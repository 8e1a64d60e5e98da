//! Lists, index and counters against a look at every row: random workflows, random filters, after each step and after the store was
//! opened again.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_api::log::{Command, Entry, PutNamespace, StartWorkflow, command::Op};
use mainstay_api::record::{NamespaceRecord, VisibilityRecord};
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{
    IndexedValueType as Kind, WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse,
};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_shard::{ListPosition, ListSpace, Section, Shard};
use mainstay_storage::{MemoryState, StateBatch, StateStore};
use mainstay_storage_rocksdb::RocksState;
use mainstay_visibility::plan::Span;
use mainstay_visibility::{Access, Best, Openness, Plan, Query};
use proptest::prelude::*;
use prost::Message;

const NAMESPACE: &str = "ns-id";
const KINDS: [(&str, Kind); 7] = [
    ("K", Kind::Keyword),
    ("L", Kind::KeywordList),
    ("T", Kind::Text),
    ("I", Kind::Int),
    ("D", Kind::Double),
    ("B", Kind::Bool),
    ("W", Kind::Datetime),
];
const ORDERS: [&str; 9] = [
    "K",
    "I DESC",
    "D, WorkflowType DESC",
    "B",
    "W DESC",
    "StartTime DESC",
    "CloseTime DESC, K",
    "ExecutionStatus, StartTime",
    "WorkflowId DESC",
];
const SPACES: [ListSpace; 2] = [ListSpace::Open, ListSpace::Closed];

/// What happens to a workflow.
#[derive(Clone, Debug)]
enum Step {
    Start {
        workflow: u8,
        kind: u8,
        attributes: Vec<(String, String)>,
    },
    Terminate {
        workflow: u8,
    },
    Delete {
        workflow: u8,
    },
    /// Of all runs that are closed.
    EraseClosed,
}

fn attribute() -> impl Strategy<Value = (String, String)> {
    let text = || prop_oneof![Just("a"), Just("b"), Just("ab"), Just("")];
    let number = prop_oneof![(-3i64..3).prop_map(|n| n.to_string()), Just(i64::MAX.to_string())];
    let many = (0..80).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let words = prop_oneof![Just("one two".to_string()), Just("Two, three!".into()), Just(many)];
    prop_oneof![
        text().prop_map(|text| ("K", format!("{text:?}"))),
        prop::collection::vec(text(), 1..3).prop_map(|list| ("L", format!("{list:?}"))),
        words.prop_map(|words| ("T", format!("{words:?}"))),
        number.prop_map(|n| ("I", n)),
        (-3i64..3).prop_map(|n| ("D", format!("{}.5", n))),
        any::<bool>().prop_map(|b| ("B", b.to_string())),
        (1u8..4).prop_map(|day| ("W", format!("\"2024-01-0{day}T00:00:00Z\""))),
    ]
    .prop_map(|(name, data)| (name.to_string(), data))
}

fn step() -> impl Strategy<Value = Step> {
    let workflow = 0u8..8;
    prop_oneof![
        6 => (workflow.clone(), 0u8..3, prop::collection::vec(attribute(), 0..5))
            .prop_map(|(workflow, kind, attributes)| Step::Start { workflow, kind, attributes }),
        2 => workflow.clone().prop_map(|workflow| Step::Terminate { workflow }),
        1 => workflow.prop_map(|workflow| Step::Delete { workflow }),
        1 => Just(Step::EraseClosed),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "WorkflowType = 't0'",
        "WorkflowType IN ('t1', 't2')",
        "WorkflowType STARTS_WITH 't'",
        "WorkflowId = 'w3'",
        "WorkflowId STARTS_WITH 'w'",
        "ExecutionStatus = 'Running'",
        "ExecutionStatus IN ('Terminated', 'Completed')",
        "ExecutionStatus != 'Terminated'",
        "CloseTime IS NULL",
        "StartTime > '1970-01-01T00:00:20Z'",
        "StartTime <= '1970-01-01T00:00:25Z'",
        "CloseTime BETWEEN '1970-01-01T00:00:15Z' AND '1970-01-01T00:00:40Z'",
        "TaskQueue = 'q'",
        "RootWorkflowId = 'w2'",
        "K = 'a'",
        "K IN ('a', 'ab')",
        "K STARTS_WITH 'a'",
        "K != 'a'",
        "K IS NULL",
        "L = 'a'",
        "L IN ('a', 'b')",
        "T = 'two'",
        "T = 'w79 w8'",
        "T != 'one'",
        "I = 2",
        "I > -2",
        "I BETWEEN -1 AND 1",
        "I >= 9223372036854775807",
        "D <= 0.5",
        "D = 1.5",
        "B = true",
        "B != true",
        "W = '2024-01-02T00:00:00Z'",
        "W < '2024-01-03T00:00:00Z'",
    ]);
    let joined = (prop::collection::vec(fixed, 1..4), prop::sample::select(vec![" AND ", " OR "]));
    joined.prop_map(|(parts, by)| parts.join(by))
}

struct Model {
    shard: Shard,
    index: u64,
}

impl Model {
    fn new(store: Arc<dyn StateStore>) -> Self {
        let mut model = Self { shard: Shard::new(1, store), index: 0 };
        let kinds = KINDS.iter().map(|(name, kind)| (name.to_string(), *kind as i32)).collect();
        let namespace = NamespaceRecord {
            id: NAMESPACE.into(),
            name: "ns".into(),
            retention_ns: 3_600_000_000_000,
            revision: 1,
            search_attributes: kinds,
            ..NamespaceRecord::default()
        };
        model.apply("", Op::PutNamespace(PutNamespace { namespace: Some(namespace) }));
        model
    }

    fn apply(&mut self, workflow_id: &str, op: Op) {
        self.index += 1;
        let command = Command {
            namespace_id: NAMESPACE.into(),
            workflow_id: workflow_id.into(),
            op: Some(op),
            ..Command::default()
        };
        let entry = Entry {
            now_ns: self.index as i64 * 1_000_000_000,
            seed_low: self.index,
            version: 1,
            command: Some(command),
            ..Entry::default()
        };
        let entries = [(self.index, entry.encode_to_vec().into())];
        self.shard.apply(&entries, self.index.to_be_bytes().to_vec().into()).expect("applies");
    }

    fn step(&mut self, step: &Step) {
        let id = |workflow: u8| format!("w{workflow}");
        let execution = |workflow: u8| Some(WorkflowExecution { workflow_id: id(workflow), run_id: String::new() });
        match step {
            Step::Start { workflow, kind, attributes } => {
                let fields = attributes.iter().map(|(name, data)| (name.clone(), payload(name, data))).collect();
                let request = api::StartWorkflowExecutionRequest {
                    workflow_id: id(*workflow),
                    workflow_type: Some(WorkflowType { name: format!("t{kind}") }),
                    task_queue: Some(TaskQueue { name: "q".into(), ..TaskQueue::default() }),
                    request_id: format!("r{}", self.index),
                    search_attributes: Some(SearchAttributes { indexed_fields: fields }),
                    workflow_id_reuse_policy: Reuse::AllowDuplicate as i32,
                    workflow_id_conflict_policy: Conflict::TerminateExisting as i32,
                    ..Default::default()
                };
                self.apply(&id(*workflow), Op::StartWorkflow(StartWorkflow { request: Some(request) }));
            }
            Step::Terminate { workflow } => {
                let workflow_execution = execution(*workflow);
                let terminate = api::TerminateWorkflowExecutionRequest { workflow_execution, ..Default::default() };
                self.apply(&id(*workflow), Op::Terminate(terminate));
            }
            Step::Delete { workflow } => {
                let workflow_execution = execution(*workflow);
                let delete = api::DeleteWorkflowExecutionRequest { workflow_execution, ..Default::default() };
                self.apply(&id(*workflow), Op::Delete(delete));
            }
            Step::EraseClosed => {
                let rows = self.every(ListSpace::Closed).into_iter();
                let execution =
                    |row: VisibilityRecord| WorkflowExecution { workflow_id: row.workflow_id, run_id: row.run_id };
                let executions = rows.take(3).map(execution).collect();
                self.apply("", Op::EraseRuns(mainstay_api::log::EraseRuns { executions }));
            }
        }
    }

    /// A list by its own rows, without any index.
    fn every(&self, space: ListSpace) -> Vec<VisibilityRecord> {
        let mut rows = Vec::new();
        let visit = &mut |row| {
            rows.push(row);
            true
        };
        self.shard.list(NAMESPACE, space, None, visit).expect("lists");
        rows
    }

    fn counters_agree(&self) {
        let mut counted: BTreeMap<i32, i64> = BTreeMap::new();
        SPACES.iter().flat_map(|space| self.every(*space)).for_each(|row| *counted.entry(row.status).or_default() += 1);
        assert_eq!(self.shard.lists().counts(NAMESPACE).expect("counts"), counted);
    }

    fn answers_agree(&self, filter: &str) {
        let kinds = KINDS.iter().map(|(name, kind)| (name.to_string(), *kind as i32)).collect();
        let query = Query::parse(filter, &kinds).expect(filter);
        let honest = |access: &Access| self.count(access);
        let ranges = |access: &Access| usize::from(!matches!(access, Access::Range(_)));
        for count in [&honest as &dyn Fn(&Access) -> usize, &ranges, &|_| 0] {
            let plan = query.plan(&mut |access| count(access));
            for space in SPACES {
                let mut expected = self.every(space);
                expected.retain(|row| query.matches(row));
                let expected: Vec<String> = expected.into_iter().map(|row| row.run_id).collect();
                for page in [1, 3, 1_000] {
                    assert_eq!(self.pages(&query, &plan, space, page), expected, "{filter}: {plan}, pages of {page}");
                }
            }
        }
        if let Some(tally) = query.tally().filter(|tally| !tally.types.is_empty()) {
            let all = SPACES.iter().flat_map(|space| self.every(*space)).filter(|row| query.matches(row)).count();
            let point = |(_, posting)| Access::Points(vec![mainstay_visibility::plan::Point::Posting(posting)]);
            let counted: usize = tally.postings().into_iter().map(|of| self.count(&point(of))).sum();
            assert_eq!(counted, all, "{filter}");
        }
    }

    /// Pages in another order than that of lists.
    fn orders_agree(&self, filter: &str) {
        let kinds = KINDS.iter().map(|(name, kind)| (name.to_string(), *kind as i32)).collect();
        let clause = ORDERS[self.index as usize % ORDERS.len()];
        let query = Query::parse_list(&format!("{filter} ORDER BY {clause}"), &kinds).expect(filter);
        let order = query.order().expect("an order");
        let mut expected: Vec<_> = SPACES.iter().flat_map(|space| self.every(*space)).collect();
        expected.retain(|row| query.matches(row));
        expected.sort_by_cached_key(|row| order.key(row));
        let expected: Vec<String> = expected.into_iter().map(|row| row.run_id).collect();
        let plan = query.plan(&mut |access| self.count(access));
        for size in [1, 3, 1_000] {
            let (mut runs, mut token) = (Vec::new(), Some(Vec::new()));
            while let Some(behind) = token.take() {
                let (page, end) = self.ordered_page(&query, &plan, Best::new(order, &behind, size));
                runs.extend(page.into_iter().map(|row| row.run_id));
                token = end;
            }
            assert_eq!(runs, expected, "{filter}, by {clause}: {plan}, pages of {size}");
        }
    }

    fn ordered_page(&self, query: &Query, plan: &Plan, mut best: Best<'_>) -> (Vec<VisibilityRecord>, Option<Vec<u8>>) {
        let lists = self.shard.lists();
        for space in SPACES {
            let (excluded, span) = match space {
                ListSpace::Open => (Openness::Closed, plan.open),
                _ => (Openness::Open, plan.closed),
            };
            if plan.openness == Some(excluded) {
                continue;
            }
            let section = Section { namespace_id: NAMESPACE, space, access: &plan.access, span };
            let mut cursor = lists.cursor(&section, None).expect("reads");
            while cursor.peek().is_some() {
                let Some(row) = cursor.take().expect("reads") else { continue };
                if best.excludes(&row) {
                    break;
                }
                if query.matches(&row) {
                    best.add(row);
                }
            }
        }
        best.page()
    }

    fn count(&self, access: &Access) -> usize {
        let lists = self.shard.lists();
        let count = |space: &ListSpace| {
            let section = Section { namespace_id: NAMESPACE, space: *space, access, span: Span::ALL };
            lists.count(&section, usize::MAX).expect("counts")
        };
        SPACES.iter().map(count).sum()
    }

    /// The runs of a list that match, read in pages.
    fn pages(&self, query: &Query, plan: &Plan, space: ListSpace, size: usize) -> Vec<String> {
        let excluded = if space == ListSpace::Open { Openness::Closed } else { Openness::Open };
        let mut runs = Vec::new();
        let mut position: Option<ListPosition> = None;
        while plan.openness != Some(excluded) {
            let lists = self.shard.lists();
            let span = if space == ListSpace::Open { plan.open } else { plan.closed };
            let section = Section { namespace_id: NAMESPACE, space, access: &plan.access, span };
            let mut cursor = lists.cursor(&section, position.as_ref()).expect("reads");
            let mut taken = 0;
            while cursor.peek().is_some() && taken < size {
                let Some(row) = cursor.take().expect("reads") else { continue };
                position = Some(ListPosition::of(&row));
                taken += 1;
                if query.matches(&row) {
                    runs.push(row.run_id);
                }
            }
            if taken < size {
                break;
            }
        }
        runs
    }
}

fn payload(name: &str, data: &str) -> Payload {
    let kind = KINDS.iter().find(|(known, _)| *known == name).map_or(Kind::Unspecified, |(_, kind)| *kind);
    let kind = format!("{kind:?}");
    let metadata = [("encoding", "json/plain".to_string()), ("type", kind)];
    let metadata = metadata.into_iter().map(|(key, value)| (key.to_string(), value.into_bytes().into())).collect();
    Payload { metadata, data: data.as_bytes().to_vec().into(), ..Payload::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn index_and_counters_agree_with_the_rows(steps in prop::collection::vec((step(), condition()), 1..40)) {
        let mut model = Model::new(Arc::new(MemoryState::default()));
        for (step, filter) in &steps {
            model.step(step);
            model.counters_agree();
            model.answers_agree(filter);
            model.orders_agree(filter);
        }
    }
}

/// A shard of before there was an index, as far as it can be told.
fn without_index(shard: &Shard) {
    let (store, from, to, _) = shard.range();
    let mut batch = StateBatch::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        // Behind the shard's number stands the space: postings and counters.
        if matches!(key[4], 33 | 34) {
            batch.delete(key);
        }
        true
    };
    store.scan(&from, &to, visit).expect("scans");
    store.write(batch).expect("writes");
}

#[test]
fn a_missing_index_is_made_again() {
    let mut model = Model::new(Arc::new(MemoryState::default()));
    assert_eq!(model.shard.complete_index().expect("looks"), 0, "nothing is listed");
    for workflow in 0..8 {
        let attributes = vec![("K".to_string(), "\"a\"".to_string()), ("I".to_string(), workflow.to_string())];
        model.step(&Step::Start { workflow, kind: workflow % 3, attributes });
    }
    for workflow in [1, 4] {
        model.step(&Step::Terminate { workflow });
    }
    let digest = model.shard.digest().expect("reads");
    assert_eq!(model.shard.complete_index().expect("looks"), 0, "it is there");
    without_index(&model.shard);
    assert_ne!(model.shard.digest().expect("reads"), digest);
    assert_eq!(model.shard.complete_index().expect("makes"), 8);
    assert_eq!(model.shard.digest().expect("reads"), digest);
    model.counters_agree();
    model.answers_agree("K = 'a' AND I > 3");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn they_agree_after_the_store_was_opened_again(steps in prop::collection::vec((step(), condition()), 20..60)) {
        let directory = tempfile::tempdir().expect("a directory");
        let open = || Arc::new(RocksState::open(directory.path()).expect("opens"));
        let mut model = Model::new(open());
        for part in steps.chunks(15) {
            part.iter().for_each(|(step, _)| model.step(step));
            let index = model.index;
            drop(model);
            model = Model { shard: Shard::new(1, open()), index };
            model.counters_agree();
            part.iter().for_each(|(_, filter)| {
                model.answers_agree(filter);
                model.orders_agree(filter);
            });
        }
    }
}
