// Where the lungs are, by thresholds and shapes on a coarse grid, and a CT made ready for the networks:
// p2ch_luna/lungs.py. `k` holds its constants, by their names there.

import { AXES, clamp, cropBox, mapped, movedTo, resample, rint } from "./geometry.js";
import { size, spacingIrc, toCanonical, toIrc, toXyz } from "./geometry.js";
import { complete } from "./completion.js";
import {
  and,
  borderConnected,
  boundsOf,
  count,
  dilate,
  erode,
  label,
  largest,
  not,
  sizes,
} from "./morphology.js";

// { mask, sides, shape, geometry, warning } on a grid of about 2 mm; `warning` tells why none were found.
export function findLungs(ct, k) {
  const { hu, shape, geometry } = coarsened(toCanonical(ct), k);
  const voxelMl = geometry.spacing.reduce((a, b) => a * b) / 1000;
  const below = (limit) => mapped(Uint8Array, hu, (value) => Number(value < limit));
  const air = below(k.LUNG_BELOW_HU);
  const around = borderConnected(below(k.OUTSIDE_BELOW_HU), shape);
  const tissue = largestPart(not(air), shape);
  const padding = dilate(and(around, below(k.PADDING_HU + 1)), shape, { inPlane: true });
  const openWays = waysOut(tissue, and(around, not(padding)), shape);
  const skin = dilate(around, shape, { inPlane: true, iterations: k.SKIN_VOXELS, within: air });
  let lung = chosen(and(air, not(skin)), { skin, openWays, hu, voxelMl }, shape, k);
  lung = dilate(lung, shape, { inPlane: true, iterations: k.SKIN_VOXELS, within: and(air, not(around)) });
  const body = tissue.map((value, v) => value | (openWays[v] <= 1 && !skin[v] ? 1 : 0));
  const [lungMl, bodyMl] = [lung, body].map((region) => count(region) * voxelMl);
  const wantedMl = Math.min(k.MIN_LUNG_ML, k.MIN_LUNG_SHARE * bodyMl);
  if (count(lung) && lungMl >= wantedMl)
    return { ...complete(lung, shape, spacingIrc(geometry), k), shape, geometry, warning: null };
  const [found, wanted] = [lungMl.toFixed(0), wantedMl.toFixed(0)];
  const warning = `no lungs found: ${found} ml of lung inside the body, at least ${wanted} ml wanted`;
  return { mask: null, sides: null, shape, geometry, warning };
}

// Cuts out the box of the lungs and brings it to one spacing: { hu, shape, geometry, lung }.
export function prepare(ct, lungs, k) {
  const box = lungBox(toCanonical(ct), lungs, k.MARGIN_MM);
  const hu = mapped(Int16Array, box.hu, (value) => rint(clamp(value, k.PADDING_HU, 32767)));
  const scaled = resample({ ...box, hu }, k.SPACING_MM);
  return { ...scaled, lung: maskOn(lungs, scaled) };
}

// The mask on another grid along the same axes, by the nearest voxel; outside of its own it is false.
export function maskOn({ mask, shape, geometry }, to) {
  const offset = toIrc(geometry, toXyz(to.geometry, [0, 0, 0]));
  const end = toIrc(geometry, toXyz(to.geometry, [1, 1, 1]));
  const places = AXES.map((axis) =>
    Int32Array.from({ length: to.shape[axis] }, (_, j) => {
      const place = Math.floor(j * (end[axis] - offset[axis]) + offset[axis] + 0.5);
      return place < 0 || place >= shape[axis] ? -1 : place;
    }),
  );
  const found = new Uint8Array(size(to.shape));
  let v = 0;
  for (const i of places[0])
    for (const r of places[1])
      for (const c of places[2])
        found[v++] = i < 0 || r < 0 || c < 0 ? 0 : mask[(i * shape[1] + r) * shape[2] + c];
  return found;
}

function lungBox(ct, lungs, marginMm) {
  const [low, high] = boundsOf(lungs.mask, lungs.shape);
  const margin = spacingIrc(ct.geometry).map((mm) => marginMm / mm);
  const [first, last] = [low.map((n) => n - 0.5), high.map((n) => n + 0.5)].map((irc) =>
    toIrc(ct.geometry, toXyz(lungs.geometry, irc)),
  );
  return cropBox(
    ct,
    first.map((n, a) => Math.floor(n - margin[a] + 0.5)),
    last.map((n, a) => Math.ceil(n + margin[a] + 0.5)),
  );
}

// Averages blocks of about 2 mm; the last along an axis may be smaller.
export function coarsened(ct, k) {
  const step = spacingIrc(ct.geometry).map((mm) => Math.max(1, rint(k.COARSE_MM / mm)));
  const shape = ct.shape.map((n, a) => Math.ceil(n / step[a]));
  const sum = new Float64Array(size(shape));
  const column = Int32Array.from({ length: ct.shape[2] }, (_, c) => Math.floor(c / step[2]));
  for (let i = 0, v = 0; i < ct.shape[0]; i++)
    for (let r = 0; r < ct.shape[1]; r++) {
      const to = (Math.floor(i / step[0]) * shape[1] + Math.floor(r / step[1])) * shape[2];
      for (let c = 0; c < ct.shape[2]; c++, v++) sum[to + column[c]] += Math.max(ct.hu[v], k.PADDING_HU);
    }
  const many = AXES.map((a) =>
    Float64Array.from({ length: shape[a] }, (_, j) => Math.min(step[a], ct.shape[a] - j * step[a])),
  );
  const hu = new Float32Array(sum.length);
  for (let i = 0, v = 0; i < shape[0]; i++)
    for (let r = 0; r < shape[1]; r++)
      for (let c = 0; c < shape[2]; c++, v++) hu[v] = sum[v] / (many[0][i] * many[1][r] * many[2][c]);
  const moved = movedTo(
    ct.geometry,
    step.map((n) => (n - 1) / 2),
  );
  return { hu, shape, geometry: { ...moved, spacing: moved.spacing.map((mm, a) => mm * step[2 - a]) } };
}

// The largest component once thin bridges (to a table, a blanket) are cut.
function largestPart(mask, shape) {
  const core = label(erode(mask, shape, 1), shape);
  const best = largest(core);
  if (!best) return new Uint8Array(mask.length);
  return and(
    dilate(
      mapped(Uint8Array, core.labels, (one) => Number(one === best)),
      shape,
      { iterations: 2 },
    ),
    mask,
  );
}

// How many of the four ways in the axial plane lead from a voxel outside before they meet tissue.
function waysOut(tissue, outside, [depth, tall, wide]) {
  const ways = new Int8Array(tissue.length);
  const walk = (start, step, n) => {
    for (let j = 0, v = start, isOut = 0; j < n; j++, v += step) {
      if (outside[v]) isOut = 1;
      else if (tissue[v]) isOut = 0;
      ways[v] += isOut;
    }
  };
  for (let i = 0; i < depth; i++) {
    const first = i * tall * wide;
    for (let c = 0; c < wide; c++) {
      walk(first + c, wide, tall);
      walk(first + (tall - 1) * wide + c, -wide, tall);
    }
    for (let r = 0; r < tall; r++) {
      walk(first + r * wide, 1, wide);
      walk(first + r * wide + wide - 1, -1, wide);
    }
  }
  return ways;
}

// The components of air that are lung: the largest inside the body that is not gas, and others with it.
function chosen(air, { skin, openWays, hu, voxelMl }, shape, k) {
  const parts = label(air, shape);
  const n = sizes(parts);
  const [gas, ways, height] = [0, 1, 2].map(() => new Float64Array(parts.count + 1));
  const plane = shape[1] * shape[2];
  parts.labels.forEach((one, v) => {
    if (!one) return;
    gas[one] += hu[v] < k.GAS_BELOW_HU ? 1 : 0;
    ways[one] += openWays[v];
    height[one] += Math.floor(v / plane);
  });
  const isLung = mapped(Uint8Array, n, (m, one) =>
    Number(
      one > 0 &&
        m * voxelMl >= k.MIN_PART_ML &&
        gas[one] / m <= k.MAX_GAS &&
        ways[one] / m <= k.MAX_OPEN_WAYS,
    ),
  );
  const best = isLung.reduce((a, is, one) => (is && (!a || n[one] > n[a]) ? one : a), 0);
  if (!best) return new Uint8Array(air.length);
  const lowest = fifthPercentile(parts.labels, best, n[best], plane);
  const isBeside = mapped(Uint8Array, height, (sum, one) => Number(sum / Math.max(n[one], 1) >= lowest));
  dilate(skin, shape).forEach((is, v) => is && (isBeside[parts.labels[v]] = 0));
  const isChosen = isLung.map((is, one) => Number(is && (isBeside[one] || n[one] >= k.LARGE_PART * n[best])));
  return mapped(Uint8Array, parts.labels, (one) => isChosen[one]);
}

// Of the slices of a part's voxels, between the two nearest as NumPy interpolates; voxels come slice by slice.
function fifthPercentile(labels, wanted, n, plane) {
  const rank = 0.05 * (n - 1);
  const found = [];
  let seen = 0;
  for (let v = 0; v < labels.length && found.length < 2; v++) {
    if (labels[v] !== wanted) continue;
    if (seen >= Math.floor(rank)) found.push(Math.floor(v / plane));
    seen++;
  }
  const [a, b = a] = found;
  return a + (b - a) * (rank - Math.floor(rank));
}
