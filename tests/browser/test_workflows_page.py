"""Recent workflows, as a person uses them."""

import asyncio
import json
import time
import urllib.parse
import uuid

import pytest

from shop import QUEUE, Order, Refund, Stocktaking


@pytest.fixture(scope="module")
async def orders(client, worker):
    """Three completed orders, a failed refund, one that waits."""
    tag = uuid.uuid4().hex[:6]
    handles = [await client.start_workflow(Order.run, f"order-{tag}-{n}", id=f"order-{tag}-{n}", task_queue=QUEUE) for n in range(3)]
    refund = await client.start_workflow(Refund.run, "order-0", id=f"refund-{tag}", task_queue=QUEUE)
    waits = await client.start_workflow(Stocktaking.run, id=f"stock-{tag}", task_queue=QUEUE)
    await asyncio.gather(*(handle.result() for handle in handles))
    with pytest.raises(Exception):
        await refund.result()
    yield tag
    await waits.terminate()


async def off(act, *arguments):
    """The browser blocks, so it works beside the loop that the worker needs."""
    return await asyncio.to_thread(act, *arguments)


async def test_the_list_filters_by_clicking_and_typing(ui, page, orders):
    def clicks():
        page.go(ui + "/")
        assert "/namespaces/default/workflows" in page.js("location.href")
        page.until(f"document.body.innerText.includes('order-{orders}-2')")
        page.leaves(lambda: page.click("#chips button", "Failed"))
        assert f"refund-{orders}" in page.text("table.list") and f"stock-{orders}" not in page.text("table.list")
        assert page.js("document.getElementById('query').value") == "ExecutionStatus = 'Failed'"
        page.leaves(lambda: page.click("#chips button", "All"))
        page.leaves(lambda: page.click("td.c-type button", "Parcel"))
        assert page.js("document.getElementById('query').value") == "WorkflowType = 'Parcel'"
        assert set(page.js("[...document.querySelectorAll('td.c-type')].map(e => e.innerText)")) == {"Parcel"}
        page.type("#query", f"WorkflowId = 'stock-{orders}'")
        page.leaves(lambda: page.press("Enter"))
        assert page.count("table.list tbody tr") == 1

    await off(clicks)


async def test_a_wrong_filter_is_explained_in_place(ui, page, orders):
    def types():
        page.go(f"{ui}/namespaces/default/workflows")
        page.type("#query", "WorkflowType = 'a' XOR WorkflowId = 'b'")
        page.leaves(lambda: page.press("Enter"))
        assert "syntax error" in page.text(".parse-error")
        _, text, pointer = page.js("document.querySelector('.parse-error').innerText.split('\\n').slice(-3)")[-3:]
        assert text[pointer.index("▲"):].startswith("XOR")
        assert page.js("document.getElementById('query').value").startswith("WorkflowType = 'a' XOR")
        page.complaints.clear()  # The console tells of the status 400.

    await off(types)


async def test_the_list_follows_what_happens(ui, page, client, worker, orders):
    await off(lambda: page.go(f"{ui}/namespaces/default/workflows").until("!document.getElementById('live').hidden"))
    started = await client.start_workflow(Order.run, "x", id=f"live-{orders}", task_queue=QUEUE)
    await off(lambda: page.until(f"document.body.innerText.includes('live-{orders}')"))
    await started.result()
    shown = f"[...document.querySelectorAll('tr')].some(row => row.innerText.includes('live-{orders}') && row.innerText.includes('Completed'))"
    await off(lambda: page.until(shown))


async def test_keys(ui, page, orders):
    def presses():
        page.go(f"{ui}/namespaces/default/workflows")
        page.press("/")
        assert page.js("document.activeElement.id") == "query"
        page.press("Escape")
        page.press("j")
        page.press("j")
        assert page.js("[...document.querySelectorAll('tbody tr')].findIndex(row => row.classList.contains('at'))") == 1
        page.press("k")
        page.press("?")
        assert page.js("document.getElementById('help').matches(':popover-open')")
        page.press("Escape")
        assert not page.js("document.getElementById('help').matches(':popover-open')")
        page.press("t")
        assert page.text("#times") == "local"
        page.leaves(lambda: page.press("Enter"))
        assert page.count("table.timeline") == 1

    await off(presses)


async def test_the_filter_completes_names(ui, page, server):
    def types():
        page.go(f"{ui}/namespaces/default/workflows")
        page.type("#query", "Col")
        page.until("document.querySelector('#suggestions li')?.innerText === 'Colour'")
        page.press("Tab")
        assert page.js("document.getElementById('query').value") == "Colour "
        page.js("document.getElementById('query').setSelectionRange(99, 99)")
        page("Input.insertText", text="= 'x' AND executions")
        page.press("Tab")
        page("Input.insertText", text="= 'Ru")
        page.press("Tab")
        assert page.js("document.getElementById('query').value") == "Colour = 'x' AND ExecutionStatus = 'Running'"

    await off(types)


async def test_views_are_kept(ui, page, orders):
    def saves():
        page.go(f"{ui}/namespaces/default/workflows?query=" + urllib.parse.quote("WorkflowType = 'Order'"))
        page.js("window.prompt = () => 'My <b>orders</b>'")
        page.click("#views summary")
        page.click("#views button", "Save this view")
        page.go(f"{ui}/namespaces/default/workflows")
        page.click("#views summary")
        page.leaves(lambda: page.click("#views a", "My <b>orders</b>"))
        assert page.js("document.getElementById('query').value") == "WorkflowType = 'Order'"

    await off(saves)


async def test_sort_and_export(ui, page, fetch, orders):
    def sorts():
        page.go(f"{ui}/namespaces/default/workflows")
        page.leaves(lambda: page.click("th.c-id a"))
        ids = page.js("[...document.querySelectorAll('td.c-id')].map(cell => cell.innerText)")
        assert ids == sorted(ids)
        page.leaves(lambda: page.click("th.c-id a"))
        assert page.js("[...document.querySelectorAll('td.c-id')].map(cell => cell.innerText)") == sorted(ids, reverse=True)
        status, headers, text = fetch("/namespaces/default/export?format=csv&query=" + urllib.parse.quote(f"WorkflowId = 'stock-{orders}'"))
        assert status == 200 and "attachment" in headers["content-disposition"]
        assert text.splitlines()[1].startswith(f"Running,stock-{orders},")
        rows = json.loads(fetch("/namespaces/default/export?format=json")[2])
        assert {row["workflowId"] for row in rows} >= {f"order-{orders}-{n}" for n in range(3)}

    await off(sorts)


async def test_without_scripts(ui, browser, orders):
    def reads():
        page = browser.page(scripts=False)
        page.go(f"{ui}/namespaces/default/workflows")
        assert f"order-{orders}-0" in page.text("table.list") and "ago" in page.text("table.list")
        page.leaves(lambda: page.click("#chips button", "Failed"))
        assert f"refund-{orders}" in page.text("table.list")
        assert not page.complaints

    await off(reads)


async def test_a_page_of_a_hundred_is_small_and_quick(client, fetch):
    for at in range(100):
        await client.start_workflow("Nobody", id=f"page-of-a-hundred-workflows-{at:03}-{uuid.uuid4()}", task_queue="nobody-polls")
    await off(fetch, "/namespaces/default/workflows")
    began = time.monotonic()
    status, _, text = await off(fetch, "/namespaces/default/workflows")
    took = time.monotonic() - began
    assert status == 200 and text.count("<tr") >= 100
    assert len(text.encode()) < 100_000, len(text.encode())
    assert took < 0.2, took
