//! What is read only when somebody asks: how groups, queues, stores and the disk budget stand.

use std::sync::atomic::Ordering;

use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StoreFigures;
use metrics::gauge;

use crate::node::{METADATA_GROUP, Node};

/// A leader on another node that was not heard of for so long is not reachable.
const SILENT_AFTER: std::time::Duration = std::time::Duration::from_secs(3);

/// Whether one group can be used from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReadiness {
    /// Its number; 0 is the metadata group.
    pub group: u32,
    /// Why it cannot, if it cannot.
    pub problem: Option<String>,
}

impl<R: Runtime> Node<R> {
    /// Sets every gauge to what is true now. Takes milliseconds; for whoever is about to read them.
    pub fn measure(&self) {
        self.measure_groups();
        self.measure_queues();
        self.measure_stores();
        let members = self.board().members.now();
        let alive = members.members.iter().filter(|member| member.alive && !member.removed).count();
        gauge!("mainstay_cluster_members_alive").set(if self.is_alone() { 1.0 } else { alive as f64 });
        gauge!("mainstay_cluster_epoch").set(members.epoch as f64);
        gauge!("mainstay_namespaces").set(self.board().registry.all().len() as f64);
    }

    fn measure_groups(&self) {
        let mut leads = 0;
        for (number, group) in (0u32..).zip(self.groups()) {
            let metrics = group.metrics();
            let label = [("group", number.to_string())];
            let is_led = self.board().leads(number);
            leads += u32::from(is_led && number != METADATA_GROUP);
            let last = metrics.last.unwrap_or_default();
            let applied = metrics.applied.unwrap_or_default();
            gauge!("mainstay_raft_term", &label).set(metrics.term as f64);
            gauge!("mainstay_raft_leader", &label).set(f64::from(u8::from(is_led)));
            gauge!("mainstay_raft_has_leader", &label).set(f64::from(u8::from(metrics.leader.is_some())));
            gauge!("mainstay_raft_last_log_index", &label).set(last as f64);
            gauge!("mainstay_raft_commit_index", &label).set(metrics.committed.unwrap_or_default() as f64);
            gauge!("mainstay_raft_applied_index", &label).set(applied as f64);
            gauge!("mainstay_raft_lag_entries", &label).set(last.saturating_sub(applied) as f64);
            gauge!("mainstay_raft_snapshot_index", &label).set(metrics.snapshot.unwrap_or_default() as f64);
            gauge!("mainstay_raft_purged_index", &label).set(metrics.purged.unwrap_or_default() as f64);
            gauge!("mainstay_raft_pending_proposals", &label).set(metrics.pending as f64);
        }
        gauge!("numshards_gauge", "service_name" => "history").set(f64::from(leads));
    }

    fn measure_queues(&self) {
        let dispatch = &self.board().dispatch;
        for (key, queue) in dispatch.queues.normal() {
            let (count, age) = dispatch.backlog(&key, self.now());
            queue.backlog.set(count as f64);
            queue.backlog_age.set(age.as_nanos() as f64 / 1e9);
        }
        let (queues, tasks, pollers) = dispatch.held();
        gauge!("loaded_task_queue_count", "service_name" => "matching").set(queues as f64);
        gauge!("mainstay_matching_tasks").set(tasks as f64);
        gauge!("mainstay_matching_pollers").set(pollers as f64);
    }

    fn measure_stores(&self) {
        for (store, figures) in [("log", self.0.stores.log.figures()), ("state", self.0.stores.state.figures())] {
            measure_store(store, &figures);
        }
        let room = self.0.room.load(Ordering::Relaxed);
        gauge!("mainstay_disk_room_bytes").set(if room == i64::MAX { f64::INFINITY } else { room as f64 });
        gauge!("mainstay_disk_used_bytes").set(self.0.used.load(Ordering::Relaxed) as f64);
        gauge!("mainstay_state_unflushed_bytes").set(self.board().unflushed_bytes.load(Ordering::Relaxed) as f64);
    }

    /// Whether every group has a leader that can be reached from here.
    #[must_use]
    pub fn readiness(&self) -> Vec<GroupReadiness> {
        let now = R::Instant::now();
        let problem = |number: u32, leader: Option<u64>| {
            let Some(leader) = leader else { return Some("no leader is known".to_owned()) };
            if leader == self.id() {
                return (!self.board().leads(number)).then(|| "this node begins to lead it".to_owned());
            }
            let heard = self.peers().and_then(|peers| peers.last_heard(leader));
            let silent = heard.is_none_or(|heard| now - heard > SILENT_AFTER);
            silent.then(|| format!("its leader, node {leader}, is not heard of"))
        };
        let groups = (0u32..).zip(self.groups());
        groups.map(|(group, raft)| GroupReadiness { group, problem: problem(group, raft.metrics().leader) }).collect()
    }
}

fn measure_store(store: &'static str, figures: &StoreFigures) {
    let values = [
        ("mainstay_rocksdb_live_data_bytes", figures.live_bytes),
        ("mainstay_rocksdb_sst_bytes", figures.table_bytes),
        ("mainstay_rocksdb_memtable_bytes", figures.buffer_bytes),
        ("mainstay_rocksdb_block_cache_bytes", figures.cache_bytes),
        ("mainstay_rocksdb_block_cache_pinned_bytes", figures.cache_pinned_bytes),
        ("mainstay_rocksdb_block_cache_capacity_bytes", figures.cache_capacity_bytes),
        ("mainstay_rocksdb_table_readers_bytes", figures.readers_bytes),
        ("mainstay_rocksdb_estimated_keys", figures.keys),
        ("mainstay_rocksdb_l0_files", figures.first_level_files),
        ("mainstay_rocksdb_pending_compaction_bytes", figures.pending_compaction_bytes),
        ("mainstay_rocksdb_running_compactions", figures.running_compactions),
        ("mainstay_rocksdb_running_flushes", figures.running_flushes),
        ("mainstay_rocksdb_write_stopped", u64::from(figures.writes_stopped)),
        ("mainstay_rocksdb_delayed_write_rate_bytes", figures.delayed_write_rate),
        ("mainstay_rocksdb_background_errors", figures.background_errors),
    ];
    for (name, value) in values {
        gauge!(name, "store" => store).set(value as f64);
    }
}
