// The page: which part of it is in view, what was dropped, what a key does.

import { closeSession, deleteJob, getJobs, getSession, openSession } from "./api.js";
import * as jobView from "./job.js";
import { focusedJob, markOpen, moveInList, showJobs } from "./list.js";
import { ofDrop, ofInput } from "./scan.js";
import * as upload from "./upload.js";
import { announce, byId, tell } from "./words.js";

const POLL_MS = 4000;
const JOB = /^#([0-9a-f]{32})$/;

let jobs = [];
let timer = 0;

const openId = () => JOB.exec(location.hash)?.[1] ?? null;

function view(name) {
  const was = document.body.dataset.view;
  document.body.dataset.view = name;
  if (was !== name && name !== "home" && !focusedJob()) byId("main").querySelector(`[data-for="${name}"] h1`).focus();
  if (name !== "job") {
    jobView.close();
    document.title = "p2ch-luna";
  }
}

function route() {
  if (document.body.dataset.view === "locked") return;
  tell("complaint", null);
  const id = openId();
  if (id) {
    view("job");
    if (jobView.openJob()?.id !== id) jobView.open(id, onJob);
  } else view(location.hash === "#upload" && upload.hasUpload() ? "upload" : "home");
  markOpen(id);
}

function onJob(job) {
  if (job === null) {
    goHome();
    announce("The scan is not there any more.");
    tell("complaint", "The scan is not there any more: it was deleted, or its time was over.");
  }
  refresh();
}

function goHome() {
  history.replaceState(null, "", "#");
  route();
}

async function refresh() {
  clearTimeout(timer);
  try {
    jobs = await getJobs();
    tell("server", null);
    showJobs(jobs, openId());
  } catch (error) {
    if (error.status === 401) return; // until the token is there
    tell("server", error.status ? error.message : `${error.message} Trying again…`);
  }
  clearTimeout(timer);
  timer = setTimeout(refresh, POLL_MS);
}

// A promise of the scans that were dropped or chosen.
async function take(scans) {
  goHome();
  try {
    const found = await scans;
    if (upload.isSending()) tell("complaint", "A scan is being sent. Wait until it is there, or cancel it.");
    else upload.begin(found, refresh, (job) => {
      if (document.body.dataset.view === "upload") location.hash = job.id;
    });
  } catch (error) {
    tell("complaint", error.message);
  }
}

function chooseWith(input) {
  input.value = "";
  input.click();
}

for (const id of ["files", "folder"]) {
  byId(id).addEventListener("change", ({ target }) => target.files.length && take(ofInput(target.files)));
  byId(`choose-${id}`).addEventListener("click", () => chooseWith(byId(id)));
}
byId("upload-again").addEventListener("click", upload.again);
byId("upload-skip").addEventListener("click", upload.leaveOut);
byId("upload-cancel").addEventListener("click", () => {
  upload.cancel();
  goHome();
});
window.addEventListener("beforeunload", (event) => upload.isSending() && event.preventDefault());

// A drag over the whole window; its files alone count.
const hasFiles = (event) => document.body.dataset.view !== "locked" && event.dataTransfer?.types.includes("Files");
const showOver = (isOver) => document.body.classList.toggle("dragging", isOver);
window.addEventListener("dragenter", (event) => hasFiles(event) && showOver(true));
window.addEventListener("dragover", (event) => {
  event.preventDefault(); // or the browser would open the file
  event.dataTransfer.dropEffect = hasFiles(event) ? "copy" : "none";
});
window.addEventListener("dragleave", (event) => event.relatedTarget === null && showOver(false));
window.addEventListener("drop", (event) => {
  event.preventDefault();
  showOver(false);
  if (hasFiles(event)) take(ofDrop(event.dataTransfer));
});

function askToDelete(id) {
  const job = jobs.find((one) => one.id === id) ?? jobView.openJob();
  if (!job?.name) return;
  byId("ask-name").textContent = job.name;
  byId("ask-note").textContent = job.state === "running" ? "It is under way, and will be stopped." : "This cannot be undone.";
  byId("ask").returnValue = "";
  byId("ask").onclose = () => byId("ask").returnValue === "delete" && remove(job);
  byId("ask").showModal();
}

async function remove(job) {
  if (openId() === job.id) goHome(); // first, or its events would tell that it is gone
  try {
    await deleteJob(job.id);
  } catch (error) {
    if (error.status !== 404) return tell("server", `${job.name} was not deleted: ${error.message}`);
  }
  announce(`${job.name} was deleted.`);
  refresh();
}

byId("job-delete").addEventListener("click", () => askToDelete(openId()));

const actions = {
  u: () => chooseWith(byId("files")),
  "?": () => byId("keys").showModal(),
  Delete: () => askToDelete(focusedJob() ?? openId()),
  Escape: () => { location.hash = ""; },
};
byId("show-keys").addEventListener("click", actions["?"]);

document.addEventListener("keydown", (event) => {
  const focus = document.activeElement;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (document.body.dataset.view === "locked" || focus.matches("input, iframe")) return;
  const isOfList = focus === document.body || byId("jobs").contains(focus) || focus.matches("h1, .side a");
  const action = actions[event.key];
  if (action) action();
  else if (!isOfList || !moveInList(event.key)) return;
  event.preventDefault();
});

function lock() {
  clearTimeout(timer);
  view("locked");
  jobs = [];
  showJobs(jobs, null);
  byId("token").focus();
}
window.addEventListener("locked", () => document.body.dataset.view !== "locked" && lock());
byId("lock").addEventListener("click", async () => {
  await closeSession();
  lock();
});
byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("token-error", null);
  try {
    await openSession(byId("token").value);
  } catch (error) {
    tell("token-error", error.status === 401 ? "This is not the token of this server." : error.message);
    return;
  }
  byId("token").value = "";
  start();
});

async function start() {
  try {
    const session = await getSession();
    byId("lock").hidden = !session.is_needed;
    if (session.is_needed && !session.is_open) return lock();
  } catch { /* `refresh` tells of a server that is away */ }
  view("home");
  route();
  refresh();
}

window.addEventListener("hashchange", route);
start();
