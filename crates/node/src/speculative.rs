//! Speculative workflow tasks of a leader: made when admitted updates need a task and the run has none, offered to matching, started
//! in memory when a poller takes one, timed out by a sleeping task. (The engine knows what they mean; see its module of this name.)
//!
//! A run with updates is looked at again after each change that apply makes to it. So whatever races with an update ends the same
//! way: either the run has a task that carries it, or it gets a speculative one.

use std::collections::BTreeSet;
use std::time::Duration;

use mainstay_api::log::{Command, TimeOutSpeculativeTask, WorkflowTaskStarted, command::Op};
use mainstay_api::peer::{SpeculativeKey, SpeculativeOffer, TakeSpeculative};
use mainstay_api::record::{RunRecord, UpdateRecord, WorkflowTaskRecord};
use mainstay_api::temporal::enums::v1::WorkflowExecutionStatus as Status;
use mainstay_base::{RunId, Timestamp};
use mainstay_engine::speculative::{self, Taker};
use mainstay_engine::{EntityKey, Error, Row, SuggestFrom, Table};
use mainstay_runtime::{Instant, Runtime};
use mainstay_storage::StorageError;

use crate::node::Node;
use crate::service::WorkflowTask;
use crate::unreadable;
use crate::update::aborted_by_closing;
use crate::updates::Look;

/// How long a speculative task waits for a poller, on a sticky queue or not.
const SCHEDULE_TO_START: Duration = Duration::from_secs(5);
/// A look at runs that failed, or a change that was missed, is repeated after this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Request id of a task that is started with the completion of the one before.
const INLINE_REQUEST_ID: &str = "request-from-RespondWorkflowTaskCompleted";

/// Looks after the runs that have updates, for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        let changed = node.board().updates.changed.notified();
        let mut failed = false;
        for (entity, run) in node.board().updates.take_touched() {
            if node.settle(&entity, run).is_err() {
                node.board().updates.touch(&entity, run);
                failed = true;
            }
        }
        let wait = if failed { LOOK_AGAIN_AFTER } else { LOOK_AGAIN_AFTER * 60 };
        let _woken = node.within(R::Instant::now() + wait, changed).await;
    }
}

/// Makes sure that a completion which is being applied is followed by a look at its run.
pub(crate) struct Held<'a, R: Runtime> {
    node: &'a Node<R>,
    entity: &'a EntityKey,
    run: RunId,
}

impl<R: Runtime> Drop for Held<'_, R> {
    fn drop(&mut self) {
        self.node.board().updates.release(self.entity, self.run);
    }
}

/// The row of an update.
pub(crate) fn update_row(run: RunId, id: &str) -> Row {
    Row { table: Table::Update, run: Some(run), id: id.as_bytes().to_vec() }
}

fn ending(entity: EntityKey, op: TimeOutSpeculativeTask) -> Command {
    let EntityKey { namespace_id, workflow_id } = entity;
    Command { namespace_id, workflow_id, op: Some(Op::TimeOutSpeculativeTask(op)), ..Command::default() }
}

impl<R: Runtime> Node<R> {
    /// What callers of an update that was not accepted are told when its run closes: to ask the run that follows, if one does.
    pub(crate) fn aborted_by_close(
        &self,
        entity: &EntityKey,
        run: RunId,
        record: Option<&RunRecord>,
    ) -> Result<Error, Error> {
        let aborted = aborted_by_closing();
        let Some(record) = record.filter(|record| record.close_ns != 0) else { return Ok(aborted) };
        let goes_on = record.status() == Status::ContinuedAsNew
            || !self.read_details(self.route(entity), entity, run)?.successor_run_id.is_empty();
        Ok(if goes_on { mainstay_engine::closing() } else { aborted })
    }

    pub(crate) fn hold_updates<'a>(&'a self, entity: &'a EntityKey, run: RunId) -> Held<'a, R> {
        self.board().updates.hold(entity, run);
        Held { node: self, entity, run }
    }

    /// The time of an event that is made here and not by apply: no less than what the shard has seen, since the clock of the leader
    /// before may have been ahead.
    fn event_time(&self, entity: &EntityKey) -> Result<Timestamp, Error> {
        let seen = self.shard(self.route(entity))?.now().map_err(unreadable)?;
        Ok(self.now().max(Timestamp::from_nanos(seen)))
    }

    /// Brings the updates of a run and its speculative task in line with its rows.
    pub(crate) fn settle(&self, entity: &EntityKey, run: RunId) -> Result<(), Error> {
        let updates = &self.board().updates;
        let settling = updates.settling();
        let shard = self.shard(self.route(entity))?;
        let record = shard.run(entity, run).map_err(unreadable)?;
        let accepted = self.accepted_of(entity, run, &updates.ids(entity, run))?;
        let look = Look { record: record.as_ref(), accepted, now: self.event_time(entity)? };
        let aborted = self.aborted_by_close(entity, run, record.as_ref())?;
        let consequence = updates.settle(entity, run, &look, &aborted);
        drop(settling);
        if let Some(id) = consequence.retract {
            self.board().dispatch.retract_speculative(id, self.now());
        }
        if let (Some(task), Some(record)) = (&consequence.offer, &record) {
            self.board().dispatch.offer_speculative(self.offer_of(entity, run, record, task), self.now());
            self.expire(entity, run, task, SCHEDULE_TO_START);
        }
        if consequence.ended || consequence.retract.is_some() {
            self.board().waits.wake(entity.clone(), run);
        }
        Ok(())
    }

    /// Which of these updates history knows to be accepted.
    fn accepted_of(&self, entity: &EntityKey, run: RunId, ids: &[String]) -> Result<BTreeSet<String>, Error> {
        let shard = self.shard(self.route(entity))?;
        let mut accepted = BTreeSet::new();
        for id in ids {
            let known: Option<UpdateRecord> = shard.record(entity, &update_row(run, id)).map_err(unreadable)?;
            if known.is_some_and(|known| known.accepted_event_id != 0) {
                accepted.insert(id.clone());
            }
        }
        Ok(accepted)
    }

    /// Forgets updates of a run that history knows by now, before a task that starts sends those that wait: the entry that accepted them
    /// may have started it, before anybody else looked.
    pub(crate) fn forget_accepted(&self, entity: &EntityKey, run: RunId) -> Result<(), Error> {
        let updates = &self.board().updates;
        let _settling = updates.settling();
        let ids = updates.ids(entity, run);
        if !ids.is_empty() {
            updates.forget(entity, run, &self.accepted_of(entity, run, &ids)?);
        }
        Ok(())
    }

    /// A speculative task as matching holds it, here or at the node that owns its queue.
    fn offer_of(
        &self,
        entity: &EntityKey,
        run: RunId,
        record: &RunRecord,
        task: &WorkflowTaskRecord,
    ) -> SpeculativeOffer {
        SpeculativeOffer {
            key: Some(SpeculativeKey { node: self.id(), id: task.speculative_id }),
            namespace_id: entity.namespace_id.clone(),
            workflow_id: entity.workflow_id.clone(),
            run_id: run.to_string(),
            task_queue: task.task_queue.clone(),
            sticky: task.sticky,
            normal_queue: record.task_queue.clone(),
        }
    }

    /// Offers those speculative tasks of a group again that no worker has: their queues may have other owners now.
    pub(crate) fn offer_speculative_again(&self, group: u32) -> Result<(), StorageError> {
        let Ok(shard) = self.shard(group) else { return Ok(()) };
        for (entity, run, task) in self.board().updates.unstarted(group) {
            if let Some(record) = shard.run(&entity, run)? {
                self.board().dispatch.offer_speculative(self.offer_of(&entity, run, &record, &task), self.now());
            }
        }
        Ok(())
    }

    /// Times a speculative task out if it is as it is now after `patience`.
    fn expire(&self, entity: &EntityKey, run: RunId, task: &WorkflowTaskRecord, patience: Duration) {
        let (node, entity, id, started) = (self.clone(), entity.clone(), task.speculative_id, task.started_ns);
        drop(R::spawn(async move {
            node.rest_until(R::Instant::now() + patience).await;
            let same = |task: WorkflowTaskRecord| task.speculative_id == id && task.started_ns == started;
            if node.is_stopped() || !node.board().updates.task(&entity, run).is_some_and(same) {
                return;
            }
            let op = TimeOutSpeculativeTask { run_id: run.to_string(), speculative_id: id, started: started != 0 };
            // What was refused needs no time-out: the run is closed or gone.
            let _refused = node.run_command(ending(entity, op)).await;
        }));
    }

    /// Starts the speculative task of this node that a poller took, here or elsewhere. None if it is gone.
    pub(crate) fn give_speculative(&self, take: &TakeSpeculative) -> Result<Option<WorkflowTask>, Error> {
        let offer = take.offer.clone().unwrap_or_default();
        let run = offer.run_id.parse().map_err(|_| Error::invalid("Invalid RunId."))?;
        let entity = EntityKey { namespace_id: offer.namespace_id, workflow_id: offer.workflow_id };
        let id = offer.key.unwrap_or_default().id;
        let taker = Taker { identity: &take.identity, request_id: &take.request_id, sticky: take.sticky };
        let started = self.start_speculative(&entity, run, id, &taker)?;
        started.map(|started| self.task_of(started)).transpose()
    }

    /// Starts a speculative task for a worker. None if it is gone.
    fn start_speculative(
        &self,
        entity: &EntityKey,
        run: RunId,
        id: u64,
        taker: &Taker<'_>,
    ) -> Result<Option<WorkflowTaskStarted>, Error> {
        let updates = &self.board().updates;
        let _settling = updates.settling();
        let Some(record) = self.shard(self.route(entity))?.run(entity, run).map_err(unreadable)? else {
            return Ok(None);
        };
        let offered = |task: &WorkflowTaskRecord| task.speculative_id == id && task.started_event_id == 0;
        let task = updates.task(entity, run).filter(offered).filter(|task| speculative::fits(&record, task));
        let Some(mut task) = task else { return Ok(None) };
        let suggest_from = self.config().suggest_from.as_ref().map(SuggestFrom::from).unwrap_or_default();
        let started = speculative::start(entity, &record, &mut task, taker, self.event_time(entity)?, &suggest_from);
        self.expire(entity, run, &task, Duration::from_nanos(task.timeout_ns.max(0).unsigned_abs()));
        updates.replace_task(entity, run, task);
        self.board().dispatch.started_speculative(id);
        Ok(Some(started))
    }

    /// Gives the worker that has just completed a task the one that waiting updates need.
    pub(crate) fn start_speculative_inline(
        &self,
        entity: &EntityKey,
        run: RunId,
        identity: &str,
    ) -> Result<Option<WorkflowTaskStarted>, Error> {
        let scheduled = {
            let _settling = self.board().updates.settling();
            let Some(record) = self.shard(self.route(entity))?.run(entity, run).map_err(unreadable)? else {
                return Ok(None);
            };
            self.board().updates.schedule_inline(entity, run, &record, self.event_time(entity)?)
        };
        let Some(task) = scheduled else { return Ok(None) };
        let taker = Taker { identity, request_id: INLINE_REQUEST_ID, sticky: true };
        self.start_speculative(entity, run, task.speculative_id, &taker)
    }
}
