//! What a node counts and times, by way of the `metrics` facade: without a recorder all of it does nothing, and nothing here is ever
//! read back. The pure layers record nothing; what they did is counted off their outcomes where those surface.
//!
//! Names and labels are Temporal's where the meaning is the same, so that dashboards made for it draw; a node plays the roles of
//! Temporal's `history` and `matching` services. Ours begin with `mainstay_`. The list of all of them is the `ops` crate's.
//! Handles are made once for each set of label values and kept, so that counting costs no formatting; how many sets there may be is
//! bounded, and what comes later shares one, labelled [`OTHER`]; so are sets of histograms, which take most of a scrape ([`Room`]).

mod cached;
mod calls;
mod commands;
mod errors;
mod gauges;
mod outcomes;
mod queues;
mod service;
mod tasks;

pub use cached::{Cached, OTHER, Room};
pub use errors::{ErrorKind, kind_of};
pub use service::{Operation, Role};

pub(crate) use calls::Calls;
pub(crate) use commands::{Commands, Reads};
pub(crate) use outcomes::Outcomes;
pub(crate) use queues::Queues;
pub(crate) use tasks::{Tasks, message_operation, timer_operation};

use mainstay_api::temporal::enums::v1::CommandType;
use metrics::{Counter, counter};

/// All handles of a node.
pub(crate) struct Meter {
    pub(crate) commands: Commands,
    pub(crate) reads: Reads,
    pub(crate) outcomes: Outcomes,
    pub(crate) tasks: Tasks,
    pub(crate) calls: Calls,
    pub(crate) shards: Shards,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            commands: Commands::default(),
            reads: Reads::new(),
            outcomes: Outcomes::default(),
            tasks: Tasks::default(),
            calls: Calls::default(),
            shards: Shards::new(),
        }
    }
}

/// A span in nanoseconds; none if it is not after all.
pub(crate) fn span(nanos: i64) -> Option<std::time::Duration> {
    u64::try_from(nanos).ok().map(std::time::Duration::from_nanos)
}

/// A command's name for a label: `ScheduleActivityTask`.
#[must_use]
pub fn command_name(kind: CommandType) -> String {
    camel(kind.as_str_name().trim_start_matches("COMMAND_TYPE_"))
}

/// `SCHEDULE_TIMER` or `schedule_timer` as `ScheduleTimer`.
#[must_use]
pub fn camel(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + &rest.to_ascii_lowercase()
    };
    name.split('_').map(word).collect()
}

/// Leadership that came and went, and changes of the cluster's members.
pub(crate) struct Shards {
    pub(crate) gained: Counter,
    pub(crate) lost: Counter,
    pub(crate) members_changed: Counter,
}

impl Shards {
    fn new() -> Self {
        Self {
            gained: counter!("sharditem_created_count", "service_name" => "history"),
            lost: counter!("sharditem_removed_count", "service_name" => "history"),
            members_changed: counter!("membership_changed_count", "service_name" => "history"),
        }
    }
}
