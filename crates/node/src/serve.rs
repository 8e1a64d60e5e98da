//! [`Service`] of a node: a table of which module does what.

use std::time::Duration;

use mainstay_api::log::{ActivityTaskStarted, Command, Reply, TaskToken, WorkflowTaskStarted};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::worker::v1::{WorkerHeartbeat, WorkerInfo};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::{EntityKey, Error};
use mainstay_matching::{QueueKey, QueueKind};
use mainstay_runtime::Runtime;

use crate::node::Node;
use crate::service::{HistoryPage, HistoryQuery, ListPage, Namespace, Service, WorkflowTask, WorkflowTaskCompletion};

impl<R: Runtime> Service for Node<R> {
    fn namespace(&self, name: &str) -> Option<Namespace> {
        self.board().registry.by_name(name)
    }

    fn namespace_by_id(&self, id: &str) -> Option<Namespace> {
        self.board().registry.by_id(id)
    }

    fn namespaces(&self) -> Vec<Namespace> {
        self.board().registry.all()
    }

    async fn put_namespace(&self, record: NamespaceRecord) -> Result<Namespace, Error> {
        self.store_namespace(record).await
    }

    fn cluster_id(&self) -> String {
        self.config().cluster_id.clone()
    }

    async fn execute(&self, command: Command) -> Result<Reply, Error> {
        self.run_command(command).await
    }

    async fn complete_task(&self, _: Namespace, started: WorkflowTaskStarted) -> Result<WorkflowTask, Error> {
        self.task_of(started)
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
        self.complete_workflow(token, request).await
    }

    async fn answer_query(
        &self,
        _: Namespace,
        token: TaskToken,
        request: api::RespondQueryTaskCompletedRequest,
    ) -> Result<(), Error> {
        self.answer_question(&token.query_id, request)
    }

    async fn query(
        &self,
        namespace: Namespace,
        request: api::QueryWorkflowRequest,
        timeout: Duration,
    ) -> Result<api::QueryWorkflowResponse, Error> {
        self.ask(namespace, request, timeout).await
    }

    async fn history(&self, namespace: Namespace, query: HistoryQuery) -> Result<HistoryPage, Error> {
        self.read_history(namespace, query).await
    }

    async fn describe(
        &self,
        namespace: Namespace,
        execution: WorkflowExecution,
    ) -> Result<api::DescribeWorkflowExecutionResponse, Error> {
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: execution.workflow_id };
        let shard = self.shard(self.route(&entity))?;
        let described = shard.read(|store| mainstay_engine::describe(store, &entity, &execution.run_id));
        described.map_err(|fault| Error::Internal(fault.to_string()))?
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

    async fn describe_task_queue(
        &self,
        namespace: Namespace,
        request: api::DescribeTaskQueueRequest,
    ) -> Result<api::DescribeTaskQueueResponse, Error> {
        Ok(self.queue_description(&namespace, &request))
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
        self.board().dispatch.unload(queue, self.now());
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
}
