//! What operators do to a workflow from outside: it is paused, or its activities are, and goes on.

use std::time::Duration;

use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_api::temporal::workflowservice::v1::{pause_activity_request, unpause_activity_request};
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, trace};
use tonic::{Code, Status};

use super::{Performer, current};
use crate::client::{CALL_TIMEOUT, NAMESPACE, call, insist, passing};
use crate::commands::ACTIVITY_TYPE;

impl Performer {
    /// Pauses the activities of a workflow's current run for a while.
    pub(super) async fn pause(&self, label: &str, workflow_id: &str, pause: Duration) -> bool {
        let execution = current(workflow_id);
        let request = api::PauseActivityRequest {
            namespace: NAMESPACE.into(),
            execution: Some(execution.clone()),
            identity: label.into(),
            reason: label.into(),
            request_id: label.into(),
            activity: Some(pause_activity_request::Activity::Type(ACTIVITY_TYPE.into())),
        };
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.pause_activity(it).await }).await;
        let wait = match answer {
            Ok(_) => pause,
            // It may be done until the server gives it up.
            Err(status) if passing("PauseActivity", &status) => CALL_TIMEOUT + pause,
            Err(status) => return expected(&status),
        };
        SimRuntime::sleep(wait).await;
        let request = api::UnpauseActivityRequest {
            namespace: NAMESPACE.into(),
            execution: Some(execution),
            identity: label.into(),
            activity: Some(unpause_activity_request::Activity::UnpauseAll(true)),
            ..Default::default()
        };
        let answer = insist!(self.client.stub, CALL_TIMEOUT, unpause_activity, request.clone());
        answer.map_or_else(|status| expected(&status), |_| true)
    }
}

impl Performer {
    /// Pauses the workflow's current run for a while.
    pub(super) async fn pause_workflow(&self, label: &str, workflow_id: &str, pause: Duration) -> bool {
        let request = api::PauseWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: workflow_id.into(),
            identity: label.into(),
            reason: label.into(),
            request_id: label.into(),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.pause_workflow_execution(it).await }).await;
        tell(label, "pause", workflow_id, &answer);
        let wait = match answer {
            Ok(_) => pause,
            Err(status) if passing("PauseWorkflowExecution", &status) => CALL_TIMEOUT + pause,
            Err(status) => return expected(&status),
        };
        SimRuntime::sleep(wait).await;
        let request = api::UnpauseWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: workflow_id.into(),
            identity: label.into(),
            reason: label.into(),
            request_id: format!("{label}-over"),
            ..Default::default()
        };
        let answer = insist!(self.client.stub, CALL_TIMEOUT, unpause_workflow_execution, request.clone());
        tell(label, "unpause", workflow_id, &answer);
        answer.map_or_else(|status| expected(&status), |_| true)
    }
}

fn tell<T>(label: &str, what: &str, workflow_id: &str, answer: &Result<T, Status>) {
    let answer =
        answer.as_ref().map_or_else(|status| format!("{:?} {}", status.code(), status.message()), |_| "Done".into());
    trace::event(format!("{label}: {what} {workflow_id}: {answer}"));
}

/// There is no such workflow, or it is over, or it has no such activity.
fn expected(status: &Status) -> bool {
    let known = matches!(status.code(), Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument);
    assert!(known, "a pause was refused: {status:?}");
    true
}
