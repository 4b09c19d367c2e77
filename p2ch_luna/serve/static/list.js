// The scans at the side: one link each, moved through by arrows as one list.

import { byId, element, stateOf, toneOf, when } from "./words.js";

const links = new Map(); // by the id of the job
const all = () => [...byId("jobs").querySelectorAll("a")];

// Make the list say what the jobs are. What stays keeps its element, and with it the focus.
export function showJobs(jobs, openId) {
  const list = byId("jobs");
  const ids = new Set(jobs.map((job) => job.id));
  const names = new Map();
  for (const { name } of jobs) names.set(name, (names.get(name) ?? 0) + 1);
  for (const [id, link] of links) if (!ids.has(id)) remove(id, link);
  jobs.forEach((job, place) => {
    const item = (links.get(job.id) ?? make(job)).parentElement;
    fill(links.get(job.id), job, names.get(job.name) > 1);
    if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
  });
  byId("no-jobs").hidden = jobs.length > 0;
  markOpen(openId);
}

function make(job) {
  const link = element("a", "job");
  link.href = `#${job.id}`;
  link.dataset.job = job.id;
  link.append(element("b"), element("small", "state"));
  const item = element("li");
  item.append(link);
  links.set(job.id, link);
  return link;
}

// isNamesake: of another, from which its time tells it.
function fill(link, job, isNamesake) {
  const [name, state] = link.children;
  name.textContent = job.name;
  link.title = job.expires ? `${job.name}\nkept until ${when(job.expires)}` : job.name;
  link.dataset.tone = toneOf(job);
  state.textContent = `${stateOf(job)} · ${when(job.created, isNamesake)}`;
}

function remove(id, link) {
  const place = all().indexOf(link);
  const hadFocus = link === document.activeElement;
  link.parentElement.remove();
  links.delete(id);
  if (hadFocus) (all()[place] ?? all().at(-1) ?? byId("new")).focus();
}

export function markOpen(openId) {
  for (const [id, link] of links) {
    if (id === openId) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const focused = all().find((link) => link === document.activeElement);
  holdTab(focused ?? links.get(openId) ?? all()[0]);
}

// Tab goes to one of the links alone; arrows go to the others.
function holdTab(held) {
  for (const link of links.values()) link.tabIndex = link === held ? 0 : -1;
}

// The job whose link has the focus.
export const focusedJob = () => document.activeElement?.dataset?.job ?? null;

// True: the key was one of the list's.
export function moveInList(key) {
  const shown = all();
  const place = shown.indexOf(document.activeElement);
  const start = shown.findIndex((link) => link.tabIndex === 0);
  const next = { ArrowDown: place < 0 ? start : place + 1, ArrowUp: place < 0 ? start : place - 1, Home: 0, End: shown.length - 1 }[key];
  if (next === undefined || !shown.length) return false;
  const chosen = shown[Math.min(Math.max(next, 0), shown.length - 1)];
  holdTab(chosen);
  chosen.focus();
  return true;
}
