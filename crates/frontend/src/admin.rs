//! AdminService: what operators ask of a node about its cluster.

use std::sync::Arc;

use mainstay_api::admin::admin_service_server::AdminService;
use mainstay_api::admin::{
    ChangeMemberRequest, ChangeMemberResponse, CheckClusterRequest, CheckClusterResponse, ExplainQueryRequest,
    ExplainQueryResponse, GetClusterStatusRequest, GetClusterStatusResponse, MoveShardRequest, MoveShardResponse,
    SplitShardRequest, SplitShardResponse,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;
use tonic::{Request, Response, Status};

use crate::status::{Refusal, status_of};
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

    async fn explain_query(
        &self,
        request: Request<ExplainQueryRequest>,
    ) -> Result<Response<ExplainQueryResponse>, Status> {
        let ExplainQueryRequest { namespace: name, query } = request.into_inner();
        let explain = async {
            let namespace = self.0.service.namespace(&name).ok_or_else(|| self.0.service.no_namespace(&name))?;
            let (list, count) = self.0.service.explain(namespace, query).await?;
            Ok::<_, Refusal>(Response::new(ExplainQueryResponse { list, count }))
        };
        explain.await.map_err(|refusal| status_of(&refusal))
    }

    async fn change_member(
        &self,
        request: Request<ChangeMemberRequest>,
    ) -> Result<Response<ChangeMemberResponse>, Status> {
        let changed = self.0.service.change_member(request.into_inner()).await;
        changed.map(Response::new).map_err(|error| status_of(&error.into()))
    }

    async fn split_shard(&self, request: Request<SplitShardRequest>) -> Result<Response<SplitShardResponse>, Status> {
        let split = self.0.service.split_shard(request.into_inner()).await;
        split.map(Response::new).map_err(|error| status_of(&error.into()))
    }

    async fn move_shard(&self, request: Request<MoveShardRequest>) -> Result<Response<MoveShardResponse>, Status> {
        let moved = self.0.service.move_shard(request.into_inner()).await;
        moved.map(Response::new).map_err(|error| status_of(&error.into()))
    }

    async fn check_cluster(&self, _: Request<CheckClusterRequest>) -> Result<Response<CheckClusterResponse>, Status> {
        Ok(Response::new(CheckClusterResponse { problems: self.0.service.check_cluster().await }))
    }
}
