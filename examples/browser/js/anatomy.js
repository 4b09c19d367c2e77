// What the lungs tell of the scan: p2ch_luna/inference/anatomy.py.

import { AXES, spacingIrc } from "./geometry.js";
import { placeOf } from "./propose.js";

const ENDS = [
  ["bottom", "top"],
  ["front", "back"],
  ["right", "left"],
];

// At which ends of the scan the lungs are cut off, and how much of them lies there.
export function coverageWarnings({ sides, shape, geometry }, k) {
  const area = [
    [0, 0],
    [0, 0],
    [0, 0],
  ];
  sides.forEach((side, v) => {
    if (!side) return;
    placeOf(v, shape).forEach((n, a) => {
      area[a][0] += n === 0 ? 1 : 0;
      area[a][1] += n === shape[a] - 1 ? 1 : 0;
    });
  });
  const spacing = spacingIrc(geometry);
  return AXES.flatMap((a) => {
    const cm2 = AXES.reduce((product, b) => (a === b ? product : product * spacing[b]), 1) / 100;
    return [0, 1]
      .filter((end) => area[a][end] * cm2 >= k.CUT_CM2)
      .map(
        (end) =>
          `the lungs are cut off at the ${ENDS[a][end]} of the scan, across ${(area[a][end] * cm2).toFixed(0)} cm²`,
      );
  });
}
