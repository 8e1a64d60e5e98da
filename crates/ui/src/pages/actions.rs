//! What can be done with a run. Each action is one call of the API, and then the run's page again, which says that it was done.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_api::temporal::enums::v1::{ResetReapplyExcludeType, UpdateWorkflowExecutionLifecycleStage as Stage};
use mainstay_api::temporal::update::v1::{Input, Meta, Request, WaitPolicy, outcome};
use mainstay_api::temporal::workflowservice::v1::*;
use maud::html;
use prost::Message;
use serde::Deserialize;

use super::workflow::{Head, Run, Shown};
use super::{IDENTITY, execution, request_id};
use crate::api::ask;
use crate::link::parameters;
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, json, payload};

/// What was done, by the name in the address.
const DONE: [(&str, &str); 14] = [
    ("signal", "The signal was sent."),
    ("cancel", "Cancellation was requested."),
    ("terminate", "The run was terminated."),
    ("reset", "The run was reset; this is the new run."),
    ("delete", "The run was deleted."),
    ("schedule", "Done."),
    ("schedule-new", "The schedule was created."),
    ("schedule-changed", "The schedule was changed."),
    ("activity-pause", "The activity is paused."),
    ("activity-unpause", "The activity is no longer paused."),
    ("activity-reset", "The activity was reset."),
    ("drain", "It is drained: others take over what it leads."),
    ("resume", "It takes part again."),
    ("promote", "It gets a vote where it has caught up."),
];

/// The sentence for a name, if it is one.
pub fn done(name: &str) -> Option<&'static str> {
    DONE.iter().find(|(known, _)| *known == name).map(|(_, words)| *words)
}

/// The fields of all dialogs.
#[derive(Debug, Default, Deserialize)]
pub struct Fields {
    #[serde(default)]
    name: String,
    #[serde(default)]
    input: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    event: i64,
    #[serde(default)]
    reapply: String,
}

fn back(ui: &Ui, shown: &Shown, done: &str) -> Response {
    Redirect::to(&(shown.address(ui) + &parameters(&[("done", done)]))).into_response()
}

pub async fn signal(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let request = SignalWorkflowExecutionRequest {
        namespace: shown.namespace.clone(),
        workflow_execution: Some(execution(&shown.workflow_id, &shown.run_id)),
        signal_name: fields.name.trim().to_owned(),
        input: payload::typed(&fields.input),
        identity: IDENTITY.into(),
        request_id: request_id(),
        ..Default::default()
    };
    ask(ui.api.workflows().signal_workflow_execution(request)).await?;
    Ok(back(&ui, &shown, "signal"))
}

pub async fn cancel(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let request = RequestCancelWorkflowExecutionRequest {
        namespace: shown.namespace.clone(),
        workflow_execution: Some(execution(&shown.workflow_id, &shown.run_id)),
        identity: IDENTITY.into(),
        request_id: request_id(),
        reason: fields.reason,
        ..Default::default()
    };
    ask(ui.api.workflows().request_cancel_workflow_execution(request)).await?;
    Ok(back(&ui, &shown, "cancel"))
}

pub async fn terminate(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let request = TerminateWorkflowExecutionRequest {
        namespace: shown.namespace.clone(),
        workflow_execution: Some(execution(&shown.workflow_id, &shown.run_id)),
        reason: fields.reason,
        identity: IDENTITY.into(),
        ..Default::default()
    };
    ask(ui.api.workflows().terminate_workflow_execution(request)).await?;
    Ok(back(&ui, &shown, "terminate"))
}

pub async fn reset(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let mut shown = Shown::from(run);
    let again = !fields.reapply.is_empty();
    let left_out = [ResetReapplyExcludeType::Signal as i32, ResetReapplyExcludeType::Update as i32];
    let request = ResetWorkflowExecutionRequest {
        namespace: shown.namespace.clone(),
        workflow_execution: Some(execution(&shown.workflow_id, &shown.run_id)),
        reason: fields.reason,
        workflow_task_finish_event_id: fields.event,
        request_id: request_id(),
        reset_reapply_exclude_types: if again { Vec::new() } else { left_out.to_vec() },
        identity: IDENTITY.into(),
        ..Default::default()
    };
    shown.run_id = ask(ui.api.workflows().reset_workflow_execution(request)).await?.run_id;
    Ok(back(&ui, &shown, "reset"))
}

pub async fn delete(State(ui): State<Arc<Ui>>, Path(run): Path<Run>) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let request = DeleteWorkflowExecutionRequest {
        namespace: shown.namespace.clone(),
        workflow_execution: Some(execution(&shown.workflow_id, &shown.run_id)),
    };
    ask(ui.api.workflows().delete_workflow_execution(request)).await?;
    Ok(Redirect::to(&shown.links(&ui).workflows("")).into_response())
}

/// An update has a result, so its answer is a page of its own.
pub async fn update(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    visitor: Visitor,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let request = UpdateWorkflowExecutionRequest {
        namespace: shown.namespace.clone(),
        workflow_execution: Some(execution(&shown.workflow_id, &shown.run_id)),
        wait_policy: Some(WaitPolicy { lifecycle_stage: Stage::Completed as i32 }),
        request: Some(Request {
            meta: Some(Meta { update_id: request_id(), identity: IDENTITY.into() }),
            input: Some(Input {
                name: fields.name.trim().to_owned(),
                args: payload::typed(&fields.input),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = ask(ui.api.workflows().update_workflow_execution(request)).await?;
    let described = shown.describe(&ui).await?;
    let head = Head { ui: &ui, shown: &shown, described: &described, visitor: &visitor };
    let body = html! {
        (head.markup("history", None))
        section.answer {
            h2 { "Update " code { (fields.name) } }
            @match answer.outcome.and_then(|outcome| outcome.value) {
                Some(outcome::Value::Success(result)) => { p.good { "It was completed." } (payload::all(Some(&result))) }
                Some(outcome::Value::Failure(failure)) => {
                    p.bad { (failure.message) }
                    (json::fields(&json::of("temporal.api.failure.v1.Failure", &failure.encode_to_vec())))
                }
                None => p { "It is on its way; no result came within ten seconds." },
            }
            p { a href=(shown.address(&ui)) { "Back to the run" } }
        }
        (head.dialogs(&crate::events::Page::default()))
    };
    let shell = Shell { section: Section::Workflows, namespace: Some(&shown.namespace), title: "Update", events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}
