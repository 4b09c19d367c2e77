// Where voxels lie in the patient, and the few array operations that must respect it: p2ch_luna/geometry.py.
// A volume is { hu, shape, geometry }: an Int16Array or Float32Array of shape [slices, rows, columns].
// A geometry is { origin, spacing, direction }: LPS mm along x, y, z; the columns of `direction`, a list of 3
// rows, are the unit steps of column, row and slice. `irc` is (index, row, column), it may be fractional.

// To the nearest whole number, halves to the even one, as NumPy and Python round.
export function rint(x) {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}

export const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
export const size = (shape) => shape[0] * shape[1] * shape[2];
export const AXES = [0, 1, 2];

// As `Type.from(values, change)`, which is many times slower.
export function mapped(Type, values, change) {
  const out = new Type(values.length);
  for (let v = 0; v < out.length; v++) out[v] = change(values[v], v);
  return out;
}

export function toXyz({ origin, spacing, direction }, irc) {
  return AXES.map(
    (k) => origin[k] + AXES.reduce((sum, a) => sum + direction[k][a] * irc[2 - a] * spacing[a], 0),
  );
}

export function toIrc({ origin, spacing, direction }, xyz) {
  const along = AXES.map(
    (a) => AXES.reduce((sum, k) => sum + (xyz[k] - origin[k]) * direction[k][a], 0) / spacing[a],
  );
  return along.reverse();
}

export const spacingIrc = (geometry) => [...geometry.spacing].reverse();

// The geometry of an array whose first voxel is this one's `irc`.
export function movedTo(geometry, irc) {
  return { ...geometry, origin: toXyz(geometry, irc) };
}

export function determinant([a, b, c]) {
  return (
    a[0] * (b[1] * c[2] - b[2] * c[1]) -
    a[1] * (b[0] * c[2] - b[2] * c[0]) +
    a[2] * (b[0] * c[1] - b[1] * c[0])
  );
}

// The assignment of image axes to LPS axes that turns the image least.
function nearestAxes(direction) {
  const orders = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  const alignment = (axes) => AXES.reduce((sum, k) => sum + Math.abs(direction[k][axes[k]]), 0);
  return orders.reduce((best, axes) => (alignment(axes) > alignment(best) ? axes : best));
}

// Swaps and flips axes so that columns run most nearly left, rows back and slices up; a tilt remains.
export function toCanonical(volume) {
  const { hu, geometry } = volume;
  const axes = nearestAxes(geometry.direction);
  const order = [2, 1, 0].map((k) => 2 - axes[k]);
  const signs = AXES.map((k) => (geometry.direction[k][axes[k]] < 0 ? -1 : 1));
  if (order.every((axis, k) => axis === k) && signs.every((sign) => sign > 0)) return volume;
  const shape = order.map((axis) => volume.shape[axis]);
  const direction = geometry.direction.map((row) => axes.map((a) => row[a]));
  const turned = { origin: geometry.origin, spacing: axes.map((a) => geometry.spacing[a]), direction };
  const far = AXES.map((axis) => (signs[2 - axis] < 0 ? shape[axis] - 1 : 0));
  const flipped = {
    ...turned,
    origin: toXyz(turned, far),
    direction: direction.map((row) => row.map((d, a) => d * signs[a])),
  };
  const strides = [volume.shape[1] * volume.shape[2], volume.shape[2], 1];
  const step = order.map((axis, k) => strides[axis] * signs[2 - k]);
  const start = AXES.reduce((sum, k) => sum + far[k] * strides[order[k]], 0);
  const out = new hu.constructor(hu.length);
  let to = 0;
  for (let i = 0; i < shape[0]; i++)
    for (let r = 0; r < shape[1]; r++) {
      let from = start + i * step[0] + r * step[1];
      for (let c = 0; c < shape[2]; c++, from += step[2]) out[to++] = hu[from];
    }
  return { ...volume, hu: out, shape, geometry: flipped };
}

// The part from voxel `low` up to, not including, `high`, clipped to the volume.
export function cropBox(volume, low, high) {
  const { hu, shape, geometry } = volume;
  const first = low.map((n, k) => clamp(n, 0, shape[k]));
  const wanted = high.map((n, k) => clamp(n, 0, shape[k]) - first[k]);
  if (Math.min(...wanted) <= 0) throw new Error(`box ${low} to ${high} is empty in a CT of shape ${shape}`);
  return {
    ...volume,
    hu: boxOf(hu, shape, first, wanted),
    shape: wanted,
    geometry: movedTo(geometry, first),
  };
}

// A box of `wanted` voxels, all inside, from voxel `low` of an array of `shape` on.
export function boxOf(array, shape, low, wanted) {
  const out = new array.constructor(size(wanted));
  for (let i = 0; i < wanted[0]; i++)
    for (let r = 0; r < wanted[1]; r++) {
      const from = ((low[0] + i) * shape[1] + low[1] + r) * shape[2] + low[2];
      out.set(array.subarray(from, from + wanted[2]), (i * wanted[1] + r) * wanted[2]);
    }
  return out;
}

// Float32 HU of `wanted` voxels from voxel `start` on, into `out` at `at`; outside of the volume it is `fill`.
export function copyPadded(volume, start, wanted, fill, out, at = 0) {
  const { hu, shape } = volume;
  out.fill(fill, at, at + size(wanted));
  const low = start.map((n) => Math.max(n, 0));
  const high = start.map((n, k) => Math.min(n + wanted[k], shape[k]));
  if (low[2] >= high[2]) return;
  for (let i = low[0]; i < high[0]; i++)
    for (let r = low[1]; r < high[1]; r++) {
      const from = (i * shape[1] + r) * shape[2];
      const to = at + ((i - start[0]) * wanted[1] + r - start[1]) * wanted[2] + low[2] - start[2];
      out.set(hu.subarray(from + low[2], from + high[2]), to);
    }
}

// The voxel that becomes the first of a crop of `shape`, whose middle is the voxel nearest to `center`.
export function cropStart(center, shape) {
  return center.map((place, k) => Math.floor(place + 0.5) - Math.floor(shape[k] / 2));
}

// Brings a volume to cubes of `mm`; its low corner stays. Linear; where voxels grow the kernel is as wide as they.
export function resample(volume, mm) {
  const { geometry } = volume;
  const step = spacingIrc(geometry).map((spacing) => mm / spacing);
  const shape = volume.shape.map((n, k) => Math.max(1, rint(n / step[k])));
  let { hu } = volume;
  const now = [...volume.shape];
  for (const axis of [...AXES].sort((a, b) => step[b] - step[a])) {
    hu = resampleAxis(hu, now, axis, shape[axis], step[axis]);
    now[axis] = shape[axis];
  }
  if (volume.hu instanceof Int16Array) hu = mapped(Int16Array, hu, rint);
  const moved = movedTo(
    geometry,
    step.map((s) => (s - 1) / 2),
  );
  return { ...volume, hu, shape, geometry: { ...moved, spacing: [mm, mm, mm] } };
}

function resampleAxis(hu, shape, axis, n, step) {
  if (n === shape[axis] && Math.abs(step - 1) < 1e-9) return hu;
  const { taps, weights, count } = tapsOf(shape[axis], n, step);
  const outer = shape.slice(0, axis).reduce((a, b) => a * b, 1);
  const inner = shape.slice(axis + 1).reduce((a, b) => a * b, 1);
  const out = new Float32Array(outer * n * inner);
  for (let o = 0; o < outer; o++)
    for (let j = 0; j < n; j++) {
      const to = (o * n + j) * inner;
      for (let k = 0; k < count; k++) {
        const from = (o * shape[axis] + taps[j * count + k]) * inner;
        const weight = weights[j * count + k];
        // rounded to 32 bits at each step, as NumPy does it
        for (let i = 0; i < inner; i++)
          out[to + i] = Math.fround(out[to + i]) + Math.fround(hu[from + i] * weight);
      }
    }
  return out;
}

// Which voxels each new one is made of, `count` each, and how much of each.
function tapsOf(before, n, step) {
  const reach = Math.max(1, step);
  const count = Math.ceil(2 * reach);
  const [taps, weights] = [new Int32Array(n * count), new Float32Array(n * count)];
  for (let j = 0; j < n; j++) {
    const position = (j + 0.5) * step - 0.5;
    const first = Math.floor(position - reach) + 1;
    const share = Array.from({ length: count }, (_, k) =>
      Math.max(0, 1 - Math.abs(first + k - position) / reach),
    );
    const all = share.reduce((a, b) => a + b);
    share.forEach((one, k) => {
      taps[j * count + k] = clamp(first + k, 0, before - 1);
      weights[j * count + k] = one / all;
    });
  }
  return { taps, weights, count };
}
