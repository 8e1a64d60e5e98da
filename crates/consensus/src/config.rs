//! Settings of a group, and what they mean for openraft.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::SnapshotPolicy;

use crate::Error;

/// Settings of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where peers reach this node.
    pub address: String,
    /// The first voters of a new group with peers, with their addresses; the same on each of them, this node being one. Empty: a group
    /// that has nothing yet waits for a leader elsewhere that adds this node.
    pub founders: BTreeMap<u64, String>,
    /// Entries kept though a snapshot covers them, for peers that are a little behind.
    pub keep_entries: u64,
    /// Proposals that may be under way.
    pub max_pending: usize,
    /// Bytes of proposals that may be under way.
    pub max_pending_bytes: usize,
    /// How often a leader of a group with peers tells them that it lives.
    pub heartbeat: Duration,
    /// A voter that hears nothing stands for election after the longest of these times, in which it keeps to its leader, and
    /// another time drawn between the two. So a dead leader is replaced after twice the longest, and some.
    pub election: (Duration, Duration),
    /// A group with peers in which nothing happened for so long becomes quiet: it costs nothing until something happens. None: never.
    pub quiet_after: Option<Duration>,
    /// Bytes of state sent in a second to a replica that is too far behind.
    pub snapshot_bytes_per_second: u64,
    /// Entries kept beyond `keep_entries` for a peer that still needs them, before it has to take the whole state.
    pub hold_entries: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: String::new(),
            founders: BTreeMap::new(),
            keep_entries: 1000,
            max_pending: 4096,
            max_pending_bytes: 64 << 20,
            heartbeat: Duration::from_millis(200),
            election: (Duration::from_millis(400), Duration::from_millis(700)),
            quiet_after: Some(Duration::from_secs(2)),
            snapshot_bytes_per_second: 64 << 20,
            hold_entries: 100_000,
        }
    }
}

impl Config {
    /// openraft's settings.
    ///
    /// A group with one voter needs no clock: it elects itself when it starts, and has nobody to send a heartbeat to. So there are
    /// no ticks while a group is alone, and a quiet one costs nothing. The times are for groups that have peers.
    pub(crate) fn for_openraft(&self, group: u32) -> Result<openraft::Config, Error> {
        let config = openraft::Config {
            cluster_name: format!("group {group}"),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            enable_tick: false,
            enable_leader_restore: Some(false),
            enable_pre_vote: Some(true),
            // A heartbeat's answer that was long on its way may say that entries are missing which the follower has confirmed since.
            // The leader then looks again for where their logs agree; otherwise openraft takes it for a lost log, and panics.
            allow_log_reversion: Some(true),
            snapshot_policy: SnapshotPolicy::Never,
            // The log is purged when the group says so, see `Group::compact`.
            max_in_snapshot_log_to_keep: u64::MAX,
            purge_batch_size: 1,
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| Error::Settings(error.to_string()))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
