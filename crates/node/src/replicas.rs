//! Whether the replicas here can be trusted: leaders compare their groups' replicas now and then, and what is fenced is told.
//!
//! How a replica is fenced and rebuilt is `consensus`' matter. Callers that a fenced leader served go to the next one, as when it dies.

use std::time::Duration;

use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;

use crate::node::Node;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A group's replicas are compared this often if something changed, and at least once in the longer time, since disks decay.
const COMPARE_EVERY: Duration = Duration::from_secs(900);
const COMPARE_QUIET_EVERY: Duration = Duration::from_secs(86_400);
/// How long replicas may take to read all of their rows.
const COMPARE_WITHIN: Duration = Duration::from_secs(300);

/// When a group was last compared, and up to which entry.
struct Compared<R: Runtime> {
    at: R::Instant,
    index: u64,
    fenced: bool,
}

/// Watches for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let unknown = |_| Compared::<R> { at: R::Instant::now(), index: 0, fenced: false };
    let mut known: Vec<_> = Vec::new();
    while !node.is_stopped() {
        known.extend((known.len() as u32..node.group_count()).map(unknown));
        node.rest_until(R::Instant::now() + LOOK_EVERY).await;
        for (number, known) in (0..).zip(&mut known) {
            tell(&node, number, known);
        }
        // One at a time: each reads all rows.
        if let Some((number, known)) = (0..).zip(&mut known).find(|(number, known)| is_due(&node, *number, known)) {
            known.at = R::Instant::now();
            node.compare_replicas(number, COMPARE_WITHIN).await;
            known.index = node.applied(number).unwrap_or_default();
        }
    }
}

/// Logs that a replica was fenced, or is trusted again.
fn tell<R: Runtime>(node: &Node<R>, number: u32, known: &mut Compared<R>) {
    let reason = node.group(number).ok().and_then(mainstay_consensus::Group::fenced);
    match &reason {
        Some(reason) if !known.fenced => {
            tracing::error!(
                component = "shard",
                "shard-id" = number,
                reason,
                "the replica is fenced and will be rebuilt"
            );
        }
        None if known.fenced => {
            tracing::info!(component = "shard", "shard-id" = number, "the replica was rebuilt");
        }
        _ => {}
    }
    known.fenced = reason.is_some();
}

fn is_due<R: Runtime>(node: &Node<R>, number: u32, known: &Compared<R>) -> bool {
    let since = R::Instant::now() - known.at;
    if since < COMPARE_EVERY || !node.board().leads(number) {
        return false;
    }
    since >= COMPARE_QUIET_EVERY || node.applied(number).unwrap_or_default() > known.index + 1
}

impl<R: Runtime> Node<R> {
    /// Does not trust the replica of a group here any more. Answers whether it can be rebuilt.
    pub(crate) fn fence(&self, group: u32, reason: &str) -> bool {
        self.group(group).is_ok_and(|group| group.fence(reason))
    }

    /// Whether the replica of a group here is not trusted.
    pub(crate) fn is_fenced(&self, group: u32) -> bool {
        self.group(group).is_ok_and(|group| group.fenced().is_some())
    }

    /// Rows of a group could not be read by who cannot go on without them: another replica must, or the node ends.
    pub(crate) fn cannot_read(&self, group: u32, error: &StorageError) {
        let reason = format!("the rows of group {group} cannot be read: {error}");
        let can_be_rebuilt = matches!(error, StorageError::Corrupt(_)) && self.fence(group, &reason);
        if !can_be_rebuilt && !self.is_fenced(group) {
            R::fatal(&reason);
        }
    }

    /// As the leader of a group: compares the rows of all its replicas at one position of the log. Who differs from the majority is rebuilt.
    /// Answers whether all agree, if this node leads and all answered.
    pub async fn compare_replicas(&self, group: u32, within: Duration) -> Option<bool> {
        let compared = self.group(group).ok()?.compare(within).await;
        let Ok(found) = compared else { return None };
        if found.differ.is_empty() {
            return found.silent.is_empty().then_some(true);
        }
        if found.agree.is_empty() {
            let sentence = format!(
                "the replicas of shard {group} on nodes {:?} differ at entry {}, and none of them has a majority; restore one from a backup",
                found.differ, found.index
            );
            tracing::error!(component = "shard", "shard-id" = group, "{sentence}");
            self.peers().into_iter().for_each(|peers| peers.note(sentence.clone()));
        }
        Some(false)
    }
}
