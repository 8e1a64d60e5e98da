//! When things are due: cron expressions to times. Pure: the time-zone database is the bundled one, never the system's, so that
//! every replica computes the same. It knows nothing of workflows or schedules, and has no clock.

mod cron;

pub use cron::{CronError, CronSchedule};
