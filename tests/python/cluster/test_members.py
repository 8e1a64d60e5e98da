"""Operators change the members of a cluster by command, while clients use it; what is wrong is said in sentences."""

import asyncio
import time

from temporalio.api.common.v1 import WorkflowExecution, WorkflowType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest, StartWorkflowExecutionRequest
from temporalio.client import Client

from .nodes import Nodes

WORKFLOWS = 40


def until(what, within_s: float = 30.0):
    began = time.monotonic()
    while not (result := what()):
        assert time.monotonic() - began < within_s, "it does not happen"
        time.sleep(0.2)
    return result


def done(answer) -> str:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def refused(answer) -> str:
    assert answer.returncode == 1, answer.stdout
    return answer.stderr


async def start(client: Client, workflow_id: str) -> None:
    await client.workflow_service.start_workflow_execution(StartWorkflowExecutionRequest(
        namespace="default", workflow_id=workflow_id, workflow_type=WorkflowType(name="t"),
        task_queue=TaskQueue(name="none"), request_id=workflow_id), retry=True)


async def all_there(client: Client, count: int) -> None:
    for number in range(count):
        execution = WorkflowExecution(workflow_id=f"w-{number}")
        request = DescribeWorkflowExecutionRequest(namespace="default", execution=execution)
        await client.workflow_service.describe_workflow_execution(request, retry=True)


async def keep_starting(client: Client, started: list[int]) -> None:
    """Every start is acknowledged, whatever happens to the members."""
    while True:
        await start(client, f"w-{len(started)}")
        started.append(len(started))
        await asyncio.sleep(0.05)


async def test_members_come_and_go(tmp_path):
    nodes = Nodes(3, tmp_path)
    new, stranger = nodes.node("node-4"), nodes.node("node-2", directory="twin")
    try:
        nodes.start()
        assert done(nodes.command("check")) == "nothing is wrong\n"
        client = await Client.connect(nodes.servers[1].address)
        started: list[int] = []
        load = asyncio.create_task(keep_starting(client, started))
        await asyncio.to_thread(walk, nodes, new, stranger)
        load.cancel()
        assert len(started) > WORKFLOWS
        await all_there(client, len(started))
        await all_there(await Client.connect(new.address), len(started))
    finally:
        nodes.kill()
        new.kill()
        stranger.kill()


def walk(nodes: Nodes, new, stranger) -> None:
    first = nodes.servers[0]
    cluster = nodes.status()["cluster_id"]

    # What would make the cluster weak is refused, and what is not there is named.
    assert "only 2 nodes (node-1, node-2)" in refused(nodes.command("remove", "node-3"))
    assert "needs the id" in refused(nodes.command("remove", "node-3", "--force-quorum-loss", "--cluster", "x"))
    assert "its nodes are node-1, node-2, node-3" in refused(nodes.command("drain", "node-9"))
    assert "mainstay cluster add node-4" in refused(nodes.command("replace", "node-1", "--by", "node-4"))

    # A second node of one name is refused, and both the node and the check say why.
    stranger.spawn()
    assert until(lambda: stranger.process.poll() is not None)
    assert "the name node-2 is that of" in stranger._tail()
    assert "node node-2 at" in nodes.command("check").stdout

    # A drained node leads nothing, until it resumes.
    done(nodes.command("drain", "node-2"))
    assert [node["state"] for node in nodes.status()["nodes"]] == ["serves", "drained", "serves"]
    time.sleep(3)
    assert not any(group["leads"] for group in nodes.status()["nodes"][1]["groups"])
    assert "node-2 is drained" in nodes.command("check").stdout
    done(nodes.command("resume", "node-2"))

    # A fourth node gets its share, three quarters of the shards, and takes the place of the first.
    assert "start it with an empty directory" in nodes.command("add", "node-4", "--wait-s", "1").stdout
    new.spawn()
    new.await_ready(60.0)
    assert "has 13 of 17 groups" in done(nodes.command("add", "node-4"))
    assert "4 nodes survive no more failures than 3" in nodes.command("check").stdout
    assert "cannot vote" in refused(nodes.command("promote", "node-4"))
    print(done(nodes.command("replace", "node-1", "--by", "node-4", asked=1)))
    voters = [group["voter"] for group in nodes.status(1)["nodes"][-1]["groups"]]
    assert all(voters) and len(voters) == 17

    # The removed node ends, and does not come back.
    assert until(lambda: first.process.poll() is not None)
    assert "was removed from the cluster" in first._tail()
    first.spawn()
    assert until(lambda: first.process.poll() is not None)
    assert "was removed from the cluster; start it with an empty data directory" in first._tail()
    assert until(lambda: nodes.command("check", asked=1).returncode == 0)
    assert nodes.status(1)["cluster_id"] == cluster
