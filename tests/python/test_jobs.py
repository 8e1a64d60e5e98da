"""What goes on in the background goes on after a kill: batch jobs and schedules. And what a deleted namespace held is reclaimed."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from temporalio.api.batch.v1 import BatchOperationSignal
from temporalio.api.enums.v1 import BatchOperationState, EventType
from temporalio.api.operatorservice.v1 import DeleteNamespaceRequest
from temporalio.api.workflowservice.v1 import (DescribeBatchOperationRequest, DescribeNamespaceRequest,
                                               RegisterNamespaceRequest, StartBatchOperationRequest)
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleIntervalSpec, ScheduleSpec
from temporalio.service import RPCError, RPCStatusCode

from support import Server
from test_workflows import eventually


@pytest.fixture
def own_server(tmp_path):
    with Server(data_dir=tmp_path / "data", log=tmp_path / "server.log") as server:
        yield server


async def test_a_batch_and_a_schedule_go_on_after_a_kill(own_server):
    client = await Client.connect(own_server.address)
    ids = [f"target-{n}" for n in range(60)]
    await asyncio.gather(*(client.start_workflow("Nobody", id=i, task_queue="nobody") for i in ids))
    action = ScheduleActionStartWorkflow("Nobody", id="scheduled", task_queue="nobody")
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
    schedule = await client.create_schedule("s", Schedule(action=action, spec=spec))
    job = str(uuid.uuid4())
    await client.workflow_service.start_batch_operation(StartBatchOperationRequest(
        namespace=client.namespace, job_id=job, reason="hear", visibility_query="WorkflowId STARTS_WITH 'target-'",
        max_operations_per_second=20, signal_operation=BatchOperationSignal(signal="heard", identity="test")))

    async def described():
        request = DescribeBatchOperationRequest(namespace=client.namespace, job_id=job)
        return await client.workflow_service.describe_batch_operation(request)

    async def begun():
        found = await described()
        return found if found.complete_operation_count >= 10 else None
    await eventually(begun)
    own_server.kill()
    own_server.start()
    client = await Client.connect(own_server.address)
    before = (await client.get_schedule_handle("s").describe()).info.num_actions

    async def finished():
        found = await described()
        return found if found.state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING else None
    done = await eventually(finished, within_s=30)
    assert done.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED
    assert (done.complete_operation_count, done.failure_operation_count) == (60, 0)
    for i in ids:
        events = (await client.get_workflow_handle(i).fetch_history()).events
        assert [e.event_type for e in events].count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED) == 1

    async def skipped():
        info = (await client.get_schedule_handle("s").describe()).info
        return info.num_actions == before and info.num_actions_skipped_overlap >= 2
    await eventually(skipped)
    assert schedule.id == "s"


async def test_a_deleted_namespace_is_reclaimed(own_server):
    client = await Client.connect(own_server.address)
    request = RegisterNamespaceRequest(namespace="going")
    request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await client.workflow_service.register_namespace(request)
    there = await Client.connect(own_server.address, namespace="going")
    for n in range(5):
        await there.start_workflow("Nobody", id=f"w{n}", task_queue="nobody")
    action = ScheduleActionStartWorkflow("Nobody", id="scheduled", task_queue="nobody")
    await there.create_schedule("s", Schedule(action=action, spec=ScheduleSpec()))
    described = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="going"))
    namespace_id = described.namespace_info.id
    await client.operator_service.delete_namespace(DeleteNamespaceRequest(namespace="going"))

    async def gone():
        try:
            await client.workflow_service.describe_namespace(DescribeNamespaceRequest(id=namespace_id))
            return False
        except RPCError as error:
            return error.status == RPCStatusCode.NOT_FOUND
    await eventually(gone, within_s=40)
