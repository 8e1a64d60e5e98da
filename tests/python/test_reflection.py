"""What tools like grpcurl do: they know nothing but the address, learn the API by reflection, and call it; and they watch health."""

import threading

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from support import Server

VERSIONS = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
WORKFLOW_SERVICE = "temporal.api.workflowservice.v1.WorkflowService"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


def fields(data: bytes) -> dict[int, list]:
    """The fields of an encoded message by number: enough to read reflection's answers before any schema is known."""
    def varint(at: int) -> tuple[int, int]:
        value = shift = 0
        while True:
            byte = data[at]
            value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
            if byte < 128:
                return value, at

    found, at = {}, 0
    while at < len(data):
        key, at = varint(at)
        value, at = varint(at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        found.setdefault(key >> 3, []).append(value)
    return found


def ask(channel, version: str, field: int, value: str) -> dict[int, list]:
    """One question of the reflection service."""
    info = channel.stream_stream(f"/{version}.ServerReflection/ServerReflectionInfo")
    answers = info(iter([bytes([field << 3 | 2, len(value)]) + value.encode()]), timeout=10)
    return fields(next(answers))


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


def learn(channel, version: str, symbol: str) -> descriptor_pool.DescriptorPool:
    """All that a symbol needs, by one question."""
    answer = fields(ask(channel, version, 4, symbol)[4][0])
    files = {f.name: f for f in map(descriptor_pb2.FileDescriptorProto.FromString, answer[1])}
    pool = descriptor_pool.DescriptorPool()

    def add(name: str):
        file = files.pop(name, None)
        if file is not None:
            for imported in file.dependency:
                add(imported)
            pool.Add(file)

    for name in list(files):
        add(name)
    return pool


@pytest.mark.parametrize("version", VERSIONS)
def test_a_tool_learns_the_api_and_calls_it(channel, version):
    services = [fields(s)[1][0].decode() for s in fields(ask(channel, version, 7, "*")[6][0])[1]]
    assert WORKFLOW_SERVICE in services and "grpc.health.v1.Health" in services and f"{version}.ServerReflection" in services
    pool = learn(channel, version, WORKFLOW_SERVICE)
    service = pool.FindServiceByName(WORKFLOW_SERVICE)
    assert len(service.methods) > 100
    method = service.methods_by_name["DescribeNamespace"]
    asked, answered = (message_factory.GetMessageClass(t) for t in (method.input_type, method.output_type))
    call = channel.unary_unary(f"/{WORKFLOW_SERVICE}/DescribeNamespace", asked.SerializeToString, answered.FromString)
    assert call(asked(namespace="default")).namespace_info.name == "default"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("service", ["grpc.health.v1.Health", "mainstay.admin.v1.AdminService",
                                     "temporal.api.operatorservice.v1.OperatorService"])
def test_every_service_is_described(channel, version, service):
    assert learn(channel, version, service).FindServiceByName(service).methods


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_there_is_not_found(channel, version):
    for field in (3, 4):
        error = fields(ask(channel, version, field, "no.such.thing")[7][0])
        assert error[1] == [grpc.StatusCode.NOT_FOUND.value[0]] and b"no.such.thing" in error[2][0]


def check(channel, service: str) -> int:
    """The status of a service, by the raw call."""
    asked = bytes([10, len(service)]) + service.encode()
    return fields(channel.unary_unary("/grpc.health.v1.Health/Check")(asked, timeout=5))[1][0]


def test_health_knows_the_services(channel):
    for service in ("", WORKFLOW_SERVICE, "temporal.api.operatorservice.v1.OperatorService"):
        assert check(channel, service) == SERVING
    with pytest.raises(grpc.RpcError) as refused:
        check(channel, "no.such.Service")
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_watcher_is_told_that_the_server_stops():
    with Server() as own, grpc.insecure_channel(own.address) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        unknown = watch(bytes([10, 1]) + b"x", timeout=10)
        assert fields(next(unknown))[1] == [SERVICE_UNKNOWN]
        unknown.cancel()
        statuses = watch(b"", timeout=20)
        assert fields(next(statuses))[1] == [SERVING]
        stop = threading.Timer(0.2, own.process.terminate)
        stop.start()
        assert fields(next(statuses))[1] == [NOT_SERVING]
        stop.join()
