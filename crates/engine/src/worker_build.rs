//! What a completion says of the code that made it: a point to reset to, and an entry in the list of builds, for each build that
//! worked on the run.
//!
//! Both are in the run's details. The record remembers the build of the last completion, so that the next one of the same build
//! need not look there.

use mainstay_api::record::WorkerBuild;
use mainstay_api::temporal::common::v1::WorkerVersionStamp;
use mainstay_api::temporal::workflow::v1::{ResetPointInfo, ResetPoints};
use mainstay_api::temporal::workflowservice::v1::{PollWorkflowTaskQueueRequest, RespondWorkflowTaskCompletedRequest};

use crate::convert::time;
use crate::run::Run;
use crate::search_attributes;
use crate::transaction::Transaction;

const RESET_POINTS_MAX: usize = 20;

/// The code of the worker that polls, as the Started event of its task names it.
#[allow(deprecated)]
pub(crate) fn of_poll(poll: &PollWorkflowTaskQueueRequest) -> Option<WorkerVersionStamp> {
    let capabilities = poll.worker_version_capabilities.as_ref()?;
    let (build_id, use_versioning) = (capabilities.build_id.clone(), capabilities.use_versioning);
    of_unversioned(Some(WorkerVersionStamp { build_id, use_versioning }))
}

/// The same of the worker that completes a task.
#[allow(deprecated)]
pub(crate) fn of_completion(request: &RespondWorkflowTaskCompletedRequest) -> Option<WorkerVersionStamp> {
    of_unversioned(request.worker_version_stamp.clone())
}

/// Worker versioning is not there: its stamps say nothing here.
fn of_unversioned(stamp: Option<WorkerVersionStamp>) -> Option<WorkerVersionStamp> {
    stamp.filter(|stamp| !stamp.build_id.is_empty() && !stamp.use_versioning)
}

/// Notes the build that completed a workflow task at `now`.
pub(crate) fn record(tx: &Transaction<'_>, run: &mut Run, build: WorkerBuild, now: i64, completed_event_id: i64) {
    if run.record.last_build.as_ref() == Some(&build) {
        return;
    }
    add_reset_point(tx, run, &build, now, completed_event_id);
    search_attributes::add_build_id(tx, run, &build.build_id);
    run.record.last_build = Some(build);
}

/// Remembers the first completion of each build, as a point to reset to.
#[allow(deprecated)]
fn add_reset_point(tx: &Transaction<'_>, run: &mut Run, build: &WorkerBuild, now: i64, completed_event_id: i64) {
    let run_id = run.record.run_id.clone();
    let points = &mut run.details_mut(tx).reset_points.get_or_insert_with(ResetPoints::default).points;
    if points.iter().any(|p| p.build_id == build.build_id && p.binary_checksum == build.checksum) {
        return;
    }
    points.push(ResetPointInfo {
        build_id: build.build_id.clone(),
        binary_checksum: build.checksum.clone(),
        run_id,
        first_workflow_task_completed_id: completed_event_id,
        create_time: time(now),
        expire_time: None,
        resettable: true,
    });
    if points.len() > RESET_POINTS_MAX {
        points.remove(0);
    }
}
