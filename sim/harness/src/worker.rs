//! A worker: polls for workflow tasks over gRPC and does what the plan in the history says.
//!
//! Each poller has a sticky queue and remembers the histories that it acted on, as an SDK's worker does; a decision is still a
//! function of the whole history. Some tasks it fails, some it forgets, some it answers with the token of another. What it was
//! given, and what was acknowledged to it, goes to the ledger.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::temporal::command::v1::Command;
use mainstay_api::temporal::command::v1::command::Attributes;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{QueryResultType, TaskQueueKind, WorkflowTaskFailedCause};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::query::v1::WorkflowQueryResult;
use mainstay_api::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{Handle, NodeHandle, SimRuntime, draw, trace};
use tonic::{Code, Status};

use crate::client::{
    CALL_TIMEOUT, Client, NAMESPACE, POLL_TIMEOUT, TASK_QUEUE, call, decode, insist, passing, payloads, task_queue,
};
use crate::decide::decide;
use crate::ledger::Ledger;
use crate::progress::Progress;
use crate::updates::Answers;
use crate::violation::{Invariant, violated};
use crate::{activities, coverage, oracle};

/// How a worker of this run behaves, in parts of a thousand of its tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// Pollers of each kind.
    pub pollers: usize,
    /// It never answers.
    pub forgets: u64,
    /// It answers that it failed.
    pub fails: u64,
    /// It first tries a token of the past.
    pub confuses: u64,
    /// It asks for sticky queues.
    pub sticky: bool,
}

/// Starts a machine with a worker that has some pollers of each kind. It can be killed and restarted.
#[must_use]
pub fn boot(ip: IpAddr, servers: &[SocketAddr], habits: Habits, ledger: &Arc<Ledger>) -> NodeHandle {
    let ledger = ledger.clone();
    let servers: Arc<[SocketAddr]> = servers.into();
    let start = move || {
        let (ledger, servers) = (ledger.clone(), servers.clone());
        async move {
            trace::event("workers start");
            for number in 0..habits.pollers {
                let client = Client::new(&servers, number, &format!("activities-{number}"));
                drop(SimRuntime::spawn(activities::poll(client, habits, ledger.clone())));
                let worker = Arc::new(Worker::new(&servers, number, habits, ledger.clone()));
                drop(SimRuntime::spawn(worker.clone().poll(task_queue())));
                if habits.sticky {
                    drop(SimRuntime::spawn(worker.clone().poll(Some(worker.sticky_queue()))));
                }
            }
            std::future::pending::<()>().await
        }
    };
    Handle::current().create_node().name("workers").ip(ip).init(start).build()
}

/// A refused poll is repeated after a pause.
pub(crate) async fn refused(name: &str, status: &Status) {
    assert!(passing(name, status), "{name} was refused: {status:?}");
    SimRuntime::sleep(Duration::from_millis(draw(10..300))).await;
}

/// Whether something that happens in so many parts of a thousand happens now.
pub(crate) fn happens(per_mille: u64) -> bool {
    draw(0..1000) < per_mille
}

/// The answer to a token of the past must be that it is unknown.
pub(crate) fn must_be_stale<T>(name: &str, answer: Result<T, Status>) {
    match answer {
        Ok(_) => violated(Invariant::StaleTokensRefused, format!("{name} took a token that was spent")),
        Err(status) if status.code() == Code::NotFound || passing(name, &status) => {}
        Err(status) => {
            violated(Invariant::StaleTokensRefused, format!("{name} answered a spent token with {status:?}"))
        }
    }
}

/// What came of a task's completion.
enum Completed {
    No,
    /// It is in the history.
    Written,
    /// Only updates were asked and all were rejected: the history ends with this event, as if there had been no task.
    Dropped(usize),
}

struct Worker {
    client: Client,
    habits: Habits,
    ledger: Arc<Ledger>,
    sticky: String,
    /// Histories up to the last task that was completed, by run.
    cache: Mutex<BTreeMap<String, Vec<Bytes>>>,
}

impl Worker {
    fn new(servers: &[SocketAddr], number: usize, habits: Habits, ledger: Arc<Ledger>) -> Self {
        // A new process has a new sticky queue.
        let sticky = format!("sticky-{number}-{:08x}", draw(0..1 << 32));
        let client = Client::new(servers, number, &format!("workflows-{number}"));
        Self { client, habits, ledger, sticky, cache: Mutex::default() }
    }

    fn sticky_queue(&self) -> TaskQueue {
        TaskQueue { name: self.sticky.clone(), kind: TaskQueueKind::Sticky as i32, normal_name: TASK_QUEUE.into() }
    }

    async fn poll(self: Arc<Self>, queue: Option<TaskQueue>) {
        loop {
            let request = api::PollWorkflowTaskQueueRequest {
                namespace: NAMESPACE.into(),
                task_queue: queue.clone(),
                identity: self.client.identity.clone(),
                ..Default::default()
            };
            let mut stub = self.client.stub.clone();
            let polled =
                call(POLL_TIMEOUT, request, |request| async move { stub.poll_workflow_task_queue(request).await });
            match polled.await {
                Ok(task) if task.task_token.is_empty() => {}
                Ok(task) => self.handle(task).await,
                Err(status) => refused("PollWorkflowTaskQueue", &status).await,
            }
        }
    }

    async fn handle(&self, task: api::PollWorkflowTaskQueueResponse) {
        let execution = task.workflow_execution.clone().unwrap_or_default();
        let Some(mut raw) = self.whole_history(&execution, &task).await else { return };
        let events = decode(Some(&RawHistory { events: raw.clone() }));
        if task.query.is_some() {
            coverage::met("answer-query");
            return self.answer(task, &events).await;
        }
        coverage::met("workflow-task");
        // The task's own events are sure only when it completes, if it is a repeated one or one for updates alone.
        let own = if task.attempt > 1 || !task.messages.is_empty() { 2 } else { 0 };
        self.ledger.saw(&execution, &raw[..raw.len().saturating_sub(own)]);
        oracle::never_early::timers(&self.ledger, &execution, &events);
        trace::event(format!(
            "{}: {} attempt {} of task {} with {} events",
            self.client.identity,
            execution.workflow_id,
            task.attempt,
            task.started_event_id,
            events.len()
        ));
        self.remember(&execution, None);
        SimRuntime::sleep(Duration::from_micros(draw(100..5000))).await;
        if happens(self.habits.confuses) {
            self.confuse().await;
        }
        if happens(self.habits.forgets) {
            coverage::met("forget-task");
            return trace::event(format!("{}: forgets its task", self.client.identity));
        }
        if happens(self.habits.fails) {
            return self.fail(task).await;
        }
        let started = task.started_event_id;
        let token = task.task_token.clone();
        match self.complete(&execution, task, &events).await {
            Completed::No => {}
            Completed::Written => {
                self.ledger.workflow_task_completed(&execution, started, token);
                self.remember(&execution, Some(raw));
            }
            Completed::Dropped(last) => {
                coverage::met("dropped-task");
                raw.truncate(last);
                self.remember(&execution, Some(raw));
            }
        }
    }

    /// Completes a task again that was completed before.
    async fn confuse(&self) {
        let Some(task_token) = self.ledger.spent(false) else { return };
        coverage::met("stale-task-token");
        let request = api::RespondWorkflowTaskCompletedRequest {
            namespace: NAMESPACE.into(),
            task_token,
            identity: self.client.identity.clone(),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        let sent = call(CALL_TIMEOUT, request, |it| async move { stub.respond_workflow_task_completed(it).await });
        must_be_stale("RespondWorkflowTaskCompleted", sent.await);
    }

    fn remember(&self, execution: &WorkflowExecution, raw: Option<Vec<Bytes>>) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        match raw {
            Some(raw) => drop(cache.insert(execution.run_id.clone(), raw)),
            None => drop(cache.remove(&execution.run_id)),
        }
    }

    /// The task's history: what is remembered and what came with it, or all of it from the server. None if the run is gone.
    async fn whole_history(
        &self,
        execution: &WorkflowExecution,
        task: &api::PollWorkflowTaskQueueResponse,
    ) -> Option<Vec<Bytes>> {
        let mut events = task.history.clone().unwrap_or_default().events;
        let mut token = task.next_page_token.clone();
        let first = decode(Some(&RawHistory { events: events.iter().take(1).cloned().collect() }));
        let first = first.first().map(|event| event.event_id);
        if first != Some(1) {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            let known =
                cache.get(&execution.run_id).filter(|known| first.is_none_or(|id| known.len() as i64 == id - 1));
            match known {
                Some(known) => events = [known.as_slice(), events.as_slice()].concat(),
                None => (events, token) = (Vec::new(), Bytes::new()),
            }
        }
        while !token.is_empty() || events.is_empty() {
            let request = api::GetWorkflowExecutionHistoryRequest {
                namespace: NAMESPACE.into(),
                execution: Some(execution.clone()),
                next_page_token: token,
                ..Default::default()
            };
            match insist!(self.client.stub, CALL_TIMEOUT, get_workflow_execution_history, request.clone()) {
                Ok(page) => {
                    events.extend(page.history.unwrap_or_default().events);
                    token = page.next_page_token;
                }
                Err(status) if status.code() == Code::NotFound => return None,
                Err(status) => panic!("a page of the history of {execution:?}: {status:?}"),
            }
        }
        if task.started_event_id > 0 {
            events.truncate(task.started_event_id as usize);
        }
        Some(events)
    }

    /// Completes a task.
    async fn complete(
        &self,
        execution: &WorkflowExecution,
        task: api::PollWorkflowTaskQueueResponse,
        events: &[HistoryEvent],
    ) -> Completed {
        let progress = Progress::of(events);
        let answer = WorkflowQueryResult {
            result_type: QueryResultType::Answered as i32,
            answer: payloads(&progress.signals.to_string()),
            ..Default::default()
        };
        let sticky = StickyExecutionAttributes {
            worker_task_queue: Some(self.sticky_queue()),
            schedule_to_start_timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        };
        task.messages.iter().for_each(|_| coverage::met("answer-update"));
        let Answers { mut commands, messages } = Answers::of(&progress, &task.messages);
        commands.extend(decide(&execution.run_id, events));
        self.note_timers(execution, &commands);
        let request = api::RespondWorkflowTaskCompletedRequest {
            namespace: NAMESPACE.into(),
            task_token: task.task_token,
            identity: self.client.identity.clone(),
            commands,
            messages,
            sticky_attributes: self.habits.sticky.then_some(sticky),
            query_results: task.queries.keys().map(|id| (id.clone(), answer.clone())).collect(),
            ..Default::default()
        };
        match insist!(self.client.stub, CALL_TIMEOUT, respond_workflow_task_completed, request.clone()) {
            Ok(answer) if answer.reset_history_event_id > 0 => {
                return Completed::Dropped(answer.reset_history_event_id as usize);
            }
            Ok(_) => return Completed::Written,
            // It timed out, or an earlier try of this call was applied.
            Err(status) if status.code() == Code::NotFound => {
                trace::event(format!("{}: too late", self.client.identity));
            }
            // Something came that the worker did not know of when it decided to close the run: it will be asked again.
            Err(status) if status.message() == "UnhandledCommand" => trace::event("unhandled command"),
            // The server no longer knows an update that the worker answers: it will be sent again.
            Err(status) if status.message().contains("wasn't found on the server") => trace::event("update forgotten"),
            Err(status) => panic!("RespondWorkflowTaskCompleted of {execution:?}: {status:?}"),
        }
        Completed::No
    }

    fn note_timers(&self, execution: &WorkflowExecution, commands: &[Command]) {
        for command in commands {
            coverage::met(command.command_type().as_str_name().trim_start_matches("COMMAND_TYPE_"));
            if let Some(Attributes::StartTimerCommandAttributes(timer)) = command.attributes.as_ref() {
                let span = timer.start_to_fire_timeout.and_then(|span| Duration::try_from(span).ok());
                self.ledger.timer_wanted(execution, &timer.timer_id, span.unwrap_or_default());
            }
        }
    }

    async fn fail(&self, task: api::PollWorkflowTaskQueueResponse) {
        coverage::met("fail-workflow-task");
        trace::event(format!("{}: fails its task", self.client.identity));
        let request = api::RespondWorkflowTaskFailedRequest {
            namespace: NAMESPACE.into(),
            task_token: task.task_token,
            identity: self.client.identity.clone(),
            cause: WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure as i32,
            ..Default::default()
        };
        match insist!(self.client.stub, CALL_TIMEOUT, respond_workflow_task_failed, request.clone()) {
            Ok(_) => {}
            Err(status) if status.code() == Code::NotFound => {
                trace::event(format!("{}: too late", self.client.identity));
            }
            Err(status) => panic!("RespondWorkflowTaskFailed: {status:?}"),
        }
    }

    async fn answer(&self, task: api::PollWorkflowTaskQueueResponse, events: &[HistoryEvent]) {
        let request = api::RespondQueryTaskCompletedRequest {
            namespace: NAMESPACE.into(),
            task_token: task.task_token,
            completed_type: QueryResultType::Answered as i32,
            query_result: payloads(&Progress::of(events).signals.to_string()),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        let sent =
            call(CALL_TIMEOUT, request, |request| async move { stub.respond_query_task_completed(request).await });
        if let Err(status) = sent.await {
            // The caller or the server is gone.
            let known = passing("RespondQueryTaskCompleted", &status) || status.code() == Code::NotFound;
            assert!(known, "RespondQueryTaskCompleted was refused: {status:?}");
        }
    }
}
