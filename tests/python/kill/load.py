"""The work that is in flight while the server dies: five activities with a timer after each, and signals.

It knows the SDK, the ledger and nothing of processes. Activities alternate between two kinds: `steady`, which is retried
for ever, and `once`, which has one attempt and may therefore be lost with a dying server, but never run twice.
"""

import asyncio
import random
import time
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import (
    Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError)
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, TimeoutError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from .ledger import Attempt, Ledger

STEPS = 5
LOST = "lost"
START_TO_CLOSE = timedelta(seconds=5)
BUSY_S = 0.3
"""At most how long an activity runs: long enough that servers die while some do."""
WORKFLOW_TASK_TIMEOUT = timedelta(seconds=3)

FINAL = {RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.ALREADY_EXISTS,
         RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED,
         RPCStatusCode.DATA_LOSS, RPCStatusCode.OUT_OF_RANGE}
"""Answers that a dying server does not excuse."""


@dataclass
class Job:
    """What one workflow is to do."""

    pauses_s: list[float]


def expected(workflow_id: str, step: int) -> str:
    """The right result of a step."""
    return f"{workflow_id}/{step}"


class Activities:
    """Bound to a ledger; both kinds do the same."""

    def __init__(self, ledger: Ledger):
        self._ledger = ledger

    @activity.defn(name="steady")
    def steady(self, step: int) -> str:
        return self._perform(step, once=False)

    @activity.defn(name="once")
    def once(self, step: int) -> str:
        return self._perform(step, once=True)

    def _perform(self, step: int, once: bool) -> str:
        info = activity.info()
        self._ledger.write(Attempt(info.workflow_id, info.workflow_run_id, info.activity_id, info.attempt, once))
        time.sleep(random.uniform(0.0, BUSY_S))
        return expected(info.workflow_id, step)


@workflow.defn
class Steps:
    """Returns the outcome of each step: its value, or LOST for an only attempt that timed out."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.ticks: list[str] = []

    @workflow.signal
    def note(self, text: str) -> None:
        self.notes.append(text)

    @workflow.update
    async def tick(self, text: str) -> str:
        self.ticks.append(text)
        return text

    @workflow.run
    async def run(self, job: Job) -> list[str]:
        outcomes = []
        for step, pause in enumerate(job.pauses_s):
            outcomes.append(await (self.once(step) if step % 2 else self.steady(step)))
            await workflow.sleep(pause)
        return outcomes

    async def steady(self, step: int) -> str:
        return await workflow.execute_activity(
            "steady", step, result_type=str, start_to_close_timeout=START_TO_CLOSE,
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=1.0))

    async def once(self, step: int) -> str:
        try:
            return await workflow.execute_activity(
                "once", step, result_type=str, start_to_close_timeout=START_TO_CLOSE,
                retry_policy=RetryPolicy(maximum_attempts=1))
        except ActivityError as error:
            if isinstance(error.cause, TimeoutError):
                return LOST
            raise


@dataclass
class Book:
    """What clients were told. Everything in it is a promise of the server, but for `maybe_signalled`."""

    started: dict[str, int] = field(default_factory=dict)
    """Workflow id to its number of steps, once a start was acknowledged."""
    results: dict[str, list[str]] = field(default_factory=dict)
    signalled: dict[str, list[str]] = field(default_factory=dict)
    maybe_signalled: dict[str, list[str]] = field(default_factory=dict)
    updated: dict[str, list[str]] = field(default_factory=dict)
    """Ids of updates whose result a client got."""
    broken: list[str] = field(default_factory=list)
    """Answers that no crash explains."""


class Clients:
    """Keeps a number of workflows in flight until told to stop, and writes down what it was told."""

    def __init__(self, client: Client, task_queue: str, pauses_s: tuple[float, float], rng: random.Random,
                 updates: bool = False):
        self._client, self._task_queue, self._pauses_s, self._rng = client, task_queue, pauses_s, rng
        self._updates = updates
        self._stopping = asyncio.Event()
        self.book = Book()

    def stop(self) -> None:
        """No further workflows; those in flight go on."""
        self._stopping.set()

    async def run(self, in_flight: int) -> None:
        """Ends when the last workflow after `stop` ended."""
        await asyncio.gather(*(self._chain(slot) for slot in range(in_flight)))

    async def _chain(self, slot: int) -> None:
        number = 0
        while not self._stopping.is_set():
            workflow_id = f"{self._task_queue}-{slot}-{number}"
            try:
                handle = await self._start(workflow_id)
                others = [asyncio.create_task(self._signals(handle))]
                if self._updates:
                    others.append(asyncio.create_task(self._update(handle)))
                self.book.results[workflow_id] = await insist(handle.result)
                for other in others:
                    other.cancel()
            except (RPCError, WorkflowFailureError) as error:
                self.book.broken.append(f"{workflow_id}: {error!r}, {error.__cause__!r}")
            number += 1

    async def _start(self, workflow_id: str) -> WorkflowHandle:
        job = Job([self._rng.uniform(*self._pauses_s) for _ in range(STEPS)])

        async def start() -> WorkflowHandle:
            try:
                return await self._client.start_workflow(
                    Steps.run, job, id=workflow_id, task_queue=self._task_queue, task_timeout=WORKFLOW_TASK_TIMEOUT)
            except WorkflowAlreadyStartedError:  # an earlier try came through, its answer did not
                return self._client.get_workflow_handle_for(Steps.run, workflow_id)

        handle = await insist(start)
        self.book.started[workflow_id] = STEPS
        return handle

    async def _signals(self, handle: WorkflowHandle) -> None:
        for number in range(3):
            await asyncio.sleep(self._rng.uniform(0.1, self._pauses_s[1]))
            text = f"{handle.id}#{number}"
            maybe = self.book.maybe_signalled.setdefault(handle.id, [])
            maybe.append(text)
            try:
                await handle.signal(Steps.note, text)
            except RPCError:
                continue  # unknown, or the workflow closed meanwhile
            maybe.remove(text)
            self.book.signalled.setdefault(handle.id, []).append(text)


    async def _update(self, handle: WorkflowHandle) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, self._pauses_s[1]))
        text = f"{handle.id}!"
        try:
            # Its id makes a repetition the same update.
            answer = await insist(lambda: handle.execute_update(Steps.tick, text, id=text))
        except (RPCError, WorkflowUpdateFailedError):
            return  # the workflow closed meanwhile
        if answer != text:
            self.book.broken.append(f"{handle.id}: the update {text!r} answered {answer!r}")
        self.book.updated.setdefault(handle.id, []).append(text)


async def insist(call):
    """Repeats a call while its failures may be a dead server's; the SDK's own patience ends after ten seconds."""
    while True:
        try:
            return await call()
        except RPCError as error:
            if error.status in FINAL:
                raise
            await asyncio.sleep(0.2)
        except WorkflowUpdateRPCTimeoutOrCancelledError:
            await asyncio.sleep(0.2)
