//! UpdateWorkflowExecution and PollWorkflowExecutionUpdate: an update is found by its id or admitted, and its caller waits for a
//! stage of it (reference §2.10).
//!
//! What a caller is told is read anew after each change of the run: from the update's row and its events once it is accepted, from the
//! leader's memory before. A caller whose patience ends is told the stage that was reached; a caller whose own time is up hears that.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mainstay_api::log::{Command, ForgetRun, TaskToken, command::Op};
use mainstay_api::record::{BroughtBack, RunRecord, UpdateRecord};
use mainstay_api::temporal::common::v1::{Link, WorkflowExecution, link};
use mainstay_api::temporal::enums::v1::{
    EventType, UpdateWorkflowExecutionLifecycleStage as Stage, WorkflowExecutionStatus as Status,
};
use mainstay_api::temporal::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use mainstay_api::temporal::history::v1::{HistoryEvent, history_event::Attributes};
use mainstay_api::temporal::protocol::v1::Message as ProtocolMessage;
use mainstay_api::temporal::update::v1::{Meta, Outcome, Rejection, Request, UpdateRef, outcome};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::RunId;
use mainstay_engine::{EntityKey, Error};
use mainstay_runtime::{Instant, Runtime};
use prost::Message;

use crate::node::Node;
use crate::service::{Namespace, Patience};
use crate::slots::Place;
use crate::speculative::update_row;
use crate::unreadable;
use crate::updates::{Fate, Update};

/// A workflow task that failed this often makes an update fail at once.
const FAILING_FROM_ATTEMPT: i32 = 3;
const REJECTION: &str = "/temporal.api.update.v1.Rejection";

/// An update that somebody waits for.
pub(crate) struct Followed {
    pub(crate) entity: EntityKey,
    pub(crate) run: RunId,
    pub(crate) id: String,
    /// What the leader's memory has of it.
    update: Option<Arc<Update>>,
}

/// How far an update has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) stage: Stage,
    pub(crate) outcome: Option<Outcome>,
}

impl Progress {
    fn at(stage: Stage) -> Self {
        Self { stage, outcome: None }
    }

    fn failed(failure: Failure) -> Self {
        let outcome = Outcome { value: Some(outcome::Value::Failure(failure)) };
        Self { stage: Stage::Completed, outcome: Some(outcome) }
    }
}

impl<R: Runtime> Node<R> {
    pub(crate) async fn update_workflow(
        &self,
        namespace: Namespace,
        request: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> Result<api::UpdateWorkflowExecutionResponse, Error> {
        let deadline = R::Instant::now() + patience.timeout;
        let execution = request.workflow_execution.unwrap_or_default();
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: execution.workflow_id };
        let group = self.route(&entity);
        let (run, _) = self.read_run(group, &entity, &execution.run_id)?;
        let first = &request.first_execution_run_id;
        if !first.is_empty() && *first != self.read_details(group, &entity, run)?.first_execution_run_id {
            self.forget_run(&entity, run).await?;
            return Err(Error::not_found("workflow execution not found"));
        }
        let followed = self.admit_update(entity, run, request.request.unwrap_or_default()).await?;
        let stage = request.wait_policy.map_or(Stage::Unspecified, |policy| policy.lifecycle_stage());
        let progress = self.await_update(&followed, stage, deadline, patience.is_callers).await?;
        Ok(self.update_response(&namespace, &followed, progress))
    }

    pub(crate) async fn await_known_update(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowExecutionUpdateRequest,
        patience: Patience,
    ) -> Result<api::PollWorkflowExecutionUpdateResponse, Error> {
        let deadline = R::Instant::now() + patience.timeout;
        let reference = request.update_ref.unwrap_or_default();
        let execution = reference.workflow_execution.unwrap_or_default();
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: execution.workflow_id };
        let (run, _) = self.read_run(self.route(&entity), &entity, &execution.run_id)?;
        let followed = self.follow_update(entity, run, &reference.update_id)?;
        let missing = || Error::not_found(format!("update \"{}\" not found", reference.update_id));
        let followed = followed.ok_or_else(missing)?;
        let stage = request.wait_policy.map_or(Stage::Unspecified, |policy| policy.lifecycle_stage());
        let progress = self.await_update(&followed, stage, deadline, patience.is_callers).await?;
        Ok(api::PollWorkflowExecutionUpdateResponse {
            outcome: progress.outcome,
            stage: progress.stage as i32,
            update_ref: Some(reference_to(&followed)),
        })
    }

    /// The update with this id, if history or the leader's memory has it. One that a reset brought back, and that a worker has passed over
    /// since, is not known any more.
    pub(crate) fn follow_update(&self, entity: EntityKey, run: RunId, id: &str) -> Result<Option<Followed>, Error> {
        let mut update = self.board().updates.find(&entity, run, id);
        if update.is_none() {
            let Some(known) = self.update_record(&entity, run, id)? else { return Ok(None) };
            let record = self.read_record(self.route(&entity), &entity, run)?;
            if known.accepted_event_id == 0 && record.close_ns == 0 {
                let Some(sent_ns) = brought_with(&record) else { return Ok(None) };
                let meta = Some(Meta { update_id: id.to_string(), ..Meta::default() });
                let followed = Update::new(Request { meta, ..Request::default() });
                self.board().updates.follow(self.route(&entity), &entity, run, Arc::clone(&followed), sent_ns);
                update = Some(followed);
            }
        }
        Ok(Some(Followed { entity, run, id: id.to_string(), update }))
    }

    /// Finds an update, or admits it and makes sure that a workflow task carries it.
    pub(crate) async fn admit_update(
        &self,
        entity: EntityKey,
        run: RunId,
        request: Request,
    ) -> Result<Followed, Error> {
        let admitted = self.find_or_admit(&entity, run, Update::new(request));
        if admitted.is_err() {
            if check_open(&self.read_record(self.route(&entity), &entity, run)?).is_err() {
                self.forget_run(&entity, run).await?;
            } else {
                // It was one too many. Were the others' task void for that, a client that insists would keep a worker from them for ever.
                self.board().waits.refused(&entity, run);
            }
        }
        admitted
    }

    /// An update was refused before anything of it came to the log: does to its run what a refusal does.
    async fn forget_run(&self, entity: &EntityKey, run: RunId) -> Result<(), Error> {
        self.drop_memory(entity, run);
        let record = self.read_record(self.route(entity), entity, run)?;
        if record.close_ns != 0 || !mainstay_engine::remembers(&record) {
            return Ok(());
        }
        let command = Command {
            namespace_id: entity.namespace_id.clone(),
            workflow_id: entity.workflow_id.clone(),
            op: Some(Op::ForgetRun(ForgetRun { run_id: run.to_string() })),
            ..Command::default()
        };
        self.propose(Place::of(entity), command).await.map(drop)
    }

    fn find_or_admit(&self, entity: &EntityKey, run: RunId, update: Arc<Update>) -> Result<Followed, Error> {
        let updates = &self.board().updates;
        {
            let _settling = updates.settling();
            if let Some(known) = self.follow_update(entity.clone(), run, &update.id)? {
                return Ok(known);
            }
            let group = self.route(entity);
            let record = self.read_record(group, entity, run)?;
            check_open(&record)?;
            updates.admit(group, entity, run, &record, Arc::clone(&update))?;
        }
        self.settle(entity, run)?;
        Ok(Followed { entity: entity.clone(), run, id: update.id.clone(), update: Some(update) })
    }

    /// The update that was admitted with the start of its run.
    pub(crate) fn follow_started(&self, entity: EntityKey, run: RunId, update: Arc<Update>) -> Followed {
        Followed { entity, run, id: update.id.clone(), update: Some(update) }
    }

    fn update_record(&self, entity: &EntityKey, run: RunId, id: &str) -> Result<Option<UpdateRecord>, Error> {
        self.shard(self.route(entity))?.record(entity, &update_row(run, id)).map_err(unreadable)
    }

    /// Whether history has an update's outcome.
    pub(crate) fn has_outcome(&self, followed: &Followed) -> Result<bool, Error> {
        let known = self.update_record(&followed.entity, followed.run, &followed.id)?;
        Ok(known.is_some_and(|known| known.completed_event_id != 0))
    }

    /// Waits until an update has reached a stage; then, or when time is up, answers how far it has come. An unspecified stage is
    /// reached at once.
    pub(crate) async fn await_update(
        &self,
        followed: &Followed,
        stage: Stage,
        deadline: R::Instant,
        is_callers: bool,
    ) -> Result<Progress, Error> {
        let wait = self.board().waits.register(followed.entity.clone(), followed.run);
        let mut refusals = wait.refusals();
        loop {
            let changed = wait.changed();
            let progress = self.update_progress(followed)?;
            // Whoever waits for the outcome of an accepted update hears of it early when a call about the run is refused, as with the
            // reference server, which then drops what it keeps of the run in memory.
            let before = std::mem::replace(&mut refusals, wait.refusals());
            let interrupted = progress.stage == Stage::Accepted && refusals != before;
            if progress.stage as i32 >= stage as i32 || interrupted {
                return Ok(progress);
            }
            if self.within(deadline, changed).await.is_some() {
                continue;
            }
            return match () {
                () if self.is_stopped() => Err(Error::Unavailable("server is shutting down".into())),
                () if is_callers => Err(Error::DeadlineExceeded("context deadline exceeded".into())),
                () => Ok(progress),
            };
        }
    }

    fn update_progress(&self, followed: &Followed) -> Result<Progress, Error> {
        let shard = self.shard(self.route(&followed.entity))?;
        // Before the row: what is open here and has no row has none yet.
        let record = shard.run(&followed.entity, followed.run).map_err(unreadable)?;
        let known = self.update_record(&followed.entity, followed.run, &followed.id)?.unwrap_or_default();
        if known.completed_event_id != 0 {
            let outcome = self.outcome(followed, &known)?;
            return Ok(Progress { stage: Stage::Completed, outcome });
        }
        let closed = record.as_ref().is_none_or(|record| record.close_ns != 0);
        if known.accepted_event_id != 0 {
            return Ok(if closed {
                Progress::failed(closed_before_completion())
            } else {
                Progress::at(Stage::Accepted)
            });
        }
        match followed.update.as_ref().and_then(|update| update.fate()) {
            Some(Fate::Rejected(failure)) => Ok(Progress::failed(failure)),
            Some(Fate::Aborted(error)) => Err(error),
            // Whoever closed the run tells next what became of it.
            None if closed && self.is_under_way(followed) => Ok(Progress::at(Stage::Admitted)),
            None if closed => Err(self.aborted_by_close(&followed.entity, followed.run, record.as_ref())?),
            None => Ok(Progress::at(Stage::Admitted)),
        }
    }

    fn is_under_way(&self, followed: &Followed) -> bool {
        self.board().updates.find(&followed.entity, followed.run, &followed.id).is_some()
    }

    fn outcome(&self, followed: &Followed, known: &UpdateRecord) -> Result<Option<Outcome>, Error> {
        let (batch, event) = (known.completed_batch_event_id, known.completed_event_id);
        let mut encoded = None;
        let visit = &mut |(first, batch): (i64, mainstay_api::RawHistory)| {
            let at = usize::try_from(event - first).unwrap_or(usize::MAX);
            encoded = batch.events.into_iter().nth(at);
            false
        };
        let shard = self.shard(self.route(&followed.entity))?;
        shard.history(&followed.entity, followed.run, batch, batch + 1, false, visit).map_err(unreadable)?;
        let event = encoded.and_then(|encoded| HistoryEvent::decode(encoded).ok()).and_then(|event| event.attributes);
        match event {
            Some(Attributes::WorkflowExecutionUpdateCompletedEventAttributes(a)) => Ok(a.outcome),
            _ => Err(Error::Internal("the event of an update is not where its row says".into())),
        }
    }

    pub(crate) fn update_response(
        &self,
        namespace: &Namespace,
        followed: &Followed,
        progress: Progress,
    ) -> api::UpdateWorkflowExecutionResponse {
        let link = match progress.stage {
            Stage::Accepted | Stage::Completed => Some(link_to(namespace, followed, &progress)),
            _ => None,
        };
        api::UpdateWorkflowExecutionResponse {
            update_ref: Some(reference_to(followed)),
            outcome: progress.outcome,
            stage: progress.stage as i32,
            link,
        }
    }
}

/// What a completion says of updates.
pub(crate) struct Answers {
    started_ns: i64,
    rejections: Vec<(String, Failure)>,
    /// Updates that the worker accepted or completed.
    others: BTreeSet<String>,
    pub(crate) heartbeat: bool,
    pub(crate) wants_next: bool,
    pub(crate) identity: String,
}

impl Answers {
    pub(crate) fn of(token: &TaskToken, request: &api::RespondWorkflowTaskCompletedRequest) -> Self {
        let rejection = |message: &ProtocolMessage| {
            let body = message.body.as_ref().filter(|body| body.type_url.ends_with(REJECTION))?;
            let rejection = Rejection::decode(body.value.as_slice()).ok()?;
            Some((message.protocol_instance_id.clone(), rejection.failure.unwrap_or_default()))
        };
        let is_other = |message: &&ProtocolMessage| rejection(message).is_none();
        let others = request.messages.iter().filter(is_other).map(|m| m.protocol_instance_id.clone()).collect();
        Self {
            others,
            started_ns: token.started_ns,
            rejections: request.messages.iter().filter_map(rejection).collect(),
            heartbeat: request.force_create_new_workflow_task,
            wants_next: request.return_new_workflow_task,
            identity: request.identity.clone(),
        }
    }
}

impl<R: Runtime> Node<R> {
    /// Tells the callers of updates what a completion, or its refusal, means for them.
    pub(crate) fn end_updates(
        &self,
        entity: &EntityKey,
        run: RunId,
        answers: &Answers,
        refused: Option<&Error>,
    ) -> Result<(), Error> {
        let record = self.shard(self.route(entity))?.run(entity, run).map_err(unreadable)?;
        let open = record.as_ref().is_some_and(|record| record.close_ns == 0);
        let fate = |id: &str, again: bool| match refused {
            // The task was over before its worker answered, who may have done nothing wrong: the next task brings the updates again.
            Some(error) if mainstay_engine::is_task_gone(error) => None,
            Some(_) => {
                let text = "Unable to perform workflow execution update due to unexpected workflow task failure.";
                open.then(|| Fate::Aborted(Error::WorkflowNotReady(text.into())))
            }
            None => {
                let rejected = answers.rejections.iter().find(|(rejected, _)| rejected == id);
                let failure = rejected.map(|(_, failure)| failure.clone());
                failure.or_else(|| (open && !answers.heartbeat && !again).then(unprocessed)).map(Fate::Rejected)
            }
        };
        let goes_on = |record: &RunRecord| {
            let pending = record.workflow_task.clone().or_else(|| self.board().updates.task(entity, run));
            pending.is_some_and(|task| task.started_ns == answers.started_ns)
        };
        // A refusal that changed nothing leaves the task with its worker; but one for a bad command ends what came with it.
        let bad_command = refused.is_some_and(|error| {
            matches!(error, Error::InvalidArgument(_)) && !mainstay_engine::is_bad_sequence(error)
        });
        if refused.is_none() || bad_command || !record.as_ref().is_some_and(goes_on) {
            if refused.is_none() && !open {
                // What a worker said of updates holds though it closed the run, but for what came too late to be written.
                let said = |id: &str| {
                    let late = || Fate::Aborted(aborted_by_closing());
                    let rejected = answers.rejections.iter().find(|(rejected, _)| rejected == id);
                    let failure = rejected.map(|(_, failure)| Fate::Rejected(failure.clone()));
                    failure.or_else(|| answers.others.contains(id).then(late))
                };
                self.board().updates.end_said(entity, run, answers.started_ns, said);
            }
            self.settle(entity, run)?;
            self.board().updates.end_sent(entity, run, answers.started_ns, fate);
            self.board().waits.wake(entity.clone(), run);
        }
        Ok(())
    }
}

/// Of an update that was not accepted when its run closed for good.
pub(crate) fn aborted_by_closing() -> Error {
    Error::not_found("workflow update was aborted by closing workflow")
}

fn check_open(record: &RunRecord) -> Result<(), Error> {
    match record.status() {
        Status::Running => {}
        Status::Paused => return Err(Error::FailedPrecondition("Workflow is paused.".into())),
        _ => return Err(Error::not_found("workflow execution already completed")),
    }
    let started = record.workflow_task.as_ref().is_some_and(|task| task.started_event_id != 0);
    if record.close_attempted && started {
        return Err(mainstay_engine::closing());
    }
    if record.workflow_task.as_ref().is_some_and(|task| task.attempt >= FAILING_FROM_ATTEMPT) {
        let text = "Unable to perform workflow execution update due to Workflow Task in failed state.";
        return Err(Error::WorkflowNotReady(text.into()));
    }
    Ok(())
}

/// When the task started that brought a worker what a reset brought back: 0 if the next one does, None if a worker has passed it over.
fn brought_with(record: &RunRecord) -> Option<i64> {
    if record.brought_back() == BroughtBack::Waiting {
        return Some(0);
    }
    record.workflow_task.as_ref().filter(|task| task.started_event_id != 0).map(|task| task.started_ns)
}

fn reference_to(followed: &Followed) -> UpdateRef {
    UpdateRef {
        workflow_execution: Some(WorkflowExecution {
            workflow_id: followed.entity.workflow_id.clone(),
            run_id: followed.run.to_string(),
        }),
        update_id: followed.id.clone(),
    }
}

fn link_to(namespace: &Namespace, followed: &Followed, progress: &Progress) -> Link {
    let (namespace, workflow_id) = (namespace.name.clone(), followed.entity.workflow_id.clone());
    let run_id = followed.run.to_string();
    let failed = matches!(progress.outcome, Some(Outcome { value: Some(outcome::Value::Failure(_)) }));
    // As the reference server has it: also of a handler that failed.
    let variant = if failed {
        link::Variant::Workflow(link::Workflow { namespace, workflow_id, run_id, reason: "Update rejected".into() })
    } else {
        let reference = link::workflow_event::RequestIdReference {
            request_id: followed.update.as_ref().map(|update| update.request.request_id.clone()).unwrap_or_default(),
            event_type: EventType::WorkflowExecutionUpdateAccepted as i32,
        };
        let reference = Some(link::workflow_event::Reference::RequestIdRef(reference));
        link::Variant::WorkflowEvent(link::WorkflowEvent { namespace, workflow_id, run_id, reference })
    };
    Link { variant: Some(variant) }
}

fn server_failure(message: &str, kind: &str) -> Failure {
    let info = ApplicationFailureInfo { r#type: kind.into(), non_retryable: true, ..ApplicationFailureInfo::default() };
    Failure {
        message: message.into(),
        source: "Server".into(),
        failure_info: Some(FailureInfo::ApplicationFailureInfo(info)),
        ..Failure::default()
    }
}

/// Of an accepted update whose run closed.
fn closed_before_completion() -> Failure {
    let text = "Workflow Update failed because the Workflow completed before the Update completed.";
    server_failure(text, "AcceptedUpdateCompletedWorkflow")
}

/// Of an update that a worker was sent and did not answer.
pub(crate) fn unprocessed() -> Failure {
    let text = "Workflow Update is rejected because it wasn't processed by worker. Probably, Workflow Update is not \
                supported by the worker.";
    server_failure(text, "UnprocessedUpdate")
}

impl Patience {
    /// Waits this long, then answers what was reached.
    #[must_use]
    pub fn of_server(timeout: Duration) -> Self {
        Self { timeout, is_callers: false }
    }

    /// Waits this long; then the caller's time is up.
    #[must_use]
    pub fn of_caller(timeout: Duration) -> Self {
        Self { timeout, is_callers: true }
    }
}
