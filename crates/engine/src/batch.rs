//! Batch jobs: one operation on many executions, as an entity that knows what is asked for and how far the work is.
//!
//! It does none of the work: a leader's worker finds the targets, carries out the operation on each by an ordinary command, and
//! reports. A report names the place that it began at, so of two workers (an old leader's and a new one's) only one gets on.

use mainstay_api::log::{AdvanceBatch, Reply};
use mainstay_api::record::{BatchRecord, ListSpace, TimerRow, VisibilityRecord, timer_row::Kind};
use mainstay_api::temporal::batch::v1::BatchOperationInfo;
use mainstay_api::temporal::common::v1::{Execution, SearchAttributes};
use mainstay_api::temporal::enums::v1::{
    BatchOperationState as State, BatchOperationType as Type, ExecutionType, WorkflowExecutionStatus as Status,
};
use mainstay_api::temporal::workflowservice::v1::{
    DescribeBatchOperationResponse, StartBatchOperationRequest, StopBatchOperationRequest,
    start_batch_operation_request::Operation,
};
use mainstay_base::RunId;

use crate::convert::time;
use crate::run::already_completed;
use crate::search_attributes::{SYSTEM_TASK_QUEUE, put_division};
use crate::store::{EntityKey, Fault, Row, Store, Table};
use crate::transaction::Transaction;
use crate::{Answer, Context, Error, Stop, empty};

/// Before a job's id in the id of its entity, so that a job and a workflow may have one id.
const ENTITY_PREFIX: &str = "temporal-sys-batch:";
const DIVISION: &str = "TemporalBatcher";
const WORKFLOW_TYPE: &str = "temporal-sys-batch-workflow-protobuf";

/// The entity id of a batch job.
#[must_use]
pub fn entity_id(job_id: &str) -> String {
    format!("{ENTITY_PREFIX}{job_id}")
}

/// A job as its worker needs it.
#[derive(Clone, Debug)]
pub struct Job {
    /// How far it is.
    pub record: BatchRecord,
    /// What is asked for.
    pub request: StartBatchOperationRequest,
}

impl Job {
    /// Whether there is work left.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.record.state() == State::Running
    }

    /// Type of the operation, and who asked for it.
    #[must_use]
    pub fn operation(&self) -> (Type, &str) {
        use Operation as O;
        match self.request.operation.as_ref() {
            None => (Type::Unspecified, ""),
            Some(O::TerminationOperation(o)) => (Type::TerminateWorkflow, &o.identity),
            Some(O::SignalOperation(o)) => (Type::SignalWorkflow, &o.identity),
            Some(O::CancellationOperation(o)) => (Type::CancelWorkflow, &o.identity),
            Some(O::DeletionOperation(o)) => (Type::DeleteWorkflow, &o.identity),
            Some(O::ResetOperation(o)) => (Type::ResetWorkflow, &o.identity),
            Some(O::UpdateWorkflowOptionsOperation(o)) => (Type::UpdateWorkflowExecutionOptions, &o.identity),
            Some(O::UnpauseActivitiesOperation(o)) => (Type::UnpauseActivity, &o.identity),
            Some(O::ResetActivitiesOperation(o)) => (Type::ResetActivity, &o.identity),
            Some(O::UpdateActivityOptionsOperation(o)) => (Type::UpdateActivityOptions, &o.identity),
            Some(O::CancelActivitiesOperation(o)) => (Type::CancelActivity, &o.identity),
            Some(O::TerminateActivitiesOperation(o)) => (Type::TerminateActivity, &o.identity),
            Some(O::DeleteActivitiesOperation(_)) => (Type::DeleteActivity, ""),
        }
    }

    /// What DescribeBatchOperation shows.
    #[must_use]
    #[allow(deprecated)]
    pub fn description(&self) -> DescribeBatchOperationResponse {
        let (kind, identity) = self.operation();
        let listed = self.request.executions.iter().map(|execution| Execution {
            r#type: ExecutionType::Workflow as i32,
            business_id: execution.workflow_id.clone(),
            run_id: execution.run_id.clone(),
        });
        DescribeBatchOperationResponse {
            operation_type: kind as i32,
            job_id: self.record.job_id.clone(),
            state: self.record.state,
            start_time: time(self.record.start_ns),
            close_time: time(self.record.close_ns),
            total_operation_count: self.record.total,
            complete_operation_count: self.record.complete,
            failure_operation_count: self.record.failed,
            identity: identity.to_string(),
            reason: self.request.reason.clone(),
            query: self.request.visibility_query.clone(),
            executions: listed.chain(self.request.target_executions.iter().cloned()).collect(),
        }
    }

    /// What ListBatchOperations shows.
    #[must_use]
    pub fn info(&self) -> BatchOperationInfo {
        BatchOperationInfo {
            job_id: self.record.job_id.clone(),
            state: self.record.state,
            start_time: time(self.record.start_ns),
            close_time: time(self.record.close_ns),
            operation_type: self.operation().0 as i32,
        }
    }
}

/// Reads a job.
///
/// # Errors
/// The outer error if the store fails; the inner one if there is no such job.
pub fn read(store: &dyn Store, entity: &EntityKey) -> Result<Result<Job, Error>, Fault> {
    let context = Context::default();
    let tx = Transaction::new(context, store, entity.clone().into());
    let found = load(&tx).and_then(|record| {
        let request = tx.get(&request_row())?.unwrap_or_default();
        Ok(Job { record, request })
    });
    match found {
        Ok(job) => Ok(Ok(job)),
        Err(Stop::Refused(error)) => Ok(Err(error)),
        Err(Stop::Broken(fault)) => Err(fault),
    }
}

fn record_row() -> Row {
    Row { table: Table::Batch, run: None, id: Vec::new() }
}

fn request_row() -> Row {
    Row { table: Table::BatchRequest, run: None, id: Vec::new() }
}

fn load(tx: &Transaction<'_>) -> Answer<BatchRecord> {
    let job_id = tx.entity.workflow_id.strip_prefix(ENTITY_PREFIX).unwrap_or_default().to_string();
    let missing = || Error::not_found(format!("workflow not found for ID: {job_id}"));
    Ok(tx.get::<BatchRecord>(&record_row())?.ok_or_else(missing)?)
}

pub(crate) fn start(tx: &mut Transaction<'_>, request: &StartBatchOperationRequest) -> Answer<Reply> {
    if let Some(existing) = tx.get::<BatchRecord>(&record_row())? {
        return Err(already_started(&existing).into());
    }
    let run_id = tx.new_run_id();
    let record = BatchRecord {
        job_id: request.job_id.clone(),
        run_id: run_id.to_string(),
        start_request_id: tx.prng.request_id().to_string(),
        state: State::Running as i32,
        start_ns: tx.now(),
        ..BatchRecord::default()
    };
    tx.put(request_row(), request);
    save(tx, &record);
    Ok(empty())
}

fn already_started(existing: &BatchRecord) -> Error {
    let (job, run) = (&existing.job_id, &existing.run_id);
    let message = if existing.state() == State::Running {
        format!("Workflow execution is already running. WorkflowId: {job}, RunId: {run}.")
    } else {
        let rule = "Workflow Id reuse policy: reject duplicate workflow Id.";
        format!("Workflow execution already finished. WorkflowId: {job}, RunId: {run}. {rule}")
    };
    Error::AlreadyStarted {
        message,
        start_request_id: existing.start_request_id.clone(),
        run_id: existing.run_id.clone(),
        first_execution_run_id: existing.run_id.clone(),
    }
}

pub(crate) fn stop(tx: &mut Transaction<'_>, _: &StopBatchOperationRequest) -> Answer<Reply> {
    let mut record = load(tx)?;
    if record.state() != State::Running {
        return Err(already_completed().into());
    }
    close(tx, &mut record, State::Failed)?;
    save(tx, &record);
    Ok(empty())
}

/// A worker's report.
pub(crate) fn advance(tx: &mut Transaction<'_>, report: &AdvanceBatch) -> Answer<Reply> {
    let mut record = load(tx)?;
    if record.state() != State::Running {
        return Err(already_completed().into());
    }
    if record.run_id != report.run_id || record.position != report.from {
        return Err(Error::FailedPrecondition("the batch job is elsewhere".into()).into());
    }
    record.position = report.to.clone();
    record.total = if report.total == 0 { record.total } else { report.total };
    record.complete += report.complete;
    record.failed += report.failed;
    if report.state() != State::Unspecified {
        close(tx, &mut record, report.state())?;
        save(tx, &record);
    } else {
        tx.put(record_row(), &record);
    }
    Ok(empty())
}

fn close(tx: &mut Transaction<'_>, record: &mut BatchRecord, state: State) -> Answer<()> {
    record.state = state as i32;
    record.close_ns = tx.now();
    let due_ns = tx.now().saturating_add(tx.namespace()?.retention_ns);
    tx.add_timer(timer(tx, record, due_ns));
    Ok(())
}

fn save(tx: &mut Transaction<'_>, record: &BatchRecord) {
    tx.put(record_row(), record);
    tx.put_visibility(visibility(tx, record));
}

/// The retention of a job is over.
pub(crate) fn forget(tx: &mut Transaction<'_>, row: &TimerRow) -> Answer<()> {
    tx.remove_timer(row.clone());
    let Some(record) = tx.get::<BatchRecord>(&record_row())?.filter(|record| record.run_id == row.run_id) else {
        return Ok(());
    };
    tx.remove_visibility(visibility(tx, &record));
    tx.delete(record_row());
    tx.delete(request_row());
    Ok(())
}

/// Removes a job, if there is one, whatever its state.
pub(crate) fn erase(tx: &mut Transaction<'_>) -> Answer<()> {
    let Some(record) = tx.get::<BatchRecord>(&record_row())? else { return Ok(()) };
    if record.close_ns != 0 {
        let due_ns = record.close_ns.saturating_add(tx.namespace()?.retention_ns);
        tx.remove_timer(timer(tx, &record, due_ns));
    }
    tx.remove_visibility(visibility(tx, &record));
    tx.delete(record_row());
    tx.delete(request_row());
    Ok(())
}

fn timer(tx: &Transaction<'_>, record: &BatchRecord, due_ns: i64) -> TimerRow {
    TimerRow {
        due_ns,
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: tx.entity.workflow_id.clone(),
        run_id: record.run_id.clone(),
        kind: Kind::Batch as i32,
        id: 0,
    }
}

/// What lists show of a job to those who ask for jobs.
fn visibility(tx: &Transaction<'_>, record: &BatchRecord) -> VisibilityRecord {
    let status = match record.state() {
        State::Completed => Status::Completed,
        State::Failed => Status::Terminated,
        _ => Status::Running,
    };
    let mut attributes = SearchAttributes::default();
    put_division(&mut attributes, DIVISION);
    VisibilityRecord {
        namespace_id: tx.entity.namespace_id.clone(),
        workflow_id: record.job_id.clone(),
        run_id: record.run_id.clone(),
        workflow_type: WORKFLOW_TYPE.into(),
        task_queue: SYSTEM_TASK_QUEUE.into(),
        status: status as i32,
        start_ns: record.start_ns,
        execution_ns: record.start_ns,
        close_ns: record.close_ns,
        search_attributes: Some(attributes),
        space: ListSpace::Batch as i32,
        ..VisibilityRecord::default()
    }
}

/// The byte of a UUID that says how it was made, and what it says of one that is made of names in a way of our own (RFC 9562).
/// Clients' request ids are random ones.
const VERSION_AT: usize = 6;
const VERSION_OF_HASH: u8 = 0x80;

/// The request id of a job's operation on one target: the same however often the job's worker comes by.
#[must_use]
pub fn request_id(job: &BatchRecord, workflow_id: &str, run_id: &str) -> String {
    let text = [job.run_id.as_str(), workflow_id, run_id].join("\0");
    // A number that only these three give, in the form that people know.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in text.bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let mut bytes = RunId::from_random(hash).to_bytes();
    bytes[VERSION_AT] = (bytes[VERSION_AT] & 0x0f) | VERSION_OF_HASH;
    RunId::from_bytes(bytes).to_string()
}

/// The run that a reset with this request id makes, if a job asks for it: a worker that comes by again finds it.
pub(crate) fn run_of_reset(request_id: &str) -> Option<RunId> {
    let id: RunId = request_id.parse().ok()?;
    (id.to_bytes()[VERSION_AT] & 0xf0 == VERSION_OF_HASH).then_some(id)
}
