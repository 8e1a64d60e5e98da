//! Task queues and workers. The server has no list of queues, so they are found by what names them: recent workflows and workers.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_api::temporal::enums::v1::TaskQueueType;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::worker::v1::WorkerListInfo;
use mainstay_api::temporal::workflowservice::v1::{
    DescribeTaskQueueRequest, DescribeTaskQueueResponse, ListWorkersRequest, ListWorkflowExecutionsRequest,
};
use maud::{Markup, html};
use serde::Deserialize;

use crate::api::ask;
use crate::format::{count, enum_words, span_of, time_of};
use crate::link::{Links, unsegment};
use crate::problem::Problem;
use crate::query::equals;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, live};

/// Recent workflows that are looked at for names of queues.
const RECENT: i32 = 200;
const QUEUES_MAX: usize = 50;
const WORKERS_MAX: i32 = 200;
const TYPES: [(TaskQueueType, &str); 2] =
    [(TaskQueueType::Workflow, "Workflow tasks"), (TaskQueueType::Activity, "Activity tasks")];

/// What the address says.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    name: String,
}

async fn describe(
    ui: &Ui,
    namespace: &str,
    name: &str,
    kind: TaskQueueType,
) -> Result<DescribeTaskQueueResponse, Problem> {
    let request = DescribeTaskQueueRequest {
        namespace: namespace.to_owned(),
        task_queue: Some(TaskQueue { name: name.to_owned(), ..TaskQueue::default() }),
        task_queue_type: kind as i32,
        report_stats: true,
        report_config: true,
        ..Default::default()
    };
    ask(ui.api.workflows().describe_task_queue(request)).await
}

async fn workers(ui: &Ui, namespace: &str, query: String) -> Vec<WorkerListInfo> {
    let request =
        ListWorkersRequest { namespace: namespace.to_owned(), page_size: WORKERS_MAX, query, ..Default::default() };
    // A server without workers' reports has no list of them, and this page still has something to say.
    let listed = ask(ui.api.workflows().list_workers(request)).await.unwrap_or_default();
    listed.workers
}

/// The queues that are in use.
pub async fn list(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    if !asked.name.trim().is_empty() {
        return Ok(Redirect::to(&links.task_queue(asked.name.trim())).into_response());
    }
    let request =
        ListWorkflowExecutionsRequest { namespace: namespace.clone(), page_size: RECENT, ..Default::default() };
    let recent = ask(ui.api.workflows().list_workflow_executions(request)).await?;
    let workers = workers(&ui, &namespace, String::new()).await;
    let mut names: BTreeSet<String> = recent.executions.into_iter().map(|row| row.task_queue).collect();
    names.extend(workers.iter().map(|worker| worker.task_queue.clone()));
    names.remove("");
    let mut rows = Vec::new();
    for name in names.iter().take(QUEUES_MAX) {
        let (tasks, activities) = (
            describe(&ui, &namespace, name, TaskQueueType::Workflow).await?,
            describe(&ui, &namespace, name, TaskQueueType::Activity).await?,
        );
        rows.push((name, tasks, activities));
    }
    let body = html! {
        h1 { "Task queues" }
        form.filter method="get" role="search" {
            label.sr for="name" { "Name of a task queue" }
            input #name type="search" name="name" required placeholder="Name of a task queue"; button.primary { "Open" }
        }
        div #rows data-region {
            @if rows.is_empty() { div.nothing { p { "No workflow or worker names a task queue." } } } @else { (queues(&links, &rows)) }
            @if !workers.is_empty() { h2 { "Workers " small { (workers.len()) } } (workers_table(&links, &workers)) }
        }
    };
    let shell = Shell { section: Section::TaskQueues, namespace: Some(&namespace), title: "Task queues", events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

type Row<'a> = (&'a String, DescribeTaskQueueResponse, DescribeTaskQueueResponse);

fn queues(links: &Links<'_>, rows: &[Row<'_>]) -> Markup {
    let cells = |side: &DescribeTaskQueueResponse| {
        let stats = side.stats.unwrap_or_default();
        let waits = stats.approximate_backlog_count > 0 && side.pollers.is_empty();
        html! {
            td.number { (side.pollers.len()) }
            td.number.bad[waits] { (count(stats.approximate_backlog_count)) }
            td.number { (rate(stats.tasks_dispatch_rate)) }
        }
    };
    html! {
        table.list {
            caption.sr { "Task queues, and what their pollers leave waiting" }
            thead {
                tr { th rowspan="2" scope="col" { "Task queue" } th colspan="3" scope="colgroup" { "Workflow tasks" } th colspan="3" scope="colgroup" { "Activity tasks" } }
                tr { @for _ in 0..2 { th.number scope="col" { "Pollers" } th.number scope="col" { "Waiting" } th.number scope="col" { "Rate" } } }
            }
            tbody {
                @for (name, tasks, activities) in rows {
                    tr { td { a.mono href=(links.task_queue(name)) { (name) } } (cells(tasks)) (cells(activities)) }
                }
            }
        }
    }
}

fn rate(per_second: f32) -> String {
    match per_second {
        0.0 => "–".into(),
        ..0.05 => "< 0.1/s".into(),
        _ => format!("{per_second:.1}/s"),
    }
}

fn workers_table(links: &Links<'_>, workers: &[WorkerListInfo]) -> Markup {
    html! {
        table.list {
            caption.sr { "Workers" }
            thead { tr { th scope="col" { "Worker" } th scope="col" { "Task queue" } th scope="col" { "State" } th scope="col" { "SDK" } th scope="col" { "Host" } th scope="col" { "Started" } } }
            tbody {
                @for worker in workers {
                    tr {
                        td.mono { (worker.worker_identity) }
                        td { a href=(links.task_queue(&worker.task_queue)) { (worker.task_queue) } }
                        td { (enum_words(worker.status().as_str_name(), "WORKER_STATUS_")) }
                        td { (worker.sdk_name) " " (worker.sdk_version) }
                        td { (worker.host_name) }
                        td { (time_of(worker.start_time.as_ref())) }
                    }
                }
            }
        }
    }
}

/// One queue.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Path((namespace, name)): Path<(String, String)>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let (namespace, name) = (unsegment(namespace), unsegment(name));
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let [(tasks, tasks_words), (activities, activities_words)] = TYPES;
    let sides = [
        (tasks_words, describe(&ui, &namespace, &name, tasks).await?),
        (activities_words, describe(&ui, &namespace, &name, activities).await?),
    ];
    let workers = workers(&ui, &namespace, equals("TaskQueue", &name)).await;
    let body = html! {
        div.title {
            nav.crumbs aria-label="Where" { a href=(links.page("task-queues")) { "Task queues" } }
            h1.mono { (name) }
        }
        p { a href=(links.workflows(&equals("TaskQueue", &name))) { "Workflows of this queue" } }
        div #queue data-region {
            div.columns { @for (words, side) in &sides { (self::side(words, side)) } }
            @if !workers.is_empty() { h2 { "Workers" } (workers_table(&links, &workers)) }
        }
    };
    let seen = print(&sides[0].1, &sides[1].1);
    let events = Some(live::address(&format!("{}/events", links.task_queue(&name)), seen));
    let shell = Shell { section: Section::TaskQueues, namespace: Some(&namespace), title: &name, events };
    Ok(shell.answer(&ui, &visitor, body).await)
}

fn side(words: &str, side: &DescribeTaskQueueResponse) -> Markup {
    let stats = side.stats.unwrap_or_default();
    let fact = |name: &str, value: String| html! { div { dt { (name) } dd { (value) } } };
    html! {
        section.panel {
            h2 { (words) }
            dl.facts {
                (fact("Waiting", count(stats.approximate_backlog_count)))
                (fact("Oldest waits for", span_of(stats.approximate_backlog_age.as_ref()).unwrap_or("–".into())))
                (fact("Added", rate(stats.tasks_add_rate)))
                (fact("Taken", rate(stats.tasks_dispatch_rate)))
                @if let Some(limit) = &side.effective_rate_limit {
                    @if limit.requests_per_second > 0.0 { (fact("Limit", format!("{}/s", limit.requests_per_second))) }
                }
            }
            @if stats.approximate_backlog_count > 0 && side.pollers.is_empty() {
                p.bad { "Tasks wait, and no worker polls." }
            }
            h3 { "Pollers" }
            @if side.pollers.is_empty() { p.muted { "Nobody polled in the last minutes." } }
            ul.plain {
                @for poller in &side.pollers {
                    li { span.mono { (poller.identity) } " " span.muted { "polled " (time_of(poller.last_access_time.as_ref())) } }
                }
            }
        }
    }
}

/// Says when a queue changes.
pub async fn events(
    State(ui): State<Arc<Ui>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(seen): Query<live::Seen>,
) -> Response {
    let (namespace, name) = (unsegment(namespace), unsegment(name));
    live::changes(&seen, move || {
        let (ui, namespace, name) = (ui.clone(), namespace.clone(), name.clone());
        async move {
            let tasks = describe(&ui, &namespace, &name, TaskQueueType::Workflow).await.ok()?;
            let activities = describe(&ui, &namespace, &name, TaskQueueType::Activity).await.ok()?;
            print(&tasks, &activities)
        }
    })
}

fn print(tasks: &DescribeTaskQueueResponse, activities: &DescribeTaskQueueResponse) -> live::Print {
    Some(live::print(tasks)?.rotate_left(1) ^ live::print(activities)?)
}
