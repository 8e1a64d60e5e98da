//! What people ask of a schedule: create, update, patch, delete.

use mainstay_api::log::{Reply, reply};
use mainstay_api::record::{ScheduleDefinition, ScheduleRecord};
use mainstay_api::temporal::schedule::v1::{BackfillRequest, Schedule as Definition, SchedulePatch};
use mainstay_api::temporal::workflowservice::v1::{
    CreateScheduleRequest, CreateScheduleResponse, DeleteScheduleRequest, PatchScheduleRequest, UpdateScheduleRequest,
};
use mainstay_base::Timestamp;
use mainstay_calendar::{Occurrence, SpecError, canonical};

use crate::convert::{time, time_ns};
use crate::transaction::Transaction;
use crate::{Answer, Error, empty, reply_of};

use super::{Schedule, definition_row, state_row, unless_empty};

impl From<SpecError> for crate::Stop {
    fn from(error: SpecError) -> Self {
        Error::invalid(error.to_string()).into()
    }
}

pub(crate) fn create(tx: &mut Transaction<'_>, request: &CreateScheduleRequest) -> Answer<Reply> {
    if let Some(existing) = Schedule::find(tx)? {
        if !existing.is_closed() {
            if existing.record.create_request_id == request.request_id {
                return Ok(created(&existing));
            }
            return Err(already_exists(&existing).into());
        }
        tx.remove_timer(existing.timer(tx, existing.record.timer_ns));
    }
    let asked = request.schedule.clone().unwrap_or_default();
    let record = ScheduleRecord {
        schedule_id: request.schedule_id.clone(),
        run_id: tx.new_run_id().to_string(),
        create_request_id: request.request_id.clone(),
        create_ns: tx.now(),
        conflict_token: 1,
        state: Some(asked.state.clone().unwrap_or_default()),
        processed_ns: tx.now(),
        ..ScheduleRecord::default()
    };
    let definition = ScheduleDefinition {
        memo: request.memo.clone().filter(|memo| !memo.fields.is_empty()),
        search_attributes: unless_empty(request.search_attributes.clone()),
        ..definition(asked)?
    };
    let mut schedule = Schedule::new(record, definition);
    schedule.definition_changed = true;
    schedule.listed_changed = true;
    if let Some(patch) = &request.initial_patch {
        schedule.patch(tx, patch);
    }
    schedule.go_on(tx)?;
    let reply = created(&schedule);
    schedule.save(tx);
    Ok(reply)
}

/// Replaces spec, action, policies and state as a whole. An update with a stale token is dropped without a word, as by the
/// reference server.
pub(crate) fn update(tx: &mut Transaction<'_>, request: &UpdateScheduleRequest) -> Answer<Reply> {
    let mut schedule = Schedule::load(tx)?;
    if !request.conflict_token.is_empty() && request.conflict_token != schedule.token() {
        return Ok(empty());
    }
    let asked = request.schedule.clone().unwrap_or_default();
    let state = asked.state.clone().unwrap_or_default();
    let (memo, attributes) = (schedule.definition.memo.take(), schedule.definition.search_attributes.take());
    let definition = ScheduleDefinition {
        memo: request.memo.clone().or(memo).filter(|memo| !memo.fields.is_empty()),
        search_attributes: unless_empty(request.search_attributes.clone().or(attributes)),
        ..definition(asked)?
    };
    schedule = Schedule::new(schedule.record, definition);
    schedule.definition_changed = true;
    schedule.change_state(|old| *old = state);
    schedule.record.update_ns = tx.now();
    // Times before the update are not made up for.
    schedule.record.processed_ns = schedule.record.processed_ns.max(tx.now());
    schedule.go_on(tx)?;
    schedule.save(tx);
    Ok(empty())
}

pub(crate) fn patch(tx: &mut Transaction<'_>, request: &PatchScheduleRequest) -> Answer<Reply> {
    let mut schedule = Schedule::load(tx)?;
    if let Some(patch) = &request.patch {
        schedule.patch(tx, patch);
    }
    schedule.go_on(tx)?;
    schedule.save(tx);
    Ok(empty())
}

/// Workflows that the schedule started go on.
pub(crate) fn delete(tx: &mut Transaction<'_>, _: &DeleteScheduleRequest) -> Answer<Reply> {
    let mut schedule = Schedule::load(tx)?;
    schedule.close(tx)?;
    schedule.save(tx);
    Ok(empty())
}

/// Removes a schedule, if there is one, whatever its state.
pub(crate) fn erase(tx: &mut Transaction<'_>) -> Answer<()> {
    let Some(schedule) = Schedule::find(tx)? else { return Ok(()) };
    if schedule.record.timer_ns != 0 {
        tx.remove_timer(schedule.timer(tx, schedule.record.timer_ns));
    }
    tx.remove_visibility(schedule.visibility(tx));
    tx.delete(state_row());
    tx.delete(definition_row());
    Ok(())
}

impl Schedule {
    pub(super) fn token(&self) -> Vec<u8> {
        self.record.conflict_token.to_be_bytes().to_vec()
    }

    fn patch(&mut self, tx: &Transaction<'_>, patch: &SchedulePatch) {
        let now = Timestamp::from_nanos(tx.now());
        self.record.last_event_ns = tx.now();
        if let Some(trigger) = &patch.trigger_immediately {
            let nominal = trigger.scheduled_time.map_or(now, |at| Timestamp::from_parts(at.seconds, at.nanos));
            self.buffer(Occurrence { nominal, actual: now }, trigger.overlap_policy(), true);
        }
        for request in &patch.backfill_request {
            // Both ends of a backfill belong to it; what is kept is the time before its next.
            let start_time = time(time_ns(request.start_time.as_ref()).saturating_sub(1));
            self.record.backfills.push(BackfillRequest { start_time, ..*request });
        }
        if !patch.pause.is_empty() {
            self.set_paused(true, &patch.pause);
        }
        if !patch.unpause.is_empty() {
            // What came while it was paused is not made up for.
            self.record.processed_ns = self.record.processed_ns.max(tx.now());
            self.set_paused(false, &patch.unpause);
        }
    }

    pub(super) fn set_paused(&mut self, paused: bool, note: &str) {
        self.change_state(|state| {
            state.paused = paused;
            state.notes = note.to_string();
        });
    }
}

fn definition(asked: Definition) -> Answer<ScheduleDefinition> {
    Ok(ScheduleDefinition {
        spec: Some(canonical(&asked.spec.unwrap_or_default())?),
        action: asked.action,
        policies: asked.policies,
        ..ScheduleDefinition::default()
    })
}

fn created(schedule: &Schedule) -> Reply {
    let response = CreateScheduleResponse { conflict_token: schedule.token().into() };
    reply_of(reply::Reply::CreateSchedule(response))
}

fn already_exists(existing: &Schedule) -> Error {
    Error::AlreadyStarted {
        message: format!("schedule \"{}\" is already registered", existing.record.schedule_id),
        // A schedule has no runs that a client could ask for.
        start_request_id: String::new(),
        run_id: String::new(),
        first_execution_run_id: String::new(),
    }
}
