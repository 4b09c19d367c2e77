"use strict";
// What the page holds, unpacked: the CT from JPEG slices to a NIfTI file in memory, the masks from boxes of bits.
// Shapes are [slices, rows, columns]; columns run to the patient's left, rows to the back, slices up.

const HEADER_BYTES = 352;
const DECODED_AT_ONCE = 6;
const MEAN_MAY_BE_OFF = 3; // of 255; JPEG moves the mean of a slice by less than one

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let k = 0; k < bytes.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}

// A NIfTI-1 file of 16-bit zeros; `affine` is 3 rows of 4 from (column, row, slice) to RAS mm.
function emptyNifti({ shape, spacing, affine }) {
  const [slices, rows, columns] = shape;
  const buffer = new ArrayBuffer(HEADER_BYTES + slices * rows * columns * 2);
  const header = new DataView(buffer);
  header.setInt32(0, 348, true);
  [3, columns, rows, slices, 1, 1, 1, 1].forEach((n, k) => header.setInt16(40 + 2 * k, n, true));
  header.setInt16(70, 4, true); // signed integers
  header.setInt16(72, 16, true); // of so many bits
  [1, ...spacing, 1, 0, 0, 0].forEach((mm, k) => header.setFloat32(76 + 4 * k, mm, true));
  header.setFloat32(108, HEADER_BYTES, true);
  header.setFloat32(112, 1, true); // slope
  header.setUint8(123, 2); // mm
  header.setInt16(254, 1, true); // the affine is a scanner's
  affine.flat().forEach((mm, k) => header.setFloat32(280 + 4 * k, mm, true));
  [110, 43, 49, 0].forEach((letter, k) => header.setUint8(344 + k, letter)); // "n+1"
  return buffer;
}

async function decoded(base64, rows, columns, pen) {
  const jpeg = new Blob([bytesOf(base64)], { type: "image/jpeg" });
  const bitmap = await createImageBitmap(jpeg, { colorSpaceConversion: "none" });
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  return pen.getImageData(0, 0, columns, rows).data;
}

function checkMean(rgba, expected, slice) {
  let sum = 0;
  for (let k = 0; k < rgba.length; k += 4) sum += rgba[k];
  if (Math.abs((4 * sum) / rgba.length - expected) > MEAN_MAY_BE_OFF)
    throw new Error(`this browser changes pictures when they are read (slice ${slice + 1}); wanted them as they are`);
}

// The CT as NIfTI in HU; `onProgress` hears the share that is done.
async function unpackCt(volume, jpegs, onProgress) {
  const [slices, rows, columns] = volume.shape;
  const buffer = emptyNifti(volume);
  const hu = new Int16Array(buffer, HEADER_BYTES);
  const table = Int16Array.from(volume.hu);
  const pens = Array.from({ length: DECODED_AT_ONCE }, () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [columns, rows];
    return canvas.getContext("2d", { willReadFrequently: true, alpha: false });
  });
  for (let first = 0; first < slices; first += DECODED_AT_ONCE) {
    const several = jpegs.slice(first, first + DECODED_AT_ONCE);
    const pixels = await Promise.all(several.map((jpeg, k) => decoded(jpeg, rows, columns, pens[k])));
    pixels.forEach((rgba, k) => {
      checkMean(rgba, volume.means[first + k], first + k);
      const start = (first + k) * rows * columns;
      for (let pixel = 0; pixel < rows * columns; pixel++) hu[start + pixel] = table[rgba[4 * pixel]];
    });
    onProgress((first + several.length) / slices);
  }
  return buffer;
}

// Calls `visit([column, row, slice], label)` for every voxel of the masks.
function forEachMarked(masks, visit) {
  for (const mask of masks) {
    const bits = bytesOf(mask.bits);
    const [depth, tall, wide] = mask.shape;
    const [slice, row, column] = mask.start;
    for (let k = 0; k < depth * tall * wide; k++) {
      if (!(bits[k >> 3] & (128 >> (k & 7)))) continue;
      const [z, y, x] = [Math.floor(k / (tall * wide)), Math.floor(k / wide) % tall, k % wide];
      visit([column + x, row + y, slice + z], mask.label);
    }
  }
}
