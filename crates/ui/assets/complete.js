// Completes the names of attributes, operators and statuses in a filter. Tab or an arrow and Enter take a suggestion; Enter alone
// sends the filter as it is.
const SHOWN_MAX = 8;
const OPERATORS = ["AND", "OR", "NOT", "IN", "BETWEEN", "STARTS_WITH", "IS NULL", "IS NOT NULL"];
const STATUSES = ["Running", "Completed", "Failed", "Canceled", "Terminated", "ContinuedAsNew", "TimedOut", "Paused"];

/** The word before the caret, and what may stand there. */
function context(text) {
  const quotes = (text.match(/(?<!\\)'/g) ?? []).length;
  if (quotes % 2) {
    const status = text.match(/ExecutionStatus\s*(?:!?=|in\s*\([^)]*)\s*'(\w*)$/i);
    return status ? { word: status[1], words: STATUSES, end: "'" } : null;
  }
  const word = text.match(/[A-Za-z_]\w*$/)?.[0];
  return word ? { word, words: null, end: " " } : null;
}

/** Gives a field suggestions. */
export function complete(field) {
  if (!field?.dataset.words) return;
  const names = [...field.dataset.words.split(" "), ...OPERATORS];
  const list = document.createElement("ul");
  list.id = "suggestions";
  list.setAttribute("role", "listbox");
  list.hidden = true;
  field.after(list);
  for (const [name, value] of [["role", "combobox"], ["aria-autocomplete", "list"], ["aria-controls", list.id], ["aria-expanded", "false"]]) {
    field.setAttribute(name, value);
  }
  let chosen = -1;

  function close() {
    list.hidden = true;
    chosen = -1;
    field.setAttribute("aria-expanded", "false");
    field.removeAttribute("aria-activedescendant");
  }

  function show() {
    const found = context(field.value.slice(0, field.selectionStart));
    const wanted = found?.word.toLowerCase();
    const words = found ? (found.words ?? names).filter(name => name.toLowerCase().startsWith(wanted) && name !== found.word) : [];
    if (!words.length) return close();
    list.replaceChildren(...words.slice(0, SHOWN_MAX).map((word, at) => {
      const item = document.createElement("li");
      item.id = `suggestion-${at}`;
      item.setAttribute("role", "option");
      item.textContent = word;
      item.addEventListener("mousedown", event => {
        event.preventDefault();
        take(word);
      });
      return item;
    }));
    list.hidden = false;
    field.setAttribute("aria-expanded", "true");
    choose(-1);
  }

  function choose(at) {
    chosen = at;
    [...list.children].forEach((item, number) => item.setAttribute("aria-selected", String(number === at)));
    if (at >= 0) field.setAttribute("aria-activedescendant", `suggestion-${at}`);
  }

  function take(word) {
    const caret = field.selectionStart;
    const found = context(field.value.slice(0, caret));
    const before = field.value.slice(0, caret - found.word.length);
    field.setRangeText(before + word + found.end, 0, caret, "end");
    close();
  }

  field.addEventListener("input", show);
  field.addEventListener("blur", close);
  field.addEventListener("keydown", event => {
    if (list.hidden) return;
    const count = list.children.length;
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in moves) choose((chosen + moves[event.key] + count) % count);
    else if (event.key === "Tab" || event.key === "Enter" && chosen >= 0) take(list.children[Math.max(chosen, 0)].textContent);
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
}
