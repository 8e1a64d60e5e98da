//! A load generator for anything that speaks Temporal's gRPC API.
//!
//! A number of clients start workflows and wait for their results, one after the other (a closed loop). Their workers run in the
//! same process and are as thin as can be: a workflow runs N activities in sequence, and each result says how many ran, so that
//! every result is checked. It knows nothing of the server but its address and, for its costs, its process id.

mod attributes;
mod lists;
mod load;
mod pages;
mod process;
mod report;
pub mod schedules;
mod server;
mod workers;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

pub use lists::Lists;
use load::Load;
pub use pages::Pages;
use process::Process;
pub use report::Report;
use server::Server;
pub use writes::Writes;

/// What to do, and to whom.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Where the server listens.
    #[arg(long, default_value = "127.0.0.1:7233")]
    pub address: String,
    /// The namespace to work in; it must exist.
    #[arg(long, short = 'n', default_value = "default")]
    pub namespace: String,
    /// Clients, each with one workflow at a time.
    #[arg(long, short = 'c', default_value_t = 16)]
    pub clients: usize,
    /// Activities of each workflow, one after the other; with 0 a workflow completes in its first task.
    #[arg(long, short = 'a', default_value_t = 3)]
    pub activities: u32,
    /// Seconds to measure.
    #[arg(long, short = 'd', default_value_t = 10.0)]
    pub duration: f64,
    /// Seconds of load before that, not measured.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Measures this many workflows instead of a time.
    #[arg(long)]
    pub count: Option<u64>,
    /// Starts this many workflows before that, which nobody works on and which stay open.
    #[arg(long, default_value_t = 0)]
    pub open: u64,
    /// Pollers of each kind of task. Default: as many as clients, at most 64.
    #[arg(long)]
    pub pollers: Option<usize>,
    /// HTTP/2 connections to spread the calls over.
    #[arg(long, default_value_t = 2)]
    pub connections: usize,
    /// Bytes of payload that each activity gets and returns, besides its number.
    #[arg(long, default_value_t = 0)]
    pub payload: usize,
    /// No sticky task queue: workflow tasks carry the whole history.
    #[arg(long)]
    pub no_sticky: bool,
    /// Workflow types over which workflows are spread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub types: u64,
    /// Search attributes of each workflow, which are added to the namespace.
    #[arg(long, default_value_t = 0, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(..=5))]
    pub search_attributes: usize,
    /// Measures lists and counts as well, afterwards.
    #[arg(long)]
    pub lists: bool,
    /// Measures pages of the web interface at this address as well, afterwards.
    #[arg(long, value_name = "ADDRESS")]
    pub ui: Option<String>,
    /// Where nodes show their metrics, to report what each wrote per workflow; may be given again.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub metrics: Vec<String>,
    /// Process id of the server, to report its CPU time and memory (on this machine only).
    #[arg(long)]
    pub pid: Option<u32>,
}

/// Runs the load; blocks until it ended.
///
/// # Errors
/// If the server cannot be reached or the options make no sense, as a sentence.
pub fn run(options: Options) -> Result<Report, String> {
    if options.clients == 0 || options.connections == 0 {
        return Err("--clients and --connections must be at least 1".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no threads: {error}"))?;
    let report = runtime.block_on(measure(Arc::new(options)));
    // Pollers may wait for a minute; nobody needs their answers.
    runtime.shutdown_background();
    report
}

async fn measure(options: Arc<Options>) -> Result<Report, String> {
    attributes::add(&options).await?;
    let server =
        Arc::new(Server::connect(&options.address, &options.namespace, options.connections, options.payload).await?);
    load::leave_open(&server, &options).await?;
    workers::start(&server, &options);
    let process = options.pid.map(Process::of).transpose()?;
    let load = Load::start(server.clone(), options.clone());
    tokio::time::sleep(Duration::from_secs_f64(options.warmup.max(0.0))).await;
    let written = writes::begin(&options.metrics).await?;
    let before = process.as_ref().map(Process::cpu);
    load.begin();
    let measured = load.end().await;
    let server_cpu = process.as_ref().zip(before).map(|(process, before)| process.cpu().saturating_sub(before));
    let memory = process.as_ref().and_then(Process::memory);
    let mut report = Report::new(&options, measured, server_cpu, memory);
    let completed = report.completed();
    report = report.with_writes(writes::end(written, completed).await?);
    if options.lists {
        report = report.with_lists(lists::measure(&server, &options).await?);
    }
    if let Some(address) = &options.ui {
        report = report.with_pages(pages::measure(address, &options).await?);
    }
    Ok(report)
}
