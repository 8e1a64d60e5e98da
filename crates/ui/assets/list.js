// Saved views, which this browser keeps, and numbers that come after the page.
const KEY = "mainstay-views";
const VIEWS_MAX = 50;
const LATE_EVERY_MS = 15_000;

const read = () => {
  try {
    const views = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(views) ? views.filter(view => typeof view?.name === "string" && typeof view?.query === "string") : [];
  } catch {
    return [];
  }
};

function item(...children) {
  const line = document.createElement("li");
  line.className = "own";
  line.append(...children);
  return line;
}

function button(text, act, name) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = text;
  if (name) {
    element.className = name;
    element.setAttribute("aria-label", "Remove this view");
  }
  element.addEventListener("click", act);
  return element;
}

/** Adds the views of this browser to the menu. */
export function views() {
  const menu = document.querySelector("#views ul");
  if (!menu) return;
  const action = document.getElementById("filter").action;
  menu.querySelectorAll(".own").forEach(line => line.remove());
  for (const view of read()) {
    const link = document.createElement("a");
    link.href = `${action}?query=${encodeURIComponent(view.query)}`;
    link.textContent = view.name;
    link.title = view.query;
    const remove = () => {
      localStorage.setItem(KEY, JSON.stringify(read().filter(other => other.name !== view.name)));
      views();
    };
    menu.append(item(link, button("×", remove, "remove")));
  }
  const save = item(button("Save this view…", () => {
    const query = document.getElementById("query").value.trim();
    const name = prompt("Name of the view", query)?.trim();
    if (!name) return;
    const others = read().filter(view => view.name !== name);
    localStorage.setItem(KEY, JSON.stringify([...others, { name, query }].slice(-VIEWS_MAX)));
    views();
  }));
  save.classList.add("foot");
  menu.append(save);
}

let asked = -Infinity;

/** Fetches the numbers of the chips if the page came without. They are dear then, so not after every change. */
export async function late() {
  const chips = document.querySelector("#chips[data-late]");
  if (!chips || performance.now() - asked < LATE_EVERY_MS) return;
  asked = performance.now();
  const answer = await fetch(chips.dataset.late);
  if (answer.ok) document.getElementById("chips").outerHTML = await answer.text();
}
