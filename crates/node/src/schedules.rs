//! Reads of schedules: described, listed, counted. What changes them are commands like others.

use std::time::Duration;

use bytes::Bytes;
use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::schedule::v1::ScheduleListEntry;
use mainstay_api::temporal::workflowservice::v1::{
    CountSchedulesResponse, DescribeScheduleResponse, ListSchedulesResponse,
};
use mainstay_base::Timestamp;
use mainstay_engine::schedule;
use mainstay_engine::{EntityKey, Error, Fault, Store};
use mainstay_runtime::{Instant, Runtime};
use prost::Message;
use prost_types::Timestamp as ProtoTimestamp;

use crate::gather::{Ask, Listed};
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
        let ask = Ask::new(&namespace, Listed::Schedules, filter).page(page_size, page_token);
        let read = self.gather_rows(ask).await?;
        let entries = read.rows.into_iter().map(|row| ScheduleListEntry::decode(row.shown));
        let schedules = entries.collect::<Result<_, _>>().map_err(unreadable)?;
        Ok(ListSchedulesResponse { schedules, next_page_token: read.token })
    }

    /// What a list shows of a schedule, encoded. None if it was deleted since its row was read.
    pub(crate) fn shown_schedule(&self, namespace: &Namespace, row: &VisibilityRecord) -> Result<Option<Bytes>, Error> {
        let (id, now) = (schedule::id_of(&row.workflow_id), self.now());
        match self.read_schedule(namespace, id, |store, entity| schedule::list_entry(store, entity, now)) {
            Ok(entry) => Ok(Some(entry.encode_to_vec().into())),
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn schedule_count(
        &self,
        namespace: Namespace,
        filter: String,
    ) -> Result<CountSchedulesResponse, Error> {
        let counted = self.gather_counts(Ask::new(&namespace, Listed::Schedules, filter)).await?;
        Ok(CountSchedulesResponse { count: counted.count, ..CountSchedulesResponse::default() })
    }
}
