//! Reads of schedules: described, listed, counted. What changes them are commands like others.

use std::time::Duration;

use mainstay_api::temporal::workflowservice::v1::{
    CountSchedulesResponse, DescribeScheduleResponse, ListSchedulesResponse,
};
use mainstay_base::Timestamp;
use mainstay_engine::schedule;
use mainstay_engine::{EntityKey, Error, Fault, Store};
use mainstay_runtime::{Instant, Runtime};
use mainstay_shard::ListSpace;
use mainstay_visibility::Query;
use prost_types::Timestamp as ProtoTimestamp;

use crate::list::RowPage;
use crate::node::Node;
use crate::service::Namespace;
use crate::unreadable;

/// How long a description waits for actions whose start is on its way.
const STARTED_WITHIN: Duration = Duration::from_millis(500);
const STARTED_PAUSE: Duration = Duration::from_millis(5);

impl<R: Runtime> Node<R> {
    /// Describes a schedule. Who just asked it to act wants to see that it did: actions whose start is on its way are waited for.
    pub(crate) async fn schedule_description(
        &self,
        namespace: &Namespace,
        schedule_id: &str,
    ) -> Result<DescribeScheduleResponse, Error> {
        let deadline = R::Instant::now() + STARTED_WITHIN;
        while R::Instant::now() < deadline && self.read_schedule(namespace, schedule_id, schedule::is_starting)? {
            R::sleep(STARTED_PAUSE).await;
        }
        let now = self.now();
        self.read_schedule(namespace, schedule_id, |store, entity| schedule::describe(store, entity, now))
    }

    pub(crate) fn schedule_times_between(
        &self,
        namespace: &Namespace,
        schedule_id: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<ProtoTimestamp>, Error> {
        self.read_schedule(namespace, schedule_id, |store, entity| schedule::matching_times(store, entity, from, to))
    }

    fn read_schedule<T>(
        &self,
        namespace: &Namespace,
        schedule_id: &str,
        read: impl FnOnce(&dyn Store, &EntityKey) -> Result<Result<T, Error>, Fault>,
    ) -> Result<T, Error> {
        let entity = EntityKey { namespace_id: namespace.id.clone(), workflow_id: schedule::entity_id(schedule_id) };
        let shard = self.shard(self.route(&entity))?;
        shard.read(|store| read(store, &entity)).map_err(unreadable)?
    }

    pub(crate) async fn schedule_page(
        &self,
        namespace: Namespace,
        filter: String,
        page_size: usize,
        page_token: Vec<u8>,
    ) -> Result<ListSchedulesResponse, Error> {
        let query = schedule_query(&filter, &namespace)?;
        let node = self.clone();
        R::disk(move || {
            let page = RowPage { namespace_id: &namespace.id, query: &query, token: &page_token, size: page_size };
            let (rows, next_page_token) = node.row_page(&page, &[ListSpace::Schedules])?;
            let now = node.now();
            let mut schedules = Vec::with_capacity(rows.len());
            for row in rows {
                let id = schedule::id_of(&row.workflow_id);
                match node.read_schedule(&namespace, id, |store, entity| schedule::list_entry(store, entity, now)) {
                    Ok(entry) => schedules.push(entry),
                    // Deleted since the row was read.
                    Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(ListSchedulesResponse { schedules, next_page_token: next_page_token.into() })
        })
        .await
    }

    pub(crate) async fn schedule_count(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> Result<CountSchedulesResponse, Error> {
        let query = schedule_query(&filter, &namespace)?;
        let node = self.clone();
        R::disk(move || {
            let mut count = 0;
            node.visit_rows(&namespace.id, &query, &[ListSpace::Schedules], &mut |_| count += 1)?;
            Ok(CountSchedulesResponse { count, ..CountSchedulesResponse::default() })
        })
        .await
    }
}

fn schedule_query(filter: &str, namespace: &Namespace) -> Result<Query, Error> {
    Query::parse_schedules(filter, &namespace.search_attributes).map_err(Error::InvalidArgument)
}
