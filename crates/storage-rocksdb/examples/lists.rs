//! What lists cost: closed and open runs made by the real engine in shards on RocksDB, then pages and counts of them, on one core.
//!
//! ```text
//! cargo run --release -p mainstay-storage-rocksdb --example lists -- [--smoke] [--closed N] [--open N] [--shards N] [--first]
//! ```
//! Each question is asked many times. Printed are times, the keys that one answer reads (they do not depend on the machine), the plan,
//! and a digest of all answers. `--first` starts all open runs before the closed ones: then what was deleted lies above them.
//! What a request costs besides, its way and its encoding, is measured by `mainstay bench --lists`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_api::log::{Command, Entry, PutNamespace, StartWorkflow, command::Op};
use mainstay_api::record::{NamespaceRecord, VisibilityRecord};
use mainstay_api::temporal::common::v1::{Payload, SearchAttributes, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::Slot;
use mainstay_shard::{Cursor, ListSpace, Lists, OrderedPage, Section, Shard};
use mainstay_storage::{StateBatch, StateStore, StateView, StorageError, Usage};
use mainstay_storage_rocksdb::RocksState;
use mainstay_visibility::plan::{Access, Point, Span};
use mainstay_visibility::{Openness, Plan, Query};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

const NAMESPACE: &str = "ns-id";
const KINDS: [(&str, Kind); 5] = [
    ("BenchKeyword", Kind::Keyword),
    ("BenchInt", Kind::Int),
    ("BenchText", Kind::Text),
    ("BenchDatetime", Kind::Datetime),
    ("BenchBool", Kind::Bool),
];
const SPACES: [ListSpace; 2] = [ListSpace::Open, ListSpace::Closed];
const TYPES: u64 = 10;
const PAGE: usize = 100;
/// Entries in one batch, as under load.
const BATCH: usize = 32;
/// Rows that one page looks at, as on a node.
const LOOKED_AT_MAX: usize = 50_000;
/// A question is asked this often, but not longer than that.
const TIMES: usize = 200;
const ASKED_FOR: [Duration; 2] = [Duration::from_secs(10), Duration::from_millis(500)];

/// A store that counts the keys which are read.
struct Counting(RocksState, AtomicU64);

/// One moment of it.
struct CountingView<'a>(Box<dyn StateView + 'a>, &'a AtomicU64);

type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> bool;

fn counted<'a>(counter: &'a AtomicU64, visit: Visit<'a>) -> impl FnMut(&[u8], &[u8]) -> bool + 'a {
    move |key, value| {
        counter.fetch_add(1, Ordering::Relaxed);
        visit(key, value)
    }
}

impl StateView for CountingView<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.0.scan(from, to, &mut counted(self.1, visit))
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.0.scan_reverse(from, to, &mut counted(self.1, visit))
    }
}

impl StateView for Counting {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.0.scan(from, to, visit)
    }

    fn scan_reverse(&self, from: &[u8], to: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
        self.0.scan_reverse(from, to, visit)
    }
}

impl StateStore for Counting {
    fn write(&self, batch: StateBatch) -> Result<(), StorageError> {
        self.0.write(batch)
    }

    fn flush(&self) -> Result<(), StorageError> {
        self.0.flush()
    }

    fn get_persisted(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get_persisted(key)
    }

    fn view(&self) -> Box<dyn StateView + '_> {
        Box::new(CountingView(self.0.view(), &self.1))
    }

    fn export(&self) -> Result<Box<dyn StateView>, StorageError> {
        self.0.export()
    }

    fn usage(&self) -> Result<Usage, StorageError> {
        self.0.usage()
    }
}

/// Shards on one store, and the entries that they have not applied yet.
struct Bench {
    store: Arc<Counting>,
    shards: Vec<Shard>,
    waiting: Vec<Vec<(u64, Bytes)>>,
    index: u64,
    has_attributes: bool,
}

impl Bench {
    fn new(directory: &Path, shards: u32, has_attributes: bool) -> Self {
        let store = Arc::new(Counting(RocksState::open(directory).expect("opens"), AtomicU64::new(0)));
        let shards: Vec<Shard> = (1..=shards).map(|number| Shard::new(number, store.clone())).collect();
        let waiting = shards.iter().map(|_| Vec::new()).collect();
        let mut bench = Self { store, shards, waiting, index: 0, has_attributes };
        let namespace = NamespaceRecord {
            id: NAMESPACE.into(),
            name: "ns".into(),
            retention_ns: 86_400_000_000_000,
            revision: 1,
            search_attributes: custom(),
            ..NamespaceRecord::default()
        };
        for shard in 0..bench.shards.len() {
            let op = Op::PutNamespace(PutNamespace { namespace: Some(namespace.clone()) });
            bench.apply(shard, "", op);
        }
        bench
    }

    fn apply(&mut self, shard: usize, workflow_id: &str, op: Op) {
        self.index += 1;
        let command = Command {
            namespace_id: NAMESPACE.into(),
            workflow_id: workflow_id.into(),
            op: Some(op),
            ..Command::default()
        };
        let entry = Entry {
            now_ns: 1_700_000_000_000_000_000 + self.index as i64 * 1_000_000,
            seed_high: self.index,
            seed_low: self.index.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            version: 1,
            command: Some(command),
            ..Entry::default()
        };
        self.waiting[shard].push((self.index, entry.encode_to_vec().into()));
        if self.waiting[shard].len() >= BATCH {
            self.settle(shard);
        }
    }

    fn settle(&mut self, shard: usize) {
        let entries = std::mem::take(&mut self.waiting[shard]);
        let applied = self.shards[shard].apply(&entries, self.index.to_be_bytes().to_vec().into()).expect("applies");
        applied.into_iter().for_each(|one| drop(one.reply.expect("accepted")));
    }

    fn settle_all(&mut self) {
        (0..self.shards.len()).for_each(|shard| self.settle(shard));
    }

    fn run(&mut self, number: u64, closes: bool) {
        let workflow_id = format!("order-{number:08}");
        let shard = usize::from(Slot::of(NAMESPACE, &workflow_id).get()) % self.shards.len();
        let request = api::StartWorkflowExecutionRequest {
            workflow_id: workflow_id.clone(),
            workflow_type: Some(WorkflowType { name: format!("type-{}", number % TYPES) }),
            task_queue: Some(TaskQueue { name: "orders".into(), ..TaskQueue::default() }),
            request_id: format!("r{number}"),
            search_attributes: self.has_attributes.then(|| attributes(number)),
            ..Default::default()
        };
        self.apply(shard, &workflow_id, Op::StartWorkflow(StartWorkflow { request: Some(request) }));
        if closes {
            let workflow_execution =
                Some(WorkflowExecution { workflow_id: workflow_id.clone(), run_id: String::new() });
            let terminate = api::TerminateWorkflowExecutionRequest { workflow_execution, ..Default::default() };
            self.apply(shard, &workflow_id, Op::Terminate(terminate));
        }
    }

    /// Rows of all shards, and bytes on the medium.
    fn size(&self) -> (u64, u64) {
        self.store.flush().expect("flushes");
        let mut rows = 0;
        for shard in &self.shards {
            let (store, from, to, _) = shard.range();
            let visit = &mut |_: &[u8], _: &[u8]| {
                rows += 1;
                true
            };
            store.scan(&from, &to, visit).expect("scans");
        }
        (rows, self.store.usage().expect("tells").used)
    }
}

fn custom() -> std::collections::BTreeMap<String, i32> {
    KINDS.iter().map(|(name, kind)| (name.to_string(), *kind as i32)).collect()
}

fn attributes(number: u64) -> SearchAttributes {
    let value = |kind: Kind| match kind {
        Kind::Keyword => format!("\"k{}\"", number % 1_000),
        Kind::Int => number.to_string(),
        Kind::Text => format!("\"order {} of customer {}\"", number % 50, number % 5_000),
        Kind::Datetime => format!("\"2024-01-{:02}T00:00:00Z\"", 1 + number % 28),
        _ => number.is_multiple_of(2).to_string(),
    };
    let payload = |kind: Kind| {
        let metadata = [("encoding", "json/plain".to_string()), ("type", format!("{kind:?}"))];
        let metadata = metadata.into_iter().map(|(key, text)| (key.to_string(), text.into_bytes().into()));
        Payload { metadata: metadata.collect(), data: value(kind).into_bytes().into(), ..Payload::default() }
    };
    let fields = KINDS.iter().map(|(name, kind)| (name.to_string(), payload(*kind)));
    SearchAttributes { indexed_fields: fields.collect() }
}

/// One question; asked as a node does, which merges shards list by list.
struct Question<'a> {
    lists: Vec<Lists<'a>>,
    query: Query,
    plan: Plan,
}

/// What an answer says, as a number, and how many rows it found.
type Answer = (u64, usize);

impl<'a> Question<'a> {
    fn new(shards: &'a [Shard], filter: &str, is_planned: bool) -> Self {
        let query = Query::parse(filter, &custom()).or_else(|_| Query::parse_list(filter, &custom())).expect(filter);
        let lists: Vec<Lists<'a>> = shards.iter().map(Shard::lists).collect();
        let plan =
            if is_planned { query.plan(&mut |access, max| count(&lists, access, max)) } else { Plan::scan(None) };
        Self { lists, query, plan }
    }

    fn page(&self) -> Answer {
        if self.query.order().is_some() {
            return self.ordered_page();
        }
        let (mut digest, mut found, mut looked_at) = (0, 0, 0);
        for space in SPACES {
            let excluded = if space == ListSpace::Open { Openness::Closed } else { Openness::Open };
            if self.plan.openness == Some(excluded) {
                continue;
            }
            let span = if space == ListSpace::Open { self.plan.open } else { self.plan.closed };
            let section = Section { namespace_id: NAMESPACE, space, access: &self.plan.access, span };
            let cursors = self.lists.iter().map(|lists| lists.cursor(&section, None).expect("reads"));
            let mut cursors: Vec<Cursor<'_>> = cursors.collect();
            loop {
                let nearest = cursors.iter().enumerate().filter_map(|(number, cursor)| Some((cursor.peek()?, number)));
                let Some((_, nearest)) = nearest.min() else { break };
                let Some(row) = cursors[nearest].take().expect("reads") else { continue };
                looked_at += 1;
                if self.query.matches(&row) {
                    digest = mixed(digest, row.run_id.as_bytes());
                    found += 1;
                }
                if found >= PAGE || looked_at >= LOOKED_AT_MAX {
                    return (digest, found);
                }
            }
        }
        (digest, found)
    }

    fn ordered_page(&self) -> Answer {
        let order = self.query.order().expect("an order");
        let (namespace_id, query, plan, spaces) = (NAMESPACE, &self.query, &self.plan, &SPACES);
        let has = &|_: usize, _: &VisibilityRecord| true;
        let page =
            OrderedPage { namespace_id, query, order, plan, spaces, position: None, as_of_ns: None, size: PAGE, has };
        match page.read(&self.lists) {
            Ok((rows, _)) => (rows.iter().fold(0, |digest, row| mixed(digest, row.run_id.as_bytes())), rows.len()),
            Err(error) => {
                println!("       refused: {error:?}");
                (0, 0)
            }
        }
    }

    fn counted(&self) -> Answer {
        let count = match self.query.tally() {
            Some(tally) if tally.types.is_empty() => {
                let all = self.lists.iter().flat_map(|lists| lists.counts(NAMESPACE).expect("counts"));
                all.filter(|(status, _)| tally.counts(*status)).map(|(_, count)| count as usize).sum()
            }
            Some(tally) => {
                let access = |(_, posting)| Access::Points(vec![Point::Posting(posting)]);
                tally.postings().into_iter().map(|of| count(&self.lists, &access(of), usize::MAX)).sum()
            }
            None => unreachable!("asked by type and status only"),
        };
        (count as u64, count)
    }
}

fn count(lists: &[Lists<'_>], access: &Access, max: usize) -> usize {
    let mut count = 0;
    for space in SPACES {
        for lists in lists {
            let section = Section { namespace_id: NAMESPACE, space, access, span: Span::ALL };
            count += lists.count(&section, max.saturating_sub(count)).expect("counts");
        }
    }
    count
}

fn mixed(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Asks one question many times; answers what it said.
fn ask(bench: &Bench, what: &str, filter: &str, asked_for: Duration) -> u64 {
    let (mut took, mut keys, mut answer) = (Vec::new(), 0, (0, 0));
    let mut plan = String::new();
    let (began, processor) = (Instant::now(), seconds(ClockId::ThreadCPUTime));
    while took.len() < TIMES && (took.is_empty() || began.elapsed() < asked_for) {
        let before = bench.store.1.load(Ordering::Relaxed);
        let asked = Instant::now();
        let question = Question::new(&bench.shards, filter, what == "page");
        answer = if what == "page" { question.page() } else { question.counted() };
        took.push(asked.elapsed().as_secs_f64() * 1e3);
        keys = bench.store.1.load(Ordering::Relaxed) - before;
        plan = if what == "page" { question.plan.to_string() } else { "counters, or entries of the index".to_string() };
    }
    let processor = (seconds(ClockId::ThreadCPUTime) - processor) * 1e3 / took.len() as f64;
    took.sort_unstable_by(f64::total_cmp);
    let [p50, p99] = [500, 990].map(|per_mille| took[(took.len() - 1) * per_mille / 1_000]);
    let found = answer.1;
    println!(
        "{what:<6} p50 {p50:9.3} ms, p99 {p99:9.3} ms, processor {processor:9.3} ms, {keys:>8} keys read, found {found}: \
         {filter}\n       {plan}"
    );
    answer.0
}

/// Processor seconds of starting and closing some workflows, the store's own threads included.
fn start_and_close(count: u64, shards: u32, has_attributes: bool) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::new(directory.path(), shards, has_attributes);
    let began = seconds(ClockId::ProcessCPUTime);
    (0..count).for_each(|number| bench.run(number, true));
    bench.settle_all();
    let took = seconds(ClockId::ProcessCPUTime) - began;
    let (rows, bytes) = bench.size();
    let per = |total: u64| total as f64 / count as f64;
    let with = if has_attributes { "five search attributes" } else { "no search attributes" };
    println!(
        "start and close with {with}: {:.0} per second of one core, {:.1} rows and {:.0} bytes of each closed workflow",
        count as f64 / took,
        per(rows),
        per(bytes)
    );
    took
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn number(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name);
    words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(default)
}

fn main() {
    let smoke = std::env::args().any(|word| word == "--smoke");
    let first = std::env::args().any(|word| word == "--first");
    let [closed, open] = if smoke { [2_000, 200] } else { [1_000_000, 100_000] };
    let (closed, open) = (number("--closed", closed), number("--open", open).max(1));
    let shards = u32::try_from(number("--shards", 4)).unwrap_or(4).max(1);
    let some = closed.min(50_000);
    let ratio = start_and_close(some, shards, false) / start_and_close(some, shards, true);
    println!(
        "start and close: {:.0} % of the rate with five search attributes, log and network left out",
        ratio * 100.0
    );
    let directory = tempfile::tempdir().expect("a directory");
    let mut bench = Bench::new(directory.path(), shards, true);
    let every = (closed + open) / open;
    for number in 0..closed + open {
        let stays = if first { number < open } else { number % every == 0 && number / every < open };
        bench.run(number, !stays);
    }
    bench.settle_all();
    let (rows, bytes) = bench.size();
    println!("{closed} closed and {open} open workflows in {shards} shards: {rows} rows, {} MiB", bytes >> 20);
    let pages = [
        "WorkflowType = 'type-3' AND ExecutionStatus = 'Terminated'",
        "WorkflowType = 'type-3' AND ExecutionStatus = 'Running'",
        "ExecutionStatus = 'Terminated'",
        "BenchKeyword = 'k7'",
        "BenchText = 'customer 77'",
        "BenchInt BETWEEN 100 AND 200",
        "TaskQueue = 'no such queue'",
        "ORDER BY StartTime DESC",
        "BenchKeyword = 'k7' ORDER BY BenchInt",
        "ORDER BY BenchInt",
        "ORDER BY BenchKeyword DESC",
        "ORDER BY BenchBool",
        "ORDER BY StartTime",
        "ORDER BY CloseTime",
        "ORDER BY WorkflowType",
        "ORDER BY ExecutionStatus",
        "ORDER BY WorkflowId DESC",
        "ORDER BY HistoryLength",
        "WorkflowType = 'type-3' ORDER BY BenchInt DESC",
    ];
    let counts = ["", "ExecutionStatus = 'Terminated'", "WorkflowType = 'type-3' AND ExecutionStatus = 'Terminated'"];
    let asked = pages.iter().map(|filter| ("page", filter)).chain(counts.iter().map(|filter| ("count", filter)));
    let asked_for = ASKED_FOR[usize::from(smoke)];
    let answers = asked.map(|(what, filter)| ask(&bench, what, filter, asked_for));
    let digest = answers.fold(0, |digest, answer| mixed(digest, &answer.to_be_bytes()));
    println!("digest {digest:016x}");
}
