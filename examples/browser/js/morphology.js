// What lungs.js and propose.js take from scipy.ndimage. A mask is a Uint8Array of 0 and 1 of shape [D, H, W].

import { mapped, size } from "./geometry.js";

export const not = (mask) => mask.map((value) => 1 - value);
export const and = (a, b) => a.map((value, k) => value & b[k]);
export const or = (a, b) => a.map((value, k) => value | b[k]);
export const count = (mask) => mask.reduce((sum, value) => sum + value, 0);

// Each voxel that has a neighbour (6, or 4 in its axial slice) in the mask joins it, where `within` lets it.
export function dilate(mask, shape, { inPlane = false, iterations = 1, within = null } = {}) {
  const [depth, tall, wide] = shape;
  const plane = tall * wide;
  let now = mask;
  for (let turn = 0; turn < iterations; turn++) {
    const before = now;
    now = before.slice();
    let v = 0;
    for (let i = 0; i < depth; i++)
      for (let r = 0; r < tall; r++)
        for (let c = 0; c < wide; c++, v++) {
          if (before[v] || (within && !within[v])) continue;
          if (
            (c > 0 && before[v - 1]) ||
            (c < wide - 1 && before[v + 1]) ||
            (r > 0 && before[v - wide]) ||
            (r < tall - 1 && before[v + wide]) ||
            (!inPlane && ((i > 0 && before[v - plane]) || (i < depth - 1 && before[v + plane])))
          )
            now[v] = 1;
        }
  }
  return now;
}

// What keeps all 6 neighbours; those outside of the image count as `outside`.
export function erode(mask, shape, outside) {
  const left = not(dilate(not(mask), shape));
  if (!outside) forEachBorder(shape, (v) => (left[v] = 0));
  return left;
}

function forEachBorder([depth, tall, wide], visit) {
  for (let i = 0; i < depth; i++)
    for (let r = 0; r < tall; r++) {
      const inside = i > 0 && i < depth - 1 && r > 0 && r < tall - 1;
      for (let c = 0; c < wide; c += inside && wide > 1 ? wide - 1 : 1) visit((i * tall + r) * wide + c);
    }
}

export const opened = (mask, shape) => dilate(erode(mask, shape, 0), shape);

// The largest value within `reach` voxels along one axis, in place of each.
export function grownAlong(mask, shape, axis, reach) {
  const stride = [shape[1] * shape[2], shape[2], 1][axis];
  const grown = mask.slice();
  for (let v = 0; v < mask.length; v++) {
    if (!mask[v]) continue;
    const place = Math.floor(v / stride) % shape[axis];
    const [low, high] = [Math.max(-reach, -place), Math.min(reach, shape[axis] - 1 - place)];
    for (let k = low; k <= high; k++) grown[v + k * stride] = 1;
  }
  return grown;
}

// Connected parts, numbered from 1 in `labels`: of 6 neighbours, or of 26 where `touching`.
export function label(mask, shape, touching = false) {
  const [depth, tall, wide] = shape;
  const steps = [];
  for (const i of [-1, 0, 1])
    for (const r of [-1, 0, 1])
      for (const c of [-1, 0, 1]) {
        const away = Math.abs(i) + Math.abs(r) + Math.abs(c);
        if (away === 1 || (touching && away > 0)) steps.push([i, r, c, (i * tall + r) * wide + c]);
      }
  const labels = new Int32Array(size(shape));
  const waiting = [];
  let found = 0;
  for (let start = 0; start < labels.length; start++) {
    if (!mask[start] || labels[start]) continue;
    labels[start] = ++found;
    waiting.push(start);
    while (waiting.length) {
      const v = waiting.pop();
      const [c, r, i] = [v % wide, Math.floor(v / wide) % tall, Math.floor(v / (wide * tall))];
      for (const [di, dr, dc, step] of steps) {
        const [ni, nr, nc] = [i + di, r + dr, c + dc];
        if (ni < 0 || nr < 0 || nc < 0 || ni >= depth || nr >= tall || nc >= wide) continue;
        if (!mask[v + step] || labels[v + step]) continue;
        labels[v + step] = found;
        waiting.push(v + step);
      }
    }
  }
  return { labels, count: found };
}

// How many voxels each label has; the first is 0's.
export function sizes({ labels, count: n }) {
  const found = new Float64Array(n + 1);
  for (const one of labels) found[one]++;
  return found;
}

// The number of the largest label, the first of equals; 0 where there is none.
export function largest(labelled) {
  const n = sizes(labelled);
  let best = 0;
  for (let k = 1; k < n.length; k++) if (!best || n[k] > n[best]) best = k;
  return best;
}

// What is joined to the border of the image within its own axial slice.
export function borderConnected(mask, shape) {
  const [depth, tall, wide] = shape;
  const joined = new Uint8Array(mask.length);
  const waiting = [];
  const reach = (v) => {
    if (!mask[v] || joined[v]) return;
    joined[v] = 1;
    waiting.push(v);
  };
  for (let i = 0; i < depth; i++) {
    const first = i * tall * wide;
    for (let c = 0; c < wide; c++) [first + c, first + (tall - 1) * wide + c].forEach(reach);
    for (let r = 0; r < tall; r++) [first + r * wide, first + r * wide + wide - 1].forEach(reach);
    while (waiting.length) {
      const v = waiting.pop();
      const [c, r] = [v % wide, Math.floor((v - first) / wide)];
      if (c > 0) reach(v - 1);
      if (c < wide - 1) reach(v + 1);
      if (r > 0) reach(v - wide);
      if (r < tall - 1) reach(v + wide);
    }
  }
  return joined;
}

// The squared distance in mm of each voxel to the nearest of the mask (Felzenszwalb and Huttenlocher 2012).
export function squaredDistance(mask, shape, spacing) {
  const squared = mapped(Float64Array, mask, (value) => (value ? 0 : Infinity));
  const strides = [shape[1] * shape[2], shape[2], 1];
  for (const axis of [2, 1, 0]) {
    const [n, stride] = [shape[axis], strides[axis]];
    const line = new Float64Array(n);
    for (let v = 0; v < squared.length; v++) {
      if (Math.floor(v / stride) % n) continue; // not the first of its line
      for (let k = 0; k < n; k++) line[k] = squared[v + k * stride];
      const nearest = lowerEnvelope(line, spacing[axis] ** 2);
      for (let k = 0; k < n; k++) squared[v + k * stride] = nearest[k];
    }
  }
  return squared;
}

// For each k the least of line[j] + weight (k - j)².
function lowerEnvelope(line, weight) {
  const n = line.length;
  const [place, from, out] = [new Int32Array(n), new Float64Array(n + 1), new Float64Array(n)];
  let last = -1;
  for (let k = 0; k < n; k++) {
    if (line[k] === Infinity) continue;
    let meets = -Infinity;
    while (last >= 0) {
      const j = place[last];
      meets = (line[k] - line[j] + weight * (k * k - j * j)) / (2 * weight * (k - j));
      if (meets > from[last]) break;
      last--;
      meets = -Infinity;
    }
    place[++last] = k;
    from[last] = meets;
  }
  if (last < 0) return out.fill(Infinity);
  from[last + 1] = Infinity;
  for (let k = 0, now = 0; k < n; k++) {
    while (from[now + 1] < k) now++;
    out[k] = line[place[now]] + weight * (k - place[now]) ** 2;
  }
  return out;
}

// The first and the last voxel of a mask along each axis.
export function boundsOf(mask, [depth, tall, wide]) {
  const [low, high] = [
    [Infinity, Infinity, Infinity],
    [-1, -1, -1],
  ];
  for (let i = 0, v = 0; i < depth; i++)
    for (let r = 0; r < tall; r++)
      for (let c = 0; c < wide; c++, v++)
        if (mask[v]) {
          if (i < low[0]) low[0] = i;
          if (i > high[0]) high[0] = i;
          if (r < low[1]) low[1] = r;
          if (r > high[1]) high[1] = r;
          if (c < low[2]) low[2] = c;
          if (c > high[2]) high[2] = c;
        }
  return [low, high];
}
