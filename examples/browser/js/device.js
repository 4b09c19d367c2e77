// What a search takes of this device. Both are told what the address asks for: text, or null where it does not.

import { clamp } from "./geometry.js";

const MOST_THREADS = 8; // more gain little, and take memory
const SMALL_SIDE = 128;
const LEAST_SIDE = 48; // two margins and a multiple of tiles.py: see `planTiles`

// How many threads compute: as many as the processor has, where the browser lets a page have threads at all.
export function threadCount(asked) {
  const able = self.crossOriginIsolated ? clamp(navigator.hardwareConcurrency || 1, 1, MOST_THREADS) : 1;
  return clamp(Math.trunc(Number(asked)) || able, 1, able);
}

// Voxels along a side of the cube that one pass may be as large as: null for as large as Python's. A small device
// takes 128: half of the memory, up to twice the time, and faint findings may be some hundredths off Python's.
export function tileSide(asked) {
  const isSmall = (navigator.deviceMemory ?? 8) < 8 || /Mobi/.test(navigator.userAgent);
  const side = Math.trunc(Number(asked)) || (isSmall ? SMALL_SIDE : null);
  return side && Math.max(side, LEAST_SIDE);
}
