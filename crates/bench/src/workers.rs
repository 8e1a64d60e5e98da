//! Workers without an SDK: what happens next follows from the last activity that history shows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::temporal::command::v1::command::Attributes;
use mainstay_api::temporal::command::v1::{
    Command, CompleteWorkflowExecutionCommandAttributes, ScheduleActivityTaskCommandAttributes,
};
use mainstay_api::temporal::common::v1::ActivityType;
use mainstay_api::temporal::enums::v1::CommandType;
use mainstay_api::temporal::history::v1::{HistoryEvent, history_event};
use mainstay_api::temporal::taskqueue::v1::StickyExecutionAttributes;
use mainstay_api::temporal::workflowservice::v1 as api;
use prost::Message;
use tonic::Status;

use crate::Options;
use crate::server::{Client, Server, read_number, seconds};

const POLLERS_MAX: usize = 64;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(100);
const ACTIVITY_TIMEOUT_S: i64 = 60;
const STICKY_TIMEOUT_S: i64 = 5;

/// Starts the pollers; they run until the runtime ends.
pub(crate) fn start(server: &Arc<Server>, options: &Arc<Options>) {
    let pollers = options.pollers.unwrap_or(options.clients).clamp(1, POLLERS_MAX);
    for _ in 0..pollers {
        tokio::spawn(workflow_tasks(server.clone(), options.clone(), false));
        if !options.no_sticky {
            tokio::spawn(workflow_tasks(server.clone(), options.clone(), true));
        }
        tokio::spawn(activity_tasks(server.clone()));
    }
}

async fn workflow_tasks(server: Arc<Server>, options: Arc<Options>, sticky: bool) {
    let mut client = server.client();
    loop {
        let request = api::PollWorkflowTaskQueueRequest {
            namespace: server.namespace.clone(),
            task_queue: Some(if sticky { server.sticky_queue() } else { server.task_queue() }),
            identity: server.identity.clone(),
            ..Default::default()
        };
        let Ok(task) = client.poll_workflow_task_queue(request).await else {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            continue;
        };
        let task = task.into_inner();
        if !task.task_token.is_empty() {
            // What fails here is tried again by the server, and counted by the client that waits.
            let _ = complete_workflow_task(&mut client, &server, &options, task).await;
        }
    }
}

async fn complete_workflow_task(
    client: &mut Client,
    server: &Server,
    options: &Options,
    task: api::PollWorkflowTaskQueueResponse,
) -> Result<(), Status> {
    let done = activities_done(client, server, &task).await?;
    let attributes = if done < options.activities {
        Attributes::ScheduleActivityTaskCommandAttributes(ScheduleActivityTaskCommandAttributes {
            activity_id: done.to_string(),
            activity_type: Some(ActivityType { name: "count".into() }),
            task_queue: Some(server.task_queue()),
            input: server.number(done),
            start_to_close_timeout: seconds(ACTIVITY_TIMEOUT_S),
            ..Default::default()
        })
    } else {
        let result = server.number(done);
        Attributes::CompleteWorkflowExecutionCommandAttributes(CompleteWorkflowExecutionCommandAttributes { result })
    };
    let kind = match attributes {
        Attributes::ScheduleActivityTaskCommandAttributes(_) => CommandType::ScheduleActivityTask,
        _ => CommandType::CompleteWorkflowExecution,
    };
    let sticky_attributes = (!options.no_sticky).then(|| StickyExecutionAttributes {
        worker_task_queue: Some(server.sticky_queue()),
        schedule_to_start_timeout: seconds(STICKY_TIMEOUT_S),
    });
    let request = api::RespondWorkflowTaskCompletedRequest {
        task_token: task.task_token,
        commands: vec![Command { command_type: kind.into(), attributes: Some(attributes), ..Default::default() }],
        identity: server.identity.clone(),
        namespace: server.namespace.clone(),
        sticky_attributes,
        ..Default::default()
    };
    client.respond_workflow_task_completed(request).await.map(drop)
}

/// How many activities completed: what the last one returned. A sticky task without such an event is the first one.
async fn activities_done(
    client: &mut Client,
    server: &Server,
    task: &api::PollWorkflowTaskQueueResponse,
) -> Result<u32, Status> {
    let mut done = last_result(task.history.as_ref().map_or(&[], |history| &history.events)).unwrap_or(0);
    let mut next_page_token = task.next_page_token.clone();
    while !next_page_token.is_empty() {
        let request = api::GetWorkflowExecutionHistoryRequest {
            namespace: server.namespace.clone(),
            execution: task.workflow_execution.clone(),
            next_page_token,
            ..Default::default()
        };
        let page = client.get_workflow_execution_history(request).await?.into_inner();
        done = last_result(&page.history.unwrap_or_default().events).unwrap_or(done);
        next_page_token = page.next_page_token;
    }
    Ok(done)
}

fn last_result(events: &[Bytes]) -> Option<u32> {
    events.iter().rev().find_map(|event| match HistoryEvent::decode(event.clone()).ok()?.attributes? {
        history_event::Attributes::ActivityTaskCompletedEventAttributes(completed) => {
            read_number(completed.result.as_ref())
        }
        _ => None,
    })
}

async fn activity_tasks(server: Arc<Server>) {
    let mut client = server.client();
    loop {
        let request = api::PollActivityTaskQueueRequest {
            namespace: server.namespace.clone(),
            task_queue: Some(server.task_queue()),
            identity: server.identity.clone(),
            ..Default::default()
        };
        let Ok(task) = client.poll_activity_task_queue(request).await else {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            continue;
        };
        let task = task.into_inner();
        if task.task_token.is_empty() {
            continue;
        }
        let request = api::RespondActivityTaskCompletedRequest {
            task_token: task.task_token,
            result: read_number(task.input.as_ref()).and_then(|done| server.number(done + 1)),
            identity: server.identity.clone(),
            namespace: server.namespace.clone(),
            ..Default::default()
        };
        let _ = client.respond_activity_task_completed(request).await;
    }
}
