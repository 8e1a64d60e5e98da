"""`kill -9` at random moments: nothing acknowledged is lost, nothing runs twice.

Hundreds of workflows are kept in flight while the server dies and comes back on the same data directory. SIGKILL keeps
what the operating system holds, so this shows recovery and not fsync; lost writes belong to the simulator.

    MAINSTAY_KILL_SMOKE=1       the size for continuous integration: 30 workflows in flight, 5 kills
    MAINSTAY_KILL_WORKFLOWS=200 MAINSTAY_KILL_COUNT=20      otherwise
    MAINSTAY_KILL_SEED=…        the same moments and pauses again (never quite the same run: the machine has its say)
    MAINSTAY_KILL_KEEP=DIR      keep data, ledger and the server's log there
"""

import asyncio
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from support import Server

from . import judge
from .ledger import Ledger
from .load import LOST, Activities, Clients, Steps

SETTLE_S = 180.0
"""After the last restart everything must end within this."""

RESTART_WITHIN_S = 20.0
"""A server with a log to replay may take longer than a fresh one."""


@dataclass
class Size:
    in_flight: int
    kills: int
    pauses_s: tuple[float, float]
    seed: int

    @staticmethod
    def chosen() -> "Size":
        smoke = bool(os.environ.get("MAINSTAY_KILL_SMOKE"))
        return Size(in_flight=int(os.environ.get("MAINSTAY_KILL_WORKFLOWS", 30 if smoke else 200)),
                    kills=int(os.environ.get("MAINSTAY_KILL_COUNT", 5 if smoke else 20)),
                    pauses_s=(0.1, 2.0) if smoke else (0.3, 5.0),
                    seed=int(os.environ.get("MAINSTAY_KILL_SEED", random.SystemRandom().randrange(1 << 32))))


async def kill_and_restart(server: Server, size: Size, rng: random.Random) -> list[float]:
    """Kills as often as asked, sometimes in the middle of a start; returns how long the restarts took."""
    restarts, kills = [], 0
    while kills < size.kills:
        await asyncio.sleep(rng.uniform(0.2, 3.5))
        server.kill()
        kills += 1
        if rng.random() < 0.2 and kills < size.kills:
            server.spawn()
            await asyncio.sleep(rng.uniform(0.0, 0.5))
            server.kill()
            kills += 1
        server.spawn()
        restarts.append(await asyncio.to_thread(server.await_ready, RESTART_WITHIN_S))
    return restarts


async def run_load(server: Server, ledger: Ledger, size: Size) -> tuple[Clients, list[float]]:
    """Keeps the load on while the server dies, then lets it end."""
    rng = random.Random(size.seed)
    client = await Client.connect(server.address)
    clients = Clients(client, f"kill-{size.seed}", size.pauses_s, random.Random(size.seed + 1))
    activities = Activities(ledger)
    with ThreadPoolExecutor(16) as threads:
        async with Worker(client, task_queue=f"kill-{size.seed}", workflows=[Steps],
                          activities=[activities.steady, activities.once], activity_executor=threads,
                          max_cached_workflows=size.in_flight // 2, max_concurrent_activities=16,
                          workflow_runner=UnsandboxedWorkflowRunner()):
            load = asyncio.create_task(clients.run(size.in_flight))
            restarts = await kill_and_restart(server, size, rng)
            clients.stop()
            _, unfinished = await asyncio.wait([load], timeout=SETTLE_S)
            if unfinished:
                load.cancel()  # the judge names what has no result
            else:
                load.result()
    return clients, restarts


async def test_killed_servers_lose_nothing(tmp_path):
    size = Size.chosen()
    print(f"\n{size}", flush=True)
    scratch = Path(os.environ.get("MAINSTAY_KILL_KEEP") or tmp_path)
    scratch.mkdir(parents=True, exist_ok=True)
    ledger = Ledger(scratch / f"ledger-{size.seed}")
    began = time.monotonic()
    server = Server(data_dir=scratch / f"data-{size.seed}", log=scratch / f"server-{size.seed}.log")
    try:
        server.start()
        clients, restarts = await run_load(server, ledger, size)
        book, ran = clients.book, ledger.read()
        breaches = judge.of_results(book) + judge.of_ledger(ran)
        breaches += await judge.of_server(await Client.connect(server.address), book, ran)
    finally:
        server.kill()
        ledger.close()
    outcomes = [outcome for result in book.results.values() for outcome in result]
    print(f"{size.kills} kills in {time.monotonic() - began:.0f} s, slowest restart {max(restarts):.2f} s; "
          f"{len(book.started)} workflows acknowledged, {len(book.results)} completed, {ran.total()} attempts ran, "
          f"{outcomes.count(LOST)} only attempts lost, {sum(map(len, book.signalled.values()))} signals acknowledged")
    assert len(book.started) >= size.in_flight
    assert not breaches, f"{len(breaches)} breaches, seed {size.seed}:\n" + "\n".join(breaches[:50])
