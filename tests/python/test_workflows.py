"""What every user of an SDK relies on: activities, timers, signals, queries, cancellation, failure."""

import asyncio
import time
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import (Client, WorkflowContinuedAsNewError, WorkflowExecutionStatus, WorkflowFailureError,
                               WorkflowQueryFailedError)
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import (ActivityError, ApplicationError, CancelledError, TerminatedError,
                                   WorkflowAlreadyStartedError)
from temporalio.service import RPCError, RPCStatusCode

from workflows import (AsyncCompletion, Basket, CancelledActivity, Countdown, Greeting, Heartbeats, LocalSteps, Refused,
                       Retries, Saga, TimedOut, Timers, TimeoutSpec)

pytestmark = pytest.mark.usefixtures("worker")


async def event_types(handle) -> list[int]:
    """The types of a run's events, after a look at its numbering."""
    events = (await handle.fetch_history()).events
    assert [e.event_id for e in events] == list(range(1, len(events) + 1))
    return [e.event_type for e in events]


async def eventually(check, within_s: float = 10.0):
    """Repeats an awaitable check until it gives something true."""
    deadline = time.monotonic() + within_s
    while not (found := await check()):
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.1)
    return found


async def test_a_history_tells_when_a_worker_took_an_activity(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(TimedOut.run, TimeoutSpec(), id=workflow_id, task_queue=task_queue)
    assert await handle.result() == ["none"]
    times = {event.event_type: event.event_time.ToNanoseconds() / 1e9 for event in (await handle.fetch_history()).events}
    took = times[EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED] - times[EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED]
    assert took > 2.5, "the activity blocks for three seconds"


async def test_an_activity_gives_its_result(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Greeting.run, "Ada", id=workflow_id, task_queue=task_queue)
    assert await handle.result() == "Hello, Ada!"
    assert await event_types(handle) == [
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED, EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED, EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED, EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED]


async def test_a_failing_activity_is_retried(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Retries.run, 3, id=workflow_id, task_queue=task_queue)
    assert await handle.result() == 4
    types = await event_types(handle)
    assert types.count(EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED) == 1
    assert types.count(EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED) == 0


async def test_a_failure_travels_whole(client: Client, task_queue, workflow_id):
    with pytest.raises(WorkflowFailureError) as failure:
        await client.execute_workflow(Refused.run, id=workflow_id, task_queue=task_queue)
    activity_error = failure.value.cause
    assert isinstance(activity_error, ActivityError) and activity_error.activity_type == "refuse"
    cause = activity_error.cause
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type, cause.non_retryable, cause.details[0]) == ("not today", "Refused", True, {"code": 7})


async def test_timers_fire_late_never_early(client: Client, task_queue, workflow_id):
    half, one_and_a_half = await client.execute_workflow(Timers.run, id=workflow_id, task_queue=task_queue)
    assert 0.5 <= half < 2.5 and half + 1.0 <= one_and_a_half < half + 3.0


async def test_signals_arrive_in_order_and_queries_see_them(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue)
    names = [f"item-{n}" for n in range(20)]
    for name in names:
        await handle.signal(Basket.add, name)
    assert await handle.query(Basket.content) == names
    length = (await handle.describe()).history_length
    assert await handle.query(Basket.content) == names
    assert (await handle.describe()).history_length == length, "a query writes no history"
    await handle.signal(Basket.close)
    assert await handle.result() == names
    assert await handle.query(Basket.content) == names, "a closed workflow still answers"


async def test_a_failed_query_says_why(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue)
    with pytest.raises(WorkflowQueryFailedError, match="this query always fails"):
        await handle.query(Basket.broken)
    with pytest.raises(WorkflowQueryFailedError, match="unknown_query"):
        await handle.query("unknown_query")
    await handle.terminate()


async def test_signal_with_start_signals_first(client: Client, task_queue, workflow_id):
    for name in ("one", "two"):
        handle = await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue,
                                             start_signal="add", start_signal_args=[name])
    await handle.signal(Basket.close)
    assert await handle.result() == ["one", "two"]


async def test_cancelling_reaches_the_activity(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(CancelledActivity.run, id=workflow_id, task_queue=task_queue)

    async def activity_runs():
        pending = (await handle.describe()).raw_description.pending_activities
        return pending and pending[0].HasField("last_heartbeat_time")

    await eventually(activity_runs)
    await handle.cancel()
    # The activity answers its cancellation with a result, which counts as its completion.
    assert await handle.result() == "cleaned up"
    types = await event_types(handle)
    assert EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED in types


async def test_a_cancelled_workflow_ends_as_cancelled(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, CancelledError)
    assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED


async def test_terminate_gives_its_reason(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue)
    await handle.terminate("enough", reason="enough")
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, TerminatedError) and failure.value.cause.message == "enough"
    with pytest.raises(RPCError) as late:
        await handle.signal(Basket.close)
    assert late.value.status == RPCStatusCode.NOT_FOUND


async def test_continue_as_new_makes_a_chain_of_runs(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Countdown.run, args=[3, []], id=workflow_id, task_queue=task_queue)
    runs = await handle.result()
    assert len(set(runs)) == 4 and runs[0] == handle.first_execution_run_id
    first = client.get_workflow_handle(workflow_id, run_id=runs[0])
    with pytest.raises(WorkflowContinuedAsNewError) as continued:
        await first.result(follow_runs=False)
    assert continued.value.new_execution_run_id == runs[1]


async def test_a_saga_undoes_in_reverse(client: Client, task_queue, workflow_id):
    journal = await client.execute_workflow(Saga.run, id=workflow_id, task_queue=task_queue)
    assert journal == ["hotel-booked", "car-booked", "no seats", "car-booked-cancelled", "hotel-booked-cancelled"]


async def test_heartbeat_details_reach_the_next_attempt(client: Client, task_queue, workflow_id):
    assert await client.execute_workflow(Heartbeats.run, id=workflow_id, task_queue=task_queue) == [4, 10]


@pytest.mark.parametrize("spec, expected", [
    (TimeoutSpec(start_to_close_s=0.5), ["START_TO_CLOSE", "MAXIMUM_ATTEMPTS_REACHED"]),
    (TimeoutSpec(heartbeat_s=0.5), ["HEARTBEAT", "MAXIMUM_ATTEMPTS_REACHED"]),
    (TimeoutSpec(schedule_to_start_s=0.5, task_queue="nobody-polls-here"), ["SCHEDULE_TO_START", "TIMEOUT"]),
], ids=["start-to-close", "heartbeat", "schedule-to-start"])
async def test_activity_time_outs(client: Client, task_queue, workflow_id, spec, expected):
    assert await client.execute_workflow(TimedOut.run, spec, id=workflow_id, task_queue=task_queue) == expected


async def test_an_activity_can_be_completed_by_its_id(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(AsyncCompletion.run, id=workflow_id, task_queue=task_queue)

    async def activity_runs():
        pending = (await handle.describe()).raw_description.pending_activities
        return pending and pending[0].HasField("last_started_time")

    await eventually(activity_runs)
    await asyncio.sleep(0.2)
    elsewhere = client.get_async_activity_handle(workflow_id=workflow_id, run_id=None, activity_id="elsewhere")
    await elsewhere.heartbeat("still there")
    await elsewhere.complete("done by somebody else")
    assert await handle.result() == "done by somebody else"


async def test_markers_of_local_activities_and_patches(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(LocalSteps.run, id=workflow_id, task_queue=task_queue)
    assert await handle.result() == ["Hello, marker!", "True"]
    assert (await event_types(handle)).count(EventType.EVENT_TYPE_MARKER_RECORDED) == 2


async def test_an_id_is_used_by_one_running_workflow(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue)
    with pytest.raises(WorkflowAlreadyStartedError) as running:
        await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue)
    assert running.value.run_id == handle.result_run_id
    await handle.signal(Basket.close)
    await handle.result()
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.start_workflow(Basket.run, id=workflow_id, task_queue=task_queue,
                                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE)


async def test_workflow_time_outs(client: Client, task_queue, workflow_id):
    with pytest.raises(WorkflowFailureError, match="Workflow execution failed") as failure:
        await client.execute_workflow(Basket.run, id=workflow_id, task_queue=task_queue, run_timeout=timedelta(seconds=1))
    assert "timed out" in str(failure.value.cause).lower()


async def test_a_missing_workflow_is_not_found(client: Client, workflow_id):
    with pytest.raises(RPCError) as missing:
        await client.get_workflow_handle(workflow_id).describe()
    assert missing.value.status == RPCStatusCode.NOT_FOUND


async def test_started_workflows_are_listed_and_counted(client: Client, task_queue, workflow_id):
    handles = [await client.start_workflow(Greeting.run, "list", id=f"{workflow_id}-{n}", task_queue=task_queue,
                                           memo={"n": n}) for n in range(3)]
    for handle in handles:
        await handle.result()
    query = f"TaskQueue = '{task_queue}' AND ExecutionStatus = 'Completed'"

    async def all_three():
        return (await client.count_workflows(query)).count == 3

    await eventually(all_three)
    rows = [row async for row in client.list_workflows(query)]
    assert {row.id for row in rows} == {handle.id for handle in handles}
    assert sorted([await row.memo_value("n") for row in rows]) == [0, 1, 2]
