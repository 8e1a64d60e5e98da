//! The pages, one file for each subject. A handler asks the API, and answers markup in a [`crate::shell::Shell`].

mod actions;
mod activities;
mod batches;
mod cluster;
mod export;
mod home;
mod inspect;
mod members;
mod namespaces;
mod schedule_form;
mod schedules;
mod task_queues;
mod workflow;
mod workflows;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use maud::{Markup, html};

use crate::Ui;
use crate::guard::SECRET_FIELD;
use crate::visitor::{Secret, Visitor};

/// All routes below the public path.
pub fn routes() -> Router<Arc<Ui>> {
    let run = "/namespaces/{namespace}/workflows/{workflow}/{run}";
    Router::new()
        .route("/", get(home::home))
        .route("/cluster", get(cluster::page))
        .route("/cluster/events", get(cluster::events))
        .route("/cluster/member", get(members::confirm).post(members::change))
        .route("/namespaces", get(namespaces::list))
        .route("/namespaces/{namespace}", get(namespaces::page))
        .route("/namespaces/{namespace}/schedules", get(schedules::list).post(schedule_form::create))
        .route("/namespaces/{namespace}/new-schedule", get(schedule_form::new))
        .route("/namespaces/{namespace}/schedules/{schedule}", get(schedules::page))
        .route(
            "/namespaces/{namespace}/schedules/{schedule}/edit",
            get(schedule_form::edit).post(schedule_form::change),
        )
        .route("/namespaces/{namespace}/schedules/{schedule}/{action}", post(schedules::act))
        .route("/namespaces/{namespace}/batches", get(batches::list).post(batches::start))
        .route("/namespaces/{namespace}/new-batch", get(batches::confirm))
        .route("/namespaces/{namespace}/batches/{job}", get(batches::page))
        .route("/namespaces/{namespace}/batches/{job}/events", get(batches::events))
        .route("/namespaces/{namespace}/batches/{job}/stop", post(batches::stop))
        .route("/namespaces/{namespace}/task-queues", get(task_queues::list))
        .route("/namespaces/{namespace}/task-queues/{queue}", get(task_queues::page))
        .route("/namespaces/{namespace}/task-queues/{queue}/events", get(task_queues::events))
        .route("/namespaces/{namespace}/workflows", get(workflows::page))
        .route("/namespaces/{namespace}/counts", get(workflows::counts))
        .route("/namespaces/{namespace}/events", get(workflows::events))
        .route("/namespaces/{namespace}/export", get(export::export))
        .route("/namespaces/{namespace}/workflows/{workflow}", get(workflow::latest))
        .route(run, get(workflow::page))
        .route(&format!("{run}/events"), get(workflow::events))
        .route(&format!("{run}/history.json"), get(workflow::download))
        .route(&format!("{run}/relations"), get(inspect::relations))
        .route(&format!("{run}/queries"), get(inspect::queries))
        .route(&format!("{run}/stack"), get(inspect::stack))
        .route(&format!("{run}/activity"), get(activities::confirm).post(activities::act))
        .route(&format!("{run}/signal"), post(actions::signal))
        .route(&format!("{run}/update"), post(actions::update))
        .route(&format!("{run}/cancel"), post(actions::cancel))
        .route(&format!("{run}/terminate"), post(actions::terminate))
        .route(&format!("{run}/reset"), post(actions::reset))
        .route(&format!("{run}/delete"), post(actions::delete))
}

/// Who acts, as histories tell it.
pub const IDENTITY: &str = "mainstay-ui";

/// The statuses of a run: number, name in the query language, words, and class.
pub const STATUSES: [(Status, &str, &str, &str); 8] = [
    (Status::Running, "Running", "Running", "running"),
    (Status::Completed, "Completed", "Completed", "completed"),
    (Status::Failed, "Failed", "Failed", "failed"),
    (Status::TimedOut, "TimedOut", "Timed out", "timedout"),
    (Status::Canceled, "Canceled", "Canceled", "canceled"),
    (Status::Terminated, "Terminated", "Terminated", "terminated"),
    (Status::ContinuedAsNew, "ContinuedAsNew", "Continued", "continued"),
    (Status::Paused, "Paused", "Paused", "paused"),
];

/// A status as a dot and a word.
pub fn status(status: Status) -> Markup {
    let found = STATUSES.iter().find(|(known, ..)| *known == status);
    let (words, class) = found.map_or(("Unknown", "unknown"), |(_, _, words, class)| (words, class));
    html! { span class={ "st " (class) } { i.dot {} (words) } }
}

/// An id that no other request has.
pub fn request_id() -> String {
    Secret::random().unwrap_or_default().0
}

/// The field that every form has.
pub fn secret(visitor: &Visitor) -> Markup {
    html! { input type="hidden" name=(SECRET_FIELD) value=(visitor.secret.0); }
}

pub fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.to_owned(), run_id: run_id.to_owned() }
}
