//! Requests into the whole server: frontend and node, on stores in memory.
//!
//! An input is calls one after another: two bytes choose the RPC, two say how long its request is, then comes that. The server
//! lives on from input to input, so that garbage meets what earlier garbage left; what is wrong is held against a fresh one.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::Request;
use http_body_util::{BodyExt, Full};
use mainstay_base::Prng;
use mainstay_frontend::Router;
use mainstay_node::{Config, Node, Stores};
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_storage::{MemoryLog, MemoryState};
use prost::Message;
use prost_reflect::MessageDescriptor;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::{Code, Status};

use super::{Target, shape};
use crate::generate::Generator;

/// A call that waits for more than this is given up, as its client would.
const DEADLINE: &str = "30m";
/// A server that does not answer in this time hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Inputs after which a fresh server begins.
const INPUTS: u32 = 400;

/// Every RPC of the server.
pub struct Requests {
    generator: Generator,
    methods: Vec<(String, MessageDescriptor)>,
    server: Option<Server>,
    inputs: u32,
}

/// What routes calls to the services.
pub(super) type Routes = Router<TokioRuntime, Node<TokioRuntime>>;

/// A whole server on stores in memory.
pub(super) struct Server {
    pub(super) runtime: Runtime,
    node: Node<TokioRuntime>,
    pub(super) router: Routes,
}

impl Default for Requests {
    fn default() -> Self {
        let generator = Generator::new();
        let methods = generator.methods();
        Self { generator, methods, server: None, inputs: 0 }
    }
}

impl Server {
    pub(super) fn start() -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let stores = Stores { log: Arc::new(MemoryLog::default()), state: Arc::new(MemoryState::default()) };
        let config = Config { cluster_id: "fuzz".into(), shards: 1, ..Config::default() };
        let node = runtime.block_on(Node::start(config, stores)).map_err(|error| error.to_string())?;
        let settings = mainstay_frontend::Config {
            poll_timeout: Duration::from_millis(20),
            history_timeout: Duration::from_millis(20),
            update_timeout: Duration::from_millis(20),
            workflow_pause: true,
            ..mainstay_frontend::Config::default()
        };
        let router = Router::new(node.clone(), settings);
        Ok(Self { runtime, node, router })
    }

    fn call(&self, path: &str, request: &[u8]) -> Result<Status, String> {
        let mut framed = vec![0];
        framed.put_u32(request.len() as u32);
        framed.extend_from_slice(request);
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", DEADLINE)
            .body(Body::new(Full::new(Bytes::from(framed))))
            .map_err(|error| error.to_string())?;
        let work = async {
            let answer = self.router.handle(request).await;
            let head = Status::from_header_map(answer.headers());
            let body = answer.into_body().collect().await.map_err(|status| status.to_string())?;
            let tail = body.trailers().and_then(Status::from_header_map);
            Ok::<_, String>(head.or(tail).unwrap_or_else(|| Status::ok("")))
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
        answered.unwrap_or_else(|_| Err(format!("{path} is not answered")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.runtime.block_on(self.node.stop());
    }
}

/// What no request may be answered with.
fn judge(path: &str, status: &Status) -> Result<(), String> {
    let unreadable = status.message().starts_with("grpc: error unmarshalling request");
    let fault = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
    if fault && !unreadable {
        return Err(format!("{path} answers {:?}: {}", status.code(), status.message()));
    }
    Ok(())
}

impl Requests {
    fn server(&mut self) -> Result<&Server, String> {
        if self.server.is_none() {
            self.server = Some(Server::start()?);
            self.inputs = 0;
        }
        self.server.as_ref().ok_or_else(|| "no server".into())
    }
}

impl Target for Requests {
    fn name(&self) -> &'static str {
        "frontend"
    }

    fn words(&self) -> &'static [&'static str] {
        &["default", "w1", "q", "UTC", "* * * * *", "ExecutionStatus = 'Running'"]
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut prng = Prng::new(1);
        (0..self.methods.len()).map(|number| self.input(&mut prng, number)).collect()
    }

    fn generate(&mut self, prng: &mut Prng) -> Option<Vec<u8>> {
        let calls = 1 + prng.below(4);
        let methods = self.methods.len() as u64;
        let mut input = Vec::new();
        for _ in 0..calls {
            let number = prng.below(methods) as usize;
            input.extend(self.input(prng, number));
        }
        Some(input)
    }

    fn run(&mut self, input: &[u8]) -> Result<String, String> {
        self.inputs += 1;
        if self.inputs > INPUTS {
            self.reset();
        }
        let mut answers = Vec::new();
        let mut rest = input;
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let number = usize::from(u16::from_be_bytes([head[0], head[1]])) % self.methods.len();
            let len = usize::from(u16::from_be_bytes([head[2], head[3]])).min(tail.len());
            let (request, next) = tail.split_at(len);
            rest = next;
            let path = self.methods[number].0.clone();
            let status = self.server()?.call(&path, request)?;
            judge(&path, &status)?;
            answers.push(format!("{number} {:?} {}", status.code(), shape(status.message())));
            if answers.len() == 8 {
                break;
            }
        }
        Ok(answers.join("; "))
    }

    fn reset(&mut self) {
        self.server = None;
    }
}

impl Requests {
    fn input(&self, prng: &mut Prng, number: usize) -> Vec<u8> {
        let request = self.generator.message(prng, &self.methods[number].1, 0).encode_to_vec();
        let request = &request[..request.len().min(usize::from(u16::MAX))];
        let mut input = Vec::new();
        input.put_u16(number as u16);
        input.put_u16(request.len() as u16);
        input.extend_from_slice(request);
        input
    }
}
