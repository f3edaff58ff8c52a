// The page of reviews: keys, and no waiting for the next picture. Without it, the form does the work.
// A module: what it names is its own.
const queue = document.getElementById("queue");
const form = document.getElementById("decide");
const toast = document.getElementById("toast");
const REMEMBERED = { unveil: "checked", category: "value" };
const TOAST_MS = 10000;
// So many more are fetched before the last one is reached: their pictures load while one looks.
const AHEAD = 3;
const reviews = () => [...queue.querySelectorAll(".review")];
const isGrid = queue && queue.dataset.view === "grid";
// What was decided, last one last: to undo it, and to show it again where it was.
const decided = [];
let current = queue ? reviews()[0] : null;
let fetching = null;
let hiding = 0;

for (const [id, property] of Object.entries(REMEMBERED)) {
  const field = document.getElementById(id);
  if (!field) continue;
  const stored = localStorage.getItem(`review-${id}`);
  if (property === "checked") field.checked = stored === "true";
  else if ([...field.options].some((each) => each.value === stored)) field.value = stored;
  field.addEventListener("change", () => localStorage.setItem(`review-${id}`, field[property]));
}

function show(review, focus = true) {
  if (!review) return;
  current = review;
  if (isGrid) {
    if (focus) review.querySelector("input").focus();
    return;
  }
  for (const each of reviews()) each.hidden = each !== review;
  document.getElementById("current").value = review.dataset.id;
  if (focus) review.focus();
  fetchMore();
}

async function fetchMore() {
  const more = queue.dataset.more;
  const left = reviews().length - reviews().indexOf(current) - 1;
  if (!more || left >= AHEAD || fetching) return fetching;
  fetching = fetch(more, { headers: { accept: "text/html" } }).then((answer) => answer.text());
  const page = new DOMParser().parseFromString(await fetching.catch(() => ""), "text/html");
  const found = page.getElementById("queue");
  fetching = null;
  if (!found) return null;
  const known = new Set(reviews().map((each) => each.dataset.id));
  for (const each of found.querySelectorAll(".review"))
    if (!known.has(each.dataset.id)) {
      each.hidden = true;
      queue.append(document.adoptNode(each));
    }
  if (found.dataset.more) queue.dataset.more = found.dataset.more;
  else delete queue.dataset.more;
  return null;
}

function step(by) {
  const all = reviews();
  const next = all[all.indexOf(current) + by];
  if (next) show(next);
  else say(by > 0 ? "This is the last one" : "This is the first one");
}

function say(text, canUndo = false) {
  clearTimeout(hiding);
  toast.hidden = false;
  document.getElementById("toast-text").textContent = text;
  document.getElementById("undo").hidden = !canUndo;
  hiding = setTimeout(() => { toast.hidden = true; }, TOAST_MS);
}

function pick(review) {
  const box = review.querySelector("input[name=ids]");
  if (box) box.checked = !box.checked;
  else review.querySelector(".picked").hidden = !review.classList.toggle("is-picked");
  count();
}

function picked() {
  return reviews().filter((each) => each.matches(".is-picked, :has(input[name=ids]:checked)"));
}

function count() {
  const number = picked().length;
  const line = document.getElementById("picked");
  line.hidden = !number;
  line.textContent = `${number} selected: decided together`;
}

async function send(ids, act) {
  const values = { ids: ids.map(Number), act };
  if (act === "take_down") values.category = form.category.value;
  if (act !== "undo") values.reason = form.reason.value;
  const answer = await fetch("/review", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(values),
  });
  const said = await answer.json();
  if (!said.decided) throw new Error(said.error || "that did not work");
  return said;
}

// The next one is shown at once; the server is told meanwhile.
async function decide(act) {
  const chosen = picked().length ? picked() : [current];
  if (!chosen[0]) return;
  const all = reviews();
  const at = all.indexOf(chosen.includes(current) ? current : chosen[0]);
  const rest = (list) => list.find((each) => !chosen.includes(each));
  const next = rest(all.slice(at)) || rest(all.slice(0, at).reverse());
  const entry = { ids: chosen.map((each) => each.dataset.id), places: [] };
  for (const each of chosen) {
    entry.places.push([each, all.slice(all.indexOf(each)).find((other) => !chosen.includes(other))]);
    each.classList.remove("is-picked");
    each.remove();
  }
  left(-chosen.length);
  decided.push(entry);
  const what = act === "publish" ? "Published" : "Taken down";
  const name = chosen.length === 1 ? chosen[0].dataset.name : `${chosen.length} pictures`;
  say(`${what}: ${name}`, true);
  count();
  current = null;
  show(next);
  entry.sent = send(entry.ids, act).then(
    (said) => {
      entry.ids = said.decided.map((each) => each.id);
      if (said.refused.length) say(said.refused.map((each) => each.error).join("; "));
      if (!entry.ids.length) decided.splice(decided.indexOf(entry), 1);
    },
    (error) => {
      decided.splice(decided.indexOf(entry), 1);
      putBack(entry);
      say(`Not decided: ${error.message}`);
    },
  );
  await entry.sent;
  form.reason.value = "";
  if (!current) await nothingLeft();
}

// All that the page knows is decided: fetch more, or show that nothing is left.
async function nothingLeft() {
  await fetchMore();
  if (reviews().length) show(reviews()[0]);
  else {
    const empty = document.createElement("p");
    empty.className = "card empty";
    empty.textContent = "That was the last one here.";
    queue.replaceChildren(empty);
    form.hidden = true;
  }
}

function putBack(entry) {
  form.hidden = false;
  for (const empty of queue.querySelectorAll(":scope > .empty")) empty.remove();
  for (const [each, before] of entry.places.slice().reverse())
    if (before && before.isConnected) before.before(each);
    else queue.prepend(each);
  left(entry.places.length);
  show(entry.places[0][0]);
}

async function undo() {
  const entry = decided.pop();
  if (!entry) return say("There is nothing to undo here");
  await entry.sent;
  try {
    const said = await send(entry.ids, "undo");
    if (said.refused.length) return say(said.refused.map((each) => each.error).join("; "));
    putBack(entry);
    say("Undone");
  } catch (error) {
    decided.push(entry);
    say(`Not undone: ${error.message}`, true);
  }
  return null;
}

function left(by) {
  for (const each of document.querySelectorAll("#left, nav .count")) {
    const text = each.firstChild || each;
    const now = Math.max(0, Number(text.textContent.replaceAll(",", "")) + by);
    text.textContent = now.toLocaleString("en");
  }
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  p: () => decide("publish"),
  t: () => decide("take_down"),
  u: undo,
  x: () => current && pick(current),
  s: () => document.getElementById("unveil").click(),
  "?": () => document.getElementById("keys").showModal(),
};

if (queue) {
  document.getElementById("help").hidden = false;
  document.getElementById("help").addEventListener("click", KEYS["?"]);
  document.getElementById("undo").addEventListener("click", undo);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    decide(event.submitter.value);
  });
  const next = document.getElementById("next");
  if (next) next.addEventListener("click", (event) => { event.preventDefault(); step(1); });
  queue.addEventListener("change", count);
  queue.addEventListener("focusin", (event) => {
    if (isGrid) current = event.target.closest(".review") || current;
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    const held = event.ctrlKey || event.metaKey || event.altKey;
    if (typing || held || document.querySelector("dialog[open]")) return;
    const category = form.category.options[Number(event.key) - 1];
    if (/^[1-9]$/.test(event.key) && category) {
      form.category.value = category.value;
      form.category.dispatchEvent(new Event("change"));
    } else if (KEYS[event.key]) {
      event.preventDefault();
      KEYS[event.key]();
    }
  });
  show(current, false);
}
