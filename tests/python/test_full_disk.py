"""A full disk: new work is refused, what was acknowledged is there, and when space is back so is the server."""

import os
import time
import uuid

import grpc
import pytest
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.errordetails.v1 import ResourceExhaustedFailure
from temporalio.api.enums.v1 import ResourceExhaustedCause
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import request_response_pb2 as api
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub
from google.rpc.status_pb2 import Status

from support import Server

BUDGET_MIB = 96
INPUT_BYTES = 1 << 20
STARTS_MAX = 2 * BUDGET_MIB
SPACE_WITHIN_S = 60.0
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def start(stub, workflow_id: str, data: bytes) -> str:
    request = api.StartWorkflowExecutionRequest(namespace="default", workflow_id=workflow_id, request_id=str(uuid.uuid4()),
                                                workflow_type=WorkflowType(name="Any"), task_queue=TaskQueue(name="nobody"),
                                                input=Payloads(payloads=[Payload(data=data)]))
    return stub.StartWorkflowExecution(request, timeout=30).run_id


def fill(stub) -> tuple[dict[str, bytes], grpc.RpcError]:
    """Starts workflows until one is refused; answers the beginnings of the accepted inputs, and the refusal."""
    accepted = {}
    for number in range(STARTS_MAX):
        data = os.urandom(INPUT_BYTES)
        try:
            start(stub, f"full-{number}", data)
        except grpc.RpcError as error:
            return accepted, error
        accepted[f"full-{number}"] = data[:64]
    raise AssertionError(f"{STARTS_MAX} MiB fit into {BUDGET_MIB} MiB")


def cause(error: grpc.RpcError) -> int:
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    failure = ResourceExhaustedFailure()
    assert status.details[0].Unpack(failure)
    return failure.cause


def check_kept(stub, accepted: dict[str, bytes]) -> None:
    for workflow_id, beginning in accepted.items():
        execution = WorkflowExecution(workflow_id=workflow_id)
        page = stub.GetWorkflowExecutionHistory(
            api.GetWorkflowExecutionHistoryRequest(namespace="default", execution=execution), timeout=30)
        stored = page.history.events[0].workflow_execution_started_event_attributes.input.payloads[0].data
        assert stored.startswith(beginning), workflow_id


def await_space(stub) -> None:
    until = time.monotonic() + SPACE_WITHIN_S
    while True:
        try:
            start(stub, str(uuid.uuid4()), b"small")
            return
        except grpc.RpcError as error:
            assert error.code() == EXHAUSTED and time.monotonic() < until, error
        time.sleep(0.5)


def test_a_full_disk_refuses_work_and_loses_nothing(tmp_path):
    server = Server("--disk-budget", f"{BUDGET_MIB}MiB", data_dir=tmp_path / "data", log=tmp_path / "log")
    try:
        server.start()
        with grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as channel:
            stub = WorkflowServiceStub(channel)
            accepted, error = fill(stub)
            assert error.code() == EXHAUSTED and "disk is full" in error.details()
            assert cause(error) == ResourceExhaustedCause.RESOURCE_EXHAUSTED_CAUSE_PERSISTENCE_STORAGE_LIMIT
            check_kept(stub, accepted)
            server.kill()
            server.start(within_s=20)
            check_kept(stub, accepted)
            for workflow_id in list(accepted)[: len(accepted) * 3 // 4]:
                execution = WorkflowExecution(workflow_id=workflow_id)
                stub.DeleteWorkflowExecution(
                    api.DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=execution), timeout=30)
                del accepted[workflow_id]
            await_space(stub)
            check_kept(stub, accepted)
    finally:
        server.kill()
    assert (tmp_path / "log").read_text().count("\n") < 20, "a full disk must not flood the log"


def test_a_budget_that_is_none_is_refused():
    with pytest.raises(RuntimeError, match="ended with 1"):
        Server("--disk-budget", "1MiB").start()
