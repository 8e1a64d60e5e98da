//! Fair turns inside one priority: each key is served in proportion to its weight, however many tasks it has.
//!
//! Every task gets a pass when it is added: its key's last pass, or the pass that the queue has come to, plus a stride that is shorter for
//! heavier keys. Tasks go in order of their passes. A queue that no key was ever named in gives every task pass 0, and so keeps
//! its order by age.

use std::collections::BTreeMap;

use crate::types::Fairness;

/// The stride of weight 1.
const STRIDE: u64 = 1_000_000;
/// Keys remembered beyond those that wait; the rest are as good as new.
const KEYS_KEPT: usize = 1_000;

/// The turns of one priority of one queue.
#[derive(Default)]
pub struct Turns {
    /// The pass of the task that went last.
    reached: u64,
    /// The last pass given to each key.
    last: BTreeMap<u64, u64>,
    /// Whether a key was ever named.
    used: bool,
}

impl Turns {
    /// The pass of a new task.
    pub fn next(&mut self, fairness: Fairness) -> u64 {
        self.used |= fairness.key != 0;
        if !self.used {
            return 0;
        }
        if self.last.len() > KEYS_KEPT {
            let reached = self.reached;
            self.last.retain(|_, pass| *pass > reached);
        }
        let last = self.last.entry(fairness.key).or_default();
        let stride = STRIDE * 1_000 / u64::from(fairness.weight_thousandths.max(1));
        *last = (*last).max(self.reached).saturating_add(stride.max(1));
        *last
    }

    /// A task with this pass goes.
    pub fn reach(&mut self, pass: u64) {
        self.reached = self.reached.max(pass);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys in the order in which their tasks go; each is (key, weight, how many).
    fn order(keys: &[(u64, u32, usize)]) -> Vec<u64> {
        let mut turns = Turns::default();
        let mut tasks = Vec::new();
        for (key, weight_thousandths, count) in keys {
            for _ in 0..*count {
                let pass = turns.next(Fairness { key: *key, weight_thousandths: *weight_thousandths });
                tasks.push((pass, tasks.len(), *key));
            }
        }
        tasks.sort_unstable();
        tasks.into_iter().map(|(_, _, key)| key).collect()
    }

    #[test]
    fn a_key_with_few_tasks_does_not_wait_for_one_with_many() {
        assert_eq!(order(&[(1, 1_000, 6), (2, 1_000, 2)]), [1, 2, 1, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn weights_are_proportions() {
        let first_six = &order(&[(1, 1_000, 9), (2, 2_000, 9)])[..6];
        assert_eq!(first_six.iter().filter(|key| **key == 2).count(), 4);
    }

    #[test]
    fn a_late_key_begins_where_the_queue_is() {
        let mut turns = Turns::default();
        let one = |turns: &mut Turns, key| turns.next(Fairness { key, weight_thousandths: 1_000 });
        let passes: Vec<u64> = (0..5).map(|_| one(&mut turns, 1)).collect();
        turns.reach(passes[3]);
        assert_eq!(one(&mut turns, 2), passes[4]);
    }

    #[test]
    fn without_keys_age_alone_counts() {
        let mut turns = Turns::default();
        assert_eq!((turns.next(Fairness::default()), turns.next(Fairness::default())), (0, 0));
    }
}
