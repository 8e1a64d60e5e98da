//! Lists, index and counters against a look at every row: random workflows, random filters, after each step and after the store was
//! opened again.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_api::log::{Command, Entry, PutNamespace, StartWorkflow, command::Op};
use mainstay_api::record::{NamespaceRecord, VisibilityRecord};
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{
    IndexedValueType as Kind, WorkflowExecutionStatus as Status, WorkflowIdConflictPolicy as Conflict,
    WorkflowIdReusePolicy as Reuse,
};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_shard::{ListPosition, ListSpace, OrderedPage, OrderedPosition, PageError, SORTED_MAX, Section, Shard};
use mainstay_storage::{MemoryState, StateBatch, StateStore};
use mainstay_storage_rocksdb::RocksState;
use mainstay_visibility::plan::Span;
use mainstay_visibility::{Access, Openness, Plan, Query, as_of};
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
const ORDERS: [&str; 24] = [
    "K",
    "K DESC",
    "I",
    "I DESC",
    "D, WorkflowType DESC",
    "D DESC",
    "B",
    "B DESC",
    "W",
    "W DESC",
    "StartTime",
    "StartTime DESC",
    "CloseTime",
    "CloseTime DESC",
    "CloseTime DESC, K",
    "ExecutionStatus",
    "ExecutionStatus DESC",
    "ExecutionStatus, StartTime",
    "WorkflowType",
    "WorkflowType DESC, CloseTime",
    "WorkflowId",
    "WorkflowId DESC",
    "ParentWorkflowId",
    "HistoryLength DESC",
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
    /// Or let go on.
    Pause {
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
        2 => workflow.clone().prop_map(|workflow| Step::Pause { workflow }),
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
        "ExecutionStatus = 'Paused'",
        "ExecutionStatus IN ('Terminated', 'Paused')",
        "ExecutionStatus IN ('Paused', 'Running')",
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

fn kinds() -> BTreeMap<String, i32> {
    KINDS.iter().map(|(name, kind)| (name.to_string(), *kind as i32)).collect()
}

struct Model {
    shard: Shard,
    index: u64,
}

impl Model {
    fn new(store: Arc<dyn StateStore>) -> Self {
        let mut model = Self { shard: Shard::new(1, store), index: 0 };
        let namespace = NamespaceRecord {
            id: NAMESPACE.into(),
            name: "ns".into(),
            retention_ns: 3_600_000_000_000,
            revision: 1,
            search_attributes: kinds(),
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
            Step::Pause { workflow } => {
                let workflow_id = id(*workflow);
                let is_paused =
                    |row: &VisibilityRecord| row.workflow_id == workflow_id && row.status == Status::Paused as i32;
                let op = if self.every(ListSpace::Open).iter().any(is_paused) {
                    Op::UnpauseWorkflow(api::UnpauseWorkflowExecutionRequest::default())
                } else {
                    Op::PauseWorkflow(api::PauseWorkflowExecutionRequest::default())
                };
                self.apply(&workflow_id, op);
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
        let query = Query::parse(filter, &kinds()).expect(filter);
        let honest = |access: &Access| self.count(access);
        let ranges = |access: &Access| usize::from(!matches!(access, Access::Range(_)));
        for count in [&honest as &dyn Fn(&Access) -> usize, &ranges, &|_| 0] {
            let plan = query.plan(&mut |access, _| count(access));
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

    /// Pages in another order than that of lists, by each plan and by plans that change from page to page.
    fn orders_agree(&self, filter: &str, clause: &str) {
        let query = Query::parse_list(&format!("{filter} ORDER BY {clause}"), &kinds()).expect(filter);
        let order = query.order().expect("an order");
        let as_of_ns = self.shard.now().expect("reads");
        let mut expected: Vec<_> = SPACES.iter().flat_map(|space| self.every(*space)).collect();
        expected.retain(|row| query.matches(row));
        expected.sort_by_cached_key(|row| order.key(row, as_of_ns));
        let expected: Vec<String> = expected.into_iter().map(|row| row.run_id).collect();
        let plans = [query.plan(&mut |access, _| self.count(access)), query.plan(&mut |_, max| max)];
        for (first, second) in [(0, 0), (1, 1), (0, 1)] {
            for size in [1, 3, 1_000] {
                let (mut runs, mut position, mut pages) = (Vec::new(), None, 0);
                loop {
                    let plan = &plans[if pages % 2 == 0 { first } else { second }];
                    let (page, end) = self.ordered_page(&query, plan, position.as_ref(), size);
                    runs.extend(page.into_iter().map(|row| row.run_id));
                    let Some(end) = end else { break };
                    (position, pages) = (Some(end), pages + 1);
                }
                assert_eq!(
                    runs, expected,
                    "{filter}, by {clause}: {} and {}, pages of {size}",
                    plans[first], plans[second]
                );
            }
        }
    }

    fn ordered_page(
        &self,
        query: &Query,
        plan: &Plan,
        position: Option<&OrderedPosition>,
        size: usize,
    ) -> (Vec<VisibilityRecord>, Option<OrderedPosition>) {
        let order = query.order().expect("an order");
        let (namespace_id, spaces) = (NAMESPACE, &SPACES);
        let page =
            OrderedPage { namespace_id, query, order, plan, spaces, position, as_of_ns: None, size, has: &|_, _| true };
        page.read(&[self.shard.lists()]).expect("reads")
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
            model.orders_agree(filter, ORDERS[model.index as usize % ORDERS.len()]);
        }
    }

    /// What happens between two pages: a run that was there throughout, with the same values, is shown exactly once.
    #[test]
    fn pages_show_once_what_stays(
        before in prop::collection::vec(step(), 5..40),
        meanwhile in prop::collection::vec(step(), 0..12),
        clause in prop::sample::select(ORDERS.to_vec()),
        size in 1usize..4,
        sorts in any::<bool>(),
    ) {
        let mut model = Model::new(Arc::new(MemoryState::default()));
        before.iter().for_each(|step| model.step(step));
        let query = Query::parse_list(&format!("ORDER BY {clause}"), &kinds()).expect(clause);
        let rows = |model: &Model| SPACES.iter().flat_map(|space| model.every(*space)).collect::<Vec<_>>();
        let (first, as_of_ns) = (rows(&model), model.shard.now().expect("reads"));
        let mut plan = query.plan(&mut |_, max| max);
        if sorts {
            plan.walk = None;
        }
        // A run that closes counts as running for pages of before; that it is paused is not known as of a time.
        let by_status = clause.contains("ExecutionStatus");
        let may_happen = |step: &&Step| !(by_status && matches!(step, Step::Pause { .. }));
        let (mut runs, mut position, mut meanwhile) = (Vec::new(), None, meanwhile.iter().filter(may_happen));
        loop {
            let (page, end) = model.ordered_page(&query, &plan, position.as_ref(), size);
            runs.extend(page.into_iter().map(|row| row.run_id));
            let Some(end) = end else { break };
            position = Some(end);
            meanwhile.by_ref().take(2).for_each(|step| model.step(step));
        }
        let order = query.order().expect("an order");
        let last = rows(&model);
        let mut stayed: Vec<_> = first
            .into_iter()
            .filter(|row| {
                let keeps = |now: &VisibilityRecord| !by_status || row.status != Status::Paused as i32 || now.status == row.status;
                last.iter().any(|now| now.run_id == row.run_id && keeps(now))
            })
            .map(|row| (order.key(&as_of(&row, as_of_ns), as_of_ns), row.run_id))
            .collect();
        stayed.sort();
        runs.retain(|run| stayed.iter().any(|(_, stayed)| stayed == run));
        prop_assert_eq!(runs, stayed.into_iter().map(|(_, run)| run).collect::<Vec<_>>());
    }
}

/// A shard of before there was an index, as far as it can be told.
fn without_index(shard: &Shard) {
    // Behind the shard's number stands the space: postings and counters.
    without(shard, |key| matches!(key[4], 33 | 34));
}

fn without(shard: &Shard, is_out: impl Fn(&[u8]) -> bool) {
    let (store, from, to, _) = shard.range();
    let mut batch = StateBatch::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        if is_out(key) {
            batch.delete(key);
        }
        true
    };
    store.scan(&from, &to, visit).expect("scans");
    store.write(batch).expect("writes");
}

#[test]
fn what_no_index_orders_is_sorted_up_to_a_limit() {
    let mut model = Model::new(Arc::new(MemoryState::default()));
    let mut batch = StateBatch::new();
    model.step(&Step::Start { workflow: 0, kind: 0, attributes: Vec::new() });
    let row = model.every(ListSpace::Open).remove(0);
    // Rows of the list alone, since so many runs would take long to start.
    let (store, from, to, _) = model.shard.range();
    let mut key_of_row = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        if VisibilityRecord::decode(value).is_ok_and(|found| found == row) {
            key_of_row = key.to_vec();
        }
        true
    };
    store.scan(&from, &to, visit).expect("scans");
    let length = key_of_row.len();
    for number in 0..=SORTED_MAX as u64 {
        let run_id = format!("{number:08}{}", &row.run_id[8..]);
        key_of_row[length - row.run_id.len()..].copy_from_slice(run_id.as_bytes());
        batch.put(key_of_row.clone(), VisibilityRecord { run_id, ..row.clone() }.encode_to_vec());
    }
    store.write(batch).expect("writes");
    let refusal = |clause: &str| {
        let query = Query::parse_list(&format!("ORDER BY {clause}"), &kinds()).expect(clause);
        let (namespace_id, spaces, order) = (NAMESPACE, &SPACES, query.order().expect("an order"));
        let plan = &query.plan(&mut |_, max| max);
        let page = OrderedPage {
            namespace_id,
            query: &query,
            order,
            plan,
            spaces,
            position: None,
            as_of_ns: None,
            size: 10,
            has: &|_, _| true,
        };
        match page.read(&[model.shard.lists()]) {
            Err(PageError::TooMany(text)) => text,
            other => panic!("{clause}: {:?}", other.map(|(rows, _)| rows.len())),
        }
    };
    assert_eq!(
        refusal("ExecutionDuration DESC"),
        "no index has the order of ExecutionDuration, so at most 100000 rows are sorted by it, and the filter brings \
         more: ask for fewer"
    );
    assert_eq!(
        refusal("CloseTime, StartTime"),
        "more than 100000 rows have the same CloseTime, too many to sort them by what follows: ask for fewer"
    );
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
    model.orders_agree("K = 'a'", "StartTime");
    without(&model.shard, |key| key.windows(4).any(|part| part == [1, 5, 0x80, 0]));
    assert_ne!(
        model.shard.digest().expect("reads"),
        digest,
        "the starts of closed runs, which had no postings at first"
    );
    assert_eq!(model.shard.complete_index().expect("makes"), 8);
    assert_eq!(model.shard.digest().expect("reads"), digest);
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
                model.orders_agree(filter, ORDERS[filter.len() % ORDERS.len()]);
            });
        }
    }
}
