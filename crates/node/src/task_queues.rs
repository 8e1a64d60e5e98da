//! What people see of a task queue (pollers, backlog, rates), and what they set: its configuration, which every node keeps in memory
//! beside matching.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use mainstay_api::log::{Command, command::Op, reply};
use mainstay_api::temporal::common::v1::WorkerVersionCapabilities;
use mainstay_api::temporal::enums::v1::{
    BuildIdTaskReachability, DescribeTaskQueueMode, RateLimitSource, TaskQueueKind, TaskQueueType,
};
use mainstay_api::temporal::taskqueue::v1::{
    PollerInfo, TaskQueueConfig, TaskQueueStats, TaskQueueStatus, TaskQueueTypeInfo, TaskQueueVersionInfo,
    TaskQueueVersioningInfo,
};
use mainstay_api::temporal::workflowservice::v1::describe_task_queue_response::EffectiveRateLimit;
use mainstay_api::temporal::workflowservice::v1::{
    DescribeTaskQueueRequest, DescribeTaskQueueResponse, UpdateTaskQueueConfigRequest, UpdateTaskQueueConfigResponse,
};
use mainstay_base::Timestamp;
use mainstay_engine::{EntityKey, Error, Table, task_queue_config};
use mainstay_matching::{QueueInfo, QueueKey, QueueKind};
use mainstay_runtime::Runtime;
use mainstay_shard::Shard;
use mainstay_storage::StorageError;
use prost::Message;
use prost_types::{Duration, Timestamp as ProtoTimestamp};

use crate::board::Board;
use crate::lock;
use crate::node::{METADATA_GROUP, Node};
use crate::service::Namespace;

/// What Temporal shows of a poller that named no rate.
const POLLER_RATE: f64 = 100_000.0;
/// The rate of a queue that nobody limited.
const SYSTEM_RATE: f32 = 4_000.0;
const DEFAULT_PRIORITY: i32 = 3;

/// Configurations of task queues, by namespace id, queue type and name.
#[derive(Default)]
pub(crate) struct Configured(Mutex<BTreeMap<(String, i32, String), TaskQueueConfig>>);

impl Configured {
    fn get(&self, namespace_id: &str, kind: i32, name: &str) -> Option<TaskQueueConfig> {
        lock(&self.0).get(&(namespace_id.to_string(), kind, name.to_string())).cloned()
    }
}

impl Board {
    /// The metadata group's log configured a queue.
    pub(crate) fn configure_queue(&self, namespace_id: &str, row_id: &[u8], value: Bytes, now: Timestamp) {
        let Some((kind, name)) = task_queue_config::of_row_id(row_id) else { return };
        let Ok(config) = TaskQueueConfig::decode(value) else { return };
        let queue = |kind| QueueKey { namespace_id: namespace_id.to_string(), name: name.clone(), kind };
        if kind == TaskQueueType::Workflow as i32 {
            self.dispatch.set_weights(queue(QueueKind::Workflow), config.fairness_weight_overrides.clone());
        }
        if kind == TaskQueueType::Activity as i32 {
            self.dispatch.set_weights(queue(QueueKind::Activity), config.fairness_weight_overrides.clone());
            let rate = config.queue_rate_limit.as_ref().and_then(|limit| limit.rate_limit.as_ref());
            let per_second = rate.map(|rate| f64::from(rate.requests_per_second));
            self.dispatch.set_rate(queue(QueueKind::Activity), per_second, now);
        }
        lock(&self.configured.0).insert((namespace_id.to_string(), kind, name), config);
    }
}

impl<R: Runtime> Node<R> {
    /// Reads the configurations of all queues, at a start.
    pub(crate) fn load_queue_configurations(&self, metadata: &Shard, now: Timestamp) -> Result<(), StorageError> {
        for namespace in self.board().registry.all() {
            let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: String::new() };
            let rows = metadata.records_of::<TaskQueueConfig>(&entity, Table::TaskQueueConfig, None)?;
            for (row_id, config) in rows {
                self.board().configure_queue(&namespace.id, &row_id, config.encode_to_vec().into(), now);
            }
        }
        Ok(())
    }

    pub(crate) async fn update_queue_configuration(
        &self,
        namespace: &Namespace,
        request: UpdateTaskQueueConfigRequest,
    ) -> Result<UpdateTaskQueueConfigResponse, Error> {
        let op = Some(Op::UpdateTaskQueueConfig(request));
        let command =
            Command { namespace_id: namespace.id.clone(), workflow_id: String::new(), op, ..Command::default() };
        match self.propose(METADATA_GROUP, command).await?.reply {
            Some(reply::Reply::TaskQueueConfig(response)) => Ok(response),
            _ => Err(Error::Internal("a configuration was answered by something else".into())),
        }
    }

    fn queue_info(&self, namespace: &Namespace, request: &DescribeTaskQueueRequest, kind: TaskQueueType) -> QueueInfo {
        let name = request.task_queue.as_ref().map(|queue| queue.name.as_str()).unwrap_or_default();
        self.board().dispatch.describe(&key_of(namespace, name, kind), self.now())
    }

    #[allow(deprecated)]
    pub(crate) fn queue_description(
        &self,
        namespace: &Namespace,
        request: &DescribeTaskQueueRequest,
    ) -> DescribeTaskQueueResponse {
        if request.api_mode() == DescribeTaskQueueMode::Enhanced {
            return by_version(request, &|kind| self.queue_info(namespace, request, kind));
        }
        let queue = request.task_queue.clone().unwrap_or_default();
        let info = self.queue_info(namespace, request, request.task_queue_type());
        let stats = stats(&info);
        let source = if info.rate_set_by_people { RateLimitSource::Api } else { RateLimitSource::Worker };
        let rate = info.rate_limit.map_or((SYSTEM_RATE, RateLimitSource::System), |rate| (rate as f32, source));
        let config = self.board().configured.get(&namespace.id, request.task_queue_type, &queue.name);
        let rate = configured_rate(config.as_ref()).map_or(rate, |rate| (rate, RateLimitSource::Api));
        let routed = queue.kind() != TaskQueueKind::Sticky;
        DescribeTaskQueueResponse {
            pollers: info.pollers.iter().map(poller).collect(),
            stats: request.report_stats.then_some(stats),
            stats_by_priority_key: if request.report_stats { by_priority(&info, stats) } else { BTreeMap::new() },
            versioning_info: routed.then(|| TaskQueueVersioningInfo {
                current_version: "__unversioned__".into(),
                update_time: Some(NEVER),
                ..TaskQueueVersioningInfo::default()
            }),
            config: config.filter(|_| request.report_config),
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

/// A queue as the API names it.
pub(crate) fn key_of(namespace: &Namespace, name: &str, kind: TaskQueueType) -> QueueKey {
    let kind = if kind == TaskQueueType::Activity { QueueKind::Activity } else { QueueKind::Workflow };
    QueueKey { namespace_id: namespace.id.clone(), name: name.to_string(), kind }
}

/// A time that Go's clients take for none.
const NEVER: prost_types::Timestamp = prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 };

fn configured_rate(config: Option<&TaskQueueConfig>) -> Option<f32> {
    let limit = config?.queue_rate_limit.as_ref()?;
    limit.rate_limit.as_ref().map(|rate| rate.requests_per_second)
}

/// The older form of a description: what there is of each version that was asked for, which is all that has no version.
#[allow(deprecated)]
fn by_version(
    request: &DescribeTaskQueueRequest,
    queue: &dyn Fn(TaskQueueType) -> QueueInfo,
) -> DescribeTaskQueueResponse {
    let asked = request.versions.clone();
    let mut versions = asked.as_ref().map(|asked| asked.build_ids.clone()).unwrap_or_default();
    if asked.as_ref().is_none_or(|asked| asked.unversioned) {
        versions.push(String::new());
    }
    let types = if request.task_queue_types.is_empty() {
        vec![TaskQueueType::Workflow as i32, TaskQueueType::Activity as i32]
    } else {
        request.task_queue_types.clone()
    };
    let of_type = |version: &str, kind: i32| {
        let info = queue(TaskQueueType::try_from(kind).unwrap_or_default());
        let is_shown = version.is_empty();
        TaskQueueTypeInfo {
            pollers: info.pollers.iter().filter(|_| request.report_pollers && is_shown).map(poller).collect(),
            stats: (request.report_stats && is_shown).then(|| stats(&info)),
        }
    };
    let info = |version: &str| {
        let reachable = match (request.report_task_reachability, version.is_empty()) {
            (false, _) => BuildIdTaskReachability::Unspecified,
            (true, true) => BuildIdTaskReachability::Reachable,
            (true, false) => BuildIdTaskReachability::Unreachable,
        };
        TaskQueueVersionInfo {
            types_info: types.iter().map(|kind| (*kind, of_type(version, *kind))).collect(),
            task_reachability: reachable as i32,
        }
    };
    let versions_info = versions.into_iter().map(|version| (version.clone(), info(&version))).collect();
    DescribeTaskQueueResponse { versions_info, ..DescribeTaskQueueResponse::default() }
}

fn stats(info: &QueueInfo) -> TaskQueueStats {
    TaskQueueStats {
        approximate_backlog_count: info.backlog_count,
        approximate_backlog_age: Some(proto_duration(info.backlog_age)),
        tasks_add_rate: info.add_rate as f32,
        tasks_dispatch_rate: info.dispatch_rate as f32,
        ..TaskQueueStats::default()
    }
}

/// The default priority is always shown; rates are not kept apart, and shown there.
fn by_priority(info: &QueueInfo, all: TaskQueueStats) -> BTreeMap<i32, TaskQueueStats> {
    let rates =
        TaskQueueStats { approximate_backlog_count: 0, approximate_backlog_age: Some(Duration::default()), ..all };
    let mut shown = BTreeMap::from([(DEFAULT_PRIORITY, rates)]);
    for (priority, count, age) in &info.backlog_by_priority {
        let stats = shown.entry(*priority).or_default();
        stats.approximate_backlog_count = *count;
        stats.approximate_backlog_age = Some(proto_duration(*age));
    }
    shown
}

fn proto_duration(span: mainstay_base::Duration) -> Duration {
    let nanos = span.as_nanos();
    Duration { seconds: nanos / 1_000_000_000, nanos: (nanos % 1_000_000_000) as i32 }
}

fn proto_time(at: Timestamp) -> ProtoTimestamp {
    let (seconds, nanos) = at.to_parts();
    ProtoTimestamp { seconds, nanos }
}

#[allow(deprecated)]
fn poller(seen: &mainstay_matching::PollerInfo) -> PollerInfo {
    let build = seen.build_id.clone();
    PollerInfo {
        last_access_time: Some(proto_time(seen.last_access)),
        identity: seen.identity.clone(),
        rate_per_second: seen.rate_per_second.unwrap_or(POLLER_RATE),
        worker_version_capabilities: build
            .map(|build_id| WorkerVersionCapabilities { build_id, ..WorkerVersionCapabilities::default() }),
        ..PollerInfo::default()
    }
}
