//! Actions: workflows asked to start, heard of, made to give way.
//!
//! An action is numbered when it is asked for, and the number comes back with every answer. Until a start is answered the
//! action counts as running, so that no two overlap that must not. What closes after the schedule forgot it changes nothing.

use mainstay_api::record::{
    BufferedAction, RecentAction, RunningAction, ScheduleStop, ScheduledBy, ScheduledClosed, StartScheduled,
    StartingAction, StopScheduled, entity_message::Body,
};
use mainstay_api::temporal::enums::v1::{WorkflowExecutionStatus as Status, WorkflowIdReusePolicy as Reuse};
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1::StartWorkflowExecutionRequest;
use mainstay_base::Timestamp;
use mainstay_calendar::rfc3339;

use crate::search_attributes::{quote, typed_json};
use crate::transaction::Transaction;
use crate::{Answer, ScheduleNote};

use super::{Schedule, overlap};

const RECENT_MAX: usize = 10;

impl Schedule {
    /// Starts what the overlap policies let start, and asks what runs to make way.
    pub(super) fn work_off(&mut self, tx: &mut Transaction<'_>) -> Answer<()> {
        if self.workflow().is_none() {
            self.record.buffered.clear();
        }
        loop {
            let is_running = !self.record.running.is_empty() || self.record.starting.iter().any(|s| s.tracked);
            let buffered = std::mem::take(&mut self.record.buffered);
            let decision = overlap::decide(buffered, is_running, self.overlap_policy());
            self.record.buffered = decision.kept;
            self.record.overlap_skipped += decision.skipped;
            let mut refused = false;
            let alone = decision.alone.into_iter().map(|action| (action, true));
            for (action, tracked) in decision.beside.into_iter().map(|action| (action, false)).chain(alone) {
                if action.manual || self.take_action() {
                    self.start(tx, &action, tracked)?;
                } else {
                    refused = true;
                }
            }
            self.stop_running(tx, decision.stop)?;
            // What was refused has left the buffer: another may take its place.
            if !refused {
                return Ok(());
            }
        }
    }

    /// Counts one action by the clock against the limit; answers whether it may be taken.
    fn take_action(&mut self) -> bool {
        if !self.may_act() {
            return false;
        }
        if self.state().limited_actions {
            self.change_state(|state| state.remaining_actions -= 1);
        }
        true
    }

    fn start(&mut self, tx: &mut Transaction<'_>, action: &BufferedAction, tracked: bool) -> Answer<()> {
        let Some(workflow) = self.workflow().cloned() else { return Ok(()) };
        tx.note_schedule(ScheduleNote::Acted { delay_ns: tx.now().saturating_sub(action.actual_ns) });
        self.record.last_number += 1;
        let number = self.record.last_number;
        let request = self.request(tx, workflow, action, tracked)?;
        self.record.starting.push(StartingAction {
            number,
            nominal_ns: action.nominal_ns,
            workflow_id: request.workflow_id.clone(),
            tracked,
            closed: None,
        });
        let workflow_id = request.workflow_id.clone();
        let start = StartScheduled { request: Some(request), by: tracked.then(|| self.by(tx, number)), number };
        self.send(tx, &workflow_id, Body::StartScheduled(start));
        Ok(())
    }

    fn by(&self, tx: &Transaction<'_>, number: i64) -> ScheduledBy {
        ScheduledBy { entity_id: tx.entity.workflow_id.clone(), schedule_run_id: self.record.run_id.clone(), number }
    }

    fn request(
        &self,
        tx: &Transaction<'_>,
        workflow: NewWorkflowExecutionInfo,
        action: &BufferedAction,
        tracked: bool,
    ) -> Answer<StartWorkflowExecutionRequest> {
        let nominal = rfc3339(Timestamp::from_nanos(action.nominal_ns));
        let mut attributes = workflow.search_attributes.unwrap_or_default();
        let own = [
            ("TemporalScheduledStartTime", typed_json("Datetime", &quote(&nominal))),
            ("TemporalScheduledById", typed_json("Keyword", &quote(&self.record.schedule_id))),
        ];
        attributes.indexed_fields.extend(own.map(|(name, value)| (name.to_string(), value)));
        Ok(StartWorkflowExecutionRequest {
            namespace: tx.namespace()?.name.clone(),
            workflow_id: format!("{}-{nominal}", workflow.workflow_id),
            workflow_type: workflow.workflow_type,
            task_queue: workflow.task_queue,
            input: workflow.input,
            workflow_execution_timeout: workflow.workflow_execution_timeout,
            workflow_run_timeout: workflow.workflow_run_timeout,
            workflow_task_timeout: workflow.workflow_task_timeout,
            identity: self.identity(tx)?,
            request_id: format!("{}-{}", self.record.run_id, self.record.last_number),
            workflow_id_reuse_policy: Reuse::AllowDuplicate as i32,
            retry_policy: workflow.retry_policy,
            memo: workflow.memo,
            search_attributes: Some(attributes),
            header: workflow.header,
            // Workflows side by side have no last one.
            continued_failure: self.record.last_failure.clone().filter(|_| tracked),
            last_completion_result: self.record.last_result.clone().filter(|_| tracked),
            user_metadata: workflow.user_metadata,
            versioning_override: workflow.versioning_override,
            priority: workflow.priority,
            ..StartWorkflowExecutionRequest::default()
        })
    }

    fn identity(&self, tx: &Transaction<'_>) -> Answer<String> {
        Ok(format!("temporal-scheduler-{}-{}", tx.namespace()?.name, self.record.schedule_id))
    }

    fn stop_running(&mut self, tx: &mut Transaction<'_>, stop: ScheduleStop) -> Answer<()> {
        let identity = self.identity(tx)?;
        let mut told = Vec::new();
        for running in &mut self.record.running {
            if running.stop() < stop {
                running.stop = stop as i32;
                let (stop, identity) = (stop as i32, identity.clone());
                told.push((
                    running.workflow_id.clone(),
                    StopScheduled { first_run_id: running.run_id.clone(), stop, identity },
                ));
            }
        }
        for (workflow_id, message) in told {
            self.send(tx, &workflow_id, Body::StopScheduled(message));
        }
        Ok(())
    }

    /// The answer to a start: the first run's id, or none if the workflow did not start, which drops the action.
    pub(super) fn start_answered(&mut self, now: i64, number: i64, run_id: Option<&str>) {
        let Some(at) = self.record.starting.iter().position(|starting| starting.number == number) else { return };
        let starting = self.record.starting.remove(at);
        let Some(run_id) = run_id else { return };
        self.record.action_count += 1;
        self.record.last_event_ns = now;
        if starting.tracked {
            self.record.running.push(RunningAction {
                number,
                workflow_id: starting.workflow_id.clone(),
                run_id: run_id.to_string(),
                stop: ScheduleStop::Unspecified as i32,
            });
        }
        let recent = &mut self.record.recent;
        // Answers may overtake each other; actions are shown in the order in which they were asked for.
        let place = recent.partition_point(|action| action.number < number);
        recent.insert(
            place,
            RecentAction {
                number,
                nominal_ns: starting.nominal_ns,
                actual_ns: now,
                workflow_id: starting.workflow_id,
                run_id: run_id.to_string(),
                status: Status::Running as i32,
            },
        );
        if recent.len() > RECENT_MAX {
            recent.remove(0);
        }
        if let Some(closed) = starting.closed {
            self.closed(number, &closed);
        }
    }

    /// An action's workflow closed.
    pub(super) fn closed(&mut self, number: i64, closed: &ScheduledClosed) {
        let Some(at) = self.record.running.iter().position(|running| running.number == number) else {
            // A close may overtake the answer to the start.
            if let Some(starting) = self.record.starting.iter_mut().find(|starting| starting.number == number) {
                starting.closed = Some(closed.clone());
            }
            return;
        };
        let running = self.record.running.remove(at);
        if let Some(recent) = self.record.recent.iter_mut().find(|recent| recent.number == number) {
            recent.status = closed.status;
        }
        match closed.status() {
            Status::Completed => {
                self.record.last_result = closed.result.clone();
                self.record.last_failure = None;
            }
            Status::Failed | Status::TimedOut => self.failed(&running.workflow_id, closed),
            _ => {}
        }
    }

    fn failed(&mut self, workflow_id: &str, closed: &ScheduledClosed) {
        if closed.status() == Status::Failed {
            self.record.last_failure = closed.failure.clone();
        }
        let pauses = self.definition.policies.as_ref().is_some_and(|policies| policies.pause_on_failure);
        if !pauses || self.state().paused {
            return;
        }
        let note = if closed.status() == Status::Failed {
            let message = closed.failure.as_ref().map(|failure| failure.message.as_str()).unwrap_or_default();
            format!("paused due to workflow failure: {workflow_id}: {message}")
        } else {
            format!("paused due to workflow timeout: {workflow_id}")
        };
        self.set_paused(true, &note);
    }
}
