//! Polls: a worker waits in a queue, is given a task, and gets it once its start is durable.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_api::RawHistory;
use mainstay_api::log::{
    ActivityTaskStarted, Command, CompleteWorkflowTask, StartActivityTask, StartWorkflowTask, TaskToken,
    WorkflowTaskStarted, command::Op, reply, started_task, task_token,
};
use mainstay_api::peer::{BeginTask, TakeSpeculative, call};
use mainstay_api::record::TaskRow;
use mainstay_api::temporal::common::v1::{WorkerVersionCapabilities, WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::{CommandType, TaskQueueKind};
use mainstay_api::temporal::taskqueue::v1::{PollerScalingDecision, TaskQueue};
use mainstay_api::temporal::update::v1::Request as UpdateRequest;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::{RunId, Timestamp, limits};
use mainstay_engine::{EntityKey, Error};
use mainstay_matching::{Poller, QueueKey, QueueKind};
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::slot_of_task;

use crate::dispatch::Given;
use crate::execute::Proposal;
use crate::history::Range;
use crate::node::Node;
use crate::queries::Question;
use crate::query::answer_of;
use crate::route::Here;
use crate::service::{HistoryPosition, Namespace, WorkflowTask, WorkflowTaskCompletion};
use crate::slots::Place;
use crate::update::Answers;
use crate::wire::Wire;

/// Gives a task back if the poll ends before its start was proposed.
struct Unstarted<'a, R: Runtime> {
    node: &'a Node<R>,
    given: Option<Given>,
}

impl<R: Runtime> Drop for Unstarted<'_, R> {
    fn drop(&mut self) {
        if let Some(given) = self.given.take() {
            self.node.board().dispatch.give_back(given, self.node.now());
        }
    }
}

impl<R: Runtime> Node<R> {
    /// What a worker is advised with a task that its poll waited for since then; the poll may go on waiting.
    fn scaling(&self, queue: &QueueKey, since: &mut Timestamp) -> Option<PollerScalingDecision> {
        let now = self.now();
        let waited = now - std::mem::replace(since, now);
        let delta = self.board().dispatch.advise(queue, waited, now);
        (delta != 0).then_some(PollerScalingDecision { poll_request_delta_suggestion: delta })
    }

    /// Starts a task at its shard's leader, and gives it back if that fails. None if the task is gone: the poll goes on.
    async fn start_row<'a, T: Send>(
        &'a self,
        (group, row): (u32, TaskRow),
        op: Op,
        call: impl Fn(BeginTask) -> call::Call + Send + Sync,
        here: impl Fn(BeginTask) -> Here<'a, Option<T>> + Send + Sync,
    ) -> Result<Option<T>, Error>
    where
        Option<T>: Wire,
    {
        let (namespace_id, workflow_id) = (row.namespace_id.clone(), row.workflow_id.clone());
        // Not that of the group which offered it: another may serve the workflow by now.
        let place = Place::Slot(slot_of_task(&row));
        let mut unstarted = Unstarted { node: self, given: Some(Given::Row { group, row }) };
        let begin =
            BeginTask { command: Some(Command { namespace_id, workflow_id, op: Some(op), ..Command::default() }) };
        let started = if self.is_alone() {
            here(begin).await
        } else {
            self.at_leader(place, Duration::ZERO, || call(begin.clone()), |_| here(begin.clone())).await
        };
        if started.is_ok() {
            unstarted.given = None;
        }
        started
    }

    /// Proposes the start of a task of a group that this node leads. None if the task is gone.
    async fn begin_here(&self, group: u32, begin: BeginTask) -> Result<Option<reply::Reply>, Error> {
        let command = begin.command.unwrap_or_default();
        match self.propose_here(group, command, Proposal::default()).await {
            Ok(reply) => Ok(reply.reply),
            Err(Error::NotFound(_) | Error::NamespaceNotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts a workflow task, and adds what its worker needs.
    pub(crate) async fn begin_workflow_here(
        &self,
        group: u32,
        begin: BeginTask,
    ) -> Result<Option<WorkflowTask>, Error> {
        match self.begin_here(group, begin).await? {
            Some(reply::Reply::WorkflowTaskStarted(started)) => self.task_of(started).map(Some),
            _ => Ok(None),
        }
    }

    /// Starts an activity.
    pub(crate) async fn begin_activity_here(
        &self,
        group: u32,
        begin: BeginTask,
    ) -> Result<Option<ActivityTaskStarted>, Error> {
        match self.begin_here(group, begin).await? {
            Some(reply::Reply::ActivityTaskStarted(started)) => Ok(Some(started)),
            _ => Ok(None),
        }
    }

    pub(crate) async fn poll_workflow(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<WorkflowTask>, Error> {
        let deadline = R::Instant::now() + timeout;
        let queue = request.task_queue.clone().unwrap_or_default();
        let sticky = queue.kind() == TaskQueueKind::Sticky;
        let key = QueueKey { namespace_id: namespace.id.clone(), name: queue.name, kind: QueueKind::Workflow };
        #[allow(deprecated)]
        let build_id = build_of(request.worker_version_capabilities.as_ref());
        let poller = Poller { id: 0, identity: request.identity.clone(), rate_per_second: None, build_id };
        let mut since = self.now();
        while let Some(given) = self.next_given(&key, &poller, deadline).await {
            let scaling = self.scaling(&key, &mut since);
            let task = match given {
                Given::Question(question) => self.query_task(&question, sticky)?,
                Given::Distant(query) => self.take_query(query, sticky).await?,
                Given::Speculative(offer) => {
                    let take = TakeSpeculative {
                        offer: Some(offer),
                        identity: request.identity.clone(),
                        request_id: RunId::from_random(R::random()).to_string(),
                        sticky,
                    };
                    self.take_speculative(take).await?
                }
                Given::Started(task) => match *task {
                    started_task::Task::WorkflowTask(started) => Some(self.task_of(started)?),
                    started_task::Task::ActivityTask(_) => None,
                },
                Given::Row { group, row } => {
                    let start = StartWorkflowTask {
                        run_id: row.run_id.clone(),
                        scheduled_event_id: row.scheduled_event_id,
                        attempt: row.attempt,
                        task_sequence: row.sequence,
                        poll_request_id: RunId::from_random(R::random()).to_string(),
                        poll: Some(request.clone()),
                    };
                    let slot = slot_of_task(&row);
                    let here = |begin| -> Here<'_, _> {
                        Box::pin(self.begin_workflow_here(self.group_at(Place::Slot(slot)), begin))
                    };
                    let op = Op::StartWorkflowTask(start);
                    self.start_row((group, row), op, call::Call::BeginWorkflowTask, here).await?
                }
            };
            if let Some(mut task) = task {
                task.response.poller_scaling_decision = scaling;
                return Ok(Some(task));
            }
        }
        self.board().dispatch.queues.of(&key, sticky).timed_out();
        Ok(None)
    }

    pub(crate) async fn poll_activity(
        &self,
        namespace: Namespace,
        request: api::PollActivityTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<ActivityTaskStarted>, Error> {
        let deadline = R::Instant::now() + timeout;
        let key = QueueKey {
            namespace_id: namespace.id.clone(),
            name: request.task_queue.clone().unwrap_or_default().name,
            kind: QueueKind::Activity,
        };
        let rate_per_second = request.task_queue_metadata.as_ref().and_then(|m| m.max_tasks_per_second);
        #[allow(deprecated)]
        let build_id = build_of(request.worker_version_capabilities.as_ref());
        let poller = Poller { id: 0, identity: request.identity.clone(), rate_per_second, build_id };
        let mut since = self.now();
        while let Some(given) = self.next_given(&key, &poller, deadline).await {
            let scaling = self.scaling(&key, &mut since);
            let (group, row) = match given {
                Given::Row { group, row } => (group, row),
                Given::Started(task) => {
                    let started_task::Task::ActivityTask(mut task) = *task else { continue };
                    task.response.get_or_insert_default().poller_scaling_decision = scaling;
                    return Ok(Some(task));
                }
                Given::Question(_) | Given::Distant(_) | Given::Speculative(_) => continue,
            };
            let start = StartActivityTask {
                run_id: row.run_id.clone(),
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id: RunId::from_random(R::random()).to_string(),
                poll: Some(request.clone()),
            };
            let slot = slot_of_task(&row);
            let here =
                |begin| -> Here<'_, _> { Box::pin(self.begin_activity_here(self.group_at(Place::Slot(slot)), begin)) };
            let op = Op::StartActivityTask(start);
            if let Some(mut task) = self.start_row((group, row), op, call::Call::BeginActivityTask, here).await? {
                task.response.get_or_insert_default().poller_scaling_decision = scaling;
                return Ok(Some(task));
            }
        }
        self.board().dispatch.queues.of(&key, false).timed_out();
        Ok(None)
    }

    /// Adds history and waiting queries to a started task.
    pub(crate) fn task_of(&self, started: WorkflowTaskStarted) -> Result<WorkflowTask, Error> {
        self.prolonged_task_of(started, &BTreeSet::new())
    }

    /// The same for a worker that has some updates from the task before.
    fn prolonged_task_of(
        &self,
        started: WorkflowTaskStarted,
        prolonged: &BTreeSet<String>,
    ) -> Result<WorkflowTask, Error> {
        let token = started.token.unwrap_or_default();
        let mut response = *started.response.unwrap_or_default();
        let (entity, run) = entity_of(&token)?;
        let group = self.route(&entity);
        let range = Range {
            first: started.first_event_id,
            end: started.next_event_id,
            batches: limits::HISTORY_PAGE_MAX,
            reverse: false,
            forks: Vec::new(),
        };
        let mut read = self.read_events(group, &entity, run, &range)?;
        let is_whole = read.next >= started.next_event_id;
        if is_whole {
            read.events.extend(started.unwritten_events);
        }
        let rest = (!is_whole).then(|| HistoryPosition::page(run, read.next, started.next_event_id));
        response.history = Some(RawHistory { events: read.events });
        response.queries = self.board().questions.attach(&entity, run);
        self.forget_accepted(&entity, run)?;
        let updates = &self.board().updates;
        response.messages = updates.send(&entity, run, token.started_ns, token.started_event_id, prolonged);
        Ok(WorkflowTask { token, response, rest })
    }

    /// A query as a task of its own. None if its asker is gone.
    pub(crate) fn query_task(&self, question: &Question, sticky: bool) -> Result<Option<WorkflowTask>, Error> {
        let group = self.route(&question.entity);
        let run = question.run;
        let Ok(record) = self.read_record(group, &question.entity, run) else { return Ok(None) };
        let previous = record.last_completed_started_event_id;
        // A sticky worker has the workflow in memory: it is sent no history at all.
        let range = Range {
            first: if sticky { record.next_event_id } else { 1 },
            end: record.next_event_id,
            batches: limits::HISTORY_PAGE_MAX,
            reverse: false,
            forks: Vec::new(),
        };
        let read = self.read_events(group, &question.entity, run, &range)?;
        let rest =
            (read.next < record.next_event_id).then(|| HistoryPosition::page(run, read.next, record.next_event_id));
        let token = TaskToken {
            kind: task_token::Kind::QueryTask as i32,
            namespace_id: question.entity.namespace_id.clone(),
            workflow_id: question.entity.workflow_id.clone(),
            run_id: run.to_string(),
            query_id: question.id.clone(),
            ..TaskToken::default()
        };
        let response = api::PollWorkflowTaskQueueResponse {
            workflow_execution: Some(WorkflowExecution {
                workflow_id: question.entity.workflow_id.clone(),
                run_id: run.to_string(),
            }),
            workflow_type: Some(WorkflowType { name: record.workflow_type.clone() }),
            previous_started_event_id: previous,
            attempt: 1,
            history: Some(RawHistory { events: read.events }),
            query: Some(question.query.clone()),
            workflow_execution_task_queue: Some(TaskQueue {
                name: record.task_queue,
                kind: TaskQueueKind::Normal as i32,
                normal_name: String::new(),
            }),
            ..api::PollWorkflowTaskQueueResponse::default()
        };
        Ok(question.taken().then_some(WorkflowTask { token, response, rest }))
    }

    pub(crate) async fn complete_workflow(
        &self,
        token: TaskToken,
        mut request: api::RespondWorkflowTaskCompletedRequest,
        proposal: Proposal,
    ) -> Result<WorkflowTaskCompletion, Error> {
        let (entity, run) = entity_of(&token)?;
        let group = self.route(&entity);
        let results = std::mem::take(&mut request.query_results);
        let held = self.board().questions.hold(&entity, run);
        let _updates = self.hold_updates(&entity, run);
        let answers = Answers::of(&token, &request);
        let sent_updates = self.board().updates.sent_with(&entity, run, token.started_ns);
        let sent: BTreeSet<String> = sent_updates.iter().map(id_of_update).collect();
        let kinds: Vec<CommandType> = request.commands.iter().map(|command| command.command_type()).collect();
        let command = Command {
            namespace_id: entity.namespace_id.clone(),
            workflow_id: entity.workflow_id.clone(),
            op: Some(Op::CompleteWorkflowTask(CompleteWorkflowTask {
                sent_updates,
                updates_wait: self.board().updates.wait_since(&entity, run, token.started_ns),
                token: Some(token),
                request: Some(request),
            })),
            ..Command::default()
        };
        self.admit(&command)?;
        let reply = self.propose_here(group, command, proposal).await;
        self.end_updates(&entity, run, &answers, reply.as_ref().err())?;
        let reply = reply?;
        for (id, result) in results {
            held.answer(&id, answer_of(result));
        }
        drop(held);
        self.board().meter.outcomes.commands(kinds.into_iter());
        let Some(reply::Reply::WorkflowTaskCompleted(completed)) = reply.reply else {
            return Err(Error::Internal("a completion was answered by something else".into()));
        };
        let prolonged = if answers.heartbeat { sent } else { BTreeSet::new() };
        let mut next = completed.workflow_task;
        if next.is_none() && answers.wants_next {
            next = self.start_speculative_inline(&entity, run, &answers.identity)?;
        }
        Ok(WorkflowTaskCompletion {
            response: completed.response.unwrap_or_default(),
            workflow_task: next.map(|started| self.prolonged_task_of(started, &prolonged)).transpose()?,
            activity_tasks: completed.activity_tasks,
        })
    }
}

/// Which build of the worker's code polls, if it says so. One that asks for versioning, which is not there, counts as any.
fn build_of(capabilities: Option<&WorkerVersionCapabilities>) -> Option<String> {
    let plain = capabilities.filter(|c| !c.use_versioning && !c.build_id.is_empty());
    plain.map(|c| c.build_id.clone())
}

fn id_of_update(request: &UpdateRequest) -> String {
    request.meta.as_ref().map(|meta| meta.update_id.clone()).unwrap_or_default()
}

pub(crate) fn entity_of(token: &TaskToken) -> Result<(EntityKey, RunId), Error> {
    let run = token.run_id.parse().map_err(|_| Error::invalid("Invalid RunId."))?;
    Ok((EntityKey { namespace_id: token.namespace_id.clone(), workflow_id: token.workflow_id.clone() }, run))
}
