//! Pages on a server that is made up: what it says is as hostile as it can be.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use bytes::Bytes;
use mainstay_api::RawHistory;
use mainstay_api::temporal::common::v1::{ActivityType, Memo, Payload, Payloads, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{EventType, WorkflowExecutionStatus};
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::history::v1::{self as history, HistoryEvent, history_event::Attributes};
use mainstay_api::temporal::workflow::v1::{PendingActivityInfo, WorkflowExecutionInfo};
use mainstay_api::temporal::workflowservice::v1::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_ui::{Answer, Call, Config, Server, router};
use prost::Message;
use tonic::Status;
use tower_service::Service;

const HOSTILE: &str = "\"><script>alert('x')</script><img src=x onerror=alert(1)> style=\"x\"";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LIST: &str = "/namespaces/default/workflows";

struct Fake;

fn payload(text: &str) -> Payload {
    let metadata = [("encoding".to_owned(), "json/plain".into())].into();
    Payload { metadata, data: serde_json::to_vec(text).unwrap().into(), ..Payload::default() }
}

fn info(at: i64) -> WorkflowExecutionInfo {
    let time = |seconds| Some(prost_types::Timestamp { seconds: 1_800_000_000 + seconds, nanos: 0 });
    WorkflowExecutionInfo {
        execution: Some(WorkflowExecution {
            workflow_id: format!("{HOSTILE}-{at}"),
            run_id: "0b9e9a4e-5c5b-4f9e-8f6c-7d0c2a1b3c4d".into(),
        }),
        r#type: Some(WorkflowType { name: HOSTILE.into() }),
        start_time: time(at),
        close_time: time(at + 1),
        status: WorkflowExecutionStatus::Failed as i32,
        task_queue: HOSTILE.into(),
        memo: Some(Memo { fields: [(HOSTILE.to_owned(), payload(HOSTILE))].into() }),
        ..WorkflowExecutionInfo::default()
    }
}

fn failure() -> Failure {
    let cause = Failure { message: HOSTILE.into(), stack_trace: format!("{HOSTILE}\n{HOSTILE}"), ..Failure::default() };
    Failure { message: HOSTILE.into(), cause: Some(Box::new(cause)), ..Failure::default() }
}

#[tonic::async_trait]
impl WorkflowService for Fake {
    async fn list_workflow_executions(
        &self,
        request: tonic::Request<ListWorkflowExecutionsRequest>,
    ) -> Result<tonic::Response<ListWorkflowExecutionsResponse>, Status> {
        let query = request.into_inner().query;
        if query.contains("wrong") {
            return Err(Status::invalid_argument(format!("syntax error at position 34 near '{HOSTILE}'")));
        }
        let executions = (0..100).map(info).collect();
        Ok(tonic::Response::new(ListWorkflowExecutionsResponse {
            executions,
            next_page_token: Bytes::from_static(b"more"),
        }))
    }

    async fn count_workflow_executions(
        &self,
        _: tonic::Request<CountWorkflowExecutionsRequest>,
    ) -> Result<tonic::Response<CountWorkflowExecutionsResponse>, Status> {
        // A count over much: the page must not wait for it.
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(tonic::Response::new(Default::default()))
    }

    async fn describe_workflow_execution(
        &self,
        request: tonic::Request<DescribeWorkflowExecutionRequest>,
    ) -> Result<tonic::Response<DescribeWorkflowExecutionResponse>, Status> {
        let execution = request.into_inner().execution.unwrap_or_default();
        if execution.workflow_id == "gone" {
            return Err(Status::not_found(format!("workflow not found: {HOSTILE}")));
        }
        let pending = PendingActivityInfo {
            activity_id: HOSTILE.into(),
            activity_type: Some(ActivityType { name: HOSTILE.into() }),
            last_failure: Some(failure()),
            last_worker_identity: HOSTILE.into(),
            attempt: 3,
            ..PendingActivityInfo::default()
        };
        Ok(tonic::Response::new(DescribeWorkflowExecutionResponse {
            workflow_execution_info: Some(info(0)),
            pending_activities: vec![pending],
            ..Default::default()
        }))
    }

    async fn get_workflow_execution_history(
        &self,
        _: tonic::Request<GetWorkflowExecutionHistoryRequest>,
    ) -> Result<tonic::Response<GetWorkflowExecutionHistoryResponse>, Status> {
        let started = history::WorkflowExecutionStartedEventAttributes {
            workflow_type: Some(WorkflowType { name: HOSTILE.into() }),
            input: Some(Payloads { payloads: vec![payload(HOSTILE)] }),
            ..Default::default()
        };
        let failed = history::WorkflowExecutionFailedEventAttributes { failure: Some(failure()), ..Default::default() };
        let signal =
            history::WorkflowExecutionSignaledEventAttributes { signal_name: HOSTILE.into(), ..Default::default() };
        let events = [
            (EventType::WorkflowExecutionStarted, Attributes::WorkflowExecutionStartedEventAttributes(started)),
            (EventType::WorkflowExecutionSignaled, Attributes::WorkflowExecutionSignaledEventAttributes(signal)),
            (EventType::WorkflowExecutionFailed, Attributes::WorkflowExecutionFailedEventAttributes(failed)),
        ];
        let encoded = events.into_iter().zip(1..).map(|((kind, attributes), event_id)| {
            let event = HistoryEvent {
                event_id,
                event_type: kind as i32,
                attributes: Some(attributes),
                ..HistoryEvent::default()
            };
            event.encode_to_vec().into()
        });
        let history = Some(RawHistory { events: encoded.collect() });
        Ok(tonic::Response::new(GetWorkflowExecutionHistoryResponse { history, ..Default::default() }))
    }

    async fn signal_workflow_execution(
        &self,
        request: tonic::Request<SignalWorkflowExecutionRequest>,
    ) -> Result<tonic::Response<SignalWorkflowExecutionResponse>, Status> {
        assert_eq!(request.into_inner().signal_name, "go & stop");
        Ok(tonic::Response::new(Default::default()))
    }
}

impl Server for Fake {
    fn call(&self, request: Call) -> Answer {
        Box::pin(async move {
            let Ok(answer) = WorkflowServiceServer::new(Fake).call(request).await;
            answer
        })
    }
}

async fn ask(request: Request<Body>) -> (Response<()>, String) {
    let Ok(response) = router(Arc::new(Fake), Config::default()).call(request).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

async fn get(path: &str) -> (Response<()>, String) {
    ask(Request::get(path).header(header::HOST, "localhost:8233").body(Body::empty()).unwrap()).await
}

fn run() -> String {
    "/namespaces/default/workflows/w/0b9e9a4e-5c5b-4f9e-8f6c-7d0c2a1b3c4d".into()
}

/// Nothing that a user wrote became markup, and nothing is inline that the policy would refuse.
fn is_harmless(page: &str) {
    for bad in ["<script>", "<img", "onerror=alert(1)> style", " style=\"", "onclick", "javascript:"] {
        let found = page.find(bad).map(|at| &page[at.saturating_sub(200)..(at + 100).min(page.len())]);
        assert_eq!(found, None, "{bad}");
    }
}

#[tokio::test]
async fn what_users_wrote_is_escaped_everywhere() {
    for path in [
        LIST.to_owned(),
        run(),
        run() + "?view=full",
        run() + "?view=json",
        run() + "/relations",
        run() + "/queries?name=%3Cscript%3E",
    ] {
        let (response, page) = get(&path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(page.contains("&lt;script&gt;"), "{path} shows it");
        is_harmless(&page);
    }
}

#[tokio::test]
async fn errors_are_pages_and_escaped() {
    let (response, page) = get("/namespaces/default/workflows/gone").await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(page.contains("workflow not found") && page.contains("Recent workflows"));
    is_harmless(&page);
    let (response, page) = get(&format!("{LIST}?query=wrong%22%3E%3Cscript%3E")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(page.contains("syntax error at position 34"), "in place");
    is_harmless(&page);
    for path in ["/no/such/page", "/namespaces/default/schedules/a/b/c"] {
        assert_eq!(get(path).await.0.status(), StatusCode::NOT_FOUND);
    }
    let (response, page) = get("/namespaces/default/workflows/%FF").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(page.contains("Mainstay"));
}

#[tokio::test]
async fn a_hundred_rows_are_small_and_do_not_wait_for_numbers() {
    let began = std::time::Instant::now();
    let (response, page) = get(LIST).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(response.status(), StatusCode::OK);
    // These ids, types and queues are three times as long as people's, and their escaped forms longer still.
    assert!(page.len() < 200_000, "{}", page.len());
    assert!(page.contains("data-late=") && page.contains("rel=\"next\""));
}

#[tokio::test]
async fn every_answer_has_a_strict_policy() {
    for path in [LIST, "/no/such/page"] {
        let (response, _) = get(path).await;
        let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.contains("default-src 'none'")
                && policy.contains("script-src 'self'")
                && policy.contains("style-src 'self'")
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(response.headers()[header::X_FRAME_OPTIONS], "DENY");
    }
    let with_codec = Request::get(LIST)
        .header(header::HOST, "localhost")
        .header(header::COOKIE, "mainstay-codec=http%3A%2F%2Fc.example%3A1");
    let (response, _) = ask(with_codec.body(Body::empty()).unwrap()).await;
    let policy = response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("connect-src 'self' http://c.example:1"), "{policy}");
}

#[tokio::test]
async fn a_foreign_host_is_refused() {
    let request = Request::get(LIST).header(header::HOST, "rebound.example:8233").body(Body::empty()).unwrap();
    let (response, page) = ask(request).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(page.contains("rebound.example") && !page.contains("<table"));
}

fn signal(origin: Option<&str>, cookie: Option<&str>, field: &str) -> Request<Body> {
    let mut request = Request::post(run() + "/signal").header(header::HOST, "localhost:8233");
    request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(origin) = origin {
        request = request.header(header::ORIGIN, origin);
    }
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, format!("mainstay-csrf={cookie}"));
    }
    request.body(Body::from(format!("csrf={field}&name=go+%26+stop&input="))).unwrap()
}

#[tokio::test]
async fn a_form_needs_its_origin_and_its_secret() {
    let own = Some("http://localhost:8233");
    let (response, _) = ask(signal(own, Some(SECRET), SECRET)).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert!(response.headers()[header::LOCATION].to_str().unwrap().ends_with("?done=signal"));
    let other = "ffffffffffffffffffffffffffffffff";
    let refused = [
        signal(Some("http://evil.example"), Some(SECRET), SECRET),
        signal(Some("null"), Some(SECRET), SECRET),
        signal(None, Some(SECRET), SECRET),
        signal(own, None, SECRET),
        signal(own, Some(SECRET), other),
        signal(own, Some(SECRET), ""),
    ];
    for request in refused {
        let (response, page) = ask(request).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(page.contains("Nothing was done"));
    }
}

#[tokio::test]
async fn a_page_brings_the_secret_of_its_forms() {
    let (response, page) = get(&run()).await;
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    let secret = cookie.trim_start_matches("mainstay-csrf=").split(';').next().unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    assert!(page.contains(&format!("name=\"csrf\" value=\"{secret}\"")));
}

#[tokio::test]
async fn below_a_public_path_every_link_has_it() {
    let config = Config { public_path: "/mainstay".into(), ..Config::default() };
    let request =
        Request::get(format!("/mainstay{LIST}")).header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let Ok(response) = router(Arc::new(Fake), config).call(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let page = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
    for attribute in ["href=\"/", "src=\"/", "action=\"/"] {
        assert_eq!(
            page.matches(attribute).count(),
            page.matches(&format!("{attribute}mainstay/")).count(),
            "{attribute}"
        );
    }
}

#[tokio::test]
async fn files_may_be_kept() {
    let (_, page) = get(LIST).await;
    let at = page.find("/assets/").unwrap();
    let path = page[at..].split('"').next().unwrap();
    let (response, _) = get(path).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers()[header::CACHE_CONTROL].to_str().unwrap().contains("immutable"));
}
