// Asks a classifier about each candidate: p2ch_luna/inference/classify.py.

import { copyPadded, cropStart, size, toIrc } from "./geometry.js";
import { sigmoid } from "./tiles.js";

// The probabilities that `output` of a network gives candidates of a CT of 1 mm voxels, in their order.
export async function classify(network, ct, candidates, { cropIrc, output, name, batch }, advance) {
  const found = [];
  for (let start = 0; start < candidates.length; start += batch) {
    const some = candidates.slice(start, start + batch);
    const hu = new Float32Array(some.length * size(cropIrc));
    some.forEach((one, at) => {
      const center = toIrc(ct.geometry, one.centerXyz);
      copyPadded(ct, cropStart(center, cropIrc), cropIrc, ct.airHu, hu, at * size(cropIrc));
    });
    const answers = await network(hu, [some.length, 1, ...cropIrc]);
    for (const logit of answers[output]) found.push(sigmoid(logit, name));
    advance(some.length);
  }
  return found;
}
