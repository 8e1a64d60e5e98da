//! Recent workflows: the list, its filter, and how many there are of each status.
//!
//! What was clicked together is one filter in the address, so every view is a link. A sort that the server does not do itself is
//! done on the page at hand, and said so. Counting visits every row that matches; where that takes long, the page comes first and the
//! numbers after it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use mainstay_api::temporal::operatorservice::v1::ListSearchAttributesRequest;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::{CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest};
use maud::{Markup, html};
use serde::Deserialize;

use super::{STATUSES, status};
use crate::api::ask;
use crate::format::{self, count, nanos, span, time_of};
use crate::link::{Links, parameters, unsegment};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;
use crate::{Ui, live, query};

/// Rows on a page.
const PAGE: i32 = 100;
/// Numbers that take longer come after the page.
const COUNTS_WITHIN: Duration = Duration::from_millis(80);
const STATUS_FIELD: &str = "ExecutionStatus";

/// Views that everybody has: name, and filter.
const VIEWS: [(&str, &str); 5] = [
    ("All", ""),
    ("Running", "ExecutionStatus = 'Running'"),
    ("Failed or timed out", "ExecutionStatus IN ('Failed', 'TimedOut', 'Terminated')"),
    ("Without a parent", "ParentWorkflowId IS NULL"),
    ("Started by schedules", "TemporalScheduledById IS NOT NULL"),
];

/// What the address says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Asked {
    #[serde(default)]
    pub query: String,
    /// A column, with `-` before it for descending.
    #[serde(default)]
    pub sort: String,
    #[serde(default)]
    token: String,
    /// Terms to add to the filter, from buttons in the list.
    status: Option<String>,
    r#type: Option<String>,
    queue: Option<String>,
}

impl Asked {
    /// The filter with what was clicked, if something was.
    fn clicked(&self) -> Option<String> {
        let clicks = [(STATUS_FIELD, &self.status), ("WorkflowType", &self.r#type), ("TaskQueue", &self.queue)];
        let mut clicks = clicks.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))).peekable();
        clicks.peek()?;
        Some(clicks.fold(self.query.clone(), |filter, (field, value)| match value.as_str() {
            "" => query::without(&filter, field),
            value => query::with(&filter, field, value),
        }))
    }
}

/// A page of rows.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub rows: Vec<WorkflowExecutionInfo>,
    pub next: Bytes,
    /// Whether only this page is in the order that was asked for.
    sorted_here: bool,
}

/// The columns that sort: name in the address, in the query language, in words, and what to compare.
type Key = fn(&WorkflowExecutionInfo) -> (i64, String);
const COLUMNS: [(&str, &str, &str, Key); 6] = [
    ("status", STATUS_FIELD, "Status", |row| (i64::from(row.status), String::new())),
    ("id", "WorkflowId", "Workflow", |row| (0, row.execution.clone().unwrap_or_default().workflow_id)),
    ("type", "WorkflowType", "Type", |row| (0, row.r#type.clone().unwrap_or_default().name)),
    ("queue", "TaskQueue", "Task queue", |row| (0, row.task_queue.clone())),
    ("start", "StartTime", "Started", |row| (row.start_time.as_ref().map_or(0, nanos), String::new())),
    ("took", "ExecutionDuration", "Took", |row| (took(row).0, String::new())),
];

/// How long a run took so far, and whether it is over.
fn took(row: &WorkflowExecutionInfo) -> (i64, bool) {
    let begun = row.execution_time.as_ref().or(row.start_time.as_ref()).map_or(0, nanos);
    let ended = row.close_time.as_ref().map(nanos);
    (ended.unwrap_or_else(format::now).saturating_sub(begun).max(0), ended.is_some())
}

/// Lists a page.
pub async fn list(ui: &Ui, namespace: &str, asked: &Asked, size: i32) -> Result<Rows, Problem> {
    let token =
        URL_SAFE_NO_PAD.decode(&asked.token).map_err(|_| Problem::invalid("The address of the page is cut off."))?;
    let request = |query: String| ListWorkflowExecutionsRequest {
        namespace: namespace.to_owned(),
        page_size: size,
        next_page_token: token.clone().into(),
        query,
    };
    let (descends, name) = match asked.sort.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, asked.sort.as_str()),
    };
    let column = COLUMNS.iter().find(|(known, ..)| *known == name);
    if let Some((_, field, ..)) = column {
        let direction = if descends { "DESC" } else { "ASC" };
        let ordered = format!("{} ORDER BY {field} {direction}", asked.query);
        if let Ok(page) = ask(ui.api.workflows().list_workflow_executions(request(ordered))).await {
            return Ok(Rows { rows: page.executions, next: page.next_page_token, sorted_here: false });
        }
    }
    let page = ask(ui.api.workflows().list_workflow_executions(request(asked.query.clone()))).await?;
    let mut rows = page.executions;
    if let Some((.., key)) = column {
        rows.sort_by_cached_key(key);
        if descends {
            rows.reverse();
        }
    }
    Ok(Rows { rows, next: page.next_page_token, sorted_here: column.is_some() })
}

/// How many rows there are of each status, whatever status the filter asks for.
async fn counts_of(ui: &Ui, namespace: &str, filter: &str) -> Result<Vec<(String, i64)>, Problem> {
    let query = format!("{} GROUP BY {STATUS_FIELD}", query::without(filter, STATUS_FIELD));
    let request = CountWorkflowExecutionsRequest { namespace: namespace.to_owned(), query: query.trim().to_owned() };
    let counted = ask(ui.api.workflows().count_workflow_executions(request)).await?;
    let named = counted.groups.into_iter().filter_map(|group| {
        let name: String = serde_json::from_slice(&group.group_values.first()?.data).ok()?;
        Some((name, group.count))
    });
    Ok(named.collect())
}

/// The page.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    if let Some(filter) = asked.clicked() {
        let address = links.page("workflows") + &parameters(&[("query", &filter), ("sort", &asked.sort)]);
        return Ok(Redirect::to(&address).into_response());
    }
    let counting = tokio::time::timeout(COUNTS_WITHIN, counts_of(&ui, &namespace, &asked.query));
    let (rows, counts) = (list(&ui, &namespace, &asked, PAGE).await, counting.await);
    let (rows, error) = match rows {
        Ok(rows) => (rows, None),
        // A filter that does not parse is corrected where it was typed.
        Err(problem) if problem.status == axum::http::StatusCode::BAD_REQUEST => (Rows::default(), Some(problem)),
        Err(problem) => return Err(problem),
    };
    let words = attributes(&ui, &namespace).await;
    let view = View { links: &links, asked: &asked, words: &words };
    let body = html! {
        h1 { "Recent workflows" }
        (view.filter(error.as_ref()))
        @if error.is_none() { (view.chips(counts.ok().and_then(Result::ok).as_deref())) }
        div #rows data-region {
            @if error.is_none() { (view.table(&rows)) (view.pager(&rows)) }
        }
    };
    let events = links.page("events") + &parameters(&[("query", &asked.query), ("token", &asked.token)]);
    let events = error.is_none().then(|| live::address(&events, print(&rows.rows)));
    let shell = Shell { section: Section::Workflows, namespace: Some(&namespace), title: "Recent workflows", events };
    let mut answer = shell.answer(&ui, &visitor, body).await;
    if let Some(problem) = error {
        *answer.status_mut() = problem.status;
    }
    Ok(answer)
}

/// The names of a namespace's attributes; none is no reason to fail.
async fn attributes(ui: &Ui, namespace: &str) -> String {
    let request = ListSearchAttributesRequest { namespace: namespace.to_owned() };
    let listed = ask(ui.api.operator().list_search_attributes(request)).await.unwrap_or_default();
    let names: Vec<String> = listed.custom_attributes.into_keys().chain(listed.system_attributes.into_keys()).collect();
    names.join(" ")
}

/// The chips alone, for a page that came without numbers.
pub async fn counts(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Problem> {
    let namespace = unsegment(namespace);
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let counts = counts_of(&ui, &namespace, &asked.query).await?;
    Ok(View { links: &links, asked: &asked, words: "" }.chips(Some(&counts)))
}

/// Says when the list changes.
pub async fn events(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
    Query(seen): Query<live::Seen>,
) -> Response {
    let namespace = unsegment(namespace);
    let token: Bytes = URL_SAFE_NO_PAD.decode(&asked.token).unwrap_or_default().into();
    live::changes(&seen, move || {
        let (ui, token) = (ui.clone(), token.clone());
        let (namespace, query) = (namespace.clone(), asked.query.clone());
        async move {
            let request = ListWorkflowExecutionsRequest { namespace, page_size: PAGE, next_page_token: token, query };
            print(&ask(ui.api.workflows().list_workflow_executions(request)).await.ok()?.executions)
        }
    })
}

/// The print of rows, in whatever order they are.
fn print(rows: &[WorkflowExecutionInfo]) -> live::Print {
    rows.iter().map(live::print).try_fold(0, |all: u64, one| Some(all.wrapping_add(one?)))
}

/// What is drawn of a list.
struct View<'a> {
    links: &'a Links<'a>,
    asked: &'a Asked,
    /// What a filter may name, for completion.
    words: &'a str,
}

impl View<'_> {
    fn filter(&self, error: Option<&Problem>) -> Markup {
        let query = &self.asked.query;
        let export = |format| self.links.page("export") + &parameters(&[("format", format), ("query", query)]);
        html! {
            form.filter #filter method="get" action=(self.links.page("workflows")) role="search" {
                label.sr for="query" { "Filter" }
                div.field {
                    input.mono #query type="search" name="query" value=(query) spellcheck="false" autocomplete="off"
                        autocapitalize="off" placeholder="WorkflowType = 'Order' AND StartTime > '2026-01-01T00:00:00Z'"
                        data-words=(self.words) aria-invalid=[error.map(|_| "true")] aria-describedby=[error.map(|_| "query-error")];
                }
                @if !self.asked.sort.is_empty() { input type="hidden" name="sort" value=(self.asked.sort); }
                button.primary { "Filter" }
                details.menu #views data-namespace=(self.links.namespace) {
                    summary { "Views" }
                    ul {
                        @for (name, filter) in VIEWS { li { a href=(self.links.workflows(filter)) { (name) } } }
                    }
                }
                details.menu {
                    summary { "Export" }
                    ul {
                        li { a href=(export("csv")) download { "CSV" } }
                        li { a href=(export("json")) download { "JSON" } }
                    }
                }
                a.button href={ (self.links.page("batches")) (parameters(&[("query", query)])) "#new" }
                    title="Cancel or terminate all that match" { "Batch" }
            }
            @if let Some(error) = error { (self.error(error)) }
        }
    }

    /// The server's words, and the place that they mean.
    fn error(&self, error: &Problem) -> Markup {
        let place = place(&error.message, &self.asked.query);
        html! {
            div.parse-error #query-error role="alert" {
                p { (error.message) }
                @if let Some(place) = place { pre { (self.asked.query) "\n" (" ".repeat(place)) "▲" } }
            }
        }
    }

    fn chips(&self, counts: Option<&[(String, i64)]>) -> Markup {
        let chosen = query::value(&self.asked.query, STATUS_FIELD);
        let of = |name: &str| {
            let found = counts?.iter().find(|(known, _)| known == name);
            Some(found.map_or(0, |(_, number)| *number))
        };
        let all = counts.map(|counts| counts.iter().map(|(_, number)| number).sum::<i64>());
        let number = |number: Option<i64>| html! { b { (number.map_or("…".into(), count)) } };
        let late = self.links.page("counts") + &parameters(&[("query", &self.asked.query)]);
        html! {
            div.chips #chips data-region role="group" aria-label="Statuses" data-late=[counts.is_none().then_some(late)] {
                button.chip form="filter" name="status" value="" aria-pressed=(chosen.is_none()) { "All " (number(all)) }
                @for (_, name, words, class) in STATUSES {
                    @let is_chosen = chosen.as_deref() == Some(name);
                    // What is rare is shown only where there is some.
                    @if is_chosen || of(name) != Some(0) || matches!(name, "Running" | "Completed" | "Failed") {
                        button class={ "chip st " (class) } form="filter" name="status"
                            value=(if is_chosen { "" } else { name }) aria-pressed=(is_chosen) {
                            i.dot {} (words) " " (number(of(name)))
                        }
                    }
                }
            }
        }
    }

    fn table(&self, rows: &Rows) -> Markup {
        html! {
            @if rows.rows.is_empty() { (self.nothing()) } @else {
                table.list.workflows {
                    caption.sr { "Workflow executions" }
                    thead { tr { @for (name, _, words, _) in COLUMNS { (self.heading(name, words)) } } }
                    tbody { @for row in &rows.rows { (self.row(row)) } }
                }
                @if rows.sorted_here && (!rows.next.is_empty() || !self.asked.token.is_empty()) {
                    p.muted.note { "Sorted within this page." }
                }
            }
        }
    }

    fn heading(&self, name: &str, words: &str) -> Markup {
        let sort = self.asked.sort.as_str();
        let (ascending, descending) = (sort == name, sort.strip_prefix('-') == Some(name));
        let times = matches!(name, "start" | "took");
        // First the order that is asked for more often, then the other, then none.
        let next = match (times, ascending, descending) {
            (false, false, false) | (true, false, true) => name.to_owned(),
            (true, false, false) | (false, true, _) => format!("-{name}"),
            _ => String::new(),
        };
        let order = match (ascending, descending) {
            (true, _) => Some("ascending"),
            (_, true) => Some("descending"),
            _ => None,
        };
        let address = self.links.page("workflows") + &parameters(&[("query", &self.asked.query), ("sort", &next)]);
        html! { th scope="col" class={ "c-" (name) } aria-sort=[order] { a href=(address) { (words) } } }
    }

    fn row(&self, row: &WorkflowExecutionInfo) -> Markup {
        let execution = row.execution.clone().unwrap_or_default();
        let kind = row.r#type.as_ref().map(|kind| kind.name.as_str()).unwrap_or_default();
        let (took, is_over) = took(row);
        html! {
            tr {
                td.c-status { (status(row.status())) }
                td.c-id { a.mono href=(self.links.run(&execution.workflow_id, &execution.run_id)) { (execution.workflow_id) } }
                td.c-type { button.word form="filter" name="type" value=(kind) { (kind) } }
                td.c-queue { button.word form="filter" name="queue" value=(row.task_queue) { (row.task_queue) } }
                td.c-start { (time_of(row.start_time.as_ref())) }
                td.c-took { @if is_over { (span(took)) } @else { span.muted title="so far" { (span(took)) } } }
            }
        }
    }

    fn nothing(&self) -> Markup {
        html! {
            div.nothing {
                @if self.asked.query.is_empty() && self.asked.token.is_empty() {
                    p { "No workflows yet." }
                    p.muted { "Start one with any Temporal SDK or with " code { "temporal workflow start" } "; it appears here at once." }
                } @else {
                    p { "No workflow matches." }
                    p { a href=(self.links.workflows("")) { "Show all" } }
                }
            }
        }
    }

    fn pager(&self, rows: &Rows) -> Markup {
        let to = |token: &str| {
            let pairs = [("query", self.asked.query.as_str()), ("sort", &self.asked.sort), ("token", token)];
            self.links.page("workflows") + &parameters(&pairs)
        };
        html! {
            nav.pager aria-label="Pages" {
                @if !self.asked.token.is_empty() { a href=(to("")) rel="first" { "First page" } }
                @if !rows.next.is_empty() {
                    a #next rel="next" href=(to(&URL_SAFE_NO_PAD.encode(&rows.next))) { "Older →" }
                }
            }
        }
    }
}

/// Where in a filter an error is. Positions in the server's texts count from the beginning of a statement before the filter, and are
/// a little behind the word that `near` names; so that word is looked for around there.
fn place(message: &str, filter: &str) -> Option<usize> {
    const BEFORE: usize = "select * from table1 where ".len() + 1;
    const LINE_MAX: usize = 300;
    let rest = message.split("syntax error at position ").nth(1)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    let end = digits.parse::<usize>().ok()?.checked_sub(BEFORE)?;
    if !filter.is_ascii() || filter.len() > LINE_MAX || filter.contains('\n') {
        return None;
    }
    let word = rest.split_once("near '").and_then(|(_, word)| word.strip_suffix('\'')).unwrap_or_default();
    let word = word.to_ascii_lowercase();
    let lower = filter.to_ascii_lowercase();
    let found = lower.match_indices(&word).map(|(at, _)| at);
    let nearest = found.filter(|_| !word.is_empty()).min_by_key(|at| end.abs_diff(at + word.len()));
    Some(nearest.unwrap_or_else(|| end.saturating_sub(2).min(filter.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_points_at_its_word() {
        let place = |position: &str, filter: &str| {
            place(&format!("malformed SQL query: syntax error at position {position}"), filter)
        };
        assert_eq!(place("51 near 'xor'", "CustomIntField = 1 XOR CustomIntField = 2"), Some(19));
        assert_eq!(place("54 near 'xor'", "WorkflowType = 'Order' XOR a"), Some(23));
        assert_eq!(place("46", "CustomIntField == 1"), Some(16));
        assert_eq!(place("3", "A"), None);
        assert_eq!(super::place("something else", "A"), None);
    }

    #[test]
    fn clicks_change_the_filter() {
        let asked =
            Asked { query: "ExecutionStatus = 'Failed'".into(), status: Some("Running".into()), ..Asked::default() };
        assert_eq!(asked.clicked().as_deref(), Some("ExecutionStatus = 'Running'"));
        let all = Asked { status: Some(String::new()), ..asked.clone() };
        assert_eq!(all.clicked().as_deref(), Some(""));
        assert_eq!(Asked::default().clicked(), None);
    }
}
