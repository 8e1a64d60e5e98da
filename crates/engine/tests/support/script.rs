//! Runs a golden script: command lines begin with `>`, what follows each is what the engine answered and changed.
//!
//! ```text
//! # One sentence: the behaviour.
//! > start
//! > poll
//! > complete
//! >   start_timer_command_attributes { timer_id: "t" start_to_fire_timeout: 5s }
//! > advance 5s
//! ```
//! A line indented after `>` belongs to the command above it. Words of commands are in [`Script::run`].

use std::fmt::Write;

use mainstay_api::RawHistory;
use mainstay_api::log::{self, Reply, TaskToken, activity_target::Target, command::Op, reply};
use mainstay_api::record::{
    ActivityRecord, ChildRecord, EntityMessage, MessageOutcome, TaskRow, TimerRow, UserTimerRecord, entity_message,
    task_row,
};
use mainstay_api::temporal::command::v1::{Command, command::Attributes};
use mainstay_api::temporal::enums::v1::{CommandType, EventType, WorkflowExecutionStatus};
use mainstay_api::temporal::history::v1::HistoryEvent;
use mainstay_api::temporal::update::v1::Request;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::Timestamp;
use mainstay_engine::{Change, Error, SuggestFrom, Table, batch, schedule};
use prost::Message;

use super::machine::{EPOCH_NS, Machine};
use super::rebuild;
use super::text::{Texts, since_start};
use super::updates;

const SERVICE: &str = "temporal.api.workflowservice.v1";

/// One script being run.
pub struct Script {
    pub machine: Machine,
    /// Whom client words and `describe` are about; `on ID` changes it.
    workflow: String,
    /// Messages whose outcomes are not acknowledged yet.
    delivered: Vec<(EntityMessage, MessageOutcome)>,
    texts: Texts,
    workflow_task: Option<TaskToken>,
    activity_task: Option<TaskToken>,
    /// Replaced by `keep`, used by `as kept`.
    kept: Vec<(String, TaskToken)>,
    polls: u32,
    requests: u32,
    /// Sent with every task.
    updates: Vec<Request>,
    out: String,
}

/// A command line: its word and the rest, continuation lines apart.
struct Line {
    word: String,
    rest: String,
    more: Vec<String>,
}

/// Runs a script's commands and answers the script with fresh outputs.
pub fn run(text: &str) -> String {
    let mut script = Script {
        machine: Machine::new(),
        workflow: "wf".into(),
        delivered: Vec::new(),
        texts: Texts::new(),
        workflow_task: None,
        activity_task: None,
        kept: Vec::new(),
        polls: 0,
        requests: 0,
        updates: Vec::new(),
        out: String::new(),
    };
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with('#') {
            script.say(line);
        }
        let Some(command) = line.strip_prefix("> ") else { continue };
        let mut more = Vec::new();
        while let Some(next) = lines.peek().and_then(|next| next.strip_prefix(">  ")) {
            more.push(next.trim().to_string());
            lines.next();
        }
        script.say("");
        script.say(line);
        more.iter().map(|m| format!(">   {m}")).for_each(|m| script.say(&m));
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        script.run(&Line { word: word.to_string(), rest: rest.to_string(), more });
    }
    script.out.trim_start().to_string()
}

impl Script {
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.out, "{line}");
    }

    fn run(&mut self, line: &Line) {
        match line.word.as_str() {
            "start" => self.start(line),
            "signal" => self.signal(line),
            "signal-with-start" => self.signal_with_start(line),
            "cancel" => {
                let request = self.request("RequestCancelWorkflowExecutionRequest", line, "");
                self.apply_current(Op::RequestCancel(request));
            }
            "terminate" => {
                let request = self.request("TerminateWorkflowExecutionRequest", line, "");
                self.apply_current(Op::Terminate(request));
            }
            "delete" => {
                let request = self.request("DeleteWorkflowExecutionRequest", line, "");
                self.apply_current(Op::Delete(request));
            }
            "reset" => {
                let request = self.request("ResetWorkflowExecutionRequest", line, "request_id: \"reset\" ");
                self.apply_current(Op::Reset(request));
            }
            "options" => {
                let request = self.request("UpdateWorkflowExecutionOptionsRequest", line, "identity: \"client\" ");
                self.apply_to("wf", Op::UpdateOptions(request));
            }
            "operate" => {
                let text = format!("identity: \"client\" {} {}", line.rest, line.more.join(" "));
                let op = self.texts.parse("mainstay.log.v1.OperateActivities", &text);
                self.apply_to("wf", Op::OperateActivities(op));
            }
            "pause" => {
                let request = self.request("PauseWorkflowExecutionRequest", line, "identity: \"client\" ");
                self.apply_to("wf", Op::PauseWorkflow(request));
            }
            "unpause" => {
                let request = self.request("UnpauseWorkflowExecutionRequest", line, "identity: \"client\" ");
                self.apply_to("wf", Op::UnpauseWorkflow(request));
            }
            "configure-queue" => {
                let request = self.request("UpdateTaskQueueConfigRequest", line, "identity: \"client\" ");
                self.apply_to("", Op::UpdateTaskQueueConfig(request));
            }
            "reset-sticky" => {
                let run_id = String::new();
                self.apply_current(Op::ResetSticky(log::ResetStickyTaskQueue { run_id }));
            }
            "on" => self.workflow.clone_from(&line.rest),
            "create-schedule" | "update-schedule" | "patch-schedule" | "delete-schedule" => self.schedule(line),
            "describe-schedule" => self.describe_schedule(),
            "start-batch" | "stop-batch" | "advance-batch" => self.batch(line),
            "describe-batch" => self.describe_batch(),
            "deliver" => self.deliver(line),
            "acknowledge" => self.acknowledge(),
            "poll" => self.poll(line),
            "poll-again" => self.poll_again(),
            "complete" => self.complete(line),
            "update" => self.update(line),
            "poll-speculative" => self.poll_speculative(line),
            "time-out-speculative" => self.time_out_speculative(),
            "fail" => self.fail(line),
            "poll-activity" => self.poll_activity(line),
            "complete-activity" | "fail-activity" | "cancel-activity" | "heartbeat" => self.close_activity(line),
            "advance" => self.advance(line),
            "late" => self.late(line),
            "suggest-from" => {
                let history_count = line.rest.parse().expect("suggest-from EVENTS");
                self.machine.suggest_from = SuggestFrom { history_count, ..SuggestFrom::default() };
            }
            "keep" => self.keep(line),
            "use" => self.restore(line),
            "describe" => self.describe(line),
            "signals" => self.signals(line),
            word => panic!("unknown word {word}"),
        }
        let problems = rebuild::check_all(&self.machine.store);
        problems.iter().for_each(|problem| self.say(&format!("  PROBLEM {problem}")));
    }

    fn request<M: Message + Default>(&self, kind: &str, line: &Line, defaults: &str) -> M {
        let own = line.rest.clone() + " " + &line.more.join(" ");
        let missing = defaults.split_inclusive("\" ").filter(|d| {
            let name = d.split(':').next().unwrap_or_default();
            !own.contains(&format!("{name}:"))
        });
        let text: String = missing.collect::<String>() + &own;
        self.texts.parse(&format!("{SERVICE}.{kind}"), &text)
    }

    fn fresh_request_id(&mut self) -> String {
        self.requests += 1;
        format!("request-{}", self.requests)
    }

    fn start(&mut self, line: &Line) {
        let id = self.fresh_request_id();
        let defaults = format!("namespace: \"ns\" workflow_id: \"wf\" identity: \"client\" request_id: \"{id}\" ");
        let mut request: api::StartWorkflowExecutionRequest =
            self.request("StartWorkflowExecutionRequest", line, &defaults);
        request.workflow_type.get_or_insert_default().name = "T".into();
        let queue = request.task_queue.get_or_insert_default();
        if queue.name.is_empty() {
            queue.name = "tq".into();
        }
        let workflow_id = request.workflow_id.clone();
        self.apply_to(&workflow_id, Op::StartWorkflow(log::StartWorkflow { request: Some(request) }));
    }

    fn signal(&mut self, line: &Line) {
        let id = self.fresh_request_id();
        let defaults = format!("namespace: \"ns\" signal_name: \"sig\" identity: \"client\" request_id: \"{id}\" ");
        let request: api::SignalWorkflowExecutionRequest =
            self.request("SignalWorkflowExecutionRequest", line, &defaults);
        self.apply_current(Op::SignalWorkflow(request));
    }

    /// Many signals at once; only the last one's outcome is shown.
    fn signals(&mut self, line: &Line) {
        let count: u32 = line.rest.parse().expect("a count");
        for at in 1..=count {
            let request = api::SignalWorkflowExecutionRequest {
                signal_name: format!("s{at}"),
                request_id: format!("many-{at}"),
                ..api::SignalWorkflowExecutionRequest::default()
            };
            if at == count {
                self.apply_current(Op::SignalWorkflow(request));
            } else {
                let (reply, _) = self.machine.apply(&self.workflow, Op::SignalWorkflow(request));
                reply.expect("signals are accepted");
            }
        }
    }

    fn signal_with_start(&mut self, line: &Line) {
        let id = self.fresh_request_id();
        let defaults = format!(
            "namespace: \"ns\" workflow_id: \"wf\" signal_name: \"sig\" identity: \"client\" request_id: \"{id}\" "
        );
        let mut request: api::SignalWithStartWorkflowExecutionRequest =
            self.request("SignalWithStartWorkflowExecutionRequest", line, &defaults);
        request.workflow_type.get_or_insert_default().name = "T".into();
        request.task_queue.get_or_insert_default().name = "tq".into();
        self.apply_current(Op::SignalWithStart(request));
    }

    fn offered(&self, kind: task_row::Kind, queue: &str) -> Option<TaskRow> {
        let rows = self.machine.store.tasks.values();
        rows.filter(|row| row.kind() == kind && row.task_queue == queue).min_by_key(|row| row.sequence).cloned()
    }

    /// `poll`, `poll sticky`: takes the first workflow task of a queue.
    fn poll(&mut self, line: &Line) {
        let sticky = line.rest.starts_with("sticky");
        let queue = if line.rest.is_empty() { "tq" } else { &line.rest };
        let Some(row) = self.offered(task_row::Kind::Workflow, queue) else {
            self.say("  no task");
            return;
        };
        self.polls += 1;
        let kind = if sticky { 2 } else { 1 };
        let own = line.more.join(" ");
        let poll =
            format!("identity: \"worker\" task_queue {{ name: \"{queue}\" kind: {kind} normal_name: \"tq\" }} {own}");
        let poll = self.texts.parse(&format!("{SERVICE}.PollWorkflowTaskQueueRequest"), &poll);
        let start = log::StartWorkflowTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: format!("poll-{}", self.polls),
            poll: Some(poll),
        };
        self.apply_to(&row.workflow_id, Op::StartWorkflowTask(start));
    }

    /// The same poll again, as after a lost answer.
    fn poll_again(&mut self) {
        let Some(token) = self.workflow_task.clone() else { panic!("no task was polled") };
        let start = log::StartWorkflowTask {
            run_id: token.run_id.clone(),
            scheduled_event_id: token.scheduled_event_id,
            attempt: token.attempt,
            poll_request_id: format!("poll-{}", self.polls),
            ..log::StartWorkflowTask::default()
        };
        self.apply_to(&token.workflow_id, Op::StartWorkflowTask(start));
    }

    /// `update u1`: the leader admits an update; a run without a workflow task gets a speculative one.
    fn update(&mut self, line: &Line) {
        self.updates.push(updates::request(&line.rest));
        if self.machine.speculate("wf") {
            let id =
                self.machine.speculative.as_ref().and_then(|s| s.task.as_ref()).map_or(0, |t| t.scheduled_event_id);
            self.say(&format!("  speculative task {id}"));
        }
    }

    fn poll_speculative(&mut self, line: &Line) {
        self.polls += 1;
        let request_id = format!("poll-{}", self.polls);
        match self.machine.start_speculative("wf", &request_id, line.rest == "sticky") {
            Some(task) => self.show_task("speculative task", &task),
            None => self.say("  no task"),
        }
    }

    fn time_out_speculative(&mut self) {
        let held = self.machine.speculative.clone().unwrap_or_default();
        let task = held.task.unwrap_or_default();
        let op = log::TimeOutSpeculativeTask {
            run_id: held.run_id,
            speculative_id: task.speculative_id,
            started: task.started_event_id != 0,
        };
        self.apply_to("wf", Op::TimeOutSpeculativeTask(op));
    }

    /// Each further line is one command's attributes; a line that begins with `+` adds to the request instead, one with `@` is
    /// an answer to an update.
    fn complete(&mut self, line: &Line) {
        let (answers, more): (Vec<&String>, Vec<&String>) = line.more.iter().partition(|l| l.starts_with('@'));
        let line = &Line { word: String::new(), rest: line.rest.clone(), more: more.into_iter().cloned().collect() };
        let (own, commands): (Vec<&String>, Vec<&String>) = line.more.iter().partition(|l| l.starts_with('+'));
        let own: String = own.iter().map(|l| l.trim_start_matches('+')).collect();
        let own = Line { word: String::new(), rest: line.rest.clone() + &own, more: Vec::new() };
        let mut request: api::RespondWorkflowTaskCompletedRequest =
            self.request("RespondWorkflowTaskCompletedRequest", &own, "identity: \"worker\" ");
        for text in commands {
            let mut command: Command = self.texts.parse("temporal.api.command.v1.Command", text);
            if command.command_type == 0 {
                command.command_type = command.attributes.as_ref().map_or(0, |a| command_type(a) as i32);
            }
            request.commands.push(command);
        }
        let mut updates_wait = false;
        for answer in answers {
            if answer == "@updates-wait" {
                updates_wait = true;
                continue;
            }
            let (how, id) = answer.trim_start_matches('@').split_once(' ').expect("@accept u1");
            request.messages.push(updates::message(how, id));
        }
        let token = self.workflow_task.clone().unwrap_or_default();
        let workflow_id = token.workflow_id.clone();
        let sent_updates = self.updates.clone();
        let op = log::CompleteWorkflowTask { token: Some(token), request: Some(request), sent_updates, updates_wait };
        self.apply_to(&workflow_id, Op::CompleteWorkflowTask(op));
    }

    fn fail(&mut self, line: &Line) {
        let request = self.request("RespondWorkflowTaskFailedRequest", line, "identity: \"worker\" ");
        let token = self.workflow_task.clone().unwrap_or_default();
        let workflow_id = token.workflow_id.clone();
        let op = log::FailWorkflowTask { token: Some(token), request: Some(request) };
        self.apply_to(&workflow_id, Op::FailWorkflowTask(op));
    }

    fn poll_activity(&mut self, line: &Line) {
        let queue = if line.rest.is_empty() { "tq" } else { &line.rest };
        let Some(row) = self.offered(task_row::Kind::Activity, queue) else {
            self.say("  no task");
            return;
        };
        self.polls += 1;
        let poll = self.texts.parse(&format!("{SERVICE}.PollActivityTaskQueueRequest"), "identity: \"worker\"");
        let start = log::StartActivityTask {
            run_id: row.run_id.clone(),
            scheduled_event_id: row.scheduled_event_id,
            attempt: row.attempt,
            task_sequence: row.sequence,
            poll_request_id: format!("poll-{}", self.polls),
            poll: Some(poll),
        };
        self.apply_to(&row.workflow_id, Op::StartActivityTask(start));
    }

    /// `complete-activity`, `complete-activity by a1`: further words are fields of the log's command.
    fn close_activity(&mut self, line: &Line) {
        let (target, fields) = match line.rest.strip_prefix("by ") {
            Some(rest) => {
                let (id, fields) = rest.split_once(' ').unwrap_or((rest, ""));
                let by = log::ActivityById { run_id: String::new(), activity_id: id.to_string() };
                (Target::ById(by), fields.to_string())
            }
            None => (Target::Token(self.activity_task.clone().unwrap_or_default()), line.rest.clone()),
        };
        let fields = format!("identity: \"worker\" {fields} {}", line.more.join(" "));
        let target = Some(log::ActivityTarget { target: Some(target) });
        let op = match line.word.as_str() {
            "complete-activity" => {
                let command: log::CompleteActivity = self.texts.parse("mainstay.log.v1.CompleteActivity", &fields);
                Op::CompleteActivity(log::CompleteActivity { target, ..command })
            }
            "fail-activity" => {
                let command: log::FailActivity = self.texts.parse("mainstay.log.v1.FailActivity", &fields);
                Op::FailActivity(log::FailActivity { target, ..command })
            }
            "cancel-activity" => {
                let command: log::CancelActivity = self.texts.parse("mainstay.log.v1.CancelActivity", &fields);
                Op::CancelActivity(log::CancelActivity { target, ..command })
            }
            _ => {
                let command: log::HeartbeatActivity = self.texts.parse("mainstay.log.v1.HeartbeatActivity", &fields);
                Op::HeartbeatActivity(log::HeartbeatActivity { target, ..command })
            }
        };
        self.apply_current(op);
    }

    /// Moves the clock, firing on the way what is due.
    fn advance(&mut self, line: &Line) {
        let span = match line.rest.strip_suffix("ms") {
            Some(n) => n.parse::<i64>().map(|n| n * 1_000_000),
            None => line.rest.trim_end_matches('s').parse::<i64>().map(|n| n * 1_000_000_000),
        };
        let until = self.machine.now_ns + span.expect("advance 5s or advance 200ms");
        while let Some((due, rows)) = self.machine.next_due(until) {
            let kinds: Vec<String> = rows.iter().map(timer_name).collect();
            self.say(&format!("  {} fires {}", since_start(due), kinds.join(", ")));
            let (reply, changes) = self.machine.fire(due, rows);
            self.show(&reply, &changes);
        }
        self.machine.now_ns = until;
    }

    /// Moves the clock at once, as after a time without a leader, and then fires what is due.
    fn late(&mut self, line: &Line) {
        self.machine.now_ns += line.rest.trim_end_matches('s').parse::<i64>().expect("late 60s") * 1_000_000_000;
        while let Some((due, rows)) = self.machine.next_due(self.machine.now_ns) {
            self.say(&format!("  {} fires late", since_start(due)));
            let (reply, changes) = self.machine.fire(due, rows);
            self.show(&reply, &changes);
        }
    }

    /// `keep NAME` remembers the last workflow and activity task; `use NAME` goes back to them.
    fn keep(&mut self, line: &Line) {
        for (kind, token) in [("w", &self.workflow_task), ("a", &self.activity_task)] {
            if let Some(token) = token {
                self.kept.push((format!("{kind}-{}", line.rest), token.clone()));
            }
        }
    }

    fn restore(&mut self, line: &Line) {
        let find = |kind: &str| {
            let name = format!("{kind}-{}", line.rest);
            self.kept.iter().rev().find(|(n, _)| *n == name).map(|(_, token)| token.clone())
        };
        (self.workflow_task, self.activity_task) = (find("w"), find("a"));
    }

    fn describe(&mut self, line: &Line) {
        let run_id = self.texts.names.id(&line.rest).unwrap_or_default();
        let answer = mainstay_engine::describe(
            &self.machine.store,
            &Machine::entity(&self.workflow),
            &run_id,
            self.machine.speculative.as_slice(),
        );
        match answer.expect("memory does not fail") {
            Ok(response) => {
                let text = self.texts.show(&format!("{SERVICE}.DescribeWorkflowExecutionResponse"), &response);
                self.say(&format!("  {text}"));
            }
            Err(error) => self.show_error(&error),
        }
    }

    /// A command to the schedule `s`; `create-schedule` and `update-schedule` fill in an action that starts `wf`.
    fn schedule(&mut self, line: &Line) {
        use mainstay_api::temporal::schedule::v1::{ScheduleAction, schedule_action::Action};
        let action = || {
            let text = "workflow_id: \"wf\" workflow_type { name: \"T\" } task_queue { name: \"tq\" }";
            let workflow = self.texts.parse("temporal.api.workflow.v1.NewWorkflowExecutionInfo", text);
            ScheduleAction { action: Some(Action::StartWorkflow(workflow)) }
        };
        let defaults = "namespace: \"ns\" schedule_id: \"s\" request_id: \"q\" ";
        let op = match line.word.as_str() {
            "create-schedule" => {
                let mut request: api::CreateScheduleRequest = self.request("CreateScheduleRequest", line, defaults);
                request.schedule.get_or_insert_default().action.get_or_insert_with(action);
                Op::CreateSchedule(request)
            }
            "update-schedule" => {
                let mut request: api::UpdateScheduleRequest = self.request("UpdateScheduleRequest", line, defaults);
                request.schedule.get_or_insert_default().action.get_or_insert_with(action);
                Op::UpdateSchedule(request)
            }
            "patch-schedule" => Op::PatchSchedule(self.request("PatchScheduleRequest", line, defaults)),
            _ => Op::DeleteSchedule(self.request("DeleteScheduleRequest", line, "")),
        };
        self.apply_to(&schedule::entity_id("s"), op);
    }

    fn describe_schedule(&mut self) {
        let (entity, now) = (Machine::entity(&schedule::entity_id("s")), Timestamp::from_nanos(self.machine.now_ns));
        match schedule::describe(&self.machine.store, &entity, now).expect("memory does not fail") {
            Ok(response) => {
                let response = api::DescribeScheduleResponse {
                    schedule: response.schedule.map(|s| mainstay_api::temporal::schedule::v1::Schedule {
                        spec: None,
                        action: None,
                        ..s
                    }),
                    ..response
                };
                let text = self.texts.show(&format!("{SERVICE}.DescribeScheduleResponse"), &response);
                self.say(&format!("  {text}"));
            }
            Err(error) => self.show_error(&error),
        }
    }

    /// A command to the batch job `b`.
    fn batch(&mut self, line: &Line) {
        let op = match line.word.as_str() {
            "start-batch" => {
                Op::StartBatch(self.request("StartBatchOperationRequest", line, "job_id: \"b\" reason: \"why\" "))
            }
            "stop-batch" => Op::StopBatch(self.request("StopBatchOperationRequest", line, "job_id: \"b\" ")),
            _ => {
                let mut report: log::AdvanceBatch = self.texts.parse("mainstay.log.v1.AdvanceBatch", &line.rest);
                if let Ok(Ok(job)) = batch::read(&self.machine.store, &Machine::entity(&batch::entity_id("b"))) {
                    report.run_id = job.record.run_id;
                }
                Op::AdvanceBatch(report)
            }
        };
        self.apply_to(&batch::entity_id("b"), op);
    }

    fn describe_batch(&mut self) {
        let entity = Machine::entity(&batch::entity_id("b"));
        match batch::read(&self.machine.store, &entity).expect("memory does not fail") {
            Ok(job) => {
                let text = self.texts.show(&format!("{SERVICE}.DescribeBatchOperationResponse"), &job.description());
                self.say(&format!("  {text}"));
            }
            Err(error) => self.show_error(&error),
        }
    }

    /// `deliver` delivers and acknowledges what is in the outbox; `deliver only` leaves the acknowledgement for later; `deliver again` sends
    /// what was not acknowledged once more.
    fn deliver(&mut self, line: &Line) {
        let messages = match line.rest.as_str() {
            "again" => std::mem::take(&mut self.delivered).into_iter().map(|(message, _)| message).collect(),
            _ => self.machine.outbox(),
        };
        let (outcomes, changes) = self.machine.deliver(messages.clone(), line.rest != "again");
        for (message, outcome) in messages.iter().zip(&outcomes) {
            let text = self.texts.show("mainstay.record.v1.MessageOutcome", outcome);
            self.say(&format!("  {} {text}", message_name(message)));
        }
        self.delivered = messages.into_iter().zip(outcomes).collect();
        changes.iter().for_each(|change| self.show_change(change));
        if line.rest.is_empty() {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let (messages, outcomes): (Vec<EntityMessage>, Vec<MessageOutcome>) =
            std::mem::take(&mut self.delivered).into_iter().unzip();
        let changes = self.machine.acknowledge(&messages, &outcomes);
        changes.iter().for_each(|change| self.show_change(change));
    }

    fn apply_current(&mut self, op: Op) {
        let workflow_id = self.workflow.clone();
        self.apply_to(&workflow_id, op);
    }

    fn apply_to(&mut self, workflow_id: &str, op: Op) {
        let (reply, changes) = self.machine.apply(workflow_id, op);
        self.show(&reply, &changes);
    }

    fn show_error(&mut self, error: &Error) {
        let kind = format!("{error:?}");
        let kind = kind.split([' ', '(', '{']).next().unwrap_or_default().to_string();
        let text = self.texts.names.shorten(&error.to_string());
        self.say(&format!("  {kind}: {text}"));
    }

    fn show(&mut self, reply: &Result<Reply, Error>, changes: &[Change]) {
        match reply {
            Ok(reply) => self.show_reply(reply),
            Err(error) => self.show_error(error),
        }
        changes.iter().for_each(|change| self.show_change(change));
    }

    fn show_reply(&mut self, reply: &Reply) {
        if let Some(task) = &reply.eager_workflow_task {
            self.show_task("eager task", task);
        }
        match &reply.reply {
            Some(reply::Reply::WorkflowTaskStarted(task)) => self.show_task("task", task),
            Some(reply::Reply::ActivityTaskStarted(task)) => self.show_activity("activity", task),
            Some(reply::Reply::WorkflowTaskCompleted(done)) => {
                let answered = done.response.as_ref().is_some_and(|r| r.reset_history_event_id != 0);
                if answered {
                    self.say("  worker resets");
                }
                if let Some(task) = &done.workflow_task {
                    self.show_task("inline task", task);
                }
                done.activity_tasks.iter().for_each(|task| self.show_activity("eager activity", task));
            }
            Some(reply::Reply::Empty(_)) | None => {}
            Some(_) => {
                let text = self.texts.show("mainstay.log.v1.Reply", reply);
                self.say(&format!("  {text}"));
            }
        }
    }

    fn show_task(&mut self, what: &str, task: &log::WorkflowTaskStarted) {
        self.workflow_task = task.token.clone();
        let response = task.response.clone().unwrap_or_default();
        let unwritten: Vec<String> = task.unwritten_events.iter().map(|e| self.event(e)).collect();
        self.say(&format!(
            "  {what} {}..{} previous:{} started:{} attempt:{}",
            task.first_event_id,
            task.next_event_id,
            response.previous_started_event_id,
            response.started_event_id,
            response.attempt
        ));
        unwritten.iter().for_each(|event| self.say(&format!("  unwritten {event}")));
    }

    fn show_activity(&mut self, what: &str, task: &log::ActivityTaskStarted) {
        self.activity_task = task.token.clone();
        let response = task.response.clone().unwrap_or_default();
        let text = self.texts.show(&format!("{SERVICE}.PollActivityTaskQueueResponse"), &response);
        self.say(&format!("  {what} {text}"));
    }

    fn event(&mut self, encoded: &[u8]) -> String {
        let event = HistoryEvent::decode(encoded).expect("events decode");
        let kind = EventType::try_from(event.event_type).map_or("UNKNOWN", |kind| kind.as_str_name());
        let text = self.texts.show("temporal.api.history.v1.HistoryEvent", &event);
        format!("{} {} {text}", event.event_id, kind.trim_start_matches("EVENT_TYPE_"))
    }

    fn show_change(&mut self, change: &Change) {
        match change {
            Change::Put { row, value, .. } if row.table == Table::History => {
                let batch = RawHistory::decode(value.clone()).expect("batches decode");
                let run = self.texts.names.run(&row.run.map(|r| r.to_string()).unwrap_or_default());
                for event in batch.events {
                    let text = self.event(&event);
                    self.say(&format!("  {run} {text}"));
                }
            }
            Change::Put { row, value, .. } if row.table == Table::Buffered => {
                let text = self.event(value);
                self.say(&format!("  buffered {}", text.trim_start_matches("0 ")));
            }
            Change::Put { row, value, .. } if row.table == Table::Activity => {
                let a = ActivityRecord::decode(value.clone()).expect("activities decode");
                let (started, cancel) = (a.started_ns != 0, a.cancel_requested);
                let paused = if a.pause.is_some() { " paused" } else { "" };
                let reset = if a.was_reset { " reset" } else { "" };
                self.say(&format!(
                    "  activity {} attempt:{} started:{started} cancel:{cancel}{paused}{reset}",
                    a.activity_id, a.attempt
                ));
            }
            Change::Put { row, value, .. } if row.table == Table::UserTimer => {
                let t = UserTimerRecord::decode(value.clone()).expect("timers decode");
                self.say(&format!("  timer {} due:{}", t.timer_id, since_start(t.due_ns)));
            }
            Change::Put { row, value, .. } if row.table == Table::Child => {
                let c = ChildRecord::decode(value.clone()).expect("children decode");
                let run = if c.run_id.is_empty() { "-".into() } else { self.texts.names.run(&c.run_id) };
                self.say(&format!("  child {} run:{run} started:{}", c.workflow_id, c.started_event_id));
            }
            Change::PutMessage(message) => self.say(&format!("  +message {}", message_name(message))),
            Change::RemoveMessage(_) => self.say("  -message"),
            Change::RaiseFloor(_) => self.say("  floor raised"),
            Change::Delete { row, .. } if row.table == Table::Run => self.say("  run erased"),
            Change::AddTask(row) => self.say(&format!("  +task {}", task_name(row))),
            Change::RemoveTask(row) => self.say(&format!("  -task {}", task_name(row))),
            Change::AddTimer(row) => self.say(&format!("  +timer {}", timer_name(row))),
            Change::RemoveTimer(row) => self.say(&format!("  -timer {}", timer_name(row))),
            Change::PutVisibility(record) => {
                let status = WorkflowExecutionStatus::try_from(record.status).map_or("?", |s| s.as_str_name());
                let run = self.texts.names.run(&record.run_id);
                self.say(&format!("  listed {run} {}", status.trim_start_matches("WORKFLOW_EXECUTION_STATUS_")));
            }
            Change::RemoveVisibility(record) => {
                let run = self.texts.names.run(&record.run_id);
                self.say(&format!("  unlisted {run}"));
            }
            Change::PutOutcome(..) => {}
            Change::Put { .. } | Change::Delete { .. } | Change::PutNamespace(_) | Change::RemoveNamespace(_) => {}
        }
    }
}

fn message_name(message: &EntityMessage) -> String {
    use entity_message::Body;
    let what = match &message.body {
        Some(Body::StartChild(_)) => "start_child".to_string(),
        Some(Body::WithdrawStart(m)) => format!("withdraw_start {}", m.policy().as_str_name()),
        Some(Body::ReleaseChild(_)) => "release_child".to_string(),
        Some(Body::CloseChild(m)) => format!("close_child {}", m.policy().as_str_name()),
        Some(Body::ChildClosed(_)) => "child_closed".to_string(),
        Some(Body::SignalExternal(m)) => format!("signal {}", m.signal_name),
        Some(Body::CancelExternal(_)) => "cancel".to_string(),
        Some(Body::StartScheduled(m)) => format!("start_scheduled {}", m.number),
        Some(Body::StopScheduled(m)) => format!("stop_scheduled {}", m.stop().as_str_name()),
        Some(Body::ScheduledClosed(m)) => format!("scheduled_closed {}", m.by.as_ref().map_or(0, |by| by.number)),
        None => "nothing".to_string(),
    };
    format!("{} to {}: {what}", message.source_workflow_id, message.workflow_id)
}

fn task_name(row: &TaskRow) -> String {
    let kind = if row.kind() == task_row::Kind::Workflow { "workflow" } else { "activity" };
    format!("{kind} {} event:{} attempt:{}", row.task_queue, row.scheduled_event_id, row.attempt)
}

fn timer_name(row: &TimerRow) -> String {
    let kind = row.kind().as_str_name().trim_start_matches("KIND_").to_ascii_lowercase();
    let id = if row.id == 0 { String::new() } else { format!(" {}", row.id) };
    let due = if row.due_ns >= EPOCH_NS { since_start(row.due_ns) } else { row.due_ns.to_string() };
    format!("{kind}{id} at {due}")
}

fn command_type(attributes: &Attributes) -> CommandType {
    use Attributes as A;
    match attributes {
        A::ScheduleActivityTaskCommandAttributes(_) => CommandType::ScheduleActivityTask,
        A::StartTimerCommandAttributes(_) => CommandType::StartTimer,
        A::CompleteWorkflowExecutionCommandAttributes(_) => CommandType::CompleteWorkflowExecution,
        A::FailWorkflowExecutionCommandAttributes(_) => CommandType::FailWorkflowExecution,
        A::RequestCancelActivityTaskCommandAttributes(_) => CommandType::RequestCancelActivityTask,
        A::CancelTimerCommandAttributes(_) => CommandType::CancelTimer,
        A::CancelWorkflowExecutionCommandAttributes(_) => CommandType::CancelWorkflowExecution,
        A::RequestCancelExternalWorkflowExecutionCommandAttributes(_) => {
            CommandType::RequestCancelExternalWorkflowExecution
        }
        A::RecordMarkerCommandAttributes(_) => CommandType::RecordMarker,
        A::ContinueAsNewWorkflowExecutionCommandAttributes(_) => CommandType::ContinueAsNewWorkflowExecution,
        A::StartChildWorkflowExecutionCommandAttributes(_) => CommandType::StartChildWorkflowExecution,
        A::SignalExternalWorkflowExecutionCommandAttributes(_) => CommandType::SignalExternalWorkflowExecution,
        A::UpsertWorkflowSearchAttributesCommandAttributes(_) => CommandType::UpsertWorkflowSearchAttributes,
        A::ProtocolMessageCommandAttributes(_) => CommandType::ProtocolMessage,
        A::ModifyWorkflowPropertiesCommandAttributes(_) => CommandType::ModifyWorkflowProperties,
        A::ScheduleNexusOperationCommandAttributes(_) => CommandType::ScheduleNexusOperation,
        A::RequestCancelNexusOperationCommandAttributes(_) => CommandType::RequestCancelNexusOperation,
    }
}
