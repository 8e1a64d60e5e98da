//! What a workflow does, as text in its input: groups of steps, then an end; the steps of a group run at once, the groups one
//! after another.
//!
//! `a30f2` is an activity of 30 ms that fails on its first two attempts, `t500` a timer of half a second, `c200tw` a child that is
//! awaited; `,` separates steps, `;` groups, and `!` stands before the end. The worker reads the plan from the history alone.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mainstay_api::temporal::enums::v1::ParentClosePolicy;
use mainstay_base::Prng;

/// How an activity behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It works and answers.
    Plain,
    /// It sends heartbeats, and fails in time when they say that it is cancelled.
    Heartbeats,
    /// Its first attempt never answers.
    Silent,
    /// Its first attempt answers after its time is over.
    Late,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An activity.
    Activity {
        /// How long it works.
        millis: u64,
        /// Attempts that fail.
        failures: u32,
        /// How it behaves.
        habit: Habit,
    },
    /// A timer.
    Timer {
        /// How long.
        millis: u64,
    },
    /// Many timers that are due at one instant.
    Timers {
        /// How many.
        count: u64,
        /// How long.
        millis: u64,
    },
    /// Waits for signals, but not for ever; then the timer is cancelled.
    Signals {
        /// How many of this run.
        count: u64,
        /// How long at most.
        millis: u64,
    },
    /// A long activity that is cancelled after a while.
    Abandon {
        /// The while.
        millis: u64,
    },
    /// A marker and a changed memo.
    Note,
    /// A child workflow.
    Child {
        /// Of its timer.
        millis: u64,
        /// What its parent's end does to it.
        policy: ParentClosePolicy,
        /// Whether its end is awaited; else only its start.
        awaited: bool,
    },
    /// A signal to a workflow of the pool.
    SignalOther {
        /// Which.
        workflow: u64,
    },
    /// A request to a workflow of the pool to cancel itself.
    CancelOther {
        /// Which.
        workflow: u64,
    },
}

/// The timer of a child that only its parent's end should end.
pub const CHILD_PATIENCE: Duration = Duration::from_secs(90);

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It completes.
    Complete,
    /// It fails.
    Fail,
    /// It goes on as a new run, this many times.
    Again(u64),
}

/// What a workflow does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps.
    pub groups: Vec<Vec<Step>>,
    /// The end.
    pub end: End,
    /// Whether a cancel request ends it.
    pub obeys: bool,
}

impl Plan {
    /// A small plan of everything that is possible.
    #[must_use]
    pub fn draw(prng: &mut Prng) -> Self {
        let groups = 1 + prng.below(3);
        let groups = (0..groups).map(|_| (0..1 + prng.below(3)).map(|_| Step::draw(prng)).collect()).collect();
        let end = match prng.below(8) {
            0 => End::Fail,
            1 => End::Again(1 + prng.below(3)),
            _ => End::Complete,
        };
        Self { groups, end, obeys: prng.below(4) != 0 }
    }

    /// Ids of steps are their places; each is unique in a run.
    #[must_use]
    pub fn id(group: usize, step: usize) -> String {
        format!("{group}.{step}")
    }

    /// What an activity answers.
    #[must_use]
    pub fn answer(id: &str) -> String {
        format!("did-{id}")
    }

    /// The plan of the next run.
    #[must_use]
    pub fn next(&self, left: u64) -> Self {
        let end = if left == 0 { End::Complete } else { End::Again(left) };
        Self { end, ..self.clone() }
    }
}

impl Step {
    /// What a child does: a timer, and one of several ends. One that nobody awaits and its parent's end should end is patient.
    #[must_use]
    pub fn child_plan(millis: u64, policy: ParentClosePolicy, awaited: bool) -> Plan {
        let patient = !awaited && policy != ParentClosePolicy::Abandon;
        let timer = Self::Timer { millis: if patient { CHILD_PATIENCE.as_millis() as u64 } else { millis } };
        let work = Self::Activity { millis: millis % 300, failures: 0, habit: Habit::Plain };
        let end = match millis % 6 {
            0 if !patient => End::Fail,
            1 if !patient => End::Again(1),
            _ => End::Complete,
        };
        Plan { groups: vec![vec![work, timer]], end, obeys: true }
    }

    fn draw(prng: &mut Prng) -> Self {
        match prng.below(26) {
            20..=22 => Self::Child {
                millis: 1 + prng.below(3000),
                policy: [ParentClosePolicy::Terminate, ParentClosePolicy::Abandon, ParentClosePolicy::RequestCancel]
                    [prng.below(3) as usize],
                awaited: prng.below(3) != 0,
            },
            23 | 24 => Self::SignalOther { workflow: prng.below(8) },
            25 => Self::CancelOther { workflow: prng.below(8) },
            0..4 => Self::Timer { millis: 1 + prng.below(6000) },
            4 => {
                let most = if prng.below(8) == 0 { 300 } else { 20 };
                Self::Timers { count: 2 + prng.below(most), millis: 1 + prng.below(4000) }
            }
            5..8 => Self::Signals { count: 1 + prng.below(3), millis: 500 + prng.below(8000) },
            8 => Self::Abandon { millis: 1 + prng.below(3000) },
            9 => Self::Note,
            _ => {
                let failures = if prng.below(4) == 0 { 1 + prng.below(2) as u32 } else { 0 };
                let habit = match prng.below(12) {
                    0 => Habit::Silent,
                    1 => Habit::Late,
                    2..5 => Habit::Heartbeats,
                    _ => Habit::Plain,
                };
                Self::Activity { millis: prng.below(1500), failures, habit }
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity { millis, failures, habit } => {
                let habit = match habit {
                    Habit::Plain => "",
                    Habit::Heartbeats => "h",
                    Habit::Silent => "s",
                    Habit::Late => "l",
                };
                write!(f, "a{millis}f{failures}{habit}")
            }
            Self::Timer { millis } => write!(f, "t{millis}"),
            Self::Timers { count, millis } => write!(f, "T{count}x{millis}"),
            Self::Signals { count, millis } => write!(f, "s{count}x{millis}"),
            Self::Abandon { millis } => write!(f, "x{millis}"),
            Self::Note => f.write_str("m"),
            Self::Child { millis, policy, awaited } => {
                let policy = match policy {
                    ParentClosePolicy::Abandon => "a",
                    ParentClosePolicy::RequestCancel => "c",
                    _ => "t",
                };
                write!(f, "c{millis}{policy}{}", if *awaited { "w" } else { "" })
            }
            Self::SignalOther { workflow } => write!(f, "e{workflow}"),
            Self::CancelOther { workflow } => write!(f, "k{workflow}"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no step");
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
        let pair = |rest: &str, by| {
            let (first, second) = rest.split_once(by).ok_or_else(wrong)?;
            Ok::<_, String>((number(first)?, number(second)?))
        };
        let (kind, rest) = text.split_at_checked(1).ok_or_else(wrong)?;
        Ok(match kind {
            "t" => Self::Timer { millis: number(rest)? },
            "x" => Self::Abandon { millis: number(rest)? },
            "m" if rest.is_empty() => Self::Note,
            "e" => Self::SignalOther { workflow: number(rest)? },
            "k" => Self::CancelOther { workflow: number(rest)? },
            "c" => {
                let (rest, awaited) = rest.strip_suffix('w').map_or((rest, false), |rest| (rest, true));
                let (digits, policy) = rest.split_at_checked(rest.len().saturating_sub(1)).ok_or_else(wrong)?;
                let policy = match policy {
                    "a" => ParentClosePolicy::Abandon,
                    "c" => ParentClosePolicy::RequestCancel,
                    "t" => ParentClosePolicy::Terminate,
                    _ => return Err(wrong()),
                };
                Self::Child { millis: number(digits)?, policy, awaited }
            }
            "T" => {
                let (count, millis) = pair(rest, 'x')?;
                Self::Timers { count, millis }
            }
            "s" => {
                let (count, millis) = pair(rest, 'x')?;
                Self::Signals { count, millis }
            }
            "a" => {
                let digits = rest.trim_end_matches(|letter: char| letter != 'f' && !letter.is_ascii_digit());
                let (millis, failures) = pair(digits, 'f')?;
                let habit = match &rest[digits.len()..] {
                    "" => Habit::Plain,
                    "h" => Habit::Heartbeats,
                    "s" => Habit::Silent,
                    "l" => Habit::Late,
                    _ => return Err(wrong()),
                };
                Self::Activity { millis, failures: failures as u32, habit }
            }
            _ => return Err(wrong()),
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.groups.iter().map(|steps| steps.iter().map(Step::to_string).collect::<Vec<_>>().join(","));
        f.write_str(&groups.collect::<Vec<_>>().join(";"))?;
        match self.end {
            End::Complete => f.write_str("!c")?,
            End::Fail => f.write_str("!f")?,
            End::Again(times) => write!(f, "!n{times}")?,
        }
        f.write_str(if self.obeys { "" } else { "~" })
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no plan");
        let (steps, end) = text.split_once('!').ok_or_else(wrong)?;
        let (end, obeys) = end.strip_suffix('~').map_or((end, true), |end| (end, false));
        let end = match end.split_at_checked(1).ok_or_else(wrong)? {
            ("c", "") => End::Complete,
            ("f", "") => End::Fail,
            ("n", times) => End::Again(times.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        };
        let group = |steps: &str| steps.split(',').map(Step::from_str).collect::<Result<Vec<_>, _>>();
        let groups = steps.split(';').map(group).collect::<Result<_, _>>()?;
        Ok(Self { groups, end, obeys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_being_text() {
        let mut prng = Prng::new(7);
        for _ in 0..500 {
            let plan = Plan::draw(&mut prng);
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
        for wrong in ["a3!c", "t1", "t1!", "a1f0q!c", "m1!c"] {
            assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
        }
    }
}
