"""Workflows with children, and workflows that talk to each other."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, ChildWorkflowError
from temporalio.workflow import ChildWorkflowCancellationType, ParentClosePolicy


@workflow.defn
class Child:
    """Does what its argument says."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @workflow.run
    async def run(self, what: str) -> str:
        if what == "fail":
            raise ApplicationError("the child failed", type="Sad", non_retryable=True)
        if what == "fail once" and workflow.info().attempt == 1:
            raise ApplicationError("not yet")
        if what == "continue":
            workflow.continue_as_new("the second run")
        if what == "wait":
            await workflow.wait_condition(lambda: bool(self.told))
            return self.told[0]
        return f"done: {what}"

    @workflow.signal
    def tell(self, text: str) -> None:
        self.told.append(text)


@workflow.defn
class Parent:
    """Runs one child and answers what came of it."""

    @workflow.run
    async def run(self, what: str) -> str:
        retry = RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3)
        try:
            return await workflow.execute_child_workflow(Child.run, what, id=f"{workflow.info().workflow_id}/child",
                                                         retry_policy=retry)
        except ChildWorkflowError as error:
            return f"{type(error.cause).__name__}: {error.cause}"


@workflow.defn
class Signaller:
    """Signals its child, which answers what it was told."""

    @workflow.run
    async def run(self) -> str:
        child = await workflow.start_child_workflow(Child.run, "wait", id=f"{workflow.info().workflow_id}/child")
        await child.signal(Child.tell, "hello")
        return await child


@workflow.defn
class Stranger:
    """Signals and cancels workflows that are none of its children."""

    @workflow.run
    async def run(self, signalled: str, cancelled: str) -> str:
        await workflow.get_external_workflow_handle(signalled).signal("tell", "from afar")
        await workflow.get_external_workflow_handle(cancelled).cancel()
        try:
            await workflow.get_external_workflow_handle("nobody/" + signalled).signal("tell", "?")
        except ApplicationError as error:
            return error.message
        return "nobody was there, and it was not noticed"


@workflow.defn
class Canceller:
    """Cancels its child and answers how that ended."""

    @workflow.run
    async def run(self) -> str:
        child = await workflow.start_child_workflow(
            Child.run, "wait", id=f"{workflow.info().workflow_id}/child",
            cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED)
        child.cancel()
        try:
            return await child
        except ChildWorkflowError as error:
            return type(error.cause).__name__


@workflow.defn
class Leaver:
    """Starts a child and leaves it."""

    @workflow.run
    async def run(self, policy: int) -> None:
        await workflow.start_child_workflow(Child.run, "wait", id=f"{workflow.info().workflow_id}/child",
                                            parent_close_policy=ParentClosePolicy(policy))


@workflow.defn
class Wide:
    """Runs many children at once."""

    @workflow.run
    async def run(self, count: int) -> int:
        prefix = workflow.info().workflow_id
        results = await asyncio.gather(*(
            workflow.execute_child_workflow(Child.run, str(n), id=f"{prefix}/{n}") for n in range(count)))
        return sum(result == f"done: {n}" for n, result in enumerate(results))


@workflow.defn
class Twins:
    """Starts a child whose id is in use."""

    @workflow.run
    async def run(self) -> str:
        child_id = f"{workflow.info().workflow_id}/child"
        first = await workflow.start_child_workflow(Child.run, "wait", id=child_id)
        try:
            await workflow.start_child_workflow(Child.run, "again", id=child_id)
        except Exception as error:
            await first.signal(Child.tell, type(error).__name__)
        return await first


ALL = [Child, Parent, Signaller, Stranger, Canceller, Leaver, Wide, Twins]
