//! The workflow itself: which commands follow from a history. The same history gives the same commands.

use mainstay_api::temporal::command::v1::Command;
use mainstay_api::temporal::history::v1::HistoryEvent;

use crate::commands::{
    again, cancel, cancel_activity, cancel_other, cancel_timer, complete, fail, marker, memo, schedule, signal_other,
    start_child, start_timer,
};
use crate::plan::{End, Plan, Step};
use crate::progress::Progress;

impl Progress {
    fn done(&self, id: &str, step: Step) -> bool {
        match step {
            Step::Activity { .. } | Step::Abandon { .. } => self.activities.get(id).is_some_and(|it| it.over),
            Step::Timer { .. } => self.timers_over.contains(id),
            Step::Timers { count, .. } => (0..count).all(|n| self.timers_over.contains(&format!("{id}.{n}"))),
            Step::Signals { count, .. } => self.signals >= count || self.timers_over.contains(id),
            Step::Note => self.markers.contains(id),
            Step::Child { awaited, .. } => {
                self.children.get(id).is_some_and(|child| child.over || (!awaited && child.answered))
            }
            Step::SignalOther { .. } | Step::CancelOther { .. } => self.externals.get(id) == Some(&true),
        }
    }

    /// Commands that a step needs now.
    fn wants(&self, run_id: &str, id: &str, step: Step) -> Vec<Command> {
        let timer = |id: &str, millis| (!self.timers.contains(id)).then(|| start_timer(id, millis));
        match step {
            Step::Activity { .. } => {
                let begun = self.activities.contains_key(id);
                (!begun).then(|| schedule(id, step)).into_iter().collect()
            }
            Step::Timer { millis } | Step::Signals { millis, .. } => timer(id, millis).into_iter().collect(),
            Step::Timers { count, millis } => (0..count).filter_map(|n| timer(&format!("{id}.{n}"), millis)).collect(),
            Step::Note => vec![marker(id), memo(id)],
            Step::Child { .. } => {
                let begun = self.children.contains_key(id);
                (!begun).then(|| start_child(run_id, id, step)).into_iter().collect()
            }
            Step::SignalOther { workflow } => {
                let begun = self.externals.contains_key(id);
                (!begun).then(|| signal_other(run_id, id, workflow)).into_iter().collect()
            }
            Step::CancelOther { workflow } => {
                let begun = self.externals.contains_key(id);
                (!begun).then(|| cancel_other(run_id, id, workflow)).into_iter().collect()
            }
            Step::Abandon { millis } => {
                let wait = format!("{id}.wait");
                let mut commands: Vec<Command> = timer(&wait, millis).into_iter().collect();
                match self.activities.get(id) {
                    None => commands.push(schedule(id, step)),
                    Some(it) if self.timers_over.contains(&wait) && !it.cancel_requested => {
                        commands.push(cancel_activity(it.scheduled));
                    }
                    Some(_) => {}
                }
                commands
            }
        }
    }
}

/// The commands that follow from a run's history.
///
/// # Panics
/// If the history does not begin with a plan.
#[must_use]
pub fn decide(run_id: &str, events: &[HistoryEvent]) -> Vec<Command> {
    let progress = Progress::of(events);
    let Some(plan) = progress.plan.as_ref() else { panic!("a history begins with {:?}", events.first()) };
    if progress.cancel_requested && plan.obeys {
        return vec![cancel()];
    }
    let mut commands = Vec::new();
    for (group, steps) in plan.groups.iter().enumerate() {
        let ids: Vec<String> = (0..steps.len()).map(|step| Plan::id(group, step)).collect();
        let done = |(id, step): (&String, &Step)| progress.done(id, *step);
        if ids.iter().zip(steps).all(done) {
            // A wait that signals ended leaves its timer.
            commands.extend(ids.iter().zip(steps).filter_map(|(id, step)| leave(&progress, id, *step)));
            continue;
        }
        let open = || ids.iter().zip(steps).filter(|(id, step)| !progress.done(id, **step));
        commands.extend(open().flat_map(|(id, step)| progress.wants(run_id, id, *step)));
        // A note needs no waiting.
        if !open().all(|(_, step)| *step == Step::Note) {
            return commands;
        }
    }
    commands.push(close(plan, &progress));
    commands
}

fn leave(progress: &Progress, id: &str, step: Step) -> Option<Command> {
    let open = progress.timers.contains(id) && !progress.timers_over.contains(id);
    (open && matches!(step, Step::Signals { .. })).then(|| cancel_timer(id))
}

fn close(plan: &Plan, progress: &Progress) -> Command {
    match plan.end {
        End::Complete => complete(&progress.result()),
        End::Fail => fail("by plan"),
        End::Again(times) => again(&plan.next(times - 1)),
    }
}
