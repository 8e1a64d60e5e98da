//! [`Service`] of a node: a table of which module does what, and where: at the leader of the workflow's shard, at a queue's owner, here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_api::admin::{
    ChangeMemberRequest, ChangeMemberResponse, GetClusterStatusResponse, MoveShardRequest, MoveShardResponse,
    SplitShardRequest, SplitShardResponse,
};
use mainstay_api::log::{ActivityTaskStarted, Command, Reply, TaskToken, WorkflowTaskStarted};
use mainstay_api::peer::{self, AnswerQuery, CompleteWorkflowTask, call};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::TaskQueueType;
use mainstay_api::temporal::worker::v1::{WorkerHeartbeat, WorkerInfo};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::Timestamp;
use mainstay_engine::{EntityKey, Error, batch, schedule};
use mainstay_matching::{QueueKey, QueueKind};
use mainstay_runtime::Runtime;

use crate::execute::Proposal;
use crate::node::Node;
use crate::poll::entity_of;
use crate::route::Here;
use crate::service::{
    HistoryPage, HistoryQuery, ListPage, MultiError, Namespace, Patience, Service, UpdatedWithStart, WorkflowTask,
    WorkflowTaskCompletion,
};
use crate::slots::Place;
use crate::task_queues::key_of;
use crate::unreadable;
use crate::wire;

impl<R: Runtime> Service for Node<R> {
    fn namespace(&self, name: &str) -> Option<Namespace> {
        self.board().registry.by_name(name)
    }

    fn no_namespace(&self, named: &str) -> Error {
        if self.board().has_met.load(Ordering::Acquire) {
            return Error::NamespaceNotFound(named.into());
        }
        Error::Unavailable(format!(
            "this node has not met its cluster yet, and does not know whether there is a namespace {named}; try again"
        ))
    }

    fn namespace_by_id(&self, id: &str) -> Option<Namespace> {
        self.board().registry.by_id(id)
    }

    fn namespaces(&self) -> Vec<Namespace> {
        self.board().registry.all()
    }

    async fn put_namespace(&self, record: NamespaceRecord) -> Result<Namespace, Error> {
        self.change_namespace(record).await
    }

    fn cluster_id(&self) -> String {
        self.config().cluster_id.clone()
    }

    fn queue_owner(&self, namespace: &Namespace, name: &str, kind: TaskQueueType) -> Option<String> {
        let owner = self.board().dispatch.owners().of(&key_of(namespace, name, kind));
        let cluster = self.board().members.now();
        cluster.members.iter().find(|member| member.node_id == owner).map(|member| member.address.clone())
    }

    async fn execute(&self, command: Command) -> Result<Reply, Error> {
        self.run_command(command).await
    }

    async fn complete_task(&self, _: Namespace, started: WorkflowTaskStarted) -> Result<WorkflowTask, Error> {
        if self.is_alone() {
            return self.task_of(started);
        }
        let place = Place::of(&entity_of(&started.token.clone().unwrap_or_default())?.0);
        let call = || call::Call::CompleteTask(started.clone());
        let here = || -> Here<'_, WorkflowTask> { Box::pin(async { self.task_of(started.clone()) }) };
        self.read_at_leader(place, Duration::ZERO, call, here).await
    }

    async fn poll_workflow_task(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<WorkflowTask>, Error> {
        self.poll_workflow(namespace, request, timeout).await
    }

    async fn poll_activity_task(
        &self,
        namespace: Namespace,
        request: api::PollActivityTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<ActivityTaskStarted>, Error> {
        self.poll_activity(namespace, request, timeout).await
    }

    async fn complete_workflow_task(
        &self,
        _: Namespace,
        token: TaskToken,
        request: api::RespondWorkflowTaskCompletedRequest,
    ) -> Result<WorkflowTaskCompletion, Error> {
        let first = self.first_proposal(None);
        if self.is_alone() {
            return self.complete_workflow(token, request, first).await;
        }
        let place = Place::of(&entity_of(&token)?.0);
        let call = || {
            let (token, request) = (Some(token.clone()), Some(request.clone()));
            call::Call::CompleteWorkflowTask(CompleteWorkflowTask {
                token,
                request,
                command_id: first.command_id.clone(),
            })
        };
        let here = |may_repeat| -> Here<'_, WorkflowTaskCompletion> {
            let proposal = Proposal { may_repeat, ..first.clone() };
            Box::pin(self.complete_workflow(token.clone(), request.clone(), proposal))
        };
        self.at_leader(place, Duration::ZERO, call, here).await
    }

    async fn answer_query(
        &self,
        _: Namespace,
        token: TaskToken,
        request: api::RespondQueryTaskCompletedRequest,
    ) -> Result<(), Error> {
        if self.is_alone() {
            return self.answer_question(&token.query_id, request);
        }
        let place = Place::of(&entity_of(&token)?.0);
        let call = || {
            let (query_id, request) = (token.query_id.clone(), Some(request.clone()));
            call::Call::AnswerQuery(AnswerQuery { query_id, request })
        };
        let here = |_| -> Here<'_, ()> {
            let request = request.clone();
            Box::pin(async { self.answer_question(&token.query_id, request) })
        };
        self.at_leader(place, Duration::ZERO, call, here).await
    }

    async fn query(
        &self,
        namespace: Namespace,
        request: api::QueryWorkflowRequest,
        timeout: Duration,
    ) -> Result<api::QueryWorkflowResponse, Error> {
        if self.is_alone() {
            return self.ask(namespace, request, timeout).await;
        }
        let workflow_id = request.execution.as_ref().map(|execution| execution.workflow_id.clone()).unwrap_or_default();
        let place = Place::of(&EntityKey { namespace_id: namespace.id.clone(), workflow_id });
        let call = || {
            let request = Some(request.clone());
            call::Call::Query(peer::Query { namespace_id: namespace.id.clone(), request })
        };
        let here = || -> Here<'_, api::QueryWorkflowResponse> {
            Box::pin(self.ask(namespace.clone(), request.clone(), timeout))
        };
        self.read_at_leader(place, timeout, call, here).await
    }

    async fn update(
        &self,
        namespace: Namespace,
        request: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> Result<api::UpdateWorkflowExecutionResponse, Error> {
        if self.is_alone() {
            return self.update_workflow(namespace, request, patience).await;
        }
        let place = Place::of(&entity_named(&namespace, request.workflow_execution.as_ref()));
        let call = || {
            let (request, is_callers) = (Some(request.clone()), patience.is_callers);
            call::Call::Update(peer::Update { namespace_id: namespace.id.clone(), request, is_callers })
        };
        let here = || -> Here<'_, api::UpdateWorkflowExecutionResponse> {
            Box::pin(self.update_workflow(namespace.clone(), request.clone(), patience))
        };
        self.read_at_leader(place, patience.timeout, call, here).await
    }

    async fn poll_update(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowExecutionUpdateRequest,
        patience: Patience,
    ) -> Result<api::PollWorkflowExecutionUpdateResponse, Error> {
        if self.is_alone() {
            return self.await_known_update(namespace, request, patience).await;
        }
        let execution = request.update_ref.as_ref().and_then(|reference| reference.workflow_execution.as_ref());
        let place = Place::of(&entity_named(&namespace, execution));
        let call = || {
            let (request, is_callers) = (Some(request.clone()), patience.is_callers);
            call::Call::PollUpdate(peer::PollUpdate { namespace_id: namespace.id.clone(), request, is_callers })
        };
        let here = || -> Here<'_, api::PollWorkflowExecutionUpdateResponse> {
            Box::pin(self.await_known_update(namespace.clone(), request.clone(), patience))
        };
        self.read_at_leader(place, patience.timeout, call, here).await
    }

    async fn update_with_start(
        &self,
        namespace: Namespace,
        start: api::StartWorkflowExecutionRequest,
        update: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> Result<UpdatedWithStart, MultiError> {
        if self.is_alone() {
            return self.start_and_update(namespace, start, update, patience).await;
        }
        let place = Place::of(&entity_named(&namespace, update.workflow_execution.as_ref()));
        let call = || {
            call::Call::UpdateWithStart(peer::UpdateWithStart {
                namespace_id: namespace.id.clone(),
                start: Some(start.clone()),
                update: Some(update.clone()),
                is_callers: patience.is_callers,
            })
        };
        let here = || -> Here<'_, Result<UpdatedWithStart, MultiError>> {
            Box::pin(self.start_and_update_here(namespace.clone(), start.clone(), update.clone(), patience))
        };
        let done = self.read_at_leader(place, patience.timeout, call, here).await;
        done.unwrap_or_else(|error| Err(MultiError::Whole(error)))
    }

    async fn history(&self, namespace: Namespace, query: HistoryQuery) -> Result<HistoryPage, Error> {
        if self.is_alone() {
            return self.read_history(namespace, query).await;
        }
        let workflow_id = query.execution.workflow_id.clone();
        let place = Place::of(&EntityKey { namespace_id: namespace.id.clone(), workflow_id });
        let call = || call::Call::History(wire::history_query(&namespace.id, &query));
        let here = || -> Here<'_, HistoryPage> { Box::pin(self.read_history(namespace.clone(), query.clone())) };
        self.read_at_leader(place, query.timeout, call, here).await
    }

    async fn describe(
        &self,
        namespace: Namespace,
        execution: WorkflowExecution,
    ) -> Result<api::DescribeWorkflowExecutionResponse, Error> {
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: execution.workflow_id.clone() };
        if self.is_alone() {
            return self.describe_here(&entity, &execution.run_id);
        }
        let call = || {
            let execution = Some(execution.clone());
            call::Call::Describe(peer::Describe { namespace_id: namespace.id.clone(), execution })
        };
        let here = || -> Here<'_, api::DescribeWorkflowExecutionResponse> {
            Box::pin(async { self.describe_here(&entity, &execution.run_id) })
        };
        self.read_at_leader(Place::of(&entity), Duration::ZERO, call, here).await
    }

    async fn list(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<ListPage, Error> {
        self.list_page(namespace, filter, page_size, page_token).await
    }

    async fn count(&self, namespace: Namespace, filter: String) -> Result<api::CountWorkflowExecutionsResponse, Error> {
        self.count_rows(namespace, filter).await
    }

    async fn explain(&self, namespace: Namespace, filter: String) -> Result<(String, String), Error> {
        self.explain_filter(namespace, filter).await
    }

    async fn start_batch(&self, namespace: Namespace, request: api::StartBatchOperationRequest) -> Result<(), Error> {
        self.begin_batch(namespace, request).await
    }

    async fn describe_batch(
        &self,
        namespace: Namespace,
        job_id: String,
    ) -> Result<api::DescribeBatchOperationResponse, Error> {
        if self.is_alone() {
            return self.batch_description(&namespace, &job_id);
        }
        let (place, named) = named(&namespace, batch::entity_id(&job_id), &job_id);
        let call = || call::Call::DescribeBatch(named.clone());
        let here = || -> Here<'_, api::DescribeBatchOperationResponse> {
            Box::pin(async { self.batch_description(&namespace, &job_id) })
        };
        self.read_at_leader(place, Duration::ZERO, call, here).await
    }

    async fn list_batches(
        &self,
        namespace: Namespace,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<api::ListBatchOperationsResponse, Error> {
        self.batch_page(namespace, page_size, page_token).await
    }

    async fn describe_schedule(
        &self,
        namespace: Namespace,
        schedule_id: String,
    ) -> Result<api::DescribeScheduleResponse, Error> {
        if self.is_alone() {
            return self.schedule_description(&namespace, &schedule_id).await;
        }
        let (place, named) = named(&namespace, schedule::entity_id(&schedule_id), &schedule_id);
        let call = || call::Call::DescribeSchedule(named.clone());
        let here = || -> Here<'_, api::DescribeScheduleResponse> {
            Box::pin(self.schedule_description(&namespace, &schedule_id))
        };
        self.read_at_leader(place, Duration::ZERO, call, here).await
    }

    async fn schedule_times(
        &self,
        namespace: Namespace,
        schedule_id: String,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<prost_types::Timestamp>, Error> {
        if self.is_alone() {
            return self.schedule_times_between(&namespace, &schedule_id, from, to);
        }
        let (place, named) = named(&namespace, schedule::entity_id(&schedule_id), &schedule_id);
        let call = || {
            let (schedule, from_ns, to_ns) = (Some(named.clone()), from.as_nanos(), to.as_nanos());
            call::Call::ScheduleTimes(peer::ScheduleTimes { schedule, from_ns, to_ns })
        };
        let here = || -> Here<'_, peer::Times> {
            Box::pin(async {
                let times = self.schedule_times_between(&namespace, &schedule_id, from, to)?;
                Ok(peer::Times { times })
            })
        };
        Ok(self.read_at_leader(place, Duration::ZERO, call, here).await?.times)
    }

    async fn list_schedules(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<api::ListSchedulesResponse, Error> {
        self.schedule_page(namespace, filter, page_size, page_token).await
    }

    async fn count_schedules(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> Result<api::CountSchedulesResponse, Error> {
        self.schedule_count(namespace, filter).await
    }

    async fn describe_task_queue(
        &self,
        namespace: Namespace,
        request: api::DescribeTaskQueueRequest,
    ) -> Result<api::DescribeTaskQueueResponse, Error> {
        self.describe_queue(&namespace, request).await
    }

    async fn shutdown_worker(
        &self,
        namespace: Namespace,
        request: api::ShutdownWorkerRequest,
    ) -> Result<api::ShutdownWorkerResponse, Error> {
        if let Some(heartbeat) = request.worker_heartbeat {
            self.board().workers.record(&namespace.id, heartbeat, self.now());
        }
        let queue =
            QueueKey { namespace_id: namespace.id.clone(), name: request.sticky_task_queue, kind: QueueKind::Workflow };
        self.unload(queue).await;
        Ok(api::ShutdownWorkerResponse::default())
    }

    async fn configure_task_queue(
        &self,
        namespace: Namespace,
        request: api::UpdateTaskQueueConfigRequest,
    ) -> Result<api::UpdateTaskQueueConfigResponse, Error> {
        self.update_queue_configuration(&namespace, request).await
    }

    async fn record_workers(&self, namespace: Namespace, heartbeats: Vec<WorkerHeartbeat>) -> Result<(), Error> {
        for heartbeat in heartbeats {
            self.board().workers.record(&namespace.id, heartbeat, self.now());
        }
        Ok(())
    }

    async fn describe_worker(&self, namespace: Namespace, instance_key: String) -> Result<WorkerInfo, Error> {
        self.board().workers.describe(&namespace.id, &instance_key, self.now())
    }

    async fn list_workers(
        &self,
        namespace: Namespace,
        request: api::ListWorkersRequest,
    ) -> Result<api::ListWorkersResponse, Error> {
        let (filter, token) = (&request.query, &request.next_page_token);
        self.board().workers.list(&namespace.id, filter, request.page_size, token, self.now())
    }

    async fn count_workers(&self, namespace: Namespace, filter: String) -> Result<i64, Error> {
        self.board().workers.count(&namespace.id, &filter, self.now())
    }

    async fn change_member(&self, request: ChangeMemberRequest) -> Result<ChangeMemberResponse, Error> {
        self.decide_member(request).await
    }

    async fn split_shard(&self, request: SplitShardRequest) -> Result<SplitShardResponse, Error> {
        self.decide_split(request).await
    }

    async fn move_shard(&self, request: MoveShardRequest) -> Result<MoveShardResponse, Error> {
        self.decide_move(request).await
    }

    async fn check_cluster(&self) -> Vec<String> {
        self.check().await
    }

    fn is_ready(&self) -> bool {
        self.readiness().iter().all(|group| group.problem.is_none())
    }

    async fn cluster_status(&self) -> GetClusterStatusResponse {
        self.status_of_all().await
    }
}

impl<R: Runtime> Node<R> {
    /// What the shard here says of a workflow.
    pub(crate) fn describe_here(
        &self,
        entity: &EntityKey,
        run_id: &str,
    ) -> Result<api::DescribeWorkflowExecutionResponse, Error> {
        let shard = self.shard(self.route(entity))?;
        let tasks = self.board().updates.tasks(entity);
        let described = shard.read(|store| mainstay_engine::describe(store, entity, run_id, &tasks));
        described.map_err(unreadable)?
    }
}

/// Where an entity of the server's own is, and how it is named to another node.
fn named(namespace: &Namespace, entity_id: String, id: &str) -> (Place, peer::Named) {
    let place = Place::of(&EntityKey { namespace_id: namespace.id.clone(), workflow_id: entity_id });
    (place, peer::Named { namespace_id: namespace.id.clone(), id: id.to_owned() })
}

/// The entity of an execution.
fn entity_named(namespace: &Namespace, execution: Option<&WorkflowExecution>) -> EntityKey {
    let workflow_id = execution.map(|execution| execution.workflow_id.clone()).unwrap_or_default();
    EntityKey { namespace_id: namespace.id.clone(), workflow_id }
}
