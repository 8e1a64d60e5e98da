//! Requests into the HTTP/JSON API, over the same whole server as `frontend`.
//!
//! An input is a request as text: verb and address on the first line, a header on each further one, and after an empty line the body.
//! Good ones are made from the API's own description (its OpenAPI document), so every route is met; bodies are messages as JSON.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use mainstay_base::Prng;
use mainstay_http::Handler;
use prost_reflect::MessageDescriptor;

use super::frontend::{Routes, Server};
use super::{Target, shape};
use crate::generate::Generator;

/// A server that does not answer in this time hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Inputs after which a fresh server begins.
const INPUTS: u32 = 400;
/// Headers of a request by which it is read or answered in another way.
const HEADERS: &str = "host: localhost\ncontent-type: application/json\ngrpc-timeout: 30m";

/// Every route of the API.
pub struct Http {
    generator: Generator,
    kinds: Vec<MessageDescriptor>,
    /// Verb and path with its parameters in braces.
    routes: Vec<(String, String)>,
    served: Option<(Handler<Routes>, Server)>,
    inputs: u32,
}

impl Default for Http {
    fn default() -> Self {
        let generator = Generator::new();
        let kinds = generator.methods().into_iter().map(|(_, kind)| kind).collect();
        Self { generator, kinds, routes: Vec::new(), served: None, inputs: 0 }
    }
}

/// A request out of an input; none if HTTP itself would not let it in.
fn request(input: &[u8]) -> Option<Request<Full<Bytes>>> {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let body = input.get(end + 2..).unwrap_or_default();
    let mut lines = input[..end].split(|byte| *byte == b'\n');
    let (verb, address) = split_at(lines.next()?, b' ')?;
    let uri = Uri::try_from(address).ok().filter(|uri| uri.path().starts_with('/'))?;
    let mut request = Request::builder().method(Method::from_bytes(verb).ok()?).uri(uri);
    for line in lines {
        let (name, value) = split_at(line, b':')?;
        request = request.header(name, value.trim_ascii());
    }
    request.body(Full::new(Bytes::copy_from_slice(body))).ok()
}

fn split_at(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == at)?;
    Some((&line[..at], &line[at + 1..]))
}

/// What no request may be answered with: a fault of the server, or JSON that is none.
fn judge(status: StatusCode, body: &[u8], is_json: bool) -> Result<(), String> {
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        return Err(format!("answered {status}: {}", String::from_utf8_lossy(body)));
    }
    if is_json && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_err() {
        return Err(format!("the answer is no JSON: {}", String::from_utf8_lossy(&body[..body.len().min(200)])));
    }
    Ok(())
}

impl Http {
    fn served(&mut self) -> Result<&(Handler<Routes>, Server), String> {
        if self.served.is_none() {
            let server = Server::start()?;
            let handler = Handler::new(server.router.clone(), mainstay_http::Config::default());
            self.served = Some((handler, server));
            self.inputs = 0;
        }
        self.served.as_ref().ok_or_else(|| "no server".into())
    }

    fn answer(&mut self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes, bool), String> {
        let (handler, server) = self.served()?;
        let work = async {
            let answer = handler.handle(request).await;
            let status = answer.status();
            let kind = answer.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
            let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok((status, body, is_json))
        };
        let answered = server.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
        answered.unwrap_or_else(|_| Err("there is no answer".into()))
    }

    /// The routes, from the document that describes them.
    fn learn(&mut self) -> Result<(), String> {
        let asked = request(b"GET /openapi.json\nhost: localhost\n\n").ok_or("no request")?;
        let (_, text, _) = self.answer(asked)?;
        let document: serde_json::Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let paths = document.get("paths").and_then(serde_json::Value::as_object).ok_or("no paths")?;
        let pairs = paths.iter().flat_map(|(path, verbs)| {
            let verbs = verbs.as_object().into_iter().flatten();
            verbs.map(move |(verb, _)| (verb.to_ascii_uppercase(), path.clone()))
        });
        self.routes = pairs.collect();
        if self.routes.is_empty() { Err("no routes".into()) } else { Ok(()) }
    }

    fn input(&self, prng: &mut Prng, number: usize) -> Vec<u8> {
        let (verb, template) = &self.routes[number];
        let mut path = String::new();
        for (at, piece) in template.split(['{', '}']).enumerate() {
            path += if at % 2 == 0 { piece } else { value(prng, piece) };
        }
        if prng.below(2) == 0 {
            const QUERIES: [&str; 8] = [
                "?pretty",
                "?noPayloadShorthand",
                "?execution.runId=&maximumPageSize=2",
                "?query=ExecutionStatus%3D%27Running%27&pageSize=-1",
                "?next_page_token=AAAA",
                "?waitNewEvent=true",
                "?taskQueueType=2&task_queue_type=X",
                "?a.b.c=d&a=%FF&&=",
            ];
            path += QUERIES[prng.below(8) as usize];
        }
        let kind = &self.kinds[prng.below(self.kinds.len() as u64) as usize];
        let message = self.generator.message(prng, kind, 0);
        let body = if verb == "GET" { String::new() } else { serde_json::to_string(&message).unwrap_or_default() };
        format!("{verb} {path}\n{HEADERS}\n\n{body}").into_bytes()
    }
}

/// A value of a path's parameter.
fn value(prng: &mut Prng, name: &str) -> &'static str {
    const OTHERS: [&str; 8] = ["w1", "w2", "q", "a%2Fb", "..%2F", "%00", "%F0%9F%98%80", ""];
    match prng.below(4) {
        0 => OTHERS[prng.below(8) as usize],
        _ if name.ends_with("namespace") => "default",
        _ => "w1",
    }
}

impl Target for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn words(&self) -> &'static [&'static str] {
        &[
            "/namespaces/default/workflows/w1",
            "/api/v1",
            "\"workflowType\": {\"name\": \"T\"}",
            "\"taskQueue\": \"q\"",
            "\"input\": [1, \"a\", null, {}]",
            "{\"_protoMessageType\": \"x\"}",
            "{\"metadata\": {\"encoding\": \"anNvbi9wbGFpbg==\"}, \"data\": \"MQ==\"}",
            "accept: application/json+pretty+no-payload-shorthand\n",
            "%2F",
            "?a=b&",
            "1e999",
            "\"\\ud800\"",
            "[[[[[[[[",
            "-0.5s",
            "\"9999-12-31T23:59:59.999999999Z\"",
        ]
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let start = format!(
            "POST /namespaces/default/workflows/w1\n{HEADERS}\n\n\
             {{\"workflowType\": {{\"name\": \"T\"}}, \"taskQueue\": {{\"name\": \"q\"}}, \"input\": [1]}}"
        );
        let history = format!("GET /api/v1/namespaces/default/workflows/w1/history?waitNewEvent=false\n{HEADERS}\n\n");
        vec![start.into_bytes(), history.into_bytes()]
    }

    fn generate(&mut self, prng: &mut Prng) -> Option<Vec<u8>> {
        if self.routes.is_empty() {
            self.learn().ok()?;
        }
        let number = prng.below(self.routes.len() as u64) as usize;
        Some(self.input(prng, number))
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        self.inputs += 1;
        if self.inputs > INPUTS {
            self.reset();
        }
        let Some(request) = request(input) else { return Ok("no request".into()) };
        let (status, body, is_json) = self.answer(request)?;
        judge(status, &body, is_json)?;
        Ok(format!("{status} {}", shape(&String::from_utf8_lossy(&body[..body.len().min(80)]))))
    }

    fn reset(&mut self) {
        self.served = None;
    }
}
