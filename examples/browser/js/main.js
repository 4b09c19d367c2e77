// The page: takes a scan, tells how the search goes, shows what was found.

import { threadCount, tileSide } from "./device.js";
import { droppedFiles } from "./files.js";
import { show } from "./result.js";

const STAGES = {
  reading: "Reading the scan",
  lungs: "Finding the lungs",
  networks: "Loading the networks",
  segmentation: "Searching every voxel",
  candidates: "Gathering candidates",
  classification: "Judging candidates",
  malignancy: "Judging malignancy",
  measuring: "Outlining findings",
};
const byId = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const threads = threadCount(asked.get("threads"));
const tile = tileSide(asked.get("tile"));
let worker = null;

function go(view) {
  document.body.dataset.view = view;
  scrollTo(0, 0);
}

function complain(message) {
  worker?.terminate();
  worker = null;
  byId("complaint").textContent = message;
  byId("complaint").hidden = false;
  go("home");
}

function search(files) {
  if (worker || !files.length || document.body.dataset.view !== "home") return;
  const name = files.length === 1 ? files[0].name : `${files.length} files`;
  byId("complaint").hidden = true;
  byId("work-name").textContent = name;
  const progress = new Progress();
  go("work");
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onerror = (event) => complain(`${name}: ${event.message || "this browser cannot run the search"}`);
  worker.onmessage = ({ data }) => {
    if (data.type === "stage") progress.begin(data.name, data.total);
    if (data.type === "advance") progress.advance(data.steps);
    if (data.type === "error") complain(`${name}: ${data.message}`);
    if (data.type === "done") {
      progress.end();
      worker.terminate(); // gives its memory back
      show(byId("bench"), data).catch((error) => complain(`${name}: ${error.message}`));
      go("result");
    }
  };
  worker.postMessage({ files, threads, tile });
}

// The list of stages: which are done, which is now, how long each took.
class Progress {
  constructor() {
    const template = byId("stage-template").content.firstElementChild;
    this.items = new Map(
      Object.entries(STAGES).map(([name, text]) => {
        const item = template.cloneNode(true);
        item.querySelector("b").textContent = text;
        return [name, item];
      }),
    );
    byId("stages").replaceChildren(...this.items.values());
    this.timer = setInterval(() => this.tick(), 250);
  }

  begin(name, total) {
    this.leave();
    Object.assign(this, {
      now: this.items.get(name),
      unit: name === "segmentation" ? " parts" : "",
      total,
      steps: 0,
      start: performance.now(),
    });
    this.now.className = "now";
    this.now.setAttribute("aria-current", "step");
    this.draw();
  }

  advance(steps) {
    this.steps += steps;
    this.draw();
  }

  draw() {
    const bar = this.now.querySelector("progress");
    if (this.total && this.steps) bar.value = this.steps / this.total;
    else bar.removeAttribute("value");
    this.tick();
  }

  tick() {
    if (!this.now) return;
    const seconds = (performance.now() - this.start) / 1000;
    const part =
      this.total > 1 && !this.now.classList.contains("done")
        ? `${this.steps} of ${this.total}${this.unit} · `
        : "";
    this.now.querySelector("small").textContent =
      `${part}${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
  }

  leave() {
    if (!this.now) return;
    this.now.className = "done";
    this.now.removeAttribute("aria-current");
    this.tick();
    this.now = null;
  }

  end() {
    this.leave();
    clearInterval(this.timer);
  }
}

function connect() {
  for (const kind of ["files", "folder"]) {
    byId(`choose-${kind}`).addEventListener("click", () => byId(kind).click());
    byId(kind).addEventListener("change", (event) => {
      search([...event.target.files]);
      event.target.value = "";
    });
  }
  byId("cancel").addEventListener("click", () => location.reload());
  let inside = 0; // elements that a drag has entered and not left
  addEventListener("dragenter", () => document.body.classList.toggle("dragging", ++inside > 0));
  addEventListener("dragleave", () => document.body.classList.toggle("dragging", --inside > 0));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    inside = 0;
    document.body.classList.remove("dragging");
    search(await droppedFiles(event.dataTransfer));
  });
  const told = `Threads that compute: ${threads}.`;
  byId("engine").textContent = self.crossOriginIsolated
    ? `${told} A whole chest takes about a minute or two, and 1 to 2 GB of memory.`
    : `${told} This page is not isolated: serve it with examples/browser/serve.py to have more.`;
}

connect();
