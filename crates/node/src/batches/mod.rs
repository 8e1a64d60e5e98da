//! Batch jobs at work: each running job of a group that this node leads has one worker here.
//!
//! A worker goes from target to target at the job's rate, and reports after every few. What is reported is never done again; what was
//! done and not reported when a node died is done once more, which changes nothing: a terminated run is terminated, a
//! signal has the same request id, a reset names the run that it makes.

mod operations;
mod targets;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::log::{AdvanceBatch, Command, command::Op};
use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::batch::v1::BatchOperationInfo;
use mainstay_api::temporal::enums::v1::{BatchOperationState as State, ResourceExhaustedCause};
use mainstay_api::temporal::workflowservice::v1::{
    DescribeBatchOperationResponse, ListBatchOperationsResponse, StartBatchOperationRequest,
};
use mainstay_engine::batch::{self, Job, entity_id};
use mainstay_engine::{EntityKey, Error};
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::ListSpace;
use prost::Message;
use tokio::sync::Notify;

use crate::gather::{self, Ask, Listed};
use crate::lock;
use crate::node::Node;
use crate::service::Namespace;
use crate::unreadable;

/// Jobs of a namespace that may run at one time.
const RUNNING_MAX: usize = 1;
/// What lists of jobs are filtered by.
pub(crate) const EVERY_JOB: &str = "TemporalNamespaceDivision = 'TemporalBatcher'";
/// Jobs that are looked at together.
const JOBS_TOGETHER: usize = 200;
/// Operations in a second, if a job does not say.
const RATE_DEFAULT: f32 = 50.0;
/// About so often a worker reports.
const REPORTS_PER_SECOND: f32 = 5.0;
const TARGETS_MAX: f32 = 100.0;
/// Jobs are looked for this often, besides when one begins.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Tries of one target that is busy, before it counts as failed; as in Temporal.
const TRIES_MAX: u32 = 50;

/// Which jobs have a worker.
#[derive(Default)]
pub(crate) struct Jobs {
    working: Mutex<BTreeSet<(String, String)>>,
    changed: Notify,
}

impl Jobs {
    /// A job may have begun.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }
}

/// Sees to it that every running job has a worker, for as long as the node runs.
pub(crate) async fn run<R: Runtime>(node: Node<R>) {
    while !node.is_stopped() {
        // A shard that cannot be read now is read at the next look.
        for (namespace, job_id) in node.running_jobs().unwrap_or_default() {
            let key = (namespace.id.clone(), job_id.clone());
            if lock(&node.board().batches.working).insert(key.clone()) {
                let node = node.clone();
                drop(R::spawn(async move {
                    work(&node, &namespace, &job_id).await;
                    lock(&node.board().batches.working).remove(&key);
                }));
            }
        }
        let _woken = node.within(R::Instant::now() + LOOK_EVERY, node.board().batches.changed.notified()).await;
    }
}

/// Works on one job until it is done or is no longer this node's.
async fn work<R: Runtime>(node: &Node<R>, namespace: &Namespace, job_id: &str) {
    let entity = job_entity(namespace, job_id);
    let mut tries = 0;
    while !node.is_stopped() && node.board().leads(node.route(&entity)) {
        let Some(job) = node.read_job(&entity).ok().filter(Job::is_running) else { return };
        match step(node, namespace, &job, tries >= TRIES_MAX).await {
            Ok(report) => {
                tries = 0;
                let command = Command {
                    namespace_id: namespace.id.clone(),
                    workflow_id: entity.workflow_id.clone(),
                    op: Some(Op::AdvanceBatch(report)),
                    ..Command::default()
                };
                match node.run_command(command).await {
                    Ok(_) => {}
                    Err(Error::FailedPrecondition(_) | Error::NotFound(_)) => return,
                    Err(_) => node.rest_until(R::Instant::now() + RETRY_AFTER).await,
                }
            }
            Err(error) => {
                // What is no fault of the target is waited for as long as it takes.
                tries += u32::from(is_busy(&error));
                node.rest_until(R::Instant::now() + RETRY_AFTER).await;
            }
        }
    }
}

/// Settles the next few targets of a job: up to one that cannot be settled now. An error if that is the first of them, unless it was
/// `given_up`.
async fn step<R: Runtime>(
    node: &Node<R>,
    namespace: &Namespace,
    job: &Job,
    mut given_up: bool,
) -> Result<AdvanceBatch, Error> {
    let asked = job.request.max_operations_per_second;
    let rate = if asked > 0.0 { asked } else { RATE_DEFAULT };
    let size = (rate / REPORTS_PER_SECOND).clamp(1.0, TARGETS_MAX) as usize;
    let mut report = AdvanceBatch {
        run_id: job.record.run_id.clone(),
        from: job.record.position.clone(),
        to: job.record.position.clone(),
        ..AdvanceBatch::default()
    };
    let found = match node.targets(namespace, job, size).await {
        Ok(found) => found,
        // The filter cannot be answered, now or later.
        Err(Error::InvalidArgument(_)) => {
            report.state = State::Failed as i32;
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    report.total = found.total;
    if found.targets.is_empty() {
        report.state = State::Completed as i32;
    }
    let pause = Duration::from_secs_f32(1.0 / rate);
    for target in found.targets {
        let began = R::Instant::now();
        match node.operate(namespace, job, &target.execution).await {
            Ok(()) => report.complete += 1,
            Err(error) if cannot_be_done_now(&error) && !(given_up && is_busy(&error)) => {
                if report.to == report.from {
                    return Err(error);
                }
                break;
            }
            Err(_) => report.failed += 1,
        }
        given_up = false;
        report.to = Bytes::from(target.position);
        node.rest_until(began + pause).await;
        if node.is_stopped() {
            break;
        }
    }
    Ok(report)
}

/// Whether a target refused an operation that it may accept later, as one does that is about to close.
fn is_busy(error: &Error) -> bool {
    use ResourceExhaustedCause::BusyWorkflow;
    matches!(error, Error::Aborted(_) | Error::ResourceExhausted { cause: BusyWorkflow, .. })
}

/// The same, or the server itself could not: no leader, no room, too much to do.
fn cannot_be_done_now(error: &Error) -> bool {
    use Error as E;
    matches!(error, E::Unavailable(_) | E::Moved | E::DeadlineExceeded(_) | E::ResourceExhausted { .. })
        || is_busy(error)
}

fn job_entity(namespace: &Namespace, job_id: &str) -> EntityKey {
    EntityKey { namespace_id: namespace.id.clone(), workflow_id: entity_id(job_id) }
}

impl<R: Runtime> Node<R> {
    fn read_job(&self, entity: &EntityKey) -> Result<Job, Error> {
        let shard = self.shard(self.route(entity))?;
        shard.read(|store| batch::read(store, entity)).map_err(|fault| Error::Internal(fault.to_string()))?
    }

    /// Jobs that run in groups that this node leads.
    fn running_jobs(&self) -> Result<Vec<(Namespace, String)>, Error> {
        let (mut found, shown) = (Vec::new(), self.shown());
        for namespace in self.board().registry.all() {
            for group in shown.groups().into_iter().filter(|group| self.board().leads(*group)) {
                let visit = &mut |row: VisibilityRecord| {
                    if row.close_ns == 0 && shown.has(group, &row) {
                        found.push((namespace.clone(), row.workflow_id));
                    }
                    true
                };
                self.shard(group)?.list(&namespace.id, ListSpace::Batches, None, visit).map_err(unreadable)?;
            }
        }
        Ok(found)
    }

    pub(crate) async fn begin_batch(
        &self,
        namespace: Namespace,
        request: StartBatchOperationRequest,
    ) -> Result<(), Error> {
        // Two that begin together must not both see none.
        let _one_at_a_time = self.namespace_changes().lock().await;
        let mut running = 0;
        let mut ask = Ask::new(&namespace, Listed::Batches, EVERY_JOB).page(JOBS_TOGETHER, Vec::new());
        loop {
            let read = self.gather_rows(ask.clone()).await?;
            ask.token = read.token.to_vec();
            running += gather::rows(read).filter(|row| row.close_ns == 0).count();
            if ask.token.is_empty() {
                break;
            }
        }
        if running >= RUNNING_MAX {
            return Err(Error::ResourceExhausted {
                cause: ResourceExhaustedCause::ConcurrentLimit,
                message: "Max concurrent batch operations is reached".into(),
            });
        }
        let workflow_id = entity_id(&request.job_id);
        let op = Some(Op::StartBatch(request));
        self.run_command(Command { namespace_id: namespace.id.clone(), workflow_id, op, ..Command::default() })
            .await
            .map(drop)
    }

    pub(crate) fn batch_description(
        &self,
        namespace: &Namespace,
        job_id: &str,
    ) -> Result<DescribeBatchOperationResponse, Error> {
        Ok(self.read_job(&job_entity(namespace, job_id))?.description())
    }

    pub(crate) async fn batch_page(
        &self,
        namespace: Namespace,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<ListBatchOperationsResponse, Error> {
        let ask = Ask::new(&namespace, Listed::Batches, EVERY_JOB).page(page_size, page_token);
        let read = self.gather_rows(ask).await?;
        let jobs = read.rows.into_iter().map(|row| BatchOperationInfo::decode(row.shown));
        let operation_info = jobs.collect::<Result<_, _>>().map_err(unreadable)?;
        Ok(ListBatchOperationsResponse { operation_info, next_page_token: read.token })
    }

    /// What a list shows of a job, encoded. None if it was deleted since its row was read.
    pub(crate) fn shown_batch(&self, namespace: &Namespace, row: &VisibilityRecord) -> Option<Bytes> {
        let job = self.read_job(&job_entity(namespace, &row.workflow_id)).ok()?;
        Some(job.info().encode_to_vec().into())
    }
}
