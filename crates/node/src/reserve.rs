//! Polls that are reserved for the tasks of a command before it is proposed, so that their start needs no entry of its own.
//!
//! What a command will make is guessed from what it says: the queue of a start, of scheduled activities, and, for an activity that
//! ends, of its workflow's next task, which its token names. A wrong guess costs nothing: the poll has its place again.
//!
//! Only a node that is alone reserves. When a leader dies its command is tried again at the next one, whose pollers are others; there a
//! start of its own, which knows its poll, is what brings the task to the poller that waits for it.

use std::collections::BTreeMap;

use mainstay_api::log::{Command, Reply, ReservedPoll, TaskToken, activity_target::Target, command::Op};
use mainstay_api::temporal::command::v1::command::Attributes;
use mainstay_api::temporal::workflowservice::v1::RespondWorkflowTaskCompletedRequest;
use mainstay_base::{Duration, RunId};
use mainstay_matching::{QueueKey, QueueKind, Reservation};
use mainstay_runtime::Runtime;

use crate::node::Node;

/// As many as one command reserves at most.
const POLLS_MAX: usize = 32;

/// The polls that a command reserved, by request id. Dropped, they wait again.
pub(crate) struct Reserved<R: Runtime> {
    node: Node<R>,
    polls: BTreeMap<String, Held>,
}

/// A poll, and the queue where it waits.
struct Held {
    reservation: Reservation,
    queue: QueueKey,
    sticky: bool,
}

impl<R: Runtime> Reserved<R> {
    /// Gives the tasks that apply started to their polls.
    pub(crate) fn settle(mut self, reply: Option<&mut Reply>) {
        let started = reply.map(|reply| std::mem::take(&mut reply.started_tasks)).unwrap_or_default();
        for started in started {
            if let (Some(held), Some(task)) = (self.polls.remove(&started.poll_request_id), started.task) {
                let dispatch = &self.node.board().dispatch;
                let measured = dispatch.queues.of(&held.queue, held.sticky);
                // Made and started in one entry: the poller waited, and the task did not.
                measured.offered(true, true);
                measured.matched(Duration::ZERO, true);
                dispatch.fulfil(&held.reservation, task, self.node.now());
            }
        }
    }
}

impl<R: Runtime> Drop for Reserved<R> {
    fn drop(&mut self) {
        for held in std::mem::take(&mut self.polls).into_values() {
            self.node.board().dispatch.release(held.reservation, self.node.now());
        }
    }
}

impl<R: Runtime> Node<R> {
    /// Reserves polls for a command, and names them in it.
    pub(crate) fn reserve(&self, command: &mut Command) -> Option<Reserved<R>> {
        if !self.is_alone() {
            return None;
        }
        let mut polls = BTreeMap::new();
        for wanted in wanted(command.op.as_ref()?).into_iter().take(POLLS_MAX) {
            let queue =
                QueueKey { namespace_id: command.namespace_id.clone(), name: wanted.queue.into(), kind: wanted.kind };
            let Some(reservation) = self.board().dispatch.reserve(&queue, self.now()) else { continue };
            let request_id = RunId::from_random(R::random()).to_string();
            let poll = ReservedPoll {
                activity: queue.kind == QueueKind::Activity,
                task_queue: queue.name.clone(),
                sticky: wanted.sticky,
                identity: reservation.poller().identity.clone(),
                request_id: request_id.clone(),
                build_id: reservation.poller().build_id.clone().unwrap_or_default(),
            };
            command.reserved_polls.push(poll);
            polls.insert(request_id, Held { reservation, queue, sticky: wanted.sticky });
        }
        (!polls.is_empty()).then(|| Reserved { node: self.clone(), polls })
    }
}

/// A queue in which a command may make a task.
struct Wanted<'a> {
    queue: &'a str,
    kind: QueueKind,
    sticky: bool,
}

impl<'a> Wanted<'a> {
    fn workflow(queue: &'a str, sticky: bool) -> Self {
        Self { queue, kind: QueueKind::Workflow, sticky }
    }
}

fn wanted(op: &Op) -> Vec<Wanted<'_>> {
    match op {
        Op::StartWorkflow(start) => {
            let Some(request) = &start.request else { return Vec::new() };
            let later = request.workflow_start_delay.is_some() || !request.cron_schedule.is_empty();
            let queue = request.task_queue.as_ref().filter(|_| !later && !request.request_eager_execution);
            queue.map(|queue| Wanted::workflow(&queue.name, false)).into_iter().collect()
        }
        Op::SignalWithStart(request) => {
            let queue = request.task_queue.as_ref();
            queue.map(|queue| Wanted::workflow(&queue.name, false)).into_iter().collect()
        }
        Op::CompleteWorkflowTask(complete) => complete.request.as_ref().map(scheduled).unwrap_or_default(),
        Op::CompleteActivity(complete) => after(complete.target.as_ref().and_then(|target| target.target.as_ref())),
        Op::FailActivity(fail) => after(fail.target.as_ref().and_then(|target| target.target.as_ref())),
        Op::CancelActivity(cancel) => after(cancel.target.as_ref().and_then(|target| target.target.as_ref())),
        _ => Vec::new(),
    }
}

/// What a completion schedules; what it asks to start eagerly it is given itself.
fn scheduled(request: &RespondWorkflowTaskCompletedRequest) -> Vec<Wanted<'_>> {
    let queues = request.commands.iter().filter_map(|command| match command.attributes.as_ref()? {
        Attributes::ScheduleActivityTaskCommandAttributes(schedule) if !schedule.request_eager_execution => {
            Some((schedule.task_queue.as_ref()?, QueueKind::Activity))
        }
        Attributes::ContinueAsNewWorkflowExecutionCommandAttributes(next) => {
            Some((next.task_queue.as_ref()?, QueueKind::Workflow))
        }
        _ => None,
    });
    queues.map(|(queue, kind)| Wanted { queue: &queue.name, kind, sticky: false }).collect()
}

/// What follows the end of an activity: its workflow's next task.
fn after(target: Option<&Target>) -> Vec<Wanted<'_>> {
    match target {
        Some(Target::Token(TaskToken { workflow_task_queue: queue, workflow_task_sticky: sticky, .. })) => {
            vec![Wanted::workflow(queue, *sticky)]
        }
        _ => Vec::new(),
    }
}
