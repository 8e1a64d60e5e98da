//! Settings of a group, and what they mean for openraft.

use openraft::SnapshotPolicy;

use crate::Error;

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where peers reach this node.
    pub address: String,
    /// Entries kept though a snapshot covers them, for peers that are a little behind.
    pub keep_entries: u64,
    /// Proposals that may be under way.
    pub max_pending: usize,
    /// Bytes of proposals that may be under way.
    pub max_pending_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { address: String::new(), keep_entries: 1000, max_pending: 4096, max_pending_bytes: 64 << 20 }
    }
}

impl Config {
    /// openraft's settings.
    ///
    /// A group with one voter needs no clock: it elects itself when it starts, and has nobody to send a heartbeat to. So there are
    /// no ticks, and a quiet group costs nothing. The times below are for groups that have peers.
    pub(crate) fn for_openraft(&self, group: u32) -> Result<openraft::Config, Error> {
        let config = openraft::Config {
            cluster_name: format!("group {group}"),
            heartbeat_interval: 500,
            election_timeout_min: 2_000,
            election_timeout_max: 4_000,
            enable_tick: false,
            enable_heartbeat: false,
            enable_elect: false,
            enable_leader_restore: Some(false),
            enable_pre_vote: Some(true),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: self.keep_entries,
            purge_batch_size: 64,
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| Error::Settings(error.to_string()))
    }
}
