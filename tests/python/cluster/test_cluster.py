"""Three real nodes, the SDK's clients and workers behind a balancer, and one node after the other killed and restarted.

The work, the ledger and the judgement are those of the test that kills a single server: nothing acknowledged is lost, nothing runs twice.

    MAINSTAY_CLUSTER_KILLS=4 MAINSTAY_CLUSTER_WORKFLOWS=20     the size; about a minute as it is
    MAINSTAY_CLUSTER_KEEP=DIR                                  keep data, ledger and logs there
"""

import asyncio
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from kill import judge
from kill.ledger import Ledger
from kill.load import LOST, Activities, Clients, Steps

from .nodes import Balancer, Nodes

KILLS = int(os.environ.get("MAINSTAY_CLUSTER_KILLS", 4))
IN_FLIGHT = int(os.environ.get("MAINSTAY_CLUSTER_WORKFLOWS", 20))
SETTLE_S = 120.0
BEGAN = time.monotonic()


async def probe(client: Client, gaps: list[float]) -> None:
    """Asks for a workflow all the time; how long each answer took, tries of the SDK included."""
    while True:
        began = time.monotonic()
        while True:
            try:
                await client.count_workflows("")
                break
            except RPCError:
                await asyncio.sleep(0.05)
        gaps.append(time.monotonic() - began)
        if gaps[-1] > 3.0:
            print(f"  an answer took {gaps[-1]:.1f} s, until {time.monotonic() - BEGAN:.1f}", flush=True)
        await asyncio.sleep(0.05)


async def kill_one_by_one(nodes: Nodes, rng: random.Random) -> None:
    """Each node dies in turn and comes back; so the last one to die has long been a follower, a leader, an owner."""
    for number in range(KILLS):
        await asyncio.sleep(rng.uniform(2.0, 4.0))
        server = nodes.servers[number % len(nodes.servers)]
        server.kill()
        print(f"  {time.monotonic() - BEGAN:.1f}: node {number % 3 + 1} is killed", flush=True)
        await asyncio.sleep(rng.uniform(1.0, 4.0))
        server.spawn()
        await asyncio.to_thread(server.await_ready, 30.0)
        print(f"  {time.monotonic() - BEGAN:.1f}: and serves again", flush=True)


async def run_load(nodes: Nodes, ledger: Ledger) -> tuple[Clients, list[float]]:
    rng, queue = random.Random(7), f"cluster-{time.time_ns()}"
    gaps: list[float] = []
    async with Balancer(nodes) as balancer:
        client = await Client.connect(balancer.address)
        clients = Clients(client, queue, (0.1, 1.5), random.Random(8))
        activities = Activities(ledger)
        with ThreadPoolExecutor(16) as threads:
            async with Worker(client, task_queue=queue, workflows=[Steps],
                              activities=[activities.steady, activities.once], activity_executor=threads,
                              max_concurrent_activities=16, workflow_runner=UnsandboxedWorkflowRunner()):
                load = asyncio.create_task(clients.run(IN_FLIGHT))
                probing = asyncio.create_task(probe(client, gaps))
                await kill_one_by_one(nodes, rng)
                clients.stop()
                _, unfinished = await asyncio.wait([load], timeout=SETTLE_S)
                probing.cancel()
                if unfinished:
                    load.cancel()  # the judge names what has no result
                else:
                    load.result()
    return clients, gaps


async def test_any_node_may_be_killed(tmp_path):
    scratch = Path(os.environ.get("MAINSTAY_CLUSTER_KEEP") or tmp_path)
    scratch.mkdir(parents=True, exist_ok=True)
    ledger, nodes = Ledger(scratch / "ledger"), Nodes(3, scratch)
    began = time.monotonic()
    try:
        nodes.start()
        formed = time.monotonic() - began
        clients, gaps = await run_load(nodes, ledger)
        book, ran = clients.book, ledger.read()
        breaches = judge.of_results(book) + judge.of_ledger(ran)
        breaches += await judge.of_server(await Client.connect(nodes.servers[0].address), book, ran)
        states = [node["state"] for node in nodes.status()["nodes"]]
    finally:
        nodes.kill()
        ledger.close()
    outcomes = [outcome for result in book.results.values() for outcome in result]
    print(f"\nformed in {formed:.1f} s; {KILLS} kills in {time.monotonic() - began:.0f} s; slowest answer {max(gaps):.2f} s; "
          f"{len(book.started)} workflows acknowledged, {len(book.results)} completed, {ran.total()} attempts ran, "
          f"{outcomes.count(LOST)} only attempts lost, {sum(map(len, book.signalled.values()))} signals acknowledged")
    assert states == ["serves"] * 3
    assert len(book.started) >= IN_FLIGHT
    assert not breaches, f"{len(breaches)} breaches:\n" + "\n".join(breaches[:50])
