//! Schedules: entities of their own that start workflows at the times of a spec.
//!
//! A schedule has two rows (what people defined, and what changes as it acts), one timer row for its next time, and a row in the
//! list of schedules. It knows calendars through `mainstay-calendar`, and workflows only by message: it asks one to start, learns
//! its run id or that it did not, asks it to make way, and hears of the close of the last run of its chain. (Reference §2.20.)
//!
//! Each transition ends in `Schedule::go_on`: times that have come are buffered, the buffer is worked off as the overlap
//! policies say, and the timer is set to what comes next. So no command and no message needs to know what follows from it.

mod actions;
mod clock;
mod commands;
mod describe;
mod messages;
mod overlap;

pub use describe::{describe, is_starting, list_entry, matching_times};

pub(crate) use clock::fire;
pub(crate) use commands::{create, delete, erase, patch, update};
pub(crate) use messages::{report, start_answered, start_workflow, stop_workflow, workflow_closed};

use mainstay_api::record::{
    ListSpace, ScheduleDefinition, ScheduleRecord, TimerRow, VisibilityRecord, timer_row::Kind,
};
use mainstay_api::temporal::common::v1::SearchAttributes;
use mainstay_api::temporal::enums::v1::{ScheduleOverlapPolicy as Overlap, WorkflowExecutionStatus};
use mainstay_api::temporal::schedule::v1::ScheduleState;
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_base::RunId;
use mainstay_calendar::Spec;

use crate::convert::nanos;
use crate::run::already_completed;
use crate::search_attributes::{self, typed_json};
use crate::store::{Row, Table};
use crate::transaction::Transaction;
use crate::{Answer, Error};

/// Before a schedule's id in the id of its entity, so that a schedule and a workflow may have one id.
const ENTITY_PREFIX: &str = "temporal-sys-scheduler:";
/// What the rows of schedules are to those who ask for rows of the system.
const DIVISION: &str = "TemporalScheduler";
const WORKFLOW_TYPE: &str = "temporal-sys-scheduler-workflow";
/// How late an action may start when the policies do not say.
const CATCHUP_DEFAULT_NS: i64 = 365 * 86_400 * SECOND;
const CATCHUP_MIN_NS: i64 = 10 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// The entity id of a schedule.
#[must_use]
pub fn entity_id(schedule_id: &str) -> String {
    format!("{ENTITY_PREFIX}{schedule_id}")
}

/// The schedule id of an entity id.
#[must_use]
pub fn id_of(entity_id: &str) -> &str {
    entity_id.strip_prefix(ENTITY_PREFIX).unwrap_or(entity_id)
}

/// A schedule in hand.
pub(crate) struct Schedule {
    record: ScheduleRecord,
    definition: ScheduleDefinition,
    /// None if the spec cannot be read, which only another time-zone database can cause: then it has no times.
    spec: Option<Spec>,
    definition_changed: bool,
    listed_changed: bool,
}

fn state_row() -> Row {
    Row { table: Table::Schedule, run: None, id: Vec::new() }
}

fn definition_row() -> Row {
    Row { table: Table::ScheduleDefinition, run: None, id: Vec::new() }
}

impl Schedule {
    fn new(record: ScheduleRecord, definition: ScheduleDefinition) -> Self {
        let spec = Spec::compile(&definition.spec.clone().unwrap_or_default()).ok();
        Self { record, definition, spec, definition_changed: false, listed_changed: false }
    }

    /// The schedule of the entity at hand, deleted or not.
    fn find(tx: &Transaction<'_>) -> Answer<Option<Self>> {
        let Some(record) = tx.get::<ScheduleRecord>(&state_row())? else { return Ok(None) };
        let definition = tx.get(&definition_row())?.unwrap_or_default();
        Ok(Some(Self::new(record, definition)))
    }

    /// The schedule of the entity at hand, which must exist.
    fn load(tx: &Transaction<'_>) -> Answer<Self> {
        let id = &tx.entity.workflow_id;
        let found = Self::find(tx)?.ok_or_else(|| Error::not_found(format!("workflow not found for ID: {id}")))?;
        if found.is_closed() { Err(already_completed().into()) } else { Ok(found) }
    }

    fn is_closed(&self) -> bool {
        self.record.close_ns != 0
    }

    fn save(self, tx: &mut Transaction<'_>) {
        if self.definition_changed {
            tx.put(definition_row(), &self.definition);
        }
        if self.listed_changed {
            let row = self.visibility(tx);
            if self.is_closed() { tx.remove_visibility(row) } else { tx.put_visibility(row) }
        }
        tx.put(state_row(), &self.record);
    }

    fn state(&self) -> ScheduleState {
        self.record.state.clone().unwrap_or_default()
    }

    /// Changes the state that people see; whoever read it before must read it again.
    fn change_state(&mut self, change: impl FnOnce(&mut ScheduleState)) {
        change(self.record.state.get_or_insert_with(ScheduleState::default));
        self.record.conflict_token += 1;
        self.listed_changed = true;
    }

    /// Whether an action by the clock may be taken now.
    fn may_act(&self) -> bool {
        let state = self.state();
        !state.paused && (!state.limited_actions || state.remaining_actions > 0)
    }

    fn workflow(&self) -> Option<&NewWorkflowExecutionInfo> {
        use mainstay_api::temporal::schedule::v1::schedule_action::Action;
        let Action::StartWorkflow(workflow) = self.definition.action.as_ref()?.action.as_ref()?;
        Some(workflow)
    }

    fn overlap_policy(&self) -> Overlap {
        match self.definition.policies.as_ref().map_or(Overlap::Unspecified, |policies| policies.overlap_policy()) {
            Overlap::Unspecified => Overlap::Skip,
            policy => policy,
        }
    }

    fn catchup_ns(&self) -> i64 {
        let window = self.definition.policies.as_ref().and_then(|policies| policies.catchup_window.as_ref());
        window.map_or(CATCHUP_DEFAULT_NS, |window| nanos(Some(window)).max(CATCHUP_MIN_NS))
    }

    /// Tells the jitter of this schedule from that of others.
    fn jitter_seed(&self) -> u64 {
        let bytes = self.record.run_id.parse::<RunId>().map(RunId::to_bytes).unwrap_or_default();
        bytes.iter().rev().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
    }

    fn timer(&self, tx: &Transaction<'_>, due_ns: i64) -> TimerRow {
        TimerRow {
            due_ns,
            namespace_id: tx.entity.namespace_id.clone(),
            workflow_id: tx.entity.workflow_id.clone(),
            run_id: self.record.run_id.clone(),
            kind: Kind::Schedule as i32,
            id: 0,
        }
    }

    /// What filters see of the schedule. What a list shows is read from the schedule's rows.
    fn visibility(&self, tx: &Transaction<'_>) -> VisibilityRecord {
        let mut attributes = self.definition.search_attributes.clone().unwrap_or_default();
        let paused = typed_json("Bool", &self.state().paused.to_string());
        attributes.indexed_fields.insert("TemporalSchedulePaused".into(), paused);
        search_attributes::put_division(&mut attributes, DIVISION);
        VisibilityRecord {
            namespace_id: tx.entity.namespace_id.clone(),
            workflow_id: tx.entity.workflow_id.clone(),
            run_id: self.record.run_id.clone(),
            workflow_type: WORKFLOW_TYPE.into(),
            task_queue: search_attributes::SYSTEM_TASK_QUEUE.into(),
            status: WorkflowExecutionStatus::Running as i32,
            start_ns: self.record.create_ns,
            execution_ns: self.record.create_ns,
            search_attributes: Some(attributes),
            space: ListSpace::Schedule as i32,
            ..VisibilityRecord::default()
        }
    }
}

/// The attributes, if there are any.
fn unless_empty(attributes: Option<SearchAttributes>) -> Option<SearchAttributes> {
    attributes.filter(|attributes| !attributes.indexed_fields.is_empty())
}
