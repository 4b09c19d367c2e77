// One scan after the other: packed, sent, and sent again where the server is busy.

import { ask, Failure, failureOf, UNREACHABLE } from "./api.js";
import { packed } from "./scan.js";
import { announce, byId, count, size, tell } from "./words.js";

const USUAL_WAIT_S = 10; // where a busy server does not say how long
const ADVICE = new Map([
  [0, "Check that the server runs and that you are connected, then try again."],
  [408, "The connection was too slow or was cut. Try again."],
  [413, "Send one series alone, or ask who runs the server to raise its limit."],
  [415, "Drop the folder of a DICOM series, a zip, NIfTI, NRRD or MetaImage."],
  [507, "Delete scans that you do not need any more, then try again."],
]);

let current = null; // {scans, place, jobs, stop, phase, parcel}; place: in scans, of the one that is sent now

const scanOf = (upload) => upload.scans[upload.place];
const hasMore = (upload) => upload.place + 1 < upload.scans.length;
export const isSending = () => current !== null && (current.phase !== "failed" || hasMore(current));
export const hasUpload = () => current !== null;

// Pack and send scans as `scan.js` gives them.    onSent: is called after each.    onEnd: is given the first job.
export function begin(scans, onSent, onEnd) {
  current = { scans, place: 0, jobs: [], onSent, onEnd, stop: new AbortController(), phase: "packing", parcel: null };
  location.hash = "upload";
  run(current);
}

export function cancel() {
  current?.stop.abort();
  current = null;
  byId("sending").hidden = true;
}

// At once, instead of when the countdown is over.
export function again() {
  if (current?.phase === "failed") {
    current.stop = new AbortController();
    run(current);
  } else current?.hurry?.();
}

// Go on without the one that was not taken.
export function leaveOut() {
  if (current?.phase === "failed" && hasMore(current)) next(current);
}

function next(upload) {
  upload.place += 1;
  upload.parcel = null;
  run(upload);
}

async function run(upload) {
  try {
    if (scanOf(upload).refusal) throw new Failure(0, scanOf(upload).refusal);
    upload.parcel ??= await pack(upload);
    const job = await sent(upload);
    if (current !== upload) return;
    upload.jobs.push(job);
    upload.onSent();
    if (hasMore(upload)) return next(upload);
    cancel();
    upload.onEnd(upload.jobs[0]);
  } catch (error) {
    if (upload.stop.signal.aborted || current !== upload) return;
    fail(upload, error);
  }
}

const numberOf = (upload) => upload.scans.filter(({ refusal }) => !refusal).length;

function titleOf(upload, doing, what) {
  const n = numberOf(upload);
  return n > 1 ? `${n} scans: ${doing.toLowerCase()} ${upload.place + 1} of ${n}` : `${doing} ${what}`;
}

function pack(upload) {
  const scan = scanOf(upload);
  const title = titleOf(upload, "Packing", count(scan.files.length, "file"));
  show(upload, "packing", title, 0, "");
  return packed(scan, (fraction) => show(upload, "packing", title, fraction, ""), upload.stop.signal);
}

async function sent(upload) {
  for (;;) {
    try {
      return await send(upload);
    } catch (error) {
      if (error.status !== 429) throw error;
      await wait(upload, error.retryAfter ?? USUAL_WAIT_S);
    }
  }
}

// The job. The browser's fetch does not tell how much it has sent; this does.
function send(upload) {
  const { blob, type } = upload.parcel;
  const request = new XMLHttpRequest();
  const { signal } = upload.stop;
  const title = titleOf(upload, "Sending", "the scan");
  show(upload, "sending", title, 0, size(blob.size));
  return new Promise((done, failed) => {
    request.upload.onprogress = ({ loaded, total }) => {
      const note = loaded < total ? `${size(loaded)} of ${size(total)}` : "Sent. The server looks at it.";
      show(upload, "sending", title, loaded / Math.max(total, 1), note);
    };
    request.onload = () => {
      if (request.status === 202) done(JSON.parse(request.responseText));
      else failed(failureOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => explain().then(failed);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.open("POST", `/api/scans?name=${encodeURIComponent(scanOf(upload).name)}`);
    request.setRequestHeader("Content-Type", type);
    request.send(blob);
  });
}

// A server that refuses in mid-upload closes the connection, and a browser may then lose its answer.
async function explain() {
  try {
    await ask("GET", "/health");
  } catch (error) {
    if (error.status === 0) return new Failure(0, UNREACHABLE);
  }
  return new Failure(413, "The server ended the upload: the scan is too large for it, or no scan.");
}

function wait(upload, seconds) {
  const until = Date.now() + 1000 * seconds;
  return new Promise((done) => {
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left <= 0 || upload.stop.signal.aborted) upload.hurry();
      else show(upload, "waiting", "The server is busy", null, `Its queue is full. Trying again in ${left} s.`);
    };
    const timer = setInterval(tick, 250);
    upload.hurry = () => {
      clearInterval(timer);
      if (!upload.stop.signal.aborted) done();
    };
    tick();
  });
}

function fail(upload, error) {
  const isOurs = error instanceof Failure;
  const { refusal } = scanOf(upload);
  const n = numberOf(upload);
  const title = refusal ? "This was not sent" : n > 1 ? `Scan ${upload.place + 1} of ${n} was not taken` : "The scan was not taken";
  show(upload, "failed", title, null, ADVICE.get(error.status) ?? "Correct what the line above names, or choose another scan.");
  if (error.status === 0 && error.message !== UNREACHABLE) byId("upload-note").textContent = ""; // said already
  tell("upload-error", isOurs ? error.message : `The browser cannot read it: ${error.message}`);
  byId("upload-again").textContent = "Try again";
  byId("upload-again").hidden = Boolean(refusal);
  if (refusal) byId("upload-note").textContent = `${count(upload.jobs.length, "scan was", "scans were")} sent.`;
}

// fraction: null where there is no bar.
function show(upload, phase, title, fraction, note) {
  if (current !== upload) return;
  upload.phase = phase;
  announce(phase === "failed" ? "" : title);
  tell("upload-error", null);
  byId("upload-title").textContent = title;
  byId("upload-name").textContent = scanOf(upload).name;
  byId("upload-note").textContent = note;
  byId("upload-progress").hidden = fraction === null;
  byId("upload-again").hidden = !["waiting", "failed"].includes(phase);
  byId("upload-again").textContent = "Try now";
  byId("upload-skip").hidden = phase !== "failed" || !hasMore(upload);
  byId("upload-cancel").textContent = phase === "failed" && !hasMore(upload) ? "Choose another scan" : "Cancel";
  const side = byId("sending");
  side.hidden = false;
  side.querySelector("b").textContent = scanOf(upload).name;
  side.querySelector("small").textContent = phase === "failed" ? "Not taken" : title;
  for (const bar of [byId("upload-progress"), side.querySelector("progress")]) bar.value = fraction ?? 0;
  side.querySelector("progress").hidden = fraction === null;
}
