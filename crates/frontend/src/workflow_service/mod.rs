//! WorkflowService: one file per family of calls, one table that registers them.
//!
//! A handler takes a [`Call`], checks and completes its request, asks the node once, and shapes the answer. Calls without a row
//! in the table are answered UNIMPLEMENTED by name.

mod activities;
mod activity_operations;
mod batches;
mod follow;
mod history;
mod namespaces;
mod options;
mod pause;
mod queries;
mod runs;
mod schedules;
mod start;
mod system;
mod task_queues;
mod updates;
mod visibility;
mod workers;
mod workflow_tasks;

use std::marker::PhantomData;
use std::time::Duration;

use futures_util::FutureExt;
use mainstay_api::log::{Command, Reply, TaskToken, command::Op, reply, task_token::Kind};
use mainstay_api::temporal::enums::v1::NamespaceState;
use mainstay_api::temporal::workflowservice::v1::workflow_service_server::WorkflowService;
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_engine::Error;
use mainstay_node::service::{Namespace, Service};
use mainstay_runtime::Runtime;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::Config;
use crate::closing::Closing;
use crate::deadline::Budget;
use crate::log::About;
use crate::measure::Calls;
use crate::status::{Answer, Refusal, invalid, status_of};
use crate::token::Seal;
use crate::validate::sizes::Blobs;
use crate::{trace, validate};

pub(crate) use namespaces::{CLUSTER, SYSTEM_NAMESPACE};

const SERVICE: &str = "temporal.api.workflowservice.v1.WorkflowService";
/// Clients that want to see only what is written.
const CLIENTS_FOR_PEOPLE: [&str; 2] = ["temporal-cli", "temporal-ui"];

/// The frontend of one node.
pub(crate) struct Frontend<R, S> {
    pub(crate) service: S,
    pub(crate) config: Config,
    pub(crate) calls: Calls,
    closing: Closing,
    traced: trace::Budget,
    runtime: PhantomData<fn() -> R>,
}

/// One call: the request, and what its headers say.
pub(crate) struct Call<T> {
    pub(crate) request: T,
    pub(crate) budget: Budget,
    /// Whether the caller wants no events that are not written yet.
    pub(crate) skip_unwritten: bool,
    /// Whether the caller looks for the next run in a run's close, also if that is no continue-as-new.
    pub(crate) follows_next_run: bool,
}

impl<T> From<Request<T>> for Call<T> {
    fn from(request: Request<T>) -> Self {
        let client = request.metadata().get("client-name").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let skip_unwritten = CLIENTS_FOR_PEOPLE.contains(&client);
        let follows_next_run = follow::is_known_to(request.metadata());
        let budget = Budget::of(request.metadata().as_ref());
        Self { request: request.into_inner(), budget, skip_unwritten, follows_next_run }
    }
}

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(crate) fn new(service: S, config: Config, closing: Closing) -> Self {
        let traced = trace::Budget::new(config.traced_per_second);
        Self { service, config, calls: Calls::new(&NAMES, ""), closing, traced, runtime: PhantomData }
    }

    /// How large payloads, headers and failures may be.
    pub(crate) fn blobs(&self) -> Blobs {
        Blobs(self.config.blob_size_max)
    }

    pub(crate) fn seal(&self) -> Seal {
        Seal::new(&self.service.cluster_id())
    }

    /// The namespace that a request names, if it exists and is not deleted.
    pub(crate) fn namespace(&self, name: &str) -> Answer<Namespace> {
        self.namespace_in(name, &[NamespaceState::Registered, NamespaceState::Deprecated])
    }

    /// The namespace, if new work may begin in it.
    pub(crate) fn namespace_for_start(&self, name: &str) -> Answer<Namespace> {
        self.namespace_in(name, &[NamespaceState::Registered])
    }

    fn namespace_in(&self, name: &str, allowed: &[NamespaceState]) -> Answer<Namespace> {
        if name.is_empty() {
            return Err(invalid("Namespace is empty."));
        }
        validate::length("Namespace", name)?;
        let found = self.namespace_by_name(name).ok_or_else(|| self.service.no_namespace(name))?;
        let state = found.state();
        // A record without a state is as good as registered.
        if state == NamespaceState::Unspecified || allowed.contains(&state) {
            return Ok(found);
        }
        Err(Refusal::NamespaceInvalidState { namespace: name.into(), state, allowed: allowed.to_vec() })
    }

    /// The namespace and token of a request that carries a token; the token alone may name the namespace.
    pub(crate) fn namespace_of_token(&self, name: &str, sealed: &[u8], kind: Kind) -> Answer<(Namespace, TaskToken)> {
        let named = if name.is_empty() { None } else { Some(self.namespace(name)?) };
        let token = self.seal().open_task(sealed, kind)?;
        let namespace = match named {
            Some(namespace) if namespace.id != token.namespace_id => {
                return Err(invalid("Operation requested with a token from a different namespace."));
            }
            Some(namespace) => namespace,
            None => {
                let found = self.service.namespace_by_id(&token.namespace_id);
                found.ok_or_else(|| self.service.no_namespace(&token.namespace_id))?
            }
        };
        Ok((namespace, token))
    }

    /// Sends a command to the entity it concerns.
    pub(crate) async fn execute(&self, namespace: &Namespace, workflow_id: &str, op: Op) -> Answer<Reply> {
        let command = Command {
            namespace_id: namespace.id.clone(),
            workflow_id: workflow_id.to_string(),
            op: Some(op),
            ..Command::default()
        };
        Ok(self.service.execute(command).await?)
    }

    /// Lets a poll wait, but not longer than the server lives.
    pub(crate) fn poll<T>(
        &self,
        wait: impl Future<Output = Result<Option<T>, Error>>,
    ) -> impl Future<Output = Answer<Option<T>>> {
        self.closing.unless(wait).map(|ended| Ok(ended.transpose()?.flatten()))
    }

    pub(crate) fn poll_timeout(&self, budget: Budget) -> Answer<Duration> {
        budget.for_poll(self.config.poll_timeout)
    }
}

/// A reply of a kind that the command does not have.
pub(crate) fn unexpected<T>(reply: Option<reply::Reply>) -> Answer<T> {
    Err(Error::Internal(format!("unexpected reply: {reply:?}")).into())
}

/// Registers the calls: the name is that of the method on [`Frontend`].
macro_rules! register {
    ($($name:ident($request:ty) -> $response:ty,)*) => {
        /// Each call by the name of its method.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Method {
            $($name,)*
        }

        const NAMES: [&str; [$(Method::$name),*].len()] = [$(stringify!($name)),*];

        #[tonic::async_trait]
        impl<R: Runtime, S: Service> WorkflowService for Frontend<R, S> {
            $(
                async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    let measured =
                        self.calls.begin::<R, S>(&self.service, Method::$name as usize, &request);
                    let about = About::of(request.get_ref());
                    let span = trace::call::<R>(&self.traced, SERVICE, stringify!($name), &request);
                    let handled = Frontend::<R, S>::$name(self, request.into());
                    let answer: Answer<$response> = handled.instrument(span.clone()).await;
                    trace::ended(&span, &answer);
                    let took = measured.end(&answer);
                    about.log(stringify!($name), took, self.config.slow_call, answer.as_ref().err());
                    answer.map(Response::new).map_err(|refusal| status_of(&refusal))
                }
            )*
        }
    };
}

register! {
    count_schedules(CountSchedulesRequest) -> CountSchedulesResponse,
    count_workflow_executions(CountWorkflowExecutionsRequest) -> CountWorkflowExecutionsResponse,
    count_workers(CountWorkersRequest) -> CountWorkersResponse,
    create_schedule(CreateScheduleRequest) -> CreateScheduleResponse,
    delete_schedule(DeleteScheduleRequest) -> DeleteScheduleResponse,
    delete_workflow_execution(DeleteWorkflowExecutionRequest) -> DeleteWorkflowExecutionResponse,
    deprecate_namespace(DeprecateNamespaceRequest) -> DeprecateNamespaceResponse,
    describe_batch_operation(DescribeBatchOperationRequest) -> DescribeBatchOperationResponse,
    describe_namespace(DescribeNamespaceRequest) -> DescribeNamespaceResponse,
    describe_schedule(DescribeScheduleRequest) -> DescribeScheduleResponse,
    describe_task_queue(DescribeTaskQueueRequest) -> DescribeTaskQueueResponse,
    describe_worker(DescribeWorkerRequest) -> DescribeWorkerResponse,
    describe_workflow_execution(DescribeWorkflowExecutionRequest) -> DescribeWorkflowExecutionResponse,
    execute_multi_operation(ExecuteMultiOperationRequest) -> ExecuteMultiOperationResponse,
    get_cluster_info(GetClusterInfoRequest) -> GetClusterInfoResponse,
    get_search_attributes(GetSearchAttributesRequest) -> GetSearchAttributesResponse,
    get_system_info(GetSystemInfoRequest) -> GetSystemInfoResponse,
    get_workflow_execution_history(GetWorkflowExecutionHistoryRequest) -> GetWorkflowExecutionHistoryResponse,
    get_workflow_execution_history_reverse(GetWorkflowExecutionHistoryReverseRequest)
        -> GetWorkflowExecutionHistoryReverseResponse,
    list_archived_workflow_executions(ListArchivedWorkflowExecutionsRequest) -> ListArchivedWorkflowExecutionsResponse,
    list_batch_operations(ListBatchOperationsRequest) -> ListBatchOperationsResponse,
    list_closed_workflow_executions(ListClosedWorkflowExecutionsRequest) -> ListClosedWorkflowExecutionsResponse,
    list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse,
    list_open_workflow_executions(ListOpenWorkflowExecutionsRequest) -> ListOpenWorkflowExecutionsResponse,
    list_schedule_matching_times(ListScheduleMatchingTimesRequest) -> ListScheduleMatchingTimesResponse,
    list_schedules(ListSchedulesRequest) -> ListSchedulesResponse,
    list_task_queue_partitions(ListTaskQueuePartitionsRequest) -> ListTaskQueuePartitionsResponse,
    list_worker_deployments(ListWorkerDeploymentsRequest) -> ListWorkerDeploymentsResponse,
    list_workers(ListWorkersRequest) -> ListWorkersResponse,
    list_workflow_executions(ListWorkflowExecutionsRequest) -> ListWorkflowExecutionsResponse,
    pause_activity(PauseActivityRequest) -> PauseActivityResponse,
    pause_activity_execution(PauseActivityExecutionRequest) -> PauseActivityExecutionResponse,
    pause_workflow_execution(PauseWorkflowExecutionRequest) -> PauseWorkflowExecutionResponse,
    patch_schedule(PatchScheduleRequest) -> PatchScheduleResponse,
    poll_activity_task_queue(PollActivityTaskQueueRequest) -> PollActivityTaskQueueResponse,
    poll_workflow_execution_update(PollWorkflowExecutionUpdateRequest) -> PollWorkflowExecutionUpdateResponse,
    poll_workflow_task_queue(PollWorkflowTaskQueueRequest) -> PollWorkflowTaskQueueResponse,
    query_workflow(QueryWorkflowRequest) -> QueryWorkflowResponse,
    record_activity_task_heartbeat(RecordActivityTaskHeartbeatRequest) -> RecordActivityTaskHeartbeatResponse,
    record_activity_task_heartbeat_by_id(RecordActivityTaskHeartbeatByIdRequest)
        -> RecordActivityTaskHeartbeatByIdResponse,
    record_worker_heartbeat(RecordWorkerHeartbeatRequest) -> RecordWorkerHeartbeatResponse,
    register_namespace(RegisterNamespaceRequest) -> RegisterNamespaceResponse,
    request_cancel_workflow_execution(RequestCancelWorkflowExecutionRequest) -> RequestCancelWorkflowExecutionResponse,
    reset_activity(ResetActivityRequest) -> ResetActivityResponse,
    reset_activity_execution(ResetActivityExecutionRequest) -> ResetActivityExecutionResponse,
    reset_sticky_task_queue(ResetStickyTaskQueueRequest) -> ResetStickyTaskQueueResponse,
    reset_workflow_execution(ResetWorkflowExecutionRequest) -> ResetWorkflowExecutionResponse,
    respond_activity_task_canceled(RespondActivityTaskCanceledRequest) -> RespondActivityTaskCanceledResponse,
    respond_activity_task_canceled_by_id(RespondActivityTaskCanceledByIdRequest)
        -> RespondActivityTaskCanceledByIdResponse,
    respond_activity_task_completed(RespondActivityTaskCompletedRequest) -> RespondActivityTaskCompletedResponse,
    respond_activity_task_completed_by_id(RespondActivityTaskCompletedByIdRequest)
        -> RespondActivityTaskCompletedByIdResponse,
    respond_activity_task_failed(RespondActivityTaskFailedRequest) -> RespondActivityTaskFailedResponse,
    respond_activity_task_failed_by_id(RespondActivityTaskFailedByIdRequest) -> RespondActivityTaskFailedByIdResponse,
    respond_query_task_completed(RespondQueryTaskCompletedRequest) -> RespondQueryTaskCompletedResponse,
    respond_workflow_task_completed(RespondWorkflowTaskCompletedRequest) -> RespondWorkflowTaskCompletedResponse,
    respond_workflow_task_failed(RespondWorkflowTaskFailedRequest) -> RespondWorkflowTaskFailedResponse,
    scan_workflow_executions(ScanWorkflowExecutionsRequest) -> ScanWorkflowExecutionsResponse,
    shutdown_worker(ShutdownWorkerRequest) -> ShutdownWorkerResponse,
    signal_with_start_workflow_execution(SignalWithStartWorkflowExecutionRequest)
        -> SignalWithStartWorkflowExecutionResponse,
    signal_workflow_execution(SignalWorkflowExecutionRequest) -> SignalWorkflowExecutionResponse,
    start_batch_operation(StartBatchOperationRequest) -> StartBatchOperationResponse,
    start_workflow_execution(StartWorkflowExecutionRequest) -> StartWorkflowExecutionResponse,
    stop_batch_operation(StopBatchOperationRequest) -> StopBatchOperationResponse,
    terminate_workflow_execution(TerminateWorkflowExecutionRequest) -> TerminateWorkflowExecutionResponse,
    unpause_activity(UnpauseActivityRequest) -> UnpauseActivityResponse,
    unpause_activity_execution(UnpauseActivityExecutionRequest) -> UnpauseActivityExecutionResponse,
    unpause_workflow_execution(UnpauseWorkflowExecutionRequest) -> UnpauseWorkflowExecutionResponse,
    update_activity_execution_options(UpdateActivityExecutionOptionsRequest)
        -> UpdateActivityExecutionOptionsResponse,
    update_activity_options(UpdateActivityOptionsRequest) -> UpdateActivityOptionsResponse,
    update_namespace(UpdateNamespaceRequest) -> UpdateNamespaceResponse,
    update_workflow_execution(UpdateWorkflowExecutionRequest) -> UpdateWorkflowExecutionResponse,
    update_task_queue_config(UpdateTaskQueueConfigRequest) -> UpdateTaskQueueConfigResponse,
    update_workflow_execution_options(UpdateWorkflowExecutionOptionsRequest)
        -> UpdateWorkflowExecutionOptionsResponse,
    update_schedule(UpdateScheduleRequest) -> UpdateScheduleResponse,
}
