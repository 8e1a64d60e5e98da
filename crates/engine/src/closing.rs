//! A run's second chance to close: its worker tried to, was stopped by events that it had not seen, and is given a task with them.
//! While it has that task, signals and updates are refused, so that it does not meet the same again.
//!
//! The reference server keeps this in memory alone, with what it knows of waiting updates, and drops that memory whenever it refuses
//! a call about the run; not for signals, and not for the completion or failure of a task that is gone. Clients can see all of it.

use mainstay_api::log::{ActivityTarget, ForgetRun, Reply, TaskToken, activity_target::Target, command::Op};
use mainstay_api::record::{BroughtBack, RunRecord};
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;

use crate::run::Run;
use crate::transaction::Transaction;
use crate::{Answer, Error, Fault, Stop, empty, updates, workflow_task};

/// The calls about a run that differ in what their refusal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Signal,
    TaskCompletion,
    TaskFailure,
    Other,
}

fn of(execution: &Option<WorkflowExecution>) -> &str {
    execution.as_ref().map_or("", |execution| &execution.run_id)
}

fn by_token(token: &Option<TaskToken>) -> &str {
    token.as_ref().map_or("", |token| &token.run_id)
}

fn by_target(target: &Option<ActivityTarget>) -> &str {
    match target.as_ref().and_then(|target| target.target.as_ref()) {
        Some(Target::Token(token)) => &token.run_id,
        Some(Target::ById(by_id)) => &by_id.run_id,
        None => "",
    }
}

/// The kind of a client's or worker's call about one run, and which run; empty: the current one.
#[must_use]
pub fn subject(op: &Op) -> Option<(Call, &str)> {
    Some(match op {
        Op::SignalWorkflow(c) => (Call::Signal, of(&c.workflow_execution)),
        Op::SignalWithStart(_) => (Call::Signal, ""),
        Op::CompleteWorkflowTask(c) => (Call::TaskCompletion, by_token(&c.token)),
        Op::FailWorkflowTask(c) => (Call::TaskFailure, by_token(&c.token)),
        Op::RequestCancel(c) => (Call::Other, of(&c.workflow_execution)),
        Op::Terminate(c) => (Call::Other, of(&c.workflow_execution)),
        Op::Reset(c) => (Call::Other, of(&c.workflow_execution)),
        Op::CompleteActivity(c) => (Call::Other, by_target(&c.target)),
        Op::FailActivity(c) => (Call::Other, by_target(&c.target)),
        Op::CancelActivity(c) => (Call::Other, by_target(&c.target)),
        Op::HeartbeatActivity(c) => (Call::Other, by_target(&c.target)),
        Op::OperateActivities(c) => (Call::Other, c.run_id.as_str()),
        Op::UpdateOptions(c) => (Call::Other, of(&c.workflow_execution)),
        _ => return None,
    })
}

impl Call {
    /// Whether this refusal drops what is kept of the run in memory.
    #[must_use]
    pub fn drops_memory(self, refusal: &Error) -> bool {
        match self {
            Self::Signal => false,
            Self::TaskCompletion | Self::TaskFailure => !workflow_task::is_gone(refusal),
            Self::Other => true,
        }
    }
}

/// The answer to what must not come between a run and its second attempt to close.
#[must_use]
pub fn closing() -> Error {
    let message = "workflow operation can not be applied because workflow is closing".into();
    Error::ResourceExhausted { cause: ResourceExhaustedCause::BusyWorkflow, message }
}

/// Refuses a signal to a run that tries to close again.
pub(crate) fn refuse_signal(run: &Run) -> Answer<()> {
    if run.record.close_attempted && run.task_started() { Err(closing().into()) } else { Ok(()) }
}

/// Whether a refusal would change a run.
#[must_use]
pub fn remembers(record: &RunRecord) -> bool {
    record.close_attempted || record.brought_back() == BroughtBack::Seen
}

/// Updates are admitted in the leader's memory, and may be refused there.
pub(crate) fn forget_run(tx: &mut Transaction<'_>, command: &ForgetRun) -> Answer<Reply> {
    let run = Run::load_open(tx, &command.run_id)?;
    drop_memory(tx, run, true);
    Ok(empty())
}

/// The run has no second chance any more, and updates wait anew.
fn drop_memory(tx: &mut Transaction<'_>, mut run: Run, ends_chance: bool) {
    let attempted = ends_chance && std::mem::take(&mut run.record.close_attempted);
    if updates::wait_anew(&mut run) || attempted {
        run.save_uncounted(tx);
    }
}

/// After a refused command: drops what is kept of its run in memory, if the refusal does that.
pub(crate) fn forget(tx: &mut Transaction<'_>, op: &Op, refusal: &Error) -> Result<(), Fault> {
    let Some((call, run_id)) = subject(op) else { return Ok(()) };
    if !call.drops_memory(refusal) {
        return Ok(());
    }
    match Run::load(tx, run_id) {
        Ok(run) => {
            // A completion that failed its task has noted by itself whether the run tried to close.
            let failed_task = call == Call::TaskCompletion && !run.task_started();
            drop_memory(tx, run, !failed_task);
            Ok(())
        }
        Err(Stop::Refused(_)) => Ok(()),
        Err(Stop::Broken(fault)) => Err(fault),
    }
}
