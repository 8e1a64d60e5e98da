//! All metrics: name, kind, labels, when they are there, meaning. `docs/metrics.md` is made from this list, the recorder takes buckets
//! and help from it, and a test compares it with what a server shows.

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// As it is shown.
    pub name: &'static str,
    /// What it is, and in which unit.
    pub kind: Kind,
    /// Names of labels.
    pub labels: &'static [&'static str],
    /// When a server shows it.
    pub when: When,
    /// What it means.
    pub help: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// As it is now.
    Gauge,
    /// A histogram of times, in seconds.
    Seconds,
    /// A histogram of sizes, in bytes.
    Sizes,
    /// A histogram of numbers of things.
    Counts,
}

/// When a metric is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// From the start.
    Always,
    /// From the first time on.
    Once,
    /// If there are other nodes.
    Cluster,
    /// From the first failure on.
    Fault,
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Temporal's server has it, too.
    Temporal,
    /// Ours.
    Own,
    /// Of any process.
    Process,
}

const SECONDS: [f64; 19] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0,
    300.0,
];
const SIZES: [f64; 11] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
];
const COUNTS: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 50_000.0];

impl Kind {
    /// The upper bounds of a histogram's buckets.
    pub(crate) fn buckets(self) -> Option<&'static [f64]> {
        match self {
            Self::Counter | Self::Gauge => None,
            Self::Seconds => Some(&SECONDS),
            Self::Sizes => Some(&SIZES),
            Self::Counts => Some(&COUNTS),
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Seconds => "histogram, seconds",
            Self::Sizes => "histogram, bytes",
            Self::Counts => "histogram",
        }
    }
}

impl When {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Once => "when it happens",
            Self::Cluster => "in a cluster",
            Self::Fault => "when something fails",
        }
    }
}

impl Metric {
    /// Whose name it is.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self.name {
            name if name.starts_with("mainstay_") => Origin::Own,
            name if name.starts_with("process_") => Origin::Process,
            _ => Origin::Temporal,
        }
    }
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    when: When,
    help: &'static str,
) -> Metric {
    Metric { name, kind, labels, when, help }
}

const SERVICE: &[&str] = &["operation", "service_name", "namespace"];
const STORE: &[&str] = &["operation", "service_name"];
const TASK: &[&str] = &["operation", "service_name"];
const QUEUE: &[&str] = &["operation", "service_name", "namespace", "taskqueue", "task_type", "partition"];
const CLOSED: &[&str] = &["operation", "service_name", "namespace", "workflowType"];
const NAMESPACE: &[&str] = &["service_name", "namespace"];
const NAME: &[&str] = &["service_name"];
const GROUP: &[&str] = &["group"];
const ROCKS: &[&str] = &["store"];

/// All of them.
pub const METRICS: &[Metric] = &[
    metric(
        "service_requests",
        Kind::Counter,
        SERVICE,
        When::Always,
        "Calls: of clients and workers (frontend), of commands at a shard's leader (history), tasks added to queues (matching).",
    ),
    metric("service_latency", Kind::Seconds, SERVICE, When::Always, "How long calls took; long polls with their wait."),
    metric("service_pending_requests", Kind::Gauge, SERVICE, When::Always, "Calls under way."),
    metric("service_errors", Kind::Counter, SERVICE, When::Fault, "Calls that failed by the server's fault."),
    metric(
        "service_error_with_type",
        Kind::Counter,
        &["operation", "service_name", "namespace", "error_type"],
        When::Once,
        "Calls that were refused or failed, by the kind of error.",
    ),
    metric(
        "service_errors_invalid_argument",
        Kind::Counter,
        SERVICE,
        When::Once,
        "Calls that were refused as malformed.",
    ),
    metric(
        "service_errors_entity_not_found",
        Kind::Counter,
        SERVICE,
        When::Once,
        "Calls that named what does not exist.",
    ),
    metric(
        "service_errors_execution_already_started",
        Kind::Counter,
        SERVICE,
        When::Once,
        "Starts of a workflow id that is in use.",
    ),
    metric(
        "service_errors_resource_exhausted",
        Kind::Counter,
        &["operation", "service_name", "namespace", "resource_exhausted_cause"],
        When::Fault,
        "Calls that were refused because a limit was reached.",
    ),
    metric("service_errors_context_timeout", Kind::Counter, SERVICE, When::Fault, "Calls whose caller's time was up."),
    metric("service_errors_context_canceled", Kind::Counter, SERVICE, When::Fault, "Calls whose caller went away."),
    metric(
        "service_errors_unauthorized",
        Kind::Counter,
        SERVICE,
        When::Once,
        "Calls of a feature that is switched off.",
    ),
    metric(
        "action",
        Kind::Counter,
        &["action_type", "namespace", "service_name"],
        When::Once,
        "Actions as Temporal counts them: calls that change or ask a workflow or schedule, and commands of workers.",
    ),
    metric(
        "command",
        Kind::Counter,
        &["commandType", "operation", "service_name"],
        When::Once,
        "Commands of completed workflow tasks.",
    ),
    metric(
        "client_requests",
        Kind::Counter,
        &["operation", "service_role", "service_name"],
        When::Cluster,
        "Calls to other nodes.",
    ),
    metric(
        "client_errors",
        Kind::Counter,
        &["operation", "service_role", "service_name"],
        When::Cluster,
        "Calls to other nodes that were not answered.",
    ),
    metric(
        "client_latency",
        Kind::Seconds,
        &["operation", "service_role", "service_name"],
        When::Cluster,
        "How long calls to other nodes took.",
    ),
    metric(
        "persistence_requests",
        Kind::Counter,
        STORE,
        When::Always,
        "Durable writes of workflows and other entities (one entry of a shard's log each), and reads of their rows.",
    ),
    metric(
        "persistence_latency",
        Kind::Seconds,
        STORE,
        When::Always,
        "How long those took: a write until it is replicated, durable and applied.",
    ),
    metric("persistence_errors", Kind::Counter, STORE, When::Always, "Those that failed."),
    metric("visibility_persistence_requests", Kind::Counter, STORE, When::Always, "Lists and counts of workflows."),
    metric("visibility_persistence_latency", Kind::Seconds, STORE, When::Always, "How long those took."),
    metric("visibility_persistence_errors", Kind::Counter, STORE, When::Always, "Those that failed or were refused."),
    metric("workflow_success", Kind::Counter, CLOSED, When::Once, "Runs that completed."),
    metric("workflow_failed", Kind::Counter, CLOSED, When::Once, "Runs that failed."),
    metric("workflow_timeout", Kind::Counter, CLOSED, When::Once, "Runs that timed out."),
    metric("workflow_terminate", Kind::Counter, CLOSED, When::Once, "Runs that were terminated."),
    metric("workflow_cancel", Kind::Counter, CLOSED, When::Once, "Runs that were cancelled."),
    metric("workflow_continued_as_new", Kind::Counter, CLOSED, When::Once, "Runs that continued as new."),
    metric("workflow_schedule_to_close_latency", Kind::Seconds, CLOSED, When::Once, "How long runs were open."),
    metric(
        "state_transition_count",
        Kind::Counts,
        NAMESPACE,
        When::Once,
        "Transitions of runs: each counts as 1, so sum and count are both their number.",
    ),
    metric("history_count", Kind::Counts, NAMESPACE, When::Once, "Events of a run when it closed."),
    metric("history_size", Kind::Sizes, NAMESPACE, When::Once, "Bytes of a run's history when it closed."),
    metric(
        "schedule_to_start_timeout",
        Kind::Counter,
        &["operation", "namespace", "service_name"],
        When::Once,
        "Attempts of activities, and workflow tasks, that timed out: the task was not taken by a worker in time.",
    ),
    metric(
        "start_to_close_timeout",
        Kind::Counter,
        &["operation", "namespace", "service_name"],
        When::Once,
        "Attempts of activities, and workflow tasks, that timed out: the task was not finished in time.",
    ),
    metric(
        "schedule_to_close_timeout",
        Kind::Counter,
        &["operation", "namespace", "service_name"],
        When::Once,
        "Attempts of activities, and workflow tasks, that timed out: the task was not finished, with all its retries, in time.",
    ),
    metric(
        "heartbeat_timeout",
        Kind::Counter,
        &["operation", "namespace", "service_name"],
        When::Once,
        "Attempts of activities, and workflow tasks, that timed out: the task was not heard of in time.",
    ),
    metric(
        "task_requests",
        Kind::Counter,
        TASK,
        When::Once,
        "What a shard's leader did by itself later: timers that fired (TimerActiveTask...), messages delivered (TransferActiveTask...).",
    ),
    metric("task_errors", Kind::Counter, TASK, When::Once, "Attempts of those that failed; they are made again."),
    metric("task_attempt", Kind::Counts, TASK, When::Once, "Attempts that one took."),
    metric("task_latency", Kind::Seconds, TASK, When::Once, "How long the work itself took."),
    metric("task_latency_processing", Kind::Seconds, TASK, When::Once, "The same for one attempt."),
    metric("task_latency_queue", Kind::Seconds, TASK, When::Once, "From when a timer was due to its end."),
    metric(
        "syncmatch_latency",
        Kind::Seconds,
        QUEUE,
        When::Once,
        "From when a task was made until a poller had it that was waiting already.",
    ),
    metric(
        "asyncmatch_latency",
        Kind::Seconds,
        QUEUE,
        When::Once,
        "The same for a task that had to wait for a poller.",
    ),
    metric("task_dispatch_latency", Kind::Seconds, QUEUE, When::Once, "The same for both."),
    metric("poll_success", Kind::Counter, QUEUE, When::Once, "Polls that got a task."),
    metric(
        "poll_success_sync",
        Kind::Counter,
        QUEUE,
        When::Once,
        "Those of them that were waiting when the task came.",
    ),
    metric("poll_timeouts", Kind::Counter, QUEUE, When::Once, "Polls that ended without a task."),
    metric(
        "no_poller_tasks",
        Kind::Counter,
        QUEUE,
        When::Once,
        "Tasks that came to a queue where nobody had polled lately.",
    ),
    metric("approximate_backlog_count", Kind::Gauge, QUEUE, When::Once, "Tasks waiting for a poller."),
    metric("approximate_backlog_age_seconds", Kind::Gauge, QUEUE, When::Once, "Age of the oldest of them."),
    metric("loaded_task_queue_count", Kind::Gauge, NAME, When::Always, "Task queues in memory."),
    metric("schedule_action_success", Kind::Counter, NAMESPACE, When::Once, "Starts that schedules asked for."),
    metric(
        "schedule_action_errors",
        Kind::Counter,
        NAMESPACE,
        When::Once,
        "Starts of schedules that were refused, as another workflow has the id.",
    ),
    metric("schedule_action_delay", Kind::Seconds, NAMESPACE, When::Once, "From a schedule's time to its start."),
    metric(
        "schedule_missed_catchup_window",
        Kind::Counter,
        NAMESPACE,
        When::Once,
        "Times that passed longer ago than the catch-up window.",
    ),
    metric(
        "schedule_buffer_overruns",
        Kind::Counter,
        NAMESPACE,
        When::Once,
        "Actions that did not fit a schedule's buffer.",
    ),
    metric("numshards_gauge", Kind::Gauge, NAME, When::Always, "Shards that this node leads."),
    metric(
        "sharditem_created_count",
        Kind::Counter,
        NAME,
        When::Always,
        "Times that this node began to lead a shard or the metadata group.",
    ),
    metric("sharditem_removed_count", Kind::Counter, NAME, When::Always, "Times that it no longer did."),
    metric("membership_changed_count", Kind::Counter, NAME, When::Always, "Changes of the cluster's members."),
    metric("restarts", Kind::Counter, NAME, When::Always, "1 from the start on."),
    metric(
        "build_information",
        Kind::Gauge,
        &["build_version", "server_version"],
        When::Always,
        "1, with what runs as labels.",
    ),
    metric("memory_allocated", Kind::Gauge, &[], When::Always, "Resident bytes."),
    metric("memory_heap", Kind::Gauge, &[], When::Always, "Resident bytes that no file is behind."),
    metric("memory_heapinuse", Kind::Gauge, &[], When::Always, "The same."),
    metric("memory_stack", Kind::Gauge, &[], When::Always, "Bytes of the main thread's stack."),
    metric("num_goroutines", Kind::Gauge, &[], When::Always, "Tasks of the async runtime."),
    metric("mainstay_raft_term", Kind::Gauge, GROUP, When::Always, "The current term."),
    metric(
        "mainstay_raft_leader",
        Kind::Gauge,
        GROUP,
        When::Always,
        "1 if this node leads the group and has applied all that was committed before.",
    ),
    metric("mainstay_raft_has_leader", Kind::Gauge, GROUP, When::Always, "1 if a leader is known."),
    metric("mainstay_raft_last_log_index", Kind::Gauge, GROUP, When::Always, "Index of the last entry of the log."),
    metric(
        "mainstay_raft_commit_index",
        Kind::Gauge,
        GROUP,
        When::Always,
        "Index of the last entry known to be committed.",
    ),
    metric("mainstay_raft_applied_index", Kind::Gauge, GROUP, When::Always, "Index of the last entry applied."),
    metric(
        "mainstay_raft_lag_entries",
        Kind::Gauge,
        GROUP,
        When::Always,
        "Entries of the log that are not applied yet.",
    ),
    metric("mainstay_raft_snapshot_index", Kind::Gauge, GROUP, When::Always, "Index of the last snapshot mark."),
    metric("mainstay_raft_purged_index", Kind::Gauge, GROUP, When::Always, "Index of the last entry purged."),
    metric("mainstay_raft_pending_proposals", Kind::Gauge, GROUP, When::Always, "Proposals under way."),
    metric("mainstay_raft_proposals_total", Kind::Counter, &[], When::Always, "Proposals of this node."),
    metric("mainstay_raft_proposed_bytes_total", Kind::Counter, &[], When::Always, "Bytes of them."),
    metric(
        "mainstay_raft_proposal_latency_seconds",
        Kind::Seconds,
        &[],
        When::Always,
        "From a proposal until it is replicated, durable and applied.",
    ),
    metric(
        "mainstay_raft_proposal_errors_total",
        Kind::Counter,
        &["reason"],
        When::Fault,
        "Proposals that were not applied, or are not known to be.",
    ),
    metric(
        "mainstay_raft_elections_total",
        Kind::Counter,
        &[],
        When::Always,
        "New leaders of groups, as this node saw them.",
    ),
    metric(
        "mainstay_log_fsyncs_total",
        Kind::Counter,
        &[],
        When::Always,
        "Batches of log operations, each made durable by one sync.",
    ),
    metric(
        "mainstay_log_operations_total",
        Kind::Counter,
        &[],
        When::Always,
        "Log operations: appends, votes, truncations, purges.",
    ),
    metric(
        "mainstay_log_written_bytes_total",
        Kind::Counter,
        &[],
        When::Always,
        "Bytes of entries and values written to the log.",
    ),
    metric("mainstay_log_batch_operations", Kind::Counts, &[], When::Always, "Operations of a batch."),
    metric("mainstay_log_batch_bytes", Kind::Sizes, &[], When::Always, "Bytes of a batch."),
    metric(
        "mainstay_log_sync_latency_seconds",
        Kind::Seconds,
        &[],
        When::Always,
        "How long writing and syncing a batch took.",
    ),
    metric("mainstay_apply_entries_total", Kind::Counter, &[], When::Always, "Entries applied."),
    metric("mainstay_apply_batch_entries", Kind::Counts, &[], When::Always, "Entries applied as one batch."),
    metric("mainstay_apply_latency_seconds", Kind::Seconds, &[], When::Always, "How long a batch took to apply."),
    metric(
        "mainstay_cluster_members_alive",
        Kind::Gauge,
        &[],
        When::Always,
        "Members that live, as the metadata group says.",
    ),
    metric("mainstay_cluster_epoch", Kind::Gauge, &[], When::Always, "How often the members changed."),
    metric("mainstay_namespaces", Kind::Gauge, &[], When::Always, "Namespaces."),
    metric("mainstay_matching_tasks", Kind::Gauge, &[], When::Always, "Tasks that wait in this node's queues."),
    metric("mainstay_matching_pollers", Kind::Gauge, &[], When::Always, "Polls that wait at this node's queues."),
    metric("mainstay_disk_used_bytes", Kind::Gauge, &[], When::Always, "Bytes that the stores take."),
    metric(
        "mainstay_disk_room_bytes",
        Kind::Gauge,
        &[],
        When::Always,
        "Bytes that they may still grow by; none or less: new work is refused.",
    ),
    metric(
        "mainstay_state_unflushed_bytes",
        Kind::Gauge,
        &[],
        When::Always,
        "Bytes applied since the last flush, to be applied again after a crash.",
    ),
    metric(
        "mainstay_rocksdb_live_data_bytes",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Bytes of data that are not deleted; an estimate.",
    ),
    metric("mainstay_rocksdb_sst_bytes", Kind::Gauge, ROCKS, When::Always, "Bytes of table files."),
    metric("mainstay_rocksdb_memtable_bytes", Kind::Gauge, ROCKS, When::Always, "Bytes in write buffers."),
    metric("mainstay_rocksdb_block_cache_bytes", Kind::Gauge, ROCKS, When::Always, "Bytes in the cache of blocks."),
    metric(
        "mainstay_rocksdb_block_cache_pinned_bytes",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Bytes of them that cannot be given up now.",
    ),
    metric(
        "mainstay_rocksdb_block_cache_capacity_bytes",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Most bytes of that cache.",
    ),
    metric(
        "mainstay_rocksdb_table_readers_bytes",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Bytes in memory for open tables, beside the cache.",
    ),
    metric(
        "mainstay_rocksdb_pending_compaction_bytes",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Bytes that compaction has yet to write anew; an estimate.",
    ),
    metric("mainstay_rocksdb_estimated_keys", Kind::Gauge, ROCKS, When::Always, "Keys; an estimate."),
    metric(
        "mainstay_rocksdb_l0_files",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Files of the first level; too many slow writes down.",
    ),
    metric("mainstay_rocksdb_running_compactions", Kind::Gauge, ROCKS, When::Always, "Compactions under way."),
    metric("mainstay_rocksdb_running_flushes", Kind::Gauge, ROCKS, When::Always, "Flushes under way."),
    metric("mainstay_rocksdb_write_stopped", Kind::Gauge, ROCKS, When::Always, "1 if writes wait for compaction."),
    metric(
        "mainstay_rocksdb_delayed_write_rate_bytes",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Bytes per second to which writes are slowed down; 0: they are not.",
    ),
    metric(
        "mainstay_rocksdb_background_errors",
        Kind::Gauge,
        ROCKS,
        When::Always,
        "Failures of work in the background.",
    ),
    metric(
        "process_start_time_seconds",
        Kind::Gauge,
        &[],
        When::Always,
        "When the process began, in seconds since 1970.",
    ),
    metric("process_cpu_seconds_total", Kind::Gauge, &[], When::Always, "Processor time of all threads."),
    metric("process_resident_memory_bytes", Kind::Gauge, &[], When::Always, "Resident bytes."),
    metric("process_open_fds", Kind::Gauge, &[], When::Always, "Open files and sockets."),
    metric("process_threads", Kind::Gauge, &[], When::Always, "Threads."),
];

/// Families of Temporal's server that do not exist here, and why.
pub(crate) const ABSENT: &[(&str, &str)] = &[
    (
        "cache_requests, cache_miss, cache_errors, cache_latency",
        "there is no cache of mutable states: rows are read from the store, whose block cache is `mainstay_rocksdb_block_cache_bytes`",
    ),
    (
        "lock_latency, lock_requests, acquire_lock_failed",
        "no workflow is locked: a shard applies one entry after the other",
    ),
    (
        "service_latency_nouserlatency, service_latency_userlatency",
        "the same: nobody waits for a workflow's lock, so both would be `service_latency` and 0",
    ),
    (
        "shard_closed_count, acquire_shards_count, acquire_shards_latency",
        "shards are led by election: see `sharditem_created_count` and `mainstay_raft_elections_total`",
    ),
    ("memory_num_gc, memory_gc_pause_ms", "there is no garbage collector"),
    (
        "lease_requests, lease_failures, forwarded, local_to_*_matches, remote_to_*_matches",
        "a task queue has one owner and no partitions",
    ),
    ("replication_*, archiver_*, nexus_*", "there is no such feature"),
];
