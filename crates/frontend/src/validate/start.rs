//! What starts a workflow: StartWorkflowExecution, and the start inside SignalWithStart.

use mainstay_api::temporal::common::v1::{Callback, RetryPolicy, WorkflowType, callback::Variant};
use mainstay_api::temporal::enums::v1::{WorkflowIdConflictPolicy as Conflict, WorkflowIdReusePolicy as Reuse};
use mainstay_calendar::CronSchedule;
use prost_types::Duration;

use crate::status::{Answer, invalid};
use crate::validate::{length, retry, times};

/// The durations of a start, by the names that error texts use.
pub(crate) struct Timeouts<'a> {
    pub(crate) execution: &'a mut Option<Duration>,
    pub(crate) run: &'a mut Option<Duration>,
    pub(crate) task: &'a mut Option<Duration>,
}

impl Timeouts<'_> {
    pub(crate) fn normalise(self) -> Answer<()> {
        let fields = [
            ("WorkflowExecutionTimeout", self.execution),
            ("WorkflowRunTimeout", self.run),
            ("WorkflowTaskTimeout", self.task),
        ];
        for (name, value) in fields {
            times::normalise(value)
                .map_err(|wrong| invalid(format!("An invalid {name}Seconds is set on request. cause: {wrong}")))?;
        }
        Ok(())
    }
}

/// When the first task may come: by cron or after a delay, not both.
pub(crate) fn delay(cron: &str, delay: &mut Option<Duration>) -> Answer<()> {
    if !cron.is_empty() && times::is_set(delay.as_ref()) {
        return Err(invalid("CronSchedule and WorkflowStartDelay may not be used together."));
    }
    times::normalise(delay)
        .map_err(|wrong| invalid(format!("An invalid WorkflowStartDelaySeconds is set on request. cause: {wrong}")))
}

/// A cron expression, or none.
pub(crate) fn cron(text: &str) -> Answer<()> {
    if !text.is_empty() && CronSchedule::parse(text).is_err() {
        return Err(invalid("invalid CronSchedule."));
    }
    Ok(())
}

/// A workflow type.
pub(crate) fn workflow_type(value: Option<&WorkflowType>, missing: &str) -> Answer<()> {
    let name = value.map(|t| t.name.as_str()).unwrap_or_default();
    if name.is_empty() {
        return Err(invalid(missing));
    }
    length("WorkflowType", name)
}

/// The policies, alone and together.
#[allow(deprecated)]
pub(crate) fn policies(reuse: Reuse, conflict: Conflict) -> Answer<()> {
    let name = reuse.as_str_name();
    if reuse == Reuse::TerminateIfRunning && conflict != Conflict::Unspecified {
        let text =
            format!("Invalid WorkflowIDReusePolicy: {name} cannot be used together with a WorkflowIDConflictPolicy");
        return Err(invalid(text));
    }
    if reuse == Reuse::RejectDuplicate && conflict == Conflict::TerminateExisting {
        let text = format!(
            "Invalid WorkflowIDReusePolicy: {name} cannot be used together with WorkflowIdConflictPolicy {}",
            conflict.as_str_name()
        );
        return Err(invalid(text));
    }
    Ok(())
}

/// A retry policy, or none.
pub(crate) fn retry_policy(policy: &mut Option<RetryPolicy>) -> Answer<()> {
    retry::check(policy.as_mut())
}

/// Callbacks: no address is allowed, as in a server that nobody configured.
pub(crate) fn callbacks(callbacks: &[Callback]) -> Answer<()> {
    let Some(callback) = callbacks.first() else { return Ok(()) };
    let Some(Variant::Nexus(nexus)) = &callback.variant else {
        return Err(invalid("unknown callback variant"));
    };
    let text = format!("invalid callback url: url does not match any configured callback address: {}", nexus.url);
    Err(invalid(text))
}
