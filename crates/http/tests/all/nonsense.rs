//! Whatever arrives, there is an answer in JSON, and nothing panics.

use std::sync::LazyLock;

use bytes::Bytes;
use http::Request;
use mainstay_http::Handler;
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::fake::{Fake, send_request};

const PATHS: [&str; 12] = [
    "/namespaces/n/workflows/w",
    "/api/v1/namespaces/n/workflows/w",
    "/namespaces/n/workflows/w/signal/s",
    "/namespaces/n/workflows/w/update/u",
    "/api/v1/namespaces/n/workflows/w/query/q",
    "/namespaces/n/schedules/s",
    "/api/v1/namespaces/n/batch-operations/j",
    "/api/v1/namespaces",
    "/cluster/nexus/endpoints",
    "/namespaces/n/workflows/w/history",
    "/namespaces/n/activities/a",
    "/namespaces/n/workers/heartbeat",
];
const NAMES: [&str; 24] = [
    "input",
    "payloads",
    "metadata",
    "encoding",
    "data",
    "memo",
    "fields",
    "namespace",
    "workflowType",
    "name",
    "schedule",
    "spec",
    "interval",
    "request",
    "meta",
    "query",
    "queryArgs",
    "operations",
    "header",
    "_protoMessageType",
    "@type",
    "value",
    "seconds",
    "links",
];

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop_oneof![".{0,8}", Just("anNvbi9wbGFpbg==".to_owned()), Just("10s".to_owned()), Just("1".to_owned())]
            .prop_map(Value::from),
    ];
    let name = prop_oneof![proptest::sample::select(&NAMES[..]).prop_map(String::from), ".{0,4}"];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// One for all cases: the routes are made once.
static HANDLER: LazyLock<Handler<Fake>> = LazyLock::new(|| Fake::default().handler());

fn answered(method: &str, path: &str, query: &str, body: Bytes) -> Result<(), TestCaseError> {
    let Ok(request) = Request::builder()
        .method(method)
        .uri(format!("{path}?{query}"))
        .header("content-type", "application/json")
        .body(body)
    else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let answer = runtime.block_on(send_request(&HANDLER, request));
    prop_assert!([200, 400, 404, 405].contains(&answer.status), "{}: {}", answer.status, answer.text);
    serde_json::from_str::<Value>(&answer.text).unwrap();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_json(path in proptest::sample::select(&PATHS[..]), body in json()) {
        answered("POST", path, "", body.to_string().into())?;
    }

    #[test]
    fn any_bytes(path in proptest::sample::select(&PATHS[..]), body in prop::collection::vec(any::<u8>(), 0..64)) {
        answered("POST", path, "", body.into())?;
    }

    #[test]
    fn any_query(path in proptest::sample::select(&PATHS[..]), query in "[a-zA-Z_.=&%0-9+\\[\\]-]{0,64}") {
        answered("GET", path, &query, Bytes::new())?;
    }

    #[test]
    fn any_path(method in "GET|POST|DELETE|PATCH|OPTIONS", path in "(/(api|v1|namespaces|workflows|%2F|%ff|[a-z.{}]{0,6})){0,8}") {
        answered(&method, &path, "", Bytes::new())?;
    }
}
