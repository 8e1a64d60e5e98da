//! Deliberate bugs at a server's edge: requests and answers are changed between a client and the network.
//!
//! What a client sees is what a server with the bug would answer; no trait of the server is needed for that.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use mainstay_api::temporal::enums::v1::{
    UpdateWorkflowExecutionLifecycleStage as Stage, WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use mainstay_api::temporal::update::v1::Outcome;
use mainstay_api::temporal::update::v1::outcome::Value;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, draw};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use crate::channel::Channel;
use crate::client::payloads;
use crate::mutant::Mutant;
use crate::updates::answer;

#[derive(Default)]
struct Edge {
    mutant: Option<Mutant>,
    activity: Option<Bytes>,
    descriptions: BTreeMap<Bytes, Bytes>,
    query: Option<Bytes>,
    update: Option<Bytes>,
}

thread_local! {
    static EDGE: RefCell<Edge> = RefCell::default();
}

/// Chooses the bug of the run on this thread.
pub fn choose(mutant: Option<Mutant>) {
    EDGE.set(Edge { mutant, ..Edge::default() });
}

/// The bug, if it is one of this kind.
pub(crate) fn chosen() -> Option<Mutant> {
    EDGE.with_borrow(|edge| edge.mutant).filter(|mutant| {
        matches!(
            mutant,
            Mutant::ReplyBeforeCommit
                | Mutant::RetryUnderAnotherId
                | Mutant::AcceptStaleToken
                | Mutant::StartTwice
                | Mutant::StaleDescribe
                | Mutant::ShortPage
                | Mutant::StaleQuery
                | Mutant::AcknowledgeNothing
                | Mutant::IgnoreConflictPolicy
                | Mutant::CompleteUpdateEarly
                | Mutant::ConfuseUpdates
                | Mutant::LoseActivityResult
                | Mutant::LoseSchedule
                | Mutant::ShortList
        )
    })
}

/// An update that is said to be completed, whatever became of it.
async fn completed_update(sent: api::UpdateWorkflowExecutionRequest, real: impl Future<Output = Answer>) -> Answer {
    let id = sent.request.and_then(|request| request.meta).unwrap_or_default().update_id;
    let parts = Parts::of(real.await?).await?;
    let Some(mut told) = parts.message::<api::UpdateWorkflowExecutionResponse>() else { return Ok(parts.whole()) };
    told.stage = Stage::Completed as i32;
    told.outcome = payloads(&answer(&id)).map(|value| Outcome { value: Some(Value::Success(value)) });
    Ok(Parts { body: frame(&told), ..parts }.whole())
}

type Answer = Result<Response<Body>, Status>;

/// A whole answer in parts: its frames and its trailers.
struct Parts {
    head: http::response::Parts,
    body: Bytes,
    trailers: HeaderMap,
}

impl Parts {
    async fn of(answer: Response<Body>) -> Result<Self, Status> {
        let (head, body) = answer.into_parts();
        let whole = body.collect().await?;
        let trailers = whole.trailers().cloned().unwrap_or_default();
        Ok(Self { head, body: whole.to_bytes(), trailers })
    }

    fn message<M: Message + Default>(&self) -> Option<M> {
        M::decode(self.body.get(5..)?).ok()
    }

    fn whole(self) -> Response<Body> {
        let trailers = self.trailers;
        Response::from_parts(
            self.head,
            Body::new(Full::new(self.body).with_trailers(async move { Some(Ok(trailers)) })),
        )
    }
}

/// One message as gRPC frames it.
fn frame(message: &impl Message) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.encoded_len() as u32);
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}

fn accepted(body: Bytes) -> Response<Body> {
    let mut head = Response::new(()).into_parts().0;
    head.headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let trailers = [("grpc-status", "0")].into_iter();
    let trailers = trailers.filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_static(value))));
    Parts { head, body, trailers: trailers.collect() }.whole()
}

/// Sends a request through the bug.
pub(crate) async fn call(channel: Channel, mutant: Mutant, request: Request<Body>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let method = head.uri.path().rsplit('/').next().unwrap_or_default().to_string();
    let send = |body: Bytes| {
        let request = Request::from_parts(head.clone(), Body::new(Full::new(body)));
        channel.clone().send(request)
    };
    match (mutant, method.as_str()) {
        (Mutant::ReplyBeforeCommit, "SignalWorkflowExecution") => {
            let sent = send(body);
            drop(SimRuntime::spawn(async move {
                SimRuntime::sleep(Duration::from_millis(draw(1..300))).await;
                let _ = sent.await;
            }));
            Ok(accepted(frame(&api::SignalWorkflowExecutionResponse::default())))
        }
        (Mutant::AcknowledgeNothing, "SignalWorkflowExecution") if draw(0..20) == 0 => {
            Ok(accepted(frame(&api::SignalWorkflowExecutionResponse::default())))
        }
        (Mutant::CompleteUpdateEarly, "UpdateWorkflowExecution") => {
            let sent = api::UpdateWorkflowExecutionRequest::decode(body.slice(5..)).unwrap_or_default();
            completed_update(sent, send(body.clone())).await
        }
        (Mutant::LoseActivityResult, "RespondActivityTaskCompleted") if draw(0..10) == 0 => {
            Ok(accepted(frame(&api::RespondActivityTaskCompletedResponse::default())))
        }
        (Mutant::LoseSchedule, "CreateSchedule") if draw(0..2) == 0 => {
            Ok(accepted(frame(&api::CreateScheduleResponse::default())))
        }
        (Mutant::RetryUnderAnotherId, "SignalWorkflowExecution") if draw(0..10) == 0 => {
            let answer = send(body.clone()).await;
            if let Ok(mut again) = api::SignalWorkflowExecutionRequest::decode(body.slice(5..)) {
                again.request_id.push_str("-again");
                let _ = send(frame(&again)).await;
            }
            answer
        }
        (Mutant::IgnoreConflictPolicy, "StartWorkflowExecution") => {
            let mut start = api::StartWorkflowExecutionRequest::decode(body.slice(5..)).unwrap_or_default();
            start.workflow_id_conflict_policy = WorkflowIdConflictPolicy::TerminateExisting as i32;
            start.workflow_id_reuse_policy = WorkflowIdReusePolicy::AllowDuplicate as i32;
            send(frame(&start)).await
        }
        _ => answered(mutant, &method, &body, send(body.clone()).await?).await,
    }
}

/// Changes an answer.
async fn answered(mutant: Mutant, method: &str, request: &Bytes, answer: Response<Body>) -> Answer {
    let mut parts = Parts::of(answer).await?;
    let status = parts.trailers.get("grpc-status").or_else(|| parts.head.headers.get("grpc-status"));
    let good = status.is_none_or(|status| status == "0");
    match (mutant, method) {
        (Mutant::AcceptStaleToken, "RespondWorkflowTaskCompleted") if !good => {
            return Ok(accepted(frame(&api::RespondWorkflowTaskCompletedResponse::default())));
        }
        (Mutant::StartTwice, "PollActivityTaskQueue") if good => {
            let again = EDGE.with_borrow_mut(|edge| edge.activity.replace(parts.body.clone()));
            if let Some(again) = again.filter(|_| draw(0..10) == 0) {
                parts.body = again;
            }
        }
        (Mutant::StaleDescribe, "DescribeWorkflowExecution") if good => {
            let old = EDGE.with_borrow_mut(|edge| edge.descriptions.insert(request.clone(), parts.body.clone()));
            parts.body = old.unwrap_or(parts.body);
        }
        (Mutant::StaleQuery, "QueryWorkflow") if good => {
            let old = EDGE.with_borrow_mut(|edge| edge.query.replace(parts.body.clone()));
            parts.body = old.unwrap_or(parts.body);
        }
        (Mutant::ConfuseUpdates, "UpdateWorkflowExecution") if good => {
            if let Some(mut told) = parts.message::<api::UpdateWorkflowExecutionResponse>()
                && let Some(outcome) = told.outcome.as_ref()
            {
                let own = Bytes::from(outcome.encode_to_vec());
                let old = EDGE.with_borrow_mut(|edge| edge.update.replace(own));
                told.outcome = old.and_then(|old| Message::decode(old).ok()).or(told.outcome);
                parts.body = frame(&told);
            }
        }
        (Mutant::ShortList, "ListWorkflowExecutions") if good => {
            if let Some(mut page) = parts.message::<api::ListWorkflowExecutionsResponse>()
                && page.executions.len() > 1
            {
                page.executions.pop();
                parts.body = frame(&page);
            }
        }
        (Mutant::ShortPage, "GetWorkflowExecutionHistory") if good => {
            if let Some(mut page) = parts.message::<api::GetWorkflowExecutionHistoryResponse>()
                && !page.next_page_token.is_empty()
                && let Some(history) = page.history.as_mut()
                && history.events.len() > 1
            {
                history.events.pop();
                parts.body = frame(&page);
            }
        }
        _ => {}
    }
    Ok(parts.whole())
}
