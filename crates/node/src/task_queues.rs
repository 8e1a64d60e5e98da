//! What people see of a task queue: pollers, backlog, rates.

use mainstay_api::temporal::enums::v1::{RateLimitSource, TaskQueueType};
use mainstay_api::temporal::taskqueue::v1::{PollerInfo, TaskQueueStats, TaskQueueStatus, TaskQueueVersioningInfo};
use mainstay_api::temporal::workflowservice::v1::describe_task_queue_response::EffectiveRateLimit;
use mainstay_api::temporal::workflowservice::v1::{DescribeTaskQueueRequest, DescribeTaskQueueResponse};
use mainstay_base::Timestamp;
use mainstay_matching::{QueueInfo, QueueKey, QueueKind};
use mainstay_runtime::Runtime;
use prost_types::{Duration, Timestamp as ProtoTimestamp};

use crate::node::Node;
use crate::service::Namespace;

/// What Temporal shows of a poller that named no rate.
const POLLER_RATE: f64 = 100_000.0;
/// The rate of a queue that nobody limited.
const SYSTEM_RATE: f32 = 4_000.0;
const DEFAULT_PRIORITY: i32 = 3;

impl<R: Runtime> Node<R> {
    #[allow(deprecated)]
    pub(crate) fn queue_description(
        &self,
        namespace: &Namespace,
        request: &DescribeTaskQueueRequest,
    ) -> DescribeTaskQueueResponse {
        let kind = match request.task_queue_type() {
            TaskQueueType::Activity => QueueKind::Activity,
            _ => QueueKind::Workflow,
        };
        let name = request.task_queue.clone().unwrap_or_default().name;
        let info =
            self.board().dispatch.describe(&QueueKey { namespace_id: namespace.id.clone(), name, kind }, self.now());
        let stats = stats(&info);
        let rate = info
            .rate_limit
            .map_or((SYSTEM_RATE, RateLimitSource::System), |rate| (rate as f32, RateLimitSource::Worker));
        DescribeTaskQueueResponse {
            pollers: info.pollers.iter().map(poller).collect(),
            stats: request.report_stats.then_some(stats),
            stats_by_priority_key: request.report_stats.then_some((DEFAULT_PRIORITY, stats)).into_iter().collect(),
            versioning_info: Some(TaskQueueVersioningInfo {
                current_version: "__unversioned__".into(),
                update_time: Some(ProtoTimestamp::default()),
                ..TaskQueueVersioningInfo::default()
            }),
            effective_rate_limit: Some(EffectiveRateLimit {
                requests_per_second: rate.0,
                rate_limit_source: rate.1 as i32,
            }),
            task_queue_status: request.include_task_queue_status.then(|| TaskQueueStatus {
                backlog_count_hint: info.backlog_count,
                rate_per_second: f64::from(rate.0),
                ..TaskQueueStatus::default()
            }),
            ..DescribeTaskQueueResponse::default()
        }
    }
}

fn stats(info: &QueueInfo) -> TaskQueueStats {
    let age = info.backlog_age.as_nanos();
    TaskQueueStats {
        approximate_backlog_count: info.backlog_count,
        approximate_backlog_age: Some(Duration { seconds: age / 1_000_000_000, nanos: (age % 1_000_000_000) as i32 }),
        tasks_add_rate: info.add_rate as f32,
        tasks_dispatch_rate: info.dispatch_rate as f32,
        ..TaskQueueStats::default()
    }
}

fn poller(seen: &mainstay_matching::PollerInfo) -> PollerInfo {
    let (seconds, nanos) = Timestamp::to_parts(seen.last_access);
    PollerInfo {
        last_access_time: Some(ProtoTimestamp { seconds, nanos }),
        identity: seen.identity.clone(),
        rate_per_second: seen.rate_per_second.unwrap_or(POLLER_RATE),
        ..PollerInfo::default()
    }
}
