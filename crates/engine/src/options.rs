//! UpdateWorkflowExecutionOptions: priority and versioning override of an open run, by field mask.
//!
//! What an update leaves is compared with what was there; a difference is one event, which carries all options. An event without a
//! priority leaves the run's priority as it was: a priority can be replaced, but not taken away. (Recorded.)

use mainstay_api::log::{Reply, reply};
use mainstay_api::temporal::history::v1::WorkflowExecutionOptionsUpdatedEventAttributes;
use mainstay_api::temporal::workflow::v1::{
    VersioningOverride, WorkflowExecutionOptions, versioning_override::Override,
};
use mainstay_api::temporal::workflowservice::v1::{
    UpdateWorkflowExecutionOptionsRequest, UpdateWorkflowExecutionOptionsResponse,
};
use prost_types::FieldMask;

use crate::activity_operations::merge_priority;
use crate::convert::given;
use crate::event::Attributes;
use crate::field_mask::Mask;
use crate::run::Run;
use crate::transaction::Transaction;
use crate::{Answer, Error, reply_of, search_attributes, versioning};

pub(crate) fn update(tx: &mut Transaction<'_>, request: &UpdateWorkflowExecutionOptionsRequest) -> Answer<Reply> {
    let mut run = Run::load_open(tx, &given(&request.workflow_execution).run_id)?;
    let wanted = given(&request.workflow_execution_options);
    let merged = apply(tx, &mut run, &wanted, request.update_mask.as_ref(), &request.identity)?;
    run.save(tx);
    let response = UpdateWorkflowExecutionOptionsResponse {
        workflow_execution_options: Some(merged),
        ..UpdateWorkflowExecutionOptionsResponse::default()
    };
    Ok(reply_of(reply::Reply::UpdateOptions(response)))
}

/// Sets the options that the mask names; answers all of them.
pub(crate) fn apply(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    wanted: &WorkflowExecutionOptions,
    mask: Option<&FieldMask>,
    identity: &str,
) -> Answer<WorkflowExecutionOptions> {
    let current = current(tx, run);
    let mut merged = current.clone();
    let mask = Mask::of(mask);
    if mask.has("versioning_override") {
        merged.versioning_override = wanted.versioning_override.as_ref().map(versioning::newest);
    } else if mask.has_under("versioning_override") {
        return Err(Error::invalid("versioning_override fields must be updated together").into());
    }
    merge_priority(&mut merged.priority, wanted.priority.as_ref(), &mask);
    if merged == current {
        return Ok(merged);
    }
    if merged.versioning_override != current.versioning_override {
        check_pinned(run, merged.versioning_override.as_ref())?;
    }
    let event = WorkflowExecutionOptionsUpdatedEventAttributes {
        versioning_override: merged.versioning_override.clone(),
        unset_versioning_override: merged.versioning_override.is_none(),
        identity: identity.to_string(),
        priority: merged.priority.clone(),
        ..WorkflowExecutionOptionsUpdatedEventAttributes::default()
    };
    take(tx, run, &event);
    run.add(tx, Attributes::WorkflowExecutionOptionsUpdatedEventAttributes(event));
    Ok(merged)
}

fn current(tx: &Transaction<'_>, run: &Run) -> WorkflowExecutionOptions {
    WorkflowExecutionOptions {
        versioning_override: run.details(tx).versioning_override.clone(),
        priority: run.record.priority.clone(),
        ..WorkflowExecutionOptions::default()
    }
}

/// What the event means for the run; also when a history is read again.
pub(crate) fn take(tx: &Transaction<'_>, run: &mut Run, event: &WorkflowExecutionOptionsUpdatedEventAttributes) {
    if let Some(priority) = &event.priority {
        run.record.priority = Some(priority.clone());
    }
    let before = run.details(tx).versioning_override.clone();
    let after = match (event.unset_versioning_override, &event.versioning_override) {
        (true, _) => None,
        (false, Some(given)) => Some(given.clone()),
        (false, None) => before.clone(),
    };
    if after != before {
        run.details_mut(tx).versioning_override = after;
        search_attributes::show_versioning(tx, run);
    }
}

/// A version can only be pinned if its workers poll the run's task queue; none is known here.
fn check_pinned(run: &Run, wanted: Option<&VersioningOverride>) -> Answer<()> {
    let Some(Override::Pinned(pinned)) = wanted.and_then(|o| o.r#override.as_ref()) else { return Ok(()) };
    let version = given(&pinned.version);
    Err(Error::FailedPrecondition(format!(
        "Pinned version '{}:{}' is not present in task queue '{}' of type 'Workflow'",
        version.deployment_name, version.build_id, run.record.task_queue
    ))
    .into())
}
