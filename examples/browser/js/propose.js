// From a probability map to candidates: connected voxels, their centre, score and size:
// p2ch_luna/inference/propose.py, and regions.py.

import { mapped, spacingIrc, toXyz } from "./geometry.js";
import { label } from "./morphology.js";

// { kept, dropped }, best first; each { centerIrc, centerXyz, probability, volumeMm3, level, voxels }: `voxels`
// are those of `prepared` that count for it, with their `weights`.
export function propose(probability, prepared, k) {
  const groups = grouped(probability, prepared.shape, k);
  const found = groups.map((voxels) => candidate(voxels, probability, prepared, k));
  found.sort((a, b) => b.probability - a.probability); // stable
  const near = found.filter((one) => one.near >= k.SHARE_NEAR_LUNG);
  const kept = near.slice(0, k.MAX_CANDIDATES);
  const isKept = new Set(kept);
  return { kept, dropped: found.filter((one) => !isKept.has(one)) };
}

// The voxels of each candidate: of each core, and of each component without one.
function grouped(probability, shape, k) {
  const from = (limit) =>
    label(
      mapped(Uint8Array, probability, (p) => Number(p >= limit)),
      shape,
      true,
    );
  const [component, core] = [from(Math.fround(k.THRESHOLD)), from(Math.fround(k.MASK_THRESHOLD))];
  const voxels = [];
  component.labels.forEach((one, v) => one && voxels.push(v));
  const coreSize = new Int32Array(core.count + 1);
  voxels.forEach((v) => coreSize[core.labels[v]]++);
  const isCore = (v) => core.labels[v] > 0 && coreSize[core.labels[v]] >= k.MIN_CORE_VOXELS;
  const hasCore = new Uint8Array(component.count + 1);
  voxels.forEach((v) => isCore(v) && (hasCore[component.labels[v]] = 1));
  const [cores, alone] = [new Map(), new Map()];
  const add = (groups, number, v) =>
    groups.has(number) ? groups.get(number).push(v) : groups.set(number, [v]);
  for (const v of voxels) {
    if (isCore(v)) add(cores, core.labels[v], v);
    else if (!hasCore[component.labels[v]]) add(alone, component.labels[v], v);
  }
  const inOrder = (groups) => [...groups.entries()].sort((a, b) => a[0] - b[0]).map(([, group]) => group);
  return [...inOrder(cores), ...inOrder(alone)];
}

function candidate(voxels, probability, { shape, geometry, lung }, k) {
  const reach = spacingIrc(geometry).map((mm) => Math.floor(k.NEAR_LUNG_MM / mm));
  const sum = [0, 0, 0];
  let [mass, score, near] = [0, 0, 0];
  for (const v of voxels) {
    const irc = placeOf(v, shape);
    const weight = probability[v];
    irc.forEach((n, a) => (sum[a] += weight * n));
    mass += weight;
    score = Math.max(score, weight);
    near += isNear(lung, shape, irc, reach);
  }
  const level = Math.max(score >= k.MASK_THRESHOLD ? k.MASK_THRESHOLD : k.THRESHOLD, k.OUTLINE_SHARE * score);
  const inMask = voxels.filter((v) => probability[v] >= level).length;
  const centerIrc = sum.map((n) => n / mass);
  return {
    centerIrc,
    centerXyz: toXyz(geometry, centerIrc),
    probability: score,
    volumeMm3: inMask * geometry.spacing.reduce((a, b) => a * b),
    level,
    near: near / voxels.length,
    voxels,
  };
}

export const placeOf = (v, [, tall, wide]) => [
  Math.floor(v / (tall * wide)),
  Math.floor(v / wide) % tall,
  v % wide,
];

// Whether lung lies within a box of so many voxels on each side.
function isNear(lung, shape, irc, reach) {
  const low = irc.map((n, a) => Math.max(n - reach[a], 0));
  const high = irc.map((n, a) => Math.min(n + reach[a], shape[a] - 1));
  for (let i = low[0]; i <= high[0]; i++)
    for (let r = low[1]; r <= high[1]; r++) {
      const row = (i * shape[1] + r) * shape[2];
      for (let c = low[2]; c <= high[2]; c++) if (lung[row + c]) return 1;
    }
  return 0;
}
