//! Batch jobs: the list, one with its progress, and how to start and stop one.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_api::temporal::batch::v1::{BatchOperationCancellation, BatchOperationTermination};
use mainstay_api::temporal::enums::v1::BatchOperationState;
use mainstay_api::temporal::workflowservice::v1::start_batch_operation_request::Operation;
use mainstay_api::temporal::workflowservice::v1::{
    CountWorkflowExecutionsRequest, DescribeBatchOperationRequest, DescribeBatchOperationResponse,
    ListBatchOperationsRequest, StartBatchOperationRequest, StopBatchOperationRequest,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::{IDENTITY, secret};
use crate::api::ask;
use crate::format::{count, enum_words, time_of};
use crate::link::{Links, unsegment};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::{Secret, Visitor};
use crate::{Ui, live};

const PAGE: i32 = 100;

/// The fields of the forms.
#[derive(Debug, Default, Deserialize)]
pub struct Fields {
    #[serde(default)]
    query: String,
    #[serde(default)]
    operation: String,
    #[serde(default)]
    reason: String,
}

fn state(state: BatchOperationState) -> Markup {
    let class = match state {
        BatchOperationState::Running => "running",
        BatchOperationState::Completed => "completed",
        BatchOperationState::Failed => "failed",
        BatchOperationState::Unspecified => "unknown",
    };
    html! { span class={ "st " (class) } { i.dot {} (enum_words(state.as_str_name(), "BATCH_OPERATION_STATE_")) } }
}

/// The list.
pub async fn list(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(fields): Query<Fields>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let request = ListBatchOperationsRequest { namespace: namespace.clone(), page_size: PAGE, ..Default::default() };
    let listed = ask(ui.api.workflows().list_batch_operations(request)).await?;
    let body = html! {
        h1 { "Batches" }
        @if listed.operation_info.is_empty() {
            div.nothing { p { "No batch jobs." } p.muted { "One cancels or terminates all workflows of a filter. Start it below." } }
        } @else {
            table.list {
                caption.sr { "Batch jobs" }
                thead { tr { th scope="col" { "Job" } th scope="col" { "State" } th scope="col" { "Operation" } th scope="col" { "Started" } th scope="col" { "Closed" } } }
                tbody {
                    @for job in &listed.operation_info {
                        tr {
                            td { a.mono href=(links.batch(&job.job_id)) { (job.job_id) } }
                            td { (state(job.state())) }
                            td { (enum_words(job.operation_type().as_str_name(), "BATCH_OPERATION_TYPE_")) }
                            td { (time_of(job.start_time.as_ref())) }
                            td { (time_of(job.close_time.as_ref())) }
                        }
                    }
                }
            }
        }
        section.panel.narrow #new {
            h2 { "New batch job" }
            form method="get" action=(links.page("new-batch")) {
                label { "Filter of the workflows" input.mono name="query" value=(fields.query) required placeholder="WorkflowType = 'Order' AND ExecutionStatus = 'Running'"; }
                fieldset {
                    legend.sr { "Operation" }
                    label.check { input type="radio" name="operation" value="cancel" checked; "Request cancellation" }
                    label.check { input type="radio" name="operation" value="terminate"; "Terminate" }
                }
                label { "Reason" input name="reason" required; }
                button { "Count them first" }
            }
        }
    };
    let shell = Shell { section: Section::Batches, namespace: Some(&namespace), title: "Batches", events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

/// How many it would be, before anything is done.
pub async fn confirm(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(fields): Query<Fields>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let verb = verb(&fields.operation)?;
    let request = CountWorkflowExecutionsRequest { namespace: namespace.clone(), query: fields.query.clone() };
    let counted = ask(ui.api.workflows().count_workflow_executions(request)).await?;
    let body = html! {
        section.panel.narrow {
            h1 { (verb) " " (count(counted.count)) " workflows?" }
            p { "Those that match now: " a href=(links.workflows(&fields.query)) { code { (fields.query) } } }
            form method="post" action=(links.page("batches")) {
                (secret(&visitor))
                input type="hidden" name="query" value=(fields.query);
                input type="hidden" name="operation" value=(fields.operation);
                input type="hidden" name="reason" value=(fields.reason);
                div.buttons { a.button href=(links.page("batches")) { "No" } button.danger { (verb) } }
            }
        }
    };
    let shell = Shell { section: Section::Batches, namespace: Some(&namespace), title: "New batch job", events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

fn verb(operation: &str) -> Result<&'static str, Problem> {
    match operation {
        "cancel" => Ok("Request cancellation of"),
        "terminate" => Ok("Terminate"),
        _ => Err(Problem::invalid("A batch job cancels or terminates.")),
    }
}

/// Starts a job.
pub async fn start(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let identity = IDENTITY.to_owned();
    let operation = match fields.operation.as_str() {
        "terminate" => Operation::TerminationOperation(BatchOperationTermination { identity, ..Default::default() }),
        "cancel" => Operation::CancellationOperation(BatchOperationCancellation { identity }),
        other => return Err(verb(other).err().unwrap_or_else(|| Problem::invalid(other))),
    };
    let job_id = Secret::random().unwrap_or_default().0;
    let request = StartBatchOperationRequest {
        namespace: namespace.clone(),
        visibility_query: fields.query,
        job_id: job_id.clone(),
        reason: fields.reason,
        operation: Some(operation),
        ..Default::default()
    };
    ask(ui.api.workflows().start_batch_operation(request)).await?;
    Ok(Redirect::to(&links.batch(&job_id)).into_response())
}

async fn describe(ui: &Ui, namespace: &str, job_id: &str) -> Result<DescribeBatchOperationResponse, Problem> {
    let request = DescribeBatchOperationRequest { namespace: namespace.to_owned(), job_id: job_id.to_owned() };
    ask(ui.api.workflows().describe_batch_operation(request)).await
}

/// One job.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id)): Path<(String, String)>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let job = describe(&ui, &namespace, &id).await?;
    let running = job.state() == BatchOperationState::Running;
    let done = job.complete_operation_count + job.failure_operation_count;
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let body = html! {
        div #job data-region {
            div.title {
                nav.crumbs aria-label="Where" { a href=(links.page("batches")) { "Batches" } }
                h1.mono { (id) }
                (state(job.state()))
            }
            section.summary {
                progress value=(done) max=(job.total_operation_count.max(1)) aria-label="Done" {}
                dl.facts {
                    (fact("Operation", html! { (enum_words(job.operation_type().as_str_name(), "BATCH_OPERATION_TYPE_")) }))
                    (fact("Done", html! { (count(done)) " of " (count(job.total_operation_count)) }))
                    (fact("Failed", html! { span.bad[job.failure_operation_count > 0] { (count(job.failure_operation_count)) } }))
                    (fact("Reason", html! { (job.reason) }))
                    (fact("Filter", html! { a.mono href=(links.workflows(&job.query)) { (job.query) } }))
                    (fact("By", html! { (job.identity) }))
                    (fact("Started", time_of(job.start_time.as_ref())))
                    @if job.close_time.is_some() { (fact("Closed", time_of(job.close_time.as_ref()))) }
                }
            }
        }
        @if running {
            form.actions method="post" action={ (links.batch(&id)) "/stop" } {
                (secret(&visitor)) label { "Reason to stop" input name="reason" required; } button.danger { "Stop" }
            }
        }
    };
    let events = running.then(|| live::address(&format!("{}/events", links.batch(&id)), live::print(&job)));
    let shell = Shell { section: Section::Batches, namespace: Some(&namespace), title: &id, events };
    Ok(shell.answer(&ui, &visitor, body).await)
}

/// Says when a job's progress changes.
pub async fn events(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id)): Path<(String, String)>,
    Query(seen): Query<live::Seen>,
) -> Response {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    live::changes(&seen, move || {
        let (ui, namespace, id) = (ui.clone(), namespace.clone(), id.clone());
        async move { live::print(&describe(&ui, &namespace, &id).await.ok()?) }
    })
}

/// Stops a job.
pub async fn stop(
    State(ui): State<Arc<Ui>>,
    Path((namespace, id)): Path<(String, String)>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let (namespace, id) = (unsegment(namespace), unsegment(id));
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let request = StopBatchOperationRequest {
        namespace: namespace.clone(),
        job_id: id.clone(),
        reason: fields.reason,
        identity: IDENTITY.into(),
    };
    ask(ui.api.workflows().stop_batch_operation(request)).await?;
    Ok(Redirect::to(&links.batch(&id)).into_response())
}
