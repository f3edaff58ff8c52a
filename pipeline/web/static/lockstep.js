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

// Times in the reader's own zone, with the zone, written as the server writes them.
function ownTimes() {
  const two = (number) => String(number).padStart(2, "0");
  for (const time of document.querySelectorAll("time[datetime]:not([data-own])")) {
    const at = new Date(time.dateTime);
    time.dataset.own = "";
    if (Number.isNaN(at.getTime())) continue;
    const ahead = -at.getTimezoneOffset(), size = Math.abs(ahead);
    const zone = ahead ? `UTC${ahead < 0 ? "-" : "+"}${two(Math.floor(size / 60))}:${two(size % 60)}` : "UTC";
    const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
    const words = `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")} ${zone}`;
    if (time.textContent !== words) time.textContent = words;
  }
}
ownTimes();
document.addEventListener("htmx:afterSwap", ownTimes);
document.addEventListener("htmx:oobAfterSwap", ownTimes);

// Escape closes what was opened, and the focus goes back to what opened it; what opens gets it.
document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest("details.ask[open]");
  if (!open) return;
  event.preventDefault();
  open.open = false;
  open.querySelector("summary").focus();
});
document.addEventListener("toggle", (event) => {
  if (!event.target.matches("details.ask[open]")) return;
  const first = event.target.querySelector("input:not([type=hidden]), textarea, select, button");
  if (first) first.focus();
}, true);
document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details.ask[open]:has(> .panel)"))
    if (!open.contains(event.target)) open.open = false;
});

// What a person asked for with "Show more" gets the focus; what comes by scrolling does not.
let askedFor = null;
document.addEventListener("htmx:beforeSwap", ({ detail: { target, xhr } }) => {
  if (!target.matches(".more") || !target.contains(document.activeElement)) return;
  askedFor = { xhr, after: target.previousElementSibling, isFirst: target.id === "earlier", list: target.parentElement };
});
document.addEventListener("htmx:afterSettle", ({ detail: { xhr } }) => {
  if (!askedFor || askedFor.xhr !== xhr) return;
  const { after, isFirst, list } = askedFor;
  askedFor = null;
  const cell = isFirst ? list.querySelector("li:has(a.tile)") : after && after.nextElementSibling;
  const link = cell && cell.querySelector("a");
  if (link) link.focus();
});
