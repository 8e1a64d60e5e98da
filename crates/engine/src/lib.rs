//! The engine: what a workflow execution does with a command. Pure: one entity, one command, a context of time, seed and
//! version, and the entity's rows go in; a reply and changes come out.
//!
//! It knows Temporal's semantics: events and their order, workflow tasks, activities, timers, how runs follow each other. It does
//! not know keys, replication, pollers, queries, or that more than one entity exists. Long shape of a command: [`apply`] opens
//! a `transaction::Transaction`, loads a `run::Run`, a handler changes it and adds events, and saving it writes rows.

mod activities;
mod activity_operations;
pub mod batch;
mod cancellation;
mod children;
mod closing;
mod commands;
mod convert;
mod describe;
mod error;
mod event;
mod external;
mod field_mask;
mod lifecycle;
mod messages;
mod note;
mod options;
mod pause;
mod refusal;
mod replay;
mod reserved;
mod reset;
mod retry;
mod run;
pub mod schedule;
mod search_attribute_value;
pub mod search_attributes;
mod signals;
pub mod speculative;
mod start;
mod store;
mod suggest;
pub mod task_queue_config;
mod timers;
mod transaction;
mod updates;
mod versioning;
mod worker_build;
mod workflow_task;

pub use closing::{Call, closing, remembers, subject};
pub use commands::is_bad_sequence;
pub use describe::describe;
pub use error::Error;
pub use note::{Note, ScheduleNote};
pub use refusal::{encoded_outcome, outcome_of, result_of};
pub use store::{Change, EntityKey, Fault, MessageId, Row, Store, Table};
pub use workflow_task::{is_gone as is_task_gone, unwritten};

use mainstay_api::log::{self, Reply, command::Op, reply};
use mainstay_base::Timestamp;

use std::sync::Arc;

pub use suggest::SuggestFrom;
use transaction::Transaction;

/// What apply may know of the world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    /// The shard's time for this entry: never less than at the entry before.
    pub now: Timestamp,
    /// Source of run ids and jitter.
    pub seed: u128,
    /// The entry's index in the shard's log; task sequences are made from it.
    pub log_index: u64,
    /// Feature version of the shard.
    pub version: u32,
    /// When workers are told to continue as new.
    pub suggest_from: SuggestFrom,
    /// How large the payloads of a command may be, in bytes; 0 for the usual limit.
    pub blob_size_max: u64,
}

/// What a command did. A refusal may come with changes: a bad workflow-task completion records its failure.
#[derive(Debug)]
pub struct Outcome {
    /// For whoever sent the command.
    pub reply: Result<Reply, Error>,
    /// To be written in one batch, in order.
    pub changes: Vec<Change>,
    /// What happened beside that no row shows. Nothing may depend on it.
    pub notes: Vec<Note>,
}

/// How a handler ends early: refused (an answer) or broken (the store failed).
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Error),
    Broken(Fault),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}

/// A handler's answer.
pub(crate) type Answer<T> = Result<T, Stop>;

/// Applies a command to its entity.
///
/// # Errors
/// Only if the store fails or holds bytes that do not decode; then nothing may be written and the replica must stop.
pub fn apply<'a>(context: &Context, store: &'a dyn Store, command: &'a log::Command) -> Result<Outcome, Fault> {
    let key = EntityKey { namespace_id: command.namespace_id.clone(), workflow_id: command.workflow_id.clone() };
    let mut tx = Transaction::new(*context, store, Arc::new(key));
    tx.speculative = &command.speculative_tasks;
    let answer = dispatch(&mut tx, command).and_then(|mut reply| {
        end_oversized(&mut tx)?;
        reply.started_tasks = reserved::start(&mut tx, &command.reserved_polls)?;
        Ok(reply)
    });
    let reply = match answer {
        Ok(reply) => Ok(reply),
        Err(Stop::Refused(error)) => {
            tx.refused();
            if let Some(op) = &command.op {
                closing::forget(&mut tx, op, &error)?;
            }
            Err(error)
        }
        Err(Stop::Broken(fault)) => return Err(fault),
    };
    let notes = std::mem::take(&mut tx.notes);
    Ok(Outcome { reply, changes: tx.into_changes()?, notes })
}

fn dispatch(tx: &mut Transaction<'_>, command: &log::Command) -> Answer<Reply> {
    let Some(op) = &command.op else {
        return Err(Error::Unimplemented("this command is of a newer version".into()).into());
    };
    match op {
        Op::StartWorkflow(c) => start::start_workflow(tx, c),
        Op::SignalWorkflow(c) => signals::signal(tx, c),
        Op::SignalWithStart(c) => signals::signal_with_start(tx, c),
        Op::RequestCancel(c) => cancellation::request_cancel(tx, c),
        Op::Terminate(c) => cancellation::terminate(tx, c),
        Op::Delete(c) => cancellation::delete(tx, c),
        Op::Reset(c) => reset::reset(tx, c),
        Op::StartWorkflowTask(c) => workflow_task::start_polled(tx, c),
        Op::CompleteWorkflowTask(c) => commands::complete(tx, c),
        Op::FailWorkflowTask(c) => workflow_task::fail_by_worker(tx, c),
        Op::ResetSticky(c) => workflow_task::reset_sticky(tx, c),
        Op::StartActivityTask(c) => activities::start_polled(tx, c),
        Op::CompleteActivity(c) => activities::complete(tx, c),
        Op::FailActivity(c) => activities::fail(tx, c),
        Op::CancelActivity(c) => activities::cancel(tx, c),
        Op::HeartbeatActivity(c) => activities::heartbeat(tx, c),
        Op::OperateActivities(c) => activity_operations::operate(tx, c),
        Op::UpdateOptions(c) => options::update(tx, c),
        Op::UpdateTaskQueueConfig(c) => task_queue_config::update(tx, c),
        Op::PauseWorkflow(c) => pause::pause(tx, c),
        Op::UnpauseWorkflow(c) => pause::unpause(tx, c),
        Op::FireTimers(c) => timers::fire(tx, c),
        Op::TimeOutSpeculativeTask(c) => speculative::time_out(tx, c),
        Op::ForgetRun(c) => closing::forget_run(tx, c),
        // The shard does these itself: they concern no entity.
        Op::PutMember(_) | Op::PutReplicas(_) | Op::PutSplit(_) | Op::HoldSlots(_) | Op::DropSlots(_) => Ok(empty()),
        Op::BeginArrival(_) | Op::ImportRows(_) | Op::EndArrival(_) => Ok(empty()),
        Op::StartBatch(c) => batch::start(tx, c),
        Op::StopBatch(c) => batch::stop(tx, c),
        Op::AdvanceBatch(c) => batch::advance(tx, c),
        Op::EraseEntity(_) => {
            batch::erase(tx)?;
            schedule::erase(tx)?;
            Ok(empty())
        }
        Op::EraseRuns(c) => cancellation::erase_runs(tx, c),
        Op::RemoveNamespace(c) => {
            tx.remove_namespace(c.namespace_id.clone());
            Ok(empty())
        }
        Op::CreateSchedule(c) => schedule::create(tx, c),
        Op::UpdateSchedule(c) => schedule::update(tx, c),
        Op::PatchSchedule(c) => schedule::patch(tx, c),
        Op::DeleteSchedule(c) => schedule::delete(tx, c),
        Op::PutNamespace(c) => {
            tx.put_namespace(c.namespace.clone().unwrap_or_default());
            Ok(empty())
        }
        Op::DeliverMessages(c) => messages::deliver(tx, c),
        Op::AcknowledgeMessages(c) => messages::acknowledge(tx, c),
    }
}

/// Terminates the runs of the entity at hand whose history this command brought over its limits.
pub(crate) fn end_oversized(tx: &mut Transaction<'_>) -> Answer<()> {
    for id in std::mem::take(&mut tx.oversized) {
        let mut run = run::Run::load(tx, &id.to_string())?;
        let Some(reason) = run.over_limit().filter(|_| run.is_open()) else { continue };
        lifecycle::terminate(tx, &mut run, lifecycle::Termination::by_history(reason))?;
        run.save(tx);
    }
    Ok(())
}

/// The reply that says nothing but yes.
pub(crate) fn empty() -> Reply {
    reply_of(reply::Reply::Empty(log::Empty {}))
}

pub(crate) fn reply_of(reply: reply::Reply) -> Reply {
    Reply { reply: Some(reply), ..Reply::default() }
}
