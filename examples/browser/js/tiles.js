// A fully convolutional network over a volume that is too large for one pass: p2ch_luna/inference/tiles.py.
// A tile is { core, read }, two boxes { low, high } of voxels: where its answer is kept, and what it sees.

import { boxOf, copyPadded, size } from "./geometry.js";
import { boundsOf } from "./morphology.js";

// Covers a lung mask and its rim: boxes are halved until one pass holds them, each shrunk to its lung first.
export function planTiles(lung, shape, k) {
  if (k.MARGIN % k.MULTIPLE || k.MAX_VOXELS < (2 * k.MARGIN + k.MULTIPLE) ** 3)
    throw new Error(`cannot tile with margin ${k.MARGIN} and ${k.MAX_VOXELS} voxels a pass`);
  const up = (n) => Math.ceil(n / k.MULTIPLE) * k.MULTIPLE;
  const padded = shape.map(up);
  const tiles = [];
  const regions = [{ low: [0, 0, 0], high: padded }];
  while (regions.length) {
    const box = shrunk(lung, shape, regions.pop(), k, up);
    if (!box) continue;
    const { low, high } = box;
    const read = {
      low: low.map((n) => Math.max(n - k.MARGIN, 0)),
      high: high.map((n, a) => Math.min(n + k.MARGIN, padded[a])),
    };
    if (size(sides(read)) <= k.MAX_VOXELS) {
      tiles.push({ core: { low, high: high.map((n, a) => Math.min(n, shape[a])) }, read });
      continue;
    }
    const length = sides(box);
    const axis = length.indexOf(Math.max(...length));
    const middle = low[axis] + up(Math.floor(length[axis] / 2));
    const [upper, lower] = [[...low], [...high]];
    upper[axis] = lower[axis] = middle;
    regions.push({ low: upper, high }, { low, high: lower });
  }
  return tiles;
}

export const sides = ({ low, high }) => high.map((n, a) => n - low[a]);

// Nodule probability of each voxel of a CT; 0 where there is no tile. `network` takes HU and their shape.
export async function segment(network, ct, tiles, advance) {
  const probability = new Float32Array(size(ct.shape));
  for (const tile of tiles) {
    const shape = sides(tile.read);
    const hu = new Float32Array(size(shape));
    copyPadded(ct, tile.read.low, shape, ct.airHu, hu);
    const { mask_logit: logit } = await network(hu, [1, 1, ...shape]);
    keep(logit, shape, tile, probability, ct.shape);
    advance(1);
  }
  return probability;
}

// The sigmoid in 32 bits. Throws where a network answers NaN.
export function sigmoid(logit, name) {
  if (Number.isNaN(logit)) throw new Error(`the ${name} network answers NaN for this scan; wanted numbers`);
  return Math.fround(1 / (1 + Math.exp(-logit)));
}

function keep(logit, shape, { core, read }, probability, whole) {
  for (let i = core.low[0]; i < core.high[0]; i++)
    for (let r = core.low[1]; r < core.high[1]; r++) {
      let from = ((i - read.low[0]) * shape[1] + r - read.low[1]) * shape[2] + core.low[2] - read.low[2];
      let to = (i * whole[1] + r) * whole[2] + core.low[2];
      for (let c = core.low[2]; c < core.high[2]; c++)
        probability[to++] = sigmoid(logit[from++], "segmentation");
    }
}

// The smallest box within another, at multiples of MULTIPLE, around its lung and rim; null without lung.
function shrunk(lung, shape, { low, high }, k, up) {
  const stop = high.map((n, a) => Math.min(n, shape[a]));
  const wanted = stop.map((n, a) => n - low[a]);
  if (Math.min(...wanted) <= 0) return null;
  const [first, last] = boundsOf(boxOf(lung, shape, low, wanted), wanted);
  if (last[0] < 0) return null;
  return {
    low: low.map((n, a) => Math.max(n, Math.floor((n + first[a] - k.RIM) / k.MULTIPLE) * k.MULTIPLE)),
    high: high.map((n, a) => Math.min(n, up(low[a] + last[a] + 1 + k.RIM))),
  };
}
