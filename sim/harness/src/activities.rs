//! The worker's activities: they take their time, fail by plan, send heartbeats, come too late, and some never answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::temporal::failure::v1::failure::FailureInfo;
use mainstay_api::temporal::failure::v1::{ApplicationFailureInfo, Failure};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, draw, trace};
use tonic::{Code, Status};

use crate::client::{CALL_TIMEOUT, Client, NAMESPACE, POLL_TIMEOUT, call, insist, passing, payloads, task_queue, text};
use crate::commands::SHORT;
use crate::coverage;
use crate::ledger::Ledger;
use crate::plan::{Habit, Plan, Step};
use crate::worker::{Habits, happens, must_be_stale, refused};

/// An abandoned activity gives up after this time.
const ABANDONED: Duration = Duration::from_secs(8);
const HEARTBEAT_EVERY: Duration = Duration::from_millis(700);

/// Polls for activity tasks and works on them, one at a time.
pub(crate) async fn poll(client: Client, habits: Habits, ledger: Arc<Ledger>) {
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
            Ok(task) => handle(&client, habits, &ledger, task).await,
            Err(status) => refused("PollActivityTaskQueue", &status).await,
        }
    }
}

/// How the work on an attempt ends.
enum Ending {
    Done,
    Failed,
    Cancelled,
    Silence,
}

async fn handle(client: &Client, habits: Habits, ledger: &Ledger, task: api::PollActivityTaskQueueResponse) {
    coverage::met("activity-task");
    let execution = task.workflow_execution.clone().unwrap_or_default();
    trace::event(format!(
        "{}: {} activity {} attempt {}",
        client.identity, execution.workflow_id, task.activity_id, task.attempt
    ));
    ledger.activity_started(&execution, &task.activity_id, task.attempt);
    if happens(habits.confuses) {
        confuse(client, ledger).await;
    }
    let token = task.task_token.clone();
    let answer = match work(client, habits, &task).await {
        Ending::Silence => return trace::event(format!("{}: says nothing", client.identity)),
        Ending::Failed => fail(client, token).await,
        Ending::Cancelled => cancel(client, token).await,
        Ending::Done => {
            let result = Plan::answer(&task.activity_id);
            let completed = complete(client, token.clone(), &result).await;
            if completed.is_ok() {
                ledger.activity_completed(&execution, &task.activity_id, token);
            }
            completed
        }
    };
    match answer {
        Ok(()) => {}
        Err(status) if status.code() == Code::NotFound => trace::event(format!("{}: too late", client.identity)),
        Err(status) => panic!("the answer to activity {} of {execution:?}: {status:?}", task.activity_id),
    }
}

async fn work(client: &Client, habits: Habits, task: &api::PollActivityTaskQueueResponse) -> Ending {
    let step: Step = text(task.input.as_ref()).parse().expect("a step");
    let (millis, failures, habit) = match step {
        Step::Activity { millis, failures, habit } => (Duration::from_millis(millis), failures, habit),
        Step::Abandon { .. } => (ABANDONED, 0, Habit::Heartbeats),
        other => panic!("{other} is no activity"),
    };
    let first = task.attempt == 1;
    if (habit == Habit::Silent && first) || happens(habits.forgets) {
        coverage::met("silent-activity");
        return Ending::Silence;
    }
    if habit == Habit::Late && first {
        coverage::met("late-activity");
        SimRuntime::sleep(SHORT + Duration::from_millis(draw(0..1500))).await;
        return Ending::Done;
    }
    if habit == Habit::Heartbeats {
        let mut left = millis;
        while !left.is_zero() {
            let pause = left.min(HEARTBEAT_EVERY);
            SimRuntime::sleep(pause).await;
            left -= pause;
            if heartbeat(client, &task.task_token).await {
                return Ending::Cancelled;
            }
        }
    } else {
        SimRuntime::sleep(millis).await;
    }
    if task.attempt <= failures as i32 { Ending::Failed } else { Ending::Done }
}

/// A sign of life; answers whether the activity is to be cancelled.
async fn heartbeat(client: &Client, task_token: &Bytes) -> bool {
    coverage::met("heartbeat");
    let request = api::RecordActivityTaskHeartbeatRequest {
        namespace: NAMESPACE.into(),
        task_token: task_token.clone(),
        identity: client.identity.clone(),
        ..Default::default()
    };
    let mut stub = client.stub.clone();
    match call(CALL_TIMEOUT, request, |request| async move { stub.record_activity_task_heartbeat(request).await }).await
    {
        Ok(answer) => answer.cancel_requested,
        Err(status) => {
            let known = status.code() == Code::NotFound || passing("RecordActivityTaskHeartbeat", &status);
            assert!(known, "RecordActivityTaskHeartbeat was refused: {status:?}");
            false
        }
    }
}

/// Completes an activity again that was completed before.
async fn confuse(client: &Client, ledger: &Ledger) {
    let Some(task_token) = ledger.spent(true) else { return };
    coverage::met("stale-activity-token");
    let request = completion(client, task_token, "again");
    let mut stub = client.stub.clone();
    let sent =
        call(CALL_TIMEOUT, request, |request| async move { stub.respond_activity_task_completed(request).await });
    must_be_stale("RespondActivityTaskCompleted", sent.await);
}

fn completion(client: &Client, task_token: Bytes, result: &str) -> api::RespondActivityTaskCompletedRequest {
    api::RespondActivityTaskCompletedRequest {
        namespace: NAMESPACE.into(),
        task_token,
        result: payloads(result),
        identity: client.identity.clone(),
        ..Default::default()
    }
}

async fn complete(client: &Client, task_token: Bytes, result: &str) -> Result<(), Status> {
    coverage::met("complete-activity");
    let request = completion(client, task_token, result);
    insist!(client.stub, CALL_TIMEOUT, respond_activity_task_completed, request.clone()).map(drop)
}

async fn cancel(client: &Client, task_token: Bytes) -> Result<(), Status> {
    coverage::met("cancel-activity");
    let request = api::RespondActivityTaskCanceledRequest {
        namespace: NAMESPACE.into(),
        task_token,
        identity: client.identity.clone(),
        ..Default::default()
    };
    insist!(client.stub, CALL_TIMEOUT, respond_activity_task_canceled, request.clone()).map(drop)
}

async fn fail(client: &Client, task_token: Bytes) -> Result<(), Status> {
    coverage::met("fail-activity");
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
