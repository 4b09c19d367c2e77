// The exported networks under onnxruntime-web: with threads where the page is isolated, and SIMD.

import * as ort from "../vendor/ort.wasm.min.mjs";

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

export function setThreads(threads) {
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = new URL("../vendor/", import.meta.url).href;
  ort.env.logLevel = "error";
}
