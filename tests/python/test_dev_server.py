"""The one-line change that puts this server under somebody's existing tests."""

import uuid

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import Command, ScheduleActivityTaskCommandAttributes
from temporalio.api.common.v1 import ActivityType, Payload, Payloads
from temporalio.api.enums.v1 import CommandType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import request_response_pb2 as api
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from conftest import a_worker
from support import binary
from workflows import Greeting

COLOUR = SearchAttributeKey.for_keyword("Colour")


async def greet(environment: WorkflowEnvironment, **options) -> str:
    queue = f"queue-{uuid.uuid4()}"
    async with a_worker(environment.client, queue):
        return await environment.client.execute_workflow(Greeting.run, "dev", id=queue, task_queue=queue, **options)


async def test_start_local_runs_our_binary():
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=binary()) as environment:
        assert await greet(environment) == "Hello, dev!"


async def test_start_local_with_namespace_attributes_and_data(tmp_path):
    options = dict(dev_server_existing_path=binary(), namespace="somewhere", search_attributes=[COLOUR],
                   dev_server_database_filename=str(tmp_path / "data"))
    async with await WorkflowEnvironment.start_local(**options) as environment:
        red = TypedSearchAttributes([SearchAttributePair(COLOUR, "red")])
        assert await greet(environment, search_attributes=red) == "Hello, dev!"
    # Environments end their server with SIGKILL. The next one finds what was acknowledged.
    async with await WorkflowEnvironment.start_local(**options) as environment:
        rows = [row async for row in environment.client.list_workflows("Colour = 'red'")]
        assert len(rows) == 1
        assert await environment.client.get_workflow_handle(rows[0].id).result() == "Hello, dev!"


async def test_two_local_servers_do_not_meet():
    async with await WorkflowEnvironment.start_local(dev_server_existing_path=binary()) as one:
        async with await WorkflowEnvironment.start_local(dev_server_existing_path=binary()) as two:
            assert await greet(one) == await greet(two) == "Hello, dev!"


async def test_dynamic_config_says_when_to_continue_as_new():
    options = ["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=5"]
    environment = await WorkflowEnvironment.start_local(dev_server_existing_path=binary(), dev_server_extra_args=options)
    async with environment:
        queue = f"queue-{uuid.uuid4()}"
        async with a_worker(environment.client, queue):
            handle = await environment.client.start_workflow(Greeting.run, "dev", id=queue, task_queue=queue)
            assert await handle.result() == "Hello, dev!"
        started = [event.workflow_task_started_event_attributes async for event in handle.fetch_history_events()
                   if event.HasField("workflow_task_started_event_attributes")]
        assert [event.suggest_continue_as_new for event in started] == [False, True]
        assert handle.result_run_id[14] == "7", "ids of runs are UUIDs of version 7, as Temporal's"


async def test_dynamic_config_limits_payloads():
    options = ["--dynamic-config-value", "limit.blobSize.error=10240"]
    environment = await WorkflowEnvironment.start_local(dev_server_existing_path=binary(), dev_server_extra_args=options)
    async with environment:
        client, queue, large = environment.client, f"queue-{uuid.uuid4()}", "x" * 11_000
        described = await client.workflow_service.describe_namespace(api.DescribeNamespaceRequest(namespace="default"))
        assert described.namespace_info.limits.blob_size_limit_error == 10_240
        with pytest.raises(RPCError, match="Blob data size exceeds limit."):
            await client.start_workflow(Greeting.run, large, id=queue, task_queue=queue)
        handle = await client.start_workflow(Greeting.run, "small", id=queue, task_queue=queue)
        task = await client.workflow_service.poll_workflow_task_queue(api.PollWorkflowTaskQueueRequest(
            namespace="default", task_queue=TaskQueue(name=queue)))
        activity = ScheduleActivityTaskCommandAttributes(
            activity_id="a", activity_type=ActivityType(name="A"), task_queue=TaskQueue(name=queue),
            input=Payloads(payloads=[Payload(data=large.encode())]), start_to_close_timeout=Duration(seconds=5))
        command = Command(command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
                          schedule_activity_task_command_attributes=activity)
        with pytest.raises(RPCError, match="ScheduleActivityTaskCommandAttributes.Input exceeds size limit."):
            await client.workflow_service.respond_workflow_task_completed(
                api.RespondWorkflowTaskCompletedRequest(task_token=task.task_token, commands=[command]))
        assert (await handle.describe()).status == WorkflowExecutionStatus.TERMINATED
