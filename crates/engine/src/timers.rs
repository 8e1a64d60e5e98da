//! What fires: user timers, and every deadline of a run through the shard's one timer index.
//!
//! A fired-timers entry lists exact rows. Those that are gone or not due are skipped; all rows of one run fire in one
//! transition with one workflow task.

use std::collections::BTreeMap;

use mainstay_api::log::{self, Reply};
use mainstay_api::record::{TimerRow, UserTimerRecord, timer_row::Kind};
use mainstay_api::temporal::history::v1::TimerFiredEventAttributes;

use crate::event::Attributes;
use crate::run::Run;
use crate::store::{EntityKey, Table};
use crate::transaction::{Transaction, named, numbered};
use crate::{Answer, activities, batch, empty, lifecycle, schedule, speculative, workflow_task};

/// Fires the listed rows that are due.
pub(crate) fn fire(tx: &mut Transaction<'_>, command: &log::FireTimers) -> Answer<Reply> {
    let mut by_run: BTreeMap<(EntityKey, String), Vec<TimerRow>> = BTreeMap::new();
    for row in &command.rows {
        if row.due_ns <= tx.now() {
            let entity = EntityKey { namespace_id: row.namespace_id.clone(), workflow_id: row.workflow_id.clone() };
            by_run.entry((entity, row.run_id.clone())).or_default().push(row.clone());
        }
    }
    for ((entity, run_id), rows) in by_run {
        tx.switch(entity);
        match rows.first() {
            Some(row) if row.kind() == Kind::Schedule => drop(schedule::fire(tx, row)?),
            Some(row) if row.kind() == Kind::Batch => batch::forget(tx, row)?,
            _ => fire_run(tx, &run_id, rows)?,
        }
        crate::end_oversized(tx)?;
    }
    Ok(empty())
}

fn fire_run(tx: &mut Transaction<'_>, run_id: &str, rows: Vec<TimerRow>) -> Answer<()> {
    let id = run_id.parse().ok();
    let record = match id {
        Some(id) => tx.run_record(id)?,
        None => None,
    };
    let Some(record) = record else {
        // The run is gone; its rows must not fire for ever.
        rows.into_iter().for_each(|row| tx.remove_timer(row));
        return Ok(());
    };
    let mut run = Run::load(tx, &record.run_id)?;
    let (mut changed, mut wake) = (false, false);
    for row in rows {
        if !tx.has_timer(&row)? {
            continue;
        }
        tx.remove_timer(row.clone());
        if row.kind() == Kind::Retention {
            return if run.is_open() { Ok(()) } else { lifecycle::erase(tx, &run) };
        }
        if run.is_open() {
            wake |= fire_row(tx, &mut run, &row)?;
            changed = true;
        }
    }
    if wake && run.is_open() {
        workflow_task::wake(tx, &mut run)?;
    }
    if changed {
        run.save(tx);
    }
    Ok(())
}

/// Fires one row; answers whether the workflow must be told.
fn fire_row(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerRow) -> Answer<bool> {
    match row.kind() {
        Kind::RunTimeout => lifecycle::time_out(tx, run, row).map(|()| false),
        Kind::FirstTaskBackoff => {
            if run.record.backoff_timer_ns != row.due_ns {
                return Ok(false);
            }
            lifecycle::end_backoff(tx, run);
            speculative::make_normal(tx, run);
            Ok(true)
        }
        Kind::WorkflowTask => workflow_task::time_out(tx, run, row),
        Kind::Activity => activities::timer_fired(tx, run, row),
        Kind::UserTimer => user_timer_fired(tx, run, row),
        Kind::Retention | Kind::Batch | Kind::Schedule | Kind::Unspecified => Ok(false),
    }
}

fn user_timer_fired(tx: &mut Transaction<'_>, run: &mut Run, row: &TimerRow) -> Answer<bool> {
    let Some(name) = tx.get_bytes(&numbered(Table::UserTimerEvent, run.id, row.id))? else { return Ok(false) };
    let timer_id = String::from_utf8_lossy(&name).into_owned();
    let Some(pending) = pending(tx, run, &timer_id)? else { return Ok(false) };
    remove_rows(tx, run, &pending);
    run.record.timer_count -= 1;
    let attributes = TimerFiredEventAttributes { timer_id, started_event_id: pending.started_event_id };
    run.add(tx, Attributes::TimerFiredEventAttributes(attributes));
    Ok(true)
}

/// The pending user timer with this id.
pub(crate) fn pending(tx: &Transaction<'_>, run: &Run, timer_id: &str) -> Answer<Option<UserTimerRecord>> {
    Ok(tx.get(&named(Table::UserTimer, run.id, timer_id))?)
}

/// Adds a pending user timer.
pub(crate) fn add(tx: &mut Transaction<'_>, run: &mut Run, timer: &UserTimerRecord) {
    tx.put(named(Table::UserTimer, run.id, &timer.timer_id), timer);
    tx.put_bytes(
        numbered(Table::UserTimerEvent, run.id, timer.started_event_id),
        timer.timer_id.clone().into_bytes().into(),
    );
    tx.add_timer(row(tx, run, timer));
    run.record.timer_count += 1;
}

/// Removes a user timer's rows.
pub(crate) fn remove_rows(tx: &mut Transaction<'_>, run: &Run, timer: &UserTimerRecord) {
    tx.remove_timer(row(tx, run, timer));
    tx.delete(named(Table::UserTimer, run.id, &timer.timer_id));
    tx.delete(numbered(Table::UserTimerEvent, run.id, timer.started_event_id));
}

fn row(tx: &Transaction<'_>, run: &Run, timer: &UserTimerRecord) -> TimerRow {
    TimerRow {
        due_ns: timer.due_ns,
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: run.record.run_id.clone(),
        kind: Kind::UserTimer as i32,
        id: timer.started_event_id,
    }
}
