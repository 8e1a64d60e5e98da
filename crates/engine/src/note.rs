//! What happened in a transition and no row shows: for people who count, never for the state.
//!
//! An attempt that timed out and is retried leaves no event, and a schedule's missed time only a number in its record; whoever
//! carries out effects can count such things by the notes that come with an outcome.

use mainstay_api::temporal::enums::v1::TimeoutType;

/// Something worth counting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// An attempt of an activity timed out, whether or not another follows.
    ActivityTimedOut {
        /// Of the workflow.
        namespace_id: String,
        /// Which of its time-outs.
        kind: TimeoutType,
    },
    /// A workflow task timed out.
    WorkflowTaskTimedOut {
        /// Of the workflow.
        namespace_id: String,
        /// Which of its time-outs.
        kind: TimeoutType,
    },
    /// A schedule did something, or did not.
    Schedule {
        /// Of the schedule.
        namespace_id: String,
        /// What.
        what: ScheduleNote,
    },
}

/// What a schedule did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleNote {
    /// Asked for a start, so long after its time, in nanoseconds.
    Acted {
        /// Nanoseconds.
        delay_ns: i64,
    },
    /// A start was refused.
    ActionFailed,
    /// A time passed that was longer ago than the catch-up window.
    MissedCatchupWindow,
    /// An action did not fit the buffer.
    BufferOverrun,
}
