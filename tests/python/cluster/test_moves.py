"""A fourth node gets its share of the shards while unmodified SDK workers go on; every node answers for all shards; `move-shard` moves one."""

import asyncio
import time
import uuid

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from .nodes import Nodes
from .test_members import done, refused
from .test_split import AT_ONCE, Child, Patient, double, keep_on

SETTLES_WITHIN_S = 120


def shares(status: dict) -> dict[str, int]:
    """Shards that each node has a replica of."""
    names = {node["id"]: node["name"] for node in status["nodes"]}
    counts = dict.fromkeys(names.values(), 0)
    for shard in status["replicas"]:
        for node in shard["nodes"]:
            counts[names[node]] += 1
    return counts


def settled(nodes: Nodes) -> dict:
    began = time.monotonic()
    while True:
        status = nodes.status()
        shards = len(status["shards"])
        if len(status["replicas"]) == shards and all(one["placed"] for one in status["replicas"]) and not status["next_move"]:
            return status
        assert time.monotonic() - began < SETTLES_WITHIN_S, status
        time.sleep(0.3)


async def test_a_fourth_node_gets_its_share(tmp_path):
    nodes = Nodes(3, tmp_path)
    try:
        nodes.start()
        assert "every node has a replica" in refused(nodes.command("move-shard", "1", "--from", "node-1", "--to", "node-2"))
        clients = [await Client.connect(server.address) for server in nodes.servers]
        queue, ends, slowest = f"moves-{uuid.uuid4()}", asyncio.Event(), [0.0]
        async with Worker(clients[0], task_queue=queue, workflows=[Patient, Child], activities=[double],
                          workflow_runner=UnsandboxedWorkflowRunner()):
            load = [asyncio.create_task(keep_on(clients[n % 3], queue, n * 100_000, ends, slowest))
                    for n in range(AT_ONCE)]
            await asyncio.sleep(2)
            new = await asyncio.to_thread(nodes.add, "node-4")
            await asyncio.to_thread(new.await_ready, 60.0)
            told = done(await asyncio.to_thread(nodes.command, "add", "node-4", within_s=SETTLES_WITHIN_S))
            print(told)
            status = await asyncio.to_thread(settled, nodes)
            counts = shares(status)
            assert max(counts.values()) - min(counts.values()) <= 1, counts
            # One more, by hand.
            shard = status["replicas"][0]
            names = {node["id"]: node["name"] for node in status["nodes"]}
            source = names[shard["nodes"][0]]
            target = next(name for id, name in names.items() if id not in shard["nodes"])
            told = done(await asyncio.to_thread(
                nodes.command, "move-shard", str(shard["group"]), "--from", source, "--to", target, asked=1))
            assert f"{target} has the replica of shard {shard['group']} that {source} had" in told, told
            text = done(await asyncio.to_thread(nodes.command, "shards"))
            print(text)
            ends.set()
            numbers = await asyncio.gather(*load)
        print(f"{sum(numbers)} workflows while replicas moved, the slowest took {slowest[0]:.2f} s")
        for address in [server.address for server in nodes.servers]:
            client = await Client.connect(address)
            counted = await client.count_workflows(f"TaskQueue = '{queue}' AND ExecutionStatus = 'Completed'")
            assert counted.count == 2 * sum(numbers)
            listed = [found.id async for found in client.list_workflows(f"TaskQueue = '{queue}'", page_size=50)]
            assert len(listed) == len(set(listed)) == 2 * sum(numbers)
    finally:
        nodes.kill()
