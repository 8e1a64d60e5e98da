"""Children and external workflows, as a program with the SDK sees them."""

import asyncio

import pytest
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowFailureError
from temporalio.workflow import ParentClosePolicy

from children import ALL, Canceller, Child, Leaver, Parent, Signaller, Stranger, Twins, Wide
from conftest import a_worker


@pytest.fixture
async def run(client: Client, task_queue, workflow_id):
    """Runs a workflow to its end, with a worker for all of them."""
    async with a_worker(client, task_queue, workflows=ALL):
        async def execute(workflow, *args, id=workflow_id):
            return await asyncio.wait_for(client.execute_workflow(workflow, args=args, id=id, task_queue=task_queue), 60)
        yield execute


async def ended(client: Client, workflow_id: str) -> WorkflowExecutionStatus:
    """The status of a workflow that ends by itself."""
    for _ in range(200):
        status = (await client.get_workflow_handle(workflow_id).describe()).status
        if status != WorkflowExecutionStatus.RUNNING:
            break
        await asyncio.sleep(0.05)
    return status


@pytest.mark.parametrize("what, answer", [
    ("work", "done: work"),
    ("fail", "ApplicationError: Sad: the child failed"),
    ("fail once", "done: fail once"),
    ("continue", "done: the second run"),
])
async def test_a_parent_hears_the_end_of_its_child(run, what, answer):
    assert await run(Parent.run, what) == answer


async def test_a_parent_signals_its_child(run):
    assert await run(Signaller.run) == "hello"


async def test_a_parent_cancels_its_child(run):
    assert await run(Canceller.run) == "CancelledError"


async def test_an_id_in_use_is_told(run):
    assert await run(Twins.run) == "WorkflowAlreadyStartedError"


async def test_terminated_children_are_told(run, client: Client, task_queue, workflow_id):
    parent = await client.start_workflow(Parent.run, "wait", id=workflow_id, task_queue=task_queue)
    child = client.get_workflow_handle(f"{workflow_id}/child")
    for _ in range(200):
        children = (await parent.describe()).raw_description.pending_children
        if children and children[0].run_id:
            break
        await asyncio.sleep(0.05)
    await child.terminate("enough")
    assert (await asyncio.wait_for(parent.result(), 30)).startswith("TerminatedError")


@pytest.mark.parametrize("policy, status", [
    (ParentClosePolicy.TERMINATE, WorkflowExecutionStatus.TERMINATED),
    (ParentClosePolicy.REQUEST_CANCEL, WorkflowExecutionStatus.CANCELED),
    (ParentClosePolicy.ABANDON, WorkflowExecutionStatus.COMPLETED),
])
async def test_a_parent_leaves_its_child(run, client: Client, workflow_id, policy, status):
    await run(Leaver.run, int(policy))
    if policy == ParentClosePolicy.ABANDON:
        await client.get_workflow_handle(f"{workflow_id}/child").signal(Child.tell, "alone")
    assert await ended(client, f"{workflow_id}/child") == status


async def test_strangers_signal_and_cancel(run, client: Client, task_queue, workflow_id):
    names = [f"{workflow_id}/signalled", f"{workflow_id}/cancelled"]
    signalled, cancelled = [await client.start_workflow(Child.run, "wait", id=name, task_queue=task_queue)
                            for name in names]
    assert "not found" in await run(Stranger.run, *names)
    assert await asyncio.wait_for(signalled.result(), 30) == "from afar"
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(cancelled.result(), 30)
    assert await ended(client, names[1]) == WorkflowExecutionStatus.CANCELED


async def test_two_hundred_children(run):
    assert await run(Wide.run, 200) == 200
