"""Schedules, batches, task queues, namespaces, the cluster, and what every page has."""

import asyncio
import http.server
import json
import threading
import uuid
from base64 import b64decode, b64encode
from datetime import timedelta

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleIntervalSpec, ScheduleSpec
from temporalio.common import RawValue

from shop import QUEUE, Stocktaking


async def off(act):
    return await asyncio.to_thread(act)


@pytest.fixture
def name() -> str:
    return f"other-{uuid.uuid4().hex[:8]}"


async def test_a_schedule_is_shown_paused_triggered_and_deleted(ui, page, client, worker, name):
    action = ScheduleActionStartWorkflow(Stocktaking.run, id=name, task_queue=QUEUE)
    await client.create_schedule(name, Schedule(action=action, spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=2))])))

    def acts():
        page.go(f"{ui}/namespaces/default/schedules")
        assert "every 2h 00m" in page.text("table.list")
        page.leaves(lambda: page.click("table.list a", name))
        assert page.count("ol.plain li") >= 10
        page.leaves(lambda: page.click(".actions button", "Pause"))
        assert "Paused" in page.text(".title")
        page.leaves(lambda: page.click(".actions button", "Unpause"))
        assert "Active" in page.text(".title")
        page.leaves(lambda: page.click(".actions button", "Trigger now"))
        for _ in range(50):
            if page.count("ul.plain a"):
                break
            page.go(page.js("location.href"))
        page.leaves(lambda: page.click("ul.plain a", name))
        assert page.text("h1").startswith(name)
        page.click(".actions button", "Terminate")
        page.leaves(lambda: page.click("#terminate .danger"))
        page.go(f"{ui}/namespaces/default/schedules/{name}")
        page.click(".actions button", "Delete")
        page.leaves(lambda: page.click("#delete .danger"))
        assert name not in page.text("main")

    await off(acts)


async def test_a_batch_counts_first_and_then_terminates(ui, page, client, worker, name):
    runs = [await client.start_workflow(Stocktaking.run, id=f"{name}-{n}", task_queue=f"nobody-{name}") for n in range(5)]

    def acts():
        page.go(f"{ui}/namespaces/default/batches")
        page.type("form input[name=query]", f"TaskQueue = 'nobody-{name}'")
        page.click("input[value=terminate]")
        page.type("form input[name=reason]", "test")
        page.leaves(lambda: page.click(".panel button", "Count them first"))
        assert "Terminate 5 workflows?" in page.text("h1")
        page.leaves(lambda: page.click("button.danger", "Terminate"))
        page.until("document.querySelector('#job').innerText.includes('Completed')", 60)
        assert "5 of 5" in page.text("#job")

    await off(acts)
    assert {(await run.describe()).status.name for run in runs} == {"TERMINATED"}


async def test_task_queues_tell_who_polls_and_what_waits(ui, page, client, worker, name):
    waits = await client.start_workflow("Nobody", id=name, task_queue=f"lonely-{name}")

    def looks():
        page.go(f"{ui}/namespaces/default/task-queues")
        page.until(f"document.querySelector('table.list').innerText.includes('lonely-{name}')")
        page.leaves(lambda: page.click("table.list a", QUEUE))
        assert "@" in page.text("#queue ul")
        page.go(f"{ui}/namespaces/default/task-queues")
        page.type("#name", f"lonely-{name}")
        page.leaves(lambda: page.press("Enter"))
        assert "no worker polls" in page.text("#queue")
        page.leaves(lambda: page.click("main a", "Workflows of this queue"))
        assert page.count("table.list tbody tr") == 1

    await off(looks)
    await waits.terminate()


async def test_namespaces_and_the_cluster(ui, page, server):
    def looks():
        page.go(f"{ui}/namespaces")
        page.leaves(lambda: page.click("table.list a", "default"))
        assert "Colour" in page.text("table.list") and "Retention" in page.text(".facts")
        page.leaves(lambda: page.click("header nav a", "Cluster"))
        assert "1 of 1 answer" in page.text("#map") and page.count("table.map .leads") >= 2

    await off(looks)


async def test_light_dark_and_phone(ui, browser, server):
    def looks():
        page = browser.page(width=360, height=700, mobile=True)
        for path in ("/namespaces/default/workflows", "/namespaces", "/cluster", "/namespaces/default/task-queues", "/namespaces/default/batches"):
            page.go(ui + path)
            assert page.js("document.documentElement.scrollWidth") <= 360, path
        light = page.js("getComputedStyle(document.body).color")
        page.click("#theme")
        assert page.js("getComputedStyle(document.body).color") != light
        page.go(f"{ui}/namespaces")
        assert page.js("document.documentElement.dataset.theme") == "dark"
        assert not page.complaints

    await off(looks)


async def test_a_missing_workflow_says_so(ui, page, server):
    def looks():
        page.go(f"{ui}/namespaces/default/workflows/never-was")
        assert "never-was" in page.text(".problem") or "not found" in page.text(".problem")
        page.go(f"{ui}/namespaces/no-such-namespace/workflows")
        assert "no-such-namespace" in page.text(".problem")
        page.complaints.clear()  # The console tells of the statuses.

    await off(looks)


async def test_foreign_hosts_and_forms_are_refused(fetch, server):
    def asks():
        assert fetch("/", Host="evil.example")[0] == 403
        status, headers, _ = fetch("/namespaces/default/workflows")
        assert status == 200 and "script-src 'self'" in headers["content-security-policy"]

    await off(asks)


class Codec(http.server.BaseHTTPRequestHandler):
    """A codec server whose secret is to turn bytes around."""

    def answer(self, body: bytes = b""):
        self.send_response(200)
        for header, value in (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Headers", "content-type,x-namespace")):
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def do_OPTIONS(self):
        self.answer()

    def do_POST(self):
        assert self.path == "/decode" and self.headers["x-namespace"] == "default"
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        plain = [{"metadata": {"encoding": b64encode(b"json/plain").decode()}, "data": b64encode(b64decode(p["data"])[::-1]).decode()}
                 for p in asked["payloads"]]
        self.answer(json.dumps({"payloads": plain}).encode())

    def log_message(self, *_):
        pass


async def test_a_codec_server_decodes_in_the_browser(ui, page, client, name):
    turned = Payload(metadata={"encoding": b"binary/turned"}, data=b'"a secret order"'[::-1])
    run = await client.start_workflow("Nobody", RawValue(turned), id=name, task_queue="nobody-polls")
    codec = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Codec)
    threading.Thread(target=codec.serve_forever, daemon=True).start()

    def looks():
        page.go(f"{ui}/namespaces/default/workflows/{name}")
        assert "encoded as binary/turned" in page.text("#outcome")
        page.press("?")
        page.type("#codec-form input", f"http://127.0.0.1:{codec.server_port}")
        page.leaves(lambda: page.click("#codec-form button"))
        page.until("document.querySelector('#outcome').innerText.includes('a secret order')")

    try:
        await off(looks)
    finally:
        codec.shutdown()
        await run.terminate()
