"""Three real nodes, workers of the SDKs for Python and Go behind a balancer, and everything that may happen to a node meanwhile.

Nodes are killed, lose their disks, are paused, cut off, replaced and restarted. The work, the ledger and the judgement are those of the test
that kills a single server: nothing acknowledged is lost, nothing runs twice.

    MAINSTAY_CLUSTER_LONG=1           everything, until 2,000 workflows were started; else what fits into a minute and a half
    MAINSTAY_CLUSTER_WORKFLOWS=20     workflows in flight
    MAINSTAY_CLUSTER_SEED=N           other choices
    MAINSTAY_CLUSTER_KEEP=DIR         keep data, ledger and logs there
"""

import asyncio
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from kill import judge
from kill.ledger import Ledger
from kill.load import LOST, Activities, Clients, Steps

from .cutting import Proxies
from .faults import Faults, say
from .go_worker import GoWorker, build, is_possible, replay
from .nodes import Balancer, Nodes

LONG = os.environ.get("MAINSTAY_CLUSTER_LONG") == "1"
IN_FLIGHT = int(os.environ.get("MAINSTAY_CLUSTER_WORKFLOWS", 60 if LONG else 20))
SEED = int(os.environ.get("MAINSTAY_CLUSTER_SEED", 7))
WORKFLOWS = 2000
KILL_EVERY_S = 5.0
PAUSES_S = (0.1, 1.5)
SETTLE_S = 120.0

Loads = dict[str, Clients]
"""By the SDK whose worker does the work."""


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
            say(f"an answer took {gaps[-1]:.1f} s")
        await asyncio.sleep(0.05)


async def short(faults: Faults, rng: random.Random) -> None:
    """Each of three nodes dies in turn; then one loses its disk, one is paused, one cut off."""
    for number in range(3):
        await asyncio.sleep(rng.uniform(1.0, 3.0))
        await faults.kill(number)
    await faults.wipe()
    await faults.pause(5.0)
    await asyncio.sleep(2.0)
    await faults.cut(5.0)
    await asyncio.sleep(2.0)


async def long(faults: Faults, rng: random.Random, started) -> None:
    """A node dies every few seconds; between, once or more, everything else."""
    special = [faults.wipe, faults.pause, faults.replace, faults.cut, faults.roll, faults.pause, faults.cut]
    turn = 0
    while started() < WORKFLOWS or turn < 5 * len(special):
        await asyncio.sleep(KILL_EVERY_S)
        await faults.kill()
        turn += 1
        if turn % 5 == 0 and turn // 5 <= len(special):
            await special[turn // 5 - 1]()


async def run_load(nodes: Nodes, ledger: Ledger, faults: Faults, rng: random.Random, go: Path | None) -> tuple[Loads, list[float]]:
    """Half of the workflows for a worker with the SDK for Python, half for one with the SDK for Go, if that could be built."""
    name = f"cluster-{time.time_ns()}"
    gaps: list[float] = []
    async with Balancer(nodes) as balancer, AsyncExitStack() as workers:
        client = await Client.connect(balancer.address)
        activities, threads = Activities(ledger), workers.enter_context(ThreadPoolExecutor(32))
        await workers.enter_async_context(Worker(
            client, task_queue=f"{name}-python", workflows=[Steps], activities=[activities.steady, activities.once],
            activity_executor=threads, max_concurrent_activities=32, workflow_runner=UnsandboxedWorkflowRunner()))
        loads = {"python": Clients(client, f"{name}-python", PAUSES_S, random.Random(SEED + 1), updates=True)}
        if go:
            await workers.enter_async_context(GoWorker(go, balancer.address, f"{name}-go", ledger.path))
            loads["go"] = Clients(client, f"{name}-go", PAUSES_S, random.Random(SEED + 2), updates=True)
        load = asyncio.gather(*(clients.run(IN_FLIGHT // len(loads)) for clients in loads.values()))
        probing = asyncio.create_task(probe(client, gaps))
        await (long(faults, rng, lambda: sum(len(clients.book.started) for clients in loads.values())) if LONG else short(faults, rng))
        for clients in loads.values():
            clients.stop()
        _, unfinished = await asyncio.wait([load], timeout=SETTLE_S)
        probing.cancel()
        if unfinished:
            load.cancel()  # the judge names what has no result
        else:
            load.result()
    return loads, gaps


async def judge_all(address: str, loads: Loads, ledger: Ledger, go: Path | None) -> list[str]:
    ran, client = ledger.read(), await Client.connect(address)
    breaches = judge.of_ledger(ran)
    for sdk, clients in loads.items():
        breaches += judge.of_results(clients.book)
        breaches += await judge.of_server(client, clients.book, ran, replays=sdk == "python")
    if go:
        breaches += await replay(go, address, list(loads["go"].book.results))
    return breaches


async def test_any_node_may_fail(tmp_path):
    scratch = Path(os.environ.get("MAINSTAY_CLUSTER_KEEP") or tmp_path)
    scratch.mkdir(parents=True, exist_ok=True)
    ledger, nodes = Ledger(scratch / "ledger"), Nodes(3, scratch, proxied=True)
    go = await build(scratch) if is_possible() else None
    if not go:
        say("SKIPPED the worker of the Go SDK: there is no `go` here")
    began, rng = time.monotonic(), random.Random(SEED)
    try:
        async with Proxies(nodes.peer_ports, nodes.pids) as proxies:
            await asyncio.to_thread(nodes.start)
            faults = Faults(nodes, proxies, rng)
            loads, gaps = await run_load(nodes, ledger, faults, rng, go)
            await faults.settled()
            breaches = await judge_all(nodes.servers[faults.members[0]].address, loads, ledger, go)
            ran = ledger.read()
    finally:
        nodes.kill()
        ledger.close()
    print(f"\n{len(faults.done)} faults in {time.monotonic() - began:.0f} s; slowest answer {max(gaps):.2f} s; {ran.total()} attempts ran")
    for sdk, clients in loads.items():
        book = clients.book
        outcomes = [outcome for result in book.results.values() for outcome in result]
        print(f"{sdk}: {len(book.started)} workflows acknowledged, {len(book.results)} completed, "
              f"{outcomes.count(LOST)} only attempts lost, {sum(map(len, book.signalled.values()))} signals and "
              f"{sum(map(len, book.updated.values()))} updates answered")
    started = [len(clients.book.started) for clients in loads.values()]
    assert sum(started) >= (WORKFLOWS if LONG else IN_FLIGHT) and min(started) >= IN_FLIGHT // len(loads)
    assert not breaches, f"{len(breaches)} breaches:\n" + "\n".join(breaches[:50])
