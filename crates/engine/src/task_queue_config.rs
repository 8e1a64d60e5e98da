//! The configuration of a task queue: rates and fairness weights that people set. It is kept in the metadata group, one row for each
//! queue and type, and obeyed by matching.

use mainstay_api::log::{Reply, reply};
use mainstay_api::temporal::taskqueue::v1::{ConfigMetadata, RateLimitConfig, TaskQueueConfig};
use mainstay_api::temporal::workflowservice::v1::update_task_queue_config_request::RateLimitUpdate;
use mainstay_api::temporal::workflowservice::v1::{UpdateTaskQueueConfigRequest, UpdateTaskQueueConfigResponse};

use crate::convert::time;
use crate::store::{Row, Table};
use crate::transaction::Transaction;
use crate::{Answer, Error, reply_of};

/// Fairness weights that one queue may override.
const WEIGHTS_MAX: usize = 1_000;

/// The id of a queue's row: its type, then its name.
pub fn row_id(task_queue_type: i32, name: &str) -> Vec<u8> {
    let mut id = vec![task_queue_type as u8];
    id.extend_from_slice(name.as_bytes());
    id
}

/// What [`row_id`] was made of.
pub fn of_row_id(id: &[u8]) -> Option<(i32, String)> {
    let (kind, name) = id.split_first()?;
    Some((i32::from(*kind), String::from_utf8_lossy(name).into_owned()))
}

pub(crate) fn update(tx: &mut Transaction<'_>, request: &UpdateTaskQueueConfigRequest) -> Answer<Reply> {
    let id = row_id(request.task_queue_type, &request.task_queue);
    let row = Row { table: Table::TaskQueueConfig, run: None, id };
    let stored: Option<TaskQueueConfig> = tx.get(&row)?;
    let mut config = stored.clone().unwrap_or_default();
    let limit = |update: &RateLimitUpdate| RateLimitConfig {
        rate_limit: update.rate_limit,
        metadata: Some(ConfigMetadata {
            reason: update.reason.clone(),
            update_identity: request.identity.clone(),
            update_time: time(tx.now()),
        }),
    };
    if let Some(update) = &request.update_queue_rate_limit {
        config.queue_rate_limit = Some(limit(update));
    }
    if let Some(update) = &request.update_fairness_key_rate_limit_default {
        config.fairness_keys_rate_limit_default = Some(limit(update));
    }
    config.fairness_weight_overrides.extend(request.set_fairness_weight_overrides.clone());
    for key in &request.unset_fairness_weight_overrides {
        config.fairness_weight_overrides.remove(key);
    }
    if config.fairness_weight_overrides.len() > WEIGHTS_MAX {
        let text = format!("fairness weight overrides count exceeds limit of {WEIGHTS_MAX}");
        return Err(Error::invalid(text).into());
    }
    if stored.is_some() || config != TaskQueueConfig::default() {
        tx.put(row, &config);
    }
    Ok(reply_of(reply::Reply::TaskQueueConfig(UpdateTaskQueueConfigResponse { config: Some(config) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_id_tells_queue_and_type() {
        assert_eq!(of_row_id(&row_id(2, "tq")), Some((2, "tq".to_string())));
        assert_eq!(of_row_id(&row_id(0, "")), Some((0, String::new())));
        assert_eq!(of_row_id(&[]), None);
    }
}
