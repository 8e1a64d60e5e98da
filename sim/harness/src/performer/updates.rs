//! Updates: sent with an id of their own, waited for up to acceptance or completion, and what was told is written down.

use mainstay_api::temporal::enums::v1::UpdateWorkflowExecutionLifecycleStage as Stage;
use mainstay_api::temporal::update::v1::outcome::Value;
use mainstay_api::temporal::update::v1::{Input, Meta, Outcome, Request, WaitPolicy};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_sim_runtime::trace;

use super::{Performer, current};
use crate::client::{CALL_TIMEOUT, NAMESPACE, call, passing, payloads, text};
use crate::ledger::{Told, ToldUpdate};
use crate::updates::Wish;

impl Performer {
    /// One try of an update; answers whether its end, or what was waited for, was told.
    pub(super) async fn update(&self, label: &str, workflow_id: &str, wish: Wish, to_the_end: bool) -> bool {
        let stage = if to_the_end { Stage::Completed } else { Stage::Accepted };
        let id = label.to_string();
        let request = api::UpdateWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(current(workflow_id)),
            wait_policy: Some(WaitPolicy { lifecycle_stage: stage as i32 }),
            request: Some(Request {
                meta: Some(Meta { update_id: id.clone(), identity: self.client.identity.clone() }),
                input: Some(Input { name: "wish".into(), args: payloads(&wish.text()), ..Input::default() }),
                ..Request::default()
            }),
            ..Default::default()
        };
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.update_workflow_execution(it).await }).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                trace::event(format!("update {id} of {workflow_id}: {:?} {}", status.code(), status.message()));
                return !passing("UpdateWorkflowExecution", &status);
            }
        };
        let reached = answer.stage();
        let execution = answer.update_ref.and_then(|it| it.workflow_execution).unwrap_or_default();
        let Some(told) = told(reached, answer.outcome) else { return false };
        trace::event(format!("update {id} of {execution:?}: {told:?}"));
        self.ledger.promises().updates.push(ToldUpdate { execution, id, told });
        reached >= stage
    }
}

/// What an answer says, if it says anything: the server stops waiting after some time.
fn told(reached: Stage, outcome: Option<Outcome>) -> Option<Told> {
    match outcome.and_then(|outcome| outcome.value) {
        Some(Value::Success(answer)) => Some(Told::Completed(text(Some(&answer)))),
        Some(Value::Failure(failure)) if failure.message == "rejected by plan" => Some(Told::Rejected),
        Some(Value::Failure(failure)) => Some(Told::Failed(failure.message)),
        None => (reached == Stage::Accepted).then_some(Told::Accepted),
    }
}
