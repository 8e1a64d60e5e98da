//! Random conversations: after each step, state rebuilt from history equals the stored state, histories obey their grammar, and
//! every index row has an owner. The same steps give the same bytes.

use crate::support;

use mainstay_api::log::operate_activities::{self as op, Operation, Which};
use mainstay_api::log::{
    self, ActivityTarget, Reply, ReservedPoll, TaskToken, activity_target::Target, command::Op, reply, started_task,
};
use mainstay_api::record::{EntityMessage, TaskRow, task_row};
use mainstay_api::temporal::activity::v1::ActivityOptions;
use mainstay_api::temporal::command::v1::{self as command, Command, command::Attributes as A};
use mainstay_api::temporal::common::v1::{
    ActivityType, Payload, Priority, RetryPolicy, WorkflowExecution, WorkflowType,
};
use mainstay_api::temporal::enums::v1::{CommandType, TaskQueueKind, WorkflowTaskFailedCause};
use mainstay_api::temporal::failure::v1::{ApplicationFailureInfo, Failure, failure::FailureInfo};
use mainstay_api::temporal::taskqueue::v1::{StickyExecutionAttributes, TaskQueue};
use mainstay_api::temporal::workflow::v1::WorkflowExecutionOptions;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_engine::Error;
use proptest::prelude::*;
use prost_types::{Duration, FieldMask};

use support::machine::Machine;
use support::rebuild;
use support::updates;

#[derive(Clone, Debug)]
enum Step {
    Start {
        conflict: i32,
        delay: i64,
        retry: bool,
        cron: bool,
        run_timeout: i64,
        eager: bool,
    },
    Signal {
        request: u8,
    },
    SignalWithStart {
        conflict: i32,
        request: u8,
    },
    Cancel,
    Terminate,
    Delete,
    Reset {
        finish: i64,
    },
    ResetSticky,
    Poll {
        sticky: bool,
    },
    Complete {
        commands: Vec<Order>,
        answers: Vec<(u8, u8)>,
        heartbeat: bool,
        inline: bool,
        sticky: bool,
    },
    /// An update is admitted: a speculative task, if the run has none.
    Update,
    PollSpeculative {
        sticky: bool,
    },
    TimeOutSpeculative,
    FailTask,
    PollActivity,
    CloseActivity {
        how: u8,
        by_id: bool,
        id: u8,
        stale: bool,
    },
    Operate {
        how: u8,
        id: u8,
        flags: u8,
    },
    Options {
        key: i32,
    },
    Pause {
        pause: bool,
        request: u8,
    },
    Advance {
        ms: i64,
    },
    /// Messages from this place of the outbox on are delivered, and acknowledged or not: then they come again.
    Deliver {
        from: usize,
        count: usize,
        floors: bool,
        acknowledge: bool,
    },
    /// What was delivered last comes once more, late.
    DeliverLate,
}

#[derive(Clone, Debug)]
enum Order {
    Activity { id: u8, start_to_close: i64, schedule_to_close: i64, heartbeat: i64, attempts: i32, eager: bool },
    CancelActivity { event: i64 },
    Timer { id: u8, ms: i64 },
    CancelTimer { id: u8 },
    Marker,
    Memo { key: u8, null: bool },
    Close { how: u8 },
    Child { id: u8, policy: i32, reuse: i32, retry: bool, run_timeout: i64 },
    SignalOther { id: u8, child_only: bool },
    CancelOther { id: u8, child_only: bool },
}

fn order() -> impl Strategy<Value = Order> {
    let activity = (0..4_u8, 1..6_i64, 0..12_i64, 0..4_i64, 0..4_i32, any::<bool>()).prop_map(
        |(id, start_to_close, schedule_to_close, heartbeat, attempts, eager)| Order::Activity {
            id,
            start_to_close,
            schedule_to_close,
            heartbeat,
            attempts,
            eager,
        },
    );
    prop_oneof![
        5 => activity,
        2 => (4..20_i64).prop_map(|event| Order::CancelActivity { event }),
        4 => (0..4_u8, 0..5_000_i64).prop_map(|(id, ms)| Order::Timer { id, ms }),
        2 => (0..4_u8).prop_map(|id| Order::CancelTimer { id }),
        1 => Just(Order::Marker),
        1 => (0..3_u8, any::<bool>()).prop_map(|(key, null)| Order::Memo { key, null }),
        2 => (0..4_u8).prop_map(|how| Order::Close { how }),
        5 => (0..4_u8, 0..4_i32, 0..5_i32, any::<bool>(), 0..8_i64)
            .prop_map(|(id, policy, reuse, retry, run_timeout)| Order::Child { id, policy, reuse, retry, run_timeout }),
        1 => (0..5_u8, any::<bool>()).prop_map(|(id, child_only)| Order::SignalOther { id, child_only }),
        1 => (0..5_u8, any::<bool>()).prop_map(|(id, child_only)| Order::CancelOther { id, child_only }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let start = (0..4_i32, 0..3_i64, any::<bool>(), prop::bool::weighted(0.1), 0..20_i64, any::<bool>());
    prop_oneof![
        2 => start.prop_map(|(conflict, delay, retry, cron, run_timeout, eager)| Step::Start {
            conflict, delay, retry, cron, run_timeout, eager,
        }),
        4 => any::<u8>().prop_map(|request| Step::Signal { request }),
        1 => (prop_oneof![Just(0), Just(2), Just(3)], any::<u8>())
            .prop_map(|(conflict, request)| Step::SignalWithStart { conflict, request }),
        1 => Just(Step::Cancel),
        1 => prop::bool::weighted(0.3).prop_map(|yes| if yes { Step::Terminate } else { Step::Cancel }),
        1 => prop::bool::weighted(0.2).prop_map(|yes| if yes { Step::Delete } else { Step::ResetSticky }),
        1 => (2..14_i64).prop_map(|finish| Step::Reset { finish }),
        9 => any::<bool>().prop_map(|sticky| Step::Poll { sticky }),
        9 => (prop::collection::vec(order(), 0..4), answers(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(commands, answers, heartbeat, inline, sticky)| Step::Complete {
                commands, answers, heartbeat, inline, sticky,
            }
        ),
        4 => answers().prop_map(|answers| Step::Complete {
            commands: Vec::new(), answers, heartbeat: false, inline: false, sticky: true,
        }),
        4 => Just(Step::Update),
        4 => any::<bool>().prop_map(|sticky| Step::PollSpeculative { sticky }),
        1 => Just(Step::TimeOutSpeculative),
        2 => Just(Step::FailTask),
        5 => Just(Step::PollActivity),
        7 => (0..5_u8, prop::bool::weighted(0.3), 0..4_u8, prop::bool::weighted(0.2))
            .prop_map(|(how, by_id, id, stale)| Step::CloseActivity { how, by_id, id, stale }),
        4 => (0..5_u8, 0..4_u8, any::<u8>()).prop_map(|(how, id, flags)| Step::Operate { how, id, flags }),
        1 => (0..5_i32).prop_map(|key| Step::Options { key }),
        1 => (prop::bool::weighted(0.4), any::<u8>()).prop_map(|(pause, request)| Step::Pause { pause, request }),
        4 => (0..6_000_i64).prop_map(|ms| Step::Advance { ms }),
        9 => (0..3_usize, 1..6_usize, any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(from, count, floors, acknowledge)| Step::Deliver { from, count, floors, acknowledge }),
        1 => Just(Step::DeliverLate),
    ]
}

/// Updates by number, with what the worker says of each.
fn answers() -> impl Strategy<Value = Vec<(u8, u8)>> {
    prop::collection::vec((0..3_u8, 0..4_u8), 0..3)
}

fn span(seconds: i64) -> Option<Duration> {
    (seconds > 0).then_some(Duration { seconds, nanos: 0 })
}

fn queue(name: &str) -> Option<TaskQueue> {
    Some(TaskQueue { name: name.into(), ..TaskQueue::default() })
}

/// The conversation and what it remembers.
struct Talk {
    machine: Machine,
    task: TaskToken,
    activities: Vec<TaskToken>,
    polls: u32,
    delivered: Vec<EntityMessage>,
    /// Whether pollers wait for everything that commands make.
    reserves: bool,
}

/// The workflow that an order of a number means; the parent itself is among them.
fn other(id: u8) -> String {
    if id == 4 { "wf".into() } else { format!("kid{id}") }
}

impl Talk {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Advance { ms } => self.advance(*ms),
            Step::Poll { sticky } => self.poll(if *sticky { "sticky" } else { "tq" }),
            Step::PollActivity => self.poll_activity(),
            Step::Update => {
                self.machine.speculate("wf");
            }
            Step::PollSpeculative { sticky } => self.poll_speculative(*sticky),
            Step::Deliver { from, count, floors, acknowledge } => {
                self.delivered = self.machine.outbox().into_iter().skip(*from).take(*count).collect();
                let (outcomes, _) = self.machine.deliver(self.delivered.clone(), *floors);
                if *acknowledge {
                    self.machine.acknowledge(&self.delivered.clone(), &outcomes);
                }
            }
            Step::DeliverLate => {
                self.machine.deliver(self.delivered.clone(), false);
            }
            Step::Complete { .. } | Step::FailTask => {
                let op = self.op(step);
                let workflow_id = self.task.workflow_id.clone();
                self.apply_to(&workflow_id, op);
            }
            other => {
                let op = self.op(other);
                self.apply(op);
            }
        }
    }

    fn apply(&mut self, op: Op) {
        self.apply_to("wf", op);
    }

    fn apply_to(&mut self, workflow_id: &str, op: Op) {
        if self.reserves {
            self.machine.reserved_polls =
                [(false, "tq"), (false, "sticky"), (true, "tq"), (true, "tq")].map(|poll| self.waiting(poll)).to_vec();
        }
        let (reply, _) = self.machine.apply(workflow_id, op);
        match reply {
            Ok(reply) => self.remember(reply),
            Err(Error::Internal(text)) => panic!("{text}"),
            Err(_) => {}
        }
    }

    fn waiting(&mut self, (activity, queue): (bool, &str)) -> ReservedPoll {
        self.polls += 1;
        ReservedPoll {
            activity,
            task_queue: queue.into(),
            sticky: queue == "sticky",
            identity: "worker".into(),
            request_id: format!("poll-{}", self.polls),
            ..Default::default()
        }
    }

    fn remember(&mut self, reply: Reply) {
        let mut tasks: Vec<log::WorkflowTaskStarted> =
            reply.eager_workflow_task.into_iter().map(|task| *task).collect();
        for started in reply.started_tasks {
            match started.task {
                Some(started_task::Task::WorkflowTask(task)) => tasks.push(task),
                Some(started_task::Task::ActivityTask(task)) => self.activities.extend(task.token),
                None => {}
            }
        }
        match reply.reply {
            Some(reply::Reply::WorkflowTaskStarted(task)) => tasks.push(task),
            Some(reply::Reply::ActivityTaskStarted(task)) => self.activities.extend(task.token),
            Some(reply::Reply::WorkflowTaskCompleted(done)) => {
                tasks.extend(done.workflow_task);
                self.activities.extend(done.activity_tasks.into_iter().filter_map(|task| task.token));
            }
            _ => {}
        }
        if let Some(task) = tasks.pop() {
            self.task = task.token.unwrap_or_default();
        }
    }

    fn advance(&mut self, ms: i64) {
        let until = self.machine.now_ns + ms * 1_000_000;
        for _ in 0..200 {
            let Some((due, rows)) = self.machine.next_due(until) else { break };
            let (reply, _) = self.machine.fire(due, rows);
            reply.expect("timers fire");
        }
        self.machine.now_ns = self.machine.now_ns.max(until);
    }

    fn offered(&self, kind: task_row::Kind, name: &str) -> Option<TaskRow> {
        self.machine.store.tasks.values().find(|row| row.kind() == kind && row.task_queue == name).cloned()
    }

    fn poll(&mut self, name: &str) {
        let Some(row) = self.offered(task_row::Kind::Workflow, name) else { return };
        self.polls += 1;
        let kind = if name == "sticky" { TaskQueueKind::Sticky } else { TaskQueueKind::Normal };
        let task_queue = Some(TaskQueue { name: name.into(), kind: kind as i32, ..TaskQueue::default() });
        self.apply_to(
            &row.workflow_id,
            Op::StartWorkflowTask(log::StartWorkflowTask {
                run_id: row.run_id.clone(),
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id: format!("poll-{}", self.polls),
                poll: Some(api::PollWorkflowTaskQueueRequest { task_queue, ..Default::default() }),
            }),
        );
    }

    fn poll_speculative(&mut self, sticky: bool) {
        self.polls += 1;
        let request_id = format!("poll-{}", self.polls);
        if let Some(task) = self.machine.start_speculative("wf", &request_id, sticky) {
            self.task = task.token.unwrap_or_default();
        }
    }

    fn poll_activity(&mut self) {
        let Some(row) = self.offered(task_row::Kind::Activity, "tq") else { return };
        self.polls += 1;
        self.apply_to(
            &row.workflow_id,
            Op::StartActivityTask(log::StartActivityTask {
                run_id: row.run_id.clone(),
                scheduled_event_id: row.scheduled_event_id,
                attempt: row.attempt,
                task_sequence: row.sequence,
                poll_request_id: format!("poll-{}", self.polls),
                poll: Some(api::PollActivityTaskQueueRequest::default()),
            }),
        );
    }

    fn op(&mut self, step: &Step) -> Op {
        let base = || Default::default();
        match step {
            Step::Start { .. } => Op::StartWorkflow(log::StartWorkflow { request: Some(self.start_request(step)) }),
            Step::Signal { request } => Op::SignalWorkflow(api::SignalWorkflowExecutionRequest {
                signal_name: "s".into(),
                request_id: format!("signal-{request}"),
                ..Default::default()
            }),
            Step::SignalWithStart { conflict, request } => {
                Op::SignalWithStart(api::SignalWithStartWorkflowExecutionRequest {
                    workflow_id: "wf".into(),
                    workflow_type: Some(WorkflowType { name: "T".into() }),
                    task_queue: queue("tq"),
                    signal_name: "s".into(),
                    request_id: format!("signal-{request}"),
                    workflow_id_conflict_policy: *conflict,
                    ..Default::default()
                })
            }
            Step::Cancel => Op::RequestCancel(base()),
            Step::Terminate => Op::Terminate(Default::default()),
            Step::Delete => Op::Delete(Default::default()),
            Step::Reset { finish } => Op::Reset(api::ResetWorkflowExecutionRequest {
                workflow_task_finish_event_id: *finish,
                reason: "r".into(),
                ..Default::default()
            }),
            Step::FailTask => Op::FailWorkflowTask(log::FailWorkflowTask {
                token: Some(self.task.clone()),
                request: Some(api::RespondWorkflowTaskFailedRequest {
                    cause: WorkflowTaskFailedCause::WorkflowWorkerUnhandledFailure as i32,
                    ..Default::default()
                }),
            }),
            Step::Complete { commands, answers, heartbeat, inline, sticky } => {
                self.completion(commands, answers, *heartbeat, *inline, *sticky)
            }
            Step::TimeOutSpeculative => {
                let held = self.machine.speculative.clone().unwrap_or_default();
                let task = held.task.unwrap_or_default();
                Op::TimeOutSpeculativeTask(log::TimeOutSpeculativeTask {
                    run_id: held.run_id,
                    speculative_id: task.speculative_id,
                    started: task.started_event_id != 0,
                })
            }
            Step::Update | Step::PollSpeculative { .. } => Op::ResetSticky(log::ResetStickyTaskQueue::default()),
            Step::CloseActivity { how, by_id, id, stale } => self.close_activity(*how, *by_id, *id, *stale),
            Step::Pause { pause: true, request } => Op::PauseWorkflow(api::PauseWorkflowExecutionRequest {
                request_id: format!("pause-{request}"),
                ..Default::default()
            }),
            Step::Pause { pause: false, request } => Op::UnpauseWorkflow(api::UnpauseWorkflowExecutionRequest {
                request_id: format!("unpause-{request}"),
                ..Default::default()
            }),
            Step::Operate { how, id, flags } => operate(*how, *id, *flags),
            Step::Options { key } => Op::UpdateOptions(api::UpdateWorkflowExecutionOptionsRequest {
                workflow_execution_options: Some(WorkflowExecutionOptions {
                    priority: Some(Priority { priority_key: *key, ..Default::default() }),
                    ..Default::default()
                }),
                update_mask: Some(FieldMask { paths: vec!["priority".into()] }),
                ..Default::default()
            }),
            Step::ResetSticky
            | Step::Poll { .. }
            | Step::PollActivity
            | Step::Advance { .. }
            | Step::Deliver { .. }
            | Step::DeliverLate => Op::ResetSticky(log::ResetStickyTaskQueue::default()),
        }
    }

    fn start_request(&mut self, step: &Step) -> api::StartWorkflowExecutionRequest {
        let Step::Start { conflict, delay, retry, cron, run_timeout, eager } = step else { return Default::default() };
        self.polls += 1;
        api::StartWorkflowExecutionRequest {
            workflow_id: "wf".into(),
            workflow_type: Some(WorkflowType { name: "T".into() }),
            task_queue: queue("tq"),
            request_id: format!("start-{}", self.polls / 2),
            workflow_id_conflict_policy: *conflict,
            workflow_start_delay: if *cron { None } else { span(*delay) },
            retry_policy: retry.then(|| RetryPolicy { maximum_attempts: 3, ..Default::default() }),
            cron_schedule: if *cron { "@every 2s".into() } else { String::new() },
            workflow_run_timeout: span(*run_timeout),
            request_eager_execution: *eager,
            ..Default::default()
        }
    }

    fn completion(
        &mut self,
        orders: &[Order],
        answers: &[(u8, u8)],
        heartbeat: bool,
        inline: bool,
        sticky: bool,
    ) -> Op {
        let words = ["accept", "accept-unknown", "reject", "respond"];
        let message = |(id, how): &(u8, u8)| updates::message(words[usize::from(*how) % 4], &format!("u{id}"));
        let commands = orders.iter().map(make).collect();
        let sticky_attributes = sticky.then(|| StickyExecutionAttributes {
            worker_task_queue: queue("sticky"),
            schedule_to_start_timeout: span(2),
        });
        let request = api::RespondWorkflowTaskCompletedRequest {
            commands,
            sticky_attributes,
            force_create_new_workflow_task: heartbeat,
            return_new_workflow_task: inline,
            messages: answers.iter().map(message).collect(),
            identity: "worker".into(),
            ..Default::default()
        };
        Op::CompleteWorkflowTask(log::CompleteWorkflowTask {
            token: Some(self.task.clone()),
            request: Some(request),
            sent_updates: ["u0", "u1"].into_iter().map(updates::request).collect(),
            updates_wait: false,
        })
    }

    fn close_activity(&mut self, how: u8, by_id: bool, id: u8, stale: bool) -> Op {
        let target = if by_id {
            Target::ById(log::ActivityById { run_id: String::new(), activity_id: format!("a{id}") })
        } else {
            let token = if stale { self.activities.first() } else { self.activities.last() };
            Target::Token(token.cloned().unwrap_or_default())
        };
        let target = Some(ActivityTarget { target: Some(target) });
        let failure = |non_retryable| {
            let info = ApplicationFailureInfo { non_retryable, ..Default::default() };
            Some(Failure { failure_info: Some(FailureInfo::ApplicationFailureInfo(info)), ..Default::default() })
        };
        match how {
            0 => Op::CompleteActivity(log::CompleteActivity { target, ..Default::default() }),
            1 => Op::FailActivity(log::FailActivity { target, failure: failure(false), ..Default::default() }),
            2 => Op::FailActivity(log::FailActivity { target, failure: failure(true), ..Default::default() }),
            3 => Op::CancelActivity(log::CancelActivity { target, ..Default::default() }),
            _ => Op::HeartbeatActivity(log::HeartbeatActivity { target, ..Default::default() }),
        }
    }
}

/// An operation on one activity, or on all.
fn operate(how: u8, id: u8, flags: u8) -> Op {
    let flag = |bit: u8| flags & (1 << bit) != 0;
    let jitter_ns = if flag(2) { 1_500_000_000 } else { 0 };
    let operation = match how {
        0 => Operation::Pause(op::Pause::default()),
        1 => Operation::Unpause(op::Unpause { reset_attempts: flag(0), reset_heartbeat: flag(1), jitter_ns }),
        2 => Operation::Reset(op::Reset {
            reset_heartbeat: flag(0),
            keep_paused: flag(1),
            jitter_ns,
            restore_options: flag(3),
        }),
        _ => Operation::UpdateOptions(op::UpdateOptions {
            options: Some(ActivityOptions {
                schedule_to_close_timeout: span(i64::from(flags % 7)),
                start_to_close_timeout: span(1 + i64::from(flags % 3)),
                task_queue: queue(if flag(4) { "tq" } else { "other" }),
                ..Default::default()
            }),
            mask: (how == 3).then(|| FieldMask {
                paths: ["schedule_to_close_timeout", "start_to_close_timeout", "task_queue.name"]
                    .map(Into::into)
                    .into(),
            }),
            restore_original: how != 3,
        }),
    };
    let which = if id == 3 { Which::All(true) } else { Which::Id(format!("a{id}")) };
    Op::OperateActivities(log::OperateActivities {
        which: Some(which),
        operation: Some(operation),
        ..Default::default()
    })
}

fn make(order: &Order) -> Command {
    match order {
        Order::Activity { id, start_to_close, schedule_to_close, heartbeat, attempts, eager } => {
            let attributes = command::ScheduleActivityTaskCommandAttributes {
                activity_id: format!("a{id}"),
                activity_type: Some(ActivityType { name: "Act".into() }),
                task_queue: queue("tq"),
                start_to_close_timeout: span(*start_to_close),
                schedule_to_close_timeout: span(*schedule_to_close),
                heartbeat_timeout: span(*heartbeat),
                retry_policy: Some(RetryPolicy { maximum_attempts: *attempts, ..Default::default() }),
                request_eager_execution: *eager,
                ..Default::default()
            };
            of(CommandType::ScheduleActivityTask, A::ScheduleActivityTaskCommandAttributes(attributes))
        }
        Order::CancelActivity { event } => of(
            CommandType::RequestCancelActivityTask,
            A::RequestCancelActivityTaskCommandAttributes(command::RequestCancelActivityTaskCommandAttributes {
                scheduled_event_id: *event,
            }),
        ),
        Order::Timer { id, ms } => of(
            CommandType::StartTimer,
            A::StartTimerCommandAttributes(command::StartTimerCommandAttributes {
                timer_id: format!("t{id}"),
                start_to_fire_timeout: Some(Duration { seconds: ms / 1000, nanos: (ms % 1000 * 1_000_000) as i32 }),
            }),
        ),
        Order::CancelTimer { id } => of(
            CommandType::CancelTimer,
            A::CancelTimerCommandAttributes(command::CancelTimerCommandAttributes { timer_id: format!("t{id}") }),
        ),
        Order::Marker => of(
            CommandType::RecordMarker,
            A::RecordMarkerCommandAttributes(command::RecordMarkerCommandAttributes {
                marker_name: "m".into(),
                ..Default::default()
            }),
        ),
        Order::Memo { key, null } => {
            let metadata =
                if *null { [("encoding".to_string(), "binary/null".into())].into() } else { Default::default() };
            let value = Payload { metadata, data: "1".into(), ..Payload::default() };
            let memo = mainstay_api::temporal::common::v1::Memo { fields: [(format!("k{key}"), value)].into() };
            of(
                CommandType::ModifyWorkflowProperties,
                A::ModifyWorkflowPropertiesCommandAttributes(command::ModifyWorkflowPropertiesCommandAttributes {
                    upserted_memo: Some(memo),
                }),
            )
        }
        Order::Close { how } => make_close(*how),
        Order::Child { .. } | Order::SignalOther { .. } | Order::CancelOther { .. } => make_other(order),
    }
}

#[allow(deprecated)]
fn make_other(order: &Order) -> Command {
    match order {
        Order::SignalOther { id, child_only } => of(
            CommandType::SignalExternalWorkflowExecution,
            A::SignalExternalWorkflowExecutionCommandAttributes(
                command::SignalExternalWorkflowExecutionCommandAttributes {
                    execution: Some(WorkflowExecution { workflow_id: other(*id), run_id: String::new() }),
                    signal_name: "s".into(),
                    child_workflow_only: *child_only,
                    ..Default::default()
                },
            ),
        ),
        Order::CancelOther { id, child_only } => of(
            CommandType::RequestCancelExternalWorkflowExecution,
            A::RequestCancelExternalWorkflowExecutionCommandAttributes(
                command::RequestCancelExternalWorkflowExecutionCommandAttributes {
                    workflow_id: other(*id),
                    child_workflow_only: *child_only,
                    ..Default::default()
                },
            ),
        ),
        Order::Child { id, policy, reuse, retry, run_timeout } => {
            let attributes = command::StartChildWorkflowExecutionCommandAttributes {
                workflow_id: other(*id),
                workflow_type: Some(WorkflowType { name: "K".into() }),
                parent_close_policy: *policy,
                workflow_id_reuse_policy: *reuse,
                retry_policy: retry.then(|| RetryPolicy { maximum_attempts: 2, ..Default::default() }),
                workflow_run_timeout: span(*run_timeout),
                ..Default::default()
            };
            of(CommandType::StartChildWorkflowExecution, A::StartChildWorkflowExecutionCommandAttributes(attributes))
        }
        _ => Command::default(),
    }
}

fn of(kind: CommandType, attributes: A) -> Command {
    Command { command_type: kind as i32, attributes: Some(attributes), ..Command::default() }
}

fn make_close(how: u8) -> Command {
    match how {
        0 => of(
            CommandType::CompleteWorkflowExecution,
            A::CompleteWorkflowExecutionCommandAttributes(Default::default()),
        ),
        1 => of(
            CommandType::FailWorkflowExecution,
            A::FailWorkflowExecutionCommandAttributes(command::FailWorkflowExecutionCommandAttributes {
                failure: Some(Failure::default()),
            }),
        ),
        2 => of(CommandType::CancelWorkflowExecution, A::CancelWorkflowExecutionCommandAttributes(Default::default())),
        _ => of(
            CommandType::ContinueAsNewWorkflowExecution,
            A::ContinueAsNewWorkflowExecutionCommandAttributes(Default::default()),
        ),
    }
}

fn talk(steps: &[Step], reserves: bool, check: bool) -> Result<Talk, TestCaseError> {
    let mut talk = Talk {
        machine: Machine::new(),
        task: TaskToken::default(),
        activities: Vec::new(),
        polls: 0,
        delivered: Vec::new(),
        reserves,
    };
    for (at, step) in steps.iter().enumerate() {
        talk.take(step);
        if check {
            let problems = rebuild::check_all(&talk.machine.store);
            prop_assert!(problems.is_empty(), "after step {at} {step:?}: {problems:#?}");
        }
    }
    Ok(talk)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn stored_state_follows_from_history(steps in prop::collection::vec(step(), 1..70), reserves: bool) {
        talk(&steps, reserves, true)?;
    }

    #[test]
    fn the_same_log_gives_the_same_state(steps in prop::collection::vec(step(), 1..70), reserves: bool) {
        let (a, b) = (talk(&steps, reserves, false)?, talk(&steps, reserves, false)?);
        prop_assert_eq!(a.machine.store.rows, b.machine.store.rows);
    }
}
