// Payloads that only a codec server can read: asked from the browser, so that the server never sees what is inside.
import { keep } from "./switches.js";

const root = document.documentElement;
const form = document.getElementById("codec-form");
const note = document.getElementById("codec-note");
const field = form.elements.endpoint;
field.value = root.dataset.codec || "";
note.textContent = field.value ? "In use." : "None: payloads are shown as they are stored.";

form.addEventListener("submit", event => {
  event.preventDefault();
  keep("codec", field.value.trim());
  // The page's policy must allow the new address, so the server has to know it.
  location.reload();
});

const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const text = data => new TextDecoder().decode(bytes(data || ""));

function readable(payload) {
  const encoding = text(payload.metadata?.encoding);
  if (encoding === "binary/null") return "null";
  if (!encoding.startsWith("json/") && encoding !== "binary/plain") return null;
  const plain = text(payload.data);
  try {
    return JSON.stringify(JSON.parse(plain), null, 2);
  } catch {
    return plain;
  }
}

/** Decodes what is on the page and was not yet. */
export async function decode() {
  const endpoint = root.dataset.codec?.replace(/\/+$/, "");
  const encoded = [...document.querySelectorAll("[data-payload]:not(.asked)")];
  if (!endpoint || !encoded.length) return;
  encoded.forEach(element => element.classList.add("asked"));
  try {
    const answer = await fetch(`${endpoint}/decode`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-namespace": root.dataset.namespace || "" },
      body: JSON.stringify({ payloads: encoded.map(element => JSON.parse(element.dataset.payload)) }),
    });
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    const { payloads } = await answer.json();
    encoded.forEach((element, at) => {
      const plain = payloads[at] && readable(payloads[at]);
      if (plain === null || plain === undefined) return;
      element.textContent = plain;
      element.classList.add("decoded");
    });
  } catch (error) {
    note.textContent = `The codec server does not help: ${error.message}`;
    encoded.forEach(element => { element.title = note.textContent; });
  }
}
