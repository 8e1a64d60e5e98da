//! What becomes of buffered actions, given whether a workflow of the schedule runs. Pure.

use mainstay_api::record::{BufferedAction, ScheduleStop};
use mainstay_api::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;

/// What to do with a buffer.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Decision {
    /// Start these beside whatever runs.
    pub(super) beside: Vec<BufferedAction>,
    /// Start this one; nothing else of the schedule runs.
    pub(super) alone: Option<BufferedAction>,
    /// Keep these for later.
    pub(super) kept: Vec<BufferedAction>,
    /// So many are dropped.
    pub(super) skipped: i64,
    /// How what runs must make way.
    pub(super) stop: ScheduleStop,
}

/// Decides, action by action, in the order in which they came.
pub(super) fn decide(buffered: Vec<BufferedAction>, is_running: bool, default: Overlap) -> Decision {
    let mut decision = Decision::default();
    let mut keeps_one = false;
    for action in buffered {
        let policy = match action.overlap_policy() {
            Overlap::Unspecified => default,
            own => own,
        };
        if policy == Overlap::AllowAll {
            decision.beside.push(action);
            continue;
        }
        if !is_running && decision.alone.is_none() {
            decision.alone = Some(action);
            continue;
        }
        match policy {
            Overlap::BufferOne if !keeps_one => {
                keeps_one = true;
                decision.kept.push(action);
            }
            Overlap::BufferAll => decision.kept.push(action),
            Overlap::CancelOther | Overlap::TerminateOther if is_running => {
                let stop = if policy == Overlap::CancelOther { ScheduleStop::Cancel } else { ScheduleStop::Terminate };
                decision.stop = decision.stop.max(stop);
                decision.kept.push(action);
            }
            // What would have to make way has not started yet: it never does.
            Overlap::CancelOther | Overlap::TerminateOther => decision.alone = Some(action),
            _ => decision.skipped += 1,
        }
    }
    decision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(nominal_ns: i64, policy: Overlap) -> BufferedAction {
        BufferedAction { nominal_ns, overlap_policy: policy as i32, ..BufferedAction::default() }
    }

    /// (beside, alone, kept, skipped) by nominal time.
    fn outcome(policies: &[Overlap], is_running: bool) -> (Vec<i64>, Option<i64>, Vec<i64>, i64, ScheduleStop) {
        let buffered = (1..).zip(policies).map(|(at, policy)| action(at, *policy)).collect();
        let d = decide(buffered, is_running, Overlap::Skip);
        let times = |actions: &[BufferedAction]| actions.iter().map(|a| a.nominal_ns).collect::<Vec<_>>();
        (times(&d.beside), d.alone.as_ref().map(|a| a.nominal_ns), times(&d.kept), d.skipped, d.stop)
    }

    #[test]
    fn with_nothing_running_the_first_starts() {
        let none = ScheduleStop::Unspecified;
        assert_eq!(outcome(&[Overlap::Unspecified; 3], false), (vec![], Some(1), vec![], 2, none));
        assert_eq!(outcome(&[Overlap::BufferOne; 3], false), (vec![], Some(1), vec![2], 1, none));
        assert_eq!(outcome(&[Overlap::BufferAll; 3], false), (vec![], Some(1), vec![2, 3], 0, none));
        assert_eq!(outcome(&[Overlap::CancelOther; 3], false), (vec![], Some(3), vec![], 0, none));
        assert_eq!(outcome(&[Overlap::AllowAll; 2], false), (vec![1, 2], None, vec![], 0, none));
    }

    #[test]
    fn what_runs_is_respected() {
        let none = ScheduleStop::Unspecified;
        assert_eq!(outcome(&[Overlap::Skip, Overlap::AllowAll], true), (vec![2], None, vec![], 1, none));
        assert_eq!(outcome(&[Overlap::BufferOne; 3], true), (vec![], None, vec![1], 2, none));
        assert_eq!(
            outcome(&[Overlap::TerminateOther, Overlap::CancelOther], true),
            (vec![], None, vec![1, 2], 0, ScheduleStop::Terminate)
        );
    }
}
