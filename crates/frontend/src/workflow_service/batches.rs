//! Batch jobs: start, stop, describe, list.

use mainstay_api::log::command::Op;
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_engine::batch::entity_id;
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::visibility::page_size;
use super::{Call, Frontend};
use crate::status::Answer;
use crate::validate::{self, batch};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn start_batch_operation(
        &self,
        call: Call<StartBatchOperationRequest>,
    ) -> Answer<StartBatchOperationResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        batch::start(&call.request, self.blobs())?;
        self.service.start_batch(namespace, call.request).await?;
        Ok(StartBatchOperationResponse::default())
    }

    pub(super) async fn stop_batch_operation(
        &self,
        call: Call<StopBatchOperationRequest>,
    ) -> Answer<StopBatchOperationResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        validate::required("JobId", &request.job_id)?;
        validate::required("Reason", &request.reason)?;
        let entity = entity_id(&request.job_id);
        self.execute(&namespace, &entity, Op::StopBatch(request)).await?;
        Ok(StopBatchOperationResponse::default())
    }

    pub(super) async fn describe_batch_operation(
        &self,
        call: Call<DescribeBatchOperationRequest>,
    ) -> Answer<DescribeBatchOperationResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        validate::required("JobId", &request.job_id)?;
        Ok(self.service.describe_batch(namespace, request.job_id).await?)
    }

    pub(super) async fn list_batch_operations(
        &self,
        call: Call<ListBatchOperationsRequest>,
    ) -> Answer<ListBatchOperationsResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let size = page_size(request.page_size);
        Ok(self.service.list_batches(namespace, size, request.next_page_token.to_vec()).await?)
    }
}
