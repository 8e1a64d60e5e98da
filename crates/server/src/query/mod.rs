//! `mainstay query`: the workflows of a running server that match a filter, as a table, as CSV or as JSON lines; or how many there are.
//!
//! Pages are written as they come, so a list of any length takes no memory. Exit codes: 0 done, 1 failed, 2 the query or the usage is
//! wrong, 3 no server answers, 4 not allowed, 5 the namespace does not exist, 124 out of time.

mod point;
mod rows;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use mainstay_api::admin::ExplainQueryRequest;
use mainstay_api::admin::admin_service_client::AdminServiceClient;
use mainstay_api::temporal::workflowservice::v1::workflow_service_client::WorkflowServiceClient;
use mainstay_api::temporal::workflowservice::v1::{CountWorkflowExecutionsRequest, ListWorkflowExecutionsRequest};
use mainstay_runtime::AsyncRuntime;
use mainstay_runtime_tokio::TokioRuntime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::cli::Global;
use rows::Writer;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const PAGE: i32 = 500;

/// Flags of `query`.
#[derive(Clone, Debug, Args)]
pub struct QueryFlags {
    /// The filter, as WorkflowType = 'Order' AND ExecutionStatus = 'Running'. Without it, all.
    #[arg(value_name = "FILTER", default_value = "")]
    pub filter: String,
    /// Sorts by an attribute; add DESC for the other direction.
    #[arg(long, value_name = "ATTRIBUTE [DESC]")]
    pub order_by: Option<String>,
    /// Counts by the values of an attribute instead of listing.
    #[arg(long, value_name = "ATTRIBUTE", conflicts_with_all = ["order_by", "limit"])]
    pub group_by: Option<String>,
    /// Counts instead of listing.
    #[arg(long, conflicts_with_all = ["order_by", "limit"])]
    pub count: bool,
    /// Shows how the rows would be found, instead of finding them.
    #[arg(long, conflicts_with_all = ["order_by", "limit", "export"])]
    pub explain: bool,
    /// Writes for machines instead of a table.
    #[arg(long, value_enum)]
    pub export: Option<Export>,
    /// At most so many rows.
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<usize>,
    /// The namespace. Also TEMPORAL_NAMESPACE.
    #[arg(long, short = 'n')]
    pub namespace: Option<String>,
    /// Where a node listens. Also TEMPORAL_ADDRESS.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub address: Option<String>,
    /// Seconds for each call.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// Forms for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Export {
    /// A line of names, then a line for each row.
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// Why a query has no answer.
enum Trouble {
    Wrong(String),
    Unreachable(String),
    Refused(Status, String),
    /// Whoever read the output went away, or it cannot be written.
    Output(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Runs a query.
pub fn run(global: &Global, flags: &QueryFlags) -> ExitCode {
    let mut runtime = TokioRuntime::new(1);
    match runtime.block_on(answer(global, flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => tell(trouble),
    }
}

fn tell(trouble: Trouble) -> ExitCode {
    let (code, text) = match trouble {
        // As for `head`: it has seen enough.
        Trouble::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Trouble::Output(error) => (1, format!("the output cannot be written: {error}")),
        Trouble::Wrong(text) => (2, text),
        Trouble::Unreachable(text) => (3, text),
        Trouble::Refused(status, query) => refused(&status, &query),
    };
    eprintln!("mainstay: {text}");
    ExitCode::from(code)
}

fn refused(status: &Status, query: &str) -> (u8, String) {
    let text = status.message().to_owned();
    match status.code() {
        Code::InvalidArgument => (2, point::at_fault(&text, query)),
        Code::NotFound | Code::FailedPrecondition => (5, text),
        Code::Unauthenticated | Code::PermissionDenied => (4, text),
        Code::Unavailable => (3, text),
        Code::DeadlineExceeded | Code::Cancelled => (124, "the server did not answer in time; see --timeout".into()),
        _ => (1, text),
    }
}

/// The filter with the clauses that the flags add.
fn query_of(flags: &QueryFlags) -> String {
    let mut query = flags.filter.trim().to_owned();
    for (clause, attribute) in [("GROUP BY", &flags.group_by), ("ORDER BY", &flags.order_by)] {
        if let Some(attribute) = attribute {
            let space = if query.is_empty() { "" } else { " " };
            query += &format!("{space}{clause} {attribute}");
        }
    }
    query
}

async fn answer(global: &Global, flags: &QueryFlags) -> Result<(), Trouble> {
    let export = match (flags.export, global.ignored.output.as_deref()) {
        (Some(export), _) => Some(export),
        (None, None | Some("table" | "text")) => None,
        (None, Some("json" | "jsonl")) => Some(Export::Jsonl),
        (None, Some(other)) => return Err(Trouble::Wrong(format!("-o {other} is not table, json or jsonl"))),
    };
    let env = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let address = flags.address.clone().unwrap_or_else(|| env("TEMPORAL_ADDRESS", "127.0.0.1:7233"));
    let namespace = flags.namespace.clone().unwrap_or_else(|| env("TEMPORAL_NAMESPACE", "default"));
    let channel = connect(&address, Duration::from_secs(flags.timeout)).await?;
    let query = query_of(flags);
    if flags.explain {
        return explain(AdminServiceClient::new(channel), namespace, query).await;
    }
    let client = WorkflowServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    if flags.count || flags.group_by.is_some() {
        count(client, namespace, query, export).await
    } else {
        list(client, namespace, query, export, flags.limit).await
    }
}

async fn connect(address: &str, timeout: Duration) -> Result<Channel, Trouble> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|_| Trouble::Wrong(format!("--address {address} is not ADDRESS:PORT")))?;
    let channel = endpoint.connect_timeout(CONNECT_WITHIN).timeout(timeout).connect().await;
    let gone = |_| Trouble::Unreachable(format!("no server answers at {address}; start one, or say another --address"));
    channel.map_err(gone)
}

async fn explain(mut client: AdminServiceClient<Channel>, namespace: String, query: String) -> Result<(), Trouble> {
    let explained = client.explain_query(ExplainQueryRequest { namespace, query: query.clone() }).await;
    let explained = explained.map_err(|status| Trouble::Refused(status, query))?.into_inner();
    let mut out = io::stdout().lock();
    writeln!(out, "list:  {}\ncount: {}", explained.list, explained.count)?;
    Ok(())
}

async fn list(
    mut client: WorkflowServiceClient<Channel>,
    namespace: String,
    query: String,
    export: Option<Export>,
    limit: Option<usize>,
) -> Result<(), Trouble> {
    let mut writer = Writer::new(io::stdout().lock(), export);
    let mut left = limit.unwrap_or(usize::MAX);
    let mut next_page_token = Vec::new();
    while left > 0 {
        let request = ListWorkflowExecutionsRequest {
            namespace: namespace.clone(),
            page_size: i32::try_from(left).unwrap_or(PAGE).min(PAGE),
            next_page_token: next_page_token.into(),
            query: query.clone(),
        };
        let page = client.list_workflow_executions(request).await;
        let page = page.map_err(|status| Trouble::Refused(status, query.clone()))?.into_inner();
        let count = page.executions.len().min(left);
        writer.page(&page.executions[..count])?;
        left -= count;
        next_page_token = page.next_page_token.into();
        if next_page_token.is_empty() {
            break;
        }
    }
    writer.end()?;
    Ok(())
}

async fn count(
    mut client: WorkflowServiceClient<Channel>,
    namespace: String,
    query: String,
    export: Option<Export>,
) -> Result<(), Trouble> {
    let request = CountWorkflowExecutionsRequest { namespace, query: query.clone() };
    let counted = client.count_workflow_executions(request).await;
    let counted = counted.map_err(|status| Trouble::Refused(status, query))?.into_inner();
    let mut out = io::stdout().lock();
    out.write_all(rows::counts(&counted, export).as_bytes())?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_add_clauses() {
        let flags = |filter: &str, order_by: Option<&str>, group_by: Option<&str>| QueryFlags {
            filter: filter.into(),
            order_by: order_by.map(Into::into),
            group_by: group_by.map(Into::into),
            count: false,
            explain: false,
            export: None,
            limit: None,
            namespace: None,
            address: None,
            timeout: 1,
        };
        assert_eq!(query_of(&flags("A = 1 ", Some("B DESC"), None)), "A = 1 ORDER BY B DESC");
        assert_eq!(query_of(&flags("", None, Some("B"))), "GROUP BY B");
    }
}
