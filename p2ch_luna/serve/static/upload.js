// One upload at a time: packed, sent, and sent again where the server is busy.

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

let current = null; // {scan, again, stop, phase}

export const isSending = () => current !== null && current.phase !== "failed";
export const hasUpload = () => current !== null;

// Pack and send a scan as `scan.js` gives it.    onDone: is given the job.
export function begin(scan, onDone) {
  current = { scan, onDone, stop: new AbortController(), phase: "packing", parcel: null };
  byId("upload-name").textContent = scan.name;
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

async function run(upload) {
  try {
    upload.parcel ??= await pack(upload);
    const job = await sent(upload);
    if (current !== upload) return;
    cancel();
    upload.onDone(job);
  } catch (error) {
    if (upload.stop.signal.aborted || current !== upload) return;
    fail(upload, error);
  }
}

function pack(upload) {
  const n = upload.scan.files.length;
  show(upload, "packing", `Packing ${count(n, "file")}`, 0, "");
  return packed(upload.scan, (fraction) => show(upload, "packing", `Packing ${count(n, "file")}`, fraction, ""), upload.stop.signal);
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
  show(upload, "sending", "Sending the scan", 0, size(blob.size));
  return new Promise((done, failed) => {
    request.upload.onprogress = ({ loaded, total }) => {
      const note = loaded < total ? `${size(loaded)} of ${size(total)}` : "Sent. The server looks at it.";
      show(upload, "sending", "Sending the scan", loaded / Math.max(total, 1), note);
    };
    request.onload = () => {
      if (request.status === 202) done(JSON.parse(request.responseText));
      else failed(failureOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => explain().then(failed);
    signal.addEventListener("abort", () => request.abort(), { once: true });
    request.open("POST", `/api/scans?name=${encodeURIComponent(upload.scan.name)}`);
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
  show(upload, "failed", "The scan was not taken", null, ADVICE.get(error.status) ?? "Correct what the line above names, or choose another scan.");
  if (error.status === 0 && error.message !== UNREACHABLE) byId("upload-note").textContent = ""; // said already
  tell("upload-error", isOurs ? error.message : `The browser cannot read it: ${error.message}`);
  byId("upload-again").textContent = "Try again";
}

// fraction: null where there is no bar.
function show(upload, phase, title, fraction, note) {
  if (current !== upload) return;
  upload.phase = phase;
  announce(phase === "failed" ? "" : title);
  tell("upload-error", null);
  byId("upload-title").textContent = title;
  byId("upload-note").textContent = note;
  byId("upload-progress").hidden = fraction === null;
  byId("upload-again").hidden = !["waiting", "failed"].includes(phase);
  byId("upload-again").textContent = "Try now";
  byId("upload-cancel").textContent = phase === "failed" ? "Choose another scan" : "Cancel";
  const side = byId("sending");
  side.hidden = false;
  side.querySelector("b").textContent = upload.scan.name;
  side.querySelector("small").textContent = phase === "failed" ? "Not taken" : title;
  for (const bar of [byId("upload-progress"), side.querySelector("progress")]) bar.value = fraction ?? 0;
  side.querySelector("progress").hidden = fraction === null;
}
