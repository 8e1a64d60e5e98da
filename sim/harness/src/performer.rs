//! Clients at work: each performs its operations one after another and writes every try into the journal.

mod doomed;
pub(crate) mod jobs;
mod operators;
mod splits;
mod updates;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::temporal::common::v1::{RetryPolicy, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{
    HistoryEventFilterType, TaskQueueType, WorkflowExecutionStatus, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use mainstay_api::temporal::errordetails::v1::WorkflowExecutionAlreadyStartedFailure;
use mainstay_api::temporal::query::v1::WorkflowQuery;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, draw, trace};
use prost::Message;
use tonic::{Code, Status};

use crate::client::{
    CALL_TIMEOUT, Client, NAMESPACE, WORKFLOW_TYPE, call, decode, passing, payloads, task_queue, text,
};
use crate::coverage;
use crate::journal::{Call, Journal, Outcome};
use crate::ledger::Ledger;
use crate::operation::{Action, Follow, Manner, Operation, workflow_id};
use crate::plan::Plan;
use crate::violation::{Invariant, hold};

/// Tries of one operation.
const TRIES: usize = 40;

/// A client and where it writes what happened.
#[derive(Clone)]
pub struct Performer {
    client: Client,
    journal: Arc<Journal>,
    ledger: Arc<Ledger>,
}

/// How often a failing workflow is tried.
pub(crate) const TRIES_OF_A_RUN: i32 = 3;
/// A cron schedule, and what ends it.
const CRON: (&str, i64) = ("@every 2s", 9);

/// A start, whoever carries it.
#[derive(Clone, Copy)]
struct Start<'a> {
    label: &'a str,
    workflow_id: &'a str,
    conflict: WorkflowIdConflictPolicy,
    reuse: WorkflowIdReusePolicy,
    follow: Follow,
}

impl Start<'_> {
    fn request(&self, plan: &Plan) -> api::StartWorkflowExecutionRequest {
        let retry_policy = (self.follow == Follow::Retry).then(|| RetryPolicy {
            initial_interval: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
            backoff_coefficient: 2.0,
            maximum_attempts: TRIES_OF_A_RUN,
            ..RetryPolicy::default()
        });
        let cron = self.follow == Follow::Cron;
        api::StartWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: self.workflow_id.into(),
            workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
            task_queue: task_queue(),
            input: payloads(&plan.to_string()),
            identity: self.label.into(),
            request_id: self.label.into(),
            workflow_id_conflict_policy: self.conflict as i32,
            workflow_id_reuse_policy: self.reuse as i32,
            retry_policy,
            cron_schedule: if cron { CRON.0.into() } else { String::new() },
            workflow_execution_timeout: cron.then_some(prost_types::Duration { seconds: CRON.1, nanos: 0 }),
            ..Default::default()
        }
    }
}

/// A signal that a request carries, by its operation.
pub(crate) fn signal_name(label: &str) -> String {
    format!("signal-{label}")
}

impl Performer {
    /// A client with a connection of its own.
    #[must_use]
    pub fn new(servers: &[SocketAddr], number: usize, journal: &Arc<Journal>, ledger: &Arc<Ledger>) -> Self {
        let client = Client::new(servers, number, &format!("client-{number}"));
        Self { client, journal: journal.clone(), ledger: ledger.clone() }
    }

    /// Performs operations in order, none before its time.
    pub async fn perform(self, operations: Vec<Operation>) {
        for operation in operations {
            let wait = operation.at.saturating_sub(trace::now());
            if !wait.is_zero() {
                SimRuntime::sleep(wait).await;
            }
            coverage::met(operation.action.name());
            self.one(&operation).await;
        }
    }

    async fn one(&self, operation: &Operation) {
        match operation.manner {
            Manner::Once => drop(self.attempt(operation).await),
            Manner::Insist => {
                for _ in 0..TRIES {
                    if self.attempt(operation).await {
                        return;
                    }
                    SimRuntime::sleep(Duration::from_millis(draw(20..800))).await;
                }
            }
            Manner::Twice => {
                coverage::met("duplicated-request");
                let (performer, copy) = (self.clone(), operation.clone());
                let other = SimRuntime::spawn(async move { performer.attempt(&copy).await });
                self.attempt(operation).await;
                let _ = other.await;
            }
            Manner::Late(pause) => {
                coverage::met("late-request");
                self.attempt(operation).await;
                SimRuntime::sleep(pause).await;
                self.attempt(operation).await;
            }
        }
    }

    /// One try; answers whether the answer stands.
    async fn attempt(&self, operation: &Operation) -> bool {
        let workflow_id = workflow_id(operation.workflow);
        let label = operation.label.as_str();
        match &operation.action {
            Action::Start { plan, conflict, reuse, signal, follow } => {
                let start =
                    Start { label, workflow_id: &workflow_id, conflict: *conflict, reuse: *reuse, follow: *follow };
                if *signal { self.signal_with_start(start, plan).await } else { self.start(start, plan).await }
            }
            Action::Signal => self.signal(label, &workflow_id, operation.manner).await,
            Action::Storm { count } => self.storm(label, &workflow_id, *count, operation.manner).await,
            Action::Cancel => self.cancel(label, &workflow_id).await,
            Action::Terminate => self.terminate(label, &workflow_id).await,
            Action::Query => self.query(&workflow_id).await,
            Action::Describe => self.describe(label, &workflow_id).await,
            Action::List => self.list().await,
            Action::Watch => self.watch(&workflow_id).await,
            Action::Reset => self.reset(label, &workflow_id).await,
            Action::DescribeTaskQueue => self.describe_task_queue().await,
            Action::Update { wish, to_the_end } => self.update(label, &workflow_id, *wish, *to_the_end).await,
            Action::Schedule { interval, count, pause } => self.schedule(label, *interval, *count, *pause).await,
            Action::Batch { all, cancels } => self.batch(label, (!all).then_some(operation.workflow), *cancels).await,
            Action::PauseActivities { pause } => self.pause(label, &workflow_id, *pause).await,
            Action::Split { shard } => self.split(*shard).await,
            Action::PauseWorkflow { pause } => self.pause_workflow(label, &workflow_id, *pause).await,
            Action::UpdateWithStart { plan, wish, to_the_end } => {
                self.update_with_start(label, &workflow_id, plan, *wish, *to_the_end).await
            }
            Action::Delete { millis, pause } => self.delete(label, *millis, *pause).await,
        }
    }

    /// Writes what was answered; says whether it stands.
    fn write<T>(&self, place: usize, name: &str, answer: Result<T, Status>, read: impl FnOnce(T) -> Outcome) -> bool {
        let outcome = match answer {
            Ok(answer) => read(answer),
            Err(status) if passing(name, &status) => Outcome::Unknown,
            Err(status) if status.code() == Code::NotFound => Outcome::NotFound,
            Err(status) if status.code() == Code::AlreadyExists => already_started(&status),
            Err(status) => Outcome::Refused(format!("{:?}: {}", status.code(), status.message())),
        };
        let stands = outcome != Outcome::Unknown;
        self.journal.answer(place, outcome);
        stands
    }

    async fn start(&self, start: Start<'_>, plan: &Plan) -> bool {
        let Start { label, workflow_id, conflict, reuse, .. } = start;
        let place = self.journal.invoke(label, workflow_id, Call::Start { conflict, reuse, signal: None });
        let mut stub = self.client.stub.clone();
        let request = start.request(plan);
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.start_workflow_execution(it).await }).await;
        self.begun(answer.as_ref().ok().map(|it| &it.run_id));
        self.write(place, "StartWorkflowExecution", answer, |it| Outcome::Run { run_id: it.run_id, fresh: it.started })
    }

    /// Somebody is told of a run.
    fn begun(&self, run_id: Option<&String>) {
        self.ledger.promises().begun.extend(run_id.cloned());
    }

    async fn signal_with_start(&self, start: Start<'_>, plan: &Plan) -> bool {
        let Start { label, workflow_id, conflict, reuse, .. } = start;
        let name = signal_name(label);
        let plain = start.request(plan);
        let request = api::SignalWithStartWorkflowExecutionRequest {
            namespace: plain.namespace,
            workflow_id: plain.workflow_id,
            workflow_type: plain.workflow_type,
            task_queue: plain.task_queue,
            input: plain.input,
            identity: plain.identity,
            request_id: plain.request_id,
            signal_name: name.clone(),
            workflow_id_conflict_policy: conflict as i32,
            workflow_id_reuse_policy: reuse as i32,
            retry_policy: plain.retry_policy,
            cron_schedule: plain.cron_schedule,
            workflow_execution_timeout: plain.workflow_execution_timeout,
            ..Default::default()
        };
        let asked = Call::Start { conflict, reuse, signal: Some(name.clone()) };
        let place = self.journal.invoke(label, workflow_id, asked);
        let mut stub = self.client.stub.clone();
        let answer =
            call(CALL_TIMEOUT, request, |it| async move { stub.signal_with_start_workflow_execution(it).await }).await;
        if answer.is_ok() {
            self.ledger.signaled(workflow_id, &name);
        }
        self.begun(answer.as_ref().ok().map(|it| &it.run_id));
        self.write(place, "SignalWithStartWorkflowExecution", answer, |it| Outcome::Run {
            run_id: it.run_id,
            fresh: it.started,
        })
    }

    /// What is sent once has no request id: then nothing but the server's own care keeps it from being done twice.
    async fn signal(&self, label: &str, workflow_id: &str, manner: Manner) -> bool {
        let name = signal_name(label);
        let request = api::SignalWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(current(workflow_id)),
            signal_name: name.clone(),
            identity: label.into(),
            request_id: if manner == Manner::Once { String::new() } else { name.clone() },
            ..Default::default()
        };
        let place = self.journal.invoke(label, workflow_id, Call::Signal { name: name.clone() });
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.signal_workflow_execution(it).await }).await;
        if answer.is_ok() {
            self.ledger.signaled(workflow_id, &name);
        }
        self.write(place, "SignalWorkflowExecution", answer, |_| Outcome::Done)
    }

    async fn storm(&self, label: &str, workflow_id: &str, count: u64, manner: Manner) -> bool {
        let mut storming = Vec::new();
        for number in 0..count {
            let (performer, label, workflow_id) = (self.clone(), format!("{label}.{number}"), workflow_id.to_string());
            storming.push(SimRuntime::spawn(async move { performer.signal(&label, &workflow_id, manner).await }));
        }
        for one in storming {
            let _ = one.await;
        }
        true
    }

    async fn cancel(&self, label: &str, workflow_id: &str) -> bool {
        let request = api::RequestCancelWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(current(workflow_id)),
            identity: label.into(),
            request_id: label.into(),
            reason: label.into(),
            ..Default::default()
        };
        let place = self.journal.invoke(label, workflow_id, Call::Cancel);
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.request_cancel_workflow_execution(it).await });
        self.write(place, "RequestCancelWorkflowExecution", answer.await, |_| Outcome::Done)
    }

    async fn terminate(&self, label: &str, workflow_id: &str) -> bool {
        let request = api::TerminateWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(current(workflow_id)),
            identity: label.into(),
            reason: label.into(),
            ..Default::default()
        };
        let place = self.journal.invoke(label, workflow_id, Call::Terminate);
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.terminate_workflow_execution(it).await }).await;
        self.write(place, "TerminateWorkflowExecution", answer, |_| Outcome::Done)
    }

    async fn describe(&self, label: &str, workflow_id: &str) -> bool {
        let request = api::DescribeWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            execution: Some(current(workflow_id)),
        };
        let place = self.journal.invoke(label, workflow_id, Call::Describe);
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.describe_workflow_execution(it).await }).await;
        self.write(place, "DescribeWorkflowExecution", answer, |it| {
            let info = it.workflow_execution_info.unwrap_or_default();
            let status = info.status();
            if !matches!(status, WorkflowExecutionStatus::Running | WorkflowExecutionStatus::Paused) {
                self.ledger.promises().closed.insert(info.execution.clone().unwrap_or_default().run_id);
            }
            Outcome::Status { run_id: info.execution.unwrap_or_default().run_id, status }
        })
    }

    async fn reset(&self, label: &str, workflow_id: &str) -> bool {
        let request = api::ResetWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(current(workflow_id)),
            // The end of the first workflow task, if nothing else came before.
            workflow_task_finish_event_id: 4,
            request_id: label.into(),
            reason: label.into(),
            ..Default::default()
        };
        let place = self.journal.invoke(label, workflow_id, Call::Reset);
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.reset_workflow_execution(it).await }).await;
        self.write(place, "ResetWorkflowExecution", answer, |it| Outcome::Run { run_id: it.run_id, fresh: true })
    }

    /// A query sees every signal that was acknowledged before it was asked. The current run may be a later one than theirs, so
    /// only signals of the run that answers count.
    async fn query(&self, workflow_id: &str) -> bool {
        let known = self.signals_of_current(workflow_id).await;
        let request = api::QueryWorkflowRequest {
            namespace: NAMESPACE.into(),
            execution: known.as_ref().map(|(execution, _)| execution.clone()).or_else(|| Some(current(workflow_id))),
            query: Some(WorkflowQuery { query_type: "signals".into(), ..Default::default() }),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        match call(CALL_TIMEOUT, request, |it| async move { stub.query_workflow(it).await }).await {
            // One that is paused answers nothing.
            Ok(answer)
                if answer.query_rejected.as_ref().is_some_and(|it| it.status() == WorkflowExecutionStatus::Paused) => {}
            Ok(answer) => {
                let answer = text(answer.query_result.as_ref());
                let seen: usize = answer.parse().unwrap_or_else(|_| panic!("a query was answered {answer:?}"));
                if let Some((execution, known)) = known {
                    hold(seen >= known, Invariant::FreshQueries, || {
                        format!("{execution:?} answers {seen} signals of {known} that were shown before")
                    });
                }
            }
            // No such workflow yet, no worker, or the wire.
            Err(status) => {
                let _ = passing("QueryWorkflow", &status);
                trace::event(format!("query of {workflow_id}: {:?} {}", status.code(), status.message()));
            }
        }
        true
    }

    /// The current run, and how many signals its history shows.
    async fn signals_of_current(&self, workflow_id: &str) -> Option<(WorkflowExecution, usize)> {
        let request = api::DescribeWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            execution: Some(current(workflow_id)),
        };
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.describe_workflow_execution(it).await }).await;
        let execution = answer.ok()?.workflow_execution_info?.execution?;
        let raw = self.client.history(&execution).await.ok()?;
        let events = decode(Some(&mainstay_api::RawHistory { events: raw }));
        Some((execution, crate::progress::Progress::of(&events).signals as usize))
    }

    async fn list(&self) -> bool {
        let query = ["", "ExecutionStatus = 'Running'", "ExecutionStatus = 'Completed'", "WorkflowType = 'planned'"];
        let query = query[draw(0..query.len() as u64) as usize];
        if query.is_empty() {
            return self.list_all().await;
        }
        let request = api::ListWorkflowExecutionsRequest {
            namespace: NAMESPACE.into(),
            query: query.into(),
            page_size: draw(1..20) as i32,
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        match call(CALL_TIMEOUT, request, |it| async move { stub.list_workflow_executions(it).await }).await {
            Ok(_) => true,
            Err(status) => {
                assert!(passing("ListWorkflowExecutions", &status), "a list was refused: {status:?}");
                false
            }
        }
    }

    /// A list of everything has every run that somebody was told of before.
    async fn list_all(&self) -> bool {
        let begun = self.ledger.promises().begun.clone();
        let listed = self.client.list("").await.unwrap_or_else(|status| panic!("a list was refused: {status:?}"));
        let listed: BTreeSet<String> = listed.into_iter().filter_map(|row| Some(row.execution?.run_id)).collect();
        let missing: Vec<&String> = begun.iter().filter(|run| !listed.contains(*run)).collect();
        hold(missing.is_empty(), Invariant::ListsFollowHistories, || format!("a list leaves out {missing:?}"));
        true
    }

    async fn watch(&self, workflow_id: &str) -> bool {
        let request = api::GetWorkflowExecutionHistoryRequest {
            namespace: NAMESPACE.into(),
            execution: Some(current(workflow_id)),
            wait_new_event: true,
            history_event_filter_type: HistoryEventFilterType::CloseEvent as i32,
            next_page_token: Bytes::new(),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        match call(CALL_TIMEOUT, request, |it| async move { stub.get_workflow_execution_history(it).await }).await {
            Ok(_) => true,
            Err(status) => passing("GetWorkflowExecutionHistory", &status) || status.code() == Code::NotFound,
        }
    }

    async fn describe_task_queue(&self) -> bool {
        let request = api::DescribeTaskQueueRequest {
            namespace: NAMESPACE.into(),
            task_queue: task_queue(),
            task_queue_type: TaskQueueType::Workflow as i32,
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        match call(CALL_TIMEOUT, request, |it| async move { stub.describe_task_queue(it).await }).await {
            Ok(_) => true,
            Err(status) => {
                assert!(passing("DescribeTaskQueue", &status), "DescribeTaskQueue was refused: {status:?}");
                false
            }
        }
    }
}

/// The current run of a workflow.
fn current(workflow_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.into(), run_id: String::new() }
}

fn already_started(status: &Status) -> Outcome {
    let details = mainstay_api::pb::google::rpc::Status::decode(status.details()).unwrap_or_default();
    let failure = details.details.first().map(|any| any.value.clone()).unwrap_or_default();
    let failure = WorkflowExecutionAlreadyStartedFailure::decode(failure.as_slice()).unwrap_or_default();
    Outcome::AlreadyStarted { run_id: failure.run_id }
}
