//! Task queues as people see them, and workers that report about themselves.

use mainstay_api::temporal::enums::v1::{DescribeTaskQueueMode, TaskQueueKind};
use mainstay_api::temporal::taskqueue::v1::TaskQueuePartitionMetadata;
use mainstay_api::temporal::workflowservice::v1::{
    DescribeTaskQueueRequest, DescribeTaskQueueResponse, ListTaskQueuePartitionsRequest,
    ListTaskQueuePartitionsResponse, RecordWorkerHeartbeatRequest, RecordWorkerHeartbeatResponse,
    ShutdownWorkerRequest, ShutdownWorkerResponse,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::status::{Answer, invalid};
use crate::validate::task_queue;

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn describe_task_queue(
        &self,
        call: Call<DescribeTaskQueueRequest>,
    ) -> Answer<DescribeTaskQueueResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        task_queue::normalise_any(&mut request.task_queue)?;
        let sticky = request.task_queue.as_ref().is_some_and(|queue| queue.kind() == TaskQueueKind::Sticky);
        if sticky && request.api_mode() == DescribeTaskQueueMode::Enhanced {
            let text = "Enhanced DescribeTaskQueue is not valid for a sticky queue, use api_mode=UNSPECIFIED or a normal queue.";
            return Err(invalid(text));
        }
        Ok(self.service.describe_task_queue(namespace, request).await?)
    }

    /// A queue is one partition here.
    pub(super) async fn list_task_queue_partitions(
        &self,
        call: Call<ListTaskQueuePartitionsRequest>,
    ) -> Answer<ListTaskQueuePartitionsResponse> {
        let mut request = call.request;
        self.namespace(&request.namespace)?;
        task_queue::normalise(&mut request.task_queue)?;
        let key = request.task_queue.unwrap_or_default().name;
        let root = TaskQueuePartitionMetadata { key, owner_host_name: String::new() };
        Ok(ListTaskQueuePartitionsResponse {
            activity_task_queue_partitions: vec![root.clone()],
            workflow_task_queue_partitions: vec![root],
        })
    }

    pub(super) async fn shutdown_worker(&self, call: Call<ShutdownWorkerRequest>) -> Answer<ShutdownWorkerResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        Ok(self.service.shutdown_worker(namespace, call.request).await?)
    }

    pub(super) async fn record_worker_heartbeat(
        &self,
        call: Call<RecordWorkerHeartbeatRequest>,
    ) -> Answer<RecordWorkerHeartbeatResponse> {
        self.namespace(&call.request.namespace)?;
        Ok(RecordWorkerHeartbeatResponse::default())
    }
}
