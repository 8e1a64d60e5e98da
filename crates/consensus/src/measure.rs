//! What this crate counts and times, by way of the `metrics` facade: without a recorder all of it does nothing, and nothing of it is
//! ever read back. Handles are made once.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::Error;

/// The log's writer.
pub(crate) struct LogMeter {
    syncs: Counter,
    operations: Counter,
    bytes: Counter,
    batch: Histogram,
    batch_bytes: Histogram,
    latency: Histogram,
}

impl LogMeter {
    pub fn new() -> Self {
        Self {
            syncs: counter!("mainstay_log_fsyncs_total"),
            operations: counter!("mainstay_log_operations_total"),
            bytes: counter!("mainstay_log_written_bytes_total"),
            batch: histogram!("mainstay_log_batch_operations"),
            batch_bytes: histogram!("mainstay_log_batch_bytes"),
            latency: histogram!("mainstay_log_sync_latency_seconds"),
        }
    }

    /// A batch is durable.
    pub fn synced(&self, operations: u64, bytes: u64, took: Duration) {
        self.syncs.increment(1);
        self.operations.increment(operations);
        self.bytes.increment(bytes);
        self.batch.record(operations as f64);
        self.batch_bytes.record(bytes as f64);
        self.latency.record(took.as_secs_f64());
    }
}

/// A group's applier.
pub(crate) struct ApplyMeter {
    entries: Counter,
    batch: Histogram,
    latency: Histogram,
}

impl ApplyMeter {
    pub fn new() -> Self {
        Self {
            entries: counter!("mainstay_apply_entries_total"),
            batch: histogram!("mainstay_apply_batch_entries"),
            latency: histogram!("mainstay_apply_latency_seconds"),
        }
    }

    /// A batch was applied.
    pub fn applied(&self, entries: usize, took: Duration) {
        self.entries.increment(entries as u64);
        self.batch.record(entries as f64);
        self.latency.record(took.as_secs_f64());
    }
}

/// A group's proposals and leaders.
pub(crate) struct GroupMeter {
    proposals: Counter,
    latency: Histogram,
    bytes: Counter,
    pub elections: Counter,
}

impl GroupMeter {
    pub fn new() -> Self {
        Self {
            proposals: counter!("mainstay_raft_proposals_total"),
            latency: histogram!("mainstay_raft_proposal_latency_seconds"),
            bytes: counter!("mainstay_raft_proposed_bytes_total"),
            elections: counter!("mainstay_raft_elections_total"),
        }
    }

    /// A proposal of so many bytes was applied, or was not.
    pub fn proposed<T>(&self, bytes: usize, took: Duration, outcome: &Result<T, Error>) {
        self.proposals.increment(1);
        self.bytes.increment(bytes as u64);
        match outcome {
            Ok(_) => self.latency.record(took.as_secs_f64()),
            // Rare: no handle is kept.
            Err(error) => counter!("mainstay_raft_proposal_errors_total", "reason" => reason(error)).increment(1),
        }
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::NotLeader { .. } => "not_leader",
        Error::Busy { .. } => "busy",
        Error::TooLarge { .. } => "too_large",
        Error::Unknown => "unknown",
        Error::Stopped => "stopped",
        Error::NoQuorum => "no_quorum",
        Error::Members(_) | Error::Storage(_) | Error::Settings(_) => "other",
    }
}
