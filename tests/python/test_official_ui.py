"""What Temporal's own web interface asks for, page by page, on the HTTP API: each call is answered, and in the shape that its pages read.

The calls are those that its pages were seen to make against this server; docs/compatibility.md has the table. It sends proto JSON
without payload shorthand, and reads the same.
"""

import asyncio
import contextlib
import functools
import json
import uuid
from datetime import timedelta
from urllib.parse import quote

import pytest
from temporalio.client import Client, Schedule, ScheduleActionStartWorkflow, ScheduleIntervalSpec, ScheduleSpec
from temporalio.service import RPCError

from conftest import a_worker
from support import Server, free_port
from test_http_api import PLAIN, Api, eventually, payload

OPEN, RETRIES = "Basket", "Retries"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    port = free_port()
    flags = ("--search-attribute", "Colour=Keyword", "--dynamic-config-value", "frontend.WorkflowPauseEnabled=true")
    with Server("--http-port", str(port), *flags, log=tmp_path_factory.mktemp("ui") / "server.log") as server:
        yield server, port


@pytest.fixture
async def shop(served, task_queue):
    """A worker, an open workflow, one with a pending activity, a schedule; and the way to ask."""
    client = await Client.connect(served[0].address)
    api = Api(served[1], task_queue)
    async with a_worker(client, task_queue):
        basket, waits = f"basket-{uuid.uuid4()}", f"waits-{uuid.uuid4()}"
        runs = {}
        for name, kind, arguments in ((basket, OPEN, []), (waits, RETRIES, [10**9])):
            started = await client.start_workflow(kind, args=arguments, id=name, task_queue=task_queue)
            runs[name] = started.first_execution_run_id
        action = ScheduleActionStartWorkflow(OPEN, id="by-schedule", task_queue=task_queue)
        await client.create_schedule(f"s-{basket}", Schedule(action=action, spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=1))])))
        yield api, basket, waits, runs
        for name in runs:
            # One that a test cancelled may have ended.
            with contextlib.suppress(RPCError):
                await client.get_workflow_handle(name).terminate()


def beside(test):
    """Runs a test that blocks beside the loop that the worker needs."""

    @functools.wraps(test)
    async def run(*arguments, **named):
        await asyncio.to_thread(test, *arguments, **named)

    return run


def good(answer):
    assert answer.status == 200, answer.text
    return answer.json


@beside
def test_every_page_begins_with_these(shop):
    api, *_ = shop
    settings = good(api.get("/api/v1/settings"))
    assert settings["DefaultNamespace"] == "default" and tuple(map(int, settings["Version"].split("."))) >= (2, 23, 0)
    cluster = good(api.get("/api/v1/cluster-info"))
    assert all(part.isdigit() for part in cluster["serverVersion"].split("."))
    assert "capabilities" in good(api.get("/api/v1/system-info"))
    assert any(found["namespaceInfo"]["name"] == "default" for found in good(api.get("/api/v1/namespaces"))["namespaces"])
    assert good(api.get(PLAIN))["namespaceInfo"]["name"] == "default"
    assert good(api.get(f"{PLAIN}/search-attributes"))["customAttributes"]["Colour"] == "INDEXED_VALUE_TYPE_KEYWORD"
    assert good(api.get("/api/v1/system-info"))["serverVersion"] == cluster["serverVersion"]


@beside
def test_the_list_of_workflows(shop):
    api, basket, *_ = shop
    mine = f'`WorkflowId`="{basket}"'
    rows = eventually(lambda: api.get(f"{PLAIN}/workflows", query=mine), lambda answer: "executions" in answer.text).json
    assert rows["executions"][0]["status"] == "WORKFLOW_EXECUTION_STATUS_RUNNING"
    groups = good(api.get(f"{PLAIN}/workflow-count", query="GROUP BY ExecutionStatus"))["groups"]
    assert all("encoding" in value["metadata"] for group in groups for value in group["groupValues"])
    for query in ('`RootWorkflowId`="a" AND `RootRunId`="b"', '`ParentWorkflowId`="a"', '`StartTime` >= "2026-01-01T00:00:00Z"',
                  '`WorkflowId` STARTS_WITH "a"', '`TemporalReportedProblems` IN ("category=WorkflowTaskFailed")'):
        good(api.get(f"{PLAIN}/workflows", query=query, pageSize=10))


@beside
def test_the_pages_of_a_run(shop):
    api, basket, waits, runs = shop
    own, run = f"{PLAIN}/workflows/{basket}", {"execution.runId": runs[basket]}
    described = good(api.get(own, **run))
    assert described["workflowExecutionInfo"]["execution"] == {"workflowId": basket, "runId": runs[basket]}
    events = good(api.get(f"{own}/history", **run, waitNewEvent="false", maximumPageSize=1000))["history"]["events"]
    assert events[0]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED" and events[0]["eventId"] == "1"
    backwards = good(api.get(f"{own}/history-reverse", **run, maximumPageSize=1000))["history"]["events"]
    assert [e["eventId"] for e in backwards][-1] == "1"
    assert good(api.get(f"{own}/run/{runs[basket]}/history.json"))
    for kind in (1, 2, 3):
        good(api.get(f"{PLAIN}/task-queues/{quote(api.queue)}", taskQueueType=kind))
    good(api.get(f"{PLAIN}/worker-count", query=f'TaskQueue="{api.queue}"'))
    pending = eventually(lambda: api.get(f"{PLAIN}/workflows/{waits}"), lambda answer: "pendingActivities" in answer.text).json
    assert pending["pendingActivities"][0]["activityType"]["name"] == "flaky"


@pytest.mark.parametrize("query", ["content", "__stack_trace", "__temporal_workflow_metadata"])
@beside
def test_queries_and_the_call_stack(shop, query):
    api, basket, _, runs = shop
    asked = {"execution": {"workflowId": basket, "runId": runs[basket]}, "query": {"queryType": query}}
    assert "queryResult" in good(api.post(f"{PLAIN}/workflows/{basket}/query/{query}", asked))


@beside
def test_what_a_run_can_be_told(shop):
    api, basket, _, runs = shop
    own = f"{PLAIN}/workflows/{basket}"
    run = {"workflowExecution": {"workflowId": basket, "runId": runs[basket]}, "identity": "ui"}
    paused = {"namespace": "default", "workflowId": basket, "runId": runs[basket], "identity": "ui", "reason": "r"}
    good(api.post(f"{own}/pause", {**paused, "requestId": "1"}))
    good(api.post(f"{own}/unpause", {**paused, "requestId": "2"}))
    good(api.post(f"{own}/signal/add", {**run, "signalName": "add", "input": {"payloads": [payload("pear")]}}))
    events = eventually(lambda: api.get(f"{own}/history"), lambda answer: answer.text.count("WORKFLOW_TASK_COMPLETED") >= 2).json
    point = [e["eventId"] for e in events["history"]["events"] if e["eventType"] == "EVENT_TYPE_WORKFLOW_TASK_COMPLETED"][0]
    reset = {**run, "workflowTaskFinishEventId": point, "requestId": "r", "reason": "again",
             "resetReapplyExcludeTypes": ["RESET_REAPPLY_EXCLUDE_TYPE_SIGNAL"]}
    again = good(api.post(f"{own}/reset", reset))["runId"]
    good(api.post(f"{own}/cancel", {"workflowExecution": {"workflowId": basket, "runId": again}}))
    started = {"workflowId": f"{basket}-2", "workflowType": {"name": OPEN}, "taskQueue": {"name": api.queue}, "identity": "ui", "requestId": "q",
               "searchAttributes": {"indexedFields": {"Colour": payload("red")}}}
    assert good(api.post(f"{PLAIN}/workflows/{basket}-2", started))["started"]
    good(api.post(f"{PLAIN}/workflows/{basket}-2/terminate", {"workflowExecution": {"workflowId": f"{basket}-2"}, "reason": "r"}))


@beside
def test_what_an_activity_can_be_told(shop):
    api, _, waits, runs = shop
    eventually(lambda: api.get(f"{PLAIN}/workflows/{waits}"), lambda answer: "pendingActivities" in answer.text)
    told = {"namespace": "default", "execution": {"workflowId": waits, "runId": runs[waits]}, "identity": "ui", "id": "1"}
    below = f"{PLAIN}/activities-deprecated"
    good(api.post(f"{below}/pause", {**told, "reason": "r"}))
    changed = good(api.post(f"{below}/update-options", {**told, "activityOptions": {"startToCloseTimeout": "900s"}, "updateMask": "startToCloseTimeout"}))
    assert changed["activityOptions"]["startToCloseTimeout"] == "900s"
    good(api.post(f"{below}/reset", {**told, "resetHeartbeat": True, "keepPaused": True}))
    good(api.post(f"{below}/unpause", told))


@beside
def test_schedules(shop):
    api, basket, *_ = shop
    assert int(good(api.get(f"{PLAIN}/schedule-count"))["count"]) >= 1
    assert good(api.get(f"{PLAIN}/schedules", maximumPageSize=100))["schedules"]
    own = f"{PLAIN}/schedules/made-{basket}"
    start = {"startWorkflow": {"workflowId": "a", "workflowType": {"name": OPEN}, "taskQueue": {"name": "q"}}}
    spec = {"interval": [{"interval": "3600s", "phase": "0s"}], "calendar": [], "cronString": []}
    good(api.post(own, {"scheduleId": f"made-{basket}", "requestId": "1", "schedule": {"action": start, "spec": spec, "policies": {}, "state": {}}}))
    spec = {"interval": [], "calendar": [{"hour": "2", "minute": "30", "second": "0", "dayOfWeek": "*"}], "cronString": []}
    good(api.post(f"{own}/update", {"requestId": "2", "schedule": {"action": start, "spec": spec, "policies": {}, "state": {"paused": True}}}))
    for number, patch in enumerate(({"unpause": "n"}, {"pause": "n"}, {"triggerImmediately": {"overlapPolicy": "SCHEDULE_OVERLAP_POLICY_SKIP"}})):
        good(api.post(f"{own}/patch", {"patch": patch, "requestId": f"p{number}"}))
    described = good(api.get(own))
    assert described["schedule"]["state"]["paused"] and described["schedule"]["spec"]["structuredCalendar"][0]["hour"][0]["start"] == 2
    good(api.send("DELETE", own))


@beside
def test_batches_workers_and_task_queues(shop):
    api, basket, *_ = shop
    job = {"jobId": f"job-{basket}", "namespace": "default", "visibilityQuery": f"WorkflowId='{basket}'", "reason": "r",
           "signalOperation": {"signal": "add", "input": {"payloads": [payload("plum")]}, "identity": "ui"}}
    good(api.post(f"{PLAIN}/batch-operations/job-{basket}", job))
    assert any(found["jobId"] == f"job-{basket}" for found in good(api.get(f"{PLAIN}/batch-operations"))["operationInfo"])
    done = eventually(lambda: api.get(f"{PLAIN}/batch-operations/job-{basket}"), lambda answer: "STATE_COMPLETED" in answer.text).json
    assert done["completeOperationCount"] == "1"
    workers = eventually(lambda: api.get(f"{PLAIN}/workers", pageSize=100), lambda answer: "workersInfo" in answer.text).json["workersInfo"]
    key = workers[0]["workerHeartbeat"]["workerInstanceKey"]
    assert good(api.get(f"{PLAIN}/workers/describe/{key}"))["workerInfo"]["workerHeartbeat"]["workerInstanceKey"] == key


@beside
def test_pages_of_what_there_is_not(shop):
    """Lists of what this server does not have are empty, so that their pages open; the rest is refused by name."""
    api, *_ = shop
    for path in (f"{PLAIN}/worker-deployments", "/api/v1/nexus/endpoints"):
        assert good(api.get(path)) == {}, path
    for path in (f"{PLAIN}/activities", f"{PLAIN}/nexus-operations", f"{PLAIN}/task-queues/q/worker-versioning-rules"):
        answer = api.get(path)
        assert answer.status == 501 and "is not implemented" in answer.json["message"]
    archived = api.get(f"{PLAIN}/archived-workflows")
    assert archived.status == 400 and "not configured" in json.loads(archived.text)["message"]
