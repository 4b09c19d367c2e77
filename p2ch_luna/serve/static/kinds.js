// What a file is by its first bytes, which is how the server tells: a scan, a part of one, or something else.

import { Failure } from "./api.js";

const HEAD_BYTES = 512;
const HEADER_BYTES = 2 ** 16; // as long as a header of text may be
const NIFTI = ["\x5c\x01\0\0", "\0\0\x01\x5c", "\x1c\x02\0\0", "\0\0\x02\x1c"]; // the size of its header, in either order
const WHOLE = ["PK\x03\x04", "\x1f\x8b", "NRRD", ...NIFTI];
const META_LINE = /^[A-Za-z]+[ \t]*=[^\r\n]*\r?\n/;
const DICOM = /^([^]{128}DICM|[\x02\x08]\0)/; // with the preamble, or without
const OTHERS = new Map([ // what people drop by mistake
  ["a PDF", /^%PDF/],
  ["a picture", /^(\x89PNG|\xff\xd8\xff|GIF8|II\*\0|MM\0\*|BM[^]{4}\0{4}|RIFF[^]{4}WEBP)/],
  ["an empty zip", /^PK\x05\x06/],
  ["an empty file", /^$/],
  ["text", /^[\t\n\f\r\x20-\x7e\x80-\xff]+$/],
]);
const HEADER = /\.(mhd|mha|nhdr|nrrd)$/i;
const VOXELS = /^[ \t]*(?:ElementDataFile[ \t]*=|data[ \t]*file[ \t]*:)[ \t]*(.+?)[ \t]*$/im;

// "scan": may be sent as it is; "slice": of DICOM; "unknown"; else what it is instead, as one says it.
export async function kindOf(file) {
  const head = String.fromCharCode(...await headOf(file, HEAD_BYTES));
  if (WHOLE.some((begin) => head.startsWith(begin)) || META_LINE.test(head)) return "scan";
  if (DICOM.test(head)) return "slice";
  for (const [words, pattern] of OTHERS) if (pattern.test(head)) return words;
  return "unknown";
}

// The name of the file that has the voxels to this header; null: it has them itself, or is no header.
export async function voxelsOf(file) {
  if (!HEADER.test(file.name)) return null;
  const head = new TextDecoder().decode(await headOf(file, HEADER_BYTES)).replaceAll("\r\n", "\n");
  const name = VOXELS.exec(head.startsWith("NRRD") ? head.split("\n\n")[0] : head)?.[1];
  return name === undefined || name.toUpperCase() === "LOCAL" ? null : name;
}

async function headOf(file, bytes) {
  try {
    return new Uint8Array(await file.slice(0, bytes).arrayBuffer());
  } catch {
    throw unreadable(file);
  }
}

export const unreadable = (file) => new Failure(0, `${file.name} cannot be read: it was moved or changed. Choose the scan again.`);
