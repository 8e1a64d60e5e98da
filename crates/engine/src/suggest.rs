//! When a worker is told that its run should continue as new: the history is long or large, or has seen many updates.
//!
//! It is decided when a workflow task starts and kept with the task, so that every look at the task shows the same.

use mainstay_api::log;
use mainstay_api::record::RunRecord;
use mainstay_api::temporal::enums::v1::SuggestContinueAsNewReason as Reason;
use mainstay_base::limits;

/// The size of a history from which its run should continue as new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuggestFrom {
    /// Events.
    pub history_count: i64,
    /// Bytes.
    pub history_size: i64,
}

impl Default for SuggestFrom {
    fn default() -> Self {
        Self { history_count: limits::HISTORY_COUNT_SUGGEST, history_size: limits::HISTORY_SIZE_SUGGEST }
    }
}

impl From<&log::SuggestFrom> for SuggestFrom {
    fn from(set: &log::SuggestFrom) -> Self {
        let or = |value: i64, default: i64| if value > 0 { value } else { default };
        let default = Self::default();
        Self {
            history_count: or(set.history_count, default.history_count),
            history_size: or(set.history_size, default.history_size),
        }
    }
}

impl SuggestFrom {
    /// Why a run should continue as new whose next workflow task starts now; nothing if it should not.
    pub(crate) fn reasons(&self, record: &RunRecord) -> Vec<i32> {
        let reasons = [
            (record.history_size_bytes >= self.history_size, Reason::HistorySizeTooLarge),
            (record.next_event_id > self.history_count, Reason::TooManyHistoryEvents),
            (record.update_count >= limits::UPDATES_SUGGEST as i64, Reason::TooManyUpdates),
        ];
        reasons.into_iter().filter(|(given, _)| *given).map(|(_, reason)| reason as i32).collect()
    }
}
