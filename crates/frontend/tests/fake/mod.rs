//! A node that remembers what it is asked and answers what a test told it to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_api::log::{self, ActivityTaskStarted, Command, Reply, TaskToken, command::Op, reply, task_token::Kind};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::{NamespaceState, TaskQueueType};
use mainstay_api::temporal::worker::v1::{WorkerHeartbeat, WorkerInfo};
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::Timestamp;
use mainstay_engine::Error;
use mainstay_node::service::{
    HistoryPage, HistoryPosition, HistoryQuery, ListPage, MultiError, Namespace, Patience, Service, UpdatedWithStart,
    WorkflowTask, WorkflowTaskCompletion,
};

pub const RUN: &str = "0a0a0a0a-0a0a-4a0a-8a0a-0a0a0a0a0a0a";

#[derive(Clone, Default)]
pub struct Fake(Arc<State>);

#[derive(Default)]
struct State {
    namespaces: Mutex<BTreeMap<String, NamespaceRecord>>,
    commands: Mutex<Vec<Command>>,
    filters: Mutex<Vec<String>>,
    waiting: AtomicUsize,
}

/// Counts a call that waits, for as long as it does.
struct Waiting(Arc<State>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    pub fn new() -> Self {
        let fake = Self::default();
        let record = NamespaceRecord {
            id: "id-default".into(),
            name: "default".into(),
            state: NamespaceState::Registered as i32,
            ..NamespaceRecord::default()
        };
        fake.0.namespaces.lock().unwrap().insert(record.name.clone(), record);
        fake
    }

    pub fn commands(&self) -> Vec<Command> {
        self.0.commands.lock().unwrap().clone()
    }

    pub fn filters(&self) -> Vec<String> {
        self.0.filters.lock().unwrap().clone()
    }

    /// Polls and queries that wait now.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::SeqCst)
    }

    fn wait(&self) -> Waiting {
        self.0.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(self.0.clone())
    }

    pub fn token(kind: Kind) -> TaskToken {
        TaskToken {
            kind: kind as i32,
            namespace_id: "id-default".into(),
            workflow_id: "wf".into(),
            run_id: RUN.into(),
            ..TaskToken::default()
        }
    }
}

impl Service for Fake {
    fn namespace(&self, name: &str) -> Option<Namespace> {
        self.0.namespaces.lock().unwrap().get(name).cloned().map(Namespace::new)
    }

    fn no_namespace(&self, named: &str) -> Error {
        Error::NamespaceNotFound(named.into())
    }

    fn namespace_by_id(&self, id: &str) -> Option<Namespace> {
        self.namespaces().into_iter().find(|namespace| namespace.id == id)
    }

    fn namespaces(&self) -> Vec<Namespace> {
        self.0.namespaces.lock().unwrap().values().cloned().map(Namespace::new).collect()
    }

    async fn put_namespace(&self, record: NamespaceRecord) -> Result<Namespace, Error> {
        let mut all = self.0.namespaces.lock().unwrap();
        all.retain(|_, known| known.id != record.id);
        all.insert(record.name.clone(), record.clone());
        Ok(Namespace::new(record))
    }

    fn cluster_id(&self) -> String {
        "cluster".into()
    }

    fn queue_owner(&self, _: &Namespace, _: &str, _: TaskQueueType) -> Option<String> {
        None
    }

    async fn execute(&self, command: Command) -> Result<Reply, Error> {
        let answer = match command.op.as_ref().unwrap() {
            Op::StartWorkflow(_) => reply::Reply::StartWorkflow(api::StartWorkflowExecutionResponse {
                run_id: RUN.into(),
                started: true,
                ..Default::default()
            }),
            Op::SignalWorkflow(_) => reply::Reply::SignalWorkflow(Default::default()),
            Op::HeartbeatActivity(_) => reply::Reply::Heartbeat(Default::default()),
            Op::Terminate(_) => return Err(Error::not_found("workflow execution already completed")),
            _ => reply::Reply::Empty(log::Empty {}),
        };
        self.0.commands.lock().unwrap().push(command);
        Ok(Reply { reply: Some(answer), ..Reply::default() })
    }

    async fn complete_task(&self, _: Namespace, _: log::WorkflowTaskStarted) -> Result<WorkflowTask, Error> {
        Err(Error::Unimplemented("eager".into()))
    }

    async fn poll_workflow_task(
        &self,
        _: Namespace,
        request: api::PollWorkflowTaskQueueRequest,
        timeout: Duration,
    ) -> Result<Option<WorkflowTask>, Error> {
        if request.task_queue.unwrap_or_default().name == "busy" {
            let rest = HistoryPosition { run_id: RUN.into(), event_id: 9, ..HistoryPosition::default() };
            let token = Self::token(Kind::WorkflowTask);
            return Ok(Some(WorkflowTask { token, response: Default::default(), rest: Some(rest) }));
        }
        let _waiting = self.wait();
        tokio::time::sleep(timeout).await;
        Ok(None)
    }

    async fn poll_activity_task(
        &self,
        _: Namespace,
        _: api::PollActivityTaskQueueRequest,
        _: Duration,
    ) -> Result<Option<ActivityTaskStarted>, Error> {
        let token = Some(Self::token(Kind::ActivityTask));
        Ok(Some(ActivityTaskStarted { token, response: Some(Default::default()) }))
    }

    async fn complete_workflow_task(
        &self,
        _: Namespace,
        token: TaskToken,
        request: api::RespondWorkflowTaskCompletedRequest,
    ) -> Result<WorkflowTaskCompletion, Error> {
        assert!(request.task_token.is_empty());
        let response = Default::default();
        let workflow_task = Some(WorkflowTask { token, response, rest: None });
        Ok(WorkflowTaskCompletion { workflow_task, ..WorkflowTaskCompletion::default() })
    }

    async fn answer_query(
        &self,
        _: Namespace,
        _: TaskToken,
        _: api::RespondQueryTaskCompletedRequest,
    ) -> Result<(), Error> {
        Ok(())
    }

    async fn query(
        &self,
        _: Namespace,
        _: api::QueryWorkflowRequest,
        _: Duration,
    ) -> Result<api::QueryWorkflowResponse, Error> {
        let _waiting = self.wait();
        std::future::pending().await
    }

    async fn update(
        &self,
        _: Namespace,
        _: api::UpdateWorkflowExecutionRequest,
        _: Patience,
    ) -> Result<api::UpdateWorkflowExecutionResponse, Error> {
        Ok(Default::default())
    }

    async fn poll_update(
        &self,
        _: Namespace,
        _: api::PollWorkflowExecutionUpdateRequest,
        _: Patience,
    ) -> Result<api::PollWorkflowExecutionUpdateResponse, Error> {
        Ok(Default::default())
    }

    async fn update_with_start(
        &self,
        _: Namespace,
        _: api::StartWorkflowExecutionRequest,
        _: api::UpdateWorkflowExecutionRequest,
        _: Patience,
    ) -> Result<UpdatedWithStart, MultiError> {
        Err(MultiError::Update(Error::not_found("gone")))
    }

    async fn history(&self, _: Namespace, query: HistoryQuery) -> Result<HistoryPage, Error> {
        let event_id = query.position.map_or(1, |position| position.event_id);
        let next = HistoryPosition { run_id: RUN.into(), event_id: event_id + 1, ..HistoryPosition::default() };
        Ok(HistoryPage { next: (event_id < 3).then_some(next), ..HistoryPage::default() })
    }

    async fn describe(
        &self,
        _: Namespace,
        _: WorkflowExecution,
    ) -> Result<api::DescribeWorkflowExecutionResponse, Error> {
        Ok(Default::default())
    }

    async fn list(&self, _: Namespace, filter: String, _: usize, _: Vec<u8>) -> Result<ListPage, Error> {
        self.0.filters.lock().unwrap().push(filter);
        Ok(ListPage::default())
    }

    async fn count(&self, _: Namespace, _: String) -> Result<api::CountWorkflowExecutionsResponse, Error> {
        Ok(Default::default())
    }

    async fn explain(&self, _: Namespace, _: String) -> Result<(String, String), Error> {
        Ok(Default::default())
    }

    async fn start_batch(&self, _: Namespace, _: api::StartBatchOperationRequest) -> Result<(), Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn describe_batch(&self, _: Namespace, _: String) -> Result<api::DescribeBatchOperationResponse, Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn list_batches(
        &self,
        _: Namespace,
        _: usize,
        _: Vec<u8>,
    ) -> Result<api::ListBatchOperationsResponse, Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn describe_schedule(&self, _: Namespace, _: String) -> Result<api::DescribeScheduleResponse, Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn schedule_times(
        &self,
        _: Namespace,
        _: String,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Vec<prost_types::Timestamp>, Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn list_schedules(
        &self,
        _: Namespace,
        _: String,
        _: usize,
        _: Vec<u8>,
    ) -> Result<api::ListSchedulesResponse, Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn count_schedules(&self, _: Namespace, _: String) -> Result<api::CountSchedulesResponse, Error> {
        Err(Error::Unimplemented("not faked".into()))
    }

    async fn describe_task_queue(
        &self,
        _: Namespace,
        _: api::DescribeTaskQueueRequest,
    ) -> Result<api::DescribeTaskQueueResponse, Error> {
        Ok(Default::default())
    }

    async fn shutdown_worker(
        &self,
        _: Namespace,
        _: api::ShutdownWorkerRequest,
    ) -> Result<api::ShutdownWorkerResponse, Error> {
        Ok(Default::default())
    }

    async fn configure_task_queue(
        &self,
        _: Namespace,
        _: api::UpdateTaskQueueConfigRequest,
    ) -> Result<api::UpdateTaskQueueConfigResponse, Error> {
        Ok(Default::default())
    }

    async fn record_workers(&self, _: Namespace, _: Vec<WorkerHeartbeat>) -> Result<(), Error> {
        Ok(())
    }

    async fn describe_worker(&self, _: Namespace, _: String) -> Result<WorkerInfo, Error> {
        Ok(Default::default())
    }

    async fn list_workers(&self, _: Namespace, _: api::ListWorkersRequest) -> Result<api::ListWorkersResponse, Error> {
        Ok(Default::default())
    }

    async fn count_workers(&self, _: Namespace, _: String) -> Result<i64, Error> {
        Ok(0)
    }

    async fn change_member(
        &self,
        _: mainstay_api::admin::ChangeMemberRequest,
    ) -> Result<mainstay_api::admin::ChangeMemberResponse, Error> {
        Ok(Default::default())
    }

    async fn split_shard(
        &self,
        _: mainstay_api::admin::SplitShardRequest,
    ) -> Result<mainstay_api::admin::SplitShardResponse, Error> {
        Ok(Default::default())
    }

    async fn move_shard(
        &self,
        _: mainstay_api::admin::MoveShardRequest,
    ) -> Result<mainstay_api::admin::MoveShardResponse, Error> {
        Ok(Default::default())
    }

    async fn check_cluster(&self) -> Vec<String> {
        Vec::new()
    }

    async fn cluster_status(&self) -> mainstay_api::admin::GetClusterStatusResponse {
        Default::default()
    }
}
