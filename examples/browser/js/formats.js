// A CT out of the files that were dropped: NIfTI, MetaImage, NRRD, or the slices of a DICOM series.

import { makeCt, makeGeometry } from "./checks.js";
import { readDicom } from "./dicom.js";
import { size } from "./geometry.js";
import { sliceWarnings } from "./opened.js";

const READERS = [
  [/\.nii(\.gz)?$/i, readNifti],
  [/\.(mha|mhd)$/i, readMeta],
  [/\.nrrd$/i, readNrrd],
];

// A CT as makeCt gives it, with `warnings` of what was read.
// files: File objects.    k: the constants of checks.py and opened.py.
// Throws an Error that tells a user what is wrong.
export async function readCt(files, k) {
  const shown = files.filter((file) => !file.name.startsWith("."));
  for (const [pattern, read] of READERS) {
    const found = shown.filter((file) => pattern.test(file.name));
    if (found.length > 1)
      throw new Error(
        `${found.length} scans: ${found
          .map((f) => f.name)
          .slice(0, 5)
          .join(", ")}; wanted one`,
      );
    if (found.length) {
      const { voxels, shape, geometry } = await read(found[0], shown);
      const ct = makeCt(found[0].name, voxels, shape, geometry, k);
      return { ...ct, warnings: sliceWarnings(geometry, null, k) };
    }
  }
  const { name, voxels, shape, geometry, thicknessMm, warnings } = await readDicom(shown);
  const ct = makeCt(name, voxels, shape, geometry, k);
  return { ...ct, warnings: [...warnings, ...sliceWarnings(geometry, thicknessMm, k)] };
}

async function unpacked(blob, format) {
  const stream = blob.stream().pipeThrough(new DecompressionStream(format));
  return new Response(stream).arrayBuffer().catch(() => {
    throw new Error("its voxels cannot be unpacked; wanted a file that is not damaged or cut short");
  });
}

// Numbers of the wanted type out of bytes, whose order is turned where the machine's is another.
function numbers(buffer, at, type, n, isLittle) {
  const wanted = n * type.BYTES_PER_ELEMENT;
  const there = Math.max(buffer.byteLength - at, 0);
  if (!(there >= wanted))
    throw new Error(`${there} bytes of voxels; wanted ${wanted} by its header: the file is cut short`);
  const bytes = new Uint8Array(buffer.slice(at, at + wanted));
  if (!isLittle && type.BYTES_PER_ELEMENT > 1)
    for (let v = 0; v < bytes.length; v += type.BYTES_PER_ELEMENT)
      bytes.subarray(v, v + type.BYTES_PER_ELEMENT).reverse();
  return new type(bytes.buffer);
}

const NIFTI_TYPES = {
  2: Uint8Array,
  4: Int16Array,
  8: Int32Array,
  16: Float32Array,
  64: Float64Array,
  256: Int8Array,
  512: Uint16Array,
  768: Uint32Array,
};

const NIFTI_HEADER_BYTES = 352;
const NIFTI_UNITS = { 1: 1000, 2: 1, 3: 0.001 }; // mm in a metre, a mm, a micron; others tell none
const FORMS_MAY_DIFFER_MM = 1; // anywhere in the volume: near a half turn a qform is that coarse

async function readNifti(file) {
  let buffer = await file.arrayBuffer();
  if (new Uint8Array(buffer.slice(0, 2)).join() === "31,139")
    buffer = await unpacked(new Blob([buffer]), "gzip");
  if (buffer.byteLength < NIFTI_HEADER_BYTES)
    throw new Error(`${buffer.byteLength} bytes; wanted a NIfTI file, whose header has ${NIFTI_HEADER_BYTES}`);
  const header = new DataView(buffer);
  const isLittle = header.getInt32(0, true) === 348;
  if (!isLittle && header.getInt32(0, false) !== 348)
    throw new Error("no NIfTI-1 header; wanted one that begins with its length, 348");
  const int16 = (at) => header.getInt16(at, isLittle);
  const float = (at) => header.getFloat32(at, isLittle);
  const dim = Array.from({ length: 8 }, (_, a) => int16(40 + 2 * a));
  if (dim[0] < 3 || dim.slice(4, dim[0] + 1).some((n) => n > 1))
    throw new Error(`a ${dim[0]}-D image; wanted a 3-D volume`);
  const type = NIFTI_TYPES[int16(70)];
  if (!type) throw new Error(`its data type is ${int16(70)}; wanted integers or floats`);
  const shape = [dim[3], dim[2], dim[1]];
  let voxels = numbers(buffer, Math.max(NIFTI_HEADER_BYTES, float(108) || 0), type, size(shape), isLittle);
  const [slope, intercept] = [float(112) || 1, float(116) || 0];
  if (slope !== 1 || intercept) voxels = Float32Array.from(voxels, (value) => value * slope + intercept);
  const unit = NIFTI_UNITS[header.getUint8(123) & 7] ?? 1;
  return { voxels, shape, geometry: niftiGeometry(dim.slice(1, 4), unit, float, int16) };
}

// unit: how many mm the file's own has.
// NIfTI counts x to the right and y to the front, from the patient's view: both turn.
function niftiGeometry(columnsFirst, unit, float, int16) {
  const rows = niftiRows(columnsFirst, unit, float, int16);
  const lps = rows.map((row, k) => row.map((value) => (k < 2 ? -value : value) * unit));
  const spacing = [0, 1, 2].map((a) => Math.hypot(lps[0][a], lps[1][a], lps[2][a]));
  return makeGeometry(
    lps.map((row) => row[3]),
    spacing,
    lps.map((row) => row.slice(0, 3).map((value, a) => value / spacing[a])),
  );
}

// The sform, else the qform. Where both are there and differ, programs choose by rules of their own: refused.
function niftiRows(columnsFirst, unit, float, int16) {
  const sform = int16(254) > 0 && [280, 296, 312].map((at) => [0, 1, 2, 3].map((k) => float(at + 4 * k)));
  const qform = int16(252) > 0 && quaternionRows(float);
  if (!sform && !qform)
    throw new Error("it does not tell how it lies in the patient; wanted a qform or an sform");
  const farthest = (row, k) =>
    row.reduce((sum, value, a) => sum + Math.abs(value - qform[k][a]) * (columnsFirst[a] ?? 1), 0) * unit;
  if (sform && qform && !(Math.max(...sform.map(farthest)) < FORMS_MAY_DIFFER_MM))
    throw new Error("its qform and sform lay it into the patient in two ways; wanted one");
  const pixdim = [80, 84, 88].map(float);
  const off = (mm, a) => Math.abs(mm - Math.hypot(...sform.map((row) => row[a]))) * columnsFirst[a] * unit;
  if (sform && !(Math.max(...pixdim.map(off)) < FORMS_MAY_DIFFER_MM))
    throw new Error("its pixdim and sform tell of two spacings; wanted one");
  return sform || qform;
}

// Its first number is left out of the file; by half a turn it is 0, and the root of a rounding error is none.
function quaternion(last) {
  const square = last.reduce((sum, value) => sum + value * value, 0);
  if (1 - square >= 1e-7) return [Math.sqrt(1 - square), ...last];
  return [0, ...last.map((value) => value / Math.sqrt(square))];
}

function quaternionRows(float) {
  const spacing = [80, 84, 88].map(float);
  const [x, y, z] = [268, 272, 276].map(float);
  const [a, b, c, d] = quaternion([256, 260, 264].map(float));
  spacing[2] *= float(76) < 0 ? -1 : 1;
  const turn = [
    [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
    [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
    [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
  ];
  return turn.map((row, k) => [...row.map((value, axis) => value * spacing[axis]), [x, y, z][k]]);
}

const META_TYPES = {
  MET_CHAR: Int8Array,
  MET_UCHAR: Uint8Array,
  MET_SHORT: Int16Array,
  MET_USHORT: Uint16Array,
  MET_INT: Int32Array,
  MET_UINT: Uint32Array,
  MET_LONG: Int32Array,
  MET_ULONG: Uint32Array,
  MET_FLOAT: Float32Array,
  MET_DOUBLE: Float64Array,
};

async function readMeta(file, others) {
  const text = new TextDecoder("latin1").decode(await file.slice(0, 65536).arrayBuffer());
  const end = /^ElementDataFile\s*=[ \t]*(\S.*?)\s*?\r?\n/m.exec(text + "\n");
  if (!end) throw new Error("no MetaImage header; wanted lines 'Key = value' up to ElementDataFile");
  const fields = fieldsOf(text.slice(0, end.index), "=");
  const list = (names, otherwise) =>
    (names.map((name) => fields[name]).find(Boolean) ?? otherwise).split(/\s+/).map(Number);
  const shape = list(["DimSize"], "").reverse();
  const type = META_TYPES[fields.ElementType];
  if (shape.length !== 3 || !type || Number(fields.ElementNumberOfChannels ?? 1) !== 1)
    throw new Error("wanted a 3-D volume with one number a voxel");
  const isLocal = end[1] === "LOCAL";
  const data = isLocal ? file.slice(end.index + end[0].length) : others.find((one) => one.name === end[1]);
  if (!data) throw new Error(`its voxels are in ${end[1]}; wanted both files together`);
  const isTrue = (name) => /^true$/i.test(fields[name] ?? "");
  const buffer = isTrue("CompressedData") ? await unpacked(data, "deflate") : await data.arrayBuffer();
  const isLittle = !isTrue("BinaryDataByteOrderMSB") && !isTrue("ElementByteOrderMSB");
  const columns = list(["TransformMatrix", "Rotation", "Orientation"], "1 0 0 0 1 0 0 0 1"); // one axis after the other
  const direction = [0, 1, 2].map((k) => [0, 1, 2].map((a) => columns[3 * a + k]));
  const geometry = makeGeometry(
    list(["Offset", "Position", "Origin"], "0 0 0"),
    list(["ElementSpacing"], "0 0 0"),
    direction,
  );
  return { voxels: numbers(buffer, 0, type, size(shape), isLittle), shape, geometry };
}

function fieldsOf(text, sign) {
  const lines = text.split(/\r?\n/).map((line) => [line.indexOf(sign), line]);
  return Object.fromEntries(
    lines
      .filter(([at]) => at > 0)
      .map(([at, line]) => [line.slice(0, at).trim(), line.slice(at + sign.length).trim()]),
  );
}

const NRRD_TYPES = [
  [/^(signed char|int8(_t)?)$/, Int8Array],
  [/^(uchar|unsigned char|uint8(_t)?)$/, Uint8Array],
  [/^(short|short int|signed short|signed short int|int16(_t)?)$/, Int16Array],
  [/^(ushort|unsigned short|unsigned short int|uint16(_t)?)$/, Uint16Array],
  [/^(int|signed int|int32(_t)?)$/, Int32Array],
  [/^(uint|unsigned int|uint32(_t)?)$/, Uint32Array],
  [/^float$/, Float32Array],
  [/^double$/, Float64Array],
];
// From the file's own axes to left, back, up.
const NRRD_SPACES = {
  "left-posterior-superior": [1, 1, 1],
  lps: [1, 1, 1],
  "right-anterior-superior": [-1, -1, 1],
  ras: [-1, -1, 1],
  "left-anterior-superior": [1, -1, 1],
  las: [1, -1, 1],
};

async function readNrrd(file) {
  const text = new TextDecoder("latin1").decode(await file.slice(0, 65536).arrayBuffer());
  const end = /\r?\n\r?\n/.exec(text);
  if (!text.startsWith("NRRD") || !end)
    throw new Error("no NRRD header; wanted 'NRRD', then lines 'key: value' up to an empty one");
  const fields = fieldsOf(text.slice(0, end.index), ":");
  const type = NRRD_TYPES.find(([pattern]) => pattern.test(fields.type))?.[1];
  if (fields.dimension !== "3" || !type || fields["data file"])
    throw new Error("wanted a 3-D volume with its voxels in the same file");
  const shape = (fields.sizes ?? "").split(/\s+/).map(Number).reverse();
  const space = NRRD_SPACES[(fields.space ?? "").toLowerCase()];
  const vectors = [...(fields["space directions"] ?? "").matchAll(/\(([^)]*)\)/g)].map(([, one]) =>
    one.split(",").map(Number),
  );
  if (!space || vectors.length !== 3)
    throw new Error("it does not tell how it lies in the patient; wanted a space and its directions");
  const spacing = vectors.map((vector) => Math.hypot(...vector));
  const direction = [0, 1, 2].map((k) => vectors.map((vector, a) => (vector[k] * space[k]) / spacing[a]));
  const origin = /\(([^)]*)\)/
    .exec(fields["space origin"] ?? "(0,0,0)")[1]
    .split(",")
    .map((value, k) => Number(value) * space[k]);
  const data = file.slice(end.index + end[0].length);
  if (!/^(raw|gz|gzip)$/.test(fields.encoding))
    throw new Error(`its encoding is ${fields.encoding}; wanted raw or gzip`);
  const buffer = fields.encoding === "raw" ? await data.arrayBuffer() : await unpacked(data, "gzip");
  return {
    voxels: numbers(buffer, 0, type, size(shape), fields.endian !== "big"),
    shape,
    geometry: makeGeometry(origin, spacing, direction),
  };
}
