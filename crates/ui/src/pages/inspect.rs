//! A run's other tabs: its relations as a tree, queries, and the stack trace, which is a query, too.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::Response;
use mainstay_api::temporal::query::v1::WorkflowQuery;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::{ListWorkflowExecutionsRequest, QueryWorkflowRequest};
use maud::{Markup, html};
use serde::Deserialize;

use super::workflow::{Head, Run, Shown};
use super::{execution, status};
use crate::api::ask;
use crate::events::Page;
use crate::format::time_of;
use crate::payload::{self, Shown as Value};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, query};

/// Runs of a tree that are drawn.
const TREE_MAX: i32 = 1_000;
/// Levels below the root.
const LEVELS_MAX: usize = 30;
const STACK_QUERY: &str = "__stack_trace";

/// What a form of queries says.
#[derive(Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    name: String,
    #[serde(default)]
    input: String,
}

/// The tree of workflows that this run belongs to.
pub async fn relations(State(ui): State<Arc<Ui>>, Path(run): Path<Run>, visitor: Visitor) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let described = shown.describe(&ui).await?;
    let info = described.workflow_execution_info.clone().unwrap_or_default();
    let root = info.root_execution.clone().unwrap_or_else(|| execution(&shown.workflow_id, &shown.run_id));
    let filter = query::with(&query::equals("RootWorkflowId", &root.workflow_id), "RootRunId", &root.run_id);
    let request = ListWorkflowExecutionsRequest {
        namespace: shown.namespace.clone(),
        page_size: TREE_MAX,
        query: filter,
        ..Default::default()
    };
    let listed = ask(ui.api.workflows().list_workflow_executions(request)).await?;
    let tree = Tree { ui: &ui, shown: &shown, runs: &listed.executions };
    let body = html! {
        h2 { "Relations" }
        p.muted { "The workflows that " span.mono { (root.workflow_id) } " started, directly and through others." }
        ul.tree { (tree.node(&root.run_id, 0)) }
        @if !listed.next_page_token.is_empty() { p.muted { "There are more than " (TREE_MAX) "." } }
    };
    answer(&ui, &shown, &visitor, "relations", "Relations", body).await
}

struct Tree<'a> {
    ui: &'a Ui,
    shown: &'a Shown,
    runs: &'a [WorkflowExecutionInfo],
}

impl Tree<'_> {
    fn node(&self, run_id: &str, level: usize) -> Markup {
        let run_of = |info: &WorkflowExecutionInfo| info.execution.clone().unwrap_or_default();
        let Some(info) = self.runs.iter().find(|info| run_of(info).run_id == run_id) else {
            return html! { li { span.muted { "A run that is no longer there" } (self.children(run_id, level)) } };
        };
        let run = run_of(info);
        html! {
            li {
                div.node.here[run.run_id == self.shown.run_id] {
                    (status(info.status()))
                    a.mono href=(self.shown.links(self.ui).run(&run.workflow_id, &run.run_id)) { (run.workflow_id) }
                    span.muted { (info.r#type.clone().unwrap_or_default().name) }
                    (time_of(info.start_time.as_ref()))
                }
                (self.children(run_id, level))
            }
        }
    }

    fn children(&self, run_id: &str, level: usize) -> Markup {
        let is_child = |info: &&WorkflowExecutionInfo| {
            info.parent_execution.as_ref().is_some_and(|parent| parent.run_id == run_id)
        };
        let children: Vec<_> = self.runs.iter().filter(is_child).filter_map(|info| info.execution.clone()).collect();
        html! {
            @if !children.is_empty() && level < LEVELS_MAX {
                ul { @for child in &children { (self.node(&child.run_id, level + 1)) } }
            }
        }
    }
}

/// A form, and the answer to what it asked. Queries change nothing, so their address can be kept.
pub async fn queries(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let name = asked.name.trim();
    let answered = if name.is_empty() { None } else { Some(ask_worker(&ui, &shown, name, &asked.input).await) };
    let body = html! {
        h2 { "Queries" }
        form.query method="get" {
            label { "Name" input name="name" value=(name) required autocomplete="off" list="known"; }
            datalist #known { option value="__temporal_workflow_metadata"; option value=(STACK_QUERY); }
            label { "Input, as JSON" textarea.mono name="input" rows="2" spellcheck="false" { (asked.input) } }
            button.primary { "Ask" }
        }
        @match answered {
            None => p.muted { "A query is answered by a worker, from the state that the run has there." },
            Some(Ok(result)) => section.answer { h3 { "Answer of " code { (name) } } (result) },
            Some(Err(problem)) => (failed(&problem)),
        }
    };
    answer(&ui, &shown, &visitor, "queries", "Queries", body).await
}

/// Where the run's code waits.
pub async fn stack(State(ui): State<Arc<Ui>>, Path(run): Path<Run>, visitor: Visitor) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let body = match ask_worker(&ui, &shown, STACK_QUERY, "").await {
        Ok(trace) => html! { h2 { "Stack trace" } (trace) },
        Err(problem) => html! { h2 { "Stack trace" } (failed(&problem)) },
    };
    answer(&ui, &shown, &visitor, "stack", "Stack trace", body).await
}

fn failed(problem: &Problem) -> Markup {
    html! {
        div.parse-error role="alert" { p { (problem.message) } p.muted { (problem.advice) } }
    }
}

async fn ask_worker(ui: &Ui, shown: &Shown, name: &str, input: &str) -> Result<Markup, Problem> {
    let request = QueryWorkflowRequest {
        namespace: shown.namespace.clone(),
        execution: Some(execution(&shown.workflow_id, &shown.run_id)),
        query: Some(WorkflowQuery {
            query_type: name.to_owned(),
            query_args: payload::typed(input),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = ask(ui.api.workflows().query_workflow(request)).await?;
    let results = answer.query_result.unwrap_or_default().payloads;
    Ok(html! {
        @if results.is_empty() { span.muted { "nothing" } }
        @for result in &results { (text(&payload::of(result))) }
    })
}

/// A text of several lines is shown as such, not as a JSON string.
fn text(value: &Value) -> Markup {
    match value {
        Value::Json(json) => match serde_json::from_str::<String>(json) {
            Ok(text) if text.contains('\n') => html! { pre.trace { (text) } },
            _ => value.markup(),
        },
        _ => value.markup(),
    }
}

async fn answer(
    ui: &Ui,
    shown: &Shown,
    visitor: &Visitor,
    tab: &str,
    title: &str,
    body: Markup,
) -> Result<Response, Problem> {
    let described = shown.describe(ui).await?;
    let head = Head { ui, shown, described: &described, visitor };
    let page = html! { (head.markup(tab, None)) (body) (head.dialogs(&Page::default())) };
    let shell = Shell { section: Section::Workflows, namespace: Some(&shown.namespace), title, events: None };
    Ok(shell.answer(ui, visitor, page).await)
}
