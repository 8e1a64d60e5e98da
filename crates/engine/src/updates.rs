//! What history knows of updates: their rows, and what a reset makes of them.
//!
//! A row is there from the acceptance on, or from the event by which a reset brought an update back. Updates that are only admitted
//! are in the leader's memory. Rows outlive the close of their run: they answer polls and repeated requests.
//!
//! **Brought back.** An update that a reset brought back is in the history that workers are sent, so no message carries it. A worker
//! that completes a task without a word of it has passed it over. But the reference server keeps that in memory alone, and drops the
//! memory whenever it refuses a call about the run (module `closing`): then the update waits again, and a completion that comes
//! before the next start is followed by another task. Recorded.

use mainstay_api::record::{BroughtBack, UpdateRecord, WorkflowTaskRecord};
use mainstay_api::temporal::common::v1::Link;
use mainstay_api::temporal::enums::v1::UpdateAdmittedEventOrigin as Origin;
use mainstay_api::temporal::history::v1::WorkflowExecutionUpdateAdmittedEventAttributes;
use mainstay_api::temporal::update::v1::Request;

use crate::event::{Attributes, NewEvent};
use crate::run::Run;
use crate::store::{Fault, Table};
use crate::transaction::{Transaction, named};

/// The id of an update.
pub(crate) fn id_of(request: Option<&Request>) -> &str {
    request.and_then(|request| request.meta.as_ref()).map_or("", |meta| meta.update_id.as_str())
}

/// What history knows of an update.
pub(crate) fn find(tx: &Transaction<'_>, run: &Run, id: &str) -> Result<Option<UpdateRecord>, Fault> {
    tx.get(&named(Table::Update, run.id, id))
}

/// Stores what history knows of an update.
pub(crate) fn put(tx: &mut Transaction<'_>, run: &Run, id: &str, record: &UpdateRecord) {
    tx.put(named(Table::Update, run.id, id), record);
}

/// Brings an update of an older history into this run, as admitted. One whose request is not known, or that this run has, is left.
pub(crate) fn admit_again(
    tx: &mut Transaction<'_>,
    run: &mut Run,
    request: Option<&Request>,
    links: Vec<Link>,
) -> Result<(), Fault> {
    let id = id_of(request);
    if id.is_empty() || find(tx, run, id)?.is_some() {
        return Ok(());
    }
    let attributes =
        WorkflowExecutionUpdateAdmittedEventAttributes { request: request.cloned(), origin: Origin::Reapply as i32 };
    let event = NewEvent::from(Attributes::WorkflowExecutionUpdateAdmittedEventAttributes(attributes));
    let admitted_event_id = run.write(tx, event.with_links(links));
    run.record.update_count += 1;
    put(tx, run, id, &UpdateRecord { admitted_event_id, ..UpdateRecord::default() });
    run.record.set_brought_back(BroughtBack::Waiting);
    Ok(())
}

/// A worker is given a task, and sees in history what a reset brought back; or its task has ended with all that it had to say.
pub(crate) fn seen(run: &mut Run) {
    if run.record.brought_back() == BroughtBack::Waiting {
        run.record.set_brought_back(BroughtBack::Seen);
    }
}

/// What was kept of the run in memory is gone. Answers whether that changed anything.
pub(crate) fn wait_anew(run: &mut Run) -> bool {
    let changes = run.record.brought_back() == BroughtBack::Seen;
    if changes {
        run.record.set_brought_back(BroughtBack::Waiting);
    }
    changes
}

/// Whether something that a reset brought back waits for the task after this one, which a worker completes.
pub(crate) fn wait_after(tx: &Transaction<'_>, run: &Run, task: &WorkflowTaskRecord) -> Result<bool, Fault> {
    if run.record.brought_back() != BroughtBack::Waiting || task.speculative_id != 0 {
        return Ok(false);
    }
    let rows = tx.scan_records::<UpdateRecord>(Table::Update, run.id)?;
    Ok(rows.iter().any(|update| update.admitted_event_id != 0 && update.accepted_event_id == 0))
}
