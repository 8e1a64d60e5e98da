//! What a workflow does, as text in its input: groups of steps; the steps of a group run at once, the groups one after another.
//!
//! `a30f2` is an activity of 30 ms that fails on its first two attempts, `t500` a timer of half a second; `,` separates steps and
//! `;` groups. The worker reads the plan from the history alone, so a workflow's result follows from its input.

use std::fmt;
use std::str::FromStr;

use mainstay_base::Prng;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An activity.
    Activity {
        /// How long it works.
        millis: u64,
        /// Attempts that fail.
        failures: u32,
    },
    /// A timer.
    Timer {
        /// How long.
        millis: u64,
    },
}

/// What a workflow does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan(pub Vec<Vec<Step>>);

impl Plan {
    /// A small plan of everything that is possible.
    #[must_use]
    pub fn draw(prng: &mut Prng) -> Self {
        let groups = 1 + prng.below(4);
        Self((0..groups).map(|_| (0..1 + prng.below(3)).map(|_| Step::draw(prng)).collect()).collect())
    }

    /// Ids of steps are their places; each is unique in a run.
    #[must_use]
    pub fn id(group: usize, step: usize) -> String {
        format!("{group}.{step}")
    }

    /// The result of a run: what its activities answered, in the order of the plan.
    #[must_use]
    pub fn result(&self) -> String {
        let mut answers = Vec::new();
        for (group, steps) in self.0.iter().enumerate() {
            for (step, what) in steps.iter().enumerate() {
                if matches!(what, Step::Activity { .. }) {
                    answers.push(Self::answer(&Self::id(group, step)));
                }
            }
        }
        answers.join(" ")
    }

    /// What an activity answers.
    #[must_use]
    pub fn answer(id: &str) -> String {
        format!("did-{id}")
    }
}

impl Step {
    fn draw(prng: &mut Prng) -> Self {
        if prng.below(3) == 0 {
            return Self::Timer { millis: 1 + prng.below(8000) };
        }
        let failures = if prng.below(4) == 0 { 1 + prng.below(2) as u32 } else { 0 };
        Self::Activity { millis: prng.below(1500), failures }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Activity { millis, failures } => write!(f, "a{millis}f{failures}"),
            Self::Timer { millis } => write!(f, "t{millis}"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no step");
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
        if let Some(millis) = text.strip_prefix('t') {
            return Ok(Self::Timer { millis: number(millis)? });
        }
        let (millis, failures) = text.strip_prefix('a').and_then(|rest| rest.split_once('f')).ok_or_else(wrong)?;
        Ok(Self::Activity { millis: number(millis)?, failures: number(failures)? as u32 })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = self.0.iter().map(|steps| steps.iter().map(Step::to_string).collect::<Vec<_>>().join(","));
        f.write_str(&groups.collect::<Vec<_>>().join(";"))
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let group = |steps: &str| steps.split(',').map(Step::from_str).collect::<Result<Vec<_>, _>>();
        text.split(';').map(group).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_being_text() {
        let mut prng = Prng::new(7);
        for _ in 0..100 {
            let plan = Plan::draw(&mut prng);
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
        assert!("a3".parse::<Plan>().is_err());
    }

    #[test]
    fn a_result_names_the_activities_in_order() {
        let plan: Plan = "a1f0,t5;a2f1".parse().expect("a plan");
        assert_eq!(plan.result(), "did-0.0 did-1.0");
    }
}
