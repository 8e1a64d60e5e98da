//! The top of a run's pages: what it is, where it belongs, tabs, and the dialogs of its actions.

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::workflowservice::v1::DescribeWorkflowExecutionResponse;
use maud::{Markup, html};
use serde_json::Value;

use super::{Shown, is_open};
use crate::events::Page;
use crate::format::{self, bytes, count, nanos, span, span_of, time_of};
use crate::json::{self, at, text};
use crate::pages::{secret, status};
use crate::visitor::Visitor;
use crate::{Ui, payload};

/// What the top of a page needs.
pub struct Head<'a> {
    pub ui: &'a Ui,
    pub shown: &'a Shown,
    pub described: &'a DescribeWorkflowExecutionResponse,
    pub visitor: &'a Visitor,
}

impl Head<'_> {
    pub fn is_running(&self) -> bool {
        self.described.workflow_execution_info.as_ref().is_some_and(|info| is_open(info.status()))
    }

    /// Title, summary and tabs. `done` is a word about what was just done.
    pub fn markup(&self, tab: &str, done: Option<&str>) -> Markup {
        let info = self.described.workflow_execution_info.clone().unwrap_or_default();
        let address = self.shown.address(self.ui);
        let children = self.described.pending_children.len();
        let link = |name: &str, path: &str, words: Markup| {
            html! {
                a href={ (address) (path) } aria-current=[(tab == name).then_some("page")] { (words) }
            }
        };
        html! {
            @if let Some(done) = done { p.done role="status" { (done) } }
            div.title #summary-title data-region {
                nav.crumbs aria-label="Where" { a href=(self.shown.links(self.ui).workflows("")) { "Workflows" } }
                h1.mono { (self.shown.workflow_id) }
                (status(info.status()))
                @if self.described.workflow_extended_info.as_ref().is_some_and(|more| more.cancel_requested) && self.is_running() {
                    span.tag { "cancellation requested" }
                }
            }
            div.actions { (self.buttons()) }
            section.summary #summary data-region { (self.facts()) }
            nav.tabs aria-label="About this run" {
                (link("history", "", html! { "History" }))
                (link("relations", "/relations", html! { "Relations" @if children > 0 { " " small { (children) } } }))
                (link("queries", "/queries", html! { "Queries" }))
                (link("stack", "/stack", html! { "Stack trace" }))
            }
        }
    }

    fn buttons(&self) -> Markup {
        let button = |name: &str, words: &str, class: &str| {
            html! {
                button type="button" class=(class) popovertarget=(name) { (words) }
            }
        };
        html! {
            @if self.is_running() {
                (button("signal", "Signal", "")) (button("update", "Update", ""))
                (button("cancel", "Cancel", "")) (button("terminate", "Terminate", "danger"))
            }
            (button("reset", "Reset", ""))
            (button("delete", "Delete", "danger"))
        }
    }

    fn facts(&self) -> Markup {
        let info = self.described.workflow_execution_info.clone().unwrap_or_default();
        let more = self.described.workflow_extended_info.clone().unwrap_or_default();
        let config = self.described.execution_config.clone().unwrap_or_default();
        let links = self.shown.links(self.ui);
        let ended = info.close_time.as_ref().map_or_else(format::now, nanos);
        let begun = info.start_time.as_ref().map_or(ended, nanos);
        let run = |other: &WorkflowExecution| {
            html! {
                a.mono href=(links.run(&other.workflow_id, &other.run_id)) { (other.workflow_id) }
            }
        };
        let own = |run_id: &str| html! { a.mono href=(links.run(&self.shown.workflow_id, run_id)) { (run_id) } };
        let root = info.root_execution.clone().filter(|root| root.workflow_id != self.shown.workflow_id);
        html! {
            dl.facts {
                (fact("Type", &html! { (info.r#type.clone().unwrap_or_default().name) }))
                (fact("Task queue", &html! { a href=(links.task_queue(&info.task_queue)) { (info.task_queue) } }))
                div.wide { dt { "Run" } dd.mono { (self.shown.run_id) } }
                (fact("Started", &time_of(info.start_time.as_ref())))
                @if info.close_time.is_some() { (fact("Closed", &time_of(info.close_time.as_ref()))) }
                (fact("Took", &html! { (span(ended - begun)) @if info.close_time.is_none() { span.muted { " so far" } } }))
                (fact("History", &html! { (count(info.history_length)) " events, " (bytes(info.history_size_bytes)) }))
                @if let Some(parent) = &info.parent_execution { (fact("Parent", &run(parent))) }
                @if let Some(root) = &root { (fact("Root", &run(root))) }
                @if !info.first_run_id.is_empty() && info.first_run_id != self.shown.run_id {
                    div.wide { dt { "First run" } dd { (own(&info.first_run_id)) } }
                }
                @if !more.reset_run_id.is_empty() { div.wide { dt { "Reset to run" } dd { (own(&more.reset_run_id)) } } }
                @if let Some(limit) = span_of(config.workflow_run_timeout.as_ref()) { (fact("Run time-out", &html! { (limit) })) }
                @if let Some(limit) = span_of(config.workflow_execution_timeout.as_ref()) { (fact("Time-out", &html! { (limit) })) }
                @for (name, value) in info.memo.iter().flat_map(|memo| &memo.fields) {
                    (fact(name, &html! { span.kind { "memo " } (payload::of(value).markup()) }))
                }
                @for (name, value) in info.search_attributes.iter().flat_map(|all| &all.indexed_fields).filter(|(name, _)| *name != "BuildIds") {
                    (fact(name, &html! { (payload::of(value).line()) }))
                }
            }
        }
    }

    /// What went in and what came out, where the page has these events; and the runs before and after.
    pub fn outcome(&self, history: &Page) -> Markup {
        let first = history.events.iter().find(|event| event.id == 1);
        let last = history.events.iter().max_by_key(|event| event.id).filter(|event| {
            let name = event.kind.as_str_name();
            name.starts_with("EVENT_TYPE_WORKFLOW_EXECUTION_") && event.id > 1 && !self.is_running()
        });
        let own = |run_id: &str| {
            html! {
                a.mono href=(self.shown.links(self.ui).run(&self.shown.workflow_id, run_id)) { (run_id) }
            }
        };
        let previous = first.map(|event| text(&event.attributes, &["continuedExecutionRunId"])).unwrap_or_default();
        let next = last.map(|event| text(&event.attributes, &["newExecutionRunId"])).unwrap_or_default();
        let field = |name: &'static str| last.map(|event| at(&event.attributes, &[name])).unwrap_or(&Value::Null);
        html! {
            section.io #outcome data-region {
                @if !previous.is_empty() { p { "Previous run " (own(previous)) } }
                @if !next.is_empty() { p { "Next run " (own(next)) } }
                div.columns {
                    div { h2 { "Input" } (values(first.map(|event| at(&event.attributes, &["input"])).unwrap_or(&Value::Null), first.is_some())) }
                    div {
                        @if !field("failure").is_null() {
                            h2.bad { "Failure" }
                            p.bad { (text(field("failure"), &["message"])) }
                            details { summary { "All of it" } (json::fields(field("failure"))) }
                        } @else {
                            h2 { "Result" }
                            @if self.is_running() { span.muted { "not yet" } } @else { (values(field("result"), last.is_some())) }
                        }
                    }
                }
            }
        }
    }

    /// One dialog for each action. They open without scripts, too.
    pub fn dialogs(&self, history: &Page) -> Markup {
        let points: Vec<_> = history
            .events
            .iter()
            .filter(|event| event.is_reset_point() && event.name().ends_with("completed"))
            .collect();
        html! {
            (self.dialog("signal", "Send a signal", "", html! {
                label { "Name" input name="name" required autocomplete="off"; }
                (input("Input, as JSON; other text is sent as a string"))
            }, "Send"))
            (self.dialog("update", "Send an update", "The page waits for its result, at most ten seconds.", html! {
                label { "Name" input name="name" required autocomplete="off"; }
                (input("Input, as JSON; other text is sent as a string"))
            }, "Send"))
            (self.dialog("cancel", "Request cancellation?", "The workflow is told and may clean up before it ends.", html! {
                label { "Reason" input name="reason" autocomplete="off"; }
            }, "Request cancellation"))
            (self.dialog("terminate", "Terminate?", "The run ends at once. Its workers are not asked, and nothing is cleaned up.", html! {
                label { "Reason" input name="reason" autocomplete="off"; }
            }, "Terminate"))
            (self.dialog("reset", "Reset to an event?",
                "This run ends. A new one begins with the history up to the chosen event and goes on from there.", html! {
                label { "Event" input type="number" name="event" required min="1" list="reset-points"
                    value=[points.first().map(|event| event.id)]; }
                datalist #reset-points { @for event in points.iter().take(200) { option value=(event.id) { (event.name()) } } }
                label.check { input type="checkbox" name="reapply" value="1" checked; "Send signals and updates that came later again" }
                label { "Reason" input name="reason" required autocomplete="off"; }
            }, "Reset"))
            (self.dialog("delete", "Delete this run?", "The run, its history and its row in lists are gone for ever.", html! {}, "Delete"))
        }
    }

    fn dialog(&self, action: &str, title: &str, warning: &str, fields: Markup, button: &str) -> Markup {
        let danger = matches!(action, "terminate" | "delete");
        html! {
            dialog id=(action) popover aria-labelledby={ (action) "-title" } {
                form method="post" action={ (self.shown.address(self.ui)) "/" (action) } {
                    h2 id={ (action) "-title" } { (title) }
                    p.mono { (self.shown.workflow_id) }
                    @if !warning.is_empty() { p.muted { (warning) } }
                    (secret(self.visitor))
                    (fields)
                    div.buttons {
                        button type="button" popovertarget=(action) popovertargetaction="hide" { "Keep as it is" }
                        button class=(if danger { "danger" } else { "primary" }) { (button) }
                    }
                }
            }
        }
    }
}

fn input(words: &str) -> Markup {
    html! { label { (words) textarea.mono name="input" rows="5" spellcheck="false" {} } }
}

fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// Payloads in proto JSON; `known` tells "none" from "not on this page".
fn values(payloads: &Value, known: bool) -> Markup {
    html! {
        @match payloads {
            Value::Null => span.muted { (if known { "none" } else { "on another page of events" }) },
            value => div.payloads { (json::any(value)) },
        }
    }
}
