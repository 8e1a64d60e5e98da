//! Schedules and batch jobs: begun by clients, carried out by the server itself.

use std::time::Duration;

use mainstay_api::temporal::batch::v1::{BatchOperationCancellation, BatchOperationSignal};
use mainstay_api::temporal::common::v1::WorkflowType;
use mainstay_api::temporal::enums::v1::ScheduleOverlapPolicy;
use mainstay_api::temporal::schedule::v1::schedule_action::Action as Does;
use mainstay_api::temporal::schedule::v1::{
    IntervalSpec, Schedule, ScheduleAction, SchedulePatch, SchedulePolicies, ScheduleSpec, ScheduleState,
};
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_api::temporal::workflowservice::v1::start_batch_operation_request::Operation as Each;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, trace};
use tonic::{Code, Status};

use super::{Performer, signal_name};
use crate::client::{CALL_TIMEOUT, NAMESPACE, WORKFLOW_TYPE, call, insist, passing, payloads, task_queue};
use crate::ledger::{BegunJob, MadeSchedule};
use crate::operation::workflow_id;

/// The id of an operation's schedule.
fn schedule_id(label: &str) -> String {
    format!("schedule-{label}")
}

/// What ids of a schedule's workflows begin with; the time that they stand for follows.
#[must_use]
pub fn scheduled_prefix(schedule_id: &str) -> String {
    format!("scheduled-{schedule_id}-")
}

impl Performer {
    /// Makes a schedule that acts so many times.
    pub(super) async fn schedule(&self, label: &str, interval: u64, count: u64, pause: Option<Duration>) -> bool {
        let id = schedule_id(label);
        let made = MadeSchedule { interval, count, acknowledged: false, paused: pause.is_some() };
        self.ledger.promises().schedules.entry(id.clone()).or_insert(made);
        let request = api::CreateScheduleRequest {
            namespace: NAMESPACE.into(),
            schedule_id: id.clone(),
            schedule: Some(definition(&id, interval, count)),
            identity: label.into(),
            request_id: label.into(),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.create_schedule(it).await }).await;
        match answer {
            Ok(_) => {}
            // An earlier try made it, and nobody heard.
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => {
                assert!(passing("CreateSchedule", &status), "a schedule was refused: {status:?}");
                return false;
            }
        }
        if let Some(made) = self.ledger.promises().schedules.get_mut(&id) {
            made.acknowledged = true;
        }
        if let Some(pause) = pause {
            self.patch(&id, SchedulePatch { pause: "for a while".into(), ..SchedulePatch::default() }).await;
            SimRuntime::sleep(pause).await;
            self.patch(&id, SchedulePatch { unpause: "go on".into(), ..SchedulePatch::default() }).await;
        }
        true
    }

    async fn patch(&self, schedule_id: &str, patch: SchedulePatch) {
        let request = api::PatchScheduleRequest {
            namespace: NAMESPACE.into(),
            schedule_id: schedule_id.into(),
            patch: Some(patch),
            identity: self.client.identity.clone(),
            ..Default::default()
        };
        let answer = insist!(self.client.stub, CALL_TIMEOUT, patch_schedule, request.clone());
        // It may have done its last action.
        if let Err(status) = answer.map(drop).or_else(unless_gone) {
            panic!("a patch of {schedule_id} was refused: {status:?}");
        }
    }

    /// Begins a batch job on one workflow of the pool or on all open ones.
    pub(super) async fn batch(&self, label: &str, workflow: Option<u64>, cancels: bool) -> bool {
        let filter = workflow
            .map_or("WorkflowType = 'planned'".into(), |number| format!("WorkflowId = '{}'", workflow_id(number)));
        let operation = if cancels {
            Each::CancellationOperation(BatchOperationCancellation { identity: label.into() })
        } else {
            Each::SignalOperation(BatchOperationSignal {
                signal: signal_name(label),
                identity: label.into(),
                ..BatchOperationSignal::default()
            })
        };
        let request = api::StartBatchOperationRequest {
            namespace: NAMESPACE.into(),
            visibility_query: format!("{filter} AND ExecutionStatus = 'Running'"),
            job_id: label.into(),
            reason: label.into(),
            operation: Some(operation),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.start_batch_operation(it).await }).await;
        match answer {
            Ok(_) => {}
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => {
                assert!(passing("StartBatchOperation", &status), "a batch job was refused: {status:?}");
                return false;
            }
        }
        trace::event(format!("batch job {label} began"));
        self.ledger.promises().jobs.insert(label.into(), BegunJob { cancels, workflow_id: workflow.map(workflow_id) });
        true
    }
}

fn unless_gone(status: Status) -> Result<(), Status> {
    if status.code() == Code::NotFound { Ok(()) } else { Err(status) }
}

fn definition(id: &str, interval: u64, count: u64) -> Schedule {
    let every = prost_types::Duration { seconds: interval as i64, nanos: 0 };
    let prefix = scheduled_prefix(id);
    let workflow = NewWorkflowExecutionInfo {
        workflow_id: prefix.trim_end_matches('-').into(),
        workflow_type: Some(WorkflowType { name: WORKFLOW_TYPE.into() }),
        task_queue: task_queue(),
        input: payloads("a100f0!c"),
        ..Default::default()
    };
    Schedule {
        spec: Some(ScheduleSpec {
            interval: vec![IntervalSpec { interval: Some(every), phase: None }],
            ..ScheduleSpec::default()
        }),
        action: Some(ScheduleAction { action: Some(Does::StartWorkflow(workflow)) }),
        policies: Some(SchedulePolicies {
            overlap_policy: ScheduleOverlapPolicy::AllowAll as i32,
            ..SchedulePolicies::default()
        }),
        state: Some(ScheduleState {
            limited_actions: true,
            remaining_actions: count as i64,
            ..ScheduleState::default()
        }),
    }
}
