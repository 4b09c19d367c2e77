// What was found, in the shape of report.html, so that the report's own page.js drives the viewer.

import { toIrc } from "./geometry.js";

const CROSSHAIR_GAP_MM = 4; // between a finding's edge and the crosshair
const THUMBNAIL_MM = 40;
const THUMBNAIL_PIXELS = 152;
const SCRIPTS = ["vendor/niivue.umd.js", "vendor/volume.js", "vendor/viewer.js"];
const HEADER = ["", "Where", "Size", "Nodule", "Malignant"];
const percent = (share) => (share > 0.995 ? "> 99%" : share < 0.005 ? "< 1%" : `${Math.round(100 * share)}%`);

// Fills `bench` with what the worker told when it was done.
export async function show(bench, told) {
  const { findings, canonical } = told.found;
  bench.classList.toggle("empty", !told.found.isSearched);
  const above = element(
    "div",
    { className: "above" },
    heading(told),
    warnings(told.found.warnings),
    table(told),
    actions(told),
  );
  bench.replaceChildren(above);
  if (!told.found.isSearched) return;
  const section = new DOMParser()
    .parseFromString(await (await fetch("vendor/viewer.html")).text(), "text/html")
    .querySelector("#viewer");
  section.querySelector(".chips").replaceChildren(
    ...findings.map(({ id }) => {
      const chip = element("button", { className: "chip", textContent: id });
      chip.setAttribute("aria-pressed", "false");
      return chip;
    }),
  );
  section.querySelector(":scope > .note").textContent = "The scan as it is, every voxel of it.";
  bench.append(section, json("facts", facts(told)), json("slices", ""));
  for (const script of SCRIPTS) await loaded(script);
  // volume.js reads what a report holds; here is the scan itself
  globalThis.unpackCt = async (volume) => filled(globalThis.emptyNifti(volume), canonical.hu);
  globalThis.forEachMarked = (_, visit) => findings.forEach((finding) => visitMarked(finding, visit));
  await loaded("vendor/page.js");
}

function filled(nifti, hu) {
  const voxels = new Int16Array(nifti, nifti.byteLength - 2 * hu.length);
  for (let v = 0; v < hu.length; v++) voxels[v] = Math.min(Math.round(hu[v]), 32767);
  return nifti;
}

function visitMarked({ label, low, shape, mask }, visit) {
  for (let i = 0, v = 0; i < shape[0]; i++)
    for (let r = 0; r < shape[1]; r++)
      for (let c = 0; c < shape[2]; c++, v++) if (mask[v]) visit([low[2] + c, low[1] + r, low[0] + i], label);
}

// What page.js and viewer.js read, and the numbers of each finding.
function facts({ found, ct, threshold, version }) {
  const { geometry, shape } = found.canonical;
  const turn = [-1, -1, 1]; // LPS to RAS
  const step = ct.geometry.direction.map((row) => row[2] / ct.geometry.spacing[2]);
  return {
    volume: {
      shape,
      spacing: geometry.spacing,
      affine: geometry.direction.map((row, k) => [
        ...row.map((d, a) => d * geometry.spacing[a] * turn[k]),
        geometry.origin[k] * turn[k],
      ]),
      masks: null,
    },
    slices: {
      step,
      offset: step.reduce((sum, s, k) => sum + s * ct.geometry.origin[k], 0),
      numbers: Array.from({ length: ct.shape[0] }, (_, k) => k + 1),
    },
    scan: ct.name,
    version,
    threshold,
    findings: found.findings.map((one) => ({
      id: one.id,
      label: one.label,
      lps: one.centerXyz,
      gap: one.diameterMm / 2 + CROSSHAIR_GAP_MM,
      noduleProbability: one.noduleProbability,
      segmentationProbability: one.probability,
      classifierProbability: one.classifierProbability,
      malignancyProbability: one.malignancyProbability,
      diameterMm: one.diameterMm,
      volumeMm3: one.volumeMm3,
    })),
    warnings: found.warnings,
    timings: found.timings,
  };
}

function heading({ found, ct }) {
  const n = found.findings.length;
  const text = found.isSearched ? `${n || "No"} finding${n === 1 ? "" : "s"}` : "Not searched";
  const seconds = Object.values(found.timings).reduce((a, b) => a + b, 0);
  const [x, y, z] = ct.geometry.spacing.map((mm) => Number(mm.toFixed(2)));
  const lines = [
    ct.name,
    `${ct.shape[0]} slices of ${ct.shape[1]} × ${ct.shape[2]}`,
    `${x} × ${y} × ${z} mm`,
    `${seconds.toFixed(0)} s in this browser`,
  ];
  const list = element(
    "ul",
    { className: "facts" },
    ...lines.map((textContent) => element("li", { textContent })),
  );
  return element("header", {}, element("h1", { textContent: text }), list);
}

function warnings(texts) {
  if (!texts.length) return "";
  const list = element("ul", {}, ...texts.map((textContent) => element("li", { textContent })));
  return element("section", { className: "warnings" }, element("h2", { textContent: "Please note" }), list);
}

function table(told) {
  const { findings, rejected, isSearched } = told.found;
  const others = `${rejected} other candidate${rejected === 1 ? "" : "s"}`;
  const rest = `${others} below a probability of ${percent(told.threshold)}, or outside the lungs.`;
  const note = (textContent) => element("p", { className: "note", textContent });
  if (!isSearched) return note("This page says nothing of nodules in this scan.");
  if (!findings.length) return element("section", {}, note(`Nothing is probable enough. ${rest}`));
  const head = element(
    "tr",
    {},
    ...HEADER.map((textContent) => element("th", { textContent, scope: "col" })),
  );
  const rows = findings.map((finding, place) => row(finding, place, told));
  const whole = element(
    "table",
    { className: "findings" },
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
  return element(
    "section",
    {},
    element("h2", { textContent: "Findings" }),
    note("The most probable first. Select one to see it in the viewer."),
    whole,
    note(rest),
  );
}

function row(finding, place, { ct, found }) {
  const slice =
    Math.min(Math.max(Math.round(toIrc(ct.geometry, finding.centerXyz)[0]), 0), ct.shape[0] - 1) + 1;
  const cells = [
    [
      finding.id,
      `slice ${slice}`,
      `LPS ${finding.centerXyz.map((mm) => mm.toFixed(0).replace("-", "−")).join(", ")}`,
    ],
    [`${finding.diameterMm.toFixed(1)} mm`, `${finding.volumeMm3.toFixed(0)} mm³`],
    [percent(finding.noduleProbability), meter(finding.noduleProbability)],
    [percent(finding.malignancyProbability), meter(finding.malignancyProbability)],
  ];
  const shown = cells.map(([main, ...lines], k) => {
    const cell = element(
      "td",
      {},
      element("b", { textContent: main }),
      ...lines.map((line) => (line instanceof Element ? line : element("small", { textContent: line }))),
    );
    cell.dataset.label = HEADER[k + 1];
    return cell;
  });
  const whole = element(
    "tr",
    { tabIndex: 0 },
    element("td", { className: "thumbnail" }, thumbnail(finding, found.canonical)),
    ...shown,
  );
  whole.dataset.finding = place;
  return whole;
}

function meter(share) {
  const svg = drawn("svg", {
    class: "meter",
    viewBox: "0 0 100 6",
    preserveAspectRatio: "none",
    "aria-hidden": true,
  });
  svg.append(drawn("rect", { class: "all", width: 100, height: 6 }));
  svg.append(drawn("rect", { class: "share", width: 100 * share, height: 6 }));
  return svg;
}

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// The axial slice round a finding in the lung window.
function thumbnail({ centerXyz }, { hu, shape, geometry }) {
  const canvas = element("canvas", { width: THUMBNAIL_PIXELS, height: THUMBNAIL_PIXELS });
  const pen = canvas.getContext("2d");
  const picture = pen.createImageData(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS);
  const [index, row, column] = toIrc(geometry, centerXyz);
  const slice = Math.min(Math.max(Math.round(index), 0), shape[0] - 1);
  const [black, white] = [-1350, 150];
  const at = (middle, pixel, mm) =>
    Math.round(middle + ((pixel + 0.5) / THUMBNAIL_PIXELS - 0.5) * (THUMBNAIL_MM / mm));
  for (let y = 0; y < THUMBNAIL_PIXELS; y++)
    for (let x = 0; x < THUMBNAIL_PIXELS; x++) {
      const [r, c] = [at(row, y, geometry.spacing[1]), at(column, x, geometry.spacing[0])];
      const isInside = r >= 0 && c >= 0 && r < shape[1] && c < shape[2];
      const grey = isInside
        ? (255 * (hu[(slice * shape[1] + r) * shape[2] + c] - black)) / (white - black)
        : 0;
      picture.data.set([grey, grey, grey, 255], 4 * (y * THUMBNAIL_PIXELS + x)); // clamped
    }
  pen.putImageData(picture, 0, 0);
  return canvas;
}

function actions(told) {
  const again = element("button", { type: "button", className: "again", textContent: "Another scan" });
  again.addEventListener("click", () => location.reload());
  const save = element("button", {
    type: "button",
    className: "again",
    id: "save",
    textContent: "Save findings (JSON)",
  });
  save.addEventListener("click", () => {
    const { volume: _, slices: __, ...saved } = facts(told);
    const href = URL.createObjectURL(
      new Blob([JSON.stringify(saved, null, 1)], { type: "application/json" }),
    );
    element("a", { href, download: `${told.ct.name}.findings.json` }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  });
  return element("p", { className: "actions" }, again, ...(told.found.isSearched ? [save] : []));
}

function json(id, content) {
  return element("script", { type: "application/json", id, textContent: JSON.stringify(content) });
}

function loaded(src) {
  return new Promise((done, fail) => {
    const script = element("script", {
      src,
      onload: done,
      onerror: () => fail(new Error(`${src}: not there`)),
    });
    document.head.append(script);
  });
}

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
