// Lists of originals: choosing many, where one is in the list, how large the pictures are; and the
// page of one image: its neighbours, zoom, and a slider between the original and a rendition.
"use strict";

// --- choosing ---

// Of the last original that was chosen or left out by itself: shift goes from there.
let anchor = null;
const boxes = (form) => [...form.elements].filter((each) => each.name === "paths");
// A box may be outside of its form, in a table that has forms of its own.
const formOf = (target) => target.closest("form.choosing") || (target.closest(".cell") && document.querySelector("form.choosing"));
function showChosen(form) {
  const all = form.querySelector("input[name=all]");
  const count = boxes(form).filter((box) => box.checked).length;
  const words = all.checked ? "All selected" : `${count.toLocaleString("en")} selected`;
  form.querySelector("[data-selected]").textContent = words;
  const what = form.querySelector("[data-count]");
  const of = all.checked ? all.parentElement.textContent.trim().toLowerCase() : count;
  if (what) what.textContent = all.checked ? of : count === 1 ? "1 original" : `${of.toLocaleString("en")} originals`;
  form.classList.toggle("busy", all.checked || count > 0);
}
function choose(box, checked, isRange) {
  const form = box.form, every = boxes(form);
  const from = isRange && anchor && anchor.form === form ? every.indexOf(anchor) : -1;
  const to = every.indexOf(box);
  const range = from < 0 ? [box] : every.slice(Math.min(from, to), Math.max(from, to) + 1);
  for (const each of range) each.checked = checked;
  anchor = box;
  showChosen(form);
}
document.addEventListener("click", (event) => {
  const form = formOf(event.target);
  if (!form) return;
  const box = event.target.closest("input[name=paths]");
  if (box) choose(box, box.checked, event.shiftKey);
  const tile = event.target.closest("a.tile");
  // Once something is chosen, or with shift, a click on a picture chooses it as well.
  if (!tile || event.ctrlKey || event.metaKey) return;
  if (!event.shiftKey && !form.classList.contains("busy")) return keepPlace(tile);
  event.preventDefault();
  const own = tile.closest(".cell").querySelector("input[name=paths]");
  choose(own, event.shiftKey || !own.checked, event.shiftKey);
});
document.addEventListener("change", (event) => {
  if (event.target.name === "all" && event.target.form.matches(".choosing")) showChosen(event.target.form);
});
document.addEventListener("reset", (event) => {
  if (event.target.matches(".choosing")) setTimeout(() => showChosen(event.target));
});
document.addEventListener("keydown", (event) => {
  const form = formOf(event.target) || document.querySelector("form.choosing");
  if (!form || event.defaultPrevented) return;
  // Enter on a box would send the form by its first button.
  if (event.key === "Enter" && event.target.matches("input[type=checkbox]")) event.preventDefault();
  const cell = event.target.closest(".cell");
  if (event.key === "x" && cell && !event.ctrlKey && !event.metaKey) {
    const box = cell.querySelector("input[name=paths]");
    choose(box, !box.checked, false);
  }
  if (event.key === "Escape" && form.classList.contains("busy")) {
    const isGoing = form.querySelector(".chosen").contains(document.activeElement);
    form.reset();
    if (isGoing && anchor) anchor.focus();
  }
});

// --- where one is ---

const list = () => document.querySelector("form.choosing[data-list]");
function addressAt(path, hash) {
  const [page, query] = list().dataset.list.split("?");
  const values = new URLSearchParams(query);
  if (path) values.set("at", path);
  return `${page}${values.size ? "?" : ""}${values}${hash}`;
}
// Back from an image leads to where it was opened, however far that was down the list.
function keepPlace(tile) {
  const cell = tile.closest(".cell");
  if (!list() || !cell) return;
  history.scrollRestoration = "manual";
  history.replaceState(history.state, "", addressAt(cell.dataset.path, "#at"));
}
let looking = null;
function showWhere() {
  looking = null;
  const where = document.querySelector("[data-where]");
  if (!where || !list()) return;
  const cells = [...document.querySelectorAll("#tiles > [data-number]")];
  const top = document.querySelector(".bar").getBoundingClientRect().bottom;
  const shown = cells.filter((cell) => {
    const { bottom, top: begin } = cell.getBoundingClientRect();
    return bottom > top + 20 && begin < innerHeight - 20;
  });
  if (!shown.length) { where.textContent = ""; return; }
  const [first, last] = [shown[0], shown[shown.length - 1]].map((cell) => Number(cell.dataset.number).toLocaleString("en"));
  where.textContent = `${first} to ${last}${where.dataset.total ? ` of ${where.dataset.total}` : ""}`;
  // The address holds the place: a reload, a bookmark and the way back lead here.
  const isBeginning = shown[0] === cells[0] && shown[0].dataset.number === "1";
  if (scrollY > 0 || !location.hash) {
    const address = addressAt(isBeginning ? "" : shown[0].dataset.path, "");
    if (address !== location.pathname + location.search) history.replaceState(history.state, "", address);
  }
}
function look() { if (looking === null) looking = setTimeout(showWhere, 150); }
document.addEventListener("scroll", look, { passive: true });
document.addEventListener("htmx:afterSettle", look);
window.addEventListener("resize", look);

// --- the size of the pictures, remembered in this browser ---

const DENSITY = "lockstep-density";
function remember(name, value) {
  // Some browsers refuse to remember anything; the page works as well.
  try { if (value === undefined) return localStorage.getItem(name); localStorage.setItem(name, value); } catch { /* so be it */ }
  return null;
}
function setDensity(name) {
  document.documentElement.dataset.density = name;
  for (const button of document.querySelectorAll("[data-density]:is(button)"))
    button.setAttribute("aria-pressed", String(button.dataset.density === name));
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-density]");
  if (!button) return;
  setDensity(button.dataset.density);
  remember(DENSITY, button.dataset.density);
  look();
});

// --- one image ---

function showPixels() {
  const image = document.querySelector("[data-original]");
  const shown = document.querySelector("[data-px]");
  if (!image || !shown) return;
  const say = () => {
    if (!image.naturalWidth) {
      const words = document.createElement("p");
      words.textContent = "The browser cannot show the original.";
      image.replaceWith(words);
    } else if (!shown.textContent.trim()) shown.textContent = `${image.naturalWidth.toLocaleString("en")} × ${image.naturalHeight.toLocaleString("en")} px, `;
  };
  if (image.complete) say();
  else for (const end of ["load", "error"]) image.addEventListener(end, say);
}
function zoomTo(zoom) {
  const viewer = document.getElementById("viewer"), under = viewer.querySelector("[data-under]");
  const over = viewer.querySelector(".over");
  over.classList.toggle("fit", zoom === "fit");
  over.style.width = zoom === "fit" ? "" : `${under.naturalWidth * Number(zoom) / devicePixelRatio}px`;
  for (const button of viewer.querySelectorAll("[data-zoom]"))
    button.setAttribute("aria-pressed", String(button.dataset.zoom === zoom));
}
function slideTo(percent) {
  document.querySelector("#viewer .over").style.setProperty("--cut", `${percent}%`);
}
function openViewer(recipe) {
  const viewer = document.getElementById("viewer"), shown = viewer.querySelector("select");
  const option = [...shown.options].find((each) => each.dataset.recipe === recipe);
  if (option) shown.value = option.value;
  viewer.querySelector("[data-under]").src = document.querySelector("[data-original]").src;
  viewer.querySelector("[data-over]").src = shown.value;
  viewer.querySelector("[data-slide]").value = 50;
  slideTo(50);
  zoomTo("fit");
  viewer.showModal();
}
document.addEventListener("click", (event) => {
  const viewer = document.getElementById("viewer");
  if (!viewer) return;
  const link = event.target.closest("a[data-view]");
  const zoom = event.target.closest("[data-zoom]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openViewer(link.dataset.view);
  } else if (event.target.closest("[data-compare]")) openViewer(null);
  else if (zoom) zoomTo(zoom.dataset.zoom);
  else if (event.target.closest("[data-close]") || event.target === viewer) viewer.close();
});
document.addEventListener("input", (event) => {
  if (event.target.matches("[data-slide]")) slideTo(event.target.value);
});
document.addEventListener("change", (event) => {
  const viewer = event.target.closest("#viewer");
  if (viewer && event.target.matches("select")) viewer.querySelector("[data-over]").src = event.target.value;
});
// The arrow keys turn the pages, unless they are somebody else's.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, select, textarea, dialog, details[open]")) return;
  const link = document.querySelector(`a[data-key="${CSS.escape(event.key)}"]`);
  if (link) link.click();
});

document.documentElement.classList.add("js");
setDensity(remember(DENSITY) || "medium");
showPixels();
for (const form of document.querySelectorAll("form.choosing")) showChosen(form);
look();
// A page that the browser kept as it was keeps its ticks, too.
window.addEventListener("pageshow", () => document.querySelectorAll("form.choosing").forEach(showChosen));
