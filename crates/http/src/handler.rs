//! One request from its head to its answer.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use prost_reflect::{DescriptorPool, DynamicMessage};
use tokio::time::timeout;
use tonic::Code;

use crate::assets;
use crate::call::{self, Backend};
use crate::guard::{Guard, expect_json};
use crate::history::{self, Stream};
use crate::openapi::document;
use crate::problem::Problem;
use crate::routes::{Body, Found, Routes};
use crate::settings::settings;
use crate::{BODY_SIZE_MAX, Config, Dialect, json, query};

/// A body that is too large is still read this far: many clients see no answer before they have sent everything.
const BODY_SIZE_DRAINED: usize = 4 * BODY_SIZE_MAX;

/// A client that has not sent its body in this time is refused.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// An answer: whole, or a stream.
pub type Answer = Response<Either<Full<Bytes>, Stream>>;

/// Answers HTTP requests. Clones share everything.
#[derive(Clone)]
pub struct Handler<B> {
    backend: B,
    shared: Arc<Shared>,
}

struct Shared {
    guard: Guard,
    config: Config,
    /// Made at the first request: a server that nobody asks starts sooner without it.
    api: OnceLock<Result<Api, String>>,
    /// Made when it is first asked for.
    openapi: OnceLock<Bytes>,
}

/// What the descriptors say.
pub(crate) struct Api {
    pub(crate) pool: DescriptorPool,
    pub(crate) routes: Routes,
}

impl Api {
    pub(crate) fn new() -> Result<Self, String> {
        let pool = DescriptorPool::decode(mainstay_api::DESCRIPTOR_SET).map_err(|error| error.to_string())?;
        let routes = Routes::new(&pool)?;
        Ok(Self { pool, routes })
    }
}

impl<B: Backend> Handler<B> {
    /// A handler over the services.
    pub fn new(backend: B, config: Config) -> Self {
        let guard = Guard::new(&config.allowed_hosts);
        Self { backend, shared: Arc::new(Shared { guard, config, api: OnceLock::new(), openapi: OnceLock::new() }) }
    }

    /// Answers one request. Dropping the future cancels what it does.
    pub async fn handle<T>(&self, request: Request<T>) -> Answer
    where
        T: http_body::Body<Data = Bytes> + Send,
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let mut answer = match self.shared.api.get_or_init(Api::new) {
            Ok(api) => {
                let path_and_query = (request.uri().path(), request.uri().query().unwrap_or_default());
                let dialect = Dialect::of(path_and_query.0, path_and_query.1, request.headers());
                match self.answer(api, request, dialect).await {
                    Ok(answer) => answer,
                    Err(problem) => problem.response(&api.pool, dialect).map(|text| Either::Left(Full::new(text))),
                }
            }
            Err(reason) => {
                tracing::error!(reason, "the HTTP API has no routes");
                let mut answer = json_answer(b"{\"code\":13,\"message\":\"no routes\"}".to_vec());
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                answer
            }
        };
        let headers = answer.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        answer
    }

    async fn answer<T>(&self, api: &Api, request: Request<T>, dialect: Dialect) -> Result<Answer, Problem>
    where
        T: http_body::Body<Data = Bytes> + Send,
        T::Error: std::error::Error + Send + Sync + 'static,
    {
        let (head, body) = request.into_parts();
        self.shared.guard.admit(&head.method, &head.uri, &head.headers)?;
        let path = head.uri.path();
        let verb = if head.method == Method::HEAD { Method::GET } else { head.method };
        let interface =
            self.shared.config.ui_assets.as_ref().filter(|_| verb == Method::GET && !path.starts_with("/api/"));
        // Pages of the interface have paths that the services have too; only a browser that goes to one asks for HTML.
        if let Some(root) = interface.filter(|_| wants_html(&head.headers)) {
            return assets::serve(root, path).await;
        }
        if let Some(found) = api.routes.find(&verb, path)? {
            let message = request_message(found, head.uri.query().unwrap_or_default(), &head.headers, body, dialect);
            let (rpc, message) = message.await?;
            let answer = call::call(&self.backend, &rpc, &message, call::headers(&head.headers)).await?;
            let answer = DynamicMessage::decode(rpc.output(), answer)
                .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
            return Ok(json_answer(json::write(&answer, dialect)));
        }
        if let Some(run) = history::asked(path)? {
            only(&verb, &Method::GET)?;
            return history::download(self.backend.clone(), &api.pool, run, call::headers(&head.headers), dialect)
                .await;
        }
        match path {
            "/api/v1/settings" => {
                only(&verb, &Method::GET)?;
                Ok(json_answer(settings(&self.shared.config.codec_endpoint).to_string().into_bytes()))
            }
            "/openapi.json" | "/api/v1/openapi.json" => {
                only(&verb, &Method::GET)?;
                Ok(self.openapi(api, "application/json"))
            }
            // JSON is YAML.
            "/openapi.yaml" | "/api/v1/openapi.yaml" => {
                only(&verb, &Method::GET)?;
                Ok(self.openapi(api, "application/yaml"))
            }
            "/swagger.json" | "/api/v1/swagger.json" => Ok(moved("/openapi.json")),
            _ => match interface {
                Some(root) => assets::serve(root, path).await,
                None => Err(Problem::not_found()),
            },
        }
    }

    fn openapi(&self, api: &Api, kind: &'static str) -> Answer {
        let text = self.shared.openapi.get_or_init(|| document(api).to_string().into());
        let mut answer = Response::new(Either::Left(Full::new(text.clone())));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer
    }
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|kinds| kinds.contains("text/html"))
}

fn moved(to: &'static str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static(to));
    answer
}

fn only(verb: &Method, allowed: &Method) -> Result<(), Problem> {
    if verb == allowed { Ok(()) } else { Err(Problem::method_not_allowed(allowed.as_str())) }
}

/// The request of an RPC: from the body, then from the query, then from the path, which wins.
async fn request_message<T>(
    found: Found<'_>,
    query: &str,
    headers: &HeaderMap,
    body: T,
    dialect: Dialect,
) -> Result<(prost_reflect::MethodDescriptor, DynamicMessage), Problem>
where
    T: http_body::Body<Data = Bytes> + Send,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let Found { route, fields } = found;
    let eager = dialect.reads_shorthand;
    let mut message = match &route.body {
        Body::None => DynamicMessage::new(route.rpc.input()),
        Body::Whole => {
            let text = read_body(headers, body).await?;
            if text.is_empty() {
                DynamicMessage::new(route.rpc.input())
            } else {
                json::read(route.rpc.input(), &text, eager).map_err(Problem::invalid)?
            }
        }
        Body::Field(field) => {
            let text = read_body(headers, body).await?;
            let mut message = DynamicMessage::new(route.rpc.input());
            if let (prost_reflect::Kind::Message(kind), false) = (field.kind(), text.is_empty()) {
                let value = json::read(kind, &text, eager).map_err(Problem::invalid)?;
                message.set_field(field, prost_reflect::Value::Message(value));
            }
            message
        }
    };
    if route.body != Body::Whole {
        let taken: Vec<_> = fields.iter().map(|(fields, _)| *fields).collect();
        query::set_all(&mut message, query, &taken)?;
    }
    for (fields, text) in &fields {
        query::set(&mut message, fields, text)?;
    }
    Ok((route.rpc.clone(), message))
}

async fn read_body<T>(headers: &HeaderMap, body: T) -> Result<Bytes, Problem>
where
    T: http_body::Body<Data = Bytes> + Send,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let late = || Problem::invalid("the request body did not come in time").with(StatusCode::REQUEST_TIMEOUT);
    let text = timeout(BODY_TIMEOUT, collect(body)).await.map_err(|_| late())??;
    if !text.is_empty() {
        expect_json(headers)?;
    }
    Ok(text)
}

async fn collect<T>(body: T) -> Result<Bytes, Problem>
where
    T: http_body::Body<Data = Bytes> + Send,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let mut body = pin!(body);
    let (mut text, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.as_mut().frame().await {
        let frame = frame.map_err(|error| Problem::invalid(format!("the request body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= BODY_SIZE_MAX {
            text.extend_from_slice(&data);
        } else if length > BODY_SIZE_DRAINED {
            break;
        }
    }
    if length > BODY_SIZE_MAX {
        let text = format!("the request body is larger than {BODY_SIZE_MAX} bytes");
        return Err(Problem::invalid(text).with(StatusCode::PAYLOAD_TOO_LARGE));
    }
    Ok(text.into())
}

fn json_answer(text: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::from(text))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
