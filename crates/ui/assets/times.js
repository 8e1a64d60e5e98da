// Times as the reader wants them: how long ago, by the local clock, or in UTC. Each has the other forms in its tooltip.
const kinds = ["ago", "local", "utc"];
const button = document.getElementById("times");
let kind = localStorage.getItem("mainstay-times");
if (!kinds.includes(kind)) kind = "ago";

const pad = number => String(number).padStart(2, "0");

function local(date) {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ` +
    `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

function utc(date) {
  return date.toISOString().slice(0, 19).replace("T", " ");
}

function ago(date) {
  const seconds = Math.trunc((Date.now() - date.getTime()) / 1000);
  const distance = Math.abs(seconds);
  if (distance < 1) return "now";
  const [size, unit] = distance < 60 ? [1, "s"] : distance < 3600 ? [60, "m"] : distance < 86400 ? [3600, "h"] : [86400, "d"];
  const words = `${Math.trunc(distance / size)}${unit}`;
  return seconds < 0 ? `in ${words}` : `${words} ago`;
}

const writers = { ago, local, utc };

/** Writes every time on the page anew. */
export function times() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const date = new Date(element.dateTime);
    const text = writers[kind](date);
    if (element.textContent !== text) element.textContent = text;
    if (!element.title) element.title = `${local(date)} local\n${utc(date)} UTC`;
  }
}

function choose(next) {
  kind = next;
  localStorage.setItem("mainstay-times", kind);
  button.textContent = kind === "utc" ? "UTC" : kind;
  times();
}

/** The next form. */
export function turn() {
  choose(kinds[(kinds.indexOf(kind) + 1) % kinds.length]);
}

button.hidden = false;
button.addEventListener("click", turn);
choose(kind);
setInterval(() => { if (kind === "ago" && !document.hidden) times(); }, 1000);
