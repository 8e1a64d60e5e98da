"""The HTTP/JSON API: what people and scripts do without an SDK, and what a hostile page or client tries."""

import asyncio
import base64
import http.client
import json
import random
import socket
import uuid
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import pytest
from temporalio.client import Client

from conftest import a_worker
from support import Server, free_port

LOG_LINES_MAX = 20
BODY_SIZE_MAX = 4 << 20
SHORT, PLAIN = "/namespaces/default", "/api/v1/namespaces/default"
"""Below the first payloads are written as what they hold, below the second as they are."""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def problem(self) -> tuple[int, int, str]:
        return self.status, self.json["code"], self.json["message"]


@dataclass
class Api:
    """A client that sends what it is told to, and no more."""

    port: int
    queue: str = ""

    def send(self, method: str, path: str, body=None, headers=None, **query) -> Answer:
        if query:
            path += "?" + urlencode(query, doseq=True)
        data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
        given = {"Content-Type": "application/json"} if data else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, data, {**given, **(headers or {})})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode())
        finally:
            connection.close()

    def get(self, path: str, **query) -> Answer:
        return self.send("GET", path, **query)

    def post(self, path: str, body=None, **options) -> Answer:
        return self.send("POST", path, body, **options)

    def start(self, workflow: str, *arguments, id: str | None = None, **fields) -> str:
        id = id or f"http-{uuid.uuid4()}"
        answer = self.post(f"{SHORT}/workflows/{quote(id, safe='')}", {
            "workflowType": {"name": workflow}, "taskQueue": {"name": self.queue}, "input": list(arguments), **fields})
        assert answer.status == 200, answer.text
        return id


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server of its own; at the end its log is short and free of panics."""
    log = tmp_path_factory.mktemp("http") / "server.log"
    port = free_port()
    with Server("--http-port", str(port), "--search-attribute", "Colour=Keyword", log=log, level="info") as server:
        yield server, port
    text = log.read_text()
    assert f"Temporal HTTP:    127.0.0.1:{port}" in text
    assert "panic" not in text
    assert text.count("\n") <= LOG_LINES_MAX, text


@pytest.fixture
def api(served, task_queue) -> Api:
    return Api(served[1], task_queue)


@pytest.fixture
async def worker(served, task_queue):
    client = await Client.connect(served[0].address)
    async with a_worker(client, task_queue):
        yield client


def eventually(ask, good, tries=100):
    """The first answer that is good; visibility and closes take a moment."""
    import time
    for _ in range(tries):
        answer = ask()
        if good(answer):
            return answer
        time.sleep(0.05)
    raise AssertionError(answer.text)


def encoded(value) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def payload(value) -> dict:
    return {"metadata": {"encoding": encoded(b"json/plain")}, "data": encoded(value)}


# -- a workflow from start to end ------------------------------------------------------------------------------------------


async def test_a_workflow_is_started_watched_and_read(api, worker):
    id = await asyncio.to_thread(api.start, "Greeting", "web")
    await asyncio.to_thread(lifecycle, api, id)


def lifecycle(api: Api, id: str) -> None:
    # A long poll for the closing event ends when the workflow does.
    history = api.get(f"{SHORT}/workflows/{id}/history", waitNewEvent="true",
                      historyEventFilterType="HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT").json
    (last,) = history["history"]["events"]
    assert last["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"
    assert last["workflowExecutionCompletedEventAttributes"]["result"] == ["Hello, web!"]

    described = api.get(f"{SHORT}/workflows/{id}").json["workflowExecutionInfo"]
    assert described["status"] == "WORKFLOW_EXECUTION_STATUS_COMPLETED"
    assert isinstance(described["historyLength"], str), "64-bit integers are strings"
    run = described["execution"]["runId"]

    # Names of the query in either case, nested, numbers and enums by number.
    for names in ({"execution.runId": run, "maximumPageSize": 2}, {"execution.run_id": run, "maximum_page_size": 2}):
        page = api.get(f"{PLAIN}/workflows/{id}/history", **names).json
        assert page["history"]["events"][0]["eventId"] == "1"
        assert len(page["history"]["events"]) < 5
    started = page["history"]["events"][0]["workflowExecutionStartedEventAttributes"]
    assert started["input"]["payloads"] == [payload("web")]
    rest = api.get(f"{PLAIN}/workflows/{id}/history", next_page_token=page["nextPageToken"], **{"execution.runId": run}).json
    assert int(rest["history"]["events"][0]["eventId"]) == len(page["history"]["events"]) + 1
    last_first = api.get(f"{PLAIN}/workflows/{id}/history-reverse", maximumPageSize=1).json
    assert last_first["history"]["events"][0]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"

    # The whole history as a file: an array of events.
    answer = api.get(f"{PLAIN}/workflows/{id}/run/{run}/history.json")
    events = answer.json
    assert [e["eventId"] for e in events] == [str(n + 1) for n in range(len(events))]
    assert events[-1]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED"
    assert events[0]["workflowExecutionStartedEventAttributes"]["input"]["payloads"] == [payload("web")]

    listed = eventually(lambda: api.get(f"{PLAIN}/workflows", query=f"WorkflowId = '{id}' AND ExecutionStatus = 'Completed'"),
                        lambda a: a.json.get("executions"))
    assert listed.json["executions"][0]["execution"] == {"workflowId": id, "runId": run}
    counted = api.get(f"{SHORT}/workflow-count", query=f"WorkflowId = '{id}' GROUP BY ExecutionStatus").json
    assert counted["count"] == "1"


async def test_signals_queries_and_termination(api, worker):
    await asyncio.to_thread(interact, api)


def interact(api: Api) -> None:
    id = api.start("Basket", memo={"fields": {"note": {"deep": [1, None]}}}, searchAttributes={"indexedFields": {"Colour": "red"}})
    path = f"/workflows/{id}"
    for prefix, item in ((SHORT, ["pear"]), (PLAIN, {"payloads": [payload("fig")]}), (PLAIN, ["plum"])):
        assert api.post(f"{prefix}{path}/signal/add", {"input": item}).status == 200
    assert api.post(f"{SHORT}{path}/query/content", {}).json["queryResult"] == [["pear", "fig", "plum"]]
    assert api.post(f"{SHORT}{path}/query/content").json["queryResult"] == [["pear", "fig", "plum"]]
    plain = api.post(f"{PLAIN}{path}/query/content").json["queryResult"]["payloads"][0]
    assert plain == payload(["pear", "fig", "plum"]) or json.loads(base64.b64decode(plain["data"])) == ["pear", "fig", "plum"]
    status, code, message = api.post(f"{SHORT}{path}/query/nonsense").problem
    assert (status, code) == (400, 3) and "nonsense" in message
    assert api.post(f"{SHORT}{path}/query/broken").status == 400

    described = api.get(f"{SHORT}{path}").json["workflowExecutionInfo"]
    assert described["memo"]["fields"]["note"] == {"deep": [1, None]}
    # A search attribute has a type beside its encoding, so it has no shorthand.
    assert described["searchAttributes"]["indexedFields"]["Colour"]["data"] == encoded("red")

    assert api.post(f"{SHORT}{path}/cancel", {"reason": "no more"}).json == {}
    ended = api.start("Basket")
    assert api.post(f"{PLAIN}/workflows/{ended}/terminate", {"reason": "enough", "details": ["bye", None]}).json == {}
    events = api.get(f"{SHORT}/workflows/{ended}/history-reverse").json["history"]["events"]
    attributes = events[0]["workflowExecutionTerminatedEventAttributes"]
    assert attributes["reason"] == "enough" and attributes["details"] == ["bye", None]
    assert api.post(f"{PLAIN}/workflows/{ended}/terminate").status == 404


def test_an_id_may_have_any_characters(api):
    id = f"a/b c?d#e%41+é&{uuid.uuid4()}"
    api.start("Basket", id=id)
    described = api.get(f"{PLAIN}/workflows/{quote(id, safe='')}").json
    assert described["workflowExecutionInfo"]["execution"]["workflowId"] == id


# -- the other services ----------------------------------------------------------------------------------------------------


def test_namespaces(api):
    name = f"ns-{uuid.uuid4()}"
    made = api.post("/api/v1/namespaces", {"namespace": name, "workflowExecutionRetentionPeriod": "259200s", "data": {"a": "b"}})
    assert made.json == {}
    described = eventually(lambda: api.get(f"/cluster/namespaces/{name}"), lambda a: a.status == 200).json
    assert described["config"]["workflowExecutionRetentionTtl"] == "259200s"
    assert described["namespaceInfo"]["data"] == {"a": "b"}
    names = [n["namespaceInfo"]["name"] for n in api.get("/api/v1/namespaces", pageSize=100).json["namespaces"]]
    assert {"default", name} <= set(names)
    updated = api.post(f"/api/v1/namespaces/{name}/update", {"update_info": {"description": "new"}})
    assert updated.json["namespaceInfo"]["description"] == "new"
    status, code, message = api.get("/api/v1/namespaces/nowhere").problem
    assert (status, code, message) == (404, 5, "Namespace nowhere is not found.")
    detail = api.get("/api/v1/namespaces/nowhere").json["details"][0]
    assert detail == {"@type": "type.googleapis.com/temporal.api.errordetails.v1.NamespaceNotFoundFailure", "namespace": "nowhere"}


def test_the_cluster(api):
    assert api.get("/api/v1/cluster-info").json["serverVersion"] == api.get("/system-info").json["serverVersion"]
    assert api.get("/cluster").json["clusterName"] == "active"
    attributes = api.get("/api/v1/namespaces/default/search-attributes").json
    assert attributes["customAttributes"]["Colour"] == "INDEXED_VALUE_TYPE_KEYWORD"
    settings = api.get("/api/v1/settings").json
    assert settings["Auth"]["Enabled"] is False and settings["DefaultNamespace"] == "default"


def test_schedules(api):
    id = f"schedule-{uuid.uuid4()}"
    made = api.post(f"{PLAIN}/schedules/{id}", {"requestId": id, "schedule": {
        "spec": {"interval": [{"interval": "3600s"}]},
        "action": {"startWorkflow": {"workflowId": id, "workflowType": {"name": "T"}, "taskQueue": {"name": api.queue},
                                     "input": [{"a": 1}]}},
        "policies": {"overlapPolicy": 2}, "state": {"notes": "hourly"}}})
    assert made.status == 200 and made.json["conflictToken"]
    described = api.get(f"{SHORT}/schedules/{id}").json
    assert described["schedule"]["policies"]["overlapPolicy"] == "SCHEDULE_OVERLAP_POLICY_BUFFER_ONE"
    assert described["schedule"]["action"]["startWorkflow"]["input"] == [{"a": 1}]
    assert api.post(f"{PLAIN}/schedules/{id}/patch", {"requestId": "q", "patch": {"pause": "later"}}).json == {}
    assert api.get(f"{PLAIN}/schedules/{id}").json["schedule"]["state"] == {"notes": "later", "paused": True}
    times = api.get(f"{PLAIN}/schedules/{id}/matching-times", startTime="2030-01-01T00:30:00Z", endTime="2030-01-01T02:30:00Z")
    assert times.json == {"startTime": ["2030-01-01T01:00:00Z", "2030-01-01T02:00:00Z"]}
    eventually(lambda: api.get(f"{PLAIN}/schedules"), lambda a: id in a.text)
    assert api.send("DELETE", f"{PLAIN}/schedules/{id}", identity="me").json == {}
    assert api.get(f"{PLAIN}/schedules/{id}").status == 404


def test_a_batch(api):
    ids = [api.start("Basket") for _ in range(3)]
    job = f"job-{uuid.uuid4()}"
    made = api.post(f"{PLAIN}/batch-operations/{job}", {
        "reason": "all of them", "terminationOperation": {"identity": "me"}, "executions": [{"workflowId": id} for id in ids]})
    assert made.json == {}
    done = eventually(lambda: api.get(f"{PLAIN}/batch-operations/{job}"),
                      lambda a: a.json["state"] == "BATCH_OPERATION_STATE_COMPLETED")
    assert done.json["completeOperationCount"] == "3"
    assert job in api.get(f"{SHORT}/batch-operations").text
    for id in ids:
        status = api.get(f"{PLAIN}/workflows/{id}").json["workflowExecutionInfo"]["status"]
        assert status == "WORKFLOW_EXECUTION_STATUS_TERMINATED"


# -- dialects --------------------------------------------------------------------------------------------------------------


def test_shorthand_and_indentation_can_be_chosen(api):
    id = api.start("Basket", {"a": [1, 2.5, "x"]}, memo={"fields": {"m": "memo"}})
    path = f"/workflows/{id}"

    def memo(prefix, accept=None, **query):
        answer = api.send("GET", prefix + path, headers={"Accept": accept} if accept else None, **query)
        assert answer.headers["content-type"] == "application/json"
        return answer.json["workflowExecutionInfo"]["memo"]["fields"]["m"], "\n  " in answer.text

    assert memo(SHORT) == ("memo", False)
    assert memo(PLAIN) == (payload("memo"), False)
    assert memo(SHORT, noPayloadShorthand="") == (payload("memo"), False)
    assert memo(PLAIN, payloadShorthand="", pretty="") == ("memo", True)
    assert memo(SHORT, "application/json+no-payload-shorthand") == (payload("memo"), False)
    assert memo(SHORT, "application/json+pretty+no-payload-shorthand") == (payload("memo"), True)
    assert memo(PLAIN, "application/json+payload-shorthand") == ("memo", False)


def test_payloads_of_every_encoding(api):
    given = [None, payload({"looks": "plain"}), {"data": "not a payload"}, {"_protoMessageType": "my.Type", "x": 1},
             {"metadata": {"encoding": encoded(b"binary/plain")}, "data": encoded(b"\x00\xff")}]
    id = api.start("Basket", *given[:4])
    started = api.get(f"{SHORT}/workflows/{id}/history").json["history"]["events"][0]
    assert started["workflowExecutionStartedEventAttributes"]["input"] == [
        None, {"looks": "plain"}, {"data": "not a payload"}, {"_protoMessageType": "my.Type", "x": 1}]
    plain = api.get(f"{PLAIN}/workflows/{id}/history").json["history"]["events"][0]
    payloads = plain["workflowExecutionStartedEventAttributes"]["input"]["payloads"]
    assert payloads[0] == {"metadata": {"encoding": encoded(b"binary/null")}}
    assert payloads[3]["metadata"] == {"encoding": encoded(b"json/protobuf"), "messageType": encoded(b"my.Type")}
    # One payload without a shorthand is enough for all of them to be written as they are.
    id = api.start("Basket", *given)
    started = api.get(f"{SHORT}/workflows/{id}/history").json["history"]["events"][0]
    assert started["workflowExecutionStartedEventAttributes"]["input"]["payloads"][4] == given[4]


# -- refusals --------------------------------------------------------------------------------------------------------------


def test_refusals_of_the_services(api):
    id = api.start("Basket")
    again = api.post(f"{PLAIN}/workflows/{id}", {"workflowType": {"name": "T"}, "taskQueue": {"name": "q"}, "requestId": "other"})
    assert again.problem[:2] == (409, 6)
    detail = again.json["details"][0]
    assert detail["@type"].endswith("WorkflowExecutionAlreadyStartedFailure") and detail["runId"]
    assert api.get(f"{PLAIN}/workflows/nobody").problem[:2] == (404, 5)
    assert api.get(f"{PLAIN}/workflows/nobody/run/{uuid.uuid4()}/history.json").problem[:2] == (404, 5)
    assert api.post(f"{PLAIN}/workflows/{id}x", {}).problem[:2] == (400, 3)
    assert api.get(f"{PLAIN}/workflows", query="Nothing = 1").problem[:2] == (400, 3)


def test_requests_that_cannot_be_read(api):
    path = f"{PLAIN}/workflows/unread"
    for body, word in ((b"{", "invalid JSON"), (b"[]", "invalid request"), (b'{"nothing": 1}', "nothing"),
                       (b'{"workflowIdReusePolicy": "NO_SUCH"}', "NO_SUCH"), (b'{"workflowRunTimeout": "soon"}', "duration"),
                       (b"\xff\xfe", "invalid JSON"), (b"[" * 100_000, "invalid JSON")):
        status, code, message = api.post(path, body).problem
        assert (status, code) == (400, 3) and word in message, message
    for query, word in (({"pageSize": "many"}, "page_size"), ({"next_page_token": "!"}, "base64"),
                        ({"pageSize": [1, 2]}, "more than once")):
        status, code, message = api.get(f"{PLAIN}/workflows", **query).problem
        assert (status, code) == (400, 3) and word in message, message
    assert api.get(f"{PLAIN}/workflows", nobodyKnows="this").status == 200


def test_paths_and_methods_that_are_not_there(api):
    assert api.get("/api/v1/nothing").problem == (404, 5, "Not Found")
    assert api.get("/").problem == (404, 5, "Not Found")
    wrong = api.send("PUT", f"{PLAIN}/workflows/x")
    assert wrong.problem == (405, 12, "Method Not Allowed")
    assert wrong.headers["allow"] == "GET, POST"
    assert api.post("/api/v1/settings").status == 405


def test_bodies_have_a_limit(api):
    path = f"{PLAIN}/workflows/large"
    large = api.post(path, b'{"identity": "' + b"x" * BODY_SIZE_MAX + b'"}')
    assert large.problem == (413, 3, f"the request body is larger than {BODY_SIZE_MAX} bytes")
    # One that does not say how long it is.
    with socket.create_connection(("127.0.0.1", api.port), timeout=30) as s:
        s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(6):
                s.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
            s.sendall(b"0\r\n\r\n")
        except OSError:
            pass
        assert s.recv(1024).startswith(b"HTTP/1.1 413 ")


def test_pages_of_others_are_kept_out(api):
    def start(headers, body=b"{}"):
        return api.post(f"{PLAIN}/workflows/foreign", body, headers=headers).problem[:2]

    refused, admitted = (403, 7), (400, 3)
    assert start({}) == admitted
    assert start({"Host": "evil.example"}) == refused
    assert api.send("GET", "/api/v1/namespaces", headers={"Host": "evil.example:7243"}).status == 403
    assert api.send("GET", "/api/v1/namespaces", headers={"Host": "localhost:1"}).status == 200
    assert start({"Origin": "https://evil.example"}) == refused
    assert start({"Origin": "null"}) == refused
    assert start({"Sec-Fetch-Site": "cross-site"}) == refused
    assert start({"Origin": f"http://127.0.0.1:{api.port}", "Sec-Fetch-Site": "same-origin"}) == admitted
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert start({"Content-Type": kind}) == (415, 3)


def test_names_of_the_host_can_be_allowed():
    port = free_port()
    with Server("--http-port", str(port), "--http-allowed-hosts", "flow.example,*.internal"):
        api = Api(port)
        for host, status in (("flow.example", 200), ("a.internal:80", 200), ("other.example", 403)):
            assert api.send("GET", "/system-info", headers={"Host": host}).status == status, host


def test_nonsense_is_survived(api):
    chance = random.Random(7)
    values = [None, True, -1, 1e300, "", "x" * 300, [], {}, [[]], {"a": {"b": []}}, "9" * 40, "\u0000", {"payloads": 1}]
    fields = ["workflowType", "taskQueue", "input", "memo", "searchAttributes", "retryPolicy", "workflowRunTimeout",
              "header", "workflowIdReusePolicy", "requestEagerExecution", "userMetadata", "links", "priority", "a.b"]
    for _ in range(300):
        body = {chance.choice(fields): chance.choice(values) for _ in range(chance.randint(0, 4))}
        answer = api.post(f"{chance.choice((SHORT, PLAIN))}/workflows/nonsense", body)
        assert answer.status in (400, 409), (body, answer.text)
        assert answer.json["message"]
    for raw in (b"\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", api.port), timeout=10) as s:
            try:
                s.sendall(raw)
                s.shutdown(socket.SHUT_WR)
                s.recv(4096)
            except OSError:
                pass
    long = "failure." + "cause." * 5000 + "message=x"
    assert api.get(f"{PLAIN}/workflows?{long}").status == 200
    assert api.get("/system-info").status == 200
