//! Services that remember what they were asked and answer what they were told.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use mainstay_http::{Backend, Config, Handler};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// One call that arrived.
#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    pub message: Bytes,
}

/// What it says to one call: an encoded message, or a refusal.
type Told = Result<Vec<u8>, Status>;

#[derive(Clone, Default)]
pub struct Fake {
    pub calls: Arc<Mutex<Vec<Call>>>,
    answers: Arc<Mutex<Vec<Told>>>,
}

impl Fake {
    /// Answers come in the order in which they were added; after the last, empty messages.
    pub fn answers(self, message: &impl Message) -> Self {
        self.answers.lock().unwrap().push(Ok(message.encode_to_vec()));
        self
    }

    pub fn refuses(self, status: Status) -> Self {
        self.answers.lock().unwrap().push(Err(status));
        self
    }

    pub fn handler(&self) -> Handler<Self> {
        Handler::new(self.clone(), Config::default())
    }

    /// The only call, decoded.
    pub fn asked<T: Message + Default>(&self) -> T {
        let calls = self.calls.lock().unwrap();
        let [call] = &calls[..] else { panic!("{} calls", calls.len()) };
        T::decode(call.message.clone()).unwrap()
    }
}

impl Backend for Fake {
    async fn call(&self, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let frame = body.collect().await.unwrap().to_bytes();
        assert_eq!(frame[0], 0);
        assert_eq!(u32::from_be_bytes(frame[1..5].try_into().unwrap()) as usize, frame.len() - 5);
        let call = Call { path: head.uri.path().into(), headers: head.headers, message: frame.slice(5..) };
        self.calls.lock().unwrap().push(call);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.is_empty() { Ok(Vec::new()) } else { answers.remove(0) };
        match answer {
            Ok(message) => {
                let mut frame = vec![0];
                frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
                frame.extend(message);
                Response::new(Body::new(Full::new(Bytes::from(frame))))
            }
            Err(status) => status.into_http(),
        }
    }
}

/// What came back: status, headers, text.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

pub async fn send(handler: &Handler<Fake>, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    send_request(handler, request.body(body.into()).unwrap()).await
}

pub async fn send_request(handler: &Handler<Fake>, request: Request<Bytes>) -> Answer {
    let (head, body) = request.into_parts();
    let answer = handler.handle(Request::from_parts(head, Full::new(body))).await;
    let (head, body) = answer.into_parts();
    let text = body.collect().await.unwrap().to_bytes();
    Answer { status: head.status.as_u16(), headers: head.headers, text: String::from_utf8(text.to_vec()).unwrap() }
}
