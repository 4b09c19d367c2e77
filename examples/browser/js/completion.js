// Lungs with what lies in them and at their edge: the end of p2ch_luna/lungs.py, by its names.

import { AXES, boxOf, clamp, mapped, rint, size } from "./geometry.js";
import {
  and,
  borderConnected,
  boundsOf,
  count,
  dilate,
  grownAlong,
  not,
  opened,
  or,
  squaredDistance,
} from "./morphology.js";

// Brings in what lies in the lungs and at their edge; the mask, and the sides without the rim that it has.
export function complete(lung, shape, spacing, k) {
  const sides = new Uint8Array(lung.length);
  const parts = splitSides(lung, shape);
  parts.forEach((side, at) => {
    const number = parts.length === 2 ? [k.RIGHT, k.LEFT][at] : k.EITHER;
    const [low, high] = boundsOf(side, shape);
    const inner = high.map((n, a) => n + 1 - low[a]);
    const part = boxOf(side, shape, low, inner);
    const whole = filled(or(part, closed(part, inner, spacing, k)), inner);
    for (let i = 0, v = 0; i < inner[0]; i++)
      for (let r = 0; r < inner[1]; r++)
        for (let c = 0; c < inner[2]; c++, v++) {
          const to = ((low[0] + i) * shape[1] + low[1] + r) * shape[2] + low[2] + c;
          if (part[v] || (whole[v] && !sides[to])) sides[to] = number; // where the other's closing reaches into it
        }
  });
  const reach = spacing.map((mm) => Math.max(1, rint(k.RIM_MM / mm)));
  const mask = reach.reduce(
    (grown, n, axis) => grownAlong(grown, shape, axis, n),
    mapped(Uint8Array, sides, (side) => Number(side > 0)),
  );
  return { mask, sides };
}

// The right and the left lung, which may touch; both in one where no gap shows between them.
function splitSides(lung, shape) {
  const wide = shape[2];
  const profile = new Float64Array(wide);
  lung.forEach((is, v) => (profile[v % wide] += is));
  const all = count(lung);
  let sum = 0;
  const share = profile.map((n) => (sum += n) / all);
  const [low, high] = [0.25, 0.75].map((part) => share.findIndex((s) => s >= part));
  const gap = profile.slice(low, high + 1);
  const middle = low + gap.indexOf(Math.min(...gap));
  const highest = (part) => part.reduce((a, b) => Math.max(a, b), 0);
  if (profile[middle] > 0.4 * Math.min(highest(profile.slice(0, middle)), highest(profile.slice(middle))))
    return [lung];
  return [
    lung.map((is, v) => (v % wide < middle ? is : 0)),
    lung.map((is, v) => (v % wide < middle ? 0 : is)),
  ];
}

// Closed with a ball of CLOSING_MM, on a grid coarser again; the image is continued outside.
function closed(mask, shape, spacing, k) {
  const step = spacing.map((mm) => (mm < 1.5 * k.COARSE_MM ? 2 : 1));
  const wide = spacing.map((mm, a) => mm * step[a]);
  const reach = wide.map((mm) => Math.ceil(k.CLOSING_MM / mm) + 1);
  const few = shape.map((n, a) => Math.ceil(n / step[a]));
  const grid = few.map((n, a) => n + 2 * reach[a]);
  const places = AXES.map((a) =>
    Int32Array.from({ length: grid[a] }, (_, j) => clamp(j - reach[a], 0, few[a] - 1) * step[a]),
  );
  const low = new Uint8Array(size(grid));
  let v = 0;
  for (const i of places[0])
    for (const r of places[1]) for (const c of places[2]) low[v++] = mask[(i * shape[1] + r) * shape[2] + c];
  const limit = k.CLOSING_MM ** 2;
  const isFar = mapped(Uint8Array, squaredDistance(low, grid, wide), (mm2) => Number(mm2 > limit));
  let ball = mapped(Uint8Array, squaredDistance(isFar, grid, wide), (mm2) => Number(mm2 > limit));
  // the ball bulges into what it bridges, where the wall of the chest bulges out: thick fillings are grown
  ball = or(ball, dilate(opened(and(ball, not(low)), grid), grid, { iterations: 2 }));
  const found = new Uint8Array(mask.length);
  v = 0;
  const back = AXES.map((a) =>
    Int32Array.from({ length: shape[a] }, (_, j) => Math.floor(j / step[a]) + reach[a]),
  );
  for (const i of back[0])
    for (const r of back[1]) for (const c of back[2]) found[v++] = ball[(i * grid[1] + r) * grid[2] + c];
  return found;
}

// Holes filled within each axial slice.
function filled(mask, [depth, tall, wide]) {
  const padded = [depth, tall + 2, wide + 2];
  const empty = new Uint8Array(size(padded)).fill(1);
  const at = (v) =>
    (Math.floor(v / (tall * wide)) * padded[1] + (Math.floor(v / wide) % tall) + 1) * padded[2] +
    (v % wide) +
    1;
  mask.forEach((is, v) => (empty[at(v)] = 1 - is));
  const around = borderConnected(empty, padded);
  return mask.map((_, v) => 1 - around[at(v)]);
}
