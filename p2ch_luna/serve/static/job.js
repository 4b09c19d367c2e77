// One job: followed while it is under way, then its report and its files.

import { getJob, resultPath } from "./api.js";
import { adviceOn, announce, byId, count, duration, element, secondsBetween, size, STAGES, stateOf, tell, toneOf, when } from "./words.js";

const PAGE = "report.html";
const FILES = new Map([ // their labels and what is in them, in the order of the buttons
  [PAGE, ["HTML", "the report as one page, with its viewer; opens without this server"]],
  ["report.json", ["JSON", "the whole report, for programs"]],
  ["nodules.seg.dcm", ["DICOM SEG", "the outlines of the findings, for a PACS or a DICOM viewer"]],
  ["nodules.sr.dcm", ["DICOM SR", "places and measurements of the findings, for a PACS"]],
  ["nodules.nii.gz", ["NIfTI nodules", "a mask on the scan's grid: voxels of finding F1 are 1, of F2 are 2"]],
  ["lungs.nii.gz", ["NIfTI lungs", "the inside of the lungs at 2 mm, for a comparison with a later scan"]],
  ["detections.csv", ["CSV", "every place that was scored, 100 at most: x, y and z in mm, and its probability"]],
  ["findings.png", ["PNG", "the first twelve findings in one picture"]],
]);
const KEY_IMAGE = /^(F\d+)-(axial|coronal|sagittal)\.png$/;
const RETRY_MS = 3000;
const LOST = "The server does not answer, so this stands still. A scan that was begun is not lost: it goes on, "
  + "or begins again when the server does. Trying again…";

let shown = null; // the job in view, as it was told last
let stream = null;
let timers = [];

export const openJob = () => shown;

// Show a job and follow it. onChange: is given it whenever its state changes, and null when it is gone.
export function open(id, onChange) {
  close();
  shown = { id };
  load(id, onChange);
}

async function load(id, onChange) {
  const mark = shown;
  stopFollowing();
  try {
    const job = await getJob(id);
    if (shown !== mark) return;
    take(job, onChange);
    if (!hasEnded(job)) follow(id, onChange);
  } catch (error) {
    if (shown !== mark) return;
    if (error.status === 404) onChange(null);
    else if (error.status !== 401) {
      lose();
      timers = [setTimeout(() => load(id, onChange), RETRY_MS)];
    }
  }
}

// Nothing is heard of the job: the last that was told stays, and nothing in it moves as if it went on.
function lose() {
  tell("job-lost", LOST);
  byId("job").dataset.lost = shown.name ? "" : "unknown"; // what stands there is of another then
}

function find() {
  tell("job-lost", null);
  delete byId("job").dataset.lost;
}

export function close() {
  stopFollowing();
  find();
  shown = null;
  byId("report").replaceChildren();
}

function stopFollowing() {
  stream?.close();
  timers.forEach(clearTimeout); // an interval's too
  [stream, timers] = [null, []];
}

const hasEnded = (job) => job.state === "done" || job.state === "failed";

function follow(id, onChange) {
  stream = new EventSource(`/api/jobs/${id}/events`);
  stream.addEventListener("job", ({ data }) => {
    const job = JSON.parse(data);
    if (hasEnded(job)) stopFollowing();
    take(job, onChange);
  });
  stream.addEventListener("gone", () => onChange(null));
  stream.onerror = () => { // it comes back by itself where it was cut, and does not where it was refused
    lose();
    if (stream.readyState === EventSource.CLOSED) timers.push(setTimeout(() => load(id, onChange), RETRY_MS));
  };
  timers.push(setInterval(() => "lost" in byId("job").dataset || showFacts(shown), 1000));
}

function take(job, onChange) {
  const before = shown.state;
  shown = job;
  find();
  render(job);
  if (job.state !== before) onChange(job);
}

function render(job) {
  byId("job").dataset.tone = toneOf(job);
  byId("job").dataset.state = job.state;
  byId("job-name").textContent = job.name;
  document.title = `${job.name}: ${stateOf(job)}`;
  showFacts(job);
  tell("job-error", job.error);
  tell("job-advice", job.error && adviceOn(job.error));
  byId("job-progress").hidden = hasEnded(job);
  if (hasEnded(job)) showResults(job);
  else showProgress(job);
}

function showFacts(job) {
  const facts = [];
  if (hasEnded(job) && job.started) facts.push(`took ${duration(secondsBetween(job.started, job.ended))}`);
  else if (job.state === "running") facts.push(`for ${duration(secondsBetween(job.started, new Date()))}`);
  facts.push(`sent ${when(job.created)}`);
  if (job.expires) facts.push(`kept until ${when(job.expires)}`);
  if (job.state === "done" && job.warnings.length) facts.push(`${count(job.warnings.length, "warning")} in the report`);
  byId("job-state").textContent = stateOf(job);
  byId("job-facts").textContent = facts.join(" · ");
}

function showProgress(job) {
  byId("downloads").replaceChildren();
  byId("job-page").hidden = true;
  const notes = [];
  if (job.state === "queued") notes.push(job.position > 1 ? `${count(job.position - 1, "scan is", "scans are")} before it.` : "It is the next.");
  const again = job.state === "queued" ? job.attempts : job.attempts - 1;
  if (again > 0) notes.push("The server stopped in its midst, so it is done once more.");
  tell("job-note", notes.join(" "));
  showStages(job.stages);
  const now = job.stages.find((stage) => stage.seconds === null);
  announce(now ? nameOf(now.name) : stateOf(job));
}

const nameOf = (stage) => STAGES.get(stage) ?? stage;

// Those that were told, then those that are still to come.
function showStages(told) {
  const names = [...STAGES.keys()];
  const last = Math.max(-1, ...told.map(({ name }) => names.indexOf(name)));
  const rows = [...told, ...names.slice(last + 1).map((name) => ({ name }))];
  const list = byId("stages");
  const key = rows.map(({ name }) => name).join();
  if (list.dataset.key !== key) {
    list.dataset.key = key;
    list.replaceChildren(...rows.map(({ name }) => stageRow(name)));
  }
  rows.forEach((stage, place) => fillStage(list.children[place], stage));
}

function stageRow(name) {
  const row = element("li");
  const bar = element("progress");
  bar.max = 1;
  bar.setAttribute("aria-label", nameOf(name));
  row.append(element("span", "what", nameOf(name)), element("small"), bar);
  return row;
}

function fillStage(row, { fraction, seconds }) {
  const isDone = typeof seconds === "number";
  const isNow = seconds === null;
  const [, told, bar] = row.children;
  row.className = isDone ? "past" : isNow ? "now" : "to-come";
  told.textContent = isDone ? `${seconds.toFixed(1)} s` : isNow && fraction !== null ? `${Math.round(100 * fraction)} %` : "";
  bar.hidden = !isNow;
  if (isNow && fraction !== null) bar.value = fraction;
  else bar.removeAttribute("value");
  if (isNow) row.setAttribute("aria-current", "step");
  else row.removeAttribute("aria-current");
}

function showResults(job) {
  const byName = new Map(job.results.map((file) => [file.name, file]));
  const files = [...FILES].filter(([name]) => byName.has(name));
  const links = files.map(([name, [label, contents]]) => download(job, byName.get(name), label, contents));
  byId("downloads").replaceChildren(...links, ...keyImages(job));
  announce(`${job.name}: ${stateOf(job)}`);
  const page = byId("job-page");
  page.hidden = !byName.has(PAGE);
  if (page.hidden) return;
  page.href = resultPath(job.id, PAGE);
  const frame = element("iframe");
  frame.setAttribute("sandbox", "allow-scripts"); // what is in it can neither ask this server nor touch this page
  frame.title = `Report of ${job.name}`;
  frame.src = page.href;
  byId("report").replaceChildren(frame);
}

// Three a finding: folded up, or they would hide the others.
function keyImages(job) {
  const images = job.results.filter(({ name }) => KEY_IMAGE.test(name));
  if (!images.length) return [];
  const list = element("ul");
  list.append(...images.map((file) => {
    const [, finding, plane] = KEY_IMAGE.exec(file.name);
    return download(job, file, `${finding} ${plane}`, `finding ${finding} in the ${plane} plane`);
  }));
  const summary = element("summary", "button", `Key images (${images.length})`);
  summary.title = "each finding in three planes";
  const details = element("details");
  details.append(summary, list);
  const item = element("li");
  item.append(details);
  return [item];
}

function download(job, file, label, contents) {
  const link = element("a", "button");
  link.href = `${resultPath(job.id, file.name)}?download=1`;
  link.download = file.name;
  link.title = `${file.name}: ${contents}`;
  link.append(element("span", "", label), element("small", "", size(file.bytes)));
  const item = element("li");
  item.append(link);
  return item;
}
