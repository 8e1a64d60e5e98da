"""What a worker says of its code: the SDK sends it to a server that knows builds, and workflows and people read it back."""

from temporalio import workflow
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from conftest import a_worker


@workflow.defn(sandboxed=False)
class Build:
    """Runs until it is told to end; a query answers by which build its code was decided last."""

    def __init__(self) -> None:
        self.ended = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self.ended)
        return workflow.info().get_current_build_id()

    @workflow.query
    def build(self) -> str:
        return workflow.info().get_current_build_id()

    @workflow.signal
    async def end(self) -> None:
        self.ended = True


async def test_a_run_knows_the_build_that_decided(client: Client, task_queue, workflow_id):
    async with a_worker(client, task_queue, workflows=[Build], build_id="1.0", max_cached_workflows=0):
        handle = await client.start_workflow(Build.run, id=workflow_id, task_queue=task_queue)
        assert await handle.query(Build.build) == "1.0"
        queue = await client.workflow_service.describe_task_queue(DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW))
        assert {poller.worker_version_capabilities.build_id for poller in queue.pollers} == {"1.0"}
    async with a_worker(client, task_queue, workflows=[Build], build_id="1.1", max_cached_workflows=0):
        assert await handle.query(Build.build) == "1.0", "a query decides nothing"
        await handle.signal(Build.end)
        assert await handle.result() == "1.1"
    described = (await handle.describe()).raw_description.workflow_execution_info
    assert described.most_recent_worker_version_stamp.build_id == "1.1"
    assert [point.build_id for point in described.auto_reset_points.points] == ["1.0", "1.1"]
    events = (await handle.fetch_history()).events
    started = [e.workflow_task_started_event_attributes for e in events if e.HasField("workflow_task_started_event_attributes")]
    assert [task.worker_version.build_id for task in started] == ["1.0", "1.1"]
    completed = [e.workflow_task_completed_event_attributes for e in events
                 if e.HasField("workflow_task_completed_event_attributes")]
    assert [task.worker_version.build_id for task in completed] == ["1.0", "1.1"]
