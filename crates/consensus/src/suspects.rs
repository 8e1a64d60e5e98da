//! Leaders whose node is gone: their followers stand for election without waiting for their own clocks.
//!
//! A process that ends closes its connections, and its address refuses new ones. A follower that sees this of its leader's node waits
//! only until nobody can have heard of the leader for the length of a lease, and then asks for pre-votes; so a killed node is
//! replaced in about a lease, and not in a lease and an election time-out more. It is a hint and no more: a voter that still hears
//! the leader refuses, nothing has changed then, and nodes that vanish without a word are left to openraft's clocks.
//!
//! Followers of one group take turns, each group beginning with another of them: so votes are not split, and the groups of the node that
//! died are spread over those that are left.

use std::time::Duration;

use mainstay_runtime::{Runtime, Select2};

use crate::peer::WeakPeers;

/// How often nodes that cannot be reached are looked at; while there are none, never.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// Between the turns of two followers, and between two tries of one.
const TURN: Duration = Duration::from_millis(120);
/// From then on it is left to the clocks: there may be no quorum.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);

/// Looks at unreachable nodes, until the peers are stopped.
pub(crate) async fn run<R: Runtime>(weak: WeakPeers<R>) {
    loop {
        let Some(peers) = weak.upgrade() else { return };
        let broken = peers.broken();
        let stopped = peers.stopping();
        let down = peers.unreachable();
        for (node, silent) in &down {
            for replica in peers.router().replicas() {
                replica.lost_leader(*node, *silent);
            }
        }
        drop(peers);
        let wait = async {
            if down.iter().all(|(_, silent)| *silent > GIVE_UP_AFTER) {
                broken.notified().await
            } else {
                R::sleep(LOOK_EVERY).await
            }
        };
        if let Select2::First(()) = R::select2(stopped.closed(), wait).await {
            return;
        }
    }
}

/// Whether it is this voter's turn to stand for election, when the leader's node was not heard of for so long.
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
    past_lease < GIVE_UP_AFTER && (past_lease.as_millis() / TURN.as_millis()) as usize % able.len() == turn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_take_turns_and_groups_begin_with_different_ones() {
        let turn = |group, me, ms| is_turn(group, me, 7, [3, 5, 7].into_iter(), Duration::from_millis(ms));
        assert!(turn(0, 3, 0) && !turn(0, 5, 0));
        assert!(turn(0, 5, 130) && !turn(0, 3, 130));
        assert!(turn(1, 5, 0) && turn(1, 3, 130));
        assert!(!turn(0, 7, 0) && !turn(0, 9, 0), "the leader itself, and a learner");
        assert!(!turn(0, 3, 4_000));
    }
}
