// How the page says things.

export const byId = (id) => document.getElementById(id);

// An element. text: set as text alone, for names of scans come from whoever uploaded them.
export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// A line that is there only if it says something.
export function tell(id, text) {
  const line = byId(id);
  if (line.textContent !== (text ?? "")) line.textContent = text ?? "";
  line.hidden = !text;
}

// For who does not see the page; the same is not said twice.
export function announce(text) {
  if (byId("live").textContent !== text) byId("live").textContent = text;
}

export const count = (n, one, many = `${one}s`) => (n === 1 ? `1 ${one}` : `${n} ${many}`);

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), 3);
  const value = bytes / 1000 ** power;
  return `${power && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
}

export const secondsBetween = (start, end) => (new Date(end) - new Date(start)) / 1000;

// A time as one says it today.
export function when(time, withSeconds = false) {
  const date = new Date(time);
  const second = withSeconds ? "2-digit" : undefined;
  const clock = date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second });
  if (date.toDateString() === new Date().toDateString()) return clock;
  return `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${clock}`;
}

export function stateOf(job) {
  if (job.state === "queued") return job.position > 1 ? `Waiting, number ${job.position}` : "Waiting, next";
  if (job.state === "running") return "Under way";
  if (job.state === "failed") return "Failed";
  if (job.is_searched === false) return "Not searched";
  return job.n_findings ? count(job.n_findings, "finding") : "No findings";
}

// The colour of its dot.
export function toneOf(job) {
  if (job.state !== "done") return job.state;
  if (job.is_searched === false) return "unsearched";
  return job.n_findings ? "found" : "clear";
}

// What to do about a job that failed.
export function adviceOn(error) {
  if (/tried \d+ times/.test(error))
    return "The server stopped each time while it worked on this scan. Tell who runs it: the scan may need more memory than there is.";
  if (error.startsWith("the diagnosis failed"))
    return "This is a fault of the program, not of your scan. Send the line above to who runs the server.";
  return "Correct what the line above names, then upload the scan again.";
}

// Stages of a diagnosis in their order, as people call them.
export const STAGES = new Map([
  ["reading", "Read the scan"],
  ["networks", "Load the networks"],
  ["lungs", "Find the lungs"],
  ["segmentation", "Search the lungs"],
  ["candidates", "Collect what was found"],
  ["classification", "Tell nodules from the rest"],
  ["malignancy", "Estimate suspicion"],
  ["measuring", "Measure"],
  ["files", "Write the masks"],
  ["DICOM", "Write DICOM objects"],
  ["pictures", "Draw the pictures"],
  ["page", "Make the report"],
]);
