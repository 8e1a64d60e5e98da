//! Starts that ride with their cause: a leader names polls that wait, and a task that the command made for their queue is started in
//! the same entry.
//!
//! History is what it would be if the start had come as the next entry, at the same time; half of a busy workflow's entries are
//! spared. Who reserves what, and gives the tasks to their pollers, is not known here.

use mainstay_api::log::{self, ReservedPoll, StartedTask, reply, started_task};
use mainstay_api::record::{TaskRow, task_row};
use mainstay_api::temporal::common::v1::WorkerVersionCapabilities;
use mainstay_api::temporal::enums::v1::TaskQueueKind;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflowservice::v1 as api;

use crate::transaction::Transaction;
use crate::{Answer, Stop, activities, workflow_task};

/// Starts what the entry at hand made for reserved polls, in the order in which it was made.
pub(crate) fn start(tx: &mut Transaction<'_>, polls: &[ReservedPoll]) -> Answer<Vec<StartedTask>> {
    if polls.is_empty() {
        return Ok(Vec::new());
    }
    let mut free: Vec<&ReservedPoll> = polls.iter().collect();
    let mut started = Vec::new();
    for row in tx.added_tasks() {
        let activity = row.kind() == task_row::Kind::Activity;
        let fits = |poll: &&ReservedPoll| poll.activity == activity && poll.task_queue == row.task_queue;
        let Some(at) = free.iter().position(fits) else { continue };
        let poll = free.remove(at);
        match start_for(tx, &row, poll) {
            Ok(Some(task)) => {
                started.push(StartedTask { poll_request_id: poll.request_id.clone(), task: Some(task) });
            }
            // The row stays, and is offered like any other.
            Ok(None) | Err(Stop::Refused(_)) => {}
            Err(stop @ Stop::Broken(_)) => return Err(stop),
        }
    }
    Ok(started)
}

fn start_for(tx: &mut Transaction<'_>, row: &TaskRow, poll: &ReservedPoll) -> Answer<Option<started_task::Task>> {
    let kind = if poll.sticky { TaskQueueKind::Sticky } else { TaskQueueKind::Normal };
    let queue = TaskQueue { name: poll.task_queue.clone(), kind: kind as i32, normal_name: String::new() };
    let (identity, task_queue) = (poll.identity.clone(), Some(queue));
    let reply = if poll.activity {
        let command = log::StartActivityTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: poll.request_id.clone(),
            poll: Some(api::PollActivityTaskQueueRequest {
                identity,
                task_queue,
                ..api::PollActivityTaskQueueRequest::default()
            }),
        };
        activities::start_polled(tx, &command)?
    } else {
        let command = log::StartWorkflowTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: poll.request_id.clone(),
            #[allow(deprecated)]
            poll: Some(api::PollWorkflowTaskQueueRequest {
                identity,
                task_queue,
                worker_version_capabilities: Some(WorkerVersionCapabilities {
                    build_id: poll.build_id.clone(),
                    ..WorkerVersionCapabilities::default()
                }),
                ..api::PollWorkflowTaskQueueRequest::default()
            }),
        };
        workflow_task::start_polled(tx, &command)?
    };
    Ok(match reply.reply {
        Some(reply::Reply::WorkflowTaskStarted(task)) => Some(started_task::Task::WorkflowTask(task)),
        Some(reply::Reply::ActivityTaskStarted(task)) => Some(started_task::Task::ActivityTask(task)),
        _ => None,
    })
}
