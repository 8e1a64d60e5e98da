//! SplitMix64: the only randomness inside a state machine, always seeded from the log entry.
//!
//! Its output is part of the replicated state's definition: it must never change. Not for secrets.

use crate::{RunId, Timestamp};

/// A seeded generator. Equal seeds give equal sequences on every platform.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// A generator for an entry's 128-bit seed.
    pub const fn new(seed: u128) -> Self {
        Self((seed >> 64) as u64 ^ (seed as u64).rotate_left(32))
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..bound`, by multiplication (bias below 2^-32 for bounds under 2^32). `bound` 0 gives 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// A fresh run id: a version-7 UUID, so that ids of later runs are greater.
    pub fn run_id(&mut self, now: Timestamp) -> RunId {
        RunId::from_time(now, self.bits())
    }

    /// A fresh request id: a version-4 UUID.
    pub fn request_id(&mut self) -> RunId {
        RunId::from_random(self.bits())
    }

    fn bits(&mut self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_frozen() {
        let mut prng = Prng::new(0);
        // The published first outputs of SplitMix64 with seed 0.
        assert_eq!(prng.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(prng.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn below_stays_below() {
        let mut prng = Prng::new(7);
        assert!((0..1_000).all(|_| prng.below(10) < 10));
        assert_eq!(prng.below(0), 0);
    }
}
