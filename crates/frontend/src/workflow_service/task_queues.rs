//! Task queues as people see them and configure them.

use mainstay_api::temporal::enums::v1::{DescribeTaskQueueMode, TaskQueueKind, TaskQueueType};
use mainstay_api::temporal::taskqueue::v1::TaskQueuePartitionMetadata;
use mainstay_api::temporal::workflowservice::v1::update_task_queue_config_request::RateLimitUpdate;
use mainstay_api::temporal::workflowservice::v1::{
    DescribeTaskQueueRequest, DescribeTaskQueueResponse, ListTaskQueuePartitionsRequest,
    ListTaskQueuePartitionsResponse, UpdateTaskQueueConfigRequest, UpdateTaskQueueConfigResponse,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::status::{Answer, invalid};
use crate::validate::{self, priority, task_queue};

/// Partitions that Temporal names for a queue; tools poll or describe each of them.
const PARTITIONS: u32 = 4;
const REASON_MAX: usize = 1_000;

impl<R: Runtime, S: Service> Frontend<R, S> {
    #[allow(deprecated)]
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

    /// A queue is one whole here; the names are those that Temporal gives its parts.
    pub(super) async fn list_task_queue_partitions(
        &self,
        call: Call<ListTaskQueuePartitionsRequest>,
    ) -> Answer<ListTaskQueuePartitionsResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        task_queue::normalise(&mut request.task_queue)?;
        let name = request.task_queue.unwrap_or_default().name;
        let key = |part: u32| if part == 0 { name.clone() } else { format!("/_sys/{name}/{part}") };
        let partitions = |kind| -> Vec<TaskQueuePartitionMetadata> {
            let owner = self.service.queue_owner(&namespace, &name, kind);
            let owner_host_name = owner.unwrap_or_else(|| self.config.address.clone());
            let partition =
                |part| TaskQueuePartitionMetadata { key: key(part), owner_host_name: owner_host_name.clone() };
            (0..PARTITIONS).map(partition).collect()
        };
        Ok(ListTaskQueuePartitionsResponse {
            activity_task_queue_partitions: partitions(TaskQueueType::Activity),
            workflow_task_queue_partitions: partitions(TaskQueueType::Workflow),
        })
    }

    pub(super) async fn update_task_queue_config(
        &self,
        call: Call<UpdateTaskQueueConfigRequest>,
    ) -> Answer<UpdateTaskQueueConfigResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        check_config(&request)?;
        Ok(self.service.configure_task_queue(namespace, request).await?)
    }
}

fn check_config(request: &UpdateTaskQueueConfigRequest) -> Answer<()> {
    if request.task_queue_type() == TaskQueueType::Workflow && request.update_queue_rate_limit.is_some() {
        return Err(invalid("Setting rate limit on workflow task queues is not allowed."));
    }
    validate::length("TaskQueue", &request.task_queue)?;
    validate::length("Identity", &request.identity)?;
    check_rate("UpdateQueueRateLimit", request.update_queue_rate_limit.as_ref())?;
    check_rate("UpdateFairnessKeyRateLimitDefault", request.update_fairness_key_rate_limit_default.as_ref())?;
    for (key, weight) in &request.set_fairness_weight_overrides {
        priority::fairness_key(key)?;
        if *weight <= 0.0 || weight.is_nan() {
            let text = format!("invalid fairness weight weight for key \"{key}\": must be greater than zero");
            return Err(invalid(text));
        }
        if request.unset_fairness_weight_overrides.contains(key) {
            let text = format!("fairness weight override key \"{key}\" present in both set and unset lists");
            return Err(invalid(text));
        }
    }
    request.unset_fairness_weight_overrides.iter().try_for_each(|key| priority::fairness_key(key))
}

fn check_rate(what: &str, update: Option<&RateLimitUpdate>) -> Answer<()> {
    let Some(update) = update else { return Ok(()) };
    let rate = update.rate_limit.as_ref().map_or(0.0, |rate| rate.requests_per_second);
    if rate < 0.0 || rate.is_nan() {
        return Err(invalid(format!("RequestsPerSecond for {what} rate limit must be non-negative.")));
    }
    if update.reason.len() > REASON_MAX {
        return Err(invalid(format!("{what}.Reason field too long (max {REASON_MAX} characters).")));
    }
    Ok(())
}
