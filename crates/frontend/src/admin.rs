//! AdminService: what operators ask of a node about its cluster.

use std::sync::Arc;

use mainstay_api::admin::admin_service_server::AdminService;
use mainstay_api::admin::{GetClusterStatusRequest, GetClusterStatusResponse};
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use tonic::{Request, Response, Status};

use crate::workflow_service::Frontend;

/// Answers operators.
pub(crate) struct Admin<R, S>(pub(crate) Arc<Frontend<R, S>>);

#[tonic::async_trait]
impl<R: Runtime, S: Service> AdminService for Admin<R, S> {
    async fn get_cluster_status(
        &self,
        _: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        Ok(Response::new(self.0.service.cluster_status().await))
    }
}
