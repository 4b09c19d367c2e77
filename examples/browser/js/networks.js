// The exported networks under onnxruntime-web: with threads where the page is isolated, and SIMD.

import * as ort from "../vendor/ort.wasm.min.mjs";

const MOST_THREADS = 8; // more gain little, and take memory
const SMALL_SIDE = 128;

// A function from HU (a Float32Array) and their shape to the answers by name.
export async function loadNetwork(url, output) {
  const session = await ort.InferenceSession.create(url.href, {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
  });
  const network = async (hu, shape) => {
    const input = new ort.Tensor("float32", hu, shape);
    const answers = await session.run({ [session.inputNames[0]]: input }, [output]);
    const data = { [output]: answers[output].data };
    input.dispose();
    return data;
  };
  network.release = () => session.release();
  return network;
}

// Voxels along a side of the cube that one pass may be as large as: null for as large as Python's. A small device
// takes 128: half of the memory, up to twice the time, and faint findings may be some hundredths off Python's.
export function tileSide(wanted) {
  const isSmall = (navigator.deviceMemory ?? 8) < 8 || /Mobi/.test(navigator.userAgent);
  return wanted || (isSmall ? SMALL_SIDE : null);
}

// How many threads will compute; wanted: so many, where the browser lets a page have threads at all.
export function setThreads(wanted) {
  const able = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
  ort.env.wasm.numThreads = wanted && able > 1 ? Math.min(wanted, able) : able;
  ort.env.wasm.wasmPaths = new URL("../vendor/", import.meta.url).href;
  ort.env.logLevel = "error";
  return ort.env.wasm.numThreads;
}
