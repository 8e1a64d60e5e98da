//! What creates and changes schedules.

use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::enums::v1::WorkflowIdReusePolicy as Reuse;
use mainstay_api::temporal::schedule::v1::{Schedule, SchedulePatch, schedule_action::Action};
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_calendar::Spec;
use mainstay_engine::Error;
use mainstay_engine::schedule::entity_id;

use crate::status::{Answer, Refusal, invalid};
use crate::validate::sizes::{self, Blobs};
use crate::validate::{search_attributes, start, task_queue, workflow_id_length};

const NOTES_LENGTH_MAX: usize = 1_000;
/// What the time of an action adds to the workflow id.
const TIME_SUFFIX_LENGTH: usize = "-2009-11-10T23:00:00Z".len();

/// A schedule's id. Texts speak of the workflow that a schedule is on other servers.
pub(crate) fn id(schedule_id: &str) -> Answer<()> {
    if schedule_id.is_empty() {
        return Err(invalid("Can't load workflow execution. WorkflowId not set."));
    }
    workflow_id_length(entity_id(schedule_id).len())
}

/// Checks a schedule and completes its action.
pub(crate) fn definition(schedule: &mut Schedule, namespace: &NamespaceRecord, blobs: Blobs) -> Answer<()> {
    let spec = schedule.spec.clone().unwrap_or_default();
    Spec::compile(&spec).map_err(|error| Refusal::from(Error::invalid(error.to_string())))?;
    if schedule.state.as_ref().is_some_and(|state| state.remaining_actions < 0) {
        return Err(invalid("Invalid schedule state: RemainingActions is negative"));
    }
    match schedule.action.as_mut().and_then(|action| action.action.as_mut()) {
        Some(Action::StartWorkflow(workflow)) => action(workflow, namespace, blobs),
        None => Ok(()),
    }
}

/// Whether there is something to do at all, as an update must say.
pub(crate) fn has_action(schedule: Option<&Schedule>) -> Answer<()> {
    let action = schedule.and_then(|schedule| schedule.action.as_ref()).and_then(|action| action.action.as_ref());
    match action {
        Some(Action::StartWorkflow(_)) => Ok(()),
        None => Err(invalid("Only StartWorkflow action is supported for schedules")),
    }
}

/// A patch that is given, and its notes.
pub(crate) fn patch(patch: Option<&SchedulePatch>) -> Answer<()> {
    let Some(patch) = patch else { return Err(invalid("Patch is not set on request.")) };
    if patch.pause.len() > NOTES_LENGTH_MAX || patch.unpause.len() > NOTES_LENGTH_MAX {
        return Err(invalid("Schedule notes exceeds limit."));
    }
    Ok(())
}

fn action(workflow: &mut NewWorkflowExecutionInfo, namespace: &NamespaceRecord, blobs: Blobs) -> Answer<()> {
    workflow_id_length(workflow.workflow_id.len() + TIME_SUFFIX_LENGTH)?;
    start::workflow_type(workflow.workflow_type.as_ref(), "WorkflowType is not set on request.")?;
    workflow.task_queue.get_or_insert_default();
    task_queue::normalise(&mut workflow.task_queue)?;
    let (execution, run, task) = (
        &mut workflow.workflow_execution_timeout,
        &mut workflow.workflow_run_timeout,
        &mut workflow.workflow_task_timeout,
    );
    start::Timeouts { execution, run, task }.normalise()?;
    if !workflow.cron_schedule.is_empty() {
        return Err(invalid("Scheduled workflow must not contain CronSchedule"));
    }
    if !matches!(workflow.workflow_id_reuse_policy(), Reuse::Unspecified | Reuse::AllowDuplicate) {
        return Err(invalid("Scheduled workflow must not contain WorkflowIDReusePolicy"));
    }
    blobs.check(workflow.input.as_ref())?;
    blobs.check(workflow.header.as_ref())?;
    sizes::memo(workflow.memo.as_ref())?;
    search_attributes::normalise(&mut workflow.search_attributes, namespace)
}

#[cfg(test)]
mod tests {
    use mainstay_api::temporal::common::v1::WorkflowType;
    use mainstay_api::temporal::schedule::v1::{ScheduleAction, ScheduleState};
    use mainstay_api::temporal::taskqueue::v1::TaskQueue;

    use super::*;
    use crate::status::status_of;

    const BLOBS: Blobs = Blobs(1 << 20);

    fn text(answer: Answer<()>) -> String {
        answer.err().map(|refusal| status_of(&refusal).message().to_string()).unwrap_or_default()
    }

    fn with(change: impl FnOnce(&mut NewWorkflowExecutionInfo)) -> String {
        let mut workflow = NewWorkflowExecutionInfo {
            workflow_id: "wf".into(),
            workflow_type: Some(WorkflowType { name: "T".into() }),
            task_queue: Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() }),
            ..NewWorkflowExecutionInfo::default()
        };
        change(&mut workflow);
        let action = Some(ScheduleAction { action: Some(Action::StartWorkflow(workflow)) });
        text(definition(&mut Schedule { action, ..Schedule::default() }, &NamespaceRecord::default(), BLOBS))
    }

    #[test]
    fn texts_are_the_reference_servers() {
        let long = "x".repeat(1001);
        assert_eq!(text(id("")), "Can't load workflow execution. WorkflowId not set.");
        assert_eq!(text(id(&long)), "WorkflowId exceeds maximum allowed length (1024/1000)");
        assert_eq!(with(|_| {}), "");
        assert_eq!(with(|w| w.workflow_id.clear()), "");
        assert_eq!(with(|w| w.workflow_id = long.clone()), "WorkflowId exceeds maximum allowed length (1022/1000)");
        assert_eq!(with(|w| w.workflow_type = None), "WorkflowType is not set on request.");
        assert_eq!(with(|w| w.task_queue = None), "missing task queue name");
        assert_eq!(with(|w| w.cron_schedule = "* * * * *".into()), "Scheduled workflow must not contain CronSchedule");
        assert_eq!(
            with(|w| w.set_workflow_id_reuse_policy(Reuse::RejectDuplicate)),
            "Scheduled workflow must not contain WorkflowIDReusePolicy"
        );
        assert_eq!(with(|w| w.set_workflow_id_reuse_policy(Reuse::AllowDuplicate)), "");
        assert_eq!(text(patch(None)), "Patch is not set on request.");
        assert_eq!(
            text(patch(Some(&SchedulePatch { pause: long, ..SchedulePatch::default() }))),
            "Schedule notes exceeds limit."
        );
    }

    #[test]
    fn a_negative_limit_is_refused() {
        let state = ScheduleState { limited_actions: true, remaining_actions: -1, ..ScheduleState::default() };
        let mut schedule = Schedule { state: Some(state), ..Schedule::default() };
        let answer = definition(&mut schedule, &NamespaceRecord::default(), BLOBS);
        assert_eq!(text(answer), "Invalid schedule state: RemainingActions is negative");
    }
}
