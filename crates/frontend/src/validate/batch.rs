//! What starts a batch job.

use mainstay_api::temporal::batch::v1::{
    BatchOperationReset, batch_operation_reset_activities, batch_operation_unpause_activities,
    batch_operation_update_activity_options,
};
use mainstay_api::temporal::enums::v1::ResetType;
use mainstay_api::temporal::workflowservice::v1::{
    StartBatchOperationRequest, start_batch_operation_request::Operation,
};
use mainstay_base::limits::ID_LENGTH_MAX;
use mainstay_engine::Error;
use mainstay_visibility::Query;

use crate::status::{Answer, invalid};
use crate::validate::sizes::Blobs;

/// Checks a request, but for its namespace.
#[allow(deprecated)]
pub(crate) fn start(request: &StartBatchOperationRequest, blobs: Blobs) -> Answer<()> {
    if request.job_id.is_empty() {
        return Err(invalid("JobId is not set on request."));
    }
    if request.job_id.len() > ID_LENGTH_MAX {
        return Err(invalid("WorkflowId exceeds length limit."));
    }
    let kinds =
        [!request.visibility_query.is_empty(), !request.executions.is_empty(), !request.target_executions.is_empty()];
    let named = kinds.into_iter().filter(|given| *given).count();
    let Some(operation) = request.operation.as_ref().filter(|_| named > 0 && !request.reason.is_empty()) else {
        return Err(invalid(
            "must provide required parameters: BatchType,Reason,Namespace, AND one of (Query OR Executions OR \
             TargetExecutions)",
        ));
    };
    if named > 1 {
        return Err(invalid("visibility query, executions, and target executions are mutually exclusive"));
    }
    Query::check_syntax_of_batch(&request.visibility_query)
        .map_err(|wrong| invalid(format!("invalid visibility query: {wrong}")))?;
    check_operation(operation, blobs)
}

fn check_operation(operation: &Operation, blobs: Blobs) -> Answer<()> {
    match operation {
        Operation::TerminationOperation(o) => blobs.check(o.details.as_ref()),
        Operation::CancellationOperation(_) | Operation::DeletionOperation(_) => Ok(()),
        Operation::SignalOperation(o) if o.signal.is_empty() => Err(invalid("must provide signal name")),
        Operation::SignalOperation(o) => {
            blobs.check(o.input.as_ref())?;
            blobs.check(o.header.as_ref())
        }
        Operation::ResetOperation(o) => reset(o),
        Operation::UpdateWorkflowOptionsOperation(o) => {
            if o.workflow_execution_options.is_none() || o.update_mask.is_none() {
                return Err(invalid("must provide UpdateOptions"));
            }
            Ok(())
        }
        Operation::UnpauseActivitiesOperation(o) => {
            use batch_operation_unpause_activities::Activity;
            match &o.activity {
                None => Err(invalid("activity filter must be set")),
                Some(Activity::Type(name)) if name.is_empty() => Err(invalid("activity type must be set")),
                Some(_) => Ok(()),
            }
        }
        Operation::ResetActivitiesOperation(o) => {
            use batch_operation_reset_activities::Activity;
            match &o.activity {
                None => Err(invalid("must provide ActivityType or MatchAll")),
                Some(Activity::Type(name)) if name.is_empty() => Err(invalid("activity type must be set")),
                Some(_) => Ok(()),
            }
        }
        Operation::UpdateActivityOptionsOperation(o) => {
            use batch_operation_update_activity_options::Activity;
            let has_type = matches!(&o.activity, Some(Activity::Type(name)) if !name.is_empty());
            let changes = o.activity_options.is_some() && (has_type || o.activity == Some(Activity::MatchAll(true)));
            if changes == o.restore_original {
                let text = "Either activity type must be set, or restore original should be set to true";
                return Err(invalid(text));
            }
            Ok(())
        }
        Operation::CancelActivitiesOperation(_)
        | Operation::TerminateActivitiesOperation(_)
        | Operation::DeleteActivitiesOperation(_) => {
            Err(Error::Unimplemented("batch operations on standalone activities are not implemented".into()).into())
        }
    }
}

#[allow(deprecated)]
fn reset(operation: &BatchOperationReset) -> Answer<()> {
    match &operation.options {
        Some(options) if options.target.is_none() => Err(invalid("batch reset missing target")),
        None if operation.reset_type() == ResetType::Unspecified => {
            Err(invalid("unknown batch reset type Unspecified"))
        }
        _ => Ok(()),
    }
}
