// What every reader demands of voxels before they count as a CT: p2ch_luna/io/checks.py.

import { AXES, determinant, size, spacingIrc, toXyz } from "./geometry.js";

// { origin, spacing, direction } that a file states, its direction freed of the rounding in the file.
export function makeGeometry(origin, spacing, direction) {
  if (![...origin, ...spacing, ...direction.flat()].every(Number.isFinite))
    throw new Error("the place of its voxels is not told in numbers");
  if (Math.min(...spacing) <= 0)
    throw new Error(`spacing must be three positive mm, got ${spacing.join(", ")}`);
  const square = AXES.map((a) =>
    AXES.map((b) => AXES.reduce((sum, k) => sum + direction[k][a] * direction[k][b], 0)),
  );
  const isOrthonormal = square.every((row, a) =>
    row.every((value, b) => Math.abs(value - Number(a === b)) < 1e-4),
  );
  if (!isOrthonormal)
    throw new Error("its axes are not at right angles; wanted a volume that is not sheared");
  return { origin, spacing, direction: nearestRotation(direction) };
}

// Newton's iteration for the polar decomposition: the orthonormal matrix nearest to another.
function nearestRotation(matrix) {
  let now = matrix;
  for (let turn = 0; turn < 5; turn++) {
    const back = inverse(now);
    now = now.map((row, i) => row.map((value, j) => (value + back[j][i]) / 2));
  }
  return now;
}

function inverse(m) {
  const det = determinant(m);
  const minor = (i, j) => {
    const [a, b] = AXES.filter((k) => k !== i);
    const [c, d] = AXES.filter((k) => k !== j);
    return (m[a][c] * m[b][d] - m[a][d] * m[b][c]) * ((i + j) % 2 ? -1 : 1);
  };
  return AXES.map((i) => AXES.map((j) => minor(j, i) / det));
}

// { hu, shape, geometry, name } of voxels in HU: 16 bits where they are integers that fit, else 32-bit floats.
export function makeCt(name, voxels, shape, geometry, k) {
  checkShape(shape, geometry, k);
  const fits = checkValues(voxels, k) <= 32767 && !/Float/.test(voxels.constructor.name);
  const hu = new (fits ? Int16Array : Float32Array)(voxels.length);
  for (let v = 0; v < hu.length; v++) hu[v] = Math.max(Number(voxels[v]), k.PADDING_HU);
  return rightHanded({ name, hu, shape, geometry });
}

function checkShape(shape, geometry, k) {
  if (Math.min(...shape) < k.MIN_VOXELS)
    throw new Error(
      `${shape[0]} slice(s) of ${shape[1]} x ${shape[2]} voxels; wanted at least ${k.MIN_VOXELS} each way`,
    );
  const extent = shape.map((n, a) => n * spacingIrc(geometry)[a]);
  const told = extent.map((mm) => mm.toFixed(1)).join(" x ");
  if (Math.min(...extent) < k.MIN_EXTENT_MM)
    throw new Error(`the volume is ${told} mm; wanted at least ${k.MIN_EXTENT_MM} mm each way`);
  if ([...extent].sort((a, b) => a - b)[1] > k.MAX_WIDTH_MM)
    throw new Error(`the volume is ${told} mm; wanted at most ${k.MAX_WIDTH_MM} mm of width`);
}

// The highest value.
function checkValues(voxels, k) {
  let [low, high] = [Infinity, -Infinity];
  for (let v = 0; v < voxels.length; v++) {
    const value = Number(voxels[v]);
    if (!Number.isFinite(value))
      throw new Error("it has voxels that are NaN or infinite; wanted a number of HU in each");
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > k.AIR_BELOW_HU)
    throw new Error(`values from ${low} to ${high}; wanted HU, with air below ${k.AIR_BELOW_HU}`);
  if (high < k.TISSUE_ABOVE_HU)
    throw new Error(`all air, values from ${low} to ${high}; wanted tissue above ${k.TISSUE_ABOVE_HU} HU`);
  return high;
}

// Slices reversed where needed, so that they run along column x row, as DICOM orders them.
function rightHanded(ct) {
  const { hu, shape, geometry } = ct;
  if (determinant(geometry.direction) > 0) return ct;
  const plane = shape[1] * shape[2];
  const out = new hu.constructor(size(shape));
  for (let i = 0; i < shape[0]; i++)
    out.set(hu.subarray(i * plane, (i + 1) * plane), (shape[0] - 1 - i) * plane);
  const direction = geometry.direction.map(([x, y, z]) => [x, y, -z]);
  return {
    ...ct,
    hu: out,
    geometry: { ...geometry, origin: toXyz(geometry, [shape[0] - 1, 0, 0]), direction },
  };
}
