//! What a list shows, as a file: CSV for spreadsheets, JSON for programs. It is sent while it is read, page by page.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use mainstay_api::temporal::common::v1::Payload;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::ListWorkflowExecutionsRequest;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::STATUSES;
use crate::api::ask;
use crate::format::{nanos, rfc3339};
use crate::link::unsegment;
use crate::problem::Problem;
use crate::{Ui, payload};

const PAGE: i32 = 1_000;
/// A file ends after so many rows.
const ROWS_MAX: usize = 1_000_000;
const HEAD: &str =
    "status,workflow_id,run_id,type,task_queue,start_time,close_time,history_length,search_attributes\r\n";

/// What the address says.
#[derive(Debug, Deserialize)]
pub struct Asked {
    #[serde(default)]
    format: String,
    #[serde(default)]
    query: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    Json,
}

/// All rows that match.
pub async fn export(
    State(ui): State<Arc<Ui>>,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Problem> {
    let (format, kind, name) = match asked.format.as_str() {
        "csv" => (Format::Csv, "text/csv; charset=utf-8", "workflows.csv"),
        "json" => (Format::Json, "application/json", "workflows.json"),
        _ => return Err(Problem::invalid("A list is exported as csv or json.")),
    };
    let request = ListWorkflowExecutionsRequest {
        namespace: unsegment(namespace),
        page_size: PAGE,
        query: asked.query,
        ..Default::default()
    };
    // The first page is read before anything is sent, so that a wrong filter is an answer of its own.
    let first = ask(ui.api.workflows().list_workflow_executions(request.clone())).await?;
    let (send, sent) = mpsc::channel::<String>(2);
    tokio::spawn(async move {
        let mut page = first;
        let mut rows = 0;
        let (open, close) = if format == Format::Csv { (HEAD, "") } else { ("[", "]\n") };
        let mut text = open.to_owned();
        loop {
            for row in &page.executions {
                text += &line(row, format, rows == 0);
                rows += 1;
            }
            if send.send(std::mem::take(&mut text)).await.is_err() {
                return;
            }
            if page.next_page_token.is_empty() || rows >= ROWS_MAX {
                break;
            }
            let request = ListWorkflowExecutionsRequest { next_page_token: page.next_page_token, ..request.clone() };
            match ask(ui.api.workflows().list_workflow_executions(request)).await {
                Ok(next) => page = next,
                // A file that is cut off must not look whole: its end is missing.
                Err(_) => return,
            }
        }
        let _ = send.send(close.to_owned()).await;
    });
    let body = Body::from_stream(ReceiverStream::new(sent).map(|text| Ok::<_, Infallible>(Bytes::from(text))));
    let disposition = format!("attachment; filename=\"{name}\"");
    Ok(([(CONTENT_TYPE, kind.to_owned()), (CONTENT_DISPOSITION, disposition)], body).into_response())
}

fn line(row: &WorkflowExecutionInfo, format: Format, first: bool) -> String {
    let execution = row.execution.clone().unwrap_or_default();
    let time =
        |time: &Option<prost_types::Timestamp>| time.as_ref().map(|time| rfc3339(nanos(time))).unwrap_or_default();
    let status = STATUSES.iter().find(|(known, ..)| *known == row.status()).map_or("", |(_, name, ..)| name);
    let kind = row.r#type.clone().unwrap_or_default().name;
    let attributes: serde_json::Map<String, serde_json::Value> = row
        .search_attributes
        .iter()
        .flat_map(|all| &all.indexed_fields)
        .map(|(name, value): (&String, &Payload)| (name.clone(), payload::of(value).line().into()))
        .collect();
    match format {
        Format::Csv => {
            let fields = [
                status.to_owned(),
                execution.workflow_id,
                execution.run_id,
                kind,
                row.task_queue.clone(),
                time(&row.start_time),
                time(&row.close_time),
                row.history_length.to_string(),
                if attributes.is_empty() { String::new() } else { serde_json::Value::Object(attributes).to_string() },
            ];
            fields.iter().map(|field| cell(field)).collect::<Vec<_>>().join(",") + "\r\n"
        }
        Format::Json => {
            let value = serde_json::json!({
                "status": status, "workflowId": execution.workflow_id, "runId": execution.run_id, "type": kind,
                "taskQueue": row.task_queue, "startTime": time(&row.start_time), "closeTime": time(&row.close_time),
                "historyLength": row.history_length, "searchAttributes": attributes,
            });
            format!("{}{value}", if first { "\n" } else { ",\n" })
        }
    }
}

/// A cell that no spreadsheet takes for a formula.
fn cell(text: &str) -> String {
    let text = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_formulas() {
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(cell("=HYPERLINK(1)"), "'=HYPERLINK(1)");
    }
}
