"""A script of CLI commands, one after the other, and what each printed: as JSON, with what differs from run to run replaced.

A worker runs beside it. Each step has a name, by which its answer is compared with the recorded one.
"""

import asyncio
import json
import os
import re
import uuid
from dataclasses import dataclass, field
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

WITHIN = 60
"""Seconds for one command."""


@activity.defn(name="ship")
async def ship(item: str) -> str:
    if item == "nothing":
        raise ApplicationError("nothing to ship", type="Empty")
    return f"shipped {item}"


@activity.defn(name="ask")
async def ask() -> str:
    activity.raise_complete_async()


@workflow.defn(name="Shop")
class Shop:
    """Ships what it was told of, until it is closed."""

    def __init__(self) -> None:
        self.items: list[str] = []
        self.closed = False

    @workflow.run
    async def run(self, item: str) -> dict:
        if item == "fail":
            raise ApplicationError("no such item", type="Missing")
        if item == "at once":
            return {"items": [item], "count": 1}
        if item == "nothing":
            await workflow.execute_activity(
                "ship", item, activity_id="ship-1", start_to_close_timeout=timedelta(minutes=10),
                retry_policy=RetryPolicy(initial_interval=timedelta(minutes=5), maximum_attempts=9))
        if item == "ask":
            return {"answer": await workflow.execute_activity(
                "ask", activity_id="ask-1", start_to_close_timeout=timedelta(minutes=10),
                retry_policy=RetryPolicy(maximum_attempts=1))}
        self.items.append(item)
        await workflow.wait_condition(lambda: self.closed)
        return {"items": self.items, "count": len(self.items)}

    @workflow.signal
    def add(self, item: str) -> None:
        self.items.append(item)

    @workflow.signal
    def close(self) -> None:
        self.closed = True

    @workflow.query
    def listed(self) -> list[str]:
        return self.items

    @workflow.update
    async def put(self, item: str) -> int:
        self.items.append(item)
        return len(self.items)

    @put.validator
    def check(self, item: str) -> None:
        if item == "":
            raise ValueError("an item has a name")


@dataclass
class Run:
    """What the script is run against."""

    binary: str
    address: str
    prefix: str = field(default_factory=lambda: f"cli{uuid.uuid4().hex[:8]}")
    answers: dict[str, dict] = field(default_factory=dict)
    saved: dict[str, str] = field(default_factory=dict)

    async def __call__(self, name: str, *words: str, save: dict[str, str] | None = None, until=None) -> dict:
        """Runs a command; `save` keeps values of its answer by dotted path, `until` repeats it until that says that it is enough."""
        for attempt in range(50):
            answer = await self.once(words)
            if until is None or answer["exit"] == 0 and until(answer["out"]):
                break
            await asyncio.sleep(0.2)
        else:
            raise AssertionError(f"{name}: {answer}")
        for key, path in (save or {}).items():
            value = answer["out"]
            for part in path.split("."):
                value = value[int(part)] if part.isdigit() else value[part]
            self.saved[key] = value
        self.answers[name] = masked(answer, self.prefix)
        if isinstance(self.answers[name]["out"], str):
            # Text, not JSON: how long something took stands in brackets.
            self.answers[name]["out"] = re.sub(r"\([\d.hms]+\)", "(<span>)", self.answers[name]["out"])
        return answer

    async def start_many(self, name: str, count: int) -> None:
        """Workflows without a worker, for a batch that takes a while."""
        client = await Client.connect(self.address)
        await asyncio.gather(*(
            client.start_workflow("Shop", "pen", id=f"{self.prefix}-{name}-{number}", task_queue=f"{self.prefix}-unserved")
            for number in range(count)))

    async def once(self, words: tuple[str, ...]) -> dict:
        filled = [word.format(p=self.prefix, **self.saved) if "{" in word and not word.startswith(("{\"", "[")) else word for word in words]
        command = [self.binary, *filled, "--address", self.address, "--disable-config-file", "--disable-config-env", *([] if words[:2] == ("workflow", "trace") else ["-o", "json"])]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TEMPORAL_")}
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
            env=environment)
        try:
            out, err = await asyncio.wait_for(process.communicate(), WITHIN)
        except TimeoutError:
            process.kill()
            raise
        return {"exit": process.returncode, "out": parsed(out.decode()), "err": err.decode().strip().splitlines()[-1:]}


def parsed(text: str):
    try:
        return json.loads(text)
    except ValueError:
        pass
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        return [json.loads(line) for line in lines]
    except ValueError:
        return text.strip()


UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| ?[+-]\d\d:?\d\d)?( UTC)?")
SPAN = re.compile(r"\d+(\.\d+)?s")
VOLATILE = {
    "taskId": "<id>", "historySizeBytes": "<size>", "historySize": "<size>", "stateTransitionCount": "<count>", "identity": "<who>", "updateIdentity": "<who>",
    "ownerHostName": "<host>",
    "lastWorkerIdentity": "<who>", "binaryChecksum": "<build>", "buildId": "<build>", "sdkVersion": "<version>", "version": "<version>",
    "nextPageToken": "<token>", "taskToken": "<token>", "conflictToken": "<token>", "clusterId": "<id>", "clusterName": "<name>",
    "serverVersion": "<version>", "hostName": "<host>", "host": "<host>", "historyShardCount": "<count>", "rate": "<rate>",
    "tasksAddRate": "<rate>", "tasksDispatchRate": "<rate>", "approximateBacklogAge": "<age>", "lastAccessTime": "<time>",
    "ratePerSecond": "<rate>", "backlogIncreaseRate": "<rate>", "persistenceStore": "<store>", "visibilityStore": "<store>", "stack": "<stack>", "stackTrace": "<stack>",
    "ownerEmail": "<email>", "workerInstanceKey": "<key>", "workerControlTaskQueue": "<queue>", "build": "<build>",
    "durationMillis": "<span>", "deletedNamespace": "<name>", "last_access_time": "<time>",
    "initialFailoverVersion": "<version>", "failoverVersionIncrement": "<version>", "versionInfo": "<version>", "supportedClients": "<clients>",
}


def masked(value, prefix: str, key: str = ""):
    """What does not differ from run to run."""
    if key in VOLATILE and value not in ("", None):
        return VOLATILE[key]
    if isinstance(value, dict):
        return {masked(k, prefix): masked(v, prefix, k) for k, v in value.items()}
    if isinstance(value, list):
        items = [masked(item, prefix, key) for item in value]
        return sorted(items) if key == "coreUsedFlags" else items
    if isinstance(value, str):
        text = UUID.sub("<uuid>", TIME.sub("<time>", value.replace(prefix, "<p>")))
        return "<span>" if SPAN.fullmatch(text) else text
    return value


async def run(binary: str, address: str) -> dict[str, dict]:
    """Runs the script; the answers by step."""
    cli = Run(binary, address)
    client = await Client.connect(address)
    async with Worker(client, task_queue=f"{cli.prefix}-q", workflows=[Shop], activities=[ship, ask]):
        for part in (operator, workflows, messages, pauses, closings, activities, schedules, batches, queues):
            await part(cli)
    return cli.answers


def shop(workflow_id: str, item: str) -> tuple[str, ...]:
    return ("--type", "Shop", "-t", "{p}-q", "-w", "{p}-" + workflow_id, "-i", json.dumps(item))


async def operator(cli: Run) -> None:
    await cli("cluster health", "operator", "cluster", "health")
    await cli("cluster system", "operator", "cluster", "system")
    await cli("cluster describe", "operator", "cluster", "describe")
    await cli("namespace describe", "operator", "namespace", "describe", "-n", "default")
    await cli("namespace create", "operator", "namespace", "create", "-n", "{p}-ns", "--retention", "48h", "--description", "d",
              "--data", "a=b")
    created = lambda out: out["namespaceInfo"]["state"] == "NAMESPACE_STATE_REGISTERED"  # noqa: E731
    await cli("namespace describe created", "operator", "namespace", "describe", "-n", "{p}-ns", until=created)
    await cli("namespace update", "operator", "namespace", "update", "-n", "{p}-ns", "--retention", "72h")
    await cli("namespace list", "operator", "namespace", "list", until=lambda out: len(out) > 1)
    cli.answers.pop("namespace list")
    await cli("namespace delete", "operator", "namespace", "delete", "-n", "{p}-ns", "-y")
    await cli("namespace describe gone", "operator", "namespace", "describe", "-n", "{p}-none")
    await cli("search-attribute create", "operator", "search-attribute", "create", "--name", "{p}Field", "--type", "Keyword")
    await cli("search-attribute create again", "operator", "search-attribute", "create", "--name", "{p}Field", "--type", "Int")
    await cli("search-attribute list", "operator", "search-attribute", "list")
    cli.answers["search-attribute list"]["out"]["customAttributes"] = {
        k: v for k, v in cli.answers["search-attribute list"]["out"]["customAttributes"].items() if k == "<p>Field"}
    await cli("search-attribute remove", "operator", "search-attribute", "remove", "--name", "{p}Field", "-y")


async def workflows(cli: Run) -> None:
    await cli("workflow start", "workflow", "start", *shop("one", "pen"), "--memo", "note=\"m\"", save={"run": "runId"})
    await cli("workflow start again", "workflow", "start", *shop("one", "pen"), "--fail-existing")
    await cli("workflow execute", "workflow", "execute", *shop("fast", "at once"))
    await cli("workflow execute failing", "workflow", "execute", *shop("failing", "fail"))
    listed = lambda count: lambda out: len(out) == count  # noqa: E731
    await cli("workflow list", "workflow", "list", "-q", "WorkflowId = '{p}-one'", until=listed(1))
    await cli("workflow list closed", "workflow", "list", "-q", "WorkflowId = '{p}-fast'", until=listed(1))
    await cli("workflow list malformed", "workflow", "list", "-q", "WorkflowId =")
    await cli("workflow list none", "workflow", "list", "-q", "WorkflowId = '{p}-none'")
    await cli("workflow count", "workflow", "count", "-q", "WorkflowId STARTS_WITH '{p}-f'", until=lambda out: out.get("count") in (2, "2"))
    await cli("workflow count by status", "workflow", "count", "-q", "WorkflowId STARTS_WITH '{p}-f' GROUP BY ExecutionStatus")
    asked = lambda out: any(e["eventType"] == "EVENT_TYPE_WORKFLOW_TASK_COMPLETED" for e in out["events"])  # noqa: E731
    await cli("workflow show", "workflow", "show", "-w", "{p}-one", until=asked)
    await cli("workflow show reverse", "workflow", "show", "-w", "{p}-one", "--reverse")
    await cli("workflow show closed", "workflow", "show", "-w", "{p}-fast")
    await cli("workflow show none", "workflow", "show", "-w", "{p}-none")
    await cli("workflow describe", "workflow", "describe", "-w", "{p}-one")
    await cli("workflow describe raw", "workflow", "describe", "-w", "{p}-one", "--raw")
    await cli("workflow describe closed", "workflow", "describe", "-w", "{p}-fast")
    await cli("workflow describe none", "workflow", "describe", "-w", "{p}-none")
    await cli("workflow result", "workflow", "result", "-w", "{p}-fast")
    await cli("workflow result failed", "workflow", "result", "-w", "{p}-failing")
    await cli("task-queue describe", "task-queue", "describe", "-t", "{p}-q", "--legacy-mode")
    await cli("task-queue describe stats", "task-queue", "describe", "-t", "{p}-none")
    await cli("task-queue describe workers", "task-queue", "describe", "-t", "{p}-q")
    for step in ("task-queue describe stats", "task-queue describe workers"):
        for rows in filter(None, (cli.answers[step]["out"][key] for key in ("pollers", "stats"))):
            rows.sort(key=lambda row: row["taskQueueType"])


async def messages(cli: Run) -> None:
    await cli("workflow signal", "workflow", "signal", "-w", "{p}-one", "--name", "add", "-i", '"ink"')
    await cli("workflow signal none", "workflow", "signal", "-w", "{p}-none", "--name", "add")
    await cli("workflow query", "workflow", "query", "-w", "{p}-one", "--name", "listed")
    await cli("workflow query unknown", "workflow", "query", "-w", "{p}-one", "--name", "nothing")
    await cli("workflow stack", "workflow", "stack", "-w", "{p}-one")
    cli.answers["workflow stack"]["out"]["queryResult"] = ["<stack>"]
    await cli("workflow metadata", "workflow", "metadata", "-w", "{p}-one")
    await cli("workflow update execute", "workflow", "update", "execute", "-w", "{p}-one", "--name", "put", "-i", '"cap"', "--update-id", "u1")
    await cli("workflow update start", "workflow", "update", "start", "-w", "{p}-one", "--name", "put", "-i", '"lid"', "--update-id", "u2",
              "--wait-for-stage", "accepted")
    await cli("workflow update result", "workflow", "update", "result", "-w", "{p}-one", "--update-id", "u2")
    await cli("workflow update describe", "workflow", "update", "describe", "-w", "{p}-one", "--update-id", "u1")
    await cli("workflow update rejected", "workflow", "update", "execute", "-w", "{p}-one", "--name", "put", "-i", '""', "--update-id", "u3")
    await cli("workflow update none", "workflow", "update", "result", "-w", "{p}-one", "--update-id", "u9")
    await cli("workflow signal-with-start", "workflow", "signal-with-start", *shop("two", "pen"), "--signal-name", "add",
              "--signal-input", '"nib"')
    await cli("workflow start-update-with-start", "workflow", "start-update-with-start", *shop("three", "pen"), "--update-name", "put",
              "--update-input", '"cap"', "--update-wait-for-stage", "accepted", "--update-id", "u1", "--id-conflict-policy", "UseExisting")
    await cli("workflow execute-update-with-start", "workflow", "execute-update-with-start", *shop("four", "pen"), "--update-name", "put",
              "--update-input", '"cap"', "--update-id", "u1", "--id-conflict-policy", "UseExisting")


async def pauses(cli: Run) -> None:
    await cli("workflow pause", "workflow", "pause", "-w", "{p}-four", "--reason", "audit")
    await cli("workflow pause again", "workflow", "pause", "-w", "{p}-four", "--reason", "audit")
    await cli("workflow pause none", "workflow", "pause", "-w", "{p}-none")
    await cli("workflow describe paused", "workflow", "describe", "-w", "{p}-four", "--raw")
    await cli("workflow unpause", "workflow", "unpause", "-w", "{p}-four", "--reason", "done")
    await cli("workflow unpause again", "workflow", "unpause", "-w", "{p}-four")


async def closings(cli: Run) -> None:
    await cli("workflow cancel", "workflow", "cancel", "-w", "{p}-two")
    await cli("workflow terminate", "workflow", "terminate", "-w", "{p}-three", "--reason", "enough")
    await cli("workflow terminate again", "workflow", "terminate", "-w", "{p}-three")
    await cli("workflow describe terminated", "workflow", "describe", "-w", "{p}-three")
    await cli("workflow reset", "workflow", "reset", "-w", "{p}-four", "-e", "4", "--reason", "again", save={"reset": "runId"})
    await cli("workflow reset by type", "workflow", "reset", "-w", "{p}-fast", "-t", "FirstWorkflowTask", "--reason", "again")
    await cli("workflow close", "workflow", "signal", "-w", "{p}-one", "--name", "close")
    await cli("workflow result closed", "workflow", "result", "-w", "{p}-one")
    await cli("workflow trace", "workflow", "trace", "-w", "{p}-one", "--no-fold")
    await cli("workflow trace none", "workflow", "trace", "-w", "{p}-none")
    await cli("workflow reset with-workflow-update-options", "workflow", "reset", "with-workflow-update-options", "-w", "{p}-two",
              "-t", "FirstWorkflowTask", "--reason", "again", "--versioning-override-behavior", "auto_upgrade")
    await cli("workflow describe reset with options", "workflow", "describe", "-w", "{p}-two", "--raw")
    await cli("workflow delete", "workflow", "delete", "-w", "{p}-failing", "-y")
    await cli("workflow delete none", "workflow", "delete", "-w", "{p}-none", "-y")
    await cli("workflow update-options", "workflow", "update-options", "-w", "{p}-four", "--versioning-override-behavior", "auto_upgrade")


async def activities(cli: Run) -> None:
    failed = lambda out: any(a.get("lastFailure") for a in out.get("pendingActivities", []))  # noqa: E731
    await cli("activity waiting", "workflow", "start", *shop("five", "nothing"))
    await cli("activity pending", "workflow", "describe", "-w", "{p}-five", "--raw", until=failed)
    await cli("activity pause", "activity", "pause", "-w", "{p}-five", "-a", "ship-1", "--reason", "r")
    await cli("activity pending paused", "workflow", "describe", "-w", "{p}-five", "--raw")
    await cli("activity update-options", "activity", "update-options", "-w", "{p}-five", "-a", "ship-1", "--retry-maximum-attempts", "7")
    await cli("activity unpause", "activity", "unpause", "-w", "{p}-five", "-a", "ship-1")
    await cli("activity reset", "activity", "reset", "-w", "{p}-five", "-a", "ship-1")
    await cli("activity reset none", "activity", "reset", "-w", "{p}-five", "-a", "none")
    for workflow_id, words in (("six", ("complete", "--result", '"yes"')), ("seven", ("fail", "--reason", "no"))):
        await cli(f"activity {words[0]} start", "workflow", "start", *shop(workflow_id, "ask"))
        started = lambda out: any(a.get("state", "").endswith("STARTED") for a in out.get("pendingActivities", []))  # noqa: E731
        await cli(f"activity {words[0]} pending", "workflow", "describe", "-w", "{p}-" + workflow_id, "--raw", until=started)
        cli.answers.pop(f"activity {words[0]} pending")
        await cli(f"activity {words[0]}", "activity", words[0], "-w", "{p}-" + workflow_id, "-a", "ask-1", *words[1:])
        await cli(f"activity {words[0]} result", "workflow", "result", "-w", "{p}-" + workflow_id)


async def schedules(cli: Run) -> None:
    here = ("-s", "{p}-s")
    await cli("schedule create", "schedule", "create", *here, "--interval", "720h", "--overlap-policy", "Skip", "--notes", "n",
              "--paused", *shop("scheduled", "at once"))
    await cli("schedule create again", "schedule", "create", *here, "--interval", "720h", *shop("scheduled", "at once"))
    await cli("schedule create bad", "schedule", "create", "-s", "{p}-bad", "--cron", "61 * * * *", *shop("bad", "at once"))
    await cli("schedule describe", "schedule", "describe", *here)
    await cli("schedule toggle", "schedule", "toggle", *here, "--unpause", "--reason", "go")
    await cli("schedule trigger", "schedule", "trigger", *here)
    ran = lambda out: out["info"].get("actionCount") in ("1", 1) and not out["info"].get("runningWorkflows")  # noqa: E731
    await cli("schedule describe ran", "schedule", "describe", *here, until=ran)
    await cli("schedule backfill", "schedule", "backfill", *here, "--start-time", "2024-01-01T00:00:00Z", "--end-time",
              "2024-01-02T00:00:00Z", "--overlap-policy", "AllowAll")
    await cli("schedule update", "schedule", "update", *here, "--cron", "0 12 * * MON", "--time-zone", "Europe/Berlin",
              *shop("scheduled", "at once"))
    await cli("schedule describe updated", "schedule", "describe", *here, until=lambda out: out["schedule"]["spec"].get("timezoneName"))
    await cli("schedule list-matching-times", "schedule", "list-matching-times", *here, "--start-time", "2024-03-20T00:00:00Z",
              "--end-time", "2024-04-10T00:00:00Z")
    await cli("schedule list-matching-times none", "schedule", "list-matching-times", "-s", "{p}-none", "--start-time",
              "2024-03-20T00:00:00Z", "--end-time", "2024-04-10T00:00:00Z")
    await cli("schedule list", "schedule", "list", "-q", "ScheduleId = '{p}-s'", until=lambda out: len(out) == 1)
    cli.answers.pop("schedule list")
    await cli("schedule delete", "schedule", "delete", *here)
    await cli("schedule describe none", "schedule", "describe", "-s", "{p}-none")


async def batches(cli: Run) -> None:
    for number in range(2):
        await cli(f"batch start {number}", "workflow", "start", *shop(f"batch-{number}", "pen"))
    of_all = "WorkflowId STARTS_WITH '{p}-batch'"
    await cli("batch count", "workflow", "count", "-q", of_all, until=lambda out: out.get("count") in (2, "2"))
    await cli.start_many("many", 200)
    await cli("batch slow", "workflow", "signal", "-q", "WorkflowId STARTS_WITH '{p}-many'", "--name", "add", "-i", '"x"', "--reason", "r",
              "--rps", "5", "-y",
              save={"slow": "batchJobId"})
    await cli("batch end", "batch", "terminate", "--job-id", "{slow}", "--reason", "too slow")
    ended = lambda out: not out["state"].endswith("RUNNING")  # noqa: E731
    await cli("batch describe ended", "batch", "describe", "--job-id", "{slow}", until=ended)
    for counted in ("completeOperationCount", "failureOperationCount", "totalOperationCount"):
        cli.answers["batch describe ended"]["out"].pop(counted, None)
    await cli("batch end again", "batch", "terminate", "--job-id", "{slow}", "--reason", "too slow")
    await cli("batch end none", "batch", "terminate", "--job-id", "{p}-none", "--reason", "too slow")
    await cli("batch signal", "workflow", "signal", "-q", of_all, "--name", "add", "-i", '"x"', "--reason", "r", "-y",
              save={"job": "batchJobId"})
    done = lambda out: out["state"].endswith("COMPLETED")  # noqa: E731
    await cli("batch describe", "batch", "describe", "--job-id", "{job}", until=done)
    await cli("batch terminate", "workflow", "terminate", "-q", of_all, "--reason", "r", "-y", save={"job": "batchJobId"})
    await cli("batch describe terminated", "batch", "describe", "--job-id", "{job}", until=done)
    await cli("batch describe none", "batch", "describe", "--job-id", "{p}-none")
    await cli("batch list", "batch", "list", "--limit", "1", until=lambda out: len(out) == 1)


async def queues(cli: Run) -> None:
    here = ("-t", "{p}-q")
    await cli("task-queue config set", "task-queue", "config", "set", *here, "--task-queue-type", "activity", "--queue-rps-limit", "500",
              "--queue-rps-limit-reason", "r", "--fairness-key-rps-limit-default", "50", "--fairness-key-rps-limit-reason", "r")
    await cli("task-queue config get", "task-queue", "config", "get", *here, "--task-queue-type", "activity")
    await cli("task-queue config set bad", "task-queue", "config", "set", *here, "--task-queue-type", "activity", "--queue-rps-limit", "-1")
    await cli("task-queue list-partition", "task-queue", "list-partition", *here)
    await cli("worker describe none", "worker", "describe", "--worker-instance-key", "{p}-none")
