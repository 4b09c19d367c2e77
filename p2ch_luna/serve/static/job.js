// One job: followed while it is under way, then its report and its files.

import { getJob, resultPath } from "./api.js";
import { adviceOn, announce, byId, count, duration, element, secondsBetween, size, STAGES, stateOf, tell, toneOf, when } from "./words.js";

const PAGE = "report.html";
const LABELS = new Map([ // of the files that are for keeps, in the order of the buttons
  [PAGE, "HTML"],
  ["report.json", "JSON"],
  ["nodules.seg.dcm", "DICOM SEG"],
  ["nodules.sr.dcm", "DICOM SR"],
  ["nodules.nii.gz", "NIfTI nodules"],
  ["lungs.nii.gz", "NIfTI lungs"],
  ["detections.csv", "CSV"],
  ["findings.png", "PNG"],
]);
const RETRY_MS = 3000;

let shown = null; // the job in view, as it was told last
let stream = null;
let timers = [];

export const openJob = () => shown;

// Show a job and follow it. onChange: is given it whenever its state changes, and null when it is gone.
export async function open(id, onChange) {
  close();
  const mark = (shown = { id });
  try {
    const job = await getJob(id);
    if (shown !== mark) return;
    take(job, onChange);
    if (!hasEnded(job)) follow(id, onChange);
  } catch (error) {
    if (shown !== mark) return;
    if (error.status === 404) onChange(null);
    else if (error.status !== 401) timers = [setTimeout(() => open(id, onChange), RETRY_MS)];
  }
}

export function close() {
  stopFollowing();
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
    if (stream.readyState === EventSource.CLOSED) timers.push(setTimeout(() => open(id, onChange), RETRY_MS));
  };
  timers.push(setInterval(() => showFacts(shown), 1000));
}

function take(job, onChange) {
  const before = shown.state;
  shown = job;
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
  const files = [...LABELS.keys()].filter((name) => byName.has(name)).map((name) => byName.get(name));
  byId("downloads").replaceChildren(...files.map((file) => download(job, file)));
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

function download(job, file) {
  const link = element("a", "button");
  link.href = `${resultPath(job.id, file.name)}?download=1`;
  link.download = file.name;
  link.title = `Download ${file.name}`;
  link.append(element("span", "", LABELS.get(file.name)), element("small", "", size(file.bytes)));
  const item = element("li");
  item.append(link);
  return item;
}
