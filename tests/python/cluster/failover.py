"""How long a killed node's shards do not serve: a distribution over many kills.

    MAINSTAY_BIN=… tests/venv python tests/python/cluster/failover.py [KILLS]

Three nodes with default settings. Again and again the node that leads most is killed (SIGKILL), and each of many workflows, which
spread over all shards, is signalled at the two others until that works. The slowest of them says when all shards served again; every
second kill finds the shards quiet. Then a worker's queues: how long until each of several task queues gives a new workflow's task.
"""

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from google.protobuf.duration_pb2 import Duration
from temporalio.api.common.v1 import WorkflowExecution, WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    PollWorkflowTaskQueueRequest, SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest)
from temporalio.client import Client
from temporalio.service import RPCError

from cluster.nodes import Nodes

PROBES = 64
"""Workflows that are signalled. With 16 shards one of them has none about once in four runs."""
QUEUES = 8
QUIET_S = 3.5
"""After so long without work all shards are quiet."""
OUTAGE_S = 0.2
"""A probe that took longer was at a shard that had lost its leader."""


@dataclass
class Figures:
    """In seconds."""

    whole: list[float] = field(default_factory=list)
    """For each kill: until every shard served."""
    shards: list[float] = field(default_factory=list)
    """For each probe that was held up."""
    queues: list[float] = field(default_factory=list)
    """For each kill: until every queue gave a new task."""


def p(values: list[float], percent: float) -> float:
    """A percentile of measured values, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def line(name: str, values: list[float]) -> str:
    return (f"{name:<34} n={len(values):<5} p50 {p(values, 50):.2f}  p90 {p(values, 90):.2f}  p99 {p(values, 99):.2f}  "
            f"max {max(values, default=0):.2f}  mean {statistics.fmean(values) if values else 0:.2f} s")


async def start(client: Client, workflow_id: str, queue: str) -> None:
    request = StartWorkflowExecutionRequest(
        namespace="default", workflow_id=workflow_id, workflow_type=WorkflowType(name="probe"),
        task_queue=TaskQueue(name=queue), request_id=workflow_id, workflow_task_timeout=Duration(seconds=60))
    await client.workflow_service.start_workflow_execution(request)


async def signal(client: Client, workflow_id: str) -> None:
    execution = WorkflowExecution(workflow_id=workflow_id)
    request = SignalWorkflowExecutionRequest(
        namespace="default", workflow_execution=execution, signal_name="probe", request_id=str(uuid.uuid4()))
    await client.workflow_service.signal_workflow_execution(request)


async def until_done(call) -> None:
    while True:
        try:
            await asyncio.wait_for(call(), 12)
            return
        except (RPCError, asyncio.TimeoutError):
            await asyncio.sleep(0.02)


async def a_queue(client: Client, other: Client, number: int) -> None:
    """A new workflow is started at one node, and its task polled at another."""
    queue, workflow_id = f"queue-{number}", f"task-{number}-{uuid.uuid4()}"
    await until_done(lambda: start(client, workflow_id, queue))
    while True:
        request = PollWorkflowTaskQueueRequest(namespace="default", task_queue=TaskQueue(name=queue), identity="probe")
        try:
            task = await asyncio.wait_for(other.workflow_service.poll_workflow_task_queue(request), 70)
            if task.workflow_execution.workflow_id == workflow_id:
                return
        except (RPCError, asyncio.TimeoutError):
            await asyncio.sleep(0.02)


def leads(nodes: Nodes) -> list[int]:
    """How many groups each node leads, once all serve and nothing is behind."""
    for _ in range(300):
        try:
            status = nodes.status()["nodes"]
        except Exception:
            time.sleep(0.1)
            continue
        last = {}
        for node in status:
            for group in node["groups"]:
                last[group["group"]] = max(last.get(group["group"], 0), group["applied"])
        behind = any(group["applied"] < last[group["group"]] for node in status for group in node["groups"])
        led = sum(group["leads"] for node in status for group in node["groups"])
        if all(node["state"] == "serves" for node in status) and not behind and led == len(last):
            return [sum(group["leads"] for group in node["groups"]) for node in status]
        time.sleep(0.1)
    raise RuntimeError(f"the cluster does not settle: {nodes.status()}")


async def kill_one(nodes: Nodes, clients: list[Client], figures: Figures, quiet: bool) -> str:
    led = await asyncio.to_thread(leads, nodes)
    victim = max(range(len(led)), key=lambda number: led[number])
    others = [client for number, client in enumerate(clients) if number != victim]
    if quiet:
        await asyncio.sleep(QUIET_S)
    else:
        await asyncio.gather(*(until_done(lambda n=n: signal(others[n % 2], f"probe-{n}")) for n in range(PROBES)))
    nodes.servers[victim].kill()
    killed = time.monotonic()

    async def timed(call) -> float:
        await call
        return time.monotonic() - killed

    probes = [timed(until_done(lambda n=n: signal(others[n % 2], f"probe-{n}"))) for n in range(PROBES)]
    queues = [timed(a_queue(others[n % 2], others[(n + 1) % 2], n)) for n in range(QUEUES)]
    took = await asyncio.gather(*probes, *queues)
    figures.whole.append(max(took[:PROBES]))
    figures.shards += [one for one in took[:PROBES] if one > OUTAGE_S]
    figures.queues.append(max(took[PROBES:]))
    nodes.servers[victim].spawn()
    await asyncio.to_thread(nodes.servers[victim].await_ready, 30.0)
    clients[victim] = await Client.connect(nodes.servers[victim].address)
    return f"node {victim + 1}, which led {led[victim]}, {'quiet' if quiet else 'awake'}: " \
           f"shards {max(took[:PROBES]):.2f} s, queues {max(took[PROBES:]):.2f} s"


async def measure(kills: int, scratch: Path, tell=print) -> tuple[Figures, Figures]:
    """Figures of kills that found the shards awake, and quiet."""
    nodes, awake, asleep = Nodes(3, scratch), Figures(), Figures()
    try:
        nodes.start()
        clients = [await Client.connect(server.address) for server in nodes.servers]
        await asyncio.gather(*(until_done(lambda n=n: start(clients[n % 3], f"probe-{n}", "none")) for n in range(PROBES)))
        for number in range(kills):
            quiet = number % 2 == 1
            tell(f"  kill {number + 1}: {await kill_one(nodes, clients, asleep if quiet else awake, quiet)}")
    finally:
        nodes.kill()
    return awake, asleep


def report(awake: Figures, asleep: Figures) -> str:
    lines = []
    for name, figures in (("awake", awake), ("quiet", asleep)):
        lines += [line(f"{name}: all shards serve", figures.whole), line(f"{name}: each shard that was led", figures.shards),
                  line(f"{name}: all queues give tasks", figures.queues)]
    lines.append(line("all kills: all shards serve", awake.whole + asleep.whole))
    return "\n".join(lines)


async def main(kills: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        awake, asleep = await measure(kills, Path(scratch), lambda text: print(text, flush=True))
    print(report(awake, asleep))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 30))
