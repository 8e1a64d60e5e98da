//! The clients: each starts a workflow, waits for its result, and starts the next. What begins and ends inside the measured
//! time counts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::HistoryEventFilterType;
use mainstay_api::temporal::history::v1::{HistoryEvent, history_event};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;
use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;

use crate::server::{Client, Server, read_number, seconds};
use crate::{Options, attributes};

/// A workflow that takes longer is an error.
const RESULT_WITHIN: Duration = Duration::from_secs(60);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
const WORKFLOW_TIMEOUT_S: i64 = 600;

/// What the clients saw.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// From a start's call to its result, of each completed workflow.
    pub latencies: Vec<Duration>,
    /// How often what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Results that are not what the workflow must return.
    pub wrong: u64,
    /// From the first counted start to the last counted result.
    pub elapsed: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Warmup,
    Measuring,
    Over,
}

/// Running clients.
pub(crate) struct Load {
    phase: watch::Sender<Phase>,
    clients: Vec<JoinHandle<Measured>>,
    completed: Arc<AtomicU64>,
    options: Arc<Options>,
    began: std::sync::OnceLock<Instant>,
}

impl Load {
    pub fn start(server: Arc<Server>, options: Arc<Options>) -> Self {
        let (phase, _) = watch::channel(Phase::Warmup);
        let completed = Arc::new(AtomicU64::new(0));
        let clients = (0..options.clients).map(|number| {
            let client = OneClient {
                number,
                server: server.clone(),
                options: options.clone(),
                phase: phase.subscribe(),
                completed: completed.clone(),
            };
            tokio::spawn(client.run())
        });
        Self { clients: clients.collect(), phase, completed, options, began: std::sync::OnceLock::new() }
    }

    /// From now on workflows count.
    pub fn begin(&self) {
        let _ = self.began.set(Instant::now());
        self.phase.send_replace(Phase::Measuring);
    }

    /// Waits for the end of the measurement and of the clients.
    pub async fn end(self) -> Measured {
        let began = self.began.get().copied().unwrap_or_else(Instant::now);
        let until = began + Duration::from_secs_f64(self.options.duration.max(0.0));
        match self.options.count {
            None => tokio::time::sleep_until(until.into()).await,
            Some(count) => {
                while self.completed.load(Ordering::Relaxed) < count
                    && !self.clients.iter().all(JoinHandle::is_finished)
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        self.phase.send_replace(Phase::Over);
        let mut all = Measured { elapsed: began.elapsed(), ..Measured::default() };
        for client in self.clients {
            let Ok(one) = client.await else { continue };
            all.latencies.extend(one.latencies);
            all.wrong += one.wrong;
            one.errors.into_iter().for_each(|(what, times)| *all.errors.entry(what).or_default() += times);
        }
        all
    }
}

/// Starts workflows on a queue that nobody polls, as many at a time as there are clients.
pub(crate) async fn leave_open(server: &Arc<Server>, options: &Options) -> Result<(), String> {
    let mut starting = tokio::task::JoinSet::new();
    for client in 0..options.clients as u64 {
        let numbers = (client..options.open).step_by(options.clients);
        let (server, options, mut connection) = (server.clone(), options.clone(), server.client());
        starting.spawn(async move {
            let queue = TaskQueue { name: format!("{}-nobody", server.run), ..TaskQueue::default() };
            for number in numbers {
                let id = format!("{}-open-{number}", server.run);
                connection.start_workflow_execution(start(&server, &options, id, number, queue.clone())).await?;
            }
            Ok::<(), Status>(())
        });
    }
    while let Some(started) = starting.join_next().await {
        started.map_err(|error| error.to_string())?.map_err(|status| format!("a workflow did not start: {status}"))?;
    }
    Ok(())
}

/// The type of a workflow.
pub(crate) fn workflow_type(options: &Options, number: u64) -> String {
    if options.types == 1 { "count".into() } else { format!("count-{}", number % options.types) }
}

fn start(
    server: &Server,
    options: &Options,
    id: String,
    number: u64,
    task_queue: TaskQueue,
) -> api::StartWorkflowExecutionRequest {
    api::StartWorkflowExecutionRequest {
        namespace: server.namespace.clone(),
        request_id: id.clone(),
        workflow_id: id,
        workflow_type: Some(WorkflowType { name: workflow_type(options, number) }),
        search_attributes: attributes::of(options.search_attributes, number),
        task_queue: Some(task_queue),
        identity: server.identity.clone(),
        ..Default::default()
    }
}

struct OneClient {
    number: usize,
    server: Arc<Server>,
    options: Arc<Options>,
    phase: watch::Receiver<Phase>,
    completed: Arc<AtomicU64>,
}

impl OneClient {
    async fn run(mut self) -> Measured {
        let mut measured = Measured::default();
        let mut client = self.server.client();
        for turn in 0_u64.. {
            if *self.phase.borrow() == Phase::Over {
                break;
            }
            let began = Instant::now();
            let id = format!("{}-{}-{turn}", self.server.run, self.number);
            let number = turn * self.options.clients as u64 + self.number as u64;
            let result = tokio::time::timeout(RESULT_WITHIN, self.workflow(&mut client, id, number)).await;
            let took = began.elapsed();
            // A workflow that ends after the measurement was not done in its time; an error counts at any time.
            let counts = *self.phase.borrow_and_update() == Phase::Measuring;
            match result {
                Ok(Ok(Some(number))) if number == self.options.activities => {
                    if counts {
                        measured.latencies.push(took);
                        self.completed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(Ok(_)) => measured.wrong += 1,
                Ok(Err(status)) => {
                    *measured.errors.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1;
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
                Err(_) => *measured.errors.entry("no result within a minute".into()).or_default() += 1,
            }
        }
        measured
    }

    /// The result of one workflow; none if it did not complete.
    async fn workflow(&self, client: &mut Client, id: String, number: u64) -> Result<Option<u32>, Status> {
        let server = &self.server;
        let request = api::StartWorkflowExecutionRequest {
            input: server.number(self.options.activities),
            workflow_run_timeout: seconds(WORKFLOW_TIMEOUT_S),
            ..start(server, &self.options, id.clone(), number, server.task_queue())
        };
        let run_id = client.start_workflow_execution(request).await?.into_inner().run_id;
        let mut next_page_token = bytes::Bytes::new();
        loop {
            let request = api::GetWorkflowExecutionHistoryRequest {
                namespace: server.namespace.clone(),
                execution: Some(WorkflowExecution { workflow_id: id.clone(), run_id: run_id.clone() }),
                wait_new_event: true,
                history_event_filter_type: HistoryEventFilterType::CloseEvent.into(),
                next_page_token,
                ..Default::default()
            };
            let page = client.get_workflow_execution_history(request).await?.into_inner();
            if let Some(event) = page.history.unwrap_or_default().events.into_iter().next() {
                let event = HistoryEvent::decode(event).map_err(|error| Status::data_loss(error.to_string()))?;
                return Ok(match event.attributes {
                    Some(history_event::Attributes::WorkflowExecutionCompletedEventAttributes(completed)) => {
                        read_number(completed.result.as_ref())
                    }
                    _ => None,
                });
            }
            next_page_token = page.next_page_token;
        }
    }
}
