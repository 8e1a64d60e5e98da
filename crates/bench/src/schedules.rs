//! What many schedules cost: to create them, to have them while nothing is due, and when many are due in the same minute.
//!
//! Nobody works on what they start. How late a workflow starts is read off the server's own times: its start, less the time that
//! its schedule names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use mainstay_api::temporal::common::v1::WorkflowType;
use mainstay_api::temporal::schedule::v1 as schedule;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1 as api;
use prost_types::Timestamp;

use crate::process::{Memory, Process};
use crate::report::{mebibytes, milliseconds};
use crate::server::{Client, Server, seconds};

const PAGE_SIZE: i32 = 1_000;
const MINUTE: u64 = 60;
/// What is due is created in time, with some to spare.
const HEADROOM: Duration = Duration::from_secs(5);
/// What has not started so long after its time is missing.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How far in the future the others act.
const FAR_S: u64 = 400 * 86_400;

/// Which schedules to make, and where.
#[derive(Clone, Debug, Args)]
pub struct ScheduleOptions {
    /// Where the server listens.
    #[arg(long, default_value = "127.0.0.1:7233")]
    pub address: String,
    /// The namespace to work in; it must exist.
    #[arg(long, short = 'n', default_value = "default")]
    pub namespace: String,
    /// Schedules that act in a year.
    #[arg(long, default_value_t = 100_000)]
    pub count: u64,
    /// Schedules that act at the same minute, soon.
    #[arg(long, default_value_t = 10_000)]
    pub firing: u64,
    /// Clients that create them.
    #[arg(long, short = 'c', default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    pub clients: u64,
    /// Seconds of rest in which the server's CPU time is read.
    #[arg(long, default_value_t = 20.0)]
    pub idle: f64,
    /// Process id of the server, to report its CPU time and memory (on this machine only).
    #[arg(long)]
    pub pid: Option<u32>,
}

/// What was measured.
#[derive(Debug)]
pub struct Schedules {
    options: ScheduleOptions,
    creating: Duration,
    /// CPU seconds per second at rest.
    idle: Option<f64>,
    memory: Option<Memory>,
    creating_due: Duration,
    /// How late each workflow started, ascending.
    late: Vec<Duration>,
    /// CPU time from before the tick to the last start.
    tick_cpu: Option<Duration>,
    /// Schedules that started nothing, and workflows that nobody asked for.
    missing: u64,
    surplus: u64,
    digest: u64,
}

/// Measures; blocks until it is done.
///
/// # Errors
/// If the server cannot be reached or refuses, as a sentence.
pub fn run(options: ScheduleOptions) -> Result<Schedules, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("no threads: {error}"))?.block_on(measure(options))
}

async fn measure(options: ScheduleOptions) -> Result<Schedules, String> {
    let server = Arc::new(Server::connect(&options.address, &options.namespace, 2, 0).await?);
    let process = options.pid.map(Process::of).transpose()?;
    let began = Instant::now();
    create(&server, &options, "idle", options.count, now_s() + FAR_S).await?;
    let creating = began.elapsed();
    let each = creating.div_f64(options.count.max(1) as f64);
    let before = process.as_ref().map(Process::cpu);
    tokio::time::sleep(Duration::from_secs_f64(options.idle.max(0.0))).await;
    let used = process.as_ref().zip(before).map(|(process, before)| process.cpu().saturating_sub(before));
    let idle = used.map(|used| used.as_secs_f64() / options.idle.max(f64::MIN_POSITIVE));
    let memory = process.as_ref().and_then(Process::memory);
    let ready_s = now_s() + (each.mul_f64(2.0 * options.firing as f64) + HEADROOM).as_secs();
    let due_s = (ready_s / MINUTE + 1) * MINUTE;
    let began = Instant::now();
    create(&server, &options, "due", options.firing, due_s).await?;
    let creating_due = began.elapsed();
    if now_s() >= due_s {
        return Err("the schedules were not there in time: ask for fewer".into());
    }
    let before_s = due_s.saturating_sub(1).saturating_sub(now_s());
    tokio::time::sleep(Duration::from_secs(before_s)).await;
    let before = process.as_ref().map(Process::cpu);
    let starts = starts(&server, &options, due_s).await?;
    let tick_cpu = process.as_ref().zip(before).map(|(process, before)| process.cpu().saturating_sub(before));
    let mut late: Vec<Duration> = starts.values().flatten().copied().collect();
    late.sort_unstable();
    let wanted = |number: &u64| starts.get(number).is_some_and(|found| !found.is_empty());
    let missing = (0..options.firing).filter(|number| !wanted(number)).count() as u64;
    let surplus = late.len() as u64 + missing - options.firing.min(late.len() as u64 + missing);
    let digest = starts.iter().fold(0, |digest, (number, found)| mixed(mixed(digest, *number), found.len() as u64));
    Ok(Schedules { options, creating, idle, memory, creating_due, late, tick_cpu, missing, surplus, digest })
}

/// Makes so many schedules that act once, at a time in seconds since the epoch.
async fn create(
    server: &Arc<Server>,
    options: &ScheduleOptions,
    what: &'static str,
    count: u64,
    due_s: u64,
) -> Result<(), String> {
    let mut creating = tokio::task::JoinSet::new();
    for client in 0..options.clients {
        let numbers = (client..count).step_by(usize::try_from(options.clients).unwrap_or(1));
        let (server, mut connection) = (server.clone(), server.client());
        creating.spawn(async move {
            for number in numbers {
                connection.create_schedule(request(&server, what, number, due_s)).await?;
            }
            Ok::<(), tonic::Status>(())
        });
    }
    while let Some(created) = creating.join_next().await {
        created.map_err(|error| error.to_string())?.map_err(|status| format!("a schedule was refused: {status}"))?;
    }
    Ok(())
}

fn request(server: &Server, what: &str, number: u64, due_s: u64) -> api::CreateScheduleRequest {
    let name = format!("{}-{what}", server.run);
    let id = format!("{name}-{number}");
    let workflow = NewWorkflowExecutionInfo {
        workflow_id: id.clone(),
        workflow_type: Some(WorkflowType { name: name.clone() }),
        task_queue: Some(TaskQueue { name, ..TaskQueue::default() }),
        ..NewWorkflowExecutionInfo::default()
    };
    let spec = schedule::ScheduleSpec {
        interval: vec![schedule::IntervalSpec { interval: seconds(MINUTE as i64), phase: None }],
        start_time: Some(Timestamp { seconds: due_s as i64 - 1, nanos: 0 }),
        ..schedule::ScheduleSpec::default()
    };
    let state = schedule::ScheduleState { limited_actions: true, remaining_actions: 1, ..Default::default() };
    let action = schedule::schedule_action::Action::StartWorkflow(workflow);
    api::CreateScheduleRequest {
        namespace: server.namespace.clone(),
        schedule_id: id.clone(),
        schedule: Some(schedule::Schedule {
            spec: Some(spec),
            action: Some(schedule::ScheduleAction { action: Some(action) }),
            state: Some(state),
            ..schedule::Schedule::default()
        }),
        identity: server.identity.clone(),
        request_id: id,
        ..api::CreateScheduleRequest::default()
    }
}

/// How late the workflows of each schedule started that are due, as soon as they are all there or it has taken too long.
async fn starts(
    server: &Server,
    options: &ScheduleOptions,
    due_s: u64,
) -> Result<BTreeMap<u64, Vec<Duration>>, String> {
    let mut client = server.client();
    let query = format!("WorkflowType = '{}-due'", server.run);
    let until = Instant::now() + STARTS_WITHIN;
    let refused = |status: tonic::Status| format!("it does not tell what was started: {status}");
    loop {
        let request = api::CountWorkflowExecutionsRequest { namespace: server.namespace.clone(), query: query.clone() };
        let count = client.count_workflow_executions(request).await.map_err(refused)?.into_inner().count;
        if count >= options.firing as i64 || Instant::now() > until {
            break;
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
    list(&mut client, server, query, due_s).await.map_err(refused)
}

async fn list(
    client: &mut Client,
    server: &Server,
    query: String,
    due_s: u64,
) -> Result<BTreeMap<u64, Vec<Duration>>, tonic::Status> {
    let mut starts: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    let mut next_page_token = bytes::Bytes::new();
    loop {
        let request = api::ListWorkflowExecutionsRequest {
            namespace: server.namespace.clone(),
            page_size: PAGE_SIZE,
            query: query.clone(),
            next_page_token,
        };
        let page = client.list_workflow_executions(request).await?.into_inner();
        for info in page.executions {
            let id = info.execution.unwrap_or_default().workflow_id;
            // Behind the schedule's id stands the time.
            let rest = id.strip_prefix(&format!("{}-due-", server.run)).unwrap_or_default();
            let number = rest.split('-').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
            let at = info.start_time.unwrap_or_default();
            let at = Duration::new(at.seconds.unsigned_abs(), at.nanos.unsigned_abs());
            starts.entry(number).or_default().push(at.saturating_sub(Duration::from_secs(due_s)));
        }
        next_page_token = page.next_page_token;
        if next_page_token.is_empty() {
            return Ok(starts);
        }
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn mixed(digest: u64, number: u64) -> u64 {
    number.to_be_bytes().iter().fold(digest, |digest, byte| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Schedules {
    /// Whether each schedule that was due started one workflow.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.missing == 0 && self.surplus == 0
    }

    fn late_ms(&self, per_mille: usize) -> f64 {
        let last = self.late.len().saturating_sub(1);
        self.late.get(last * per_mille / 1000).map_or(0.0, |late| milliseconds(*late))
    }
}

impl fmt::Display for Schedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |count: u64, took: Duration| count as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE);
        let ScheduleOptions { count, firing, .. } = self.options;
        writeln!(
            f,
            "created    {count} schedules, {:.0} per second, by {} clients",
            rate(count, self.creating),
            self.options.clients
        )?;
        if let Some(idle) = self.idle {
            writeln!(f, "idle       {:.2} % of one core", idle * 100.0)?;
        }
        if let Some(memory) = self.memory {
            let (now, peak) = (mebibytes(memory.now), mebibytes(memory.peak));
            writeln!(f, "memory     {now:.0} MiB resident, {peak:.0} MiB at most")?;
        }
        writeln!(
            f,
            "created    {firing} schedules of the same minute, {:.0} per second",
            rate(firing, self.creating_due)
        )?;
        let [p50, p99, max] = [500, 990, 1000].map(|per_mille| self.late_ms(per_mille));
        writeln!(
            f,
            "started    {} workflows, late by p50 {p50:.0} ms, p99 {p99:.0} ms, max {max:.0} ms",
            self.late.len()
        )?;
        if let Some(cpu) = self.tick_cpu.filter(|_| firing > 0) {
            writeln!(f, "server     {:.2} ms of CPU per start", milliseconds(cpu) / firing as f64)?;
        }
        if !self.is_good() {
            writeln!(f, "wrong      {} schedules started nothing, {} workflows too many", self.missing, self.surplus)?;
        }
        writeln!(f, "digest     {:016x}", self.digest)
    }
}
