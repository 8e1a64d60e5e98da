"""The calls of the `temporal` CLI, command by command, and the fields that it prints.

The CLI itself is run by test_cli.py, over what people use every day. Here are the calls of all its commands, made as it makes them, also
where it is not installed. The name of a test says the group of commands, a comment the command. What is newer than the server must say
that it is not implemented, not break otherwise.
"""

import json
import uuid

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api import operatorservice, workflowservice
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from conftest import a_worker
from test_updates import Counter
from test_workflows import eventually

OPERATOR = {name.removesuffix("Request") for name in dir(operatorservice.v1) if name.endswith("Request")}


def snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class Cli:
    """Makes calls by the name of the RPC, with fields as dicts."""

    def __init__(self, client: Client):
        self.client = client

    async def __call__(self, rpc: str, **fields):
        operator = rpc in OPERATOR
        messages = operatorservice.v1 if operator else workflowservice.v1
        request = getattr(messages, rpc + "Request")
        if "namespace" in request.DESCRIPTOR.fields_by_name and "namespace" not in fields:
            fields["namespace"] = self.client.namespace
        service = self.client.operator_service if operator else self.client.workflow_service
        return await getattr(service, snake(rpc))(request(**fields), retry=False)

    async def refused(self, rpc: str, **fields) -> RPCError:
        with pytest.raises(RPCError) as refusal:
            await self(rpc, **fields)
        return refusal.value


def payloads(*values):
    return {"payloads": [{"metadata": {"encoding": b"json/plain"}, "data": json.dumps(v).encode()} for v in values]}


@pytest.fixture
def cli(client) -> Cli:
    return Cli(client)


@pytest.fixture
def start(task_queue, workflow_id):
    """The fields of `workflow start`."""
    return lambda kind="Basket", id=workflow_id, **more: {
        "workflow_id": id, "workflow_type": {"name": kind}, "task_queue": {"name": task_queue},
        "request_id": str(uuid.uuid4()), "identity": "temporal-cli", **more}


def execution(workflow_id: str, run_id: str = "") -> dict:
    return {"workflow_id": workflow_id, "run_id": run_id}


async def listed(cli: Cli, query: str):
    return (await cli("ListWorkflowExecutions", query=query, page_size=100)).executions


async def closed_status(cli: Cli, workflow_id: str) -> str:
    async def over():
        info = (await cli("DescribeWorkflowExecution", execution=execution(workflow_id))).workflow_execution_info
        return info if info.HasField("close_time") else None
    info = await eventually(over)
    return type(info).DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[info.status].name.removeprefix(
        "WORKFLOW_EXECUTION_STATUS_")


async def test_operator_cluster(cli):
    system = await cli("GetSystemInfo")  # before every command; operator cluster system
    assert system.server_version.count(".") == 2 and system.capabilities.supports_schedules
    cluster = await cli("GetClusterInfo")  # operator cluster describe
    assert cluster.cluster_name and cluster.persistence_store and cluster.visibility_store and cluster.cluster_id
    assert [c.cluster_name for c in (await cli("ListClusters", page_size=10)).clusters] == [cluster.cluster_name]
    assert await cli.client.service_client.check_health()  # operator cluster health


async def test_operator_namespace(cli):
    name = f"cli-{uuid.uuid4().hex[:8]}"
    await cli("RegisterNamespace", namespace=name, description="d", owner_email="me@example.com", data={"k": "v"},
              workflow_execution_retention_period=Duration(seconds=86400 * 3))
    described = await cli("DescribeNamespace", namespace=name)
    info, config = described.namespace_info, described.config
    assert (info.name, info.description, info.owner_email, dict(info.data)) == (name, "d", "me@example.com", {"k": "v"})
    assert info.id and info.state and config.workflow_execution_retention_ttl.seconds == 86400 * 3
    assert (await cli("DescribeNamespace", namespace="", id=info.id)).namespace_info.name == name
    updated = await cli("UpdateNamespace", namespace=name, update_info={"description": "new", "data": {"more": "1"}},
                        config={"workflow_execution_retention_ttl": Duration(seconds=86400)})
    assert updated.namespace_info.description == "new" and dict(updated.namespace_info.data) == {"k": "v", "more": "1"}
    names = [n.namespace_info.name for n in (await cli("ListNamespaces", page_size=1000)).namespaces]
    assert name in names and "temporal-system" in names
    assert (await cli("DeleteNamespace", namespace=name)).deleted_namespace == f"{name}-deleted-{info.id[:5]}"
    assert (await cli.refused("DescribeNamespace", namespace=name)).status == RPCStatusCode.NOT_FOUND


async def test_operator_search_attribute(cli):
    name = f"Cli{uuid.uuid4().hex[:8]}"
    before = await cli("ListSearchAttributes")
    assert "CustomKeywordField" in before.custom_attributes and "WorkflowType" in before.system_attributes
    await cli("AddSearchAttributes", search_attributes={name: 1})
    assert (await cli("ListSearchAttributes")).custom_attributes[name] == 1
    await cli("RemoveSearchAttributes", search_attributes=[name])
    assert name not in (await cli("ListSearchAttributes")).custom_attributes


@pytest.mark.usefixtures("worker")
async def test_workflow(cli, start, workflow_id, task_queue):
    started = await cli("StartWorkflowExecution", **start(input=payloads()))  # workflow start
    assert started.run_id and started.started
    await cli("SignalWorkflowExecution", workflow_execution=execution(workflow_id), signal_name="add",
              input=payloads("milk"), identity="temporal-cli")  # workflow signal
    answer = await cli("QueryWorkflow", execution=execution(workflow_id), query={"query_type": "content"})  # query
    assert json.loads(answer.query_result.payloads[0].data) == ["milk"]
    for name in ("__stack_trace", "__temporal_workflow_metadata"):  # workflow stack, workflow metadata
        answer = await cli("QueryWorkflow", execution=execution(workflow_id), query={"query_type": name})
        assert answer.query_result.payloads[0].data, name
    described = await cli("DescribeWorkflowExecution", execution=execution(workflow_id))  # describe
    info = described.workflow_execution_info
    assert (info.execution.workflow_id, info.execution.run_id, info.type.name) == (workflow_id, started.run_id, "Basket")
    assert info.start_time.seconds and info.task_queue == task_queue and info.history_length >= 4
    assert info.history_size_bytes and info.state_transition_count and info.status == 1
    assert described.execution_config.task_queue.name == task_queue
    assert [e.execution.workflow_id for e in await listed(cli, f"WorkflowId = '{workflow_id}'")] == [workflow_id]
    assert (await cli("CountWorkflowExecutions", query=f"WorkflowId = '{workflow_id}'")).count == 1
    grouped = await cli("CountWorkflowExecutions", query="GROUP BY ExecutionStatus")  # workflow count
    assert sum(group.count for group in grouped.groups) == grouped.count > 0
    await cli("SignalWorkflowExecution", workflow_execution=execution(workflow_id), signal_name="close")
    closing = await cli("GetWorkflowExecutionHistory", execution=execution(workflow_id, started.run_id),
                        wait_new_event=True, history_event_filter_type=2)  # workflow result, workflow execute
    assert closing.history.events[0].HasField("workflow_execution_completed_event_attributes")
    shown = (await cli("GetWorkflowExecutionHistory", execution=execution(workflow_id))).history.events  # show
    assert [event.event_id for event in shown] == list(range(1, len(shown) + 1)) and shown[0].event_time.seconds
    backwards = await cli("GetWorkflowExecutionHistoryReverse", execution=execution(workflow_id),
                          maximum_page_size=100)  # show --reverse
    assert [event.event_id for event in backwards.history.events] == list(range(len(shown), 0, -1))


@pytest.mark.usefixtures("worker")
async def test_workflow_ends(cli, start, workflow_id):
    for rpc, status in [("RequestCancelWorkflowExecution", "CANCELED"), ("TerminateWorkflowExecution", "TERMINATED")]:
        id = f"{workflow_id}-{status}"
        await cli("StartWorkflowExecution", **start(id=id))
        await cli(rpc, workflow_execution=execution(id), reason="by hand", identity="temporal-cli")
        assert await closed_status(cli, id) == status
        await cli("DeleteWorkflowExecution", workflow_execution=execution(id))  # workflow delete
        async def gone():
            return not await listed(cli, f"WorkflowId = '{id}'")
        await eventually(gone)


@pytest.mark.usefixtures("worker")
async def test_workflow_signal_with_start_reset_and_options(cli, start, workflow_id):
    started = await cli("SignalWithStartWorkflowExecution", **start(), signal_name="add", signal_input=payloads("a"))
    assert started.run_id and started.started
    async def first_task_done():
        history = (await cli("GetWorkflowExecutionHistory", execution=execution(workflow_id))).history.events
        done = [e.event_id for e in history if e.HasField("workflow_task_completed_event_attributes")]
        return done[0] if done else None
    point = await eventually(first_task_done)
    updated = await cli("UpdateWorkflowExecutionOptions", workflow_execution=execution(workflow_id),
                        workflow_execution_options={"priority": {"priority_key": 2}},
                        update_mask={"paths": ["priority.priority_key"]})  # workflow update-options
    assert updated.workflow_execution_options.priority.priority_key == 2
    reset = await cli("ResetWorkflowExecution", workflow_execution=execution(workflow_id, started.run_id), reason="again",
                      workflow_task_finish_event_id=point, request_id=str(uuid.uuid4()))  # workflow reset
    assert reset.run_id not in ("", started.run_id)
    runs = await listed(cli, f"WorkflowId = '{workflow_id}'")
    assert {run.execution.run_id for run in runs} == {started.run_id, reset.run_id}
    await cli("TerminateWorkflowExecution", workflow_execution=execution(workflow_id))


async def test_workflow_update(cli, client, task_queue, workflow_id, start):
    async with a_worker(client, task_queue, workflows=[Counter]):
        await cli("StartWorkflowExecution", **start("Counter"))
        request = {"meta": {"update_id": "u1", "identity": "temporal-cli"}, "input": {"name": "add", "args": payloads(2)}}
        started = await cli("UpdateWorkflowExecution", workflow_execution=execution(workflow_id), request=request,
                            wait_policy={"lifecycle_stage": 2})  # workflow update start
        assert started.stage >= 2 and started.update_ref.update_id == "u1"
        polled = await cli("PollWorkflowExecutionUpdate", update_ref=started.update_ref,
                           wait_policy={"lifecycle_stage": 3})  # workflow update result, workflow update describe
        assert polled.stage == 3 and json.loads(polled.outcome.success.payloads[0].data) == 2
        await cli("TerminateWorkflowExecution", workflow_execution=execution(workflow_id))


@pytest.mark.usefixtures("worker")
async def test_task_queue(cli, start, task_queue):
    async def polled():
        described = await cli("DescribeTaskQueue", task_queue={"name": task_queue}, task_queue_type=1, report_stats=True)
        return described if described.pollers else None
    described = await eventually(polled)
    assert described.pollers[0].identity and described.pollers[0].last_access_time.seconds
    assert described.HasField("stats")
    partitions = await cli("ListTaskQueuePartitions", task_queue={"name": task_queue})
    assert partitions.workflow_task_queue_partitions and partitions.activity_task_queue_partitions


async def test_schedule(cli, start, workflow_id, task_queue):
    id = f"s-{task_queue}"
    schedule = {"spec": {"interval": [{"interval": Duration(seconds=3600)}]},
                "action": {"start_workflow": {"workflow_id": workflow_id, "workflow_type": {"name": "Basket"},
                                              "task_queue": {"name": task_queue}}},
                "state": {"notes": "by hand", "paused": True}}
    created = await cli("CreateSchedule", schedule_id=id, schedule=schedule, request_id=str(uuid.uuid4()))
    assert created.conflict_token
    described = await cli("DescribeSchedule", schedule_id=id)
    assert described.schedule.state.notes == "by hand" and described.schedule.state.paused
    assert described.info.create_time.seconds and described.conflict_token
    await cli("PatchSchedule", schedule_id=id, patch={"unpause": "go"})  # schedule toggle
    await cli("PatchSchedule", schedule_id=id, patch={"trigger_immediately": {"overlap_policy": 6}})  # schedule trigger
    async def acted():
        info = (await cli("DescribeSchedule", schedule_id=id)).info
        return info if info.action_count else None
    info = await eventually(acted)
    assert info.recent_actions[0].start_workflow_result.workflow_id and info.future_action_times
    ends = Timestamp(seconds=1700000000), Timestamp(seconds=1700000000 + 7200)
    times = await cli("ListScheduleMatchingTimes", schedule_id=id, start_time=ends[0], end_time=ends[1])
    assert len(times.start_time) == 2
    await cli("PatchSchedule", schedule_id=id, patch={"backfill_request": [
        {"start_time": ends[0], "end_time": ends[1], "overlap_policy": 6}]})
    token = (await cli("DescribeSchedule", schedule_id=id)).conflict_token
    changed = {**schedule, "state": {"notes": "changed"}}
    await cli("UpdateSchedule", schedule_id=id, schedule=changed, conflict_token=token, request_id=str(uuid.uuid4()))
    stale = {**schedule, "state": {"notes": "stale"}}
    await cli("UpdateSchedule", schedule_id=id, schedule=stale, conflict_token=token, request_id=str(uuid.uuid4()))
    assert (await cli("DescribeSchedule", schedule_id=id)).schedule.state.notes == "changed"  # as recorded: no error, no change
    entries = (await cli("ListSchedules", maximum_page_size=100, query=f"ScheduleId = '{id}'")).schedules
    assert [entry.schedule_id for entry in entries] == [id] and entries[0].info.workflow_type.name == "Basket"
    await cli("DeleteSchedule", schedule_id=id)
    assert (await cli.refused("DescribeSchedule", schedule_id=id)).status == RPCStatusCode.NOT_FOUND
    for run in await listed(cli, f"TemporalScheduledById = '{id}' AND ExecutionStatus = 'Running'"):
        await cli("TerminateWorkflowExecution", workflow_execution=execution(run.execution.workflow_id))


async def test_batch(cli, start, workflow_id):
    for n in range(3):
        await cli("StartWorkflowExecution", **start(id=f"{workflow_id}-{n}"))
    query = f"WorkflowId STARTS_WITH '{workflow_id}-'"
    assert (await cli("CountWorkflowExecutions", query=query)).count == 3  # what the CLI asks before it asks the user
    job = str(uuid.uuid4())
    await cli("StartBatchOperation", job_id=job, visibility_query=query, reason="r", termination_operation={})
    async def over():
        described = await cli("DescribeBatchOperation", job_id=job)
        return described if described.HasField("close_time") else None
    described = await eventually(over)
    assert (described.total_operation_count, described.complete_operation_count) == (3, 3)
    assert described.job_id == job and described.reason == "r" and described.start_time.seconds
    assert job in [info.job_id for info in (await cli("ListBatchOperations", page_size=100)).operation_info]
    assert (await cli.refused("StopBatchOperation", job_id=f"no-{job}", reason="r")).status == RPCStatusCode.NOT_FOUND


@pytest.mark.usefixtures("worker")
async def test_activity(cli, client, start, workflow_id):
    await cli("StartWorkflowExecution", **start("CancelledActivity"))
    async def pending():
        info = await cli("DescribeWorkflowExecution", execution=execution(workflow_id))
        return info.pending_activities[0] if info.pending_activities else None
    activity = await eventually(pending)
    which = {"workflow_id": workflow_id, "activity_id": activity.activity_id}
    await cli("PauseActivityExecution", **which, identity="temporal-cli", reason="r")  # activity pause
    async def paused():
        found = await pending()
        return found if found.paused else None
    assert (await eventually(paused)).activity_type.name
    await cli("UnpauseActivityExecution", **which)  # activity unpause
    await cli("ResetActivityExecution", **which)  # activity reset
    await cli("UpdateActivityExecutionOptions", **which, activity_options={"heartbeat_timeout": Duration(seconds=30)},
              update_mask={"paths": ["heartbeat_timeout"]})  # activity update-options
    await cli("RespondActivityTaskCompletedById", **which, result=payloads("by hand"))  # activity complete
    assert await closed_status(cli, workflow_id) == "COMPLETED"


NEWER = {
    "CountActivityExecutions": {}, "ListActivityExecutions": {}, "DescribeActivityExecution": {"activity_id": "a"},
    "StartActivityExecution": {"activity_id": "a"}, "PollActivityExecution": {"activity_id": "a"},
    "RequestCancelActivityExecution": {"activity_id": "a"}, "TerminateActivityExecution": {"activity_id": "a"},
    "DeleteActivityExecution": {"activity_id": "a"},
    "DescribeWorkerDeployment": {"deployment_name": "d"},
    "DescribeWorkerDeploymentVersion": {}, "SetWorkerDeploymentCurrentVersion": {"deployment_name": "d"},
    "SetWorkerDeploymentRampingVersion": {"deployment_name": "d"}, "SetWorkerDeploymentManager": {"deployment_name": "d"},
    "DeleteWorkerDeployment": {"deployment_name": "d"}, "DeleteWorkerDeploymentVersion": {},
    "UpdateWorkerDeploymentVersionMetadata": {}, "CreateWorkerDeployment": {"deployment_name": "d"},
    "CountNexusOperationExecutions": {}, "ListNexusOperationExecutions": {}, "StartNexusOperationExecution": {},
    "DescribeNexusOperationExecution": {}, "PollNexusOperationExecution": {}, "TerminateNexusOperationExecution": {},
    "RequestCancelNexusOperationExecution": {},
    "CreateNexusEndpoint": {}, "UpdateNexusEndpoint": {}, "DeleteNexusEndpoint": {},
    "GetWorkerBuildIdCompatibility": {}, "UpdateWorkerBuildIdCompatibility": {}, "GetWorkerTaskReachability": {},
    "GetWorkerVersioningRules": {}, "UpdateWorkerVersioningRules": {}, "AddOrUpdateRemoteCluster": {},
}
"""Calls of T2 and T3 commands. One that is implemented answers something else, and is struck from here with a test of its own."""


@pytest.mark.parametrize("rpc", NEWER)
async def test_what_is_not_there_says_so(cli, rpc):
    refusal = await cli.refused(rpc, **NEWER[rpc])
    assert refusal.status == RPCStatusCode.UNIMPLEMENTED, refusal
    assert rpc in refusal.message and "not implemented" in refusal.message
