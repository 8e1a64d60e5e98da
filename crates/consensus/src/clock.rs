//! One clock for all groups of a node: heartbeats of what it leads, and elections where a leader is not heard of.
//!
//! openraft's own ticks would wake every group two dozen times a second, leaders and followers alike; here one look goes over all groups, and
//! wakes only those in which something is due. Quiet groups are passed over.
//!
//! A process that ends closes its connections, and its address refuses new ones. A follower that sees this of its leader's node waits
//! only until nobody can have heard of the leader for the length of a lease, and then asks for pre-votes; so a killed node is
//! replaced in about a lease, and not in a lease and an election time-out more. It is a hint and no more: a voter that still hears
//! the leader refuses, nothing has changed then, and nodes that vanish without a word are left to patience. Followers of one group
//! take turns, each group beginning with another of them: so votes are not split, and the groups of the node that died are
//! spread over those that are left.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mainstay_runtime::{Instant, Runtime, Select2, select2};

use crate::peer::WeakPeers;

/// How often the groups are looked at while one of them is awake.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// The same while none is. Shorter than a lease, so that a group which wakes meanwhile has its heartbeat in time.
const REST: Duration = Duration::from_millis(300);
/// Between the turns of two followers: an election takes less.
const TURN: Duration = Duration::from_millis(200);
/// From then on a node that cannot be reached is left to patience: there may be no quorum.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);

/// A node that cannot be reached, and for how long nothing was heard of it.
pub(crate) type Lost = (u64, Duration);

/// How long a replica's leader is trusted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between two heartbeats of a leader.
    pub heartbeat: Duration,
    /// How long voters keep to a leader that they do not hear of.
    pub lease: Duration,
    /// How long a voter waits beyond that before it stands: between the two.
    pub patience: (Duration, Duration),
}

/// A replica's times.
pub(crate) struct Pulse<R: Runtime>(Mutex<Times<R>>);

struct Times<R: Runtime> {
    /// When the leader was last heard of, or a vote was given.
    heard: R::Instant,
    /// The last heartbeat.
    beat: R::Instant,
    /// When this replica last stood for election.
    stood: Option<R::Instant>,
    patience: Option<Duration>,
}

impl<R: Runtime> Pulse<R> {
    pub fn new() -> Self {
        let now = R::Instant::now();
        Self(Mutex::new(Times { heard: now, beat: now, stood: None, patience: None }))
    }

    fn with<T>(&self, with: impl FnOnce(&mut Times<R>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The leader lives, or is to be given time.
    pub fn hear(&self) {
        self.with(|times| times.heard = R::Instant::now());
    }

    /// Whether this leader owes a heartbeat; then it counts as given. `active`: when it last sent entries.
    pub fn owes_heartbeat(&self, pace: Pace, active: R::Instant) -> bool {
        self.with(|times| {
            let now = R::Instant::now();
            // When it leads no more it has heard of itself.
            times.heard = now;
            let owes = now - times.beat.max(active) >= pace.heartbeat;
            if owes {
                times.beat = now;
            }
            owes
        })
    }

    /// Whether this replica did not stand for election just now; then it counts as standing.
    pub fn may_stand(&self, pace: Pace) -> bool {
        self.with(|times| {
            let now = R::Instant::now();
            let rested = times.stood.is_none_or(|stood| now - stood >= TURN);
            if rested {
                times.stand(now, pace);
            }
            rested
        })
    }

    /// Whether patience with the leader, and so much more, has ended; then this replica counts as standing, and a new patience begins.
    pub fn gives_up(&self, pace: Pace, more: Duration) -> bool {
        self.with(|times| {
            let (least, most) = pace.patience;
            let spread = (most.saturating_sub(least)).as_nanos().max(1);
            let draw = || least + Duration::from_nanos((R::random() % spread) as u64);
            let patience = *times.patience.get_or_insert_with(draw);
            let now = R::Instant::now();
            let over = now - times.heard > pace.lease + patience + more;
            if over {
                times.stand(now, pace);
            }
            over
        })
    }
}

impl<R: Runtime> Times<R> {
    /// Gives the election time: nobody is more patient with this replica than it is itself.
    fn stand(&mut self, now: R::Instant, pace: Pace) {
        self.stood = Some(now);
        self.patience = None;
        self.heard = now - pace.lease;
    }
}

/// Looks at all groups of a node, until the peers are stopped.
pub(crate) async fn run<R: Runtime>(weak: WeakPeers<R>) {
    loop {
        let Some(peers) = weak.upgrade() else { return };
        let (broken, stopped) = (peers.broken(), peers.stopping());
        let lost: Vec<Lost> = peers.unreachable().into_iter().filter(|(_, silent)| *silent < GIVE_UP_AFTER).collect();
        let mut awake = !lost.is_empty();
        for replica in peers.router().replicas() {
            awake |= replica.look(&lost);
        }
        drop(peers);
        let rest = R::sleep(if awake { LOOK_EVERY } else { REST });
        if let Select2::First(()) = select2(stopped.closed(), select2(broken.notified(), rest)).await {
            return;
        }
    }
}

/// Whether it is this voter's turn to stand for election, when the leader's node was not heard of for so long beyond the lease.
pub(crate) fn is_turn(
    group: u32,
    me: u64,
    leader: u64,
    voters: impl Iterator<Item = u64>,
    past_lease: Duration,
) -> bool {
    let able: Vec<u64> = voters.filter(|id| *id != leader).collect();
    let Some(mine) = able.iter().position(|id| *id == me) else { return false };
    let turn = (mine + able.len() - group as usize % able.len()) % able.len();
    (past_lease.as_millis() / TURN.as_millis()) as usize % able.len() == turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_take_turns_and_groups_begin_with_different_ones() {
        let turn = |group, me, ms| is_turn(group, me, 7, [3, 5, 7].into_iter(), Duration::from_millis(ms));
        assert!(turn(0, 3, 0) && !turn(0, 5, 0));
        assert!(turn(0, 5, 210) && !turn(0, 3, 210));
        assert!(turn(1, 5, 0) && turn(1, 3, 210));
        assert!(!turn(0, 7, 0) && !turn(0, 9, 0), "the leader itself, and a learner");
    }
}
