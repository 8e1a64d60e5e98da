//! Deleted namespaces: what is in them goes in the background, a little at a time, and at last their record.
//!
//! Each shard's leader removes what its lists show: runs, schedules, batch jobs. A workflow that was about to start while its
//! namespace was deleted may still come, so the record goes only after two passes that found nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_api::log::{Command, EraseEntity, RemoveNamespace, command::Op};
use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::NamespaceState;
use mainstay_api::temporal::workflowservice::v1::DeleteWorkflowExecutionRequest;
use mainstay_engine::{Error, batch};
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::ListSpace;

use crate::node::{METADATA_GROUP, Node};
use crate::unreadable;

/// Deleted namespaces are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Rows removed of one list before the next is looked at.
const ROWS_MAX: usize = 100;
const EMPTY_PASSES: u32 = 2;
const SPACES: [ListSpace; 4] = [ListSpace::Schedules, ListSpace::Batches, ListSpace::Open, ListSpace::Closed];

/// One look at a namespace.
#[derive(Default)]
struct Pass {
    found: usize,
    /// By this node; others remove what they lead.
    removed: usize,
}

/// Reclaims for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    let mut empty_passes: BTreeMap<String, u32> = BTreeMap::new();
    while !node.is_stopped() {
        let mut more = false;
        let all = node.board().registry.all();
        for namespace in all.into_iter().filter(|namespace| namespace.state() == NamespaceState::Deleted) {
            match node.reclaim(&namespace.id).await {
                Ok(Pass { found: 0, .. }) => {
                    let passes = empty_passes.entry(namespace.id.clone()).or_default();
                    *passes += 1;
                    if *passes >= EMPTY_PASSES && node.forget_namespace(&namespace.id).await.is_ok() {
                        empty_passes.remove(&namespace.id);
                    }
                }
                Ok(Pass { removed, .. }) => {
                    empty_passes.remove(&namespace.id);
                    more |= removed > 0;
                }
                // What cannot be removed now is met again in the next pass.
                Err(_) => drop(empty_passes.remove(&namespace.id)),
            }
        }
        if !more {
            node.rest_until(R::Instant::now() + LOOK_EVERY).await;
        }
    }
}

impl<R: Runtime> Node<R> {
    /// Removes some of what a deleted namespace holds.
    async fn reclaim(&self, namespace_id: &str) -> Result<Pass, Error> {
        let mut pass = Pass::default();
        for group in 1..=self.config().shards {
            for space in SPACES {
                let mut rows: Vec<VisibilityRecord> = Vec::new();
                let visit = &mut |row: VisibilityRecord| {
                    rows.push(row);
                    rows.len() < ROWS_MAX
                };
                self.shard(group)?.list(namespace_id, space, None, visit).map_err(unreadable)?;
                pass.found += rows.len();
                if self.board().leads(group) {
                    pass.removed += rows.len();
                    for row in rows {
                        self.propose(group, removal(space, row)).await?;
                    }
                }
            }
        }
        Ok(pass)
    }

    /// Removes the record of a namespace in which nothing is left.
    async fn forget_namespace(&self, id: &str) -> Result<(), Error> {
        if !self.board().leads(METADATA_GROUP) {
            return Ok(());
        }
        let remove = || Command {
            op: Some(Op::RemoveNamespace(RemoveNamespace { namespace_id: id.to_string() })),
            ..Command::default()
        };
        for group in (1..=self.config().shards).filter(|group| self.board().leads(*group)) {
            self.propose(group, remove()).await?;
        }
        self.propose(METADATA_GROUP, remove()).await.map(drop)
    }
}

/// The command that removes what a row stands for.
fn removal(space: ListSpace, row: VisibilityRecord) -> Command {
    let namespace_id = row.namespace_id;
    match space {
        ListSpace::Open | ListSpace::Closed => {
            let execution = WorkflowExecution { workflow_id: row.workflow_id.clone(), run_id: row.run_id };
            let delete = DeleteWorkflowExecutionRequest {
                workflow_execution: Some(execution),
                ..DeleteWorkflowExecutionRequest::default()
            };
            Command { namespace_id, workflow_id: row.workflow_id, op: Some(Op::Delete(delete)), ..Command::default() }
        }
        ListSpace::Schedules => erase(namespace_id, row.workflow_id),
        ListSpace::Batches => erase(namespace_id, batch::entity_id(&row.workflow_id)),
    }
}

fn erase(namespace_id: String, entity_id: String) -> Command {
    Command { namespace_id, workflow_id: entity_id, op: Some(Op::EraseEntity(EraseEntity {})), ..Command::default() }
}
