//! The oracles: one file for each invariant that is checked from outside, on what the clients, the workers and the disk saw.

pub mod acknowledged_effects;
pub mod chains;
pub mod children;
pub mod event_grammar;
pub mod external;
pub mod jobs;
pub mod linearizable;
pub mod lists_follow_histories;
pub mod never_early;
pub mod replicas_agree;
mod runs;
pub mod schedules;
pub mod slots;
pub mod state_follows_history;
pub mod updates;

#[cfg(test)]
pub use runs::Fate;
pub use runs::Run;
