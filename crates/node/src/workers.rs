//! Workers that report about themselves. Memory only: a worker reports again within a minute, and one that does not is gone.

use std::collections::BTreeMap;
use std::sync::Mutex;

use mainstay_api::temporal::enums::v1::WorkerStatus;
use mainstay_api::temporal::worker::v1::{WorkerHeartbeat, WorkerInfo, WorkerListInfo};
use mainstay_api::temporal::workflowservice::v1::ListWorkersResponse;
use mainstay_base::{Duration, Timestamp};
use mainstay_engine::Error;
use mainstay_visibility::WorkerQuery;

use crate::lock;

/// A worker that reported longer ago than this is forgotten.
const KEPT: Duration = Duration::from_secs(300);
/// Workers remembered; the one that reported longest ago is dropped first.
const WORKERS_MAX: usize = 100_000;
const PAGE_DEFAULT: usize = 100;

/// Namespace id and worker instance key.
type Key = (String, String);

#[derive(Default)]
struct Known {
    workers: BTreeMap<Key, (Timestamp, WorkerHeartbeat)>,
    by_age: BTreeMap<(Timestamp, Key), ()>,
}

impl Known {
    fn forget(&mut self, key: &Key) {
        if let Some((at, _)) = self.workers.remove(key) {
            self.by_age.remove(&(at, key.clone()));
        }
    }

    fn forget_old(&mut self, now: Timestamp) {
        while let Some(((at, key), ())) = self.by_age.first_key_value() {
            if *at + KEPT >= now && self.workers.len() <= WORKERS_MAX {
                break;
            }
            let key = key.clone();
            self.forget(&key);
        }
    }
}

/// The workers that reported lately.
#[derive(Default)]
pub(crate) struct Workers(Mutex<Known>);

impl Workers {
    /// Takes a report; the last one of a worker that is shut down makes it unknown.
    pub(crate) fn record(&self, namespace_id: &str, heartbeat: WorkerHeartbeat, now: Timestamp) {
        if heartbeat.worker_instance_key.is_empty() {
            return;
        }
        let key = (namespace_id.to_string(), heartbeat.worker_instance_key.clone());
        let mut known = lock(&self.0);
        known.forget(&key);
        if heartbeat.status() != WorkerStatus::Shutdown {
            known.by_age.insert((now, key.clone()), ());
            known.workers.insert(key, (now, heartbeat));
        }
        known.forget_old(now);
    }

    /// One worker.
    pub(crate) fn describe(&self, namespace_id: &str, key: &str, now: Timestamp) -> Result<WorkerInfo, Error> {
        let mut known = lock(&self.0);
        known.forget_old(now);
        let found = known.workers.get(&(namespace_id.to_string(), key.to_string()));
        let missing = || Error::not_found(format!("Worker {key} not found"));
        let heartbeat = found.map(|(_, heartbeat)| heartbeat.clone()).ok_or_else(missing)?;
        Ok(WorkerInfo { worker_heartbeat: Some(heartbeat) })
    }

    /// How many workers a filter lets through.
    pub(crate) fn count(&self, namespace_id: &str, filter: &str, now: Timestamp) -> Result<i64, Error> {
        Ok(self.matching(namespace_id, filter, "", usize::MAX, now)?.len() as i64)
    }

    /// A page of the workers that a filter lets through, in order of their keys. The token is the last key of the page before.
    #[allow(deprecated)]
    pub(crate) fn list(
        &self,
        namespace_id: &str,
        filter: &str,
        page_size: i32,
        token: &[u8],
        now: Timestamp,
    ) -> Result<ListWorkersResponse, Error> {
        let size = usize::try_from(page_size).ok().filter(|size| *size > 0).unwrap_or(PAGE_DEFAULT);
        let after = std::str::from_utf8(token).map_err(|_| Error::invalid("invalid next_page_token"))?;
        let mut page = self.matching(namespace_id, filter, after, size.saturating_add(1), now)?;
        let more = page.len() > size;
        page.truncate(size);
        let last = page.last().filter(|_| more).map(|heartbeat| heartbeat.worker_instance_key.clone());
        Ok(ListWorkersResponse {
            workers: page.iter().map(list_info).collect(),
            workers_info: page.into_iter().map(|h| WorkerInfo { worker_heartbeat: Some(h) }).collect(),
            next_page_token: last.map(String::into_bytes).unwrap_or_default().into(),
        })
    }

    fn matching(
        &self,
        namespace_id: &str,
        filter: &str,
        after: &str,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<WorkerHeartbeat>, Error> {
        let query = WorkerQuery::parse(filter).map_err(Error::InvalidArgument)?;
        let mut known = lock(&self.0);
        known.forget_old(now);
        let from = (namespace_id.to_string(), after.to_string());
        let own = known.workers.range(from..).take_while(|((namespace, _), _)| namespace == namespace_id);
        let rest = own.filter(|((_, key), _)| after.is_empty() || key != after);
        let found = rest.map(|(_, (_, heartbeat))| heartbeat).filter(|heartbeat| query.matches(heartbeat));
        Ok(found.take(max).cloned().collect())
    }
}

/// What a list shows of a worker.
fn list_info(h: &WorkerHeartbeat) -> WorkerListInfo {
    let host = h.host_info.clone().unwrap_or_default();
    WorkerListInfo {
        worker_instance_key: h.worker_instance_key.clone(),
        worker_identity: h.worker_identity.clone(),
        task_queue: h.task_queue.clone(),
        deployment_version: h.deployment_version.clone(),
        sdk_name: h.sdk_name.clone(),
        sdk_version: h.sdk_version.clone(),
        status: h.status,
        start_time: h.start_time,
        host_name: host.host_name,
        worker_grouping_key: host.worker_grouping_key,
        process_id: host.process_id,
        plugins: h.plugins.clone(),
        drivers: h.drivers.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn beat(key: &str, status: WorkerStatus) -> WorkerHeartbeat {
        WorkerHeartbeat { worker_instance_key: key.into(), status: status as i32, ..WorkerHeartbeat::default() }
    }

    #[test]
    fn a_worker_is_known_until_it_is_shut_down_or_silent() {
        let workers = Workers::default();
        workers.record("n", beat("a", WorkerStatus::Running), at(0));
        workers.record("n", beat("b", WorkerStatus::Running), at(200));
        assert!(workers.describe("n", "a", at(300)).is_ok() && workers.describe("m", "a", at(300)).is_err());
        assert_eq!(workers.count("n", "", at(301)).expect("counts"), 1);
        workers.record("n", beat("b", WorkerStatus::Shutdown), at(302));
        assert_eq!(workers.describe("n", "b", at(303)), Err(Error::not_found("Worker b not found")));
        assert!(lock(&workers.0).by_age.is_empty());
    }

    #[test]
    fn pages_go_on_after_the_last_key() {
        let workers = Workers::default();
        for key in ["c", "a", "b"] {
            workers.record("n", beat(key, WorkerStatus::Running), at(0));
        }
        let first = workers.list("n", "", 2, b"", at(1)).expect("lists");
        assert_eq!(first.next_page_token, "b");
        let second = workers.list("n", "", 2, &first.next_page_token, at(1)).expect("lists");
        assert_eq!((second.workers.len(), second.next_page_token.len()), (1, 0));
    }
}
