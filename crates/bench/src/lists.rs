//! How long lists and counts take on what the server holds: each asked many times, one after the other.

use std::fmt;
use std::time::{Duration, Instant};

use mainstay_api::admin::ExplainQueryRequest;
use mainstay_api::admin::admin_service_client::AdminServiceClient;
use mainstay_api::temporal::workflowservice::v1 as api;
use tonic::transport::Endpoint;

use crate::Options;
use crate::server::{Client, Server};

const PAGE_SIZE: i32 = 100;
/// A question is asked this often, but not longer than [`ASKED_FOR`].
const TIMES: usize = 200;
const ASKED_FOR: Duration = Duration::from_secs(10);

/// One question and its answers.
#[derive(Debug)]
struct Answers {
    what: &'static str,
    filter: String,
    /// Ascending.
    took: Vec<Duration>,
    /// Rows of a page, or what was counted.
    found: i64,
    /// Whether a page said that more may follow.
    more: bool,
    plan: String,
}

/// What the server needed for lists.
#[derive(Debug, Default)]
pub struct Lists(Vec<Answers>);

/// Asks all questions.
pub(crate) async fn measure(server: &Server, options: &Options) -> Result<Lists, String> {
    let mut client = server.client();
    let kind = format!("WorkflowType = '{}'", crate::load::workflow_type(options, 0));
    let questions = [
        ("page", format!("{kind} AND ExecutionStatus = 'Completed'")),
        ("page", format!("{kind} AND ExecutionStatus = 'Running'")),
        ("page", "ExecutionStatus = 'Completed'".to_string()),
        ("page", "BenchKeyword = 'k7'".to_string()),
        ("page", "BenchText = 'customer 77'".to_string()),
        ("page", "BenchInt BETWEEN 100 AND 200".to_string()),
        ("page", "TaskQueue = 'no such queue'".to_string()),
        ("count", String::new()),
        ("count", "ExecutionStatus = 'Completed'".to_string()),
        ("count", "GROUP BY ExecutionStatus".to_string()),
        ("count", format!("{kind} AND ExecutionStatus = 'Completed'")),
        ("count", "TaskQueue = 'no such queue'".to_string()),
    ];
    let mut all = Vec::new();
    for (what, filter) in questions {
        if filter.contains("Bench") && options.search_attributes == 0 {
            continue;
        }
        all.push(ask(&mut client, options, what, filter).await?);
    }
    Ok(Lists(all))
}

async fn ask(client: &mut Client, options: &Options, what: &'static str, filter: String) -> Result<Answers, String> {
    let plan = explain(options, what, &filter).await.unwrap_or_default();
    let mut answers = Answers { what, filter, took: Vec::new(), found: 0, more: false, plan };
    let began = Instant::now();
    while answers.took.len() < TIMES && began.elapsed() < ASKED_FOR {
        let asked = Instant::now();
        let (namespace, query) = (options.namespace.clone(), answers.filter.clone());
        if what == "page" {
            let request =
                api::ListWorkflowExecutionsRequest { namespace, page_size: PAGE_SIZE, query, ..Default::default() };
            let page =
                client.list_workflow_executions(request).await.map_err(|status| status.to_string())?.into_inner();
            answers.found = page.executions.len() as i64;
            answers.more = !page.next_page_token.is_empty();
        } else {
            let request = api::CountWorkflowExecutionsRequest { namespace, query };
            let counted = client.count_workflow_executions(request).await.map_err(|status| status.to_string())?;
            answers.found = counted.into_inner().count;
        }
        answers.took.push(asked.elapsed());
    }
    answers.took.sort_unstable();
    Ok(answers)
}

/// The plan, from a server that can tell.
async fn explain(options: &Options, what: &str, query: &str) -> Option<String> {
    let channel = Endpoint::from_shared(format!("http://{}", options.address)).ok()?.connect().await.ok()?;
    let request = ExplainQueryRequest { namespace: options.namespace.clone(), query: query.to_string() };
    let plan = AdminServiceClient::new(channel).explain_query(request).await.ok()?.into_inner();
    Some(if what == "page" { plan.list } else { plan.count })
}

impl fmt::Display for Lists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for answers in &self.0 {
            let Answers { what, filter, took, found, more, plan } = answers;
            let more = if *more { "+" } else { "" };
            let [p50, p99] = [500, 990].map(|per_mille| crate::report::quantile_ms(took, per_mille));
            writeln!(f, "{what:<6} p50 {p50:8.2} ms, p99 {p99:8.2} ms, found {found}{more}: {filter}\n       {plan}")?;
        }
        Ok(())
    }
}
