"""The metrics port: every metric that is documented is there after a small load, and what is there is documented; the probes; the logs."""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import activity, workflow
from temporalio.client import (Client, Schedule, ScheduleActionStartWorkflow, ScheduleIntervalSpec, ScheduleSpec,
                               WorkflowFailureError)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from conftest import a_worker
from support import Server, free_port

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


@activity.defn
async def measured_activity(seconds: float) -> None:
    await asyncio.sleep(seconds)


@workflow.defn(sandboxed=False)
class Measured:
    """Does a little of everything, and ends as it is told."""

    @workflow.run
    async def run(self, end: str) -> str:
        if end == "fail":
            raise ApplicationError("as asked", non_retryable=True)
        if end == "again":
            workflow.continue_as_new("")
        if end == "wait":
            await workflow.wait_condition(lambda: False)
        if end == "timeout":
            try:
                await workflow.execute_activity(measured_activity, 5.0, start_to_close_timeout=timedelta(milliseconds=300),
                                                retry_policy=RetryPolicy(maximum_attempts=1))
            except Exception:  # noqa: BLE001 the time-out is what is wanted
                pass
        if end == "child":
            await workflow.execute_child_workflow(Measured.run, "", id=f"{workflow.info().workflow_id}-child")
        await workflow.execute_activity(measured_activity, 0.0, start_to_close_timeout=timedelta(seconds=5))
        await workflow.sleep(timedelta(milliseconds=50))
        return end


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def families(text: str) -> dict[str, str]:
    """Name and type of each metric that has a value."""
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    shown = set(re.findall(r"^([a-zA-Z_:]\w*)[{ ]", text, re.M))
    has = lambda name: name in shown or f"{name}_count" in shown  # noqa: E731
    return {name: kind for name, kind in types.items() if has(name)}


def value(text: str, name: str, **labels: str) -> float:
    """The sum over all series with these labels."""
    total = 0.0
    for found, number in re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text, re.M):
        if all(f'{key}="{wanted}"' in found for key, wanted in labels.items()):
            total += float(number)
    return total


def documented() -> dict[str, tuple[str, str]]:
    """Name to kind and to when it is shown."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| [^|]* \| ([^|]+) \|", DOCUMENT.read_text(), re.M)
    return {name: (kind.strip(), when.strip()) for name, kind, when in rows}


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def own(tmp_path_factory, port):
    scratch = tmp_path_factory.mktemp("metrics")
    log = scratch / "server.log"
    with Server("--metrics-port", str(port), "--log-format", "json", "--log-slow-ms", "1", data_dir=scratch / "data",
                log=log, level="info") as server:
        server.log_path = log
        yield server


async def load(address: str) -> None:
    """Something of everything that is counted when it happens."""
    client = await Client.connect(address)
    queue = f"q-{uuid.uuid4()}"
    new = lambda: f"w-{uuid.uuid4()}"  # noqa: E731
    run = lambda end, **more: client.start_workflow(Measured.run, end, id=new(), task_queue=queue, **more)  # noqa: E731
    # Nobody polls yet: tasks wait.
    waits = await run("")
    doomed = await run("wait", execution_timeout=timedelta(seconds=1))
    await asyncio.sleep(0.3)
    async with a_worker(client, queue, workflows=[Measured], activities=[measured_activity]):
        for end in ("", "again", "timeout", "child"):
            await (await run(end)).result()
        with pytest.raises(WorkflowFailureError):
            await (await run("fail")).result()
        stopped = [await run("wait") for _ in range(2)]
        await stopped[0].cancel()
        await stopped[1].terminate()
        for handle in [waits, doomed, *stopped]:
            try:
                await handle.result()
            except WorkflowFailureError:
                pass
        taken = await run("wait")
        with pytest.raises(WorkflowAlreadyStartedError):
            await client.start_workflow(Measured.run, "", id=taken.id, task_queue=queue)
        await taken.terminate()
        with pytest.raises(RPCError):
            await client.get_workflow_handle("no-such-workflow").describe()
        with pytest.raises(RPCError):
            [row async for row in client.list_workflows("no = such")]
        assert [row async for row in client.list_workflows("")]
        await client.count_workflows("")
        action = ScheduleActionStartWorkflow(Measured.run, "", id=new(), task_queue=queue)
        spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
        schedule = await client.create_schedule(new(), Schedule(action=action, spec=spec))
        await asyncio.sleep(2.5)
        await schedule.delete()


async def test_what_is_documented_is_there_and_nothing_else(own, port):
    await load(own.address)
    status, text = get(port, "/metrics")
    assert status == 200
    shown, known = families(text), documented()
    extra = sorted(set(shown) - set(known))
    assert not extra, "not in docs/metrics.md"
    # These need what no small load does.
    rare = {"when something fails", "in a cluster"}
    excused = {name for name, (_, when) in known.items() if when in rare}
    excused |= {"service_errors_unauthorized"}
    missing = sorted(set(known) - set(shown) - excused)
    assert not missing, "documented, and not there"
    for name, kind in shown.items():
        assert known[name][0].startswith(kind), name
    assert not [name for name in shown if name.endswith("_total") and not name.startswith(("mainstay_", "process_"))]


def test_what_was_done_is_counted(own, port):
    _, text = get(port, "/metrics")
    for name, least in {"workflow_success": 4, "workflow_failed": 1, "workflow_cancel": 1, "workflow_terminate": 2,
                        "workflow_timeout": 1, "workflow_continued_as_new": 1}.items():
        assert value(text, name, operation="CompletionStats", namespace="default", workflowType="Measured") >= least, name
    starts = dict(operation="StartWorkflowExecution", service_name="frontend", namespace="default")
    assert value(text, "service_requests", **starts) >= 10
    assert value(text, "service_latency_count", **starts) == value(text, "service_requests", **starts)
    assert value(text, "service_pending_requests", **starts) == 0
    assert value(text, "service_errors_execution_already_started", **starts) == 1
    assert value(text, "service_errors") == 0
    assert value(text, "start_to_close_timeout", operation="TimerActiveTaskActivityTimeout") == 1
    assert value(text, "command", commandType="ScheduleActivityTask") >= 5
    assert value(text, "action", action_type="command_StartTimer", namespace="default") >= 4
    assert value(text, "poll_success", operation="PollWorkflowTaskQueue") >= 5
    assert value(text, "no_poller_tasks") >= 1
    assert value(text, "schedule_action_success", namespace="default") >= 1
    assert value(text, "service_error_with_type", error_type="serviceerror_NotFound") >= 1
    assert value(text, "mainstay_log_fsyncs_total") > 10
    assert value(text, "mainstay_raft_leader", group="0") == 1
    assert value(text, "mainstay_raft_applied_index", group="0") >= 1
    assert value(text, "numshards_gauge") >= 1
    assert value(text, "memory_allocated") > 1 << 20


def test_a_namespace_that_does_not_exist_makes_no_series(own, port):
    import grpc
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    with grpc.insecure_channel(own.address) as channel:
        call = channel.unary_unary("/temporal.api.workflowservice.v1.WorkflowService/DescribeNamespace",
                                   DescribeNamespaceRequest.SerializeToString)
        for number in range(20):
            with pytest.raises(grpc.RpcError):
                call(DescribeNamespaceRequest(namespace=f"made-up-{number}"), timeout=5)
    _, text = get(port, "/metrics")
    assert "made-up" not in text
    assert value(text, "service_requests", operation="DescribeNamespace", namespace="_unknown_") >= 20


def test_a_scrape_is_quick(own, port):
    times = []
    for _ in range(20):
        began = time.monotonic()
        get(port, "/metrics")
        times.append(time.monotonic() - began)
    assert sorted(times)[10] < 0.05 * 4, times  # the machine may be busy; alone it is below 50 ms


def test_probes(own, port):
    assert get(port, "/livez") == (200, "ok\n")
    assert get(port, "/readyz") == (200, "ready\n")
    assert get(port, "/healthz") == (200, "ready\n")
    status, verbose = get(port, "/readyz?verbose")
    assert status == 200 and "[+] metadata ok" in verbose and "[+] shard 1 ok" in verbose
    version = json.loads(get(port, "/version")[1])
    assert version["name"] == "mainstay" and version["serverVersion"] == "1.32.0" and version["version"]
    assert get(port, "/no-such-page")[0] == 404


def test_a_line_of_the_log_is_an_event(own):
    lines = [line for line in own.log_path.read_text().splitlines() if line.startswith("{")]
    events = [json.loads(line) for line in lines]
    assert any(event["msg"] == "ready" and event["level"] == "info" for event in events)
    for event in events:
        assert {"level", "ts", "msg", "logger"} <= set(event)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["ts"])
    # Every call over a millisecond is a slow one here: at most ten lines of that in ten seconds, and a count of the rest.
    slow = [event for event in events if event["msg"] == "a call was slow"]
    assert slow and all(event["component"] == "frontend" and event["took_ms"] >= 1 for event in slow)
    assert all("wf-namespace" in event and "wf-id" in event for event in slow)
    assert len(slow) < 100


def test_a_free_port_is_found_and_told(tmp_path):
    log = tmp_path / "log"
    with Server(log=log):
        port = int(re.search(r"Temporal Metrics: http://127.0.0.1:(\d+)/metrics", log.read_text()).group(1))
        assert get(port, "/livez")[0] == 200
        assert "service_requests" in get(port, "/metrics")[1] or get(port, "/metrics")[0] == 200
    with pytest.raises(OSError):
        get(port, "/livez")


def test_a_port_in_use_is_told(own, port, tmp_path):
    log = tmp_path / "log"
    other = Server("--metrics-port", str(port), log=log)
    other.spawn()
    assert other.process.wait(10) == 1
    assert f"127.0.0.1:{port} is in use" in log.read_text()

