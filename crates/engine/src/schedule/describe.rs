//! What DescribeSchedule and lists show of a schedule, read from its rows.

use mainstay_api::record::RecentAction;
use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::schedule::v1::{
    Schedule as Definition, ScheduleActionResult, ScheduleInfo, ScheduleListEntry, ScheduleListInfo, SchedulePolicies,
};
use mainstay_api::temporal::workflowservice::v1::DescribeScheduleResponse;
use mainstay_base::Timestamp;
use mainstay_calendar::show_defaults;
use prost_types::Timestamp as ProtoTimestamp;

use crate::convert::{duration, time};
use crate::store::{EntityKey, Fault, Store};
use crate::transaction::Transaction;
use crate::{Answer, Context, Error, Stop};

use super::Schedule;

const FUTURE_DESCRIBED: usize = 10;
const FUTURE_LISTED: usize = 5;
const RECENT_LISTED: usize = 5;
const MATCHING_MAX: usize = 1_000;

/// Describes a schedule as of a time.
///
/// # Errors
/// The outer error if the store fails; the inner one if there is no such schedule.
pub fn describe(
    store: &dyn Store,
    entity: &EntityKey,
    now: Timestamp,
) -> Result<Result<DescribeScheduleResponse, Error>, Fault> {
    read(store, entity, |schedule| schedule.response(now.as_nanos()))
}

/// Whether a schedule has asked for workflows that it does not know to be started yet.
///
/// # Errors
/// The outer error if the store fails; the inner one if there is no such schedule.
pub fn is_starting(store: &dyn Store, entity: &EntityKey) -> Result<Result<bool, Error>, Fault> {
    read(store, entity, |schedule| !schedule.record.starting.is_empty())
}

/// A schedule's entry in a list.
///
/// # Errors
/// The outer error if the store fails; the inner one if there is no such schedule.
pub fn list_entry(
    store: &dyn Store,
    entity: &EntityKey,
    now: Timestamp,
) -> Result<Result<ScheduleListEntry, Error>, Fault> {
    read(store, entity, |schedule| schedule.entry(now.as_nanos()))
}

/// The times of a schedule after `from`, up to and with `to`; at most a thousand.
///
/// # Errors
/// The outer error if the store fails; the inner one if there is no such schedule.
pub fn matching_times(
    store: &dyn Store,
    entity: &EntityKey,
    from: Timestamp,
    to: Timestamp,
) -> Result<Result<Vec<ProtoTimestamp>, Error>, Fault> {
    read(store, entity, |schedule| schedule.times(from.as_nanos(), to.as_nanos(), MATCHING_MAX))
}

fn read<T>(
    store: &dyn Store,
    entity: &EntityKey,
    show: impl FnOnce(&Schedule) -> T,
) -> Result<Result<T, Error>, Fault> {
    let context = Context::default();
    let tx = Transaction::new(context, store, entity.clone().into());
    match find(&tx) {
        Ok(schedule) => Ok(Ok(show(&schedule))),
        Err(Stop::Refused(error)) => Ok(Err(error)),
        Err(Stop::Broken(fault)) => Err(fault),
    }
}

fn find(tx: &Transaction<'_>) -> Answer<Schedule> {
    match Schedule::find(tx)? {
        Some(schedule) if schedule.is_closed() => Err(Error::not_found("schedule not found").into()),
        Some(schedule) => Ok(schedule),
        None => Err(Error::not_found(format!("workflow not found for ID: {}", tx.entity.workflow_id)).into()),
    }
}

impl Schedule {
    fn response(&self, now: i64) -> DescribeScheduleResponse {
        DescribeScheduleResponse {
            schedule: Some(self.shown()),
            info: Some(self.info(now)),
            memo: self.definition.memo.clone(),
            search_attributes: self.definition.search_attributes.clone(),
            conflict_token: self.token().into(),
        }
    }

    fn shown(&self) -> Definition {
        let mut spec = self.definition.spec.clone().unwrap_or_default();
        show_defaults(&mut spec);
        let policies = SchedulePolicies {
            overlap_policy: self.overlap_policy() as i32,
            catchup_window: duration(self.catchup_ns()),
            ..self.definition.policies.unwrap_or_default()
        };
        Definition {
            spec: Some(spec),
            action: self.definition.action.clone(),
            policies: Some(policies),
            state: Some(self.state()),
        }
    }

    #[allow(deprecated)]
    fn info(&self, now: i64) -> ScheduleInfo {
        let r = &self.record;
        let running = r.running.iter().map(|action| execution(&action.workflow_id, &action.run_id));
        let unreadable = self.spec.is_none().then(|| "the spec's time zone is not known here".to_string());
        ScheduleInfo {
            action_count: r.action_count,
            missed_catchup_window: r.missed_catchup_window,
            overlap_skipped: r.overlap_skipped,
            buffer_dropped: r.buffer_dropped,
            buffer_size: r.buffered.len() as i64,
            running_workflows: running.collect(),
            recent_actions: r.recent.iter().map(result).collect(),
            future_action_times: self.future(now, FUTURE_DESCRIBED),
            create_time: time(r.create_ns),
            update_time: time(r.update_ns),
            invalid_schedule_error: unreadable.unwrap_or_default(),
            ..ScheduleInfo::default()
        }
    }

    fn entry(&self, now: i64) -> ScheduleListEntry {
        let Definition { spec, .. } = self.shown();
        let state = self.state();
        let recent = self.record.recent.len().saturating_sub(RECENT_LISTED);
        let info = ScheduleListInfo {
            spec,
            workflow_type: self.workflow().and_then(|workflow| workflow.workflow_type.clone()),
            notes: state.notes,
            paused: state.paused,
            recent_actions: self.record.recent.iter().skip(recent).map(result).collect(),
            future_action_times: self.future(now, FUTURE_LISTED),
            ..ScheduleListInfo::default()
        };
        ScheduleListEntry {
            schedule_id: self.record.schedule_id.clone(),
            memo: self.definition.memo.clone(),
            search_attributes: self.definition.search_attributes.clone(),
            info: Some(info),
        }
    }

    /// Times to come; a pause does not hide them, an end of the remaining actions does.
    fn future(&self, now: i64, most: usize) -> Vec<ProtoTimestamp> {
        let state = self.state();
        let remaining = usize::try_from(state.remaining_actions).unwrap_or(0);
        let most = if state.limited_actions { most.min(remaining) } else { most };
        self.times(now, i64::MAX, most)
    }

    fn times(&self, from: i64, to: i64, most: usize) -> Vec<ProtoTimestamp> {
        let (mut times, mut after) = (Vec::new(), from);
        while times.len() < most
            && let Some(next) = self.next_after(after).filter(|next| next.actual.as_nanos() <= to)
        {
            after = next.actual.as_nanos();
            times.extend(time(after));
        }
        times
    }
}

fn result(action: &RecentAction) -> ScheduleActionResult {
    ScheduleActionResult {
        schedule_time: time(action.nominal_ns),
        actual_time: time(action.actual_ns),
        start_workflow_result: Some(execution(&action.workflow_id, &action.run_id)),
        start_workflow_status: action.status,
    }
}

fn execution(workflow_id: &str, run_id: &str) -> WorkflowExecution {
    WorkflowExecution { workflow_id: workflow_id.to_string(), run_id: run_id.to_string() }
}
