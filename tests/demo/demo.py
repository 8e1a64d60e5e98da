#!/usr/bin/env python3
"""One durable workflow, end to end: an activity, a timer, a second activity, and its history as the server kept it.

    tests/venv python tests/demo/demo.py --address 127.0.0.1:7233

Client and worker are the public Temporal SDK, unmodified; `cargo xtask demo` runs this against a fresh server.
"""

import argparse
import asyncio
import os
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import Worker

TASK_QUEUE = "demo"


@activity.defn
def pack(order: str) -> str:
    return f"{order} packed"


@activity.defn
def ship(parcel: str) -> str:
    return f"{parcel} and shipped"


@workflow.defn
class Order:
    @workflow.run
    async def run(self, order: str) -> str:
        parcel = await workflow.execute_activity(pack, order, start_to_close_timeout=timedelta(seconds=10))
        await workflow.sleep(1)
        return await workflow.execute_activity(ship, parcel, start_to_close_timeout=timedelta(seconds=10))


async def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--address", default="127.0.0.1:7233")
    p.add_argument("--namespace", default="default")
    args = p.parse_args()

    client = await Client.connect(args.address, namespace=args.namespace)
    with ThreadPoolExecutor(2) as threads:
        async with Worker(client, task_queue=TASK_QUEUE, workflows=[Order], activities=[pack, ship], activity_executor=threads):
            began = time.monotonic()
            handle = await client.start_workflow(Order.run, "order 42", id=f"order-{uuid.uuid4()}", task_queue=TASK_QUEUE)
            print(f"started   {handle.id}")
            result = await handle.result()
            print(f"result    {result}")
            print(f"took      {time.monotonic() - began:.2f} s, of which 1 s was a durable timer")
    print("history")
    for event in (await handle.fetch_history()).events:
        name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").replace("_", " ").lower()
        print(f"  {event.event_id:3}  {name}")


if __name__ == "__main__":
    asyncio.run(main())
    # The SDK's native threads may still call into an interpreter that is going, which then aborts: one run in twelve did.
    sys.stdout.flush()
    os._exit(0)
