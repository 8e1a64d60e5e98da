"""Schedules and batch jobs as a user of the SDK meets them."""

import asyncio
import time
import uuid
from datetime import datetime, timedelta, timezone

import pytest
from temporalio.api.batch.v1 import BatchOperationTermination
from temporalio.api.enums.v1 import BatchOperationState
from temporalio.api.workflowservice.v1 import DescribeBatchOperationRequest, StartBatchOperationRequest
from temporalio.client import (Client, Schedule, ScheduleActionStartWorkflow, ScheduleAlreadyRunningError,
                               ScheduleBackfill, ScheduleIntervalSpec, ScheduleOverlapPolicy, SchedulePolicy, ScheduleSpec,
                               ScheduleState, ScheduleUpdate, ScheduleUpdateInput, WorkflowExecutionStatus)
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from test_workflows import eventually
from workflows import Basket, Greeting

pytestmark = pytest.mark.usefixtures("worker")

KEYWORD = SearchAttributeKey.for_keyword("CustomKeywordField")
FAR = ScheduleSpec(cron_expressions=["0 0 1 1 * 2090"])


@pytest.fixture
def schedule_id(task_queue) -> str:
    return f"schedule-{task_queue}"


def greeting(workflow_id: str, task_queue: str) -> ScheduleActionStartWorkflow:
    return ScheduleActionStartWorkflow(Greeting.run, "Ada", id=workflow_id, task_queue=task_queue)


async def actions(handle, count: int):
    """The description of a schedule that has acted so often."""
    async def described():
        description = await handle.describe()
        return description if description.info.num_actions >= count else None
    return await eventually(described)


async def test_a_schedule_acts_every_second_until_it_is_paused(client: Client, task_queue, workflow_id, schedule_id):
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
    handle = await client.create_schedule(schedule_id, Schedule(action=greeting(workflow_id, task_queue), spec=spec))
    try:
        description = await actions(handle, 2)
        first = description.info.recent_actions[0]
        assert first.action.workflow_id.startswith(f"{workflow_id}-20")
        assert await client.get_workflow_handle(first.action.workflow_id).result() == "Hello, Ada!"
        assert abs((first.started_at - first.scheduled_at).total_seconds()) < 2
        await handle.pause(note="enough")
        paused = await handle.describe()
        assert paused.schedule.state.paused and paused.schedule.state.note == "enough"
        await asyncio.sleep(2)
        assert (await handle.describe()).info.num_actions <= paused.info.num_actions + 1
        await handle.unpause(note="go on")
        await actions(handle, paused.info.num_actions + 2)
    finally:
        await handle.delete()


async def test_trigger_backfill_update_list_and_delete(client: Client, task_queue, workflow_id, schedule_id):
    schedule = Schedule(action=greeting(workflow_id, task_queue), spec=FAR, state=ScheduleState(note="first"))
    handle = await client.create_schedule(
        schedule_id, schedule, memo={"owner": "ops"},
        search_attributes=TypedSearchAttributes([SearchAttributePair(KEYWORD, schedule_id)]))
    with pytest.raises(ScheduleAlreadyRunningError):
        await client.create_schedule(schedule_id, schedule)

    await handle.trigger()
    description = await actions(handle, 1)
    assert description.info.next_action_times == [datetime(2090, 1, 1, tzinfo=timezone.utc)]
    assert await description.memo_value("owner") == "ops"
    assert description.typed_search_attributes[KEYWORD] == schedule_id

    async def to_hours(update: ScheduleUpdateInput) -> ScheduleUpdate:
        changed = update.description.schedule
        changed.spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))])
        changed.state.note = "second"
        return ScheduleUpdate(changed)
    await handle.update(to_hours)
    updated = await handle.describe()
    assert updated.schedule.state.note == "second" and updated.info.last_updated_at is not None

    midnight = datetime(2020, 1, 1, tzinfo=timezone.utc)
    await handle.backfill(ScheduleBackfill(start_at=midnight, end_at=midnight + timedelta(hours=2),
                                           overlap=ScheduleOverlapPolicy.ALLOW_ALL))
    description = await actions(handle, 4)
    ids = {action.action.workflow_id for action in description.info.recent_actions}
    assert {f"{workflow_id}-2020-01-01T0{hour}:00:00Z" for hour in range(3)} <= ids

    listed = [entry async for entry in await client.list_schedules(query=f"CustomKeywordField = '{schedule_id}'")]
    assert [entry.id for entry in listed] == [schedule_id]
    assert listed[0].schedule.state.note == "second"
    by_schedule = f"TemporalScheduledById = '{schedule_id}'"
    assert (await client.count_workflows(by_schedule)).count == 4

    await handle.delete()
    with pytest.raises(RPCError) as gone:
        await handle.describe()
    assert gone.value.status == RPCStatusCode.NOT_FOUND
    assert [entry async for entry in await client.list_schedules(query=f"ScheduleId = '{schedule_id}'")] == []


async def test_buffered_actions_follow_each_other(client: Client, task_queue, workflow_id, schedule_id):
    basket = ScheduleActionStartWorkflow(Basket.run, id=workflow_id, task_queue=task_queue)
    policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.TERMINATE_OTHER)
    handle = await client.create_schedule(schedule_id, Schedule(action=basket, spec=FAR, policy=policy))
    try:
        await handle.trigger()
        first = (await actions(handle, 1)).info.recent_actions[0].action.workflow_id
        await asyncio.sleep(1.1)  # ids carry whole seconds
        await handle.trigger()
        second = (await actions(handle, 2)).info.recent_actions[-1].action.workflow_id
        assert first != second
        described = await client.get_workflow_handle(first).describe()
        assert described.status == WorkflowExecutionStatus.TERMINATED
        await client.get_workflow_handle(second).terminate()
    finally:
        await handle.delete()


async def test_a_batch_terminates_what_a_query_finds(client: Client, task_queue, workflow_id):
    ids = [f"{workflow_id}-{n}" for n in range(12)]
    await asyncio.gather(*(client.start_workflow(Basket.run, id=i, task_queue=task_queue) for i in ids))
    job = str(uuid.uuid4())
    await client.workflow_service.start_batch_operation(StartBatchOperationRequest(
        namespace=client.namespace, job_id=job, reason="over", visibility_query=f"WorkflowId STARTS_WITH '{workflow_id}-'",
        termination_operation=BatchOperationTermination(identity="test")))

    async def finished():
        request = DescribeBatchOperationRequest(namespace=client.namespace, job_id=job)
        described = await client.workflow_service.describe_batch_operation(request)
        done = described.state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING
        return described if done else None
    began = time.monotonic()
    described = await eventually(finished)
    assert described.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED
    assert (described.total_operation_count, described.complete_operation_count) == (12, 12)
    assert time.monotonic() - began < 10
    for i in ids:
        assert (await client.get_workflow_handle(i).describe()).status == WorkflowExecutionStatus.TERMINATED
