"""Shards are split under load from unmodified SDK workers: no call fails, no workflow is lost, and each gets what it was sent once.

    MAINSTAY_SPLITS=2            how many shards are split, one after the other
"""

import asyncio
import os
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload, Payloads, WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import SignalWithStartWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from .nodes import Nodes
from .test_members import done, refused

SPLITS = int(os.environ.get("MAINSTAY_SPLITS", 2))
AT_ONCE = 12


@activity.defn
async def double(number: int) -> int:
    return 2 * number


@workflow.defn(sandboxed=False)
class Patient:
    """Waits for a signal, a timer and an activity; tells a neighbour, who may live in another shard."""

    def __init__(self) -> None:
        self.heard: list[int] = []

    @workflow.signal
    async def hear(self, number: int) -> None:
        self.heard.append(number)

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: bool(self.heard))
        await workflow.sleep(timedelta(milliseconds=500))
        doubled = await workflow.execute_activity(double, self.heard[0],
                                                  start_to_close_timeout=timedelta(seconds=60))
        assert len(self.heard) == 1, self.heard
        return await workflow.execute_child_workflow(Child.run, doubled, id=f"{workflow.info().workflow_id}-child")


@workflow.defn(sandboxed=False)
class Child:
    @workflow.run
    async def run(self, number: int) -> int:
        return number + 1


async def one(client: Client, queue: str, number: int) -> None:
    """A start with a signal, once and without the SDK's own retries; the result must come."""
    workflow_id = f"{queue}-{number}"
    value = Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=str(number).encode())])
    await client.workflow_service.signal_with_start_workflow_execution(SignalWithStartWorkflowExecutionRequest(
        namespace=client.namespace, workflow_id=workflow_id, workflow_type=WorkflowType(name="Patient"),
        task_queue=TaskQueue(name=queue), request_id=workflow_id, signal_name="hear", signal_input=value), retry=False)
    result = await asyncio.wait_for(client.get_workflow_handle(workflow_id, result_type=int).result(), 60)
    assert result == 2 * number + 1, (number, result)


async def keep_on(client: Client, queue: str, first: int, ends: asyncio.Event, slowest: list[float]) -> int:
    number = first
    while not ends.is_set():
        begun = asyncio.get_running_loop().time()
        await one(client, queue, number)
        slowest[0] = max(slowest[0], asyncio.get_running_loop().time() - begun)
        number += 1
    return number - first


async def test_shards_are_split_under_load(tmp_path):
    nodes = Nodes(3, tmp_path)
    try:
        nodes.start()
        clients = [await Client.connect(server.address) for server in nodes.servers]
        queue, ends, slowest = f"split-{uuid.uuid4()}", asyncio.Event(), [0.0]
        async with Worker(clients[0], task_queue=queue, workflows=[Patient, Child], activities=[double],
                          workflow_runner=UnsandboxedWorkflowRunner()):
            load = [asyncio.create_task(keep_on(clients[n % 3], queue, n * 100_000, ends, slowest))
                    for n in range(AT_ONCE)]
            await asyncio.sleep(3)
            shards = len(nodes.status()["shards"])
            for number in range(SPLITS):
                told = done(await asyncio.to_thread(nodes.command, "split-shard", str(number + 1), asked=number % 3))
                assert f"shard {shards + number + 1} serves slots" in told, told
            assert "there is no shard 99" in refused(nodes.command("split-shard", "99"))
            ends.set()
            numbers = await asyncio.gather(*load)
        print(f"{sum(numbers)} workflows while {SPLITS} shards were split, the slowest took {slowest[0]:.2f} s")
        assert len(nodes.status()["shards"]) == shards + SPLITS
        for client in clients:
            counted = await client.count_workflows(f"TaskQueue = '{queue}' AND ExecutionStatus = 'Completed'")
            assert counted.count == 2 * sum(numbers)
        assert done(nodes.command("check")) == "nothing is wrong\n"
    finally:
        nodes.kill()
