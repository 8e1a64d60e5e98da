//! Namespaces: the list, and one with its limits and search attributes.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use mainstay_api::temporal::enums::v1::IndexedValueType;
use mainstay_api::temporal::operatorservice::v1::ListSearchAttributesRequest;
use mainstay_api::temporal::workflowservice::v1::{
    CountWorkflowExecutionsRequest, DescribeNamespaceRequest, DescribeNamespaceResponse, ListNamespacesRequest,
};
use maud::{Markup, html};

use crate::Ui;
use crate::api::ask;
use crate::format::{count, enum_words, span_of, words};
use crate::json;
use crate::link::{Links, unsegment};
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;

const PAGE: i32 = 1_000;

/// All of them.
pub async fn list(State(ui): State<Arc<Ui>>, visitor: Visitor) -> Result<Response, Problem> {
    let request = ListNamespacesRequest { page_size: PAGE, ..Default::default() };
    let listed = ask(ui.api.workflows().list_namespaces(request)).await?;
    let body = html! {
        h1 { "Namespaces" }
        table.list {
            caption.sr { "Namespaces" }
            thead { tr { th scope="col" { "Namespace" } th scope="col" { "State" } th scope="col" { "Retention" } th scope="col" { "Description" } th scope="col" { "Owner" } } }
            tbody { @for found in &listed.namespaces { (row(&ui, found)) } }
        }
    };
    let shell = Shell { section: Section::Namespaces, namespace: None, title: "Namespaces", events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

fn row(ui: &Ui, found: &DescribeNamespaceResponse) -> Markup {
    let info = found.namespace_info.clone().unwrap_or_default();
    let links = Links { base: &ui.config.public_path, namespace: &info.name };
    html! {
        tr {
            td { a href=(links.namespace()) { (info.name) } }
            td { (enum_words(info.state().as_str_name(), "NAMESPACE_STATE_")) }
            td { (retention(found)) }
            td { (info.description) }
            td { (info.owner_email) }
        }
    }
}

fn retention(found: &DescribeNamespaceResponse) -> String {
    let config = found.config.clone().unwrap_or_default();
    span_of(config.workflow_execution_retention_ttl.as_ref()).unwrap_or_else(|| "–".into())
}

/// One.
pub async fn page(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let namespace = unsegment(namespace);
    let request = DescribeNamespaceRequest { namespace: namespace.clone(), ..Default::default() };
    let found = ask(ui.api.workflows().describe_namespace(request)).await?;
    let request = ListSearchAttributesRequest { namespace: namespace.clone() };
    let attributes = ask(ui.api.operator().list_search_attributes(request)).await?;
    let request =
        CountWorkflowExecutionsRequest { namespace: namespace.clone(), query: "ExecutionStatus = 'Running'".into() };
    let running = ask(ui.api.workflows().count_workflow_executions(request)).await?.count;
    let info = found.namespace_info.clone().unwrap_or_default();
    let links = Links { base: &ui.config.public_path, namespace: &namespace };
    let fact = |name: &str, value: Markup| html! { div { dt { (name) } dd { (value) } } };
    let flags = json::of("temporal.api.namespace.v1.NamespaceInfo", &prost::Message::encode_to_vec(&info));
    let body = html! {
        div.title {
            nav.crumbs aria-label="Where" { a href={ (ui.config.public_path) "/namespaces" } { "Namespaces" } }
            h1 { (namespace) }
            span.muted { (enum_words(info.state().as_str_name(), "NAMESPACE_STATE_")) }
        }
        section.summary {
            dl.facts {
                (fact("Running workflows", html! { a href=(links.workflows("ExecutionStatus = 'Running'")) { (count(running)) } }))
                (fact("Retention", html! { (retention(&found)) }))
                (fact("Id", html! { span.mono { (info.id) } }))
                @if !info.description.is_empty() { (fact("Description", html! { (info.description) })) }
                @if !info.owner_email.is_empty() { (fact("Owner", html! { (info.owner_email) })) }
                @for (name, value) in &info.data { (fact(name, html! { (value) })) }
            }
        }
        div.columns {
            section {
                h2 { "Search attributes" }
                (self::attributes(attributes.custom_attributes.iter()))
                details { summary { "Those of every namespace" } (self::attributes(attributes.system_attributes.iter())) }
            }
            section {
                h2 { "Capabilities" }
                ul.plain {
                    @for (name, _) in json::at(&flags, &["capabilities"]).as_object().into_iter().flatten().filter(|(_, on)| on.as_bool() == Some(true)) {
                        li { (words(name)) }
                    }
                }
                h2 { "Limits" }
                (json::fields(json::at(&flags, &["limits"])))
            }
        }
    };
    let shell = Shell { section: Section::Namespaces, namespace: Some(&namespace), title: &namespace, events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

fn attributes<'a>(all: impl Iterator<Item = (&'a String, &'a i32)>) -> Markup {
    let named: Vec<_> = all.collect();
    html! {
        @if named.is_empty() {
            p.muted { "None of its own. Add one with " code { "temporal operator search-attribute create" } "." }
        } @else {
            table.list {
                caption.sr { "Search attributes" }
                thead { tr { th scope="col" { "Name" } th scope="col" { "Type" } } }
                tbody {
                    @for (name, kind) in named {
                        tr { td.mono { (name) } td { (enum_words(IndexedValueType::try_from(*kind).unwrap_or_default().as_str_name(), "INDEXED_VALUE_TYPE_")) } }
                    }
                }
            }
        }
    }
}
