//! Updates: sent with an id of their own, waited for up to acceptance or completion, and what was told is written down.

use mainstay_api::temporal::enums::v1::{
    UpdateWorkflowExecutionLifecycleStage as Stage, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use mainstay_api::temporal::update::v1 as update;
use mainstay_api::temporal::update::v1::outcome::Value;
use mainstay_api::temporal::update::v1::{Input, Meta, Request, WaitPolicy};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_api::temporal::workflowservice::v1::execute_multi_operation_request::Operation;
use mainstay_api::temporal::workflowservice::v1::execute_multi_operation_request::operation::Operation as Asked;
use mainstay_api::temporal::workflowservice::v1::execute_multi_operation_response::response::Response as Answered;
use mainstay_sim_runtime::trace;
use tonic::Status;

use super::{Performer, Start, current};
use crate::client::{CALL_TIMEOUT, NAMESPACE, call, passing, payloads, text};
use crate::journal::{Call, Outcome};
use crate::ledger::{Told, ToldUpdate};
use crate::operation::Follow;
use crate::plan::Plan;
use crate::updates::Wish;

impl Performer {
    /// One try of an update; answers whether its end, or what was waited for, was told.
    pub(super) async fn update(&self, label: &str, workflow_id: &str, wish: Wish, to_the_end: bool) -> bool {
        let stage = if to_the_end { Stage::Completed } else { Stage::Accepted };
        let id = label.to_string();
        let request = self.request(&id, workflow_id, wish, stage);
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.update_workflow_execution(it).await }).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(status) => {
                trace::event(format!("update {id} of {workflow_id}: {:?} {}", status.code(), status.message()));
                self.note_abort(workflow_id, &id, &status);
                return !passing("UpdateWorkflowExecution", &status);
            }
        };
        self.told(id, answer, stage)
    }

    /// Starts a workflow with an update, or updates the run that is open.
    pub(super) async fn update_with_start(
        &self,
        label: &str,
        workflow_id: &str,
        plan: &Plan,
        wish: Wish,
        to_the_end: bool,
    ) -> bool {
        let stage = if to_the_end { Stage::Completed } else { Stage::Accepted };
        let (conflict, reuse) = (WorkflowIdConflictPolicy::UseExisting, WorkflowIdReusePolicy::AllowDuplicate);
        let start = Start { label, workflow_id, conflict, reuse, follow: Follow::Nothing };
        let operations = [
            Asked::StartWorkflow(start.request(plan)),
            Asked::UpdateWorkflow(self.request(label, workflow_id, wish, stage)),
        ];
        let request = api::ExecuteMultiOperationRequest {
            namespace: NAMESPACE.into(),
            operations: operations.map(|one| Operation { operation: Some(one) }).into(),
            ..Default::default()
        };
        let place = self.journal.invoke(label, workflow_id, Call::Start { conflict, reuse, signal: None });
        let mut stub = self.client.stub.clone();
        let answer = call(CALL_TIMEOUT, request, |it| async move { stub.execute_multi_operation(it).await }).await;
        let answer = match answer {
            Ok(answer) => answer,
            // Whether a run was started is not told.
            Err(status) => {
                trace::event(format!("update {label} with a start: {:?} {}", status.code(), status.message()));
                return !passing("ExecuteMultiOperation", &status);
            }
        };
        let mut stands = true;
        for response in answer.responses.into_iter().filter_map(|one| one.response) {
            match response {
                // One that used the run of an earlier try may speak of a closed one: the model learns nothing from it.
                Answered::StartWorkflow(it) if it.started => {
                    self.journal.answer(place, Outcome::Run { run_id: it.run_id, fresh: true });
                }
                Answered::StartWorkflow(_) => {}
                Answered::UpdateWorkflow(it) => stands = self.told(label.into(), it, stage),
            }
        }
        stands
    }

    /// Writes down that an update is said to have ended with a workflow task that failed.
    fn note_abort(&self, workflow_id: &str, id: &str, status: &Status) {
        if status.message().contains("unexpected workflow task failure") {
            self.ledger.promises().aborted.insert((workflow_id.into(), id.into()));
        }
    }

    fn request(&self, id: &str, workflow_id: &str, wish: Wish, stage: Stage) -> api::UpdateWorkflowExecutionRequest {
        self.ledger.promises().updated.insert(workflow_id.into());
        api::UpdateWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_execution: Some(current(workflow_id)),
            wait_policy: Some(WaitPolicy { lifecycle_stage: stage as i32 }),
            request: Some(Request {
                meta: Some(Meta { update_id: id.into(), identity: self.client.identity.clone() }),
                input: Some(Input { name: "wish".into(), args: payloads(&wish.text()), ..Input::default() }),
                ..Request::default()
            }),
            ..Default::default()
        }
    }

    /// Writes down what was told; says whether it is what was waited for.
    fn told(&self, id: String, answer: api::UpdateWorkflowExecutionResponse, stage: Stage) -> bool {
        let reached = answer.stage();
        let execution = answer.update_ref.and_then(|it| it.workflow_execution).unwrap_or_default();
        let Some(told) = told(reached, answer.outcome) else { return false };
        trace::event(format!("update {id} of {execution:?}: {told:?}"));
        self.ledger.promises().updates.push(ToldUpdate { execution, id, told });
        reached >= stage
    }
}

/// What an answer says, if it says anything: the server stops waiting after some time.
fn told(reached: Stage, outcome: Option<update::Outcome>) -> Option<Told> {
    match outcome.and_then(|outcome| outcome.value) {
        Some(Value::Success(answer)) => Some(Told::Completed(text(Some(&answer)))),
        Some(Value::Failure(failure)) if failure.message == "rejected by plan" => Some(Told::Rejected),
        Some(Value::Failure(failure)) if failure.message.contains("wasn't processed by worker") => {
            Some(Told::PassedOver)
        }
        Some(Value::Failure(failure)) => Some(Told::Failed(failure.message)),
        None => (reached == Stage::Accepted).then_some(Told::Accepted),
    }
}
