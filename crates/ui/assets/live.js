// The page follows what happens: the server says that something changed, and the parts that can change are fetched again.
// A hidden page listens to nothing, since a browser has few connections for each server.
const PAUSE_MS = 1000;

/** What the reader opened is found again by its text. */
const opened = region => new Set([...region.querySelectorAll("details[open] > summary")].map(summary => summary.textContent));

function swap(fresh) {
  for (const region of document.querySelectorAll("[data-region]")) {
    const next = fresh.getElementById(region.id);
    if (!next || next.innerHTML === region.dataset.before) continue;
    if (region.contains(document.activeElement) && document.activeElement.matches("input, textarea, select")) continue;
    // Numbers that come late stay until the new ones are there.
    if (next.dataset.late) {
      region.dataset.late = next.dataset.late;
      continue;
    }
    const before = next.innerHTML;
    const open = opened(region);
    const at = region.querySelector("tr.at a[href]")?.getAttribute("href");
    const focused = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    region.replaceChildren(...document.importNode(next, true).childNodes);
    region.dataset.before = before;
    for (const summary of region.querySelectorAll("details > summary")) {
      if (open.has(summary.textContent)) summary.parentElement.open = true;
    }
    for (const link of region.querySelectorAll("a[href]")) {
      const href = link.getAttribute("href");
      if (at && href === at) link.closest("tr")?.classList.add("at");
      if (focused && href === focused) link.focus({ preventScroll: true });
    }
  }
}

/** Follows the page's events; `dress` is called after each change. */
export function live(dress) {
  const address = document.querySelector("main").dataset.events;
  const sign = document.getElementById("live");
  if (!address || !window.EventSource) return;
  let source = null;
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        swap(fresh);
        dress();
        // What is over has no more events.
        if (!fresh.querySelector("main")?.dataset.events) stop();
      }
    } catch {
      // The stream tells when the server is back.
    }
    await new Promise(done => setTimeout(done, PAUSE_MS));
    busy = false;
    if (again) {
      again = false;
      refresh();
    }
  }

  function stop() {
    source?.close();
    source = null;
    sign.hidden = true;
  }

  function start() {
    if (source) return;
    source = new EventSource(address);
    source.addEventListener("change", refresh);
    source.addEventListener("open", () => {
      sign.hidden = false;
    });
    // The browser tries again by itself, and hears of what it missed, since the address says what it has seen.
    source.addEventListener("error", () => {
      sign.hidden = true;
    });
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else start();
  });
  if (!document.hidden) start();
}
