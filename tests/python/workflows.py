"""The workflows and activities of the suite, as a user would write them.

They know the SDK and nothing of the server. Each shows one behaviour; its test says what must come out.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutError, TimeoutType

ONE_ATTEMPT = RetryPolicy(maximum_attempts=1)
QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=200), backoff_coefficient=1.0)
TEN_SECONDS = timedelta(seconds=10)


@activity.defn
def greet(name: str) -> str:
    return f"Hello, {name}!"


@activity.defn
def flaky(failures: int) -> int:
    """Fails so many times; returns the attempt that succeeded."""
    attempt = activity.info().attempt
    if attempt <= failures:
        raise RuntimeError(f"attempt {attempt} fails")
    return attempt


@activity.defn
def refuse(message: str) -> None:
    raise ApplicationError(message, {"code": 7}, type="Refused", non_retryable=True)


@activity.defn
def resume_from_heartbeat(fail_after: int) -> list[int]:
    """Counts on from what the last attempt reported; dies once at `fail_after`. Returns where each attempt began."""
    details = list(activity.info().heartbeat_details)
    begin = details[0] if details else 0
    for done in range(begin, 10):
        activity.heartbeat(done + 1)
        if done + 1 == fail_after and activity.info().attempt == 1:
            raise RuntimeError("dies in the middle")
    return [begin, 10]


@activity.defn
def overrun(seconds: float) -> None:
    """Blocks longer than its time-out allows; no heartbeats."""
    time.sleep(seconds)


@activity.defn
async def wait_for_cancel() -> str:
    """Heartbeats until the server tells it about a cancellation."""
    try:
        while True:
            activity.heartbeat()
            await asyncio.sleep(0.1)
    except asyncio.CancelledError:
        return "cleaned up"


@activity.defn
def complete_elsewhere() -> str:
    """Hands its completion to somebody who knows the activity's id."""
    activity.raise_complete_async()


@activity.defn
def book(what: str) -> str:
    if what == "flight":
        raise ApplicationError("no seats", non_retryable=True)
    return f"{what}-booked"


@activity.defn
def cancel_booking(booking: str) -> str:
    return f"{booking}-cancelled"


ACTIVITIES = [greet, flaky, refuse, resume_from_heartbeat, overrun, wait_for_cancel, complete_elsewhere, book, cancel_booking]


@workflow.defn
class Greeting:
    @workflow.run
    async def run(self, name: str) -> str:
        return await workflow.execute_activity(greet, name, start_to_close_timeout=TEN_SECONDS)


@workflow.defn
class Retries:
    @workflow.run
    async def run(self, failures: int) -> int:
        return await workflow.execute_activity(flaky, failures, start_to_close_timeout=TEN_SECONDS, retry_policy=QUICK)


@workflow.defn
class Refused:
    """Lets the failure of its activity be its own."""

    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(refuse, "not today", start_to_close_timeout=TEN_SECONDS)


@workflow.defn
class Timers:
    """Two timers that fire and one that is cancelled; returns the measured seconds."""

    @workflow.run
    async def run(self) -> list[float]:
        began = workflow.now()
        late = asyncio.create_task(workflow.sleep(3600))
        measured = []
        for seconds in (0.5, 1.0):
            await workflow.sleep(seconds)
            measured.append((workflow.now() - began).total_seconds())
        late.cancel()
        return measured


@workflow.defn
class Basket:
    """Collects by signal, shows by query, ends by signal."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self) -> list[str]:
        await workflow.wait_condition(lambda: self.closed)
        return self.items

    @workflow.signal
    def add(self, item: str) -> None:
        self.items.append(item)

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.query
    def content(self) -> list[str]:
        return self.items

    @workflow.query
    def broken(self) -> None:
        raise ApplicationError("this query always fails")


@workflow.defn
class CancelledActivity:
    """Waits for its activity to clean up after a cancellation, then ends as cancelled."""

    @workflow.run
    async def run(self) -> str:
        running = workflow.start_activity(
            wait_for_cancel, start_to_close_timeout=timedelta(seconds=60), heartbeat_timeout=timedelta(seconds=5),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED)
        try:
            return await running
        except asyncio.CancelledError:
            workflow.logger.debug("cancelled")
            raise


@workflow.defn
class Countdown:
    """Continues as new until nothing is left."""

    @workflow.run
    async def run(self, left: int, runs: list[str]) -> list[str]:
        runs.append(workflow.info().run_id)
        if left > 0:
            workflow.continue_as_new(args=[left - 1, runs])
        return runs


@workflow.defn
class Saga:
    """Books a journey; undoes what it booked, last first, when a step fails."""

    @workflow.run
    async def run(self) -> list[str]:
        undo, journal = [], []
        try:
            for what in ("hotel", "car", "flight"):
                booking = await workflow.execute_activity(book, what, start_to_close_timeout=TEN_SECONDS)
                journal.append(booking)
                undo.append(booking)
        except ActivityError as error:
            journal.append(str(error.cause))
            for booking in reversed(undo):
                journal.append(await workflow.execute_activity(
                    cancel_booking, booking, start_to_close_timeout=TEN_SECONDS))
        return journal


@workflow.defn
class Heartbeats:
    @workflow.run
    async def run(self) -> list[int]:
        return await workflow.execute_activity(
            resume_from_heartbeat, 4, start_to_close_timeout=TEN_SECONDS, heartbeat_timeout=timedelta(seconds=5),
            retry_policy=QUICK)


@dataclass
class TimeoutSpec:
    """Which time-out an activity is to run into."""

    start_to_close_s: float | None = None
    schedule_to_start_s: float | None = None
    heartbeat_s: float | None = None
    task_queue: str | None = None


@workflow.defn
class TimedOut:
    """Returns the names of the time-out that ended its activity and of the retry state it ended in."""

    @workflow.run
    async def run(self, spec: TimeoutSpec) -> list[str]:
        def seconds(value: float | None) -> timedelta | None:
            return timedelta(seconds=value) if value else None
        try:
            await workflow.execute_activity(
                overrun, 3.0, task_queue=spec.task_queue, retry_policy=ONE_ATTEMPT,
                start_to_close_timeout=seconds(spec.start_to_close_s or 30), heartbeat_timeout=seconds(spec.heartbeat_s),
                schedule_to_start_timeout=seconds(spec.schedule_to_start_s))
        except ActivityError as error:
            if isinstance(error.cause, TimeoutError):
                return [TimeoutType(error.cause.type).name, error.retry_state.name]
            raise
        return ["none"]


@workflow.defn
class AsyncCompletion:
    @workflow.run
    async def run(self) -> str:
        return await workflow.execute_activity(
            complete_elsewhere, activity_id="elsewhere", start_to_close_timeout=timedelta(seconds=30))


@workflow.defn
class LocalSteps:
    """Local activities and a side effect: markers in history."""

    @workflow.run
    async def run(self) -> list[str]:
        first = await workflow.execute_local_activity(greet, "marker", start_to_close_timeout=TEN_SECONDS)
        await workflow.sleep(0.1)
        return [first, str(workflow.patched("later-change"))]


@workflow.defn(name="Changing")
class ChangingBefore:
    """What is deployed first: one activity, then a signal."""

    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self) -> str:
        text = await workflow.execute_activity(greet, "first", start_to_close_timeout=TEN_SECONDS)
        await workflow.wait_condition(lambda: self.go)
        return text

    @workflow.signal
    def proceed(self) -> None:
        self.go = True


@workflow.defn(name="Changing")
class ChangingBroken:
    """The mistake: a timer where history has an activity."""

    def __init__(self) -> None:
        self.go = False

    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(0.1)
        await workflow.wait_condition(lambda: self.go)
        return "never seen"

    @workflow.signal
    def proceed(self) -> None:
        self.go = True


WORKFLOWS = [Greeting, Retries, Refused, Timers, Basket, CancelledActivity, Countdown, Saga, Heartbeats, TimedOut,
             AsyncCompletion, LocalSteps]
