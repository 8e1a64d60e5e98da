"""A small shop with work of every kind, so that pages have something to show: orders that complete, fail, wait, retry, time
out, have children, take signals, updates and queries.
"""

import asyncio
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

QUEUE = "shop"
SECONDS = timedelta(seconds=1)


@activity.defn
async def reserve(order: str) -> dict:
    await asyncio.sleep(0.12)
    return {"order": order, "items": 3, "warehouse": "north"}


@activity.defn
async def charge(order: str, fails: int) -> str:
    await asyncio.sleep(0.2)
    if activity.info().attempt <= fails:
        raise ApplicationError(f"card of {order} declined: try again later", {"code": 51}, type="CardDeclined")
    return f"receipt of {order}"


@activity.defn
async def ship(order: str) -> str:
    await asyncio.sleep(0.25)
    return f"{order} left the house"


@workflow.defn
class Parcel:
    """A child of an order."""

    @workflow.run
    async def run(self, order: str) -> str:
        await workflow.sleep(0.2)
        return await workflow.execute_activity(ship, order, start_to_close_timeout=10 * SECONDS)


@workflow.defn
class Order:
    """Reserves, charges (sometimes only after retries), waits for approval if asked, ships by a child."""

    def __init__(self) -> None:
        self.state = "new"
        self.approved = False

    @workflow.run
    async def run(self, order: str, fails: int = 0, waits: bool = False) -> dict:
        self.state = "reserving"
        both = [workflow.execute_activity(reserve, order, start_to_close_timeout=10 * SECONDS),
                workflow.execute_activity(charge, args=[order, fails], start_to_close_timeout=10 * SECONDS, retry_policy=RetryPolicy(
                    initial_interval=timedelta(milliseconds=400), maximum_attempts=4 if fails < 100 else 0, maximum_interval=30 * SECONDS,
                    backoff_coefficient=1.5 if fails < 100 else 3))]
        reserved, receipt = await asyncio.gather(*both)
        if waits:
            self.state = "waits for approval"
            await workflow.wait_condition(lambda: self.approved)
        else:
            await workflow.sleep(0.4)
        self.state = "shipping"
        shipped = await workflow.execute_child_workflow(Parcel.run, order, id=f"{workflow.info().workflow_id}/parcel")
        self.state = "done"
        return {"receipt": receipt, "shipped": shipped, **reserved}

    @workflow.signal
    def approve(self, by: str = "") -> None:
        self.approved = True

    @workflow.query
    def status(self) -> str:
        return self.state

    @workflow.update
    def rename(self, name: str) -> str:
        self.state = name
        return f"now {name}"


@workflow.defn
class Refund:
    @workflow.run
    async def run(self, order: str) -> None:
        raise ApplicationError(f"{order} was never paid", type="NothingToRefund", non_retryable=True)


@workflow.defn
class Stocktaking:
    """Waits for ever, if nobody stops it."""

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)


WORKFLOWS = [Order, Parcel, Refund, Stocktaking]
ACTIVITIES = [reserve, charge, ship]
