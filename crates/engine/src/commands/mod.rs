//! Completing a workflow task: all its commands apply, or none.
//!
//! If a command is bad, all that was done is dropped and the task fails with that command's cause (reference §2.3, rules 9 and
//! 10). If all are good, the next workflow task is scheduled where it is needed.

mod activity;
mod child;
mod close;
mod external;
mod marker;
mod properties;
mod sequence;
mod timer;
mod update;

use std::collections::BTreeSet;

use mainstay_api::log::{self, Reply, TaskToken, WorkflowTaskCompleted, reply};
use mainstay_api::record::{WorkerBuild, WorkflowTaskRecord};
use mainstay_api::temporal::command::v1::{Command, command::Attributes as A};
use mainstay_api::temporal::enums::v1::{CommandType, TimeoutType, WorkflowTaskFailedCause as Cause};
use mainstay_api::temporal::failure::v1::{Failure, ServerFailureInfo, failure::FailureInfo};
use mainstay_api::temporal::history::v1::WorkflowTaskCompletedEventAttributes;
use mainstay_api::temporal::protocol::v1::Message;
use mainstay_api::temporal::workflowservice::v1::{
    RespondWorkflowTaskCompletedRequest, RespondWorkflowTaskCompletedResponse,
};
use mainstay_base::limits;

pub use sequence::is_bad_sequence;

use crate::convert::{given, nanos};
use crate::event::{Attributes, NewEvent};
use crate::lifecycle::{self, Termination};
use crate::pause::is_paused;
use crate::run::Run;
use crate::store::Fault;
use crate::transaction::Transaction;
use crate::workflow_task::{self, Starter, TaskFailure};
use crate::{Answer, Error, Stop, reply_of, search_attributes, speculative, updates, worker_build};

/// A streak of empty completions that only ask for another task may last this long.
const HEARTBEAT_STREAK_MAX: i64 = 30 * 60 * 1_000_000_000;
/// The server's own request id of a task that it starts inline.
const INLINE_REQUEST_ID: &str = "request-from-RespondWorkflowTaskCompleted";

/// Why a completion as a whole is not accepted.
pub(crate) enum Rejection {
    /// The command is bad: the task fails with this cause.
    Bad(Cause, String),
    /// The command is bad beyond repair: the task fails and the run is terminated.
    Fatal(Cause, String),
    /// The request is refused and nothing changes.
    Refused(Error),
    /// The store failed.
    Broken(Fault),
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        Self::Broken(fault)
    }
}

impl From<Stop> for Rejection {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(error) => Self::Refused(error),
            Stop::Broken(fault) => Self::Broken(fault),
        }
    }
}

/// A command's answer.
pub(crate) type Checked<T> = Result<T, Rejection>;

/// What the commands of one completion share.
pub(crate) struct Completion<'c, 'a> {
    pub(crate) tx: &'c mut Transaction<'a>,
    pub(crate) run: &'c mut Run,
    /// The Completed event that causes all that follows.
    pub(crate) completed_event_id: i64,
    pub(crate) identity: String,
    /// Events wait that the worker has not seen.
    pub(crate) unseen: bool,
    /// Something happened that the workflow must be told.
    pub(crate) wake: bool,
    /// The Scheduled events of activities that the worker asks for.
    pub(crate) eager: Vec<i64>,
    /// Workflow ids of the children that earlier commands started.
    pub(crate) started_children: BTreeSet<String>,
    /// Answers to updates that no command has asked for yet.
    pub(crate) messages: Vec<Message>,
    /// The updates that the worker was sent with this task.
    pub(crate) sent: &'c [update::Request],
}

impl Completion<'_, '_> {
    /// Writes an event that a command causes.
    pub(crate) fn write(&mut self, command: &Command, attributes: Attributes) -> i64 {
        let mut event = NewEvent::from(attributes).with_metadata(command.user_metadata.clone());
        event.group_markers = command.event_group_markers.clone();
        self.run.write(self.tx, event)
    }

    pub(crate) fn check_size(&self, cause: Cause, size: usize, what: &str) -> Checked<()> {
        check_size(self.tx, cause, size, what)
    }

    /// A close command must not pass over events that the worker has not seen.
    pub(crate) fn check_all_seen(&self) -> Checked<()> {
        if self.unseen {
            return Err(Rejection::Bad(Cause::UnhandledCommand, String::new()));
        }
        Ok(())
    }
}

/// A worker completes its workflow task.
pub(crate) fn complete(tx: &mut Transaction<'_>, command: &log::CompleteWorkflowTask) -> Answer<Reply> {
    let (token, request) = (given(&command.token), given(&command.request));
    let mut run = Run::load(tx, &token.run_id)?;
    workflow_task::check_token(&run, &token)?;
    sequence::check(&request.commands)?;
    if is_paused(&run) && request.force_create_new_workflow_task {
        let text = "Workflow is paused and force create new workflow task is not allowed.";
        return Err(Error::FailedPrecondition(text.into()).into());
    }
    if heartbeat_streak_over(tx, &mut run, &request) {
        workflow_task::wake(tx, &mut run)?;
        run.save(tx);
        tx.keep();
        return Err(Error::not_found("workflow task heartbeat timeout").into());
    }
    let rejection = match apply(tx, &mut run, &request, command) {
        Ok(_) if run.written_bytes() > limits::TRANSACTION_SIZE_MAX => {
            return too_large(tx, &token, run.written_bytes());
        }
        Ok(Applied { completed, nothing_to_say }) => {
            let dropped = completed.response.as_ref().is_some_and(|r| r.reset_history_event_id != 0);
            if dropped {
                run.save_uncounted(tx)
            } else {
                run.save(tx)
            }
            if nothing_to_say {
                tx.keep();
                return Err(Error::not_found("No messages for speculative workflow task.").into());
            }
            return Ok(reply_of(reply::Reply::WorkflowTaskCompleted(completed)));
        }
        Err(rejection) => rejection,
    };
    // Nothing of what the commands did so far may stay.
    tx.start_over();
    let run = Run::load(tx, &token.run_id)?;
    match rejection {
        Rejection::Bad(cause, text) => reject(tx, run, &request, cause, &text, false),
        Rejection::Fatal(cause, text) => reject(tx, run, &request, cause, &text, true),
        Rejection::Refused(error) => Err(error.into()),
        Rejection::Broken(fault) => Err(fault.into()),
    }
}

/// A completion whose events are too large for one write ends the run.
fn too_large(tx: &mut Transaction<'_>, token: &TaskToken, size: usize) -> Answer<Reply> {
    tx.start_over();
    let mut run = Run::load(tx, &token.run_id)?;
    lifecycle::terminate(tx, &mut run, Termination::by_history("Transaction size exceeds limit."))?;
    run.save(tx);
    tx.keep();
    let max = limits::TRANSACTION_SIZE_MAX;
    Err(Error::InvalidArgument(format!("transaction size of {size} bytes exceeds limit of {max} bytes")).into())
}

/// Fails the task because of a bad command. From attempt 2 on nothing is written: the task is left to time out.
fn reject(
    tx: &mut Transaction<'_>,
    mut run: Run,
    request: &RespondWorkflowTaskCompletedRequest,
    cause: Cause,
    text: &str,
    fatal: bool,
) -> Answer<Reply> {
    let message = if text.is_empty() { camel(cause) } else { format!("{}: {text}", camel(cause)) };
    let attempt = run.record.workflow_task.as_ref().map_or(1, |task| task.attempt);
    if attempt > 1 && cause != Cause::UnhandledCommand && !fatal {
        return Err(Error::InvalidArgument(message).into());
    }
    let failure = Failure {
        message: message.clone(),
        failure_info: Some(FailureInfo::ServerFailureInfo(ServerFailureInfo::default())),
        ..Failure::default()
    };
    workflow_task::fail(
        tx,
        &mut run,
        TaskFailure { cause, failure: Some(failure), identity: request.identity.clone() },
    );
    run.record.close_attempted = cause == Cause::UnhandledCommand;
    if fatal {
        lifecycle::terminate(tx, &mut run, Termination::by_history(message.clone()))?;
    } else {
        workflow_task::wake(tx, &mut run)?;
    }
    run.save(tx);
    tx.keep();
    Err(Error::InvalidArgument(message).into())
}

/// A cause as error texts spell it: `BadStartTimerAttributes`.
pub(crate) fn camel(cause: Cause) -> String {
    let name = cause.as_str_name().trim_start_matches("WORKFLOW_TASK_FAILED_CAUSE_");
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    name.split('_').map(word).collect()
}

/// Times the task out if a worker kept it alive for too long without progress.
fn heartbeat_streak_over(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    request: &RespondWorkflowTaskCompletedRequest,
) -> bool {
    let Some(task) = run.record.workflow_task.clone() else { return false };
    let streak = tx.now().saturating_sub(task.original_scheduled_ns);
    if !request.force_create_new_workflow_task || streak <= HEARTBEAT_STREAK_MAX {
        return false;
    }
    workflow_task::take(tx, run);
    workflow_task::write_time_out(tx, run, &task, TimeoutType::StartToClose);
    workflow_task::clear_sticky(run);
    run.record.next_task_attempt = 1;
    true
}

/// What a completion did.
struct Applied {
    completed: WorkflowTaskCompleted,
    /// The worker wants a next task, which only what it is never sent would make.
    nothing_to_say: bool,
}

#[allow(deprecated)]
fn apply(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    request: &RespondWorkflowTaskCompletedRequest,
    command: &log::CompleteWorkflowTask,
) -> Checked<Applied> {
    check_binary(tx, &request.binary_checksum)?;
    let mut task = workflow_task::take(tx, run).unwrap_or_default();
    if update::leaves_no_trace(tx, run, &task, request)? {
        let reset_history_event_id = speculative::drop_completed(run, task);
        set_sticky(run, request);
        let response = RespondWorkflowTaskCompletedResponse { reset_history_event_id, ..Default::default() };
        updates::seen(run);
        let completed = WorkflowTaskCompleted { response: Some(response), ..WorkflowTaskCompleted::default() };
        return Ok(Applied { completed, nothing_to_say: false });
    }
    let wait = updates::wait_after(tx, run, &task)?;
    workflow_task::write_start(tx, run, &mut task, &request.identity, worker_build::of_completion(request));
    let completed_event_id = write_completed(tx, run, &task, request);
    run.record.last_completed_started_event_id = task.started_event_id;
    run.record.next_task_attempt = 1;
    run.record.failed_tasks = 0;
    set_sticky(run, request);
    let build = WorkerBuild {
        checksum: request.binary_checksum.clone(),
        build_id: request.worker_version_stamp.as_ref().map(|v| v.build_id.clone()).unwrap_or_default(),
    };
    worker_build::record(tx, run, build, tx.now(), completed_event_id);
    search_attributes::set_problems(tx, run, None);
    let unseen = run.record.buffered_count > 0;
    if !wait && !request.force_create_new_workflow_task {
        updates::seen(run);
    }
    let mut completion = Completion {
        tx,
        run,
        completed_event_id,
        identity: request.identity.clone(),
        unseen,
        wake: false,
        eager: Vec::new(),
        started_children: BTreeSet::new(),
        messages: request.messages.clone(),
        sent: &command.sent_updates,
    };
    for command in &request.commands {
        handle(&mut completion, command)?;
    }
    update::take_rest(&mut completion)?;
    let Completion { tx, run, mut wake, eager, .. } = completion;
    // Updates alone make a task that a worker asks for with this completion a speculative one, and any other a normal one.
    wake |= (command.updates_wait || wait) && !request.return_new_workflow_task;
    let workflow_task = next_task(tx, run, &task, request, wake)?;
    // As recorded: a speculative task that would tell the worker nothing is none, and the worker is told so.
    let wants_one = wait && request.return_new_workflow_task && !command.updates_wait;
    let nothing_to_say = wants_one && workflow_task.is_none() && run.is_open() && !is_paused(run);
    // The worker of a run that it closed is given nothing more.
    let eager = if run.is_open() { eager } else { Vec::new() };
    let completed = WorkflowTaskCompleted {
        response: Some(RespondWorkflowTaskCompletedResponse::default()),
        workflow_task,
        activity_tasks: activity::start_eager(tx, run, eager, &request.identity)?,
    };
    Ok(Applied { completed, nothing_to_say })
}

/// A worker whose code the namespace has found bad may not decide anything.
fn check_binary(tx: &Transaction<'_>, checksum: &str) -> Checked<()> {
    let bad = tx.namespace()?.bad_binaries.as_ref().is_some_and(|all| all.binaries.contains_key(checksum));
    if !bad {
        return Ok(());
    }
    Err(Rejection::Bad(Cause::BadBinary, format!("binary {checksum} is marked as bad deployment")))
}

fn write_completed(
    tx: &Transaction<'_>,
    run: &mut Run,
    task: &WorkflowTaskRecord,
    request: &RespondWorkflowTaskCompletedRequest,
) -> i64 {
    #[allow(deprecated)]
    let attributes = WorkflowTaskCompletedEventAttributes {
        scheduled_event_id: task.scheduled_event_id,
        started_event_id: task.started_event_id,
        identity: request.identity.clone(),
        binary_checksum: request.binary_checksum.clone(),
        worker_version: request.worker_version_stamp.clone(),
        sdk_metadata: request.sdk_metadata.clone(),
        metering_metadata: request.metering_metadata,
        ..WorkflowTaskCompletedEventAttributes::default()
    };
    run.write(tx, Attributes::WorkflowTaskCompletedEventAttributes(attributes))
}

fn set_sticky(run: &mut Run, request: &RespondWorkflowTaskCompletedRequest) {
    let attributes = request.sticky_attributes.as_ref();
    let queue = attributes.and_then(|a| a.worker_task_queue.as_ref()).map(|q| q.name.clone()).unwrap_or_default();
    run.record.sticky_timeout_ns = attributes.map_or(0, |a| nanos(a.schedule_to_start_timeout.as_ref()));
    run.record.sticky_queue = queue;
}

fn handle(completion: &mut Completion<'_, '_>, command: &Command) -> Checked<()> {
    match (command.command_type(), &command.attributes) {
        (CommandType::ScheduleActivityTask, Some(A::ScheduleActivityTaskCommandAttributes(a))) => {
            activity::schedule(completion, command, a)
        }
        (CommandType::RequestCancelActivityTask, Some(A::RequestCancelActivityTaskCommandAttributes(a))) => {
            activity::request_cancel(completion, command, a.scheduled_event_id)
        }
        (CommandType::StartTimer, Some(A::StartTimerCommandAttributes(a))) => timer::start(completion, command, a),
        (CommandType::CancelTimer, Some(A::CancelTimerCommandAttributes(a))) => timer::cancel(completion, command, a),
        (CommandType::RecordMarker, Some(A::RecordMarkerCommandAttributes(a))) => {
            marker::record(completion, command, a)
        }
        (CommandType::UpsertWorkflowSearchAttributes, Some(A::UpsertWorkflowSearchAttributesCommandAttributes(a))) => {
            properties::upsert_search_attributes(completion, command, a)
        }
        (CommandType::ModifyWorkflowProperties, Some(A::ModifyWorkflowPropertiesCommandAttributes(a))) => {
            properties::modify(completion, command, a)
        }
        (CommandType::CompleteWorkflowExecution, Some(A::CompleteWorkflowExecutionCommandAttributes(a))) => {
            close::complete(completion, command, a)
        }
        (CommandType::FailWorkflowExecution, Some(A::FailWorkflowExecutionCommandAttributes(a))) => {
            close::fail(completion, command, a)
        }
        (CommandType::CancelWorkflowExecution, Some(A::CancelWorkflowExecutionCommandAttributes(a))) => {
            close::cancel(completion, command, a)
        }
        (CommandType::ContinueAsNewWorkflowExecution, Some(A::ContinueAsNewWorkflowExecutionCommandAttributes(a))) => {
            close::continue_as_new(completion, command, a)
        }
        (CommandType::StartChildWorkflowExecution, Some(A::StartChildWorkflowExecutionCommandAttributes(a))) => {
            child::start(completion, command, a)
        }
        (
            CommandType::SignalExternalWorkflowExecution,
            Some(A::SignalExternalWorkflowExecutionCommandAttributes(a)),
        ) => external::signal(completion, command, a),
        (
            CommandType::RequestCancelExternalWorkflowExecution,
            Some(A::RequestCancelExternalWorkflowExecutionCommandAttributes(a)),
        ) => external::request_cancel(completion, command, a),
        (CommandType::ProtocolMessage, Some(A::ProtocolMessageCommandAttributes(a))) => {
            update::take_named(completion, &a.message_id)
        }
        (CommandType::ScheduleNexusOperation, Some(A::ScheduleNexusOperationCommandAttributes(_)))
        | (CommandType::RequestCancelNexusOperation, Some(A::RequestCancelNexusOperationCommandAttributes(_))) => {
            let name = command.command_type().as_str_name().trim_start_matches("COMMAND_TYPE_");
            let text = format!("the command {name} is not supported by this server");
            Err(Rejection::Refused(Error::Unimplemented(text)))
        }
        (kind, _) => Err(without_attributes(kind)),
    }
}

/// A command whose attributes are missing, or another command's. (Recorded of server 1.32, but for a child's start, at which it falls.)
fn without_attributes(kind: CommandType) -> Rejection {
    let cause = match kind {
        CommandType::ScheduleActivityTask => Cause::BadScheduleActivityAttributes,
        CommandType::RequestCancelActivityTask => Cause::BadRequestCancelActivityAttributes,
        CommandType::StartTimer => Cause::BadStartTimerAttributes,
        CommandType::CompleteWorkflowExecution => Cause::BadCompleteWorkflowExecutionAttributes,
        CommandType::FailWorkflowExecution => Cause::BadFailWorkflowExecutionAttributes,
        CommandType::CancelTimer => Cause::BadCancelTimerAttributes,
        CommandType::CancelWorkflowExecution => Cause::BadCancelWorkflowExecutionAttributes,
        CommandType::RequestCancelExternalWorkflowExecution => {
            Cause::BadRequestCancelExternalWorkflowExecutionAttributes
        }
        CommandType::RecordMarker => Cause::BadRecordMarkerAttributes,
        CommandType::ContinueAsNewWorkflowExecution => Cause::BadContinueAsNewAttributes,
        CommandType::StartChildWorkflowExecution => Cause::BadStartChildExecutionAttributes,
        CommandType::SignalExternalWorkflowExecution => Cause::BadSignalWorkflowExecutionAttributes,
        CommandType::UpsertWorkflowSearchAttributes => Cause::BadSearchAttributes,
        CommandType::ProtocolMessage => Cause::BadUpdateWorkflowExecutionMessage,
        CommandType::ModifyWorkflowProperties => Cause::BadModifyWorkflowPropertiesAttributes,
        CommandType::ScheduleNexusOperation => Cause::BadScheduleNexusOperationAttributes,
        CommandType::RequestCancelNexusOperation => Cause::BadRequestCancelNexusOperationAttributes,
        CommandType::Unspecified => Cause::UnhandledCommand,
    };
    let text = match kind {
        CommandType::ScheduleNexusOperation => "empty ScheduleNexusOperationCommandAttributes".to_string(),
        CommandType::RequestCancelNexusOperation => "empty CancelNexusOperationCommandAttributes".to_string(),
        kind => {
            let name = sequence::camel(kind);
            format!("{name}CommandAttributes is not set on {name}Command.")
        }
    };
    Rejection::Bad(cause, text)
}

/// Schedules the next workflow task if there is a reason, and starts it at once if the worker asked for that.
fn next_task(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    closed: &WorkflowTaskRecord,
    request: &RespondWorkflowTaskCompletedRequest,
    wake: bool,
) -> Checked<Option<log::WorkflowTaskStarted>> {
    let heartbeat = request.force_create_new_workflow_task;
    if is_paused(run) {
        workflow_task::wake(tx, run)?;
        return Ok(None);
    }
    if !run.is_open() || !(heartbeat || wake || run.record.buffered_count > 0) {
        return Ok(None);
    }
    let streak_start = if heartbeat && request.commands.is_empty() { closed.original_scheduled_ns } else { 0 };
    if !request.return_new_workflow_task {
        workflow_task::schedule(tx, run, streak_start)?;
        return Ok(None);
    }
    workflow_task::schedule_undispatched(tx, run, streak_start)?;
    let worker = worker_build::of_completion(request);
    let starter = Starter { identity: &request.identity, request_id: INLINE_REQUEST_ID, sticky: true, worker };
    Ok(Some(workflow_task::start(tx, run, &starter)?))
}

/// A run may wait for so many items of one kind.
pub(crate) fn check_pending(count: i64, what: &str, cause: Cause) -> Checked<()> {
    let limit = limits::PENDING_MAX;
    if count >= limit as i64 {
        let text = format!("the number of pending {what}, {count}, has reached the per-workflow limit of {limit}");
        return Err(Rejection::Bad(cause, text));
    }
    Ok(())
}

/// A blob in a command over its limit ends the run.
pub(crate) fn check_size(tx: &Transaction<'_>, cause: Cause, size: usize, what: &str) -> Checked<()> {
    let max = match tx.context.blob_size_max {
        0 => limits::BLOB_SIZE_MAX as u64,
        set => set,
    };
    if size as u64 > max {
        return Err(Rejection::Fatal(cause, format!("{what} exceeds size limit.")));
    }
    Ok(())
}

/// The bytes of an optional message.
pub(crate) fn size_of<M: prost::Message>(message: Option<&M>) -> usize {
    message.map_or(0, prost::Message::encoded_len)
}
