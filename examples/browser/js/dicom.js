// The slices of a DICOM series whose voxels are not compressed; the series with the most slices counts.

import { makeGeometry } from "./checks.js";
import { size } from "./geometry.js";

const TAGS = {
  "00020002": "kind",
  "00020010": "syntax",
  "00080060": "modality",
  "00180050": "thickness",
  "0020000d": "study",
  "0020000e": "series",
  "00200032": "position",
  "00200037": "orientation",
  "00280002": "samples",
  "00280010": "rows",
  "00280011": "columns",
  "00280030": "spacing",
  "00280100": "bits",
  "00280103": "isSigned",
  "00281052": "intercept",
  "00281053": "slope",
  "00281054": "unit",
  "7fe00010": "pixels",
};
const LONG = new Set(["OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UN", "UR", "UT", "SV", "UV"]);
const SYNTAXES = { "1.2.840.10008.1.2": false, "1.2.840.10008.1.2.1": true }; // whether each element names its type
const CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2";
const UNDEFINED = 0xffffffff;
const SPACING_MAY_VARY = 0.05; // of the distance between slices
const SIDEWAYS_TOLERANCE_MM = 0.5; // over the whole series

// { name, voxels, shape, geometry, thicknessMm, warnings }; thicknessMm: 0 or NaN if it is not told.
export async function readDicom(files) {
  const slices = [];
  for (const file of files) {
    const slice = await readSlice(file);
    if (slice) slices.push(slice);
  }
  const series = Map.groupBy ? Map.groupBy(slices, (s) => s.series) : grouped(slices);
  const best = [...series.values()].sort((a, b) => b.length - a.length)[0];
  if (!best) throw new Error("no CT found; wanted NIfTI, MetaImage, NRRD, or the folder of a DICOM series");
  if (best.length === 1) throw new Error("1 slice of a DICOM series; wanted the folder with all of them");
  const warnings = [...studyWarnings(slices, best), ...rescaleWarnings(best)];
  return { ...stacked(best), thicknessMm: Number(best[0].thickness), warnings };
}

// As p2ch_luna/io/dicom_choice.py tells of several studies.
function studyWarnings(slices, [first]) {
  const n = new Set(slices.map(({ study }) => study)).size;
  return n > 1 ? [`CTs of ${n} studies are there: ${first.study} was read`] : [];
}

// Of values that may not be HU: p2ch_luna/io/dicom.py.
function rescaleWarnings(slices) {
  const without = slices.filter((slice) => !slice.isRescaled).length;
  const units = [...new Set(slices.map(({ unit }) => unit))].filter((unit) => unit && unit !== "HU").sort();
  return [
    ...(without ? [`slices that state no rescale to HU, their values taken as they are: ${without}`] : []),
    ...units.map((unit) => `values are said to be ${unit}: they were taken as HU`),
  ];
}

function grouped(slices) {
  const found = new Map();
  slices.forEach((slice) => found.set(slice.series, [...(found.get(slice.series) ?? []), slice]));
  return found;
}

function stacked(slices) {
  const [first] = slices;
  const [row, column] = [first.orientation.slice(0, 3), first.orientation.slice(3)];
  const normal = [
    row[1] * column[2] - row[2] * column[1],
    row[2] * column[0] - row[0] * column[2],
    row[0] * column[1] - row[1] * column[0],
  ];
  const along = (slice) => slice.position.reduce((sum, mm, k) => sum + mm * normal[k], 0);
  const ordered = [...slices].sort((a, b) => along(a) - along(b));
  const differs = (a, b) =>
    a.rows !== b.rows ||
    a.columns !== b.columns ||
    ["orientation", "spacing"].some((name) =>
      a[name].some((value, k) => Math.abs(value - b[name][k]) > 1e-3),
    );
  if (ordered.some((slice) => differs(slice, first)))
    throw new Error("its slices differ in size, direction or pixel spacing; wanted one stack");
  checkSideways(ordered, normal);
  const step = (along(ordered.at(-1)) - along(ordered[0])) / (ordered.length - 1);
  const gaps = ordered.slice(1).map((slice, k) => along(slice) - along(ordered[k]));
  if (gaps.some((gap) => Math.abs(gap - step) > SPACING_MAY_VARY * step))
    throw new Error(`slices are ${range(gaps)} mm apart; wanted one distance, and none missing or double`);
  const shape = [ordered.length, first.rows, first.columns];
  const plane = first.rows * first.columns;
  const isWhole = ordered.every((s) => Number.isInteger(s.slope) && Number.isInteger(s.intercept));
  const voxels = new (isWhole ? Int32Array : Float32Array)(size(shape));
  ordered.forEach((slice, i) => {
    slice.pixels.forEach((value, v) => (voxels[i * plane + v] = value * slice.slope + slice.intercept));
    slice.pixels = null; // else a long series is in memory twice
  });
  const direction = [0, 1, 2].map((k) => [row[k], column[k], normal[k]]);
  const geometry = makeGeometry(ordered[0].position, [first.spacing[1], first.spacing[0], step], direction);
  return { name: first.series, voxels, shape, geometry };
}

// Throws where the slices do not lie one above the other.
function checkSideways([first, ...others], normal) {
  const sideways = others.map(({ position }) => {
    const shift = position.map((mm, k) => mm - first.position[k]);
    const along = shift.reduce((sum, mm, k) => sum + mm * normal[k], 0);
    return Math.hypot(...shift.map((mm, k) => mm - along * normal[k]));
  });
  const most = Math.max(...sideways);
  if (most > SIDEWAYS_TOLERANCE_MM)
    throw new Error(`slices shift sideways by ${most.toFixed(1)} mm (tilted gantry); wanted a straight stack`);
}

const range = (values) => [Math.min(...values), Math.max(...values)].map((mm) => mm.toFixed(2)).join(" to ");

// null for what is no slice of a CT.
async function readSlice(file) {
  const buffer = await file.arrayBuffer();
  if (buffer.byteLength < 140 || new TextDecoder().decode(new Uint8Array(buffer, 128, 4)) !== "DICM")
    return null;
  const meta = elements(buffer, 132, true, (tag) => tag.startsWith("0002"));
  const syntax = text(meta.found["00020010"]);
  const { found } = elements(buffer, meta.end, SYNTAXES[syntax] ?? true, () => true);
  const said = (name) => text(found[Object.keys(TAGS).find((tag) => TAGS[tag] === name)]);
  const isDamaged = text(meta.found["00020002"]) === CT_IMAGE && !found["7fe00010"];
  if (isDamaged && (!syntax || syntax in SYNTAXES))
    throw new Error(`${file.name}: a CT image without voxels; wanted a whole one: the file is cut short`);
  const isSlice = said("modality") === "CT" && found["00200032"] && found["7fe00010"];
  if (!isSlice && !isDamaged) return null;
  if (!(syntax in SYNTAXES))
    throw new Error(`${file.name}: its voxels are compressed (${syntax}); wanted them as they are, or NIfTI`);
  const list = (name) => said(name).split("\\").map(Number);
  const number = (name, otherwise) => (said(name) === "" ? otherwise : Number(said(name)));
  return {
    series: said("series"),
    study: said("study"),
    thickness: said("thickness"),
    position: list("position"),
    orientation: list("orientation"),
    spacing: list("spacing"),
    slope: number("slope", 1),
    intercept: number("intercept", 0),
    isRescaled: said("slope") !== "" && said("intercept") !== "",
    unit: said("unit"),
    ...readPixels(file.name, buffer, found),
  };
}

// { rows, columns, pixels } of one slice.
function readPixels(name, buffer, found) {
  const uint16 = (tag) => (found[tag] ? new DataView(buffer, found[tag].byteOffset).getUint16(0, true) : 0);
  if (uint16("00280002") !== 1)
    throw new Error(`${name}: ${uint16("00280002")} values a pixel; wanted one, of HU`);
  if (uint16("00280100") !== 16) throw new Error(`${name}: ${uint16("00280100")} bits a voxel; wanted 16`);
  const [rows, columns] = [uint16("00280010"), uint16("00280011")];
  const { byteOffset, byteLength } = found["7fe00010"];
  const wanted = 2 * rows * columns;
  if (byteLength < wanted)
    throw new Error(`${name}: ${byteLength} bytes of voxels; wanted ${wanted}: the file is cut short`);
  const type = uint16("00280103") ? Int16Array : Uint16Array;
  return { rows, columns, pixels: new type(buffer.slice(byteOffset, byteOffset + wanted)) };
}

const text = (bytes) =>
  bytes
    ? new TextDecoder("latin1")
        .decode(bytes)
        .replace(/[\0 ]+$/, "")
        .trim()
    : "";

// The values of the first level of a data set, by tag, and where it ends.
function elements(buffer, start, isExplicit, isWanted) {
  const view = new DataView(buffer);
  const found = {};
  let at = start;
  while (at + 8 <= buffer.byteLength) {
    const { tag, value, length } = headOf(view, at, isExplicit);
    if (!isWanted(tag)) break;
    if (length === UNDEFINED) {
      if (tag === "7fe00010")
        return { found: { ...found, [tag]: new Uint8Array(0) }, end: buffer.byteLength };
      at = skipped(view, value, isExplicit);
      continue;
    }
    const isWhole = value + length <= buffer.byteLength;
    if (tag in TAGS && (isWhole || (tag === "7fe00010" && value <= buffer.byteLength)))
      found[tag] = new Uint8Array(buffer, value, Math.min(length, buffer.byteLength - value));
    at = value + length;
  }
  return { found, end: at };
}

function headOf(view, at, isExplicit) {
  const hex = (place) => view.getUint16(place, true).toString(16).padStart(4, "0");
  const tag = hex(at) + hex(at + 2);
  if (!isExplicit || tag.startsWith("fffe"))
    return { tag, value: at + 8, length: view.getUint32(at + 4, true) };
  const type = String.fromCharCode(view.getUint8(at + 4), view.getUint8(at + 5));
  if (LONG.has(type)) {
    const isWhole = at + 12 <= view.byteLength; // else the file is cut short
    return { tag, value: at + 12, length: isWhole ? view.getUint32(at + 8, true) : 0 };
  }
  return { tag, value: at + 8, length: view.getUint16(at + 6, true) };
}

// Past a sequence, or an item, of a length that is not told.
function skipped(view, start, isExplicit) {
  let at = start;
  while (at + 8 <= view.byteLength) {
    const { tag, value, length } = headOf(view, at, isExplicit);
    if (tag === "fffee0dd" || tag === "fffee00d") return value;
    at = length === UNDEFINED ? skipped(view, value, isExplicit) : value + length;
  }
  return view.byteLength;
}
