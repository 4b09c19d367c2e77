// From what was dropped or chosen to what is sent: one file.

import { Failure } from "./api.js";
import { count } from "./words.js";

const WHOLE = /\.(zip|nii|nii\.gz|nrrd|mha)$/i; // is sent as it is
const TYPES = [[/\.zip$/i, "application/zip"], [/\.gz$/i, "application/gzip"]];
const MAX_ZIP_BYTES = 2 ** 32 - 1; // beyond it, and beyond so many files, a zip has another form
const MAX_ZIP_FILES = 2 ** 16 - 2;
const ENTRY_BYTES = 100; // of a zip per file, beside its name, which is there twice
const PIECE_BYTES = 2 ** 25; // from which on the browser may keep a part of the zip on its disk

const isHidden = (path) => path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");
const asError = (reason) => new Failure(0, reason);

// {name, files: [{path, file}]} of a drop. To be called in the event itself: the entries are gone after it.
export function ofDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  return (async () => {
    for (const entry of entries) await collect(entry, found);
    return named(found);
  })();
}

async function collect(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    found.push({ path: entry.fullPath.slice(1), file });
    return;
  }
  const reader = entry.createReader();
  for (;;) { // it gives 100 at a time
    const entries = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!entries.length) return;
    for (const below of entries) await collect(below, found);
  }
}

// As `ofDrop`, of an <input type="file">.
export const ofInput = (list) => named([...list].map((file) => ({ path: file.webkitRelativePath || file.name, file })));

function named(found) {
  const files = found.filter(({ path }) => !isHidden(path));
  if (!files.length) throw asError("There are no files in it. Drop a scan, or the folder that holds one.");
  const tops = [...new Set(files.map(({ path }) => path.split("/")[0]))];
  const isVolume = files.length === 2 && files.some(({ path }) => /\.mhd$/i.test(path));
  const header = isVolume ? files.find(({ path }) => /\.mhd$/i.test(path)).path : null;
  return { name: header ?? (tops.length === 1 ? tops[0] : count(files.length, "file")), files };
}

// {blob, type} to send.    onProgress: is given fractions.    signal: ends it.
export async function packed({ files }, onProgress, signal) {
  if (files.length === 1 && WHOLE.test(files[0].path)) {
    const { file } = files[0];
    const type = TYPES.find(([ending]) => ending.test(file.name))?.[1] ?? "application/octet-stream";
    return { blob: file, type };
  }
  return { blob: await zipped(files, onProgress, signal), type: "application/zip" };
}

async function zipped(files, onProgress, signal) {
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const around = files.reduce((sum, { path }) => sum + ENTRY_BYTES + 6 * path.length, 0);
  if (total + around > MAX_ZIP_BYTES || files.length > MAX_ZIP_FILES)
    throw asError("It is larger than 4 GB or has more than 65,000 files. Choose the folder of one series alone.");
  const pieces = [];
  let [waiting, waitingBytes, done] = [[], 0, 0];
  const keep = () => {
    pieces.push(new Blob(waiting));
    [waiting, waitingBytes] = [[], 0];
  };
  const zip = new window.fflate.Zip((error, part) => {
    if (error) throw error;
    waiting.push(part);
    waitingBytes += part.length;
    if (waitingBytes > PIECE_BYTES) keep();
  });
  for (const { path, file } of files) {
    const entry = new window.fflate.ZipPassThrough(path); // stored: the pixels of a CT hardly shrink in good time
    zip.add(entry);
    for await (const part of readOf(file, signal)) {
      entry.push(part);
      done += part.length;
      onProgress(done / Math.max(total, 1));
    }
    entry.push(new Uint8Array(0), true);
  }
  zip.end();
  keep();
  return new Blob(pieces, { type: "application/zip" });
}

async function* readOf(file, signal) {
  const reader = file.stream().getReader();
  try {
    for (;;) {
      signal.throwIfAborted();
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (signal.aborted) throw error;
    throw asError(`${file.name} cannot be read: it was moved or changed. Choose the scan again.`);
  } finally {
    reader.releaseLock();
  }
}
