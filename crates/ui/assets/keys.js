// The keyboard: rows of a list, the filter, the sections.
import { turn } from "./times.js";

const sections = { w: "workflows", s: "schedules", b: "batches", t: "task-queues" };
let waits = false;

const rows = () => [...document.querySelectorAll("table.list tbody tr")].filter(row => row.querySelector("a[href]"));

/** Marks the row that is this many below the marked one. */
function move(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex(row => row.classList.contains("at"));
  const next = all[Math.min(Math.max(at + by, 0), all.length - 1)];
  all.forEach(row => row.classList.toggle("at", row === next));
  next.scrollIntoView({ block: "nearest" });
  next.querySelector("a[href]").focus({ preventScroll: true });
}

function go(key) {
  const root = document.documentElement.dataset;
  const namespace = encodeURIComponent(root.namespace || "default");
  if (key === "c") location.href = `${root.base}/cluster`;
  if (key === "n") location.href = `${root.base}/namespaces`;
  if (sections[key]) location.href = `${root.base}/namespaces/${namespace}/${sections[key]}`;
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "Escape") {
    if (typing && !event.target.closest("dialog")) event.target.blur();
    document.querySelectorAll("details.menu[open]").forEach(menu => { menu.open = false; });
    return;
  }
  if (typing || document.querySelector("dialog:popover-open") && event.key !== "?") return;
  if (waits) {
    waits = false;
    return go(event.key);
  }
  const actions = {
    "/": () => document.getElementById("query")?.focus(),
    "?": () => document.getElementById("help").togglePopover(),
    "j": () => move(1),
    "k": () => move(-1),
    "t": turn,
    "g": () => { waits = true; setTimeout(() => { waits = false; }, 1500); },
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
