"use strict";
// What the page does: rows and chips jump, buttons and keys set the viewer, the line below it tells where it looks.

const facts = JSON.parse(document.getElementById("facts").textContent);
const byId = (id) => document.getElementById(id);
const all = (selector) => [...document.querySelectorAll(selector)];
const viewer = new Viewer(facts, byId("canvas"), byId("captions"));
let selected = -1;
let isOpen = false;

function mark(buttons, chosen) {
  buttons.forEach((button) => button.setAttribute("aria-pressed", String(button === chosen)));
}

function select(index) {
  if (!facts.findings.length) return;
  selected = (index + facts.findings.length) % facts.findings.length;
  const finding = facts.findings[selected];
  all("tr[data-finding]").forEach((row) => row.classList.toggle("selected", Number(row.dataset.finding) === selected));
  mark(all(".chip"), all(".chip")[selected]);
  if (isOpen) viewer.jumpTo(finding.lps, finding.gap);
}

function choose(index) {
  select(index);
  if (getComputedStyle(byId("bench")).display === "block")
    byId("viewer").scrollIntoView({ behavior: "smooth", block: "start" });
}

const actions = {
  next: () => select(selected + 1),
  previous: () => select(selected < 0 ? -1 : selected - 1),
  lung: () => setWindow("lung"),
  mediastinum: () => setWindow("mediastinum"),
  overlay: () => showOverlay(!viewer.maskIsShown),
  axial: () => setViews("axial"),
  three: () => setViews("three"),
  nearer: () => viewer.zoomBy(1),
  farther: () => viewer.zoomBy(-1),
  whole: () => viewer.zoomTo(1),
  up: () => viewer.step(1),
  down: () => viewer.step(-1),
};
const keys = {
  ArrowRight: "next", n: "next", ArrowLeft: "previous", p: "previous", l: "lung", m: "mediastinum", o: "overlay",
  a: "axial", t: "three", "+": "nearer", "-": "farther", 0: "whole", ArrowUp: "up", ArrowDown: "down",
};

function showOverlay(isShown, opacity) {
  viewer.setMask(isShown, opacity);
  byId("overlay").setAttribute("aria-pressed", String(isShown));
}

function setWindow(name) {
  viewer.setWindow(name);
  mark(all("[data-window]"), document.querySelector(`[data-window="${name}"]`));
}

function setViews(name) {
  viewer.setViews(name);
  mark(all("[data-views]"), document.querySelector(`[data-views="${name}"]`));
}

// Before NiiVue hears it, whose own keys would do other things.
function onKey(event) {
  if (!isOpen || event.ctrlKey || event.metaKey || event.altKey) return;
  const focus = document.activeElement;
  const isArrow = event.key.startsWith("Arrow");
  if (focus === byId("canvas")) event.stopPropagation();
  if (isArrow && focus.matches("input")) return; // a slider's own
  if (["ArrowUp", "ArrowDown"].includes(event.key) && !byId("viewer").contains(focus)) return; // the page's own
  const action = actions[keys[event.key]];
  if (!action) return;
  event.preventDefault();
  action();
}

function showPosition({ lps, hu, label, slice, level }) {
  const [x, y, z] = lps.map((mm) => mm.toFixed(1).replace("-", "−"));
  const inside = facts.findings.find((finding) => finding.label === label);
  const { numbers } = facts.slices;
  const isCounted = Math.min(...numbers) === 1 && Math.max(...numbers) === numbers.length;
  byId("where").textContent = isCounted ? `Slice ${slice} of ${numbers.length}` : `Slice ${slice}`;
  byId("lps").textContent = `LPS ${x}, ${y}, ${z} mm`;
  byId("hu").textContent = `about ${String(Math.round(hu)).replace("-", "−")} HU`;
  byId("inside").textContent = inside ? `in ${inside.id}` : "";
  byId("level").value = level;
}

function connect() {
  all("tr[data-finding]").forEach((row) => {
    row.addEventListener("click", () => choose(Number(row.dataset.finding)));
    row.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(Number(row.dataset.finding));
    });
  });
  all(".chip").forEach((chip, index) => chip.addEventListener("click", () => select(index)));
  all("[data-action]").forEach((button) => button.addEventListener("click", () => isOpen && actions[button.dataset.action]()));
  byId("opacity").addEventListener("input", (event) => isOpen && showOverlay(true, Number(event.target.value)));
  byId("level").max = facts.volume.shape[0] - 1;
  byId("level").addEventListener("input", (event) => {
    if (isOpen) viewer.step(Number(event.target.value) - viewer.level);
  });
  document.addEventListener("keydown", onKey, true);
  document.addEventListener("keyup", (event) => event.target === byId("canvas") && event.stopPropagation(), true);
}

function fail(message) {
  byId("viewer").classList.add("failed");
  byId("status").textContent = `The viewer cannot be shown: ${message}. The key images show every finding.`;
}

async function open() {
  byId("start").hidden = true;
  try {
    if (!document.createElement("canvas").getContext("webgl2")) throw new Error("this browser has no WebGL 2");
    const text = byId("slices");
    viewer.onMove = showPosition;
    await viewer.open(text.textContent.trim().split("\n"), (share) => {
      byId("status").textContent = `Unpacking the CT: ${Math.round(100 * share)} %`;
    });
    text.remove(); // as large as all else together
    byId("status").textContent = "";
    byId("viewer").classList.add("open");
    isOpen = true;
    select(Math.max(selected, 0));
  } catch (error) {
    fail(error.message);
  }
}

connect();
if (matchMedia("(max-width: 700px)").matches) {
  byId("start").hidden = false; // a phone pays for the memory only if the viewer is wanted
  byId("start").addEventListener("click", open, { once: true });
} else {
  open();
}
