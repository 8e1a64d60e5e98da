"""What no SDK would send: the server answers with a status that says what is wrong, goes on, and does not flood its log."""

import socket
import uuid

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution, WorkflowType
from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import request_response_pb2 as api
from temporalio.api.workflowservice.v1.service_pb2_grpc import WorkflowServiceStub

from support import Server

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService/"
LOG_LINES_MAX = 20


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """A server of its own; at the end its log is short and free of panics, and it still answers."""
    log = tmp_path_factory.mktemp("bad-input") / "server.log"
    with Server(log=log, level="info") as server:
        yield server
        with grpc.insecure_channel(server.address) as channel:
            WorkflowServiceStub(channel).GetSystemInfo(api.GetSystemInfoRequest(), timeout=5)
    text = log.read_text()
    assert "panic" not in text
    assert text.count("\n") <= LOG_LINES_MAX, text


@pytest.fixture
def stub(quiet):
    with grpc.insecure_channel(quiet.address, [("grpc.max_send_message_length", -1)]) as channel:
        yield WorkflowServiceStub(channel)


def start(**fields) -> api.StartWorkflowExecutionRequest:
    request = api.StartWorkflowExecutionRequest(namespace="default", workflow_id=str(uuid.uuid4()), request_id=str(uuid.uuid4()),
                                                workflow_type=WorkflowType(name="Any"), task_queue=TaskQueue(name="any"))
    request.MergeFrom(api.StartWorkflowExecutionRequest(**fields))
    return request


def refusal(call, request, **options) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10, **options)
    return caught.value.code(), caught.value.details()


BAD_STARTS = {
    "an id over the limit": (dict(workflow_id="w" * 1001), "WorkflowId exceeds maximum allowed length"),
    "a type over the limit": (dict(workflow_type=WorkflowType(name="t" * 1001)), "WorkflowType"),
    "a queue over the limit": (dict(task_queue=TaskQueue(name="q" * 1001)), "taskQueue"),
    "a negative time-out": (dict(workflow_run_timeout=Duration(seconds=-1)), "WorkflowRunTimeout"),
    "a time-out that is none": (dict(workflow_execution_timeout=Duration(seconds=1, nanos=-1)), "WorkflowExecutionTimeout"),
    "a negative delay": (dict(workflow_start_delay=Duration(seconds=-5)), "WorkflowStartDelay"),
    "a cron line that is none": (dict(cron_schedule="every other day"), "CronSchedule"),
}


@pytest.mark.parametrize("case", BAD_STARTS)
def test_a_bad_start_names_its_field(stub, case):
    fields, words = BAD_STARTS[case]
    code, text = refusal(stub.StartWorkflowExecution, start(**fields))
    assert code == grpc.StatusCode.INVALID_ARGUMENT, text
    assert words.lower() in text.lower()


def test_an_unknown_namespace_and_an_unknown_workflow_are_not_found(stub):
    code, text = refusal(stub.StartWorkflowExecution, start(namespace="nowhere"))
    assert code == grpc.StatusCode.NOT_FOUND and "nowhere" in text
    execution = WorkflowExecution(workflow_id="nobody", run_id="not a run id")
    request = api.DescribeWorkflowExecutionRequest(namespace="default", execution=execution)
    code, text = refusal(stub.DescribeWorkflowExecution, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "RunId" in text


def test_a_payload_over_the_limit_is_refused(stub):
    large = Payloads(payloads=[Payload(data=bytes(3 << 20))])
    code, text = refusal(stub.StartWorkflowExecution, start(input=large))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "size" in text
    huge = Payloads(payloads=[Payload(data=bytes(6 << 20))])
    code, _ = refusal(stub.StartWorkflowExecution, start(input=huge))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("token", [b"", b"garbage", bytes(500), bytes(range(256)) * 400], ids=["empty", "word", "zeros", "long"])
def test_tokens_that_are_none(stub, token):
    calls = [
        (stub.RespondWorkflowTaskCompleted, api.RespondWorkflowTaskCompletedRequest(namespace="default", task_token=token)),
        (stub.RespondWorkflowTaskFailed, api.RespondWorkflowTaskFailedRequest(namespace="default", task_token=token)),
        (stub.RespondActivityTaskCompleted, api.RespondActivityTaskCompletedRequest(namespace="default", task_token=token)),
        (stub.RecordActivityTaskHeartbeat, api.RecordActivityTaskHeartbeatRequest(namespace="default", task_token=token)),
        (stub.RespondQueryTaskCompleted, api.RespondQueryTaskCompletedRequest(namespace="default", task_token=token)),
    ]
    for call, request in calls:
        code, text = refusal(call, request)
        assert code == grpc.StatusCode.INVALID_ARGUMENT and text, (request, code, text)


def test_a_token_of_another_server_completes_nothing(stub):
    with Server() as other, grpc.insecure_channel(other.address) as channel:
        theirs = WorkflowServiceStub(channel)
        theirs.StartWorkflowExecution(start(), timeout=5)
        queue = TaskQueue(name="any", kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
        task = theirs.PollWorkflowTaskQueue(api.PollWorkflowTaskQueueRequest(namespace="default", task_queue=queue), timeout=10)
        assert task.task_token
    code, _ = refusal(stub.RespondWorkflowTaskCompleted,
                      api.RespondWorkflowTaskCompletedRequest(namespace="default", task_token=task.task_token))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def test_pages_that_are_none(stub):
    code, text = refusal(stub.GetWorkflowExecutionHistory, api.GetWorkflowExecutionHistoryRequest(
        namespace="default", execution=WorkflowExecution(workflow_id="w"), next_page_token=b"\xff\x00 what"))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), text
    code, text = refusal(stub.ListWorkflowExecutions,
                         api.ListWorkflowExecutionsRequest(namespace="default", next_page_token=b"\xff\x00 what"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT, text


def raw(address: str, method: str, body: bytes) -> tuple[grpc.StatusCode, str]:
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(SERVICE + method, request_serializer=None, response_deserializer=None)
        return refusal(call, body)


def test_messages_that_are_not_protobuf(quiet):
    whole = start().SerializeToString()
    for body in (whole[:-3], b"\xff" * 64, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\xff\xfe"):
        code, text = raw(quiet.address, "StartWorkflowExecution", body)
        assert code == grpc.StatusCode.INTERNAL, (body, code, text)


def test_a_method_that_does_not_exist_is_named(quiet):
    code, text = raw(quiet.address, "StartEverything", b"")
    assert code == grpc.StatusCode.UNIMPLEMENTED and "StartEverything" in text


@pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\r\nHost: there\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(512), b"\x00" * 4096],
                         ids=["http1", "tls", "zeros"])
def test_other_protocols_on_the_port_are_hung_up_on(quiet, hello):
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", quiet.port), timeout=5) as connection:
            connection.sendall(hello)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                pass
