"""One run: its picture, its events, and everything that can be done with it."""

import asyncio
import uuid

import pytest

from shop import QUEUE, Order, Stocktaking


async def off(act):
    return await asyncio.to_thread(act)


@pytest.fixture
def name() -> str:
    return f"run-{uuid.uuid4().hex[:8]}"


async def test_a_completed_order_is_drawn(ui, page, client, worker, name):
    order = await client.start_workflow(Order.run, args=[name, 1], id=name, task_queue=QUEUE)
    await order.result()

    def looks():
        page.go(f"{ui}/namespaces/default/workflows/{name}")
        rows = page.js("[...document.querySelectorAll('.timeline th')].map(cell => cell.innerText)")
        assert any("reserve" in row for row in rows) and any("Parcel" in row for row in rows)
        assert any("charge" in row and "attempt 2" in row for row in rows), rows
        assert page.count(".timeline rect.worker") >= 2 and page.count(".timeline rect.backoff") == 1
        assert page.count(".timeline rect.child") == 1 and page.count(".timeline rect.timer") >= 1
        assert "receipt of" in page.text("#outcome") and "warehouse" in page.text("#outcome")
        page.click("#history summary", "charge")
        page.until("document.querySelector('#history details[open]').innerText.includes('declined')")
        page.leaves(lambda: page.click(".bar-line a", "JSON"))
        assert "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED" in page.text(".json")
        page.leaves(lambda: page.click(".bar-line a", "Full"))
        assert "Activity task completed" in page.text("ol.events")
        page.leaves(lambda: page.click("nav.tabs a", "Relations"))
        assert f"{name}/parcel" in page.text(".tree")
        page.leaves(lambda: page.click(".tree a", f"{name}/parcel"))
        assert name in page.text(".facts") and page.text("h1") == f"{name}/parcel"

    await off(looks)


async def test_signal_query_update_and_stack(ui, page, client, worker, name):
    order = await client.start_workflow(Order.run, args=[name, 0, True], id=name, task_queue=QUEUE)
    # The queries below need a workflow that waits.
    while await order.query(Order.status) != "waits for approval":
        await asyncio.sleep(0.1)

    def acts():
        page.go(f"{ui}/namespaces/default/workflows/{name}")
        page.leaves(lambda: page.click("nav.tabs a", "Queries"))
        page.type("input[name=name]", "status")
        page.leaves(lambda: page.press("Enter"))
        assert "waits for approval" in page.text(".answer")
        page.type("input[name=name]", "no-such-query")
        page.leaves(lambda: page.press("Enter"))
        assert "no-such-query" in page.text("main .parse-error")
        page.leaves(lambda: page.click("nav.tabs a", "Stack trace"))
        assert "Stack for" in page.text("pre.trace")
        page.click(".actions button", "Update")
        page.type("#update input[name=name]", "rename")
        page.type("#update textarea", "<i>better</i>")
        page.leaves(lambda: page.click("#update .primary"))
        assert "now <i>better</i>" in page.text(".answer")
        page.leaves(lambda: page.click(".answer a"))
        page.click(".actions button", "Signal")
        page.type("#signal input[name=name]", "approve")
        page.type("#signal textarea", '"me"')
        page.leaves(lambda: page.click("#signal .primary"))
        assert "signal was sent" in page.text(".done")
        # The page follows the run to its end.
        page.until("document.querySelector('#summary-title').innerText.includes('Completed')")

    await off(acts)
    assert (await order.result())["shipped"]


async def test_pending_activity_and_cancel(ui, page, client, worker, name):
    order = await client.start_workflow(Order.run, args=[name, 1000], id=name, task_queue=QUEUE)

    def acts():
        page.go(f"{ui}/namespaces/default/workflows/{name}")
        page.until("document.querySelector('#pending')?.innerText.includes('declined')")
        page.until("document.querySelector('#pending .number').innerText >= '3'")
        page.click(".actions button", "Cancel")
        page.type("#cancel input[name=reason]", "changed my mind")
        page.leaves(lambda: page.click("#cancel .primary"))
        assert "Cancellation was requested" in page.text(".done")
        page.until("document.querySelector('#summary-title').innerText.includes('Canceled')")

    await off(acts)
    with pytest.raises(Exception):
        await order.result()


async def test_terminate_reset_and_delete(ui, page, client, worker, name):
    await (await client.start_workflow(Order.run, args=[name], id=name, task_queue=QUEUE)).result()

    def resets():
        page.go(f"{ui}/namespaces/default/workflows/{name}")
        first = page.js("location.pathname")
        page.click("#history .quiet summary")
        page.click("#history [data-reset]")
        assert page.js("document.querySelector('#reset input[name=event]').value") == "4"
        page.type("#reset input[name=reason]", "again")
        page.leaves(lambda: page.click("#reset .primary"))
        assert "new run" in page.text(".done") and page.js("location.pathname") != first

    await off(resets)
    stock = await client.start_workflow(Stocktaking.run, id=f"{name}-stock", task_queue=QUEUE)

    def ends():
        page.go(f"{ui}/namespaces/default/workflows/{name}-stock")
        page.click(".actions button", "Terminate")
        page.press("Escape")
        assert "Running" in page.text("#summary-title")
        page.click(".actions button", "Terminate")
        page.type("#terminate input[name=reason]", "<script>alert(1)</script>")
        page.leaves(lambda: page.click("#terminate .danger"))
        page.until("document.querySelector('#summary-title').innerText.includes('Terminated')")
        assert "<script>alert(1)</script>" in page.text("#history")
        page.click(".actions button", "Delete")
        page.leaves(lambda: page.click("#delete .danger"))
        assert page.text("h1") == "Recent workflows"

    await off(ends)


HOSTILE = "<img src=x onerror=alert(1)>/../?a=b&c#d%2F\"'"


@pytest.mark.parametrize("identifier", [HOSTILE, "..", "ünï/cødé", "a" * 900])
async def test_any_id_has_a_page(ui, page, client, worker, identifier):
    run = await client.start_workflow(Stocktaking.run, id=identifier, task_queue=QUEUE)

    def opens():
        page.go(f"{ui}/namespaces/default/workflows")
        # Found and clicked in one step: a live list may draw its rows anew at any time.
        link = f"[...document.querySelectorAll('td.c-id a')].find(link => link.textContent === {identifier!r})"
        page.leaves(lambda: page.js(f"{link}.click()"))
        assert page.text("h1") == identifier
        page.click(".actions button", "Terminate")
        page.leaves(lambda: page.click("#terminate .danger"))
        page.until("document.querySelector('#summary-title').innerText.includes('Terminated')")

    await off(opens)
    assert (await run.describe()).status.name == "TERMINATED"
