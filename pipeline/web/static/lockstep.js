// Live updates, and what a form cannot do by itself. Every page also works without it.
"use strict";

// The server says that something changed; the parts of the page that show it reload themselves.
const POLL_EVERY_MS = 10000;
let stream = null;
let polling = null;
let known = null;
function listen() {
  if (!document.querySelector("[data-live]")) return;
  if (document.hidden) {
    // A hidden page keeps no connection: browsers have six for each server.
    if (stream) stream.close();
    clearInterval(polling);
    stream = polling = null;
  } else if (!stream && !polling) {
    stream = new EventSource("/events");
    stream.addEventListener("moved", () => htmx.trigger(document.body, "moved"));
    stream.addEventListener("error", (event) => {
      if (event.target !== stream || stream.readyState !== EventSource.CLOSED) return;
      // The server has as many streams as it allows: poll instead.
      stream = null;
      polling = setInterval(poll, POLL_EVERY_MS);
      poll();
    });
  }
}
async function poll() {
  const answer = await fetch("/events.json").catch(() => null);
  if (!answer || !answer.ok) return;
  const { moves } = await answer.json();
  if (moves !== known) htmx.trigger(document.body, "moved");
  known = moves;
}
document.addEventListener("visibilitychange", listen);
document.addEventListener("DOMContentLoaded", listen);

// Announce the verdict when it changes, and not at every step of a bar.
document.addEventListener("htmx:afterSwap", () => {
  const verdict = document.querySelector("[data-verdict]");
  const aloud = document.getElementById("aloud");
  if (verdict && aloud && aloud.textContent !== verdict.textContent)
    aloud.textContent = verdict.textContent;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = button.dataset.copy;
  const done = () => {
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  };
  const byHand = () => {
    // The clipboard is available only on HTTPS and loopback; elsewhere the text is selected instead.
    const shown = document.getElementById(button.getAttribute("aria-controls"));
    if (shown) getSelection().selectAllChildren(shown);
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, byHand);
  else byHand();
});

// What was just done can be undone for ten seconds here, and later from the audit. A toast that
// somebody points at, or has reached by keyboard, stays.
const TOAST_MS = 10000;
document.addEventListener("DOMContentLoaded", () => {
  const toast = document.querySelector(".said.toast");
  if (!toast) return;
  const leave = () => {
    if (toast.matches(":hover, :focus-within")) setTimeout(leave, 1000);
    else toast.remove();
  };
  setTimeout(leave, TOAST_MS);
});

// A file dropped on the drop zone, or chosen: its name is shown, and the button sends it.
function chosen(input) {
  const zone = input.closest("[data-drop]");
  const name = zone.querySelector("[data-name]");
  if (input.files.length) name.textContent = input.files[0].name;
  zone.classList.toggle("full", input.files.length > 0);
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-drop] input[type=file]")) chosen(event.target);
});
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    const zone = event.target.closest && event.target.closest("[data-drop]");
    if (kind !== "dragleave") event.preventDefault();
    if (!zone) return;
    zone.classList.toggle("over", kind === "dragover");
    if (kind !== "drop" || !event.dataTransfer.files.length) return;
    const input = zone.querySelector("input[type=file]");
    input.files = event.dataTransfer.files;
    chosen(input);
  });
