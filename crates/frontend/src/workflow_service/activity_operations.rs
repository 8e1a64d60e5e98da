//! What people do to pending activities: pause, unpause, reset, change of options; each by its older name, which can mean many
//! activities of a workflow, and by its newer one, which means one. Both become one command.

use mainstay_api::log::operate_activities::{Operation, Pause, Reset, Unpause, UpdateOptions, Which};
use mainstay_api::log::{OperateActivities, Reply, command::Op, reply};
use mainstay_api::temporal::activity::v1::ActivityOptions;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::workflowservice::v1::{
    PauseActivityExecutionRequest, PauseActivityExecutionResponse, PauseActivityRequest, PauseActivityResponse,
    ResetActivityExecutionRequest, ResetActivityExecutionResponse, ResetActivityRequest, ResetActivityResponse,
    UnpauseActivityExecutionRequest, UnpauseActivityExecutionResponse, UnpauseActivityRequest, UnpauseActivityResponse,
    UpdateActivityExecutionOptionsRequest, UpdateActivityExecutionOptionsResponse, UpdateActivityOptionsRequest,
    UpdateActivityOptionsResponse, pause_activity_request, reset_activity_request, unpause_activity_request,
    update_activity_options_request,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use prost_types::Duration;

use super::{Call, Frontend, unexpected};
use crate::status::{Answer, invalid, not_found};
use crate::validate::{self, priority, times};

/// The activities that a request means.
struct Meant {
    execution: WorkflowExecution,
    which: Which,
    identity: String,
}

impl Meant {
    /// By the older names: of an execution, one activity, or all of a kind.
    fn any(execution: Option<&WorkflowExecution>, which: Option<Which>, identity: String) -> Answer<Self> {
        let execution = execution.cloned().unwrap_or_default();
        validate::workflow_id(&execution.workflow_id)?;
        validate::loaded_run_id(&execution.run_id)?;
        validate::length("Identity", &identity)?;
        let none = || invalid("Either Activity.Id or Activity.Type should be set on request.");
        Ok(Self { execution, which: which.ok_or_else(none)?, identity })
    }

    /// By the newer names: one activity by its ids.
    fn one(workflow_id: String, run_id: String, activity_id: String, identity: String) -> Answer<Self> {
        if activity_id.is_empty() {
            return Err(invalid("activity ID is required"));
        }
        validate::length("ActivityId", &activity_id)?;
        if workflow_id.is_empty() {
            // An activity without a workflow, of which there are none yet.
            return Err(not_found(format!("activity not found for ID: {activity_id}")));
        }
        validate::loaded_run_id(&run_id)?;
        let execution = WorkflowExecution { workflow_id, run_id };
        validate::length("Identity", &identity)?;
        Ok(Self { execution, which: Which::Id(activity_id), identity })
    }
}

fn jitter(value: Option<Duration>) -> Answer<i64> {
    let mut value = value;
    times::normalise(&mut value).map_err(|wrong| invalid(format!("invalid Jitter: {wrong}")))?;
    Ok(value.map_or(0, |d| d.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(d.nanos))))
}

fn check_update(update: &UpdateOptions) -> Answer<()> {
    match (update.restore_original, &update.mask) {
        (true, Some(_)) => Err(invalid("Both UpdateMask and RestoreOriginal are provided")),
        (false, None) => Err(invalid("UpdateMask is not provided")),
        (false, Some(_)) if update.options.is_none() => Err(invalid("ActivityOptions are not provided")),
        _ => priority::check(update.options.as_ref().and_then(|options| options.priority.as_ref())),
    }
}

impl<R: Runtime, S: Service> Frontend<R, S> {
    async fn operate(&self, namespace: &str, meant: Answer<Meant>, operation: Operation) -> Answer<Reply> {
        let namespace = self.namespace(namespace)?;
        let Meant { execution, which, identity } = meant?;
        let op =
            OperateActivities { run_id: execution.run_id, identity, which: Some(which), operation: Some(operation) };
        self.execute(&namespace, &execution.workflow_id, Op::OperateActivities(op)).await
    }

    async fn update(&self, namespace: &str, meant: Answer<Meant>, update: UpdateOptions) -> Answer<ActivityOptions> {
        let meant = match meant {
            Ok(meant) => check_update(&update).map(|()| meant),
            refused => refused,
        };
        match self.operate(namespace, meant, Operation::UpdateOptions(update)).await?.reply {
            Some(reply::Reply::ActivityOptions(options)) => Ok(options),
            other => unexpected(other),
        }
    }

    pub(super) async fn pause_activity(&self, call: Call<PauseActivityRequest>) -> Answer<PauseActivityResponse> {
        let r = call.request;
        let which = r.activity.map(|which| match which {
            pause_activity_request::Activity::Id(id) => Which::Id(id),
            pause_activity_request::Activity::Type(kind) => Which::Type(kind),
        });
        let meant = Meant::any(r.execution.as_ref(), which, r.identity);
        let pause = Pause { reason: r.reason, request_id: r.request_id };
        self.operate(&r.namespace, meant, Operation::Pause(pause)).await?;
        Ok(PauseActivityResponse::default())
    }

    pub(super) async fn pause_activity_execution(
        &self,
        call: Call<PauseActivityExecutionRequest>,
    ) -> Answer<PauseActivityExecutionResponse> {
        let r = call.request;
        let meant = Meant::one(r.workflow_id, r.run_id, r.activity_id, r.identity);
        let pause = Pause { reason: r.reason, request_id: r.request_id };
        self.operate(&r.namespace, meant, Operation::Pause(pause)).await?;
        Ok(PauseActivityExecutionResponse::default())
    }

    pub(super) async fn unpause_activity(&self, call: Call<UnpauseActivityRequest>) -> Answer<UnpauseActivityResponse> {
        let r = call.request;
        let which = r.activity.map(|which| match which {
            unpause_activity_request::Activity::Id(id) => Which::Id(id),
            unpause_activity_request::Activity::Type(kind) => Which::Type(kind),
            unpause_activity_request::Activity::UnpauseAll(all) => Which::All(all),
        });
        let meant = Meant::any(r.execution.as_ref(), which, r.identity);
        let unpause = Unpause {
            reset_attempts: r.reset_attempts,
            reset_heartbeat: r.reset_heartbeat,
            jitter_ns: jitter(r.jitter)?,
        };
        self.operate(&r.namespace, meant, Operation::Unpause(unpause)).await?;
        Ok(UnpauseActivityResponse::default())
    }

    pub(super) async fn unpause_activity_execution(
        &self,
        call: Call<UnpauseActivityExecutionRequest>,
    ) -> Answer<UnpauseActivityExecutionResponse> {
        let r = call.request;
        let meant = Meant::one(r.workflow_id, r.run_id, r.activity_id, r.identity);
        let unpause = Unpause { jitter_ns: jitter(r.jitter)?, ..Unpause::default() };
        self.operate(&r.namespace, meant, Operation::Unpause(unpause)).await?;
        Ok(UnpauseActivityExecutionResponse::default())
    }

    pub(super) async fn reset_activity(&self, call: Call<ResetActivityRequest>) -> Answer<ResetActivityResponse> {
        let r = call.request;
        let which = r.activity.map(|which| match which {
            reset_activity_request::Activity::Id(id) => Which::Id(id),
            reset_activity_request::Activity::Type(kind) => Which::Type(kind),
            reset_activity_request::Activity::MatchAll(all) => Which::All(all),
        });
        let meant = Meant::any(r.execution.as_ref(), which, r.identity);
        let reset = Reset {
            reset_heartbeat: r.reset_heartbeat,
            keep_paused: r.keep_paused,
            jitter_ns: jitter(r.jitter)?,
            restore_options: r.restore_original_options,
        };
        self.operate(&r.namespace, meant, Operation::Reset(reset)).await?;
        Ok(ResetActivityResponse::default())
    }

    pub(super) async fn reset_activity_execution(
        &self,
        call: Call<ResetActivityExecutionRequest>,
    ) -> Answer<ResetActivityExecutionResponse> {
        let r = call.request;
        let meant = Meant::one(r.workflow_id, r.run_id, r.activity_id, r.identity);
        let reset = Reset {
            reset_heartbeat: r.reset_heartbeat,
            keep_paused: r.keep_paused,
            jitter_ns: jitter(r.jitter)?,
            restore_options: r.restore_original_options,
        };
        self.operate(&r.namespace, meant, Operation::Reset(reset)).await?;
        Ok(ResetActivityExecutionResponse::default())
    }

    pub(super) async fn update_activity_options(
        &self,
        call: Call<UpdateActivityOptionsRequest>,
    ) -> Answer<UpdateActivityOptionsResponse> {
        let r = call.request;
        let which = r.activity.map(|which| match which {
            update_activity_options_request::Activity::Id(id) => Which::Id(id),
            update_activity_options_request::Activity::Type(kind) => Which::Type(kind),
            update_activity_options_request::Activity::MatchAll(all) => Which::All(all),
        });
        let meant = Meant::any(r.execution.as_ref(), which, r.identity);
        let update =
            UpdateOptions { options: r.activity_options, mask: r.update_mask, restore_original: r.restore_original };
        let options = self.update(&r.namespace, meant, update).await?;
        Ok(UpdateActivityOptionsResponse { activity_options: Some(options) })
    }

    pub(super) async fn update_activity_execution_options(
        &self,
        call: Call<UpdateActivityExecutionOptionsRequest>,
    ) -> Answer<UpdateActivityExecutionOptionsResponse> {
        let r = call.request;
        let meant = Meant::one(r.workflow_id, r.run_id, r.activity_id, r.identity);
        let update =
            UpdateOptions { options: r.activity_options, mask: r.update_mask, restore_original: r.restore_original };
        let options = self.update(&r.namespace, meant, update).await?;
        Ok(UpdateActivityExecutionOptionsResponse { activity_options: Some(options) })
    }
}
