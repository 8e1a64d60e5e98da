//! Task queue names.

use mainstay_api::temporal::enums::v1::TaskQueueKind;
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_base::limits::ID_LENGTH_MAX;

use crate::status::{Answer, invalid};

const RESERVED_PREFIX: &str = "/_sys/";

/// Checks a task queue and gives it a kind.
pub(crate) fn normalise(queue: &mut Option<TaskQueue>) -> Answer<()> {
    normalise_any(queue)?;
    let named = queue.iter().flat_map(|queue| [&queue.name, &queue.normal_name]);
    if named.into_iter().any(|name| name.starts_with(RESERVED_PREFIX)) {
        return Err(invalid(format!("task queue name cannot start with reserved prefix {RESERVED_PREFIX}")));
    }
    Ok(())
}

/// The same for a queue that is only looked at: names of partitions are names too.
pub(crate) fn normalise_any(queue: &mut Option<TaskQueue>) -> Answer<()> {
    let Some(queue) = queue else { return Err(invalid("taskQueue is not set")) };
    name(&queue.name)?;
    if queue.kind() == TaskQueueKind::Unspecified {
        queue.kind = TaskQueueKind::Normal as i32;
    }
    if queue.kind() == TaskQueueKind::Sticky && !queue.normal_name.is_empty() {
        name(&queue.normal_name)?;
    }
    Ok(())
}

fn name(name: &str) -> Answer<()> {
    if name.is_empty() {
        return Err(invalid("missing task queue name"));
    }
    if name.len() > ID_LENGTH_MAX {
        return Err(invalid("taskQueue length exceeds limit"));
    }
    Ok(())
}
