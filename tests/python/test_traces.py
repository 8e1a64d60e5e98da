"""Traces reach a collector by OTLP over HTTP, as children of the caller's span; without a collector there is nothing."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, StartWorkflowExecutionRequest

from support import Server
from test_reflection import fields

SERVICE = "/temporal.api.workflowservice.v1.WorkflowService"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(HTTPServer):
    """Keeps the spans that it is sent, as dictionaries."""

    def __init__(self):
        self.spans, self.resources = [], []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
                for resource in map(fields, fields(body)[1]):
                    collector.resources.append(attributes(fields(resource[1][0])[1]))
                    for scope in map(fields, resource[2]):
                        collector.spans += map(span, scope[2])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def attributes(pairs: list[bytes]) -> dict:
    read = lambda value: value[1][0].decode() if 1 in value else value[3][0]  # noqa: E731
    return {fields(pair)[1][0].decode(): read(fields(fields(pair)[2][0])) for pair in pairs}


def span(data: bytes) -> dict:
    # Times are fixed-width, which the little reader does not know: they stand between the kind and the attributes.
    out, at = {}, 0
    plain = b""
    while at < len(data):
        key = data[at]
        if key & 7 == 1:
            out[key >> 3] = int.from_bytes(data[at + 1:at + 9], "little")
            at += 9
            continue
        begun, length, shift, at = at, 0, 0, at + 1
        while True:
            byte = data[at]
            length, at, shift = length | (byte & 127) << shift, at + 1, shift + 7
            if byte < 128:
                break
        if key & 7 == 2:
            at += length
        plain += data[begun:at]
    found = fields(plain)
    return {"trace": found[1][0].hex(), "id": found[2][0].hex(), "parent": found.get(4, [b""])[0].hex(),
            "name": found[5][0].decode(), "kind": found[6][0], "start": out[7], "end": out[8],
            "attributes": attributes(found.get(9, [])), "failed": 15 in found}


def test_calls_are_spans_of_the_callers_trace(monkeypatch, tmp_path):
    collector = Collector()
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    with Server("--otlp-endpoint", endpoint, log=tmp_path / "log") as server, grpc.insecure_channel(server.address) as channel:
        start = channel.unary_unary(f"{SERVICE}/StartWorkflowExecution", StartWorkflowExecutionRequest.SerializeToString)
        request = StartWorkflowExecutionRequest(namespace="default", workflow_id="traced", request_id="r",
                                                workflow_type=WorkflowType(name="T"), task_queue=TaskQueue(name="q"))
        start(request, metadata=[("traceparent", f"00-{TRACE}-{SPAN}-01")], timeout=10)
        describe = channel.unary_unary(f"{SERVICE}/DescribeNamespace", DescribeNamespaceRequest.SerializeToString)
        try:
            describe(DescribeNamespaceRequest(namespace="no-such"), timeout=10)
        except grpc.RpcError:
            pass
        for _ in range(100):
            if any("DescribeNamespace" in span["name"] for span in collector.spans):
                break
            threading.Event().wait(0.1)
    collector.shutdown()
    named = {span["name"].rsplit("/", 1)[-1]: span for span in collector.spans}
    called = named["StartWorkflowExecution"]
    assert (called["trace"], called["parent"], called["kind"], called["failed"]) == (TRACE, SPAN, 2, False)
    assert called["attributes"]["temporalWorkflowID"] == "traced" and called["attributes"]["temporalNamespace"] == "default"
    assert called["attributes"]["rpc.grpc.status_code"] == 0 and called["end"] > called["start"] > 1_500_000_000 * 10**9
    proposed = [s for s in collector.spans if s["name"] == "propose" and s["trace"] == TRACE]
    assert proposed and all(s["parent"] == called["id"] for s in proposed)
    # What became of the proposal on this node: its entry was synced, and after that applied.
    propose = proposed[0]
    below = {s["name"]: s for s in collector.spans if s["parent"] == propose["id"]}
    assert {"fsync", "apply"} <= set(below), below
    assert propose["start"] <= below["fsync"]["start"] <= below["fsync"]["end"] <= below["apply"]["start"]
    assert below["apply"]["start"] <= below["apply"]["end"] <= propose["end"]
    assert all(s["attributes"]["entries"] >= 1 for s in below.values())
    refused = named["DescribeNamespace"]
    assert refused["failed"] and refused["attributes"]["rpc.grpc.status_code"] == 5 and refused["trace"] != TRACE
    assert collector.resources[0]["service.name"] == "mainstay"
    assert collector.resources[0]["deployment.environment"] == "test"
