"""Every page by keyboard alone, and as a screen reader has it: names, landmarks, order, contrast."""

import asyncio
import uuid

import pytest

from shop import QUEUE, Order, Stocktaking

NAMED = {"button", "link", "textbox", "searchbox", "combobox", "checkbox", "radio", "spinbutton", "img", "image", "progressbar", "dialog", "table"}
"""Roles that are of no use without a name."""


@pytest.fixture(scope="module")
async def pages(ui, client, worker):
    """Addresses of one page of every kind."""
    name = f"reach-{uuid.uuid4().hex[:8]}"
    run = await client.start_workflow(Order.run, args=[name, 1000], id=name, task_queue=QUEUE)
    waits = await client.start_workflow(Stocktaking.run, id=f"{name}-waits", task_queue=QUEUE)
    for _ in range(200):
        if (await run.describe()).raw_description.pending_activities:
            break
        await asyncio.sleep(0.05)
    below, own = "/namespaces/default", f"/namespaces/default/workflows/{name}/{run.first_execution_run_id}"
    paths = [f"{below}/workflows", own, f"{own}?view=full", f"{own}/relations", f"{own}/queries", f"{own}/stack",
             f"{own}/activity?act=pause&id=2", f"{below}/schedules", f"{below}/new-schedule", f"{below}/batches", f"{below}/task-queues",
             f"{below}/task-queues/{QUEUE}", "/namespaces", below, "/cluster"]
    yield [ui + path for path in paths]
    await run.terminate()
    await waits.terminate()


def nameless(page) -> list[str]:
    """What a screen reader comes to and cannot name."""
    found = []
    for node in page("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if not node["ignored"] and role in NAMED and not node.get("name", {}).get("value", "").strip():
            described = page("DOM.describeNode", backendNodeId=node["backendDOMNodeId"])["node"]
            found.append(f"{role} <{described['localName']} {' '.join(described.get('attributes', []))}>")
    return found


FOCUS = """(() => { const it = document.activeElement; const style = getComputedStyle(it); const box = it.getBoundingClientRect();
  return {at: [...document.querySelectorAll('*')].indexOf(it), tag: it.tagName, text: (it.innerText || it.name || '').slice(0, 40),
          ring: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0,
          seen: box.width > 0 && box.height > 0 && it.checkVisibility()}; })()"""

REACHABLE = """[...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
  .filter(it => it.checkVisibility() && !it.disabled && it.tabIndex >= 0).length"""

# Colours of text against what is behind it, as WCAG computes contrast.
CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const behind = it => { for (; it; it = it.parentElement) { const c = rgba(getComputedStyle(it).backgroundColor); if (c[3] > 250) return c; }
    return rgba(getComputedStyle(document.documentElement).backgroundColor); };
  const poor = new Set();
  for (const it of document.querySelectorAll('body *')) {
    if (![...it.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !it.checkVisibility() || it.closest('svg, .sr, .skip, [aria-hidden=true]')) continue;
    const [a, b] = [light(rgba(getComputedStyle(it).color)), light(behind(it))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) poor.add(`${it.tagName}.${it.className} ${ratio.toFixed(2)} ${it.innerText.slice(0, 30)}`);
  }
  return [...poor]; })()"""


async def test_everything_has_a_name_and_a_place(page, pages):
    def looks():
        for address in pages:
            page.go(address)
            assert nameless(page) == [], address
            assert page.js("document.documentElement.lang") == "en" and page.count("h1") == 1, address
            assert page.count("main") == 1 and page.count("header nav[aria-label]") == 1, address
            assert page.js("[...document.querySelectorAll('table.list th')].every(head => head.scope)"), address
            assert page.js("new Set([...document.querySelectorAll('[id]')].map(it => it.id)).size === document.querySelectorAll('[id]').length"), address

    await asyncio.to_thread(looks)


async def test_every_control_is_reached_with_the_tab_key_in_order(page, pages):
    def tabs():
        for address in pages:
            page.go(address)
            wanted = page.js(REACHABLE)
            page.press("Tab")
            first = page.js(FOCUS)
            assert first["text"].startswith("Skip to content") and first["seen"], address
            seen, last = {first["at"]}, first["at"]
            for _ in range(wanted + 40):
                page.press("Tab")
                now = page.js(FOCUS)
                if now["tag"] == "BODY" or now["at"] in seen:
                    break
                assert now["ring"] and now["seen"], (address, now)
                assert now["at"] > last, (address, "out of order", now)
                seen.add(now["at"])
                last = now["at"]
            # Radio buttons of one name are one stop.
            radios = page.js("Math.max(0, document.querySelectorAll('input[type=radio]').length - 1)")
            assert len(seen) >= min(wanted, 150) - radios, (address, len(seen), wanted)

    await asyncio.to_thread(tabs)


async def test_a_dialog_takes_the_focus_and_gives_it_back(ui, page, pages):
    def opens():
        page.go(pages[1])
        page.js("document.querySelector('.actions button[popovertarget=signal]').focus()")
        page.press("Enter")
        page.until("document.querySelector('#signal').matches(':popover-open')")
        page.press("Tab")
        assert page.js("document.activeElement.closest('dialog')?.id") == "signal"
        page.press("Escape")
        assert not page.js("document.querySelector('#signal').matches(':popover-open')")
        assert page.js("document.activeElement.getAttribute('popovertarget')") == "signal"

    await asyncio.to_thread(opens)


async def test_text_stands_out_in_light_and_dark(browser, pages):
    def looks():
        for dark in (False, True):
            page = browser.page(dark=dark)
            for address in pages:
                assert page.go(address).js(CONTRAST) == [], (address, "dark" if dark else "light")

    await asyncio.to_thread(looks)


async def test_nothing_is_wider_than_a_phone(browser, pages):
    def looks():
        page = browser.page(width=360, height=740, mobile=True)
        for address in pages:
            page.go(address)
            assert page.js("document.documentElement.scrollWidth") <= 360, address

    await asyncio.to_thread(looks)
