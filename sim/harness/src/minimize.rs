//! Makes a failing shape smaller: fewer faults, fewer operations, the same invariant violated.
//!
//! Parts are taken away by halves, then quarters, then one by one. Less work also changes how tasks interleave, so a part may be
//! needed only for the way it shifts the rest; what is left still fails.

use crate::violation::kind;
use crate::{Shape, play};

/// How a shape fails, if it does.
#[must_use]
pub fn failure(shape: &Shape) -> Option<String> {
    play(shape, false).result.err().map(|reason| kind(&reason).to_string())
}

/// The smallest shape found that fails in the same way; `told` hears of each step.
pub fn minimize(shape: &Shape, told: &mut dyn FnMut(&Shape)) -> Option<Shape> {
    let wanted = failure(shape)?;
    let mut best = shape.clone();
    loop {
        let before = (best.faults.len(), best.operations.len());
        shrink(&mut best, &wanted, |shape| shape.faults.len(), |shape, range| drop(shape.faults.drain(range)), told);
        shrink(&mut best, &wanted, |it| it.operations.len(), |it, range| drop(it.operations.drain(range)), told);
        if (best.faults.len(), best.operations.len()) == before {
            return Some(best);
        }
    }
}

fn shrink(
    best: &mut Shape,
    wanted: &str,
    len: impl Fn(&Shape) -> usize,
    remove: impl Fn(&mut Shape, std::ops::Range<usize>),
    told: &mut dyn FnMut(&Shape),
) {
    let mut size = len(best).div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < len(best) {
            let mut smaller = best.clone();
            remove(&mut smaller, from..(from + size).min(len(best)));
            if failure(&smaller).as_deref() == Some(wanted) {
                *best = smaller;
                told(best);
            } else {
                from += size;
            }
        }
        if size == 1 {
            return;
        }
        size = size.div_ceil(2);
    }
}
