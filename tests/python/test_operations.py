"""What operators do to running work, through the client's raw gRPC service: activities and workflows paused, reset, changed; workers
and task queues looked at. And eager starts, which need a worker in the same process."""

import asyncio
import time
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from temporalio import activity, workflow
from temporalio.api.activity.v1 import ActivityOptions
from temporalio.api.common.v1 import Priority, WorkflowExecution
from temporalio.api.enums.v1 import PendingActivityState, TaskQueueKind, TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, TaskQueue
from temporalio.api.workflow.v1 import WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest, DescribeWorkflowExecutionRequest, ListWorkersRequest, PauseActivityRequest, PauseWorkflowExecutionRequest, ResetActivityRequest,
    UnpauseActivityExecutionRequest, UnpauseActivityRequest, UnpauseWorkflowExecutionRequest, UpdateActivityOptionsRequest,
    UpdateTaskQueueConfigRequest, UpdateWorkflowExecutionOptionsRequest)
from temporalio.api.workflowservice.v1 import request_response_pb2 as api
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.service import RPCError, RPCStatusCode

from conftest import a_worker
from support import Server
from workflows import ACTIVITIES, Greeting

STATE = PendingActivityState


@activity.defn
def fail_until(attempt: int) -> int:
    """Fails before this attempt; returns the attempt that succeeded."""
    if activity.info().attempt < attempt:
        raise RuntimeError("not yet")
    return activity.info().attempt


@activity.defn
async def beat_until_told() -> str:
    """Heartbeats until the server asks for a pause or a reset, which the SDK tells as a cancellation."""
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        return "paused" if details and details.paused else "reset" if details and details.reset else "other"


@workflow.defn(sandboxed=False)
class Patient:
    """Runs one activity whose retries are far apart."""

    @workflow.run
    async def run(self, attempt: int) -> int:
        return await workflow.execute_activity(fail_until, attempt, start_to_close_timeout=timedelta(seconds=10),
                                               retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)))


@workflow.defn(sandboxed=False)
class Listening:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(beat_until_told, start_to_close_timeout=timedelta(seconds=30),
                                               heartbeat_timeout=timedelta(seconds=2))


@pytest.fixture
async def worker(client, task_queue):
    async with a_worker(client, task_queue, workflows=[Patient, Listening, Greeting],
                        activities=[fail_until, beat_until_told, *ACTIVITIES]):
        yield


async def pending(handle, state: int, attempt: int):
    """Waits for the workflow's activity to be in this state at this attempt."""
    deadline = time.monotonic() + 10
    while True:
        found = (await handle.describe()).raw_description.pending_activities
        if found and (found[0].state, found[0].attempt) == (state, attempt):
            return found[0]
        assert time.monotonic() < deadline, f"the activity is {found}"
        await asyncio.sleep(0.05)


def execution(handle) -> dict:
    return {"namespace": "default", "execution": WorkflowExecution(workflow_id=handle.id)}


async def test_a_paused_activity_waits_until_it_is_unpaused(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Patient.run, 2, id=workflow_id, task_queue=task_queue)
    waiting = await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 2)
    pause = PauseActivityRequest(id=waiting.activity_id, reason="look first", identity="me", **execution(handle))
    await client.workflow_service.pause_activity(pause)
    paused = await pending(handle, STATE.PENDING_ACTIVITY_STATE_PAUSED, 2)
    assert (paused.paused, paused.pause_info.manual.reason, paused.pause_info.manual.identity) == (True, "look first", "me")
    with pytest.raises(RPCError) as again:
        await client.workflow_service.pause_activity(pause)
    assert again.value.status == RPCStatusCode.FAILED_PRECONDITION
    await client.workflow_service.unpause_activity_execution(UnpauseActivityExecutionRequest(
        namespace="default", workflow_id=handle.id, activity_id=waiting.activity_id))
    assert await handle.result() == 2


async def test_a_running_activity_learns_that_it_is_paused(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Listening.run, id=workflow_id, task_queue=task_queue)
    running = await pending(handle, STATE.PENDING_ACTIVITY_STATE_STARTED, 1)
    await client.workflow_service.pause_activity(PauseActivityRequest(type="beat_until_told", **execution(handle)))
    assert running.activity_id and await handle.result() == "paused"


async def test_a_reset_activity_begins_anew_at_once(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Patient.run, 1_000, id=workflow_id, task_queue=task_queue)
    waiting = await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 2)
    first = waiting.last_attempt_complete_time.ToDatetime()
    await client.workflow_service.reset_activity(ResetActivityRequest(id=waiting.activity_id, **execution(handle)))
    deadline = time.monotonic() + 10
    while (again := await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 2)).last_attempt_complete_time.ToDatetime() == first:
        assert time.monotonic() < deadline
    assert again.attempt == 2
    await handle.terminate()


async def test_a_shorter_retry_interval_is_felt_by_a_waiting_activity(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Patient.run, 2, id=workflow_id, task_queue=task_queue)
    waiting = await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 2)
    options = ActivityOptions()
    options.retry_policy.initial_interval.CopyFrom(Duration(nanos=100_000_000))
    answer = await client.workflow_service.update_activity_options(UpdateActivityOptionsRequest(
        id=waiting.activity_id, activity_options=options, update_mask=FieldMask(paths=["retry_policy.initial_interval"]),
        **execution(handle)))
    assert answer.activity_options.retry_policy.initial_interval.nanos == 100_000_000
    assert await handle.result() == 2


async def test_unknown_activities_are_not_found(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Patient.run, 2, id=workflow_id, task_queue=task_queue)
    await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 2)
    with pytest.raises(RPCError) as missing:
        await client.workflow_service.unpause_activity(UnpauseActivityRequest(id="nobody", **execution(handle)))
    assert missing.value.status == RPCStatusCode.NOT_FOUND
    await handle.terminate()


async def test_a_workflows_priority_changes(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Patient.run, 2, id=workflow_id, task_queue=task_queue)
    await client.workflow_service.update_workflow_execution_options(UpdateWorkflowExecutionOptionsRequest(
        namespace="default", workflow_execution=WorkflowExecution(workflow_id=handle.id),
        workflow_execution_options=WorkflowExecutionOptions(priority=Priority(priority_key=1)),
        update_mask=FieldMask(paths=["priority.priority_key"])))
    info = (await handle.describe()).raw_description.workflow_execution_info
    assert info.priority.priority_key == 1
    await handle.terminate()


async def test_an_eager_start_needs_no_poll(client: Client, worker, task_queue, workflow_id):
    handle = await client.start_workflow(Greeting.run, "Ada", id=workflow_id, task_queue=task_queue, request_eager_start=True)
    assert getattr(handle, "__temporal_eagerly_started")  # The SDK shows it nowhere else.
    assert await handle.result() == "Hello, Ada!"
    started = (await handle.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert started.eager_execution_accepted


async def test_workers_report_about_themselves(client: Client, worker, task_queue):
    deadline = time.monotonic() + 20
    while True:
        found = await client.workflow_service.list_workers(ListWorkersRequest(
            namespace="default", query=f"TaskQueue = '{task_queue}'"))
        if found.workers or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.2)
    pollers = await client.workflow_service.describe_task_queue(DescribeTaskQueueRequest(
        namespace="default", task_queue=TaskQueue(name=task_queue), task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW))
    assert len(pollers.pollers) == 1
    # SDKs that do not report yet are seen by their polls alone.
    assert all(w.task_queue == task_queue for w in found.workers)


async def test_a_rate_limit_of_zero_stops_activities(client: Client, task_queue, workflow_id):
    async def limit(per_second: float):
        update = UpdateTaskQueueConfigRequest.RateLimitUpdate(rate_limit=RateLimit(requests_per_second=per_second))
        await client.workflow_service.update_task_queue_config(UpdateTaskQueueConfigRequest(
            namespace="default", task_queue=task_queue, task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            update_queue_rate_limit=update))

    await limit(0.0)
    # An eager activity would not pass through the queue.
    async with a_worker(client, task_queue, disable_eager_activity_execution=True):
        handle = await client.start_workflow(Greeting.run, "Ada", id=workflow_id, task_queue=task_queue)
        await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 1)
        await asyncio.sleep(1.0)
        await pending(handle, STATE.PENDING_ACTIVITY_STATE_SCHEDULED, 1)
        await limit(100.0)
        assert await handle.result() == "Hello, Ada!"


async def test_a_paused_workflow_makes_no_progress(tmp_path):
    """Pausing workflows is off unless the server is told otherwise."""
    with Server("--dynamic-config-value", "frontend.WorkflowPauseEnabled=true", data_dir=tmp_path / "data",
                log=tmp_path / "server.log") as server:
        client = await Client.connect(server.address)
        who = {"namespace": "default", "workflow_id": "paused"}
        handle = await client.start_workflow(Greeting.run, "Ada", id="paused", task_queue="paused")
        await client.workflow_service.pause_workflow_execution(PauseWorkflowExecutionRequest(reason="stop", **who))
        async with a_worker(client, "paused"):
            await asyncio.sleep(1.0)
            # The SDK knows no word for this status.
            described = await client.workflow_service.describe_workflow_execution(DescribeWorkflowExecutionRequest(
                namespace="default", execution=WorkflowExecution(workflow_id="paused")))
            assert described.workflow_execution_info.history_length == 4, "the task that nobody took has ended"
            assert described.workflow_extended_info.pause_info.reason == "stop"
            await client.workflow_service.unpause_workflow_execution(UnpauseWorkflowExecutionRequest(**who))
            assert await handle.result() == "Hello, Ada!"


async def test_counts_by_status_stand_in_the_order_of_statuses(client: Client, worker, task_queue, workflow_id):
    await client.execute_workflow(Greeting.run, "you", id=f"{workflow_id}-done", task_queue=task_queue)
    await client.start_workflow(Greeting.run, "you", id=f"{workflow_id}-open", task_queue=f"{task_queue}-nobody")
    counted = await client.count_workflows(f"WorkflowId STARTS_WITH '{workflow_id}' GROUP BY ExecutionStatus")
    assert [(group.group_values, group.count) for group in counted.groups] == [(["Running"], 1), (["Completed"], 1)]
    names = [group.group_values[0] for group in (await client.count_workflows("GROUP BY ExecutionStatus")).groups]
    assert names[:2] == ["Running", "Completed"], "the counters, which no filter needs to look behind"


async def test_a_worker_that_goes_has_its_polls_answered(client):
    """Polls of its sticky queue are answered empty at once, and not at their long end."""
    sticky = TaskQueue(name="sticky-of-one-that-goes", kind=TaskQueueKind.TASK_QUEUE_KIND_STICKY, normal_name="goes")
    poll = asyncio.ensure_future(client.workflow_service.poll_workflow_task_queue(
        api.PollWorkflowTaskQueueRequest(namespace="default", task_queue=sticky)))
    await asyncio.sleep(0.5)
    assert not poll.done()
    await client.workflow_service.shutdown_worker(
        api.ShutdownWorkerRequest(namespace="default", sticky_task_queue=sticky.name))
    assert (await asyncio.wait_for(poll, 5)).task_token == b""
