// Pointing at an event fills in the reset dialog.
document.addEventListener("click", event => {
  const button = event.target.closest("[data-reset]");
  if (button) document.querySelector("#reset input[name=event]").value = button.dataset.reset;
});

// A form that is on its way is not sent twice.
document.addEventListener("submit", event => {
  if (event.target.method !== "post") return;
  for (const button of event.target.querySelectorAll("button:not([type=button])")) {
    setTimeout(() => { button.disabled = true; });
  }
});
// Back from another page, it can be sent again.
addEventListener("pageshow", () => {
  document.querySelectorAll("form[method=post] button:disabled").forEach(button => { button.disabled = false; });
});
