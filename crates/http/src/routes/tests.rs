use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use super::*;

const HEADER: &str = "\
# Method, path, RPC, and the body: `*` is the whole request, a name one field of it. Made from the google.api.http annotations:
# UPDATE_ROUTES=1 cargo test -p mainstay-http routes_follow_the_annotations
";
const SERVICES: [&str; 2] =
    ["temporal.api.workflowservice.v1.WorkflowService", "temporal.api.operatorservice.v1.OperatorService"];

fn pool() -> DescriptorPool {
    DescriptorPool::decode(mainstay_api::DESCRIPTOR_SET).unwrap()
}

/// Asked for when the test runs: a build may be kept while its checkout moves.
fn crate_folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is").into()
}

/// Where cargo keeps the proto files that the API is generated from.
fn proto_files() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata.args(["metadata", "--format-version", "1", "--offline"]).current_dir(crate_folder());
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.output().unwrap().stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "temporalio-protos").unwrap();
    PathBuf::from(package["manifest_path"].as_str().unwrap()).with_file_name("protos").join("api_upstream")
}

/// The table as the annotations have it.
fn table() -> String {
    let mut compiler = protox::Compiler::new([proto_files()]).unwrap();
    compiler.include_imports(true);
    let files = ["temporal/api/workflowservice/v1/service.proto", "temporal/api/operatorservice/v1/service.proto"];
    compiler.open_files(files).unwrap();
    let pool = DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap();
    let http = pool.get_extension_by_name("google.api.http").unwrap();
    let mut table = HEADER.to_owned();
    for service in SERVICES {
        for rpc in pool.get_service_by_name(service).unwrap().methods() {
            let options = rpc.options();
            if !options.has_extension(&http) {
                continue;
            }
            let rule = options.get_extension(&http).as_message().unwrap().clone();
            let more = rule.get_field_by_name("additional_bindings").unwrap();
            let more = more.as_list().unwrap().iter().map(|rule| rule.as_message().unwrap());
            for rule in std::iter::once(&rule).chain(more) {
                let text = |name: &str| rule.get_field_by_name(name).unwrap().as_str().unwrap().to_owned();
                let verbs = ["get", "post", "put", "delete", "patch"];
                let verb = verbs.into_iter().find(|verb| rule.has_field_by_name(verb)).unwrap();
                assert!(text("response_body").is_empty(), "part of an answer is not supported");
                let line = format!(
                    "{} {} {}.{} {}",
                    verb.to_uppercase(),
                    text(verb),
                    rpc.parent_service().name(),
                    rpc.name(),
                    text("body")
                );
                table += line.trim_end();
                table.push('\n');
            }
        }
    }
    table
}

#[test]
fn routes_follow_the_annotations() {
    let table = table();
    if std::env::var_os("UPDATE_ROUTES").is_some() {
        std::fs::write(crate_folder().join("src/routes.txt"), &table).unwrap();
    } else {
        assert_eq!(TABLE, table, "run what the first lines of routes.txt say");
    }
}

#[test]
fn every_line_is_a_route_that_finds_itself() {
    let pool = pool();
    let routes = Routes::new(&pool).unwrap();
    let rpcs: BTreeSet<&str> = routes.all().iter().map(|route| route.rpc.full_name()).collect();
    assert!(rpcs.len() >= 100, "{}", rpcs.len());
    for route in routes.all() {
        let found = routes.find(&route.verb, route.path).unwrap().unwrap();
        assert_eq!(found.route.path, route.path);
        assert_eq!(found.route.rpc, route.rpc);
        for (fields, text) in found.fields {
            let last = fields.last().unwrap();
            assert!(text.contains(last.name()), "{text}");
        }
    }
}

#[test]
fn literals_win_and_slashes_can_be_escaped() {
    let routes = Routes::new(&pool()).unwrap();
    let found = |verb: Method, path: &str| {
        let found = routes.find(&verb, path).unwrap()?;
        let texts: Vec<String> = found.fields.into_iter().map(|(_, text)| text).collect();
        Some((found.route.rpc.name().to_owned(), texts))
    };
    let strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let post = Method::POST;
    let cases = [
        (
            Method::GET,
            "/api/v1/namespaces/n/workflows/a%2Fb%20%25/history",
            "GetWorkflowExecutionHistory",
            strings(&["n", "a/b %"]),
        ),
        (post.clone(), "/namespaces/n/workflows/w/signal/s", "SignalWorkflowExecution", strings(&["n", "w", "s"])),
        (post.clone(), "/namespaces/n/workflows/w/pause", "PauseWorkflowExecution", strings(&["n", "w"])),
        (post, "/namespaces/n/workers/heartbeat", "RecordWorkerHeartbeat", strings(&["n"])),
    ];
    for (verb, path, rpc, texts) in cases {
        assert_eq!(found(verb, path), Some((rpc.to_owned(), texts)), "{path}");
    }
    assert_eq!(found(Method::GET, "/nothing/here"), None);
    assert_eq!(found(Method::GET, "/"), None);
    assert_eq!(found(Method::GET, ""), None);
    assert!(routes.find(&Method::GET, "/namespaces/n/workflows/%ff").is_err());
    let wrong = routes.find(&Method::PUT, "/namespaces/n/workflows/w").unwrap_err();
    assert_eq!(wrong.message(), "Method Not Allowed");
}
