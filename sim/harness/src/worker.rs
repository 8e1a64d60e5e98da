//! A worker: polls for tasks over gRPC and does what the plan in the history says.
//!
//! It keeps no state between tasks, as a worker without a sticky queue does: each decision is a function of the history that it
//! was given. What it was given, and what was acknowledged to it, goes to the ledger.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mainstay_api::temporal::command::v1::command::Attributes;
use mainstay_api::temporal::command::v1::{
    Command, CompleteWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
    StartTimerCommandAttributes,
};
use mainstay_api::temporal::common::v1::{ActivityType, WorkflowExecution};
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::failure::v1::failure::FailureInfo;
use mainstay_api::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::history::v1::history_event::Attributes as Event;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{NodeHandle, SimRuntime, draw, trace};
use tonic::Code;

use crate::client::{Client, NAMESPACE, call, decode, insist, passing, payloads, task_queue, text};
use crate::ledger::Ledger;
use crate::plan::{Plan, Step};

const POLL_TIMEOUT: Duration = Duration::from_secs(70);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an attempt of an activity may take.
const START_TO_CLOSE: Duration = Duration::from_secs(10);

/// Starts a worker with some pollers of each kind on a machine.
pub fn start(machine: &NodeHandle, address: SocketAddr, name: &str, pollers: usize, ledger: &Arc<Ledger>) {
    for number in 0..pollers {
        let client = Client::new(address, &format!("{name}-workflows-{number}"));
        drop(machine.spawn(poll_workflow_tasks(client, ledger.clone())));
        let client = Client::new(address, &format!("{name}-activities-{number}"));
        drop(machine.spawn(poll_activity_tasks(client, ledger.clone())));
    }
}

async fn poll_workflow_tasks(client: Client, ledger: Arc<Ledger>) {
    loop {
        let request = api::PollWorkflowTaskQueueRequest {
            namespace: NAMESPACE.into(),
            task_queue: task_queue(),
            identity: client.identity.clone(),
            ..Default::default()
        };
        let mut stub = client.stub.clone();
        match call(POLL_TIMEOUT, request, |request| async move { stub.poll_workflow_task_queue(request).await }).await {
            Ok(task) if task.task_token.is_empty() => {}
            Ok(task) => handle_workflow_task(&client, &ledger, task).await,
            Err(status) => refused("PollWorkflowTaskQueue", &status).await,
        }
    }
}

/// A refused poll is repeated after a pause.
async fn refused(name: &str, status: &tonic::Status) {
    assert!(passing(name, status), "{name} was refused: {status:?}");
    SimRuntime::sleep(Duration::from_millis(draw(10..300))).await;
}

async fn handle_workflow_task(client: &Client, ledger: &Ledger, task: api::PollWorkflowTaskQueueResponse) {
    let execution = task.workflow_execution.clone().unwrap_or_default();
    let Some(raw) = whole_history(client, &execution, &task).await else { return };
    ledger.saw(&execution, &raw, task.attempt);
    let history = mainstay_api::RawHistory { events: raw };
    let events = decode(Some(&history));
    trace::event(format!(
        "{}: {} attempt {} of task {} with {} events",
        client.identity,
        execution.workflow_id,
        task.attempt,
        task.started_event_id,
        events.len()
    ));
    let commands = decide(&events);
    SimRuntime::sleep(Duration::from_micros(draw(100..5000))).await;
    let request = api::RespondWorkflowTaskCompletedRequest {
        namespace: NAMESPACE.into(),
        task_token: task.task_token,
        identity: client.identity.clone(),
        commands,
        ..Default::default()
    };
    match insist!(client.stub, CALL_TIMEOUT, respond_workflow_task_completed, request.clone()) {
        Ok(_) => ledger.workflow_task_completed(&execution, task.started_event_id),
        // It timed out, or an earlier try of this call was applied.
        Err(status) if status.code() == Code::NotFound => trace::event(format!("{}: too late", client.identity)),
        // Something came that the worker did not know of when it decided to close the run: it will be asked again.
        Err(status) if status.message() == "UnhandledCommand" => trace::event("unhandled command"),
        Err(status) => panic!("RespondWorkflowTaskCompleted of {execution:?}: {status:?}"),
    }
}

/// The task's history, with the pages that did not fit into the task. None if the run is gone.
async fn whole_history(
    client: &Client,
    execution: &WorkflowExecution,
    task: &api::PollWorkflowTaskQueueResponse,
) -> Option<Vec<bytes::Bytes>> {
    let mut events = task.history.clone().unwrap_or_default().events;
    let mut token = task.next_page_token.clone();
    while !token.is_empty() {
        let request = api::GetWorkflowExecutionHistoryRequest {
            namespace: NAMESPACE.into(),
            execution: Some(execution.clone()),
            next_page_token: token,
            ..Default::default()
        };
        let answer = insist!(client.stub, CALL_TIMEOUT, get_workflow_execution_history, request.clone());
        match answer {
            Ok(page) => {
                events.extend(page.history.unwrap_or_default().events);
                token = page.next_page_token;
            }
            Err(status) if status.code() == Code::NotFound => return None,
            Err(status) => panic!("a page of the history of {execution:?}: {status:?}"),
        }
    }
    Some(events)
}

/// The commands that follow from a history.
///
/// # Panics
/// If the history does not begin with a plan.
#[must_use]
pub fn decide(events: &[HistoryEvent]) -> Vec<Command> {
    let Some(Event::WorkflowExecutionStartedEventAttributes(started)) = events[0].attributes.as_ref() else {
        panic!("a history begins with {:?}", events[0].event_type())
    };
    let plan: Plan = text(started.input.as_ref()).parse().expect("a plan");
    let (begun, done) = progress(events);
    for (group, steps) in plan.0.iter().enumerate() {
        let ids: Vec<String> = (0..steps.len()).map(|step| Plan::id(group, step)).collect();
        if ids.iter().all(|id| done.contains(id)) {
            continue;
        }
        let missing = ids.iter().zip(steps).filter(|(id, _)| !begun.contains(*id));
        return missing.map(|(id, step)| begin(id, *step)).collect();
    }
    let attributes = CompleteWorkflowExecutionCommandAttributes { result: payloads(&plan.result()) };
    vec![command(
        CommandType::CompleteWorkflowExecution,
        Attributes::CompleteWorkflowExecutionCommandAttributes(attributes),
    )]
}

/// Ids of the steps that were begun and of those that are done.
fn progress(events: &[HistoryEvent]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut begun, mut done) = (BTreeSet::new(), BTreeSet::new());
    let activity = |scheduled_event_id: i64| {
        let event = events.iter().find(|event| event.event_id == scheduled_event_id);
        match event.and_then(|event| event.attributes.as_ref()) {
            Some(Event::ActivityTaskScheduledEventAttributes(scheduled)) => scheduled.activity_id.clone(),
            other => panic!("event {scheduled_event_id} schedules no activity but is {other:?}"),
        }
    };
    for event in events {
        match event.attributes.as_ref() {
            Some(Event::ActivityTaskScheduledEventAttributes(it)) => drop(begun.insert(it.activity_id.clone())),
            Some(Event::TimerStartedEventAttributes(it)) => drop(begun.insert(it.timer_id.clone())),
            Some(Event::ActivityTaskCompletedEventAttributes(it)) => {
                let id = activity(it.scheduled_event_id);
                assert_eq!(text(it.result.as_ref()), Plan::answer(&id), "another activity's result");
                done.insert(id);
            }
            Some(Event::TimerFiredEventAttributes(it)) => drop(done.insert(it.timer_id.clone())),
            _ => {}
        }
    }
    (begun, done)
}

fn command(kind: CommandType, attributes: Attributes) -> Command {
    Command { command_type: kind as i32, attributes: Some(attributes), ..Command::default() }
}

fn begin(id: &str, step: Step) -> Command {
    let span = |span: Duration| Some(prost_types::Duration::try_from(span).expect("a short span"));
    match step {
        Step::Timer { millis } => {
            let attributes = StartTimerCommandAttributes {
                timer_id: id.into(),
                start_to_fire_timeout: span(Duration::from_millis(millis)),
            };
            command(CommandType::StartTimer, Attributes::StartTimerCommandAttributes(attributes))
        }
        Step::Activity { .. } => {
            let attributes = ScheduleActivityTaskCommandAttributes {
                activity_id: id.into(),
                activity_type: Some(ActivityType { name: "step".into() }),
                task_queue: task_queue(),
                input: payloads(&step.to_string()),
                start_to_close_timeout: span(START_TO_CLOSE),
                ..Default::default()
            };
            command(CommandType::ScheduleActivityTask, Attributes::ScheduleActivityTaskCommandAttributes(attributes))
        }
    }
}

async fn poll_activity_tasks(client: Client, ledger: Arc<Ledger>) {
    loop {
        let request = api::PollActivityTaskQueueRequest {
            namespace: NAMESPACE.into(),
            task_queue: task_queue(),
            identity: client.identity.clone(),
            ..Default::default()
        };
        let mut stub = client.stub.clone();
        match call(POLL_TIMEOUT, request, |request| async move { stub.poll_activity_task_queue(request).await }).await {
            Ok(task) if task.task_token.is_empty() => {}
            Ok(task) => handle_activity_task(&client, &ledger, task).await,
            Err(status) => refused("PollActivityTaskQueue", &status).await,
        }
    }
}

async fn handle_activity_task(client: &Client, ledger: &Ledger, task: api::PollActivityTaskQueueResponse) {
    let execution = task.workflow_execution.clone().unwrap_or_default();
    trace::event(format!(
        "{}: {} activity {} attempt {}",
        client.identity, execution.workflow_id, task.activity_id, task.attempt
    ));
    ledger.activity_started(&execution, &task.activity_id, task.attempt);
    let step: Step = text(task.input.as_ref()).parse().expect("a step");
    let Step::Activity { millis, failures } = step else { panic!("{step} is no activity") };
    SimRuntime::sleep(Duration::from_millis(millis)).await;
    let answer = if task.attempt <= failures as i32 {
        fail(client, task.task_token).await
    } else {
        let result = Plan::answer(&task.activity_id);
        let completed = complete(client, task.task_token, &result).await;
        if completed.is_ok() {
            ledger.activity_completed(&execution, &task.activity_id);
        }
        completed
    };
    match answer {
        Ok(()) => {}
        Err(status) if status.code() == Code::NotFound => trace::event(format!("{}: too late", client.identity)),
        Err(status) => panic!("the answer to activity {} of {execution:?}: {status:?}", task.activity_id),
    }
}

async fn complete(client: &Client, task_token: bytes::Bytes, result: &str) -> Result<(), tonic::Status> {
    let request = api::RespondActivityTaskCompletedRequest {
        namespace: NAMESPACE.into(),
        task_token,
        result: payloads(result),
        identity: client.identity.clone(),
        ..Default::default()
    };
    insist!(client.stub, CALL_TIMEOUT, respond_activity_task_completed, request.clone()).map(drop)
}

async fn fail(client: &Client, task_token: bytes::Bytes) -> Result<(), tonic::Status> {
    let application = ApplicationFailureInfo { r#type: "Planned".into(), ..Default::default() };
    let failure = Failure {
        message: "this attempt fails by plan".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(application)),
        ..Failure::default()
    };
    let request = api::RespondActivityTaskFailedRequest {
        namespace: NAMESPACE.into(),
        task_token,
        failure: Some(failure),
        identity: client.identity.clone(),
        ..Default::default()
    };
    insist!(client.stub, CALL_TIMEOUT, respond_activity_task_failed, request.clone()).map(drop)
}
