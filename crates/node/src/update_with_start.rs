//! Update-with-start: a workflow is started with an update, or a running one is updated (reference §2.11).
//!
//! The update of a new run is admitted before its first workflow task is offered, so that it rides on it: it is kept aside while the
//! start is proposed, and apply tells when the run is there.

use std::sync::Arc;

use mainstay_api::log::{Command, StartWorkflow, command::Op, reply};
use mainstay_api::record::{RequestIdRecord, RunRecord};
use mainstay_api::temporal::common::v1::{Link, link};
use mainstay_api::temporal::enums::v1::{
    EventType, UpdateWorkflowExecutionLifecycleStage as Stage, WorkflowIdConflictPolicy as Conflict,
};
use mainstay_api::temporal::update::v1::Request;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::RunId;
use mainstay_engine::{EntityKey, Error, Row, Table};
use mainstay_runtime::{Instant, Runtime};

use crate::node::Node;
use crate::service::{MultiError, Namespace, Patience, UpdatedWithStart};
use crate::unreadable;
use crate::update::{Followed, aborted_by_closing};
use crate::updates::{Update, Updates};

/// What the current run means for the call.
enum Target {
    /// The update's outcome is known; its run may be closed.
    Known(Followed, Box<RunRecord>),
    /// The open run is to be updated.
    Update(RunId),
    Start,
}

/// Keeps an update aside while its run is being started.
struct Expected<'a> {
    updates: &'a Updates,
    update: &'a Arc<Update>,
}

impl Expected<'_> {
    /// Whether the run began, and has the update.
    fn is_admitted(&self) -> bool {
        !self.updates.forget_start(self.update)
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.updates.forget_start(self.update);
    }
}

impl<R: Runtime> Node<R> {
    /// As [`Node::start_and_update`], for a caller that may have to ask the next leader: that this one is none any more is told apart.
    pub(crate) async fn start_and_update_here(
        &self,
        namespace: Namespace,
        start: api::StartWorkflowExecutionRequest,
        update: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> Result<Result<UpdatedWithStart, MultiError>, Error> {
        match self.start_and_update(namespace, start, update, patience).await {
            Err(
                MultiError::Start(Error::Moved)
                | MultiError::Update(Error::Moved)
                | MultiError::UpdateOfStarted(Error::Moved)
                | MultiError::Whole(Error::Moved),
            ) => Err(Error::Moved),
            done => Ok(done),
        }
    }

    pub(crate) async fn start_and_update(
        &self,
        namespace: Namespace,
        start: api::StartWorkflowExecutionRequest,
        update: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> Result<UpdatedWithStart, MultiError> {
        let deadline = R::Instant::now() + patience.timeout;
        let call = (start.clone(), update.clone());
        let first = self.start_or_update(&namespace, call.0, call.1, deadline, patience.is_callers).await;
        if !is_aborted_by_closing(&first) {
            return first;
        }
        // The run that was to be updated closed: now one can be started, so that the caller need not ask again.
        let second = self.start_or_update(&namespace, start, update, deadline, patience.is_callers).await;
        match second {
            Err(MultiError::Update(Error::NotFound(text))) if text == aborted_by_closing().to_string() => {
                Err(MultiError::Update(Error::Aborted(text)))
            }
            other => other,
        }
    }

    async fn start_or_update(
        &self,
        namespace: &Namespace,
        start: api::StartWorkflowExecutionRequest,
        update: api::UpdateWorkflowExecutionRequest,
        deadline: R::Instant,
        is_callers: bool,
    ) -> Result<UpdatedWithStart, MultiError> {
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: start.workflow_id.clone() };
        let stage = update.wait_policy.map_or(Stage::Unspecified, |policy| policy.lifecycle_stage());
        let request = update.request.unwrap_or_default();
        let (followed, started) = match self.target(&entity, &start, &request).map_err(MultiError::Whole)? {
            Target::Known(followed, record) => {
                let progress = self.await_update(&followed, stage, deadline, is_callers).await;
                let mut updated = self.update_response(namespace, &followed, progress.map_err(MultiError::Update)?);
                updated.link = None;
                let run_id = record.run_id.clone();
                let started =
                    api::StartWorkflowExecutionResponse { run_id, status: record.status, ..Default::default() };
                return Ok((started, updated));
            }
            Target::Update(run) => self.update_existing(namespace, &entity, run, request).await?,
            Target::Start => self.start_with(namespace, &entity, start, request).await?,
        };
        let progress = self.await_update(&followed, stage, deadline, is_callers).await;
        let progress = progress.map_err(|error| match error {
            Error::DeadlineExceeded(_) => MultiError::Whole(error),
            error if started.started => MultiError::UpdateOfStarted(error),
            error => MultiError::Update(error),
        })?;
        Ok((started, self.update_response(namespace, &followed, progress)))
    }

    fn target(
        &self,
        entity: &EntityKey,
        start: &api::StartWorkflowExecutionRequest,
        update: &Request,
    ) -> Result<Target, Error> {
        let shard = self.shard(self.route(entity))?;
        let Some(execution) = shard.execution(entity).map_err(unreadable)? else { return Ok(Target::Start) };
        let run: RunId = execution.current_run_id.parse().map_err(|_| Error::invalid("Invalid RunId."))?;
        let record = self.read_record(self.route(entity), entity, run)?;
        let id = update.meta.as_ref().map_or("", |meta| meta.update_id.as_str());
        if let Some(followed) = self.follow_update(entity.clone(), run, id)? {
            if self.has_outcome(&followed)? {
                return Ok(Target::Known(followed, Box::new(record)));
            }
            // What a closed run left unfinished is no answer: the update belongs to the run to come.
            if record.close_ns == 0 {
                return Ok(Target::Update(run));
            }
        }
        let row = Row { table: Table::RequestId, run: Some(run), id: start.request_id.clone().into_bytes() };
        let repeated = shard.record::<RequestIdRecord>(entity, &row).map_err(unreadable)?.is_some();
        let used = repeated || start.workflow_id_conflict_policy() == Conflict::UseExisting;
        Ok(if record.close_ns == 0 && used { Target::Update(run) } else { Target::Start })
    }

    async fn update_existing(
        &self,
        namespace: &Namespace,
        entity: &EntityKey,
        run: RunId,
        request: Request,
    ) -> Result<(Followed, api::StartWorkflowExecutionResponse), MultiError> {
        let followed = self.admit_update(entity.clone(), run, request).await.map_err(MultiError::Update)?;
        let record = self.read_record(self.route(entity), entity, run).map_err(MultiError::Whole)?;
        Ok((followed, existing(namespace, entity, run, record.status)))
    }

    async fn start_with(
        &self,
        namespace: &Namespace,
        entity: &EntityKey,
        start: api::StartWorkflowExecutionRequest,
        request: Request,
    ) -> Result<(Followed, api::StartWorkflowExecutionResponse), MultiError> {
        let update = Update::new(request.clone());
        let updates = &self.board().updates;
        updates.expect_start(entity, &start.request_id, Arc::clone(&update));
        let expected = Expected { updates, update: &update };
        let command = Command {
            namespace_id: entity.namespace_id.clone(),
            workflow_id: entity.workflow_id.clone(),
            op: Some(Op::StartWorkflow(StartWorkflow { request: Some(start) })),
            ..Command::default()
        };
        let reply = self.run_command(command).await.map_err(MultiError::Start)?;
        let is_admitted = expected.is_admitted();
        drop(expected);
        let Some(reply::Reply::StartWorkflow(started)) = reply.reply else {
            return Err(MultiError::Whole(Error::Internal("a start was answered by something else".into())));
        };
        let run = started.run_id.parse().map_err(|_| MultiError::Whole(Error::invalid("Invalid RunId.")))?;
        if is_admitted {
            return Ok((self.follow_started(entity.clone(), run, update), started));
        }
        // It was used already, or another call began a run meanwhile.
        let record = self.read_record(self.route(entity), entity, run).map_err(MultiError::Whole)?;
        if record.close_ns != 0 {
            // As recorded.
            return Err(MultiError::Start(Error::Unavailable("Workflow was not started: StartDeduped".into())));
        }
        let (followed, existing) = self.update_existing(namespace, entity, run, request).await?;
        Ok((followed, if started.started { started } else { existing }))
    }
}

/// Whether the run that was there closed under the update.
fn is_aborted_by_closing(done: &Result<UpdatedWithStart, MultiError>) -> bool {
    matches!(done, Err(MultiError::Update(error)) if *error == aborted_by_closing())
}

/// The answer of a start that used the run that there was.
fn existing(namespace: &Namespace, entity: &EntityKey, run: RunId, status: i32) -> api::StartWorkflowExecutionResponse {
    let reference =
        link::workflow_event::EventReference { event_id: 1, event_type: EventType::WorkflowExecutionStarted as i32 };
    let event = link::WorkflowEvent {
        namespace: namespace.name.clone(),
        workflow_id: entity.workflow_id.clone(),
        run_id: run.to_string(),
        reference: Some(link::workflow_event::Reference::EventRef(reference)),
    };
    api::StartWorkflowExecutionResponse {
        run_id: run.to_string(),
        status,
        link: Some(Link { variant: Some(link::Variant::WorkflowEvent(event)) }),
        ..api::StartWorkflowExecutionResponse::default()
    }
}
