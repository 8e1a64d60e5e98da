//! How much one entry does of work that nobody waits for: as much as keeps others from waiting long, since entries of a shard are applied
//! one after the other. Measured by how long the entries took, the wait for others included: the busier a shard, the smaller the steps.

use std::time::Duration;

/// How long an entry should take at most.
const GOAL: Duration = Duration::from_millis(20);

/// The size of the next step, between two bounds.
#[derive(Debug)]
pub(crate) struct Pace {
    size: usize,
    least: usize,
    most: usize,
}

impl Pace {
    /// Begins with the smallest step.
    pub(crate) fn new(least: usize, most: usize) -> Self {
        Self { size: least, least, most }
    }

    /// Begins with the greatest step.
    pub(crate) fn from_most(least: usize, most: usize) -> Self {
        Self { size: most, least, most }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Learns how long a whole step took.
    pub(crate) fn took(&mut self, time: Duration) {
        if time > GOAL {
            self.size = (self.size / 2).max(self.least);
        } else if time < GOAL / 4 {
            self.size = (self.size * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_shrink_fast_grow_fast_and_stay_within_bounds() {
        let mut pace = Pace::new(4, 20);
        let mut after = |millis| {
            pace.took(Duration::from_millis(millis));
            pace.size()
        };
        assert_eq!(
            [after(1), after(1), after(1), after(10), after(21), after(900), after(900)],
            [8, 16, 20, 20, 10, 5, 4]
        );
    }
}
