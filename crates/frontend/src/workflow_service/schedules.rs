//! Schedules: create, describe, update, patch, delete, list, count, matching times.

use mainstay_api::log::{command::Op, reply};
use mainstay_api::temporal::workflowservice::v1::*;
use mainstay_base::Timestamp;
use mainstay_engine::schedule::entity_id;
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::visibility::page_size;
use super::{Call, Frontend, unexpected};
use crate::status::{Answer, invalid};
use crate::validate::{self, schedule, search_attributes, sizes};

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn create_schedule(&self, call: Call<CreateScheduleRequest>) -> Answer<CreateScheduleResponse> {
        let mut request = call.request;
        let namespace = self.namespace_for_start(&request.namespace)?;
        schedule::id(&request.schedule_id)?;
        validate::required("RequestId", &request.request_id)?;
        validate::length("Identity", &request.identity)?;
        schedule::definition(request.schedule.get_or_insert_default(), &namespace, self.blobs())?;
        sizes::memo(request.memo.as_ref())?;
        search_attributes::normalise(&mut request.search_attributes, &namespace)?;
        let entity = entity_id(&request.schedule_id);
        match self.execute(&namespace, &entity, Op::CreateSchedule(request)).await?.reply {
            Some(reply::Reply::CreateSchedule(response)) => Ok(response),
            other => unexpected(other),
        }
    }

    pub(super) async fn describe_schedule(
        &self,
        call: Call<DescribeScheduleRequest>,
    ) -> Answer<DescribeScheduleResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        schedule::id(&call.request.schedule_id)?;
        Ok(self.service.describe_schedule(namespace, call.request.schedule_id).await?)
    }

    pub(super) async fn update_schedule(&self, call: Call<UpdateScheduleRequest>) -> Answer<UpdateScheduleResponse> {
        let mut request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        schedule::id(&request.schedule_id)?;
        validate::length("RequestId", &request.request_id)?;
        validate::length("Identity", &request.identity)?;
        schedule::has_action(request.schedule.as_ref())?;
        schedule::definition(request.schedule.get_or_insert_default(), &namespace, self.blobs())?;
        sizes::memo(request.memo.as_ref())?;
        // Given and empty is more than not given: it clears them.
        let given = request.search_attributes.is_some();
        search_attributes::normalise(&mut request.search_attributes, &namespace)?;
        if given {
            request.search_attributes.get_or_insert_default();
        }
        let entity = entity_id(&request.schedule_id);
        self.execute(&namespace, &entity, Op::UpdateSchedule(request)).await?;
        Ok(UpdateScheduleResponse::default())
    }

    pub(super) async fn patch_schedule(&self, call: Call<PatchScheduleRequest>) -> Answer<PatchScheduleResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        schedule::id(&request.schedule_id)?;
        validate::length("RequestId", &request.request_id)?;
        validate::length("Identity", &request.identity)?;
        schedule::patch(request.patch.as_ref())?;
        let entity = entity_id(&request.schedule_id);
        self.execute(&namespace, &entity, Op::PatchSchedule(request)).await?;
        Ok(PatchScheduleResponse::default())
    }

    pub(super) async fn delete_schedule(&self, call: Call<DeleteScheduleRequest>) -> Answer<DeleteScheduleResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        schedule::id(&request.schedule_id)?;
        let entity = entity_id(&request.schedule_id);
        self.execute(&namespace, &entity, Op::DeleteSchedule(request)).await?;
        Ok(DeleteScheduleResponse::default())
    }

    pub(super) async fn list_schedule_matching_times(
        &self,
        call: Call<ListScheduleMatchingTimesRequest>,
    ) -> Answer<ListScheduleMatchingTimesResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        schedule::id(&request.schedule_id)?;
        let (Some(from), Some(to)) = (request.start_time, request.end_time) else {
            return Err(invalid("missing or invalid query"));
        };
        let time = |at: prost_types::Timestamp| Timestamp::from_parts(at.seconds, at.nanos);
        let start_time = self.service.schedule_times(namespace, request.schedule_id, time(from), time(to)).await?;
        Ok(ListScheduleMatchingTimesResponse { start_time })
    }

    pub(super) async fn list_schedules(&self, call: Call<ListSchedulesRequest>) -> Answer<ListSchedulesResponse> {
        let request = call.request;
        let namespace = self.namespace(&request.namespace)?;
        let size = page_size(request.maximum_page_size);
        Ok(self.service.list_schedules(namespace, request.query, size, request.next_page_token.to_vec()).await?)
    }

    pub(super) async fn count_schedules(&self, call: Call<CountSchedulesRequest>) -> Answer<CountSchedulesResponse> {
        let namespace = self.namespace(&call.request.namespace)?;
        Ok(self.service.count_schedules(namespace, call.request.query).await?)
    }
}
