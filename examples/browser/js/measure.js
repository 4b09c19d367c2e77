// How large a finding is, and which voxels of the scan are it: p2ch_luna/inference/measure.py.

import { AXES, clamp, mapped, size, toIrc, toXyz } from "./geometry.js";
import { label, largest } from "./morphology.js";
import { placeOf } from "./propose.js";

const MARGIN = 3; // voxels round a candidate, as regions.py keeps them

// { low, shape, mask, volumeMm3, diameterMm } of a candidate on the grid of `ct`, which is canonical.
// taken: voxels of other findings, to which its own are added: none counts twice.
export function measure(ct, candidate, probability, prepared, taken) {
  const region = regionOf(candidate, probability, prepared);
  const box = sampled(ct, region, prepared.geometry);
  box.said.forEach((_, v) => taken[indexIn(ct.shape, box, v)] && (box.said[v] = 0));
  const parts = label(
    mapped(Uint8Array, box.said, (p) => Number(p >= candidate.level)),
    box.shape,
    true,
  );
  const best = largest(parts);
  const found = best
    ? { ...box, mask: mapped(Uint8Array, parts.labels, (one) => Number(one === best)) }
    : nearestVoxel(ct, candidate);
  let n = 0;
  found.mask.forEach((is, v) => is && (n++, (taken[indexIn(ct.shape, found, v)] = 1)));
  const volumeMm3 = n * ct.geometry.spacing.reduce((a, b) => a * b);
  return {
    low: found.low,
    shape: found.shape,
    mask: found.mask,
    volumeMm3,
    diameterMm: diameterOf(volumeMm3),
  };
}

// Of the sphere of that volume.
export const diameterOf = (volumeMm3) => Math.cbrt((6 * volumeMm3) / Math.PI);

const indexIn = (shape, { low, shape: inner }, v) => {
  const [i, r, c] = placeOf(v, inner).map((n, a) => n + low[a]);
  return (i * shape[1] + r) * shape[2] + c;
};

function nearestVoxel(ct, { centerXyz }) {
  const low = toIrc(ct.geometry, centerXyz).map((n, a) => clamp(Math.floor(n + 0.5), 0, ct.shape[a] - 1));
  return { low, shape: [1, 1, 1], mask: Uint8Array.of(1) };
}

// A candidate's box of the probability map; voxels that are in no mask of its own are 0.
function regionOf({ voxels, level }, probability, { shape }) {
  const places = voxels.map((v) => placeOf(v, shape));
  const low = AXES.map((a) => Math.max(places.reduce((n, irc) => Math.min(n, irc[a]), Infinity) - MARGIN, 0));
  const high = AXES.map((a) =>
    Math.min(places.reduce((n, irc) => Math.max(n, irc[a]), 0) + MARGIN + 1, shape[a]),
  );
  const inner = high.map((n, a) => n - low[a]);
  const said = new Float32Array(size(inner));
  const own = new Set(voxels);
  for (let v = 0; v < said.length; v++) {
    const from = indexIn(shape, { low, shape: inner }, v);
    if (own.has(from) || probability[from] < level) said[v] = probability[from];
  }
  return { low, shape: inner, said };
}

// The region's probability at the voxels of the CT round it, linear between voxels; 0 outside of the region.
function sampled(ct, region, geometry) {
  const offset = toIrc(geometry, toXyz(ct.geometry, [0, 0, 0]));
  const end = toIrc(geometry, toXyz(ct.geometry, [1, 1, 1]));
  const step = AXES.map((a) => end[a] - offset[a]); // both run along the same axes
  const low = AXES.map((a) => clamp(Math.floor((region.low[a] - 1 - offset[a]) / step[a]), 0, ct.shape[a]));
  const high = AXES.map((a) =>
    clamp(Math.ceil((region.low[a] + region.shape[a] - offset[a]) / step[a]) + 1, 0, ct.shape[a]),
  );
  const shape = high.map((n, a) => n - low[a]);
  const along = AXES.map((a) =>
    Array.from({ length: shape[a] }, (_, j) => (low[a] + j) * step[a] + offset[a] - region.low[a]),
  );
  const said = new Float32Array(size(shape));
  let v = 0;
  for (const i of along[0])
    for (const r of along[1]) for (const c of along[2]) said[v++] = linear(region, [i, r, c]);
  return { low, shape, said };
}

function linear({ shape, said }, irc) {
  if (irc.some((n, a) => n < 0 || n > shape[a] - 1)) return 0;
  const [i, r, c] = irc.map((n, a) => Math.min(Math.floor(n), Math.max(shape[a] - 2, 0)));
  let sum = 0;
  for (let k = 0; k < 8; k++) {
    const [di, dr, dc] = [k >> 2, (k >> 1) & 1, k & 1];
    const share = [
      [di, irc[0] - i],
      [dr, irc[1] - r],
      [dc, irc[2] - c],
    ].reduce((w, [far, part]) => w * (far ? part : 1 - part), 1);
    if (share) sum += share * said[((i + di) * shape[1] + r + dr) * shape[2] + c + dc];
  }
  return sum;
}
