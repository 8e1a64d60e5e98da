//! Deleted namespaces: what is in them goes in the background, a little at a time, and at last their record.
//!
//! Each shard's leader removes what its lists show: runs (some in each entry), schedules, batch jobs. A workflow that was about to
//! start while its namespace was deleted may still come, so the record goes only after two passes that found nothing. A pass goes on
//! where the last one ended, since what it removed would have to be skipped again; only one that found nothing begins anew.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_api::log::{Command, EraseEntity, EraseRuns, RemoveNamespace, command::Op};
use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::NamespaceState;
use mainstay_engine::{Error, batch};
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::{ListPosition, ListSpace};

use crate::batches::EVERY_JOB;
use crate::execute::entity_of;
use crate::gather::{Ask, Listed};
use crate::node::{METADATA_GROUP, Node};
use crate::pace::Pace;
use crate::service::Namespace;
use crate::slots::Place;
use crate::unreadable;

/// Deleted namespaces are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Rows removed of one list before the next is looked at, at least and at most: also runs removed by one entry.
const ROWS: [usize; 2] = [4, 256];
const EMPTY_PASSES: u32 = 2;
const SPACES: [ListSpace; 4] = [ListSpace::Schedules, ListSpace::Batches, ListSpace::Open, ListSpace::Closed];

/// One look at a namespace.
#[derive(Default)]
struct Pass {
    found: usize,
    /// By this node; others remove what they lead.
    removed: usize,
}

/// How far a namespace is.
#[derive(Default)]
struct Progress {
    empty_passes: u32,
    /// Up to where this node has removed what a list of a group held.
    positions: BTreeMap<(u32, ListSpace), ListPosition>,
}

/// Reclaims for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let mut all: BTreeMap<String, Progress> = BTreeMap::new();
    let mut pace = Pace::new(ROWS[0], ROWS[1]);
    while !node.is_stopped() {
        let mut more = false;
        let known = node.board().registry.all();
        let deleted = known.into_iter().filter(|namespace| namespace.state() == NamespaceState::Deleted);
        for namespace in deleted {
            let id = namespace.id.clone();
            let progress = all.entry(id.clone()).or_default();
            match node.reclaim(&id, progress, &mut pace).await {
                Ok(Pass { found: 0, .. }) if !progress.positions.is_empty() => {
                    progress.positions.clear();
                    more = true;
                }
                Ok(Pass { found: 0, .. }) => {
                    progress.empty_passes += 1;
                    if progress.empty_passes >= EMPTY_PASSES && node.forget_namespace(&namespace).await.is_ok() {
                        all.remove(&id);
                    }
                }
                Ok(Pass { removed, .. }) => {
                    progress.empty_passes = 0;
                    more |= removed > 0;
                }
                // What cannot be removed now is met again in the next pass.
                Err(_) => *progress = Progress::default(),
            }
        }
        if !more {
            node.rest_until(R::Instant::now() + LOOK_EVERY).await;
        }
    }
}

impl<R: Runtime> Node<R> {
    /// Removes some of what a deleted namespace holds.
    async fn reclaim(&self, namespace_id: &str, progress: &mut Progress, pace: &mut Pace) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        let shown = self.shown();
        for group in shown.groups() {
            for space in SPACES {
                let leads = self.board().leads(group);
                // Who does not lead has removed nothing, and looks from the start at whether there is anything.
                let position = progress.positions.get(&(group, space)).filter(|_| leads);
                let mut rows: Vec<VisibilityRecord> = Vec::new();
                let visit = &mut |row: VisibilityRecord| {
                    rows.extend(Some(row).filter(|row| shown.has(group, row)));
                    rows.len() < pace.size()
                };
                self.shard(group)?.list(namespace_id, space, position, visit).map_err(unreadable)?;
                pass.found += rows.len();
                let Some(last) = rows.last().filter(|_| leads).map(ListPosition::of) else { continue };
                pass.removed += rows.len();
                // Schedules and batch jobs are removed one by one.
                let is_whole = rows.len() >= pace.size() && matches!(space, ListSpace::Open | ListSpace::Closed);
                for command in removals(namespace_id, space, rows) {
                    let began = R::Instant::now();
                    let entity = entity_of(&command);
                    let place = if entity.workflow_id.is_empty() { Place::Group(group) } else { Place::of(&entity) };
                    self.propose(place, command).await?;
                    let took = R::Instant::now() - began;
                    if is_whole {
                        pace.took(took);
                    }
                    // Half of the time belongs to others.
                    self.rest_until(R::Instant::now() + took).await;
                }
                progress.positions.insert((group, space), last);
            }
        }
        Ok(pass)
    }

    /// Removes the record of a namespace in which nothing is left.
    async fn forget_namespace(&self, namespace: &Namespace) -> Result<(), Error> {
        if !self.board().leads(METADATA_GROUP) {
            return Ok(());
        }
        // This node need not have a replica of every shard.
        for (lists, filter) in [(Listed::Workflows, ""), (Listed::Schedules, ""), (Listed::Batches, EVERY_JOB)] {
            let left = self.gather_rows(Ask::new(namespace, lists, filter).page(1, Vec::new())).await?;
            if !left.rows.is_empty() || !left.token.is_empty() {
                return Err(Error::FailedPrecondition("something is left in another shard".into()));
            }
        }
        let remove = || Command {
            op: Some(Op::RemoveNamespace(RemoveNamespace { namespace_id: namespace.id.clone() })),
            ..Command::default()
        };
        for group in (1..self.group_count()).filter(|group| self.board().leads(*group)) {
            self.propose(group, remove()).await?;
        }
        self.propose(METADATA_GROUP, remove()).await.map(drop)
    }
}

/// The commands that remove what rows of a list stand for.
fn removals(namespace_id: &str, space: ListSpace, rows: Vec<VisibilityRecord>) -> Vec<Command> {
    let id = namespace_id.to_string();
    match space {
        ListSpace::Open | ListSpace::Closed => {
            let execution =
                |row: VisibilityRecord| WorkflowExecution { workflow_id: row.workflow_id, run_id: row.run_id };
            let erase = EraseRuns { executions: rows.into_iter().map(execution).collect() };
            vec![Command { namespace_id: id, op: Some(Op::EraseRuns(erase)), ..Command::default() }]
        }
        ListSpace::Schedules => rows.into_iter().map(|row| erase(id.clone(), row.workflow_id)).collect(),
        ListSpace::Batches => {
            rows.into_iter().map(|row| erase(id.clone(), batch::entity_id(&row.workflow_id))).collect()
        }
    }
}

fn erase(namespace_id: String, entity_id: String) -> Command {
    Command { namespace_id, workflow_id: entity_id, op: Some(Op::EraseEntity(EraseEntity {})), ..Command::default() }
}
