// From what was dropped or chosen to what is sent: one file for each scan.

import { Failure } from "./api.js";
import { kindOf, unreadable, voxelsOf } from "./kinds.js";
import { count } from "./words.js";

const WHOLE = /\.(zip|nii|nii\.gz|nrrd|mha)$/i; // is a scan of its own
const EXPECTED = "Send the folder of a DICOM series or a zip of it, .nii, .nii.gz, .nrrd, .mha, or a .mhd with its .raw.";
const TYPES = [[/\.zip$/i, "application/zip"], [/\.gz$/i, "application/gzip"]];
const MAX_ZIP_BYTES = 2 ** 32 - 1; // beyond it, and beyond so many files, a zip has another form
const MAX_ZIP_FILES = 2 ** 16 - 2;
const ENTRY_BYTES = 100; // of a zip per file, beside its name, which is there twice
const PIECE_BYTES = 2 ** 25; // from which on the browser may keep a part of the zip on its disk

const isHidden = (path) => path.split("/").some((part) => part.startsWith(".") || part === "__MACOSX");
const asError = (reason) => new Failure(0, reason);

// The scans of a drop, [{name, files: [{path, file}], refusal}]. refusal: why it is not to be sent, if it is not;
// those are the last, and never the only ones. To be called in the event itself: the entries are gone after it.
export function ofDrop(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  return (async () => {
    for (const entry of entries) await collect(entry, found);
    return scansOf(found);
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
export const ofInput = (list) => scansOf([...list].map((file) => ({ path: file.webkitRelativePath || file.name, file })));

async function scansOf(found) {
  const files = found.filter(({ path }) => !isHidden(path));
  if (!files.length) throw asError("There are no files in it. Drop a scan, or the folder that holds one.");
  const inFolders = files.filter(({ path }) => path.includes("/"));
  const tops = new Set(inFolders.map(({ path }) => path.split("/")[0]));
  const folders = [...tops].map((name) => ({ name, files: inFolders.filter(({ path }) => path.startsWith(`${name}/`)) }));
  const scans = [...await split(files.filter(({ path }) => !path.includes("/"))), ...folders];
  for (const scan of scans) scan.refusal ??= await refusalOf(scan);
  const refused = scans.filter(({ refusal }) => refusal);
  if (refused.length === scans.length) throw asError(refused.map(({ refusal }) => refusal).join(" "));
  return [...scans.filter(({ refusal }) => !refusal), ...refused];
}

// Of files beside one another: each volume is a scan, with its voxels where they are in another; the rest is a series.
async function split(files) {
  const scans = [];
  const taken = new Set();
  for (const one of files) {
    const voxels = await voxelsOf(one.file);
    if (voxels === null && !WHOLE.test(one.path)) continue;
    const other = files.find(({ path }) => path === voxels);
    const scan = { name: one.path, files: other ? [one, other] : [one] };
    if (voxels !== null && !other) scan.refusal = `${one.path} is a header without its voxels. Choose ${voxels} together with it.`;
    scan.files.forEach((file) => taken.add(file));
    scans.push(scan);
  }
  const rest = files.filter((file) => !taken.has(file));
  if (rest.length) scans.push({ name: rest.length === 1 ? rest[0].path : count(rest.length, "file"), files: rest });
  return scans;
}

// Of several files one that may belong to a scan is enough: there are others in most folders.
async function refusalOf({ name, files }) {
  const kinds = [];
  for (const { file } of files) {
    const kind = await kindOf(file);
    if (kind === "scan" || (files.length > 1 && ["slice", "unknown"].includes(kind))) return null;
    kinds.push(kind);
  }
  if (files.length > 1) return `${name}: there is no scan among them. ${EXPECTED}`;
  if (kinds[0] === "slice" && name !== files[0].path) return `${name} has one slice alone. Choose the folder of the whole series.`;
  if (kinds[0] === "slice") return `${name} is one slice alone. Use “Choose a folder” for the whole series.`;
  return `${files[0].path} is ${kinds[0] === "unknown" ? "" : `${kinds[0]}, `}not a scan. ${EXPECTED}`;
}

// {blob, type} to send.    onProgress: is given fractions.    signal: ends it.
export async function packed({ files }, onProgress, signal) {
  if (files.length === 1) {
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
    throw unreadable(file);
  } finally {
    reader.releaseLock();
  }
}
