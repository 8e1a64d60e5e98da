//! What DescribeWorkflowExecution shows, read from rows. The one reader of the engine: it changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_api::log::SpeculativeTask;
use mainstay_api::record::{
    ActivityPause, ActivityRecord, ChildRecord, RequestIdRecord, WorkerBuild, WorkflowTaskRecord,
};
use mainstay_api::temporal::activity::v1::ActivityOptions;
use mainstay_api::temporal::common::v1::{ActivityType, WorkerVersionStamp, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{EventType, PendingActivityState, PendingWorkflowTaskState};
use mainstay_api::temporal::history::v1::WorkflowExecutionStartedEventAttributes as StartedAttributes;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflow::v1::pending_activity_info::{
    PauseInfo, pause_info::Manual, pause_info::PausedBy,
};
use mainstay_api::temporal::workflow::v1::{
    PendingActivityInfo, PendingChildExecutionInfo, PendingWorkflowTaskInfo, RequestIdInfo, WorkflowExecutionConfig,
    WorkflowExecutionExtendedInfo, WorkflowExecutionInfo, WorkflowExecutionPauseInfo, WorkflowExecutionVersioningInfo,
};
use mainstay_api::temporal::workflowservice::v1::DescribeWorkflowExecutionResponse;
use mainstay_base::RunId;
use prost_types::Timestamp as ProtoTimestamp;

use crate::activities::{is_backing_off, is_held};
use crate::activity_operations::without_error_types;
use crate::convert::{deadline, duration, time};
use crate::run::Run;
use crate::store::{EntityKey, Fault, Store, Table};
use crate::transaction::{Transaction, decode};
use crate::workflow_task::normal_queue;
use crate::{Answer, Context, Error, Stop, lifecycle, versioning};

/// The year 1: what the reference server shows for a run that never expires.
const NEVER: ProtoTimestamp = ProtoTimestamp { seconds: -62_135_596_800, nanos: 0 };

/// Describes a run; an empty run id means the current one. `speculative` holds what the leader's memory adds to the rows.
///
/// # Errors
/// The outer error if the store fails; the inner one if there is no such run.
pub fn describe(
    store: &dyn Store,
    entity: &EntityKey,
    run_id: &str,
    speculative: &[SpeculativeTask],
) -> Result<Result<DescribeWorkflowExecutionResponse, Error>, Fault> {
    let context = Context::default();
    let mut tx = Transaction::new(context, store, Arc::new(entity.clone()));
    tx.speculative = speculative;
    let described = response(&tx, run_id);
    tx.into_changes()?;
    match described {
        Ok(response) => Ok(Ok(response)),
        Err(Stop::Refused(error)) => Ok(Err(error)),
        Err(Stop::Broken(fault)) => Err(fault),
    }
}

fn response(tx: &Transaction<'_>, run_id: &str) -> Answer<DescribeWorkflowExecutionResponse> {
    let run = Run::load(tx, run_id)?;
    let started = lifecycle::started_attributes(tx, &run)?;
    let mut pending_activities = Vec::new();
    for activity in tx.scan_records::<ActivityRecord>(Table::Activity, run.id)? {
        pending_activities.push(activity_info(&run, &activity));
    }
    let children = tx.scan_records::<ChildRecord>(Table::Child, run.id)?;
    Ok(DescribeWorkflowExecutionResponse {
        execution_config: Some(config(tx, &run, &started)),
        workflow_execution_info: Some(info(tx, &run)),
        pending_activities,
        pending_children: children.into_iter().map(child_info).collect(),
        pending_workflow_task: run.record.workflow_task.as_ref().map(task_info),
        workflow_extended_info: Some(extended(tx, &run)?),
        ..DescribeWorkflowExecutionResponse::default()
    })
}

fn config(tx: &Transaction<'_>, run: &Run, started: &StartedAttributes) -> WorkflowExecutionConfig {
    let r = &run.record;
    WorkflowExecutionConfig {
        task_queue: normal_queue(&r.task_queue),
        workflow_execution_timeout: started.workflow_execution_timeout,
        workflow_run_timeout: started.workflow_run_timeout,
        default_workflow_task_timeout: duration(r.task_timeout_ns),
        user_metadata: run.details(tx).user_metadata.clone(),
    }
}

fn execution(workflow_id: &str, run_id: &str) -> Option<WorkflowExecution> {
    if workflow_id.is_empty() {
        return None;
    }
    Some(WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: run_id.to_string() })
}

#[allow(deprecated)]
fn info(tx: &Transaction<'_>, run: &Run) -> WorkflowExecutionInfo {
    let (r, details) = (&run.record, run.details(tx));
    WorkflowExecutionInfo {
        execution: execution(&tx.entity.workflow_id, &r.run_id),
        r#type: Some(WorkflowType { name: r.workflow_type.clone() }),
        start_time: time(r.start_ns),
        close_time: time(r.close_ns),
        status: r.status,
        history_length: r.next_event_id - 1,
        parent_namespace_id: details.parent_namespace_id.clone(),
        parent_execution: execution(&details.parent_workflow_id, &details.parent_run_id),
        execution_time: time(r.execution_ns),
        memo: Some(details.memo.clone().unwrap_or_default()),
        search_attributes: details.search_attributes.clone(),
        auto_reset_points: details.reset_points.clone(),
        task_queue: r.task_queue.clone(),
        state_transition_count: r.state_transition_count,
        history_size_bytes: r.history_size_bytes,
        execution_duration: if r.close_ns == 0 { None } else { duration(r.close_ns - r.execution_ns) },
        root_execution: execution(&details.root_workflow_id, &details.root_run_id),
        first_run_id: details.first_execution_run_id.clone(),
        priority: r.priority.clone(),
        most_recent_worker_version_stamp: r.last_build.as_ref().and_then(stamp),
        versioning_info: details.versioning_override.as_ref().map(|kept| WorkflowExecutionVersioningInfo {
            versioning_override: Some(versioning::shown(kept)),
            ..WorkflowExecutionVersioningInfo::default()
        }),
        ..WorkflowExecutionInfo::default()
    }
}

/// Of the code that completed a workflow task last, if its worker said which.
fn stamp(build: &WorkerBuild) -> Option<WorkerVersionStamp> {
    let build_id = build.build_id.clone();
    (!build_id.is_empty()).then(|| WorkerVersionStamp { build_id, ..WorkerVersionStamp::default() })
}

fn task_info(task: &WorkflowTaskRecord) -> PendingWorkflowTaskInfo {
    let started = task.started_event_id != 0;
    let state = if started { PendingWorkflowTaskState::Started } else { PendingWorkflowTaskState::Scheduled };
    PendingWorkflowTaskInfo {
        state: state as i32,
        scheduled_time: time(task.scheduled_ns),
        original_scheduled_time: time(task.original_scheduled_ns),
        started_time: time(task.started_ns),
        attempt: task.attempt,
    }
}

fn activity_info(run: &Run, a: &ActivityRecord) -> PendingActivityInfo {
    let state = match (a.cancel_requested, a.started_ns != 0, is_held(run, a)) {
        (true, ..) => PendingActivityState::CancelRequested,
        (false, false, false) => PendingActivityState::Scheduled,
        (false, true, false) => PendingActivityState::Started,
        (false, false, true) => PendingActivityState::Paused,
        (false, true, true) => PendingActivityState::PauseRequested,
    };
    // What a worker asked for that closed its run was never dispatched, and waits for nothing.
    let backing_off = is_backing_off(run, a) && a.attempt_scheduled_ns > a.scheduled_ns;
    PendingActivityInfo {
        activity_id: a.activity_id.clone(),
        activity_type: Some(ActivityType { name: a.activity_type.clone() }),
        state: state as i32,
        heartbeat_details: a.heartbeat_details.clone(),
        last_heartbeat_time: time(a.last_heartbeat_ns),
        last_started_time: time(a.started_ns),
        attempt: a.attempt,
        maximum_attempts: a.retry_policy.as_ref().map_or(0, |policy| policy.maximum_attempts),
        scheduled_time: time(if backing_off { a.attempt_scheduled_ns } else { a.scheduled_ns }),
        expiration_time: time(deadline(a.scheduled_ns, a.schedule_to_close_ns)),
        last_failure: a.last_failure.clone(),
        last_worker_identity: a.last_worker_identity.clone(),
        current_retry_interval: if backing_off {
            duration(a.attempt_scheduled_ns - a.last_attempt_complete_ns)
        } else {
            None
        },
        last_attempt_complete_time: time(a.last_attempt_complete_ns),
        next_attempt_schedule_time: if backing_off { time(a.attempt_scheduled_ns) } else { None },
        activity_options: Some(ActivityOptions {
            task_queue: Some(TaskQueue {
                name: a.task_queue.clone(),
                normal_name: a.task_queue.clone(),
                ..TaskQueue::default()
            }),
            schedule_to_close_timeout: duration(a.schedule_to_close_ns),
            schedule_to_start_timeout: duration(a.schedule_to_start_ns),
            start_to_close_timeout: duration(a.start_to_close_ns),
            heartbeat_timeout: duration(a.heartbeat_ns),
            retry_policy: a.retry_policy.clone().map(without_error_types),
            priority: a.priority.clone(),
            ..ActivityOptions::default()
        }),
        priority: a.priority.clone(),
        paused: a.pause.is_some(),
        pause_info: a.pause.as_ref().map(pause_info),
        ..PendingActivityInfo::default()
    }
}

fn pause_info(pause: &ActivityPause) -> PauseInfo {
    let manual = Manual { identity: pause.identity.clone(), reason: pause.reason.clone() };
    PauseInfo { pause_time: time(pause.time_ns), paused_by: Some(PausedBy::Manual(manual)) }
}

fn child_info(child: ChildRecord) -> PendingChildExecutionInfo {
    PendingChildExecutionInfo {
        workflow_id: child.workflow_id,
        run_id: child.run_id,
        workflow_type_name: child.workflow_type,
        initiated_id: child.initiated_event_id,
        parent_close_policy: child.policy,
    }
}

fn extended(tx: &Transaction<'_>, run: &Run) -> Result<WorkflowExecutionExtendedInfo, Fault> {
    let r = &run.record;
    Ok(WorkflowExecutionExtendedInfo {
        execution_expiration_time: time(r.execution_deadline_ns),
        run_expiration_time: time(r.run_deadline_ns).or(Some(NEVER)),
        cancel_requested: r.cancel_requested,
        last_reset_time: time(r.last_reset_ns),
        original_start_time: time(r.start_ns),
        reset_run_id: run.details(tx).reset_run_id.clone(),
        request_id_infos: request_ids(tx, run.id)?,
        pause_info: r.pause.as_ref().map(|pause| WorkflowExecutionPauseInfo {
            identity: pause.identity.clone(),
            paused_time: time(pause.time_ns),
            reason: pause.reason.clone(),
        }),
        ..WorkflowExecutionExtendedInfo::default()
    })
}

/// The request ids that started the run or were attached to it; those of signals are not shown.
fn request_ids(tx: &Transaction<'_>, run: RunId) -> Result<BTreeMap<String, RequestIdInfo>, Fault> {
    let mut infos = BTreeMap::new();
    for (id, value) in tx.scan(Table::RequestId, run)? {
        let seen: RequestIdRecord = decode(Table::RequestId, value)?;
        if seen.event_type() == EventType::WorkflowExecutionSignaled {
            continue;
        }
        let buffered = seen.event_id == 0;
        let info = RequestIdInfo { event_type: seen.event_type, event_id: seen.event_id, buffered };
        infos.insert(String::from_utf8_lossy(&id).into_owned(), info);
    }
    Ok(infos)
}
