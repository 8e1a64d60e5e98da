//! Workers that report about themselves, and who looks at them.

use mainstay_api::temporal::workflowservice::v1::{
    CountWorkersRequest, CountWorkersResponse, DescribeWorkerRequest, DescribeWorkerResponse,
    ListWorkerDeploymentsRequest, ListWorkerDeploymentsResponse, ListWorkersRequest, ListWorkersResponse,
    RecordWorkerHeartbeatRequest, RecordWorkerHeartbeatResponse, ShutdownWorkerRequest, ShutdownWorkerResponse,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::status::Answer;

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn shutdown_worker(&self, call: Call<ShutdownWorkerRequest>) -> Answer<ShutdownWorkerResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        Ok(self.service.shutdown_worker(namespace, call.request).await?)
    }

    pub(super) async fn record_worker_heartbeat(
        &self,
        call: Call<RecordWorkerHeartbeatRequest>,
    ) -> Answer<RecordWorkerHeartbeatResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        self.service.record_workers(namespace, call.request.worker_heartbeat).await?;
        Ok(RecordWorkerHeartbeatResponse::default())
    }

    pub(super) async fn describe_worker(&self, call: Call<DescribeWorkerRequest>) -> Answer<DescribeWorkerResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        let info = self.service.describe_worker(namespace, call.request.worker_instance_key).await?;
        Ok(DescribeWorkerResponse { worker_info: Some(info) })
    }

    pub(super) async fn list_workers(&self, call: Call<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        Ok(self.service.list_workers(namespace, call.request).await?)
    }

    /// None: they are not supported, so nobody can have made one. Whoever asks for all of them gets all of them.
    pub(super) async fn list_worker_deployments(
        &self,
        call: Call<ListWorkerDeploymentsRequest>,
    ) -> Answer<ListWorkerDeploymentsResponse> {
        self.namespace(&call.request.namespace)?;
        Ok(ListWorkerDeploymentsResponse::default())
    }

    pub(super) async fn count_workers(&self, call: Call<CountWorkersRequest>) -> Answer<CountWorkersResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        let count = self.service.count_workers(namespace, call.request.query).await?;
        Ok(CountWorkersResponse { count })
    }
}
