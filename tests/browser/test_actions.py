"""What people do on pages besides looking: with activities, schedules, and members of a cluster. Each asks first and is protected."""

import asyncio
import random
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest

from shop import QUEUE, Order
from support import binary


async def off(act):
    """The browser blocks, so it works beside the loop that the worker needs."""
    return await asyncio.to_thread(act)


@pytest.fixture
def name() -> str:
    return f"act-{uuid.uuid4().hex[:8]}"


def refused(address: str, **fields: str) -> str:
    """What a form is answered that has an origin and no secret: nobody's page of ours sent it."""
    origin = "/".join(address.split("/")[:3])
    request = urllib.request.Request(address, urllib.parse.urlencode(fields).encode(), {"Origin": origin})
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request, timeout=20)
    assert answer.value.code == 403
    return answer.value.read().decode()


async def test_an_activity_is_paused_unpaused_and_reset(ui, page, client, worker, name):
    run = await client.start_workflow(Order.run, args=[name, 1000], id=name, task_queue=QUEUE)

    def acts():
        page.go(f"{ui}/namespaces/default/workflows/{name}")
        page.until("document.querySelector('#pending .failure summary')?.innerText.includes('declined')")
        page.leaves(lambda: page.click("#pending a", "Pause"))
        assert page.text("h1") == "Pause charge?"
        page.leaves(lambda: page.click(".buttons a", "Leave it"))
        assert "Paused" not in page.text("#pending")
        page.leaves(lambda: page.click("#pending a", "Pause"))
        page.type("input[name=reason]", "the bank is closed")
        page.leaves(lambda: page.click(".buttons button"))
        assert "paused" in page.text(".done")
        # An attempt that ran when it was told goes on to its end.
        page.until("document.querySelector('#pending').innerText.includes('Paused')")
        page.leaves(lambda: page.click("#pending a", "Reset"))
        assert page.js("document.querySelector('input[name=keep_paused]').checked")
        page.leaves(lambda: page.click(".buttons button"))
        assert "reset" in page.text(".done") and "Paused" in page.text("#pending")
        assert page.text("#pending td.number").startswith("1")
        page.leaves(lambda: page.click("#pending a", "Unpause"))
        page.leaves(lambda: page.click(".buttons button"))
        page.until("!document.querySelector('#pending').innerText.includes('Paused')")
        assert "secret" in refused(page.js("location.href.split('?')[0]") + "/activity", id="2", act="pause")

    await off(acts)
    assert not (await run.describe()).raw_description.pending_activities[0].paused
    await run.terminate()


async def test_a_schedule_is_made_and_changed(ui, page, browser, server, name):
    def makes():
        page.go(f"{ui}/namespaces/default/schedules")
        page.leaves(lambda: page.click("main a.button", "New schedule"))
        for field, text in (("id", name), ("workflow_type", "Stocktaking"), ("task_queue", "nobody-polls"), ("workflow_id", name),
                            ("times", "61 2 * * *"), ("input", '{"shelf": 3}'), ("notes", "<b>by night</b>")):
            page.type(f"[name={field}]", text)
        page.leaves(lambda: page.click(".buttons button"))
        assert page.js("document.querySelector('[role=alert]').innerText.length") > 0, "cron has no minute 61"
        assert page.js("document.querySelector('[name=notes]').value") == "<b>by night</b>", "what was typed is kept"
        page.complaints.clear()  # The console tells of the status.
        page.type("[name=times]", "30 2 * * 1-5\n@every 12h/15m")
        page.leaves(lambda: page.click(".buttons button"))
        assert "created" in page.text(".done") and page.text("h1") == name
        assert "30 2 * * 1-5" in page.text(".facts") and "every 12h 00m, shifted by 15m 00s" in page.text(".facts")
        assert "<b>by night</b>" in page.text(".facts") and page.count("ol.plain li") >= 10

    def changes():
        other = browser.page()
        for tab in (page, other):
            tab.go(f"{ui}/namespaces/default/schedules/{name}")
            tab.leaves(lambda tab=tab: tab.click(".actions a", "Change"))
            assert tab.js("document.querySelector('[name=times]').value") == "30 2 * * 1-5\n@every 12h/15m"
            assert tab.js("JSON.parse(document.querySelector('[name=input]').value).shelf") == 3
        page.type("[name=times]", "0 4 * * *")
        page.click("[name=paused]")
        page.js("document.querySelector('[name=overlap]').value = '6'")
        page.leaves(lambda: page.click(".buttons button"))
        assert "changed" in page.text(".done") and "Paused" in page.text(".title")
        assert "0 4 * * *" in page.text(".facts") and "Allow all" in page.text(".facts") and "12h" not in page.text(".facts")
        # Whoever had the form open before does not undo it.
        other.type("[name=notes]", "late")
        other.leaves(lambda: other.click(".buttons button"))
        assert "Somebody changed it" in other.text("[role=alert]")
        assert "late" not in page.go(f"{ui}/namespaces/default/schedules/{name}").text(".facts")
        assert "secret" in refused(f"{ui}/namespaces/default/schedules", id="x")
        page.click(".actions button", "Delete")
        page.leaves(lambda: page.click("#delete .danger"))

    await off(makes)
    await off(changes)


def ports(first: int) -> list[int]:
    """Those of three nodes: for clients, for each other, for metrics, for browsers."""
    return [first + above + node for above in (0, 100, 300, 1000) for node in range(3)]


def is_free(port: int) -> bool:
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def cluster():
    """The web interface of the first of three nodes."""
    port = next(port for port in random.sample(range(10_000, 30_000), 1_000) if all(map(is_free, ports(port))))
    process = subprocess.Popen([binary(), "cluster", "dev", "--nodes", "3", "--port", str(port)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
        assert process.poll() is None, "the cluster did not start"
        yield f"http://127.0.0.1:{port + 1000}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


async def test_a_node_is_drained_and_resumed_on_the_map(page, cluster):
    row = "[...document.querySelectorAll('table.map tbody tr')].find(row => row.innerText.includes('node-2'))"

    def acts():
        page.go(f"{cluster}/cluster")
        assert "3 of 3 answer" in page.text("#map")
        page.leaves(lambda: page.click(".acts a[href*=drain][href$=node-2]"))
        assert page.text("h1") == "Drain node-2?"
        page.leaves(lambda: page.click(".buttons a", "Leave it"))
        page.leaves(lambda: page.click(".acts a[href*=drain][href$=node-2]"))
        page.leaves(lambda: page.click(".buttons button"))
        assert "drained" in page.text(".done")
        page.until(f"{row}.innerText.includes('drained') && {row}.querySelectorAll('.leads').length === 0", 60)
        page.leaves(lambda: page.click(".acts a[href*=resume][href$=node-2]"))
        page.leaves(lambda: page.click(".buttons button"))
        page.until(f"!{row}.innerText.includes('drained') && {row}.querySelectorAll('.leads').length > 0", 60)
        assert "secret" in refused(f"{cluster}/cluster/member", node="node-2", change="drain")
        # What is not possible is said as the command line says it.
        page.go(f"{cluster}/cluster/member?change=promote&node=node-3")
        page.leaves(lambda: page.click(".buttons button"))
        assert page.text(".problem, .done")
        # The cluster ends before the tab does.
        page.go("about:blank")
        page.complaints.clear()

    await off(acts)
