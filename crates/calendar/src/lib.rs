//! When things are due: cron expressions and schedule specs to times. Pure: the time-zone database is the bundled one, never
//! the system's, so that every replica computes the same. It knows nothing of workflows, and has no clock.
//!
//! A workflow's cron expression ([`CronSchedule`]) and a schedule's spec ([`Spec`]) are two languages with one root: they read day
//! fields and steps differently, as the reference server does.

mod canonical;
mod civil;
mod cron;
mod fields;
mod span;
mod spec;

pub use canonical::{SpecError, canonical, show_defaults};
pub use cron::{CronError, CronSchedule};
pub use spec::{Occurrence, Spec, rfc3339};
