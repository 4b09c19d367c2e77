// What a scan's slices keep from being seen: p2ch_luna/io/opened.py.

import { rint } from "./geometry.js";

// geometry: of the scan as it was read.    thicknessMm: of a slice, if it is told.
// k: the constants of opened.py.
export function sliceWarnings(geometry, thicknessMm, k) {
  const step = geometry.spacing[2];
  const thick = thicknessMm > 0 ? thicknessMm : step;
  const [apart, told] = [rounded(step, 3), `slices are ${rounded(thick, 6)} mm thick`];
  const warnings = [];
  if (step > k.GAP * thick) warnings.push(`${told} and ${apart} mm apart: a nodule may lie in a gap`);
  if (step < k.OVERLAP * thick)
    warnings.push(`${told} and ${apart} mm apart: they overlap by more than half`);
  if (step > k.WIDE_MM) warnings.push(`slices lie ${apart} mm apart: small nodules may be missed`);
  else if (thick > k.THICK_MM) warnings.push(`${told}: small nodules may be missed`);
  return warnings;
}

// As Python's format `g` rounds: a half, such as 3.125 has, to the even digit. toPrecision rounds it up.
function rounded(mm, digits) {
  const scale = 10 ** (digits - 1 - Math.floor(Math.log10(mm)));
  const isExact = Number.isInteger(1024 * mm); // else no half, but its product with the scale may look like one
  return isExact ? rint(mm * scale) / scale : Number(mm.toPrecision(digits));
}
