// Reads and searches a scan beside the page, so that the page stays awake. Told { files, threads, tile }, it tells
// { type: "stage" | "advance" | "done" | "error" }. threads, tile: see device.js.

import { diagnose } from "./detector.js";
import { readCt } from "./formats.js";
import { loadNetwork, setThreads } from "./networks.js";

const built = new URL("../built/", import.meta.url);

self.onmessage = async ({ data: { files, threads, tile } }) => {
  try {
    const settings = await (await fetch(new URL("pipeline.json", built))).json();
    setThreads(threads);
    if (tile) settings.tiles.MAX_VOXELS = Math.min(settings.tiles.MAX_VOXELS, tile ** 3);
    const start = performance.now();
    self.postMessage({ type: "stage", name: "reading", total: null });
    const ct = await readCt(files, settings.checks);
    const reading = (performance.now() - start) / 1000;
    const load = (stage) =>
      loadNetwork(new URL(settings.networks[stage].file, built), settings.networks[stage].output);
    const found = await diagnose(ct, settings, load, (message) => self.postMessage(message));
    found.timings = { reading, ...found.timings };
    const { threshold, fp_per_scan: fpPerScan, version } = settings;
    const bare = { name: ct.name, shape: ct.shape, geometry: ct.geometry };
    const { hu } = found.canonical;
    self.postMessage({ type: "done", found, ct: bare, threshold, fpPerScan, version }, [hu.buffer]);
  } catch (error) {
    self.postMessage({ type: "error", message: error.message });
  }
};
