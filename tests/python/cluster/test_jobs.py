"""Schedules and batch jobs on three nodes: nodes are killed in the middle, and each time and each target is met once.

    MAINSTAY_CLUSTER_JOBS=60     targets of each batch
"""

import asyncio
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio.api.batch.v1 import BatchOperationReset, BatchOperationSignal
from temporalio.api.common.v1 import Payload, Payloads, ResetOptions
from temporalio.api.enums.v1 import BatchOperationState
from temporalio.api.workflowservice.v1 import DescribeBatchOperationRequest, StartBatchOperationRequest
from temporalio.client import (Client, Schedule, ScheduleActionStartWorkflow, ScheduleIntervalSpec,
                               ScheduleOverlapPolicy, SchedulePolicy, ScheduleSpec)
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from workflows import Basket, Greeting, greet

from .nodes import Balancer, Nodes

TARGETS = int(os.environ.get("MAINSTAY_CLUSTER_JOBS", 60))
SCHEDULES = 6
WITHIN_S = 90.0


async def again(call):
    """The SDK tries what it takes for passing; a node that dies may cut other calls off."""
    for _ in range(60):
        try:
            return await call()
        except RPCError as error:
            last = error
            await asyncio.sleep(0.5)
    raise last


async def kill_each(nodes: Nodes, meanwhile_s: float) -> None:
    """One node after the other dies and comes back, so that every leader dies once."""
    for server in nodes.servers:
        await asyncio.sleep(meanwhile_s)
        server.kill()
        await asyncio.sleep(2.5)
        server.spawn()
        await asyncio.to_thread(server.await_ready, 30.0)


async def finished(client: Client, job: str):
    request = DescribeBatchOperationRequest(namespace=client.namespace, job_id=job)
    for _ in range(int(WITHIN_S * 2)):
        described = await again(lambda: client.workflow_service.describe_batch_operation(request))
        if described.state != BatchOperationState.BATCH_OPERATION_STATE_RUNNING:
            return described
        await asyncio.sleep(0.5)
    raise AssertionError(f"the job still runs: {described}")


async def begin(client: Client, prefix: str, **operation) -> str:
    job = str(uuid.uuid4())
    request = StartBatchOperationRequest(
        namespace=client.namespace, job_id=job, reason="test", max_operations_per_second=10,
        visibility_query=f"WorkflowId STARTS_WITH '{prefix}-' AND ExecutionStatus = 'Running'", **operation)
    await again(lambda: client.workflow_service.start_batch_operation(request))
    return job


async def signals_once(client: Client, nodes: Nodes, queue: str) -> None:
    ids = [f"{queue}-s-{n}" for n in range(TARGETS)]
    await asyncio.gather(*(client.start_workflow(Basket.run, id=i, task_queue=queue) for i in ids))
    item = Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=b'"one"')])
    job = await begin(client, f"{queue}-s", signal_operation=BatchOperationSignal(signal="add", input=item))
    killing = asyncio.create_task(kill_each(nodes, 1.0))
    described = await finished(client, job)
    await killing
    assert described.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED, described
    for i in ids:
        handle = client.get_workflow_handle(i)
        await again(lambda: handle.signal("close"))
        assert await handle.result() == ["one"], i


async def resets_once(client: Client, nodes: Nodes, queue: str) -> None:
    ids = [f"{queue}-r-{n}" for n in range(TARGETS)]
    firsts = await asyncio.gather(*(client.start_workflow(Basket.run, id=i, task_queue=queue) for i in ids))
    for handle in firsts:
        assert await handle.query("content") == []  # its first workflow task is done
    to_first = ResetOptions(first_workflow_task={})
    job = await begin(client, f"{queue}-r", reset_operation=BatchOperationReset(options=to_first, identity="test"))
    killing = asyncio.create_task(kill_each(nodes, 1.0))
    described = await finished(client, job)
    await killing
    assert described.state == BatchOperationState.BATCH_OPERATION_STATE_COMPLETED, described
    for i, first in zip(ids, firsts):
        runs = [run async for run in client.list_workflows(f"WorkflowId = '{i}'")]
        assert len(runs) == 2, f"{i} has runs {[run.run_id for run in runs]}"
        assert first.first_execution_run_id in [run.run_id for run in runs]


async def acts_once_at_each_time(client: Client, nodes: Nodes, queue: str) -> None:
    handles = []
    for n in range(SCHEDULES):
        action = ScheduleActionStartWorkflow(Greeting.run, "Ada", id=f"{queue}-t{n}", task_queue=queue)
        spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
        policy = SchedulePolicy(overlap=ScheduleOverlapPolicy.ALLOW_ALL)
        handles.append(await client.create_schedule(f"{queue}-t{n}", Schedule(action=action, spec=spec, policy=policy)))
    await kill_each(nodes, 4.0)
    for handle in handles:
        await again(lambda: handle.pause())
    await asyncio.sleep(3.0)
    for handle in handles:
        info = (await again(handle.describe)).info
        runs = [run async for run in client.list_workflows(f"TemporalScheduledById = '{handle.id}'")]
        times = sorted(run.id.removeprefix(f"{handle.id}-") for run in runs)
        assert len(set(times)) == len(times), f"{handle.id} acted twice at a time: {times}"
        # Nothing was left out between the first and the last.
        seconds = [int(time[17:19]) + 60 * int(time[14:16]) for time in times]
        gaps = {(b - a) % 3600 for a, b in zip(seconds, seconds[1:])}
        assert gaps == {1}, f"{handle.id} left times out: {times}"
        assert info.num_actions == len(runs) and info.num_actions_missed_catchup_window == 0
        print(f"{handle.id}: {len(runs)} actions, one each second, through {len(nodes.servers)} kills")
        await again(handle.delete)


async def test_once_each_through_kills(tmp_path):
    nodes = Nodes(3, tmp_path)
    try:
        nodes.start()
        async with Balancer(nodes) as balancer:
            client = await Client.connect(balancer.address)
            queue = f"jobs-{uuid.uuid4().hex[:6]}"
            with ThreadPoolExecutor(8) as threads:
                async with Worker(client, task_queue=queue, workflows=[Basket, Greeting], activities=[greet],
                                  activity_executor=threads, workflow_runner=UnsandboxedWorkflowRunner()):
                    await signals_once(client, nodes, queue)
                    await resets_once(client, nodes, queue)
                    await acts_once_at_each_time(client, nodes, queue)
    finally:
        nodes.kill()
