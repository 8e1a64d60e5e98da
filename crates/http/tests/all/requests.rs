//! What the services see of a request, and what the caller sees of their answer.

use bytes::Bytes;
use http::Request;
use mainstay_api::RawHistory;
use mainstay_api::pb::google::rpc::Status as RpcStatus;
use mainstay_api::temporal::common::v1::{Payload, Payloads, WorkflowExecution};
use mainstay_api::temporal::enums::v1::{EventType, HistoryEventFilterType};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::operatorservice::v1::GetNexusEndpointRequest;
use mainstay_api::temporal::workflowservice::v1::{
    DescribeWorkflowExecutionResponse, GetWorkflowExecutionHistoryRequest, GetWorkflowExecutionHistoryResponse,
    ListScheduleMatchingTimesRequest, PollWorkflowExecutionUpdateResponse, QueryWorkflowRequest, QueryWorkflowResponse,
    SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
};
use mainstay_http::{Config, Handler};
use prost::Message;
use serde_json::json;
use tonic::{Code, Status};

use crate::fake::{Fake, send, send_request};

#[tokio::test]
async fn the_path_the_query_and_the_body_make_the_message() {
    let fake = Fake::default();
    let path = "/api/v1/namespaces/n%20s/workflows/a%2Fb/history?execution.runId=r&maximum_page_size=7&nextPageToken=-_8\
        &waitNewEvent=true&historyEventFilterType=2&namespace=other&pretty";
    assert_eq!(send(&fake.handler(), "GET", path, "").await.text, "{}");
    let asked: GetWorkflowExecutionHistoryRequest = fake.asked();
    assert_eq!(
        asked,
        GetWorkflowExecutionHistoryRequest {
            namespace: "n s".into(),
            execution: Some(WorkflowExecution { workflow_id: "a/b".into(), run_id: "r".into() }),
            maximum_page_size: 7,
            next_page_token: Bytes::from_static(&[0xfb, 0xff]),
            wait_new_event: true,
            history_event_filter_type: HistoryEventFilterType::CloseEvent as i32,
            skip_archival: false,
        }
    );
    let call = fake.calls.lock().unwrap()[0].clone();
    assert_eq!(call.path, "/temporal.api.workflowservice.v1.WorkflowService/GetWorkflowExecutionHistory");
    assert_eq!(call.headers["content-type"], "application/grpc");
    assert_eq!(call.headers["client-name"], "temporal-server-http");
}

#[tokio::test]
async fn the_path_wins_over_the_body() {
    let fake = Fake::default();
    let body = json!({"namespace": "b", "signal_name": "b", "workflowExecution": {"workflowId": "b", "runId": "r"}, "input": [1]});
    send(&fake.handler(), "POST", "/namespaces/n/workflows/w/signal/s?identity=ignored", body.to_string()).await;
    let asked: SignalWorkflowExecutionRequest = fake.asked();
    assert_eq!((asked.namespace.as_str(), asked.signal_name.as_str(), asked.identity.as_str()), ("n", "s", ""));
    assert_eq!(asked.workflow_execution, Some(WorkflowExecution { workflow_id: "w".into(), run_id: "r".into() }));
    assert_eq!(asked.input.unwrap().payloads[0].data, "1");
}

#[tokio::test]
async fn times_enums_and_lists_in_queries() {
    let fake = Fake::default();
    let handler = fake.handler();
    let path = "/namespaces/n/schedules/s/matching-times?startTime=2030-01-01T00:00:00.5Z&end_time=2031-01-01T00:00:00%2B01:00";
    assert_eq!(send(&handler, "GET", path, "").await.status, 200);
    let asked: ListScheduleMatchingTimesRequest = fake.asked();
    assert_eq!(asked.start_time.unwrap().nanos, 500_000_000);
    assert_eq!(asked.end_time.unwrap().seconds, 1_924_988_400);
    for wrong in ["startTime=now", "startTime.seconds=1&startTime=2030-01-01T00:00:00Z&startTime=2030-01-01T00:00:00Z"]
    {
        let answer = send(&handler, "GET", &format!("/namespaces/n/schedules/s/matching-times?{wrong}"), "").await;
        assert_eq!(answer.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn the_operator_service_is_there() {
    let fake = Fake::default();
    assert_eq!(send(&fake.handler(), "GET", "/cluster/nexus/endpoints/e", "").await.status, 200);
    assert_eq!(fake.asked::<GetNexusEndpointRequest>().id, "e");
}

#[tokio::test]
async fn an_empty_body_is_an_empty_message() {
    let fake = Fake::default();
    let request = Request::post("/namespaces/n/workflows/w").body(Bytes::new()).unwrap();
    assert_eq!(send_request(&fake.handler(), request).await.status, 200);
    assert_eq!(fake.asked::<StartWorkflowExecutionRequest>().workflow_id, "w");
}

#[tokio::test]
async fn answers_follow_the_dialect() {
    let payload = Payload {
        metadata: [("encoding".to_owned(), Bytes::from_static(b"json/plain"))].into(),
        data: Bytes::from_static(b" {\"a\": [1]}\n"),
        ..Payload::default()
    };
    let answer = QueryWorkflowResponse {
        query_result: Some(Payloads { payloads: vec![payload] }),
        ..QueryWorkflowResponse::default()
    };
    let fake = Fake::default().answers(&answer).answers(&answer).answers(&answer);
    let handler = fake.handler();
    let plain = send(&handler, "POST", "/api/v1/namespaces/n/workflows/w/query/q", "{}").await;
    let expected = json!({"queryResult": {"payloads": [
        {"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "IHsiYSI6IFsxXX0K"}]}});
    assert_eq!(plain.json(), expected);
    let short = send(&handler, "POST", "/namespaces/n/workflows/w/query/q", "{}").await;
    assert_eq!(short.text, r#"{"queryResult":[{"a": [1]}]}"#);
    let pretty = send(&handler, "POST", "/namespaces/n/workflows/w/query/q?pretty", "{}").await;
    assert_eq!(pretty.text, "{\n  \"queryResult\": [\n    {\n      \"a\": [\n        1\n      ]\n    }\n  ]\n}");
    assert_eq!(fake.calls.lock().unwrap().len(), 3);
    let asked = QueryWorkflowRequest::decode(fake.calls.lock().unwrap()[0].message.clone()).unwrap();
    assert_eq!(asked.query.unwrap().query_type, "q");
}

#[tokio::test]
async fn refusals_keep_code_text_and_details() {
    let detail = prost_types::Any {
        type_url: "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure".into(),
        value: vec![0x0a, 1, b'n'],
    };
    let details = RpcStatus { code: 5, message: "gone".into(), details: vec![detail] }.encode_to_vec();
    let fake = Fake::default()
        .refuses(Status::with_details(Code::NotFound, "gone", details.into()))
        .refuses(Status::resource_exhausted("wait"))
        .refuses(Status::unimplemented("no"));
    let handler = fake.handler();
    let answer = send(&handler, "GET", "/api/v1/namespaces/n", "").await;
    let detail =
        json!({"@type": "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure", "namespace": "n"});
    assert_eq!((answer.status, answer.json()), (404, json!({"code": 5, "message": "gone", "details": [detail]})));
    assert_eq!(answer.headers["content-type"], "application/json");
    let answer = send(&handler, "GET", "/api/v1/namespaces/n", "").await;
    assert_eq!((answer.status, answer.json()), (429, json!({"code": 8, "message": "wait"})));
    assert_eq!(send(&handler, "GET", "/api/v1/namespaces/n", "").await.status, 501);
}

#[tokio::test]
async fn callers_headers_are_forwarded_and_no_others() {
    let fake = Fake::default();
    let request = Request::get("/system-info")
        .header("authorization", "Bearer x")
        .header("temporal-namespace", "n")
        .header("client-name", "mine")
        .header("grpc-metadata-flavour", "sweet")
        .header("grpc-metadata-grpc-encoding", "gzip")
        .header("grpc-metadata-content-type", "text/plain")
        .header("grpc-timeout", "5S")
        .header("user-agent", "curl")
        .header("cookie", "secret")
        .header("grpc-encoding", "gzip");
    send_request(&fake.handler(), request.body(Bytes::new()).unwrap()).await;
    let headers = fake.calls.lock().unwrap()[0].headers.clone();
    for (name, value) in [
        ("authorization", "Bearer x"),
        ("temporal-namespace", "n"),
        ("client-name", "mine"),
        ("flavour", "sweet"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "5S"),
        ("user-agent", "curl"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert!(!headers.contains_key("cookie") && !headers.contains_key("grpc-encoding"));
}

fn page(ids: std::ops::RangeInclusive<i64>, token: &'static [u8]) -> GetWorkflowExecutionHistoryResponse {
    let event =
        |event_id| HistoryEvent { event_id, event_type: EventType::TimerFired as i32, ..HistoryEvent::default() };
    let events = ids.map(|id| event(id).encode_to_vec().into()).collect();
    GetWorkflowExecutionHistoryResponse {
        history: Some(RawHistory { events }),
        next_page_token: Bytes::from_static(token),
        ..GetWorkflowExecutionHistoryResponse::default()
    }
}

#[tokio::test]
async fn a_history_is_downloaded_page_by_page() {
    let fake = Fake::default()
        .answers(&page(1..=2, b"t"))
        .answers(&page(3..=3, b"u"))
        .answers(&page(std::ops::RangeInclusive::new(4, 3), b""));
    let path = "/api/v1/namespaces/n/workflows/a%2Fb/run/r/history.json";
    let answer = send(&fake.handler(), "GET", path, "").await;
    let ids: Vec<_> = answer.json().as_array().unwrap().iter().map(|event| event["eventId"].clone()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    let calls = fake.calls.lock().unwrap();
    let last = GetWorkflowExecutionHistoryRequest::decode(calls[2].message.clone()).unwrap();
    assert_eq!((last.execution.unwrap().workflow_id.as_str(), last.next_page_token.as_ref()), ("a/b", b"u".as_ref()));
}

#[tokio::test]
async fn a_download_that_fails_is_refused_or_says_so_at_its_end() {
    let path = "/api/v1/namespaces/n/workflows/w/run/r/history.json";
    let fake = Fake::default()
        .refuses(Status::not_found("none"))
        .answers(&page(1..=1, b"t"))
        .refuses(Status::internal("\"oh\""));
    let handler = fake.handler();
    assert_eq!(send(&handler, "GET", path, "").await.status, 404);
    let answer = send(&handler, "GET", path, "").await;
    assert_eq!((answer.status, answer.json()[1].clone()), (200, json!({"error": "\"oh\""})));
    assert_eq!(send(&Fake::default().handler(), "GET", path, "").await.json(), json!([]));
    assert_eq!(send(&handler, "POST", path, "").await.status, 405);
}

#[tokio::test]
async fn documents_and_settings() {
    let handler = Fake::default().handler();
    for path in ["/openapi.json", "/openapi.yaml", "/api/v1/openapi.yaml"] {
        let answer = send(&handler, "GET", path, "").await;
        assert_eq!(answer.json()["openapi"], "3.0.3");
    }
    assert_eq!(send(&handler, "GET", "/swagger.json", "").await.headers["location"], "/openapi.json");
    assert_eq!(send(&handler, "GET", "/api/v1/settings", "").await.json()["Auth"]["Enabled"], false);
    assert_eq!(send(&handler, "HEAD", "/api/v1/settings", "").await.status, 200);
}

#[tokio::test]
async fn files_of_an_interface_are_served_where_no_route_is() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("ui");
    std::fs::create_dir_all(root.join("_app/immutable")).unwrap();
    std::fs::write(root.join("index.html"), "<p>index").unwrap();
    std::fs::write(root.join("_app/immutable/a.js"), "1").unwrap();
    std::fs::write(directory.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(directory.path().join("secret"), root.join("link")).unwrap();
    let config = Config { ui_assets: Some(root), ..Config::default() };
    let handler = Handler::new(Fake::default(), config);
    for path in [
        "/",
        "/workflows/w?x=y",
        "/namespaces/default/workflows/w/r/nothing",
        "/link",
        "/../secret",
        "/%2e%2e/secret",
        "/_app",
    ] {
        let answer = send(&handler, "GET", path, "").await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "<p>index"), "{path}");
        assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8");
    }
    let page =
        Request::get("/namespaces/default/workflows").header("accept", "text/html,*/*").body(Bytes::new()).unwrap();
    assert_eq!(send_request(&handler, page).await.text, "<p>index");
    assert_eq!(send(&handler, "GET", "/namespaces/default/workflows", "").await.text, "{}");
    let script = send(&handler, "GET", "/_app/immutable/a.js", "").await;
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert!(script.headers["cache-control"].to_str().unwrap().contains("immutable"));
    assert_eq!(send(&handler, "GET", "/api/v1/nothing", "").await.status, 404);
    assert_eq!(send(&handler, "POST", "/nothing", "").await.status, 404);
}

#[tokio::test]
async fn an_answer_that_is_no_message_is_an_internal_error() {
    // A field of another wire type.
    let broken = PollWorkflowExecutionUpdateResponse::default();
    let fake = Fake::default().answers(&broken);
    assert_eq!(send(&fake.handler(), "GET", "/namespaces/n/workflows/w", "").await.text, "{}");
    let wrong = mainstay_api::temporal::common::v1::WorkflowType { name: "x".into() };
    let fake = Fake::default().answers(&wrong);
    let answer = send(&fake.handler(), "GET", "/namespaces/n/workflows/w", "").await;
    assert!(DescribeWorkflowExecutionResponse::decode(wrong.encode_to_vec().as_slice()).is_err());
    assert_eq!((answer.status, answer.json()["code"].clone()), (500, json!(13)));
}
