//! What every page has around it: head, navigation, namespace picker, switches.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use mainstay_api::temporal::workflowservice::v1::ListNamespacesRequest;
use maud::{DOCTYPE, Markup, html};

use crate::Ui;
use crate::api::ask;
use crate::assets;
use crate::link::Links;
use crate::visitor::Visitor;

/// Namespaces that the picker offers; the page of namespaces has them all.
const PICKED_MAX: i32 = 100;

/// The navigation's entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Workflows,
    Schedules,
    Batches,
    TaskQueues,
    Namespaces,
    Cluster,
    None,
}

/// The sections of a namespace: name in the address, and in words.
const IN_NAMESPACE: [(Section, &str, &str); 4] = [
    (Section::Workflows, "workflows", "Workflows"),
    (Section::Schedules, "schedules", "Schedules"),
    (Section::Batches, "batches", "Batches"),
    (Section::TaskQueues, "task-queues", "Task queues"),
];

/// One page's frame.
#[derive(Clone, Debug)]
pub struct Shell<'a> {
    pub section: Section,
    pub namespace: Option<&'a str>,
    pub title: &'a str,
    /// Where a browser hears that the page would look different now.
    pub events: Option<String>,
}

impl Shell<'_> {
    /// The whole page, with the namespaces that exist.
    pub async fn answer(self, ui: &Ui, visitor: &Visitor, body: Markup) -> Response {
        let request = ListNamespacesRequest { page_size: PICKED_MAX, ..Default::default() };
        let listed = ask(ui.api.workflows().list_namespaces(request)).await.unwrap_or_default();
        let names: Vec<String> =
            listed.namespaces.into_iter().filter_map(|found| Some(found.namespace_info?.name)).collect();
        self.page(ui, visitor, &names, &body)
    }

    /// The whole page.
    pub fn page(&self, ui: &Ui, visitor: &Visitor, namespaces: &[String], body: &Markup) -> Response {
        let base = &ui.config.public_path;
        let asset = |name| assets::href(base, name);
        let page = html! {
            (DOCTYPE)
            html lang="en" data-theme=[Some(visitor.theme).filter(|theme| !theme.is_empty())] data-base=(base)
                data-codec=[Some(&visitor.codec).filter(|codec| !codec.is_empty())] data-namespace=[self.namespace] {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Mainstay" }
                    link rel="icon" type="image/svg+xml" href=(asset("mark.svg"));
                    link rel="stylesheet" href=(asset("style.css"));
                    script type="module" src=(asset("main.js")) {}
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    (self.header(ui, namespaces))
                    main #main tabindex="-1" data-events=[self.events.as_deref()] { (body) }
                    (footer(ui))
                    (help())
                }
            }
        };
        let mut response = page.into_string().into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert("x-mainstay-page", HeaderValue::from_static("1"));
        response
    }

    fn header(&self, ui: &Ui, namespaces: &[String]) -> Markup {
        let base = &ui.config.public_path;
        let namespace = self.namespace.or(namespaces.iter().map(String::as_str).find(|name| *name == "default"));
        let links = Links { base, namespace: namespace.unwrap_or("default") };
        let current = |section| (section == self.section).then_some("page");
        html! {
            header.top {
                a.brand href={ (base) "/" } { (mark()) span { "Mainstay" } }
                @if let Some(chosen) = self.namespace {
                    details.menu.picker {
                        summary title="Namespace" { span.label { "Namespace " } b { (chosen) } }
                        ul {
                            @for name in namespaces {
                                li { a href=(Links { base, namespace: name }.workflows(""))
                                    aria-current=[(name == chosen).then_some("true")] { (name) } }
                            }
                            li.foot { a href={ (base) "/namespaces" } { "All namespaces" } }
                        }
                    }
                }
                nav aria-label="Main" {
                    @for (section, path, words) in IN_NAMESPACE {
                        a href=(links.page(path)) aria-current=[current(section)] { (words) }
                    }
                    a href={ (base) "/namespaces" } aria-current=[current(Section::Namespaces)] { "Namespaces" }
                    a href={ (base) "/cluster" } aria-current=[current(Section::Cluster)] { "Cluster" }
                }
                div.switches {
                    span.live #live hidden title="The page follows what happens" { i.dot {} "live" }
                    button #times type="button" hidden title="Relative, local or UTC times (t)" { "ago" }
                    button #theme type="button" hidden aria-label="Light or dark" title="Light or dark" { "◐" }
                    button type="button" popovertarget="help" aria-label="Keys and settings" title="Keys and settings (?)" { "?" }
                }
            }
        }
    }
}

fn footer(ui: &Ui) -> Markup {
    html! {
        footer { "Mainstay " (ui.config.version) }
    }
}

/// Our mark: a mast and its stays.
fn mark() -> Markup {
    html! {
        svg.mark viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            path d="M12 2v19" class="mast" {}
            path d="M12 3 3.5 19.5M12 3l8.5 16.5M12 10 7.6 19.5M12 10l4.4 9.5" class="stay" {}
            path d="M2 20.5q5 2.4 10 0t10 0" class="sea" {}
        }
    }
}

fn help() -> Markup {
    let keys = [
        ("/", "to the filter"),
        ("j k", "next and previous row"),
        ("Enter", "open the row"),
        ("t", "relative, local or UTC times"),
        ("g w", "workflows; g s schedules, g t task queues, g c cluster"),
        ("?", "this"),
        ("Esc", "close, or leave the field"),
    ];
    html! {
        dialog #help popover aria-label="Keys and settings" {
            h2 { "Keys" }
            dl.keys { @for (key, what) in keys { dt { kbd { (key) } } dd { (what) } } }
            h2 { "Codec server" }
            form #codec-form {
                label { "Endpoint that decodes payloads, asked by this browser as POST …/decode"
                    input type="url" name="endpoint" placeholder="http://localhost:8081" autocomplete="off"; }
                button { "Use it" }
                p.muted #codec-note { "Needs scripts." }
            }
        }
    }
}
