//! A worker's side of activities: poll, heartbeat, complete, fail, cancel; by token, or by id from anywhere.
//!
//! What is over the blob limit is not refused, since a worker would only send it again: the activity fails with the server's own
//! failure.

use mainstay_api::log::command::Op;
use mainstay_api::log::task_token::Kind;
use mainstay_api::log::{
    ActivityById, ActivityTarget, CancelActivity, CompleteActivity, FailActivity, HeartbeatActivity,
    activity_target::Target, reply,
};
use mainstay_api::temporal::common::v1::{Payloads, WorkerVersionStamp};
use mainstay_api::temporal::failure::v1::{Failure, failure::FailureInfo};
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_node::service::{Namespace, Service};
use mainstay_runtime::Runtime;

use super::workflow_tasks::activity_with_token;
use super::{Call, Frontend, unexpected};
use crate::status::{Answer, invalid, not_found};
use crate::validate::{self, sizes, task_queue};

/// The activity that a request means.
struct Meant {
    namespace: Namespace,
    workflow_id: String,
    target: Option<ActivityTarget>,
}

/// Who closes an activity.
struct Closer {
    identity: String,
    /// The worker's code, if it says so.
    worker: Option<WorkerVersionStamp>,
}

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn poll_activity_task_queue(
        &self,
        call: Call<PollActivityTaskQueueRequest>,
    ) -> Answer<PollActivityTaskQueueResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let timeout = self.poll_timeout(call.budget)?;
        validate::length("Identity", &request.identity)?;
        task_queue::normalise(&mut request.task_queue)?;
        let task = self.poll(self.service.poll_activity_task(namespace, request, timeout)).await?;
        Ok(task.map(|task| activity_with_token(self.seal(), task)).unwrap_or_default())
    }

    fn by_token(&self, namespace: &str, sealed: &[u8], identity: &str) -> Answer<Meant> {
        let (namespace, token) = self.namespace_of_token(namespace, sealed, Kind::ActivityTask)?;
        validate::length("Identity", identity)?;
        let workflow_id = token.workflow_id.clone();
        Ok(Meant { namespace, workflow_id, target: Some(ActivityTarget { target: Some(Target::Token(token)) }) })
    }

    fn by_id(&self, namespace: &str, execution: [&str; 3], identity: &str) -> Answer<Meant> {
        let [workflow_id, run_id, activity_id] = execution;
        let namespace = self.namespace(namespace)?;
        if activity_id.is_empty() {
            return Err(invalid("ActivityId is not set on request."));
        }
        if workflow_id.is_empty() {
            // An activity without a workflow, of which there are none yet.
            return Err(not_found(format!("activity not found for ID: {activity_id}")));
        }
        validate::length("Identity", identity)?;
        validate::run_id(run_id)?;
        let by_id = ActivityById { run_id: run_id.into(), activity_id: activity_id.into() };
        let target = Some(ActivityTarget { target: Some(Target::ById(by_id)) });
        Ok(Meant { namespace, workflow_id: workflow_id.into(), target })
    }

    async fn complete_activity(&self, meant: Meant, result: Option<Payloads>, by: Closer) -> Answer<()> {
        let Closer { identity, worker } = by;
        let Meant { namespace, workflow_id, target } = meant;
        let op = if self.blobs().is_too_large(result.as_ref()) {
            let failure = Some(sizes::server_failure("Complete result exceeds size limit.", None));
            Op::FailActivity(FailActivity { target, failure, identity, worker, ..FailActivity::default() })
        } else {
            Op::CompleteActivity(CompleteActivity { target, result, identity, worker })
        };
        self.execute(&namespace, &workflow_id, op).await.map(drop)
    }

    /// Fails an activity; answers the failures that the worker must know were cut.
    async fn fail_activity(
        &self,
        meant: Meant,
        mut failure: Option<Failure>,
        mut last_heartbeat_details: Option<Payloads>,
        by: Closer,
    ) -> Answer<Vec<Failure>> {
        let Closer { identity, worker } = by;
        let Meant { namespace, workflow_id, target } = meant;
        let mut cut = Vec::new();
        if self.blobs().is_too_large(last_heartbeat_details.as_ref()) {
            last_heartbeat_details = None;
            cut.push(sizes::server_failure("Heartbeat details exceed size limit.", None));
        }
        if self.blobs().is_too_large(failure.as_ref()) {
            let cause = failure.take().map(sizes::without_details);
            failure = Some(sizes::server_failure("Failure exceeds size limit.", cause));
            cut.extend(failure.clone());
        }
        let op = Op::FailActivity(FailActivity { target, failure, last_heartbeat_details, identity, worker });
        self.execute(&namespace, &workflow_id, op).await?;
        Ok(cut)
    }

    async fn cancel_activity(&self, meant: Meant, details: Option<Payloads>, identity: String) -> Answer<()> {
        let Meant { namespace, workflow_id, target } = meant;
        let op = if self.blobs().is_too_large(details.as_ref()) {
            let failure = Some(sizes::server_failure("Cancel details exceed size limit.", None));
            Op::FailActivity(FailActivity { target, failure, identity, ..FailActivity::default() })
        } else {
            Op::CancelActivity(CancelActivity { target, details, identity })
        };
        self.execute(&namespace, &workflow_id, op).await.map(drop)
    }

    async fn heartbeat(
        &self,
        meant: Meant,
        details: Option<Payloads>,
        identity: String,
    ) -> Answer<RecordActivityTaskHeartbeatResponse> {
        let Meant { namespace, workflow_id, target } = meant;
        if self.blobs().is_too_large(details.as_ref()) {
            let failure = Some(sizes::server_failure("Heartbeat details exceed size limit.", None));
            let op = Op::FailActivity(FailActivity { target, failure, identity, ..FailActivity::default() });
            self.execute(&namespace, &workflow_id, op).await?;
            return Ok(RecordActivityTaskHeartbeatResponse { cancel_requested: true, ..Default::default() });
        }
        let op = Op::HeartbeatActivity(HeartbeatActivity { target, details, identity });
        match self.execute(&namespace, &workflow_id, op).await?.reply {
            Some(reply::Reply::Heartbeat(response)) => Ok(response),
            other => unexpected(other),
        }
    }

    pub(super) async fn record_activity_task_heartbeat(
        &self,
        call: Call<RecordActivityTaskHeartbeatRequest>,
    ) -> Answer<RecordActivityTaskHeartbeatResponse> {
        let r = call.request;
        let meant = self.by_token(&r.namespace, &r.task_token, &r.identity)?;
        self.heartbeat(meant, r.details, r.identity).await
    }

    pub(super) async fn record_activity_task_heartbeat_by_id(
        &self,
        call: Call<RecordActivityTaskHeartbeatByIdRequest>,
    ) -> Answer<RecordActivityTaskHeartbeatByIdResponse> {
        let r = call.request;
        let meant = self.by_id(&r.namespace, [&r.workflow_id, &r.run_id, &r.activity_id], &r.identity)?;
        let response = self.heartbeat(meant, r.details, r.identity).await?;
        Ok(RecordActivityTaskHeartbeatByIdResponse {
            cancel_requested: response.cancel_requested,
            activity_paused: response.activity_paused,
            activity_reset: response.activity_reset,
        })
    }

    pub(super) async fn respond_activity_task_completed(
        &self,
        call: Call<RespondActivityTaskCompletedRequest>,
    ) -> Answer<RespondActivityTaskCompletedResponse> {
        let r = call.request;
        let meant = self.by_token(&r.namespace, &r.task_token, &r.identity)?;
        #[allow(deprecated)]
        let by = Closer { identity: r.identity, worker: r.worker_version };
        self.complete_activity(meant, r.result, by).await?;
        Ok(RespondActivityTaskCompletedResponse::default())
    }

    pub(super) async fn respond_activity_task_completed_by_id(
        &self,
        call: Call<RespondActivityTaskCompletedByIdRequest>,
    ) -> Answer<RespondActivityTaskCompletedByIdResponse> {
        let r = call.request;
        let meant = self.by_id(&r.namespace, [&r.workflow_id, &r.run_id, &r.activity_id], &r.identity)?;
        self.complete_activity(meant, r.result, Closer { identity: r.identity, worker: None }).await?;
        Ok(RespondActivityTaskCompletedByIdResponse::default())
    }

    pub(super) async fn respond_activity_task_failed(
        &self,
        call: Call<RespondActivityTaskFailedRequest>,
    ) -> Answer<RespondActivityTaskFailedResponse> {
        let r = call.request;
        let meant = self.by_token(&r.namespace, &r.task_token, &r.identity)?;
        let is_application =
            |failure: &Failure| matches!(failure.failure_info, Some(FailureInfo::ApplicationFailureInfo(_)));
        if r.failure.as_ref().is_some_and(|failure| !is_application(failure)) {
            return Err(invalid("Failure must have ApplicationFailureInfo."));
        }
        #[allow(deprecated)]
        let by = Closer { identity: r.identity, worker: r.worker_version };
        let failures = self.fail_activity(meant, r.failure, r.last_heartbeat_details, by).await?;
        Ok(RespondActivityTaskFailedResponse { failures })
    }

    pub(super) async fn respond_activity_task_failed_by_id(
        &self,
        call: Call<RespondActivityTaskFailedByIdRequest>,
    ) -> Answer<RespondActivityTaskFailedByIdResponse> {
        let r = call.request;
        let meant = self.by_id(&r.namespace, [&r.workflow_id, &r.run_id, &r.activity_id], &r.identity)?;
        let by = Closer { identity: r.identity, worker: None };
        let failures = self.fail_activity(meant, r.failure, r.last_heartbeat_details, by).await?;
        Ok(RespondActivityTaskFailedByIdResponse { failures })
    }

    pub(super) async fn respond_activity_task_canceled(
        &self,
        call: Call<RespondActivityTaskCanceledRequest>,
    ) -> Answer<RespondActivityTaskCanceledResponse> {
        let r = call.request;
        let meant = self.by_token(&r.namespace, &r.task_token, &r.identity)?;
        self.cancel_activity(meant, r.details, r.identity).await?;
        Ok(RespondActivityTaskCanceledResponse::default())
    }

    pub(super) async fn respond_activity_task_canceled_by_id(
        &self,
        call: Call<RespondActivityTaskCanceledByIdRequest>,
    ) -> Answer<RespondActivityTaskCanceledByIdResponse> {
        let r = call.request;
        let meant = self.by_id(&r.namespace, [&r.workflow_id, &r.run_id, &r.activity_id], &r.identity)?;
        self.cancel_activity(meant, r.details, r.identity).await?;
        Ok(RespondActivityTaskCanceledByIdResponse::default())
    }
}
