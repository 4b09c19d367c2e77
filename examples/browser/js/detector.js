// The whole way from a CT to scored findings: p2ch_luna/inference/detector.py and report/build.py.

import { coverageWarnings } from "./anatomy.js";
import { classify } from "./classify.js";
import { toCanonical } from "./geometry.js";
import { jointProbability } from "./joint.js";
import { findLungs, prepare } from "./lungs.js";
import { measure } from "./measure.js";
import { propose } from "./propose.js";
import { planTiles, segment } from "./tiles.js";

// settings: pipeline.json.    load: gives a network by its stage.    tell: hears of each stage and its steps.
export async function diagnose(ct, settings, load, tell) {
  const told = new Clock(tell);
  told.stage("lungs");
  const canonical = toCanonical(ct);
  const lungs = findLungs(canonical, settings.lungs);
  if (lungs.warning)
    return {
      ...told.end(),
      canonical,
      findings: [],
      rejected: 0,
      warnings: [...ct.warnings, `${lungs.warning}; nothing was searched`],
      isSearched: false,
    };
  const prepared = { ...prepare(canonical, lungs, settings.lungs), airHu: settings.AIR_HU };
  const probability = await segmented(prepared, settings, load, told);
  told.stage("candidates");
  const { kept, dropped } = propose(probability, prepared, settings.proposal);
  const judged = await joined(prepared, kept, settings, load, told);
  told.stage("measuring");
  const found = judged.filter((one) => one.noduleProbability >= settings.threshold);
  const taken = new Uint8Array(canonical.hu.length);
  const findings = found.map(({ voxels: _, ...one }, k) => ({
    ...one,
    id: `F${k + 1}`,
    label: k + 1,
    ...measure(canonical, found[k], probability, prepared, taken),
  }));
  return {
    ...told.end(),
    canonical,
    findings,
    rejected: judged.length - found.length + dropped.length,
    warnings: [...ct.warnings, ...coverageWarnings(lungs, settings.lungs)],
    isSearched: true,
  };
}

async function segmented(prepared, settings, load, told) {
  const tiles = planTiles(prepared.lung, prepared.shape, settings.tiles);
  told.stage("networks");
  const network = await load("segmentation");
  told.stage("segmentation", tiles.length);
  const probability = await segment(network, prepared, tiles, told.advance);
  await network.release(); // it holds most of the memory
  return probability;
}

// The candidates with both stages' opinions, the most probable first.
async function joined(prepared, candidates, settings, load, told) {
  const opinions = {};
  for (const stage of ["nodule", "malignancy"]) {
    told.stage(stage === "nodule" ? "classification" : stage, candidates.length);
    const network = await load(stage);
    const how = { ...settings.networks[stage], name: stage, batch: settings.BATCH };
    opinions[stage] = await classify(network, prepared, candidates, how, told.advance);
    await network.release();
  }
  const judged = candidates.map((one, k) => ({
    ...one,
    classifierProbability: opinions.nodule[k],
    malignancyProbability: opinions.malignancy[k],
    noduleProbability: jointProbability(one.probability, opinions.nodule[k], settings.joint),
  }));
  return judged.sort((a, b) => b.noduleProbability - a.noduleProbability);
}

// Tells of stages and keeps how long each took.
class Clock {
  constructor(tell) {
    this.tell = tell;
    this.timings = {};
    this.advance = (steps) => tell({ type: "advance", steps });
  }

  stage(name, total = null) {
    this.end();
    [this.name, this.start] = [name, performance.now()];
    this.tell({ type: "stage", name, total });
  }

  end() {
    if (this.name) this.timings[this.name] = (performance.now() - this.start) / 1000;
    this.name = null;
    return { timings: this.timings };
  }
}
