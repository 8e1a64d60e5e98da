"""A run may wait for 2,000 items of a kind. What asks for more fails its workflow task, with a cause of its own, and the run goes on."""

import uuid

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.command.v1 import (
    Command, CompleteWorkflowExecutionCommandAttributes, RequestCancelExternalWorkflowExecutionCommandAttributes,
    ScheduleActivityTaskCommandAttributes, SignalExternalWorkflowExecutionCommandAttributes,
    StartChildWorkflowExecutionCommandAttributes)
from temporalio.api.common.v1 import ActivityType, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import CommandType, EventType, WorkflowExecutionStatus, WorkflowTaskFailedCause
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import request_response_pb2 as api
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

MAX = 2000


def activity(number: int) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_SCHEDULE_ACTIVITY_TASK,
        schedule_activity_task_command_attributes=ScheduleActivityTaskCommandAttributes(
            activity_id=f"a{number}", activity_type=ActivityType(name="A"), task_queue=TaskQueue(name="nobody"),
            start_to_close_timeout=Duration(seconds=10)))


def child(number: int) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_START_CHILD_WORKFLOW_EXECUTION,
        start_child_workflow_execution_command_attributes=StartChildWorkflowExecutionCommandAttributes(
            workflow_id=f"{uuid.uuid4()}-{number}", workflow_type=WorkflowType(name="C"), task_queue=TaskQueue(name="nobody")))


def signal(_: int) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION,
        signal_external_workflow_execution_command_attributes=SignalExternalWorkflowExecutionCommandAttributes(
            execution=WorkflowExecution(workflow_id="other"), signal_name="s"))


def cancel(_: int) -> Command:
    return Command(
        command_type=CommandType.COMMAND_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION,
        request_cancel_external_workflow_execution_command_attributes=RequestCancelExternalWorkflowExecutionCommandAttributes(
            workflow_id="other"))


Cause = WorkflowTaskFailedCause
KINDS = {
    "activities": (activity, "PendingActivitiesLimitExceeded", Cause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_ACTIVITIES_LIMIT_EXCEEDED),
    "child workflow executions": (child, "PendingChildWorkflowsLimitExceeded",
                                  Cause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_CHILD_WORKFLOWS_LIMIT_EXCEEDED),
    "signals to external workflows": (signal, "PendingSignalsLimitExceeded",
                                      Cause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_SIGNALS_LIMIT_EXCEEDED),
    "requests to cancel external workflows": (cancel, "PendingRequestCancelLimitExceeded",
                                              Cause.WORKFLOW_TASK_FAILED_CAUSE_PENDING_REQUEST_CANCEL_LIMIT_EXCEEDED),
}


@pytest.mark.parametrize("items", KINDS)
def test_one_item_too_many_fails_the_task_alone(server, items):
    command, name, cause = KINDS[items]
    id = queue = str(uuid.uuid4())
    with grpc.insecure_channel(server.address) as channel:
        stub = WorkflowServiceStub(channel)
        stub.StartWorkflowExecution(api.StartWorkflowExecutionRequest(
            namespace="default", workflow_id=id, request_id=id, workflow_type=WorkflowType(name="T"),
            task_queue=TaskQueue(name=queue)), timeout=10)

        def complete(commands: list[Command]) -> None:
            task = stub.PollWorkflowTaskQueue(api.PollWorkflowTaskQueueRequest(
                namespace="default", task_queue=TaskQueue(name=queue)), timeout=20)
            stub.RespondWorkflowTaskCompleted(api.RespondWorkflowTaskCompletedRequest(
                namespace="default", task_token=task.task_token, commands=commands), timeout=30)

        with pytest.raises(grpc.RpcError) as refused:
            complete([command(number) for number in range(MAX + 1)])
        text = f"{name}: the number of pending {items}, {MAX}, has reached the per-workflow limit of {MAX}"
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, text)

        complete([Command(command_type=CommandType.COMMAND_TYPE_COMPLETE_WORKFLOW_EXECUTION,
                          complete_workflow_execution_command_attributes=CompleteWorkflowExecutionCommandAttributes())])
        run = WorkflowExecution(workflow_id=id)
        info = stub.DescribeWorkflowExecution(
            api.DescribeWorkflowExecutionRequest(namespace="default", execution=run), timeout=10).workflow_execution_info
        assert info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
        events = stub.GetWorkflowExecutionHistory(
            api.GetWorkflowExecutionHistoryRequest(namespace="default", execution=run), timeout=10).history.events
        failed = [e for e in events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
        assert [(e.workflow_task_failed_event_attributes.cause, e.workflow_task_failed_event_attributes.failure.message)
                for e in failed] == [(cause, text)]
        assert len(events) == 8, "nothing of the refused commands is left"
