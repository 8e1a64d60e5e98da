//! What a job does to one target: the command that a client would send.

use std::time::Duration;

use mainstay_api::log::operate_activities::{Operation as Activities, Reset, Unpause, UpdateOptions, Which};
use mainstay_api::log::{Command, OperateActivities, command::Op};
use mainstay_api::peer::{self, FoundResetPoint, call};
use mainstay_api::temporal::batch::v1::BatchOperationReset;
use mainstay_api::temporal::common::v1::{WorkflowExecution, reset_options::Target};
use mainstay_api::temporal::enums::v1::{EventType, ResetType};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest, ResetWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest, TerminateWorkflowExecutionRequest, UpdateWorkflowExecutionOptionsRequest,
    start_batch_operation_request::Operation,
};
use mainstay_base::RunId;
use mainstay_engine::batch::{Job, request_id};
use mainstay_engine::{EntityKey, Error};
use mainstay_runtime::Runtime;
use prost::Message;

use crate::node::Node;
use crate::route::Here;
use crate::service::Namespace;
use crate::slots::Place;
use crate::unreadable;

/// What is done to pending activities of a target.
fn activities_command(operation: &Operation, execution: &WorkflowExecution) -> Result<Op, Error> {
    use mainstay_api::temporal::batch::v1 as batch;
    let nanos = |duration: Option<&prost_types::Duration>| {
        duration.map_or(0, |d| d.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(d.nanos)))
    };
    let (identity, which, what) = match operation {
        Operation::UnpauseActivitiesOperation(o) => {
            use batch::batch_operation_unpause_activities::Activity as A;
            let which = o.activity.clone().map(|which| match which {
                A::Type(kind) => Which::Type(kind),
                A::MatchAll(all) => Which::All(all),
            });
            let what = Unpause {
                reset_attempts: o.reset_attempts,
                reset_heartbeat: o.reset_heartbeat,
                jitter_ns: nanos(o.jitter.as_ref()),
            };
            (&o.identity, which, Activities::Unpause(what))
        }
        Operation::ResetActivitiesOperation(o) => {
            use batch::batch_operation_reset_activities::Activity as A;
            let which = o.activity.clone().map(|which| match which {
                A::Type(kind) => Which::Type(kind),
                A::MatchAll(all) => Which::All(all),
            });
            let what = Reset {
                reset_heartbeat: o.reset_heartbeat,
                keep_paused: o.keep_paused,
                jitter_ns: nanos(o.jitter.as_ref()),
                restore_options: o.restore_original_options,
            };
            (&o.identity, which, Activities::Reset(what))
        }
        Operation::UpdateActivityOptionsOperation(o) => {
            use batch::batch_operation_update_activity_options::Activity as A;
            let which = o.activity.clone().map(|which| match which {
                A::Type(kind) => Which::Type(kind),
                A::MatchAll(all) => Which::All(all),
            });
            let what = UpdateOptions {
                options: o.activity_options.clone(),
                mask: o.update_mask.clone(),
                restore_original: o.restore_original,
            };
            (&o.identity, which, Activities::UpdateOptions(what))
        }
        _ => return Err(Error::Unimplemented("this batch operation is not implemented".into())),
    };
    Ok(Op::OperateActivities(OperateActivities {
        run_id: execution.run_id.clone(),
        identity: identity.clone(),
        which: which.or(Some(Which::All(true))),
        operation: Some(what),
    }))
}

/// Whom events name as the one who acted, in the form of a worker of the server: process, host, and no more.
const WORKER: &str = "0@mainstay-batch@";

impl<R: Runtime> Node<R> {
    /// Carries out a job's operation on one target. A target that is gone or closed needs nothing.
    pub(super) async fn operate(
        &self,
        namespace: &Namespace,
        job: &Job,
        execution: &WorkflowExecution,
    ) -> Result<(), Error> {
        if execution.workflow_id.is_empty() {
            return Err(Error::invalid("WorkflowId is not set on request."));
        }
        if !execution.run_id.is_empty() && execution.run_id.parse::<RunId>().is_err() {
            return Err(Error::invalid("Invalid RunId."));
        }
        let op = match &job.request.operation {
            Some(Operation::ResetOperation(reset)) => self.reset_command(namespace, job, reset, execution).await?,
            _ => command_for(namespace, job, execution)?,
        };
        let command = Command {
            namespace_id: namespace.id.clone(),
            workflow_id: execution.workflow_id.clone(),
            op: Some(op),
            ..Command::default()
        };
        match self.run_command(command).await {
            Ok(_) | Err(Error::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    #[allow(deprecated)]
    async fn reset_command(
        &self,
        namespace: &Namespace,
        job: &Job,
        operation: &BatchOperationReset,
        execution: &WorkflowExecution,
    ) -> Result<Op, Error> {
        let options = operation.options.clone().unwrap_or_default();
        let request_id = request_id(&job.record, &execution.workflow_id, &execution.run_id);
        let FoundResetPoint { run_id, event_id } = self.find_reset_point(namespace, operation, execution).await?;
        let reapply =
            if operation.options.is_some() { options.reset_reapply_type } else { operation.reset_reapply_type };
        Ok(Op::Reset(ResetWorkflowExecutionRequest {
            namespace: namespace.name.clone(),
            workflow_execution: Some(WorkflowExecution { run_id, ..execution.clone() }),
            reason: job.request.reason.clone(),
            workflow_task_finish_event_id: event_id,
            request_id,
            reset_reapply_type: reapply,
            reset_reapply_exclude_types: options.reset_reapply_exclude_types,
            identity: WORKER.into(),
            ..ResetWorkflowExecutionRequest::default()
        }))
    }

    /// The same as [`Node::reset_point`], wherever the workflow is.
    async fn find_reset_point(
        &self,
        namespace: &Namespace,
        operation: &BatchOperationReset,
        execution: &WorkflowExecution,
    ) -> Result<FoundResetPoint, Error> {
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: execution.workflow_id.clone() };
        let call = || {
            call::Call::ResetPoint(peer::ResetPoint {
                namespace_id: namespace.id.clone(),
                execution: Some(execution.clone()),
                operation: Some(operation.clone()),
            })
        };
        let here = || -> Here<'_, FoundResetPoint> {
            Box::pin(async { self.reset_point(&namespace.id, operation, execution) })
        };
        self.read_at_leader(Place::of(&entity), Duration::ZERO, call, here).await
    }

    /// The run to reset, and the event that its new run begins to differ at.
    #[allow(deprecated)]
    pub(crate) fn reset_point(
        &self,
        namespace_id: &str,
        operation: &BatchOperationReset,
        execution: &WorkflowExecution,
    ) -> Result<FoundResetPoint, Error> {
        let entity = EntityKey { namespace_id: namespace_id.to_owned(), workflow_id: execution.workflow_id.clone() };
        let shard = self.shard(self.route(&entity))?;
        let missing = || Error::not_found(format!("workflow not found for ID: {}", execution.workflow_id));
        let run_id = if execution.run_id.is_empty() {
            shard.execution(&entity).map_err(unreadable)?.ok_or_else(missing)?.current_run_id
        } else {
            execution.run_id.clone()
        };
        let run: RunId = run_id.parse().map_err(|_| missing())?;
        let target = operation.options.as_ref().and_then(|options| options.target.clone());
        let is_first = match target {
            Some(Target::WorkflowTaskId(event_id)) => return Ok(FoundResetPoint { run_id, event_id }),
            Some(Target::BuildId(_)) => {
                return Err(Error::Unimplemented("resets to a build id are not implemented".into()));
            }
            Some(Target::FirstWorkflowTask(())) => true,
            Some(Target::LastWorkflowTask(())) => false,
            None => operation.reset_type() == ResetType::FirstWorkflowTask,
        };
        let (mut completed, mut scheduled) = (None, None);
        let mut visit = |(first, batch): (i64, mainstay_api::RawHistory)| {
            for (encoded, id) in batch.events.iter().zip(first..) {
                let kind = HistoryEvent::decode(encoded.clone()).map(|event| event.event_type()).unwrap_or_default();
                match kind {
                    EventType::WorkflowTaskCompleted => completed = Some(id),
                    EventType::WorkflowTaskScheduled => scheduled = Some(id + 1),
                    _ => {}
                }
            }
            !(is_first && completed.is_some())
        };
        shard.history(&entity, run, 1, i64::MAX, false, &mut visit).map_err(unreadable)?;
        let none = || Error::FailedPrecondition("unable to find any scheduled or completed task".into());
        let event_id = completed.or(scheduled).ok_or_else(none)?;
        Ok(FoundResetPoint { run_id, event_id })
    }
}

/// What is done to one target; a reset is told apart before.
fn command_for(namespace: &Namespace, job: &Job, execution: &WorkflowExecution) -> Result<Op, Error> {
    let (name, target) = (namespace.name.clone(), Some(execution.clone()));
    let request_id = request_id(&job.record, &execution.workflow_id, &execution.run_id);
    Ok(match job.request.operation.as_ref() {
        // As recorded, details of a termination and headers of a signal do not reach the workflow.
        Some(Operation::TerminationOperation(_)) => Op::Terminate(TerminateWorkflowExecutionRequest {
            namespace: name,
            workflow_execution: target,
            reason: job.request.reason.clone(),
            identity: WORKER.into(),
            ..TerminateWorkflowExecutionRequest::default()
        }),
        Some(Operation::CancellationOperation(_)) => Op::RequestCancel(RequestCancelWorkflowExecutionRequest {
            namespace: name,
            workflow_execution: target,
            identity: WORKER.into(),
            request_id,
            ..RequestCancelWorkflowExecutionRequest::default()
        }),
        Some(Operation::SignalOperation(o)) => Op::SignalWorkflow(SignalWorkflowExecutionRequest {
            namespace: name,
            workflow_execution: target,
            signal_name: o.signal.clone(),
            input: o.input.clone(),
            identity: o.identity.clone(),
            request_id,
            ..SignalWorkflowExecutionRequest::default()
        }),
        Some(Operation::DeletionOperation(_)) => {
            Op::Delete(DeleteWorkflowExecutionRequest { namespace: name, workflow_execution: target })
        }
        Some(Operation::UpdateWorkflowOptionsOperation(o)) => {
            Op::UpdateOptions(UpdateWorkflowExecutionOptionsRequest {
                namespace: name,
                workflow_execution: target,
                workflow_execution_options: o.workflow_execution_options.clone(),
                update_mask: o.update_mask.clone(),
                identity: o.identity.clone(),
            })
        }
        Some(other) => return activities_command(other, execution),
        None => return Err(Error::Unimplemented("this batch operation is not implemented".into())),
    })
}
