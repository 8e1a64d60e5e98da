"""Updates through an SDK: stages, validators, several at once, update-with-start, a server that is killed."""

import asyncio
from datetime import timedelta

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import (Client, WithStartWorkflowOperation, WorkflowUpdateFailedError, WorkflowUpdateStage)
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from conftest import a_worker
from support import Server


@workflow.defn(sandboxed=False)
class Counter:
    """A number that updates change; ends when told."""

    def __init__(self) -> None:
        self.value = 0
        self.ended = False
        self.released = False

    @workflow.run
    async def run(self) -> int:
        await workflow.wait_condition(lambda: self.ended)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.value

    @workflow.update
    def add(self, number: int) -> int:
        self.value += number
        return self.value

    @add.validator
    def check_add(self, number: int) -> None:
        if number < 0:
            raise ApplicationError("only up", type="Negative")

    @workflow.update
    async def add_later(self, number: int) -> int:
        await workflow.wait_condition(lambda: self.released)
        self.value += number
        return self.value

    @workflow.update
    def fail(self) -> None:
        raise ApplicationError("as asked", type="Asked", non_retryable=True)

    @workflow.signal
    def release(self) -> None:
        self.released = True

    @workflow.signal
    def end(self) -> None:
        self.ended = True

    @workflow.query
    def current(self) -> int:
        return self.value


@pytest.fixture
async def counting(client, task_queue):
    async with a_worker(client, task_queue, workflows=[Counter]):
        yield


@pytest.fixture
async def counter(client: Client, counting, task_queue, workflow_id):
    handle = await client.start_workflow(Counter.run, id=workflow_id, task_queue=task_queue)
    await handle.query(Counter.current)
    return handle


async def types_of(handle) -> list[int]:
    return [e.event_type for e in (await handle.fetch_history()).events]


async def test_an_update_changes_the_workflow_and_answers(counter):
    assert await counter.execute_update(Counter.add, 2) == 2
    assert await counter.execute_update(Counter.add, 3) == 5
    await counter.signal(Counter.end)
    assert await counter.result() == 5


async def test_a_rejected_update_leaves_no_trace(counter):
    before = await types_of(counter)
    for _ in range(3):
        with pytest.raises(WorkflowUpdateFailedError) as failure:
            await counter.execute_update(Counter.add, -1)
        assert failure.value.cause.type == "Negative"
    assert await types_of(counter) == before
    assert await counter.execute_update(Counter.add, 1) == 1
    await counter.signal(Counter.end)
    assert await counter.result() == 1


async def test_a_failing_handler_fails_its_caller_only(counter):
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await counter.execute_update(Counter.fail)
    assert failure.value.cause.message == "as asked"
    assert await counter.query(Counter.current) == 0


async def test_stages(counter):
    update = await counter.start_update(Counter.add_later, 4, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    assert await counter.query(Counter.current) == 0
    await counter.signal(Counter.release)
    assert await update.result() == 4
    types = await types_of(counter)
    accepted = types.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED)
    assert accepted < types.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED)


async def test_several_at_once_happen_one_by_one(counter):
    answers = await asyncio.gather(*(counter.execute_update(Counter.add, 1) for _ in range(10)))
    assert sorted(answers) == list(range(1, 11))


async def test_an_update_id_is_used_once_also_after_the_close(counter):
    assert await counter.execute_update(Counter.add, 1, id="once") == 1
    assert await counter.execute_update(Counter.add, 1, id="once") == 1
    await counter.signal(Counter.end)
    assert await counter.result() == 1
    assert await counter.execute_update(Counter.add, 1, id="once") == 1
    with pytest.raises(RPCError) as refused:
        await counter.execute_update(Counter.add, 1, id="other")
    assert refused.value.status == RPCStatusCode.NOT_FOUND


async def test_an_accepted_update_fails_when_its_workflow_ends(client, counter):
    update = await counter.start_update(Counter.add_later, 1, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    await counter.terminate()
    with pytest.raises(WorkflowUpdateFailedError) as failure:
        await update.result()
    assert failure.value.cause.type == "AcceptedUpdateCompletedWorkflow"


async def test_update_with_start(client: Client, counting, task_queue, workflow_id):
    def start(policy=WorkflowIDConflictPolicy.USE_EXISTING):
        return WithStartWorkflowOperation(Counter.run, id=workflow_id, task_queue=task_queue, id_conflict_policy=policy)

    first, second = start(), start()
    assert await client.execute_update_with_start_workflow(Counter.add, 2, start_workflow_operation=first) == 2
    assert await client.execute_update_with_start_workflow(Counter.add, 3, start_workflow_operation=second) == 5
    handle = await first.workflow_handle()
    assert (await second.workflow_handle()).first_execution_run_id in (None, handle.first_execution_run_id)
    with pytest.raises(WorkflowAlreadyStartedError):
        await client.execute_update_with_start_workflow(
            Counter.add, 1, start_workflow_operation=start(WorkflowIDConflictPolicy.FAIL))
    await handle.signal(Counter.end)
    assert await handle.result() == 5


async def test_an_update_waits_for_a_worker(client: Client, task_queue, workflow_id):
    handle = await client.start_workflow(Counter.run, id=workflow_id, task_queue=task_queue)
    waiting = asyncio.create_task(handle.execute_update(Counter.add, 7, rpc_timeout=timedelta(seconds=15)))
    await asyncio.sleep(0.5)
    async with a_worker(client, task_queue, workflows=[Counter]):
        assert await waiting == 7


async def test_updates_of_a_killed_server(tmp_path, task_queue, workflow_id):
    """What was accepted is kept; a caller whose update was not accepted is served by the next server."""
    with Server(data_dir=tmp_path / "data", log=tmp_path / "server.log") as server:
        client = await Client.connect(server.address)
        async with a_worker(client, task_queue, workflows=[Counter]):
            handle = await client.start_workflow(Counter.run, id=workflow_id, task_queue=task_queue)
            assert await handle.execute_update(Counter.add, 2, id="before") == 2
            accepted = await handle.start_update(Counter.add_later, 10, wait_for_stage=WorkflowUpdateStage.ACCEPTED)
            server.kill()
            server.start()
            assert await handle.execute_update(Counter.add, 2, id="before") == 2
            assert await handle.execute_update(Counter.add, 1) == 3
            await handle.signal(Counter.release)
            assert await accepted.result() == 13
            await handle.signal(Counter.end)
            assert await handle.result() == 13
