//! Asking a workflow (reference §2.9): rejected, refused at once, sent as a task of its own, or riding on a workflow task.

use std::sync::Arc;
use std::time::Duration;

use mainstay_api::log::{Command, ResetStickyTaskQueue, command::Op};
use mainstay_api::record::RunRecord;
use mainstay_api::temporal::common::v1::{Link, link};
use mainstay_api::temporal::enums::v1::{
    QueryRejectCondition, QueryResultType, ResourceExhaustedCause, WorkflowExecutionStatus as Status,
};
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::query::v1::{QueryRejected, WorkflowQueryResult};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::RunId;
use mainstay_engine::{EntityKey, Error};
use mainstay_matching::{QueueKey, QueueKind};
use mainstay_runtime::{Instant, Runtime, Select2, select2};
use tokio::sync::mpsc;

use crate::node::Node;
use crate::queries::{Answer, News, Question};
use crate::service::Namespace;
use crate::slots::Place;

/// A workflow task that failed this often makes a query fail at once.
const FAILING_FROM_ATTEMPT: i32 = 3;
const BUFFER_FULL: &str = "consistent query buffer is full, this may be caused by too many queries and workflow not able to process query fast enough";
const TIMED_OUT: &str = "query timed out before a worker could process it";

type Heard = mpsc::UnboundedReceiver<News>;

impl<R: Runtime> Node<R> {
    pub(crate) async fn ask(
        &self,
        namespace: Namespace,
        request: api::QueryWorkflowRequest,
        timeout: Duration,
    ) -> Result<api::QueryWorkflowResponse, Error> {
        let deadline = R::Instant::now() + timeout;
        let execution = request.execution.clone().unwrap_or_default();
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: execution.workflow_id };
        let group = self.route(&entity);
        let (run, record) = self.read_run(group, &entity, &execution.run_id)?;
        if is_rejected(&record, request.query_reject_condition()) {
            return Ok(api::QueryWorkflowResponse {
                query_rejected: Some(QueryRejected { status: record.status }),
                link: link_to(&namespace, &entity, run, "Query rejected"),
                query_result: None,
            });
        }
        let id = RunId::from_random(R::random()).to_string();
        let (question, mut heard) = Question::new(id, entity.clone(), run, request.query.unwrap_or_default());
        let _registered = self.board().questions.register(Arc::clone(&question));
        let answer = self.await_answer(group, &question, &mut heard, deadline).await?;
        match answer {
            Answer::Answered(query_result) => Ok(api::QueryWorkflowResponse {
                query_result,
                query_rejected: None,
                link: link_to(&namespace, &entity, run, "Query processed"),
            }),
            Answer::Failed { message, failure } => Err(Error::QueryFailed { message, failure }),
        }
    }

    async fn await_answer(
        &self,
        group: u32,
        question: &Arc<Question>,
        heard: &mut Heard,
        deadline: R::Instant,
    ) -> Result<Answer, Error> {
        let wait = self.board().waits.register(question.entity.clone(), question.run);
        loop {
            let changed = wait.changed();
            let record = self.read_record(group, &question.entity, question.run)?;
            if !question.is_held() {
                if goes_direct(&record)? {
                    self.board().questions.unbuffer(question);
                    return self.ask_directly(question, &record, heard, deadline).await;
                }
                if !self.board().questions.buffer(question, self.config().buffered_queries_max) {
                    return Err(Error::ResourceExhausted {
                        cause: ResourceExhaustedCause::BusyWorkflow,
                        message: BUFFER_FULL.into(),
                    });
                }
            }
            match self.within(deadline, select2(heard.recv(), changed)).await {
                None => return Err(Error::DeadlineExceeded(TIMED_OUT.into())),
                Some(Select2::First(Some(News::Answered(answer)))) => return Ok(answer),
                Some(_) => {}
            }
        }
    }

    /// Sends the query as a task: to the sticky queue while its worker lives, else to the normal one.
    async fn ask_directly(
        &self,
        question: &Arc<Question>,
        record: &RunRecord,
        heard: &mut Heard,
        deadline: R::Instant,
    ) -> Result<Answer, Error> {
        let queue = |name: &str| QueueKey {
            namespace_id: question.entity.namespace_id.clone(),
            name: name.to_string(),
            kind: QueueKind::Workflow,
        };
        let sticky = queue(&record.sticky_queue);
        // What a run got between its last workflow task and its end no worker has in memory, and a sticky queue is sent no history.
        let remembered = record.close_ns == 0 && !record.sticky_queue.is_empty();
        if remembered && self.has_recent_poller(&sticky).await {
            let patience = Duration::from_nanos(record.sticky_timeout_ns.max(0).unsigned_abs());
            let until = deadline.min(R::Instant::now() + patience);
            let task = self.board().dispatch.offer_question(Arc::clone(question), sticky, true, self.now());
            let taken = self.within(until, heard.recv()).await;
            match taken.flatten() {
                Some(News::Taken) => return self.hear_answer(heard, deadline).await,
                Some(News::Answered(answer)) => return Ok(answer),
                _ => {}
            }
            if !self.board().dispatch.retract_question(&task, question, self.now()) && taken_late(heard) {
                return self.hear_answer(heard, deadline).await;
            }
            self.forget_sticky(question).await;
        }
        let normal = queue(&record.task_queue);
        loop {
            let epoch = self.board().dispatch.owners().epoch;
            let task = self.board().dispatch.offer_question(Arc::clone(question), normal.clone(), false, self.now());
            let heard = select2(self.hear_answer(heard, deadline), self.board().members.divided_after(epoch)).await;
            self.board().dispatch.retract_question(&task, question, self.now());
            if let Select2::First(answer) = heard {
                return answer;
            }
            // The queue may have another owner now, who knows nothing of the query.
        }
    }

    async fn hear_answer(&self, heard: &mut Heard, deadline: R::Instant) -> Result<Answer, Error> {
        loop {
            match self.within(deadline, heard.recv()).await.flatten() {
                Some(News::Answered(answer)) => return Ok(answer),
                Some(_) => {}
                None => return Err(Error::DeadlineExceeded(TIMED_OUT.into())),
            }
        }
    }

    async fn forget_sticky(&self, question: &Question) {
        let command = Command {
            namespace_id: question.entity.namespace_id.clone(),
            workflow_id: question.entity.workflow_id.clone(),
            op: Some(Op::ResetSticky(ResetStickyTaskQueue { run_id: question.run.to_string() })),
            ..Command::default()
        };
        // A run that is closed or gone has no sticky queue to forget.
        let _refused = self.propose(Place::of(&question.entity), command).await;
    }

    pub(crate) fn answer_question(
        &self,
        query_id: &str,
        request: api::RespondQueryTaskCompletedRequest,
    ) -> Result<(), Error> {
        let answer = match request.completed_type() {
            QueryResultType::Failed => failed(request.error_message, request.failure),
            _ => Answer::Answered(request.query_result),
        };
        let gone = || Error::not_found("query task not found, or already expired");
        let question = self.board().questions.find(query_id).ok_or_else(gone)?;
        if question.answer(answer) { Ok(()) } else { Err(gone()) }
    }
}

/// Whether a poller had taken the query just when it was taken back.
fn taken_late(heard: &mut Heard) -> bool {
    while let Ok(news) = heard.try_recv() {
        if matches!(news, News::Taken) {
            return true;
        }
    }
    false
}

/// A result that came with a workflow task's completion.
pub(crate) fn answer_of(result: WorkflowQueryResult) -> Answer {
    match result.result_type() {
        QueryResultType::Failed => failed(result.error_message, result.failure),
        _ => Answer::Answered(result.answer),
    }
}

fn failed(message: String, failure: Option<Failure>) -> Answer {
    Answer::Failed { message, failure: Box::new(failure.unwrap_or_default()) }
}

fn is_rejected(record: &RunRecord, condition: QueryRejectCondition) -> bool {
    let status = record.status();
    match condition {
        _ if status == Status::Paused => true,
        QueryRejectCondition::NotOpen => status != Status::Running,
        QueryRejectCondition::NotCompletedCleanly => !matches!(status, Status::Running | Status::Completed),
        QueryRejectCondition::Unspecified | QueryRejectCondition::None => false,
    }
}

/// Whether a worker can answer without a workflow task; refused if none can for now.
fn goes_direct(record: &RunRecord) -> Result<bool, Error> {
    let open = matches!(record.status(), Status::Running | Status::Paused);
    let ever_completed = record.last_completed_started_event_id > 0;
    let pending = record.workflow_task.as_ref();
    if !open && !ever_completed {
        let text = "Workflow execution closed before WorkflowTaskStarted event";
        return Err(Error::WorkflowNotReady(text.into()));
    }
    if pending.is_some_and(|task| task.attempt >= FAILING_FROM_ATTEMPT) {
        return Err(Error::WorkflowNotReady("Unable to query workflow due to Workflow Task in failed state.".into()));
    }
    if !open {
        return Ok(true);
    }
    if pending.is_none() && !ever_completed {
        return Err(Error::WorkflowNotReady("Workflow task is not scheduled yet.".into()));
    }
    Ok(pending.is_none())
}

fn link_to(namespace: &Namespace, entity: &EntityKey, run: RunId, reason: &str) -> Option<Link> {
    let workflow = link::Workflow {
        namespace: namespace.name.clone(),
        workflow_id: entity.workflow_id.clone(),
        run_id: run.to_string(),
        reason: reason.into(),
    };
    Some(Link { variant: Some(link::Variant::Workflow(workflow)) })
}
