//! What a node does for its frontend. The frontend validated and normalised the request, resolved the namespace and will
//! encode tokens and statuses; from here on only state matters.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mainstay_api::log::{ActivityTaskStarted, Command, Reply, TaskToken};
use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::TaskQueueType;
use mainstay_api::temporal::worker::v1::{WorkerHeartbeat, WorkerInfo};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::{RunId, Timestamp};
use mainstay_engine::Error;

/// A namespace as the node knows it now.
pub type Namespace = Arc<NamespaceRecord>;

/// A workflow task for a worker. `response` is complete but for its token and `next_page_token`.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowTask {
    /// What the worker must send back.
    pub token: TaskToken,
    /// History's first page, queries and the task's facts.
    pub response: api::PollWorkflowTaskQueueResponse,
    /// Where the history goes on, if its first page was not all of it.
    pub rest: Option<HistoryPosition>,
}

/// A place in a run's history, for paging. The frontend makes an opaque page token of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryPosition {
    /// The run that the position belongs to.
    pub run_id: String,
    /// The next event to send (the last one, counting down, when reversed).
    pub event_id: i64,
    /// Exclusive bound seen by the first page; 0 where there is none.
    pub until_event_id: i64,
    /// Whether a long poll goes on after the last event.
    pub wait: bool,
}

impl HistoryPosition {
    /// A page that goes on at an event; with a bound where the first page saw one (else 0).
    #[must_use]
    pub fn page(run: RunId, event_id: i64, until_event_id: i64) -> Self {
        Self { run_id: run.to_string(), event_id, until_event_id, wait: false }
    }

    /// A long poll that goes on at an event.
    #[must_use]
    pub fn long_poll(run: RunId, event_id: i64) -> Self {
        Self { run_id: run.to_string(), event_id, until_event_id: 0, wait: true }
    }
}

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From now on.
    pub timeout: Duration,
    /// Whether it is the caller's own time: its end is an error then, and an answer otherwise.
    pub is_callers: bool,
}

/// The answers of an update-with-start.
pub type UpdatedWithStart = (api::StartWorkflowExecutionResponse, api::UpdateWorkflowExecutionResponse);

/// Which operation of several was refused; the others were not done, or are aborted.
#[derive(Clone, Debug, PartialEq)]
pub enum MultiError {
    /// The start.
    Start(Error),
    /// The update.
    Update(Error),
    /// The update, after the start was done.
    UpdateOfStarted(Error),
    /// Neither: the call as a whole.
    Whole(Error),
}

/// A read of history.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// Workflow id; an empty run id means the current run.
    pub execution: WorkflowExecution,
    /// Where the last page ended.
    pub position: Option<HistoryPosition>,
    /// At most this many events, rounded up to whole batches.
    pub page_size: usize,
    /// Block until there is something new.
    pub wait_new_event: bool,
    /// Only the close event (waits for it up to the timeout).
    pub close_event_only: bool,
    /// Newest first.
    pub reverse: bool,
    /// Leave out the unwritten events of a pending transient task.
    pub skip_unwritten: bool,
    /// How long to block at most.
    pub timeout: Duration,
}

/// One page of history.
#[derive(Clone, Debug, Default)]
pub struct HistoryPage {
    /// Encoded events.
    pub history: mainstay_api::RawHistory,
    /// Where to go on; none at the end.
    pub next: Option<HistoryPosition>,
}

/// One page of a list.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// Rows in list order.
    pub executions: Vec<WorkflowExecutionInfo>,
    /// Opaque to the frontend; empty at the end.
    pub next_page_token: Vec<u8>,
}

/// The answer to a workflow-task completion.
#[derive(Clone, Debug, Default)]
pub struct WorkflowTaskCompletion {
    /// As sent, but for `workflow_task` and `activity_tasks`, which need tokens.
    pub response: api::RespondWorkflowTaskCompletedResponse,
    /// The next task, started inline.
    pub workflow_task: Option<WorkflowTask>,
    /// Activities started eagerly.
    pub activity_tasks: Vec<ActivityTaskStarted>,
}

/// The operations of a node. All futures may be dropped at any await point without loss of anything acknowledged.
pub trait Service: Clone + Send + Sync + 'static {
    /// A namespace by name.
    fn namespace(&self, name: &str) -> Option<Namespace>;
    /// What to say of a namespace that is named, by name or id, and not known here.
    fn no_namespace(&self, named: &str) -> Error;
    /// A namespace by id.
    fn namespace_by_id(&self, id: &str) -> Option<Namespace>;
    /// All namespaces, by name.
    fn namespaces(&self) -> Vec<Namespace>;
    /// Creates (revision 0) or replaces (revision as read) a namespace; answers it as stored.
    fn put_namespace(&self, record: NamespaceRecord) -> impl Future<Output = Result<Namespace, Error>> + Send;
    /// Stable per data directory: a UUID.
    fn cluster_id(&self) -> String;

    /// Routes a command to its shard, replicates it and answers what apply answered. Retries inside keep the command's id.
    fn execute(&self, command: Command) -> impl Future<Output = Result<Reply, Error>> + Send;

    /// Adds the history's first page to a task that a reply carried (eager start).
    fn complete_task(
        &self,
        namespace: Namespace,
        started: mainstay_api::log::WorkflowTaskStarted,
    ) -> impl Future<Output = Result<WorkflowTask, Error>> + Send;

    /// Waits for a workflow task; none after `timeout`.
    fn poll_workflow_task(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowTaskQueueRequest,
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<WorkflowTask>, Error>> + Send;

    /// Waits for an activity task; none after `timeout`.
    fn poll_activity_task(
        &self,
        namespace: Namespace,
        request: api::PollActivityTaskQueueRequest,
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<ActivityTaskStarted>, Error>> + Send;

    /// Completes a workflow task and hands its query results to their callers.
    fn complete_workflow_task(
        &self,
        namespace: Namespace,
        token: TaskToken,
        request: api::RespondWorkflowTaskCompletedRequest,
    ) -> impl Future<Output = Result<WorkflowTaskCompletion, Error>> + Send;

    /// A worker's answer to a query task.
    fn answer_query(
        &self,
        namespace: Namespace,
        token: TaskToken,
        request: api::RespondQueryTaskCompletedRequest,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Asks a workflow; waits for its worker at most `timeout`.
    fn query(
        &self,
        namespace: Namespace,
        request: api::QueryWorkflowRequest,
        timeout: Duration,
    ) -> impl Future<Output = Result<api::QueryWorkflowResponse, Error>> + Send;

    /// Admits an update, or finds it by its id, and waits until it has reached the stage that the caller asks for.
    fn update(
        &self,
        namespace: Namespace,
        request: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> impl Future<Output = Result<api::UpdateWorkflowExecutionResponse, Error>> + Send;

    /// Waits until a known update has reached a stage.
    fn poll_update(
        &self,
        namespace: Namespace,
        request: api::PollWorkflowExecutionUpdateRequest,
        patience: Patience,
    ) -> impl Future<Output = Result<api::PollWorkflowExecutionUpdateResponse, Error>> + Send;

    /// Starts a workflow, or uses the running one, and updates it: both or neither.
    fn update_with_start(
        &self,
        namespace: Namespace,
        start: api::StartWorkflowExecutionRequest,
        update: api::UpdateWorkflowExecutionRequest,
        patience: Patience,
    ) -> impl Future<Output = Result<UpdatedWithStart, MultiError>> + Send;

    /// Reads history, by long poll where asked.
    fn history(
        &self,
        namespace: Namespace,
        query: HistoryQuery,
    ) -> impl Future<Output = Result<HistoryPage, Error>> + Send;

    /// What DescribeWorkflowExecution shows.
    fn describe(
        &self,
        namespace: Namespace,
        execution: WorkflowExecution,
    ) -> impl Future<Output = Result<api::DescribeWorkflowExecutionResponse, Error>> + Send;

    /// Lists executions that match a filter of the query language, running ones first, then by close and start time.
    fn list(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> impl Future<Output = Result<ListPage, Error>> + Send;

    /// Counts executions, by group if the filter says so.
    fn count(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> impl Future<Output = Result<api::CountWorkflowExecutionsResponse, Error>> + Send;

    /// How a filter's executions are listed, and how they are counted: a line each.
    fn explain(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> impl Future<Output = Result<(String, String), Error>> + Send;

    /// Begins a batch job, unless one runs in the namespace.
    fn start_batch(
        &self,
        namespace: Namespace,
        request: api::StartBatchOperationRequest,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// What DescribeBatchOperation shows.
    fn describe_batch(
        &self,
        namespace: Namespace,
        job_id: String,
    ) -> impl Future<Output = Result<api::DescribeBatchOperationResponse, Error>> + Send;

    /// Lists batch jobs, newest first.
    fn list_batches(
        &self,
        namespace: Namespace,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> impl Future<Output = Result<api::ListBatchOperationsResponse, Error>> + Send;

    /// What DescribeSchedule shows.
    fn describe_schedule(
        &self,
        namespace: Namespace,
        schedule_id: String,
    ) -> impl Future<Output = Result<api::DescribeScheduleResponse, Error>> + Send;

    /// The times of a schedule after `from`, up to and with `to`; at most a thousand.
    fn schedule_times(
        &self,
        namespace: Namespace,
        schedule_id: String,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Future<Output = Result<Vec<prost_types::Timestamp>, Error>> + Send;

    /// Lists schedules that match a filter, newest first.
    fn list_schedules(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> impl Future<Output = Result<api::ListSchedulesResponse, Error>> + Send;

    /// Counts schedules that match a filter.
    fn count_schedules(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> impl Future<Output = Result<api::CountSchedulesResponse, Error>> + Send;

    /// Pollers and statistics of a task queue.
    fn describe_task_queue(
        &self,
        namespace: Namespace,
        request: api::DescribeTaskQueueRequest,
    ) -> impl Future<Output = Result<api::DescribeTaskQueueResponse, Error>> + Send;

    /// Where the node is whose memory has the pollers of a task queue. None: nowhere else, this node is alone.
    fn queue_owner(&self, namespace: &Namespace, name: &str, kind: TaskQueueType) -> Option<String>;

    /// A worker is going: its sticky queue is unloaded.
    fn shutdown_worker(
        &self,
        namespace: Namespace,
        request: api::ShutdownWorkerRequest,
    ) -> impl Future<Output = Result<api::ShutdownWorkerResponse, Error>> + Send;

    /// Sets rates and fairness weights of a task queue.
    fn configure_task_queue(
        &self,
        namespace: Namespace,
        request: api::UpdateTaskQueueConfigRequest,
    ) -> impl Future<Output = Result<api::UpdateTaskQueueConfigResponse, Error>> + Send;

    /// Workers report about themselves.
    fn record_workers(
        &self,
        namespace: Namespace,
        heartbeats: Vec<WorkerHeartbeat>,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// What a worker last reported.
    fn describe_worker(
        &self,
        namespace: Namespace,
        instance_key: String,
    ) -> impl Future<Output = Result<WorkerInfo, Error>> + Send;

    /// A page of the workers that reported lately and that a filter lets through.
    fn list_workers(
        &self,
        namespace: Namespace,
        request: api::ListWorkersRequest,
    ) -> impl Future<Output = Result<api::ListWorkersResponse, Error>> + Send;

    /// How many such workers there are.
    fn count_workers(&self, namespace: Namespace, filter: String) -> impl Future<Output = Result<i64, Error>> + Send;

    /// Decides what is wanted of a member of the cluster: that it comes, votes, goes, takes another's place, or leads nothing.
    fn change_member(
        &self,
        request: mainstay_api::admin::ChangeMemberRequest,
    ) -> impl Future<Output = Result<mainstay_api::admin::ChangeMemberResponse, Error>> + Send;

    /// Decides that a new shard takes over half of one's slots.
    fn split_shard(
        &self,
        request: mainstay_api::admin::SplitShardRequest,
    ) -> impl Future<Output = Result<mainstay_api::admin::SplitShardResponse, Error>> + Send;

    /// Decides that a replica of a shard moves from one node to another.
    fn move_shard(
        &self,
        request: mainstay_api::admin::MoveShardRequest,
    ) -> impl Future<Output = Result<mainstay_api::admin::MoveShardResponse, Error>> + Send;

    /// What is wrong with the cluster, in sentences.
    fn check_cluster(&self) -> impl Future<Output = Vec<String>> + Send;

    /// Whether every shard has a leader that can be reached from here.
    fn is_ready(&self) -> bool {
        true
    }

    /// The cluster as this node sees it.
    fn cluster_status(&self) -> impl Future<Output = mainstay_api::admin::GetClusterStatusResponse> + Send;
}
