//! After the last fault: waiting until nothing is open any more, and reading all that there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mainstay_api::temporal::common::v1::WorkflowExecution;
use mainstay_api::temporal::enums::v1::BatchOperationState;
use mainstay_api::temporal::schedule::v1::SchedulePatch;
use mainstay_api::temporal::workflow::v1::WorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_api::temporal::workflowservice::v1::unpause_activity_request::Activity;
use mainstay_runtime::AsyncRuntime;
use mainstay_sim_runtime::{SimRuntime, trace};
use tonic::Code;

use crate::client::{CALL_TIMEOUT, Client, NAMESPACE, insist};
use crate::ledger::{BegunJob, Ledger};
use crate::oracle::Run;
use crate::world::World;

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A server looks no longer for a leader that takes a command.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(12);
/// Looks after which what is still paused goes on: a request that was given up may have come after the one that should end it.
const LOOKS: u32 = 200;

/// All that there is at the end.
pub struct End {
    /// Every run.
    pub runs: Vec<Run>,
    /// Every batch job that was acknowledged.
    pub jobs: BTreeMap<String, Job>,
}

/// A batch job at its end.
pub struct Job {
    /// As it was begun.
    pub begun: BegunJob,
    /// As it is described.
    pub described: api::DescribeBatchOperationResponse,
}

/// Waits until nothing is open, and reads every history.
pub async fn settle(world: &World, ledger: &Arc<Ledger>) -> End {
    while world.is_split_under_way() {
        SimRuntime::sleep(LOOK_EVERY).await;
    }
    let client = Client::new(&world.addresses(), 0, "reader");
    let ledger = ledger.clone();
    let reading = world.clients.spawn(async move {
        let (mut looks, mut quiet) = (0, false);
        let jobs = loop {
            let schedules = open_schedules(&client, &ledger).await;
            let jobs = jobs(&client, &ledger).await;
            let busy = jobs.values().filter(|job| job.described.state() == BatchOperationState::Running).count();
            let open = open_runs(&client).await;
            if open.is_empty() && schedules.is_empty() && busy == 0 {
                if quiet {
                    break jobs;
                }
                // What a client gave up may be on its way inside the servers yet, and begin something.
                quiet = true;
                SimRuntime::sleep(GIVEN_UP_WITHIN).await;
                continue;
            }
            quiet = false;
            looks += 1;
            if looks % 60 == 0 {
                let open: Vec<_> = open.iter().map(|it| &it.execution).collect();
                trace::event(format!("still open: {open:?}, {schedules:?}, {busy} batch jobs"));
                for execution in open.into_iter().flatten() {
                    show(&client, execution).await;
                }
            }
            if looks == LOOKS {
                resume(&client, open.into_iter().filter_map(|it| it.execution), &schedules).await;
            }
            SimRuntime::sleep(LOOK_EVERY).await;
        };
        let mut runs = Vec::new();
        for listed in listed(&client).await {
            let execution = listed.execution.unwrap_or_default();
            let raw = client.history(&execution).await;
            let raw = raw.unwrap_or_else(|status| panic!("the history of {execution:?}: {status:?}"));
            runs.push(Run::of(execution, raw));
        }
        End { runs, jobs }
    });
    reading.await.expect("the reader lives")
}

/// Has everything go on that is paused: a request that was given up may have come after the one that should end it.
pub async fn go_on(world: &World, ledger: &Arc<Ledger>) {
    let client = Client::new(&world.addresses(), 0, "reader");
    let ledger = ledger.clone();
    let asking = world.clients.spawn(async move {
        let open = open_runs(&client).await.into_iter().filter_map(|it| it.execution);
        resume(&client, open, &open_schedules(&client, &ledger).await).await;
    });
    asking.await.expect("the reader lives");
}

async fn open_runs(client: &Client) -> Vec<WorkflowExecutionInfo> {
    let open = client.list("ExecutionStatus = 'Running' OR ExecutionStatus = 'Paused'").await;
    open.unwrap_or_else(|status| panic!("a list was refused: {status:?}"))
}

/// Where a run stands.
async fn show(client: &Client, execution: &WorkflowExecution) {
    let Ok(raw) = client.history(execution).await else { return };
    for event in Run::of(execution.clone(), raw).events {
        let time = event.event_time.map(|time| (time.seconds, time.nanos / 1_000_000));
        trace::event(format!("  {} {:?} at {time:?}", event.event_id, event.event_type()));
    }
}

/// All runs as lists show them.
pub async fn listed(client: &Client) -> Vec<WorkflowExecutionInfo> {
    client.list("").await.unwrap_or_else(|status| panic!("a list was refused: {status:?}"))
}

/// Schedules that have actions left.
async fn open_schedules(client: &Client, ledger: &Ledger) -> Vec<String> {
    let made = ledger.promises().schedules.clone();
    let mut open = Vec::new();
    for (id, made) in made {
        let request = api::DescribeScheduleRequest { namespace: NAMESPACE.into(), schedule_id: id.clone() };
        match insist!(client.stub, CALL_TIMEOUT, describe_schedule, request.clone()) {
            Ok(described) => {
                if described.info.unwrap_or_default().action_count < made.count as i64 {
                    open.push(id);
                }
            }
            // Nobody promised that it was made; or it is closed, as one without actions is after some time.
            Err(status) => assert_eq!(status.code(), Code::NotFound, "schedule {id}: {status:?}"),
        }
    }
    open
}

async fn jobs(client: &Client, ledger: &Ledger) -> BTreeMap<String, Job> {
    let ids = ledger.promises().jobs.clone();
    let mut jobs = BTreeMap::new();
    for (job_id, begun) in ids {
        let request = api::DescribeBatchOperationRequest { namespace: NAMESPACE.into(), job_id: job_id.clone() };
        let described = insist!(client.stub, CALL_TIMEOUT, describe_batch_operation, request.clone());
        let described = described.unwrap_or_else(|status| panic!("batch job {job_id}: {status:?}"));
        jobs.insert(job_id, Job { begun, described });
    }
    jobs
}

async fn resume(client: &Client, open: impl Iterator<Item = WorkflowExecution>, schedules: &[String]) {
    trace::event("what is paused goes on");
    for execution in open {
        let request = api::UnpauseWorkflowExecutionRequest {
            namespace: NAMESPACE.into(),
            workflow_id: execution.workflow_id.clone(),
            run_id: execution.run_id.clone(),
            request_id: "go-on".into(),
            ..Default::default()
        };
        let _ = insist!(client.stub, CALL_TIMEOUT, unpause_workflow_execution, request.clone());
        let request = api::UnpauseActivityRequest {
            namespace: NAMESPACE.into(),
            execution: Some(execution),
            activity: Some(Activity::UnpauseAll(true)),
            ..Default::default()
        };
        let _ = insist!(client.stub, CALL_TIMEOUT, unpause_activity, request.clone());
    }
    for id in schedules {
        let request = api::PatchScheduleRequest {
            namespace: NAMESPACE.into(),
            schedule_id: id.clone(),
            patch: Some(SchedulePatch { unpause: "go on".into(), ..SchedulePatch::default() }),
            ..Default::default()
        };
        let _ = insist!(client.stub, CALL_TIMEOUT, patch_schedule, request.clone());
    }
}
