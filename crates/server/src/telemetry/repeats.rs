//! No storm: of one place in the code, so many lines are written in a while; the next one that is written says how many were not.
//!
//! What fails once often fails a thousand times a second. The first lines tell all there is; the count tells how bad it is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::callsite::Identifier;

/// Lines of one place in one while.
const BURST: u64 = 10;
const WHILE: Duration = Duration::from_secs(10);

/// Lines of each place.
#[derive(Default)]
pub struct Repeats(Mutex<HashMap<Identifier, Place>>);

struct Place {
    since: SystemTime,
    written: u64,
    dropped: u64,
}

/// Whether a line is written.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// And so many like it were not.
    Write {
        repeated: u64,
    },
    Drop,
}

impl Repeats {
    /// A line of a place in the code is due.
    pub fn ask(&self, place: Identifier, now: SystemTime) -> Verdict {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(place).or_insert(Place { since: now, written: 0, dropped: 0 });
        place.ask(now)
    }
}

impl Place {
    fn ask(&mut self, now: SystemTime) -> Verdict {
        // A clock that was set back begins a new while, too.
        if now.duration_since(self.since).map_or(true, |passed| passed >= WHILE) {
            (self.since, self.written) = (now, 0);
        }
        if self.written >= BURST {
            self.dropped += 1;
            return Verdict::Drop;
        }
        self.written += 1;
        Verdict::Write { repeated: std::mem::take(&mut self.dropped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_counted() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let mut place = Place { since: at(0), written: 0, dropped: 0 };
        for _ in 0..BURST {
            assert_eq!(place.ask(at(1)), Verdict::Write { repeated: 0 });
        }
        for _ in 0..1_000 {
            assert_eq!(place.ask(at(9)), Verdict::Drop);
        }
        assert_eq!(place.ask(at(10)), Verdict::Write { repeated: 1_000 });
        assert_eq!(place.ask(at(11)), Verdict::Write { repeated: 0 });
    }
}
