//! The filter language for workers: the same grammar, other names, fewer operators, and heartbeats instead of rows.
//!
//! Only what cannot be read is an error. What is read and means nothing here (an unknown name, `IN`, `NOT`, `IS NULL`) lets no
//! worker through.

use std::cmp::Ordering;

use mainstay_api::temporal::worker::v1::WorkerHeartbeat;
use prost_types::Timestamp;

use crate::ast::Ast;
use crate::{grammar, literal};

/// A filter, ready to test workers.
#[derive(Clone, Debug)]
pub struct WorkerQuery(Option<Ast>);

/// What a test could not decide.
struct Meaningless;

/// A worker's attribute.
enum Field {
    Text(String),
    /// Microseconds since the epoch.
    Time(i64),
}

impl WorkerQuery {
    /// Reads a filter; an empty one lets all workers through.
    ///
    /// # Errors
    /// Temporal's text for INVALID_ARGUMENT.
    pub fn parse(filter: &str) -> Result<Self, String> {
        if filter.trim().is_empty() {
            return Ok(Self(None));
        }
        let statement = grammar::parse_where(filter).map_err(|error| format!("malformed query: {error}"))?;
        Ok(Self(statement.filter))
    }

    /// Whether the filter lets a worker through.
    pub fn matches(&self, worker: &WorkerHeartbeat) -> bool {
        self.0.as_ref().is_none_or(|filter| test(filter, worker).unwrap_or(false))
    }
}

fn test(filter: &Ast, worker: &WorkerHeartbeat) -> Result<bool, Meaningless> {
    match filter {
        Ast::Paren(inner) => test(inner, worker),
        Ast::And(all) => {
            let tests: Result<Vec<bool>, Meaningless> = all.iter().map(|one| test(one, worker)).collect();
            Ok(tests?.into_iter().all(|yes| yes))
        }
        Ast::Or(any) => {
            let tests: Result<Vec<bool>, Meaningless> = any.iter().map(|one| test(one, worker)).collect();
            Ok(tests?.into_iter().any(|yes| yes))
        }
        Ast::Compare { left, operator, right, .. } => compare(&field(left, worker)?, operator, right),
        Ast::Range { left, negated, from, to } => {
            let Field::Time(at) = field(left, worker)? else { return Err(Meaningless) };
            Ok((time(from)? <= at && at <= time(to)?) != *negated)
        }
        _ => Err(Meaningless),
    }
}

fn field(name: &Ast, worker: &WorkerHeartbeat) -> Result<Field, Meaningless> {
    let Ast::Column(name) = name else { return Err(Meaningless) };
    let deployment = worker.deployment_version.clone().unwrap_or_default();
    let text = match name.as_str() {
        "WorkerInstanceKey" => worker.worker_instance_key.clone(),
        "WorkerIdentity" => worker.worker_identity.clone(),
        "HostName" => worker.host_info.clone().unwrap_or_default().host_name,
        "TaskQueue" => worker.task_queue.clone(),
        "DeploymentName" => deployment.deployment_name,
        "BuildId" => deployment.build_id,
        "SdkName" => worker.sdk_name.clone(),
        "SdkVersion" => worker.sdk_version.clone(),
        "WorkerStatus" | "Status" | "status" => status(worker),
        "StartTime" => return Ok(Field::Time(micros(worker.start_time.as_ref()))),
        "HeartbeatTime" => return Ok(Field::Time(micros(worker.heartbeat_time.as_ref()))),
        _ => return Err(Meaningless),
    };
    Ok(Field::Text(text))
}

/// `WORKER_STATUS_SHUTTING_DOWN` as `ShuttingDown`.
fn status(worker: &WorkerHeartbeat) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    worker.status().as_str_name().trim_start_matches("WORKER_STATUS_").split('_').map(word).collect()
}

fn micros(at: Option<&Timestamp>) -> i64 {
    at.map_or(0, |at| at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos / 1_000)))
}

fn time(value: &Ast) -> Result<i64, Meaningless> {
    match value {
        Ast::Value(_, text) => literal::time(text).ok_or(Meaningless),
        _ => Err(Meaningless),
    }
}

fn compare(field: &Field, operator: &str, value: &Ast) -> Result<bool, Meaningless> {
    let Ast::Value(_, text) = value else { return Err(Meaningless) };
    match (field, operator) {
        (Field::Text(own), "=") => Ok(own == text),
        (Field::Text(own), "!=") => Ok(own != text),
        (Field::Text(own), "starts_with") => Ok(own.starts_with(text.as_str())),
        (Field::Text(own), "not starts_with") => Ok(!own.starts_with(text.as_str())),
        (Field::Text(_), _) => Err(Meaningless),
        (Field::Time(at), _) => {
            let order = at.cmp(&time(value)?);
            match operator {
                "=" => Ok(order == Ordering::Equal),
                "!=" => Ok(order != Ordering::Equal),
                "<" => Ok(order == Ordering::Less),
                "<=" => Ok(order != Ordering::Greater),
                ">" => Ok(order == Ordering::Greater),
                ">=" => Ok(order != Ordering::Less),
                _ => Err(Meaningless),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_api::temporal::enums::v1::WorkerStatus;

    fn matches(filter: &str) -> bool {
        let worker = WorkerHeartbeat {
            worker_identity: "me".into(),
            task_queue: "tq".into(),
            status: WorkerStatus::ShuttingDown as i32,
            start_time: Some(Timestamp { seconds: 1_299_215_167, nanos: 0 }),
            ..WorkerHeartbeat::default()
        };
        WorkerQuery::parse(filter).expect("reads").matches(&worker)
    }

    #[test]
    fn names_and_operators() {
        assert!(matches("") && matches("TaskQueue = 'tq' AND (WorkerIdentity = 'you' OR Status = 'ShuttingDown')"));
        assert!(matches("WorkerIdentity STARTS_WITH 'm'") && !matches("WorkerIdentity != 'me'"));
        assert!(matches("StartTime BETWEEN '2000-01-01T00:00:00Z' AND '2020-01-01T00:00:00Z'"));
        assert!(!matches("StartTime < '2000-01-01T00:00:00Z'"));
    }

    #[test]
    fn what_means_nothing_finds_nothing() {
        for filter in ["NoSuch = 1", "TaskQueue", "TaskQueue > 'a'", "NOT TaskQueue = 'x'", "HostName IS NULL"] {
            assert!(!matches(filter), "{filter}");
        }
        assert!(!matches("TaskQueue IN ('tq')"));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        let text = |filter| WorkerQuery::parse(filter).map(drop).expect_err("is refused");
        assert_eq!(text("TaskQueue ="), "malformed query: syntax error at position 39");
        assert_eq!(text("ORDER BY TaskQueue"), "malformed query: syntax error at position 33 near 'order'");
    }
}
