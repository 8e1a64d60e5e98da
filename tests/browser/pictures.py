"""Draws the pictures of docs/ui.md: a server, a shop that works, a browser, and a page after the other.

    tests/venv python tests/browser/pictures.py [DIRECTORY]

It knows which pages are shown at which size. The directory is docs/ui if none is given.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.parse
from datetime import timedelta
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from temporalio.client import (Client, Schedule, ScheduleActionStartWorkflow, ScheduleCalendarSpec, ScheduleIntervalSpec,
                               ScheduleRange, ScheduleSpec)
from temporalio.worker import Worker

from chromium import Chromium
from shop import ACTIVITIES, QUEUE, WORKFLOWS, Order, Refund, Stocktaking
from support import Server, binary, free_port

DESK = dict(width=1280, height=800)
PHONE = dict(width=360, height=740, mobile=True)


async def work(client: Client) -> None:
    """Enough of every kind, some of it still going on."""
    orders = [await client.start_workflow(Order.run, args=[f"order-{1040 + n}", (0, 0, 2, 0, 1)[n % 5]], id=f"order-{1040 + n}", task_queue=QUEUE)
              for n in range(14)]
    for n in range(3):
        await client.start_workflow(Refund.run, f"order-{990 + n}", id=f"refund-{990 + n}", task_queue=QUEUE)
    await client.start_workflow(Stocktaking.run, id="stocktaking-north", task_queue=QUEUE)
    ended = await client.start_workflow(Stocktaking.run, id="stocktaking-south", task_queue=QUEUE)
    await ended.terminate("the warehouse is closed")
    late = await client.start_workflow(Stocktaking.run, id="stocktaking-west", task_queue=QUEUE, run_timeout=timedelta(seconds=1))
    await client.start_workflow("Invoice", id="invoice-2026-11", task_queue="billing")
    await client.create_schedule("nightly-stocktaking", Schedule(
        action=ScheduleActionStartWorkflow(Stocktaking.run, id="stocktaking", task_queue=QUEUE),
        spec=ScheduleSpec(calendars=[ScheduleCalendarSpec(hour=[ScheduleRange(2)], minute=[ScheduleRange(30)])], time_zone_name="Europe/Berlin")))
    await client.create_schedule("poll-suppliers", Schedule(
        action=ScheduleActionStartWorkflow(Refund.run, "supplier", id="supplier", task_queue=QUEUE),
        spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(minutes=15))])))
    await asyncio.gather(*(order.result() for order in orders))
    try:
        await late.result()
    except Exception:
        pass
    await client.start_workflow(Order.run, args=["order-2000", 1000], id="order-2000", task_queue=QUEUE)
    await client.start_workflow(Order.run, args=["order-2001", 0, True], id="order-2001", task_queue=QUEUE)
    await asyncio.sleep(2.5)


def draw(browser: Chromium, ui: str, into: Path) -> None:
    order = f"{ui}/namespaces/default/workflows/order-1042"
    pages = {
        "workflows": f"{ui}/namespaces/default/workflows",
        "workflow": order,
        "stuck": f"{ui}/namespaces/default/workflows/order-2000",
        "error": f"{ui}/namespaces/default/workflows?query=" + urllib.parse.quote("WorkflowType = 'Order' XOR a"),
        "schedules": f"{ui}/namespaces/default/schedules",
        "schedule": f"{ui}/namespaces/default/schedules/nightly-stocktaking",
        "task-queues": f"{ui}/namespaces/default/task-queues",
        "task-queue": f"{ui}/namespaces/default/task-queues/billing",
        "batches": f"{ui}/namespaces/default/batches",
        "namespaces": f"{ui}/namespaces",
        "namespace": f"{ui}/namespaces/default",
        "alone": f"{ui}/cluster",
        "missing": f"{ui}/namespaces/default/workflows/never-was",
    }
    for size, shape in (("desk", DESK), ("phone", PHONE)):
        for colours in ("light", "dark"):
            page = browser.page(dark=colours == "dark", **shape)
            for name, address in pages.items():
                page.go(address)
                page.js("new Promise(done => setTimeout(done, 150))")
                wide = page.js("document.documentElement.scrollWidth")
                if wide > shape["width"]:
                    print(f"{name} is {wide} wide on {size}")
                page.screenshot(into / f"{name}-{size}-{colours}.png", whole=name in ("workflow", "stuck"))


@contextlib.contextmanager
def cluster(scratch: Path):
    """Three nodes on this machine; gives where the first one's pages are."""
    # Ports of clients, nodes and pages, 1000 apart at most.
    first = next(port for port in range(22000, 22080, 3) if all(map(is_free, (*range(port, port + 3), *range(port + 100, port + 103)))))
    command = [binary(), "cluster", "dev", "--nodes", "3", "--port", str(first), "--data-dir", str(scratch)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        yield f"http://127.0.0.1:{first + 1000}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def is_free(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def draw_cluster(browser: Chromium, into: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, cluster(Path(scratch)) as ui:
        for colours in ("light", "dark"):
            page = browser.page(width=1280, height=480, dark=colours == "dark")
            page.go(f"{ui}/cluster").until("document.querySelectorAll('.map .leads').length >= 17")
            page.screenshot(into / f"cluster-desk-{colours}.png")


async def main(into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        port = free_port()
        with Server("--ui-port", str(port), data_dir=Path(scratch) / "data", log=Path(scratch) / "log", headless=False) as server:
            client = await Client.connect(server.address)
            async with Worker(client, task_queue=QUEUE, workflows=WORKFLOWS, activities=ACTIVITIES):
                await work(client)
                with Chromium() as browser:
                    await asyncio.to_thread(draw, browser, f"http://127.0.0.1:{port}", into)
                    await asyncio.to_thread(draw_cluster, browser, into)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/ui")))
