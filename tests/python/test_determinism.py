"""A worker with incompatible code is reported in history and does no harm: the right code goes on where it was."""

import asyncio
import time
from datetime import timedelta

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client

from conftest import a_worker
from workflows import ChangingBefore, ChangingBroken


async def failed_tasks(handle) -> list:
    return [e.workflow_task_failed_event_attributes for e in (await handle.fetch_history()).events
            if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]


async def test_a_non_deterministic_worker_is_reported_and_a_fix_recovers(client: Client, task_queue, workflow_id):
    async with a_worker(client, task_queue, workflows=[ChangingBefore]):
        handle = await client.start_workflow(ChangingBefore.run, id=workflow_id, task_queue=task_queue,
                                             task_timeout=timedelta(seconds=2))
        while not any(e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
                      for e in (await handle.fetch_history()).events):
            await asyncio.sleep(0.1)

    async with a_worker(client, task_queue, workflows=[ChangingBroken]):
        await handle.signal(ChangingBefore.proceed)
        deadline = time.monotonic() + 20
        while not (failures := await failed_tasks(handle)):
            assert time.monotonic() < deadline, "the worker's failure did not reach history"
            await asyncio.sleep(0.1)
    assert failures[0].cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR

    async with a_worker(client, task_queue, workflows=[ChangingBefore]):
        assert await asyncio.wait_for(handle.result(), 30) == "Hello, first!"
    assert len(await failed_tasks(handle)) == 1, "one event for a streak of failures"
