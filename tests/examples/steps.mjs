// Steps of examples/browser/js on a scan, in node, for test_browser.py.
// usage: node steps.mjs JS_FOLDER PIPELINE_JSON SCAN OUT [PROBABILITY]

import { File } from "node:buffer"; // no global before Node 20
import { readFile, readdir, stat, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

const [folder, pipeline, scan, out, map] = process.argv.slice(2);
const load = (name) => import(join(folder, name));
const { readCt } = await load("formats.js");
const { findLungs, prepare } = await load("lungs.js");
const { planTiles } = await load("tiles.js");
const { propose } = await load("propose.js");

const settings = JSON.parse(await readFile(pipeline, "utf8"));
const paths = (await stat(scan)).isDirectory()
  ? (await readdir(scan)).map((name) => join(scan, name))
  : [scan];
const files = await Promise.all(paths.map(async (path) => new File([await readFile(path)], basename(path))));
const ct = await readCt(files, settings.checks);
const lungs = findLungs(ct, settings.lungs);
const facts = {
  shape: ct.shape,
  geometry: ct.geometry,
  warning: lungs.warning,
  lungs: { shape: lungs.shape, geometry: lungs.geometry },
};
await writeFile(join(out, "hu.raw"), Float32Array.from(ct.hu));
if (!lungs.warning) {
  const prepared = prepare(ct, lungs, settings.lungs);
  facts.prepared = { shape: prepared.shape, geometry: prepared.geometry };
  facts.tiles = planTiles(prepared.lung, prepared.shape, settings.tiles);
  for (const [name, voxels] of [
    ["mask", lungs.mask],
    ["sides", lungs.sides],
    ["prepared", prepared.hu],
    ["lung", prepared.lung],
  ])
    await writeFile(join(out, `${name}.raw`), voxels);
  if (map) {
    const bytes = await readFile(map);
    const probability = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const { kept, dropped } = propose(probability, prepared, settings.proposal);
    const bare = ({ voxels: _, ...one }) => one;
    facts.candidates = { kept: kept.map(bare), dropped: dropped.map(bare) };
  }
}
await writeFile(join(out, "facts.json"), JSON.stringify(facts));
